//! A reader in another process: it looks between any two of the writer's operations.

use icecore_log::backend::Depth;
use icecore_log::{Backend, ErrorKind, LogId, Version};

use super::chance::{Chance, Told, seeds};
use super::disk::ModelDisk;
use super::machine::Machine;
use super::session::{Session, block_on, block_on_either, log, open, record, settings};
use super::story::{Story, pages};
use crate::file::{Access, FileStore};

/// What a reader has been shown.
#[derive(Debug, Default, Clone)]
struct Shown {
    heads: Vec<(LogId, Version, Version)>,
}

async fn look(reader: &FileStore, story: &Story) -> Shown {
    let names: Vec<LogId> = (0..4).map(log).collect();
    let heads = reader.heads(&names).await.unwrap();
    let mut shown = Shown::default();
    for (name, head) in names.iter().zip(heads) {
        let Some(head) = head else {
            continue;
        };
        let mut next = head.boundary.0 + 1;
        for commit in pages(reader, name, head.boundary.0).await.iter().flat_map(|page| &page.commits) {
            // It may have been closed since the head was looked at, but then not read from there on.
            assert_eq!(commit.version.0, next, "{name} is dense");
            next += 1;
            let sent = &story.logs[name].sent[commit.version.0 as usize - 1];
            assert_eq!(commit.header, sent.header, "{name} {next}");
            assert!(commit.body.is_none() || commit.body == sent.body, "{name} {next}");
        }
        shown.heads.push((name.clone(), head.version.max(Version(next - 1)), head.boundary));
    }
    shown
}

/// A writer that dies somewhere, and one that goes on after it.
async fn record_two_lives(seed: u64) -> Session {
    let mut chance = Chance::of(seed, &[10]);
    let first = record(seed, 50).await;
    let trace = first.disk.trace();
    let died = trace.len() / 2 + chance.below(trace.len() / 2);
    let disk = ModelDisk::new(Machine::default(), Chance::of(seed, &[11]));
    disk.perform_all(&trace[..died]);
    let mut second = Session::begin(disk, settings(seed), first.story_at(died), chance).unwrap();
    second.story.check(&second.store).await;
    let opened = second.disk.position();
    second.history = first.history.into_iter().filter(|(from, _)| *from <= died).collect();
    second.history.push((opened, second.story.clone()));
    second.go_on(20).await.unwrap();
    second
}

/// What a reader has shown cannot be taken back, and a writer that works on under it is no damage.
#[test]
fn a_reader_beside_a_writer_sees_only_what_is_durable_and_no_damage() {
    for seed in seeds(24) {
        block_on_either(seed, async {
            let told = Told(format!("ICECORE_SEED={seed}, recording"));
            let recorded = record_two_lives(seed).await;
            drop(told);
            let mut chance = Chance::of(seed, &[7]);
            let disk = ModelDisk::shared(&recorded.disk.trace(), Chance::of(seed, &[8]));
            let total = disk.others_left();
            let mut reader = None;
            while disk.others_left() > 0 {
                let before = total - disk.others_left();
                let _told = Told(format!("ICECORE_SEED={seed}, the reader begins after {before} operations"));
                let opened = match reader.take() {
                    Some(reader) => reader,
                    None => match open(&disk, Access::ReadOnly, &settings(seed)) {
                        Ok(reader) => reader,
                        // There is no store yet.
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                            continue;
                        }
                    },
                };

                let shown = look(&opened, &recorded.story).await;
                if chance.one_in(2) {
                    let found = opened.examine(Depth::Deep).await.unwrap().damage;
                    assert!(found.is_empty(), "no damage was done, but found: {found:?}");
                }

                let after = total - disk.others_left();
                let story = recorded.story_at(after);
                let at_cut = ModelDisk::new(disk.machine().cut(&mut chance), chance.clone());
                let mut session = Session::begin(at_cut, settings(seed), story, chance.clone()).unwrap();
                session.story.check_after_a_cut(&session.store).await;
                for (name, version, boundary) in shown.heads {
                    let found = session.store.heads(std::slice::from_ref(&name)).await.unwrap().remove(0);
                    let found = found.map(|head| (head.version >= version, head.boundary >= boundary));
                    assert_eq!(found, Some((true, true)), "{name} was shown through {version}");
                }
                // Half of the time a new one, which reads everything.
                reader = chance.one_in(2).then_some(opened);
            }
            if let Some(reader) = reader {
                let mut last = recorded.story.clone();
                last.check(&reader).await;
            }
        });
    }
}

/// The same for a reader that comes after each operation in turn, with nothing going on beside it.
#[test]
fn a_reader_that_comes_at_any_moment_shows_only_what_a_cut_leaves() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let recorded = record(seed, 50).await;
            let mut machine = Machine::default();
            for (position, operation) in recorded.disk.trace().iter().enumerate() {
                machine.apply(operation).unwrap();
                let _told = Told(format!("ICECORE_SEED={seed}, position={position}"));
                let mut chance = Chance::of(seed, &[13, position]);
                let beside = ModelDisk::new(machine.clone(), chance.clone());
                let Ok(reader) = open(&beside, Access::ReadOnly, &settings(seed)) else {
                    continue;
                };

                let shown = look(&reader, &recorded.story).await;

                let at_cut = ModelDisk::new(machine.cut(&mut chance), chance.clone());
                // Nobody has repaired anything yet.
                if let Ok(first) = open(&at_cut, Access::ReadOnly, &settings(seed)) {
                    look(&first, &recorded.story).await;
                }
                let writer = open(&at_cut, Access::ReadWrite, &settings(seed)).unwrap();
                for (name, version, _) in shown.heads {
                    let found = writer.heads(std::slice::from_ref(&name)).await.unwrap().remove(0);
                    assert!(found.is_some_and(|head| head.version >= version), "{name} showed {version}");
                }
            }
        });
    }
}

/// What was the head when the reader looked at the mark may be closed and swept before it reads it.
#[test]
fn a_reader_whose_head_was_swept_in_the_meantime_looks_again() {
    block_on(async {
        let nowhere = ModelDisk::new(Machine::default(), Chance::new(1));
        let mut session = Session::begin(nowhere, settings(0), Story::default(), Chance::new(1)).unwrap();
        session.create_in([log(0)].into()).await.unwrap();
        let (first, head) = (session.disk.position(), session.story.logs[&log(0)].won as u64);
        session.create_in([log(0)].into()).await.unwrap();
        session.store.close(&log(0), Version(head)).await.unwrap();
        session.store.sweep(&log(0)).await.unwrap();
        let trace = session.disk.trace();
        for seed in seeds(300) {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let disk = ModelDisk::shared(&[], Chance::new(seed));
            disk.perform_all(&trace[..first]);
            let reader = open(&disk, Access::ReadOnly, &settings(0)).unwrap();
            disk.share(&trace[first..]);

            while disk.others_left() > 0 {
                assert!(reader.heads(&[log(0)]).await.unwrap()[0].is_some());
            }
        }
    });
}
