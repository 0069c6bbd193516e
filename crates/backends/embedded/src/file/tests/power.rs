//! The power goes at any moment.

use icecore_log::{Backend, Version};

use super::chance::{Chance, Told, seeds};
use super::disk::ModelDisk;
use super::machine::{Machine, Operation};
use super::session::{Session, block_on_either, log, record, settings};
use super::story::Story;

const STEPS: usize = 50;

/// The last operations before a cut, for people.
fn last(trace: &[Operation]) -> String {
    let shown: Vec<String> = trace.iter().rev().take(30).rev().map(ToString::to_string).collect();
    shown.join("\n  ")
}

/// Opens a store after a cut, and checks it; a dropped body is nowhere on the disk any more.
async fn recover(machine: Machine, seed: u64, story: Story, chance: &mut Chance) -> Session {
    let disk = ModelDisk::new(machine, Chance::new(chance.next()));
    let mut session = Session::begin(disk, settings(seed), story, Chance::new(chance.next())).unwrap();
    session.story.check_after_a_cut(&session.store).await;
    // Looking for bytes everywhere takes its time.
    if chance.one_in(16) {
        let machine = session.disk.machine();
        for body in session.story.destroyed() {
            assert_eq!(machine.files_with(&body[..16]), [""; 0], "a body was destroyed, and is there");
        }
    }
    session
}

/// What was acknowledged is there, what was not sent is not, each log is a prefix of what was sent, what was closed or dropped stays
/// so, and a cut is no damage; then the same again for what was done after the first cut.
#[test]
fn a_cut_after_any_operation_loses_nothing_that_was_acknowledged() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let told = Told(format!("ICECORE_SEED={seed}, recording"));
            let recorded = record(seed, STEPS).await;
            drop(told);
            let trace = recorded.disk.trace();
            let mut machine = Machine::default();
            for cut in 0..=trace.len() {
                if cut > 0 {
                    machine.apply(&trace[cut - 1]).unwrap();
                }
                for survival in 0..2 {
                    let at = format!("ICECORE_SEED={seed}, cut={cut}, survival={survival}");
                    let _told = Told(format!("{at} after\n  {}", last(&trace[..cut])));
                    let mut chance = Chance::of(seed, &[cut, survival]);
                    let cut_once = machine.cut(&mut chance);

                    let mut session = recover(cut_once, seed, recorded.story_at(cut), &mut chance).await;
                    session.go_on(2).await.unwrap();
                    let cut_twice = session.disk.machine().cut(&mut chance);

                    let _told = Told(format!("the second cut, after\n  {}", last(&session.disk.trace())));
                    recover(cut_twice, seed, session.story.clone(), &mut chance).await;
                }
            }
        });
    }
}

/// Zeros are written ahead of the groups, so that a sync finds blocks that were written before. They must go where the file has zeros
/// anyway: then no cut can tell, whichever of them survive.
#[test]
fn zeros_are_written_only_where_zeros_are() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let trace = record(seed, STEPS).await.disk.trace();
            let (mut machine, mut count) = (Machine::default(), 0);
            for operation in &trace {
                if let Operation::Write { file, offset, bytes } = operation
                    && !bytes.is_empty()
                    && bytes.iter().all(|byte| *byte == 0)
                {
                    let before = &machine.content(*file)[*offset as usize..][..bytes.len()];
                    assert!(before.iter().all(|byte| *byte == 0), "{operation}");
                    count += 1;
                }
                machine.apply(operation).unwrap();
            }
            assert!(count > 0, "none were written");
        });
    }
}

