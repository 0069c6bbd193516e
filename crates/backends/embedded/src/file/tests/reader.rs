//! A reader in another process: it looks between any two of the writer's operations.

use icecore_log::backend::Depth;
use icecore_log::{Backend, ErrorKind, LogId, Version};

use super::chance::{Chance, Told, seeds};
use super::disk::ModelDisk;
use super::machine::Machine;
use super::session::{Session, block_on, log, open, record, settings};
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
    for seed in seeds(12) {
        block_on(async {
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
                if chance.one_in(4) {
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