/// Opening writes too. It copies what it is not sure of, and a copy that is half done must not hide what it is a copy of.
#[test]
fn a_cut_during_recovery_loses_nothing_either() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let told = Told(format!("ICECORE_SEED={seed}, recording"));
            let recorded = record(seed, STEPS).await;
            drop(told);
            let trace = recorded.disk.trace();
            let mut machine = Machine::default();
            for (cut, operation) in trace.iter().enumerate() {
                machine.apply(operation).unwrap();
                let mut chance = Chance::of(seed, &[cut]);
                if !chance.one_in(6) {
                    continue;
                }
                let cut_once = machine.cut(&mut chance);
                let disk = ModelDisk::new(cut_once.clone(), Chance::new(chance.next()));
                let story = recorded.story_at(cut + 1);
                let opened = Session::begin(disk, settings(seed), Story::default(), chance.clone()).unwrap();
                // Before the store is dropped, which writes too.
                let recovery = opened.disk.trace();

                let mut machine = cut_once;
                for (step, operation) in recovery.iter().enumerate() {
                    machine.apply(operation).unwrap();
                    let at = format!("ICECORE_SEED={seed}, cut={cut}, again={step}");
                    let _told = Told(format!(
                        "{at} after\n  {}\nand\n  {}",
                        last(&trace[..=cut]),
                        last(&recovery[..=step])
                    ));
                    let mut chance = Chance::of(seed, &[cut, step]);
                    let cut_twice = machine.cut(&mut chance);

                    let mut session = recover(cut_twice, seed, story.clone(), &mut chance).await;

                    if chance.one_in(4) {
                        session.go_on(1).await.unwrap();
                        let cut_thrice = session.disk.machine().cut(&mut chance);
                        recover(cut_thrice, seed, session.story.clone(), &mut chance).await;
                    }
                }
            }
        });
    }
}

/// A process that dies leaves its machine as it was: what the next one is shown need not be durable, and it must be once that one has
/// shown it to anybody.
#[test]
fn what_opening_shows_after_a_process_died_survives_a_cut() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let told = Told(format!("ICECORE_SEED={seed}, recording"));
            let recorded = record(seed, STEPS).await;
            drop(told);
            let trace = recorded.disk.trace();
            let mut machine = Machine::default();
            for (position, operation) in trace.iter().enumerate() {
                machine.apply(operation).unwrap();
                let at = format!("ICECORE_SEED={seed}, died={position}");
                let _told = Told(format!("{at} after\n  {}", last(&trace[..=position])));
                let mut chance = Chance::of(seed, &[9, position]);
                let disk = ModelDisk::new(machine.clone(), Chance::new(chance.next()));
                let story = recorded.story_at(position + 1);

                let mut session = Session::begin(disk, settings(seed), story, chance.clone()).unwrap();
                session.story.check(&session.store).await;

                let machine = session.disk.machine();
                recover(machine.cut(&mut chance), seed, session.story.clone(), &mut chance).await;
                session.go_on(1).await.unwrap();
                let _told = Told(format!("and then\n  {}", last(&session.disk.trace())));
                let machine = session.disk.machine();
                recover(machine.cut(&mut chance), seed, session.story.clone(), &mut chance).await;
            }
        });
    }
}

/// Opening copies a group that it is not sure of, and then cuts it off the old segment. If it dies between the two, the next opening has
/// both, and a body that is dropped from then on must go from both.
#[test]
fn a_dropped_body_is_gone_from_the_group_that_was_copied_too() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let disk = ModelDisk::new(Machine::default(), Chance::new(seed));
            let mut session =
                Session::begin(disk, settings(seed), Story::default(), Chance::of(seed, &[12])).unwrap();
            session.create_in([log(0)].into()).await.unwrap();
            let has_body = |story: &Story| {
                story.logs[&log(0)].sent[0].body.as_ref().is_some_and(|body| body.len() >= 16)
            };
            while !has_body(&session.story) {
                let disk = ModelDisk::new(Machine::default(), Chance::new(seed));
                session =
                    Session::begin(disk, settings(seed), Story::default(), session.chance.clone()).unwrap();
                session.create_in([log(0)].into()).await.unwrap();
            }
            // The group is written, and nothing says yet that it is durable.
            let trace = session.disk.trace();
            let written =
                trace.iter().rposition(|operation| matches!(operation, Operation::Sync { .. })).unwrap();
            let died = ModelDisk::new(Machine::default(), Chance::new(seed));
            died.perform_all(&trace[..written]);
            let before = died.machine();
            drop(Session::begin(died.clone(), settings(seed), Story::default(), Chance::new(seed)).unwrap());
            let recovery = died.trace().split_off(written);
            let cut_off =
                recovery.iter().position(|operation| matches!(operation, Operation::Resize { .. })).unwrap();
            let mut machine = before;
            for operation in &recovery[..cut_off] {
                machine.apply(operation).unwrap();
            }

            let again = recover(machine, seed, session.story.clone(), &mut Chance::new(seed)).await;
            again.store.drop_bodies(&log(0), &[Version(1)]).await.unwrap();

            let dropped = again.story.logs[&log(0)].sent[0].body.clone().unwrap();
            assert_eq!(again.disk.machine().files_with(&dropped[..16]), [""; 0]);
        });
    }
}
