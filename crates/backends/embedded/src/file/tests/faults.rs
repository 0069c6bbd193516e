//! The disk fails, or is full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icecore_log::{Backend, BlobId, ErrorKind, Hash, Mode, Result, Run, StoredCommit, Version};

use super::chance::{Chance, Told, seeds};
use super::disk::{Attempt, ModelDisk};
use super::machine::{Machine, Operation};
use super::session::{Session, block_on, block_on_either, idle_marks, kind, log, settings};
use super::story::Story;

fn begin(seed: u64) -> Session {
    begin_on(&ModelDisk::new(Machine::default(), Chance::of(seed, &[1])), seed).unwrap()
}

fn begin_on(disk: &ModelDisk, seed: u64) -> Result<Session> {
    let mut session = Session::begin(disk.clone(), settings(seed), Story::default(), Chance::of(seed, &[2]))?;
    session.patience = 8;
    Ok(session)
}

/// Fails once: the next operation of a kind.
fn fail_next(disk: &ModelDisk, is_meant: impl Fn(&Operation) -> bool + Send + Sync + 'static) {
    let is_over = AtomicBool::new(false);
    disk.fail(move |attempt| {
        let fails = is_meant(attempt.operation) && !is_over.swap(true, Ordering::SeqCst);
        fails.then_some(io::ErrorKind::Other)
    });
}

fn is_sync(operation: &Operation) -> bool {
    matches!(operation, Operation::Sync { .. })
}

/// After some cuts, each with another survivor, all is there.
async fn survives_cuts(session: &Session, chance: &mut Chance, count: usize) {
    let machine = session.disk.machine();
    for _ in 0..count {
        let disk = ModelDisk::new(machine.cut(chance), chance.clone());
        let story = session.story.clone();
        let mut again = Session::begin(disk, session.settings.clone(), story, chance.clone()).unwrap();
        again.story.check_after_a_cut(&again.store).await;
        again.go_on(1).await.unwrap();
    }
}

/// Linux tells of a failed sync once: it then shows what it could not write as if it had been written, and may let go of it at any time.
/// What the next opening answers for must not rest on that.
#[test]
fn a_group_whose_sync_failed_is_unknown_and_is_safe_once_opening_has_shown_it() {
    for seed in seeds(20) {
        block_on_either(seed, async {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let mut session = begin(seed);
            session.go_on(3).await.unwrap();
            fail_next(&session.disk, |operation| {
                is_sync(operation) || matches!(operation, Operation::SyncDir { .. })
            });

            let in_it = session.create_in([log(0)].into()).await;
            if kind(&in_it) == Some(ErrorKind::Unavailable) {
                // It was the sync of a segment that has no name yet: nothing was written, and nothing is doubtful.
                session.create_in([log(0)].into()).await.unwrap();
                return;
            }
            let later = session.create_in([log(1)].into()).await;
            let close = session.store.close(&log(2), Version(1)).await;
            let dropping = session.store.drop_bodies(&log(2), &[Version(1)]).await;

            assert_eq!(kind(&in_it), Some(ErrorKind::Unknown));
            assert_eq!(kind(&later), Some(ErrorKind::Unavailable));
            assert_eq!(kind(&close), Some(ErrorKind::Unavailable));
            assert_eq!(kind(&dropping), Some(ErrorKind::Unavailable));

            let sent = session.story.logs[&log(0)].clone();
            session.open_again().unwrap();
            if seed % 2 == 0 {
                session.disk.evict();
            }
            let run = sent.run(&log(0), sent.won as u64 + 1, sent.sent.len() as u64);
            let decided = session.store.create(vec![run], Mode::Each).await;
            assert!(decided[0].is_done(), "the same bytes are decided: {decided:?}");
            session.story.logs.get_mut(&log(0)).unwrap().won = sent.sent.len();
            session.story.check(&session.store).await;
            session.disk.evict();
            session.story.check(&session.store).await;
            session.go_on(2).await.unwrap();

            survives_cuts(&session, &mut Chance::of(seed, &[3]), 4).await;
        });
    }
}

/// Works on in spite of errors, as a caller would: it opens the store again only if that is asked for.
async fn work_on(session: &mut Session, steps: usize) {
    for _ in 0..steps {
        let Err(error) = session.step().await else {
            continue;
        };
        let doing = error.to_string();
        assert!(matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Unavailable), "{doing}");
        let next = if session.is_open { session.create_in([log(3)].into()).await } else { Err(error) };
        if let Err(error) = next {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{doing}, then {error}");
            session.open_again().unwrap();
            session.story.check(&session.store).await;
        }
    }
}

/// Every write, sync, and change of a name in turn, in the middle of work and of opening.
#[test]
fn an_operation_that_fails_loses_nothing_that_was_acknowledged() {
    for seed in seeds(2) {
        block_on_either(seed, async {
            let mut sound = begin(seed);
            work_on(&mut sound, 25).await;
            for failing in 0..sound.disk.attempts() {
                let mut chance = Chance::of(seed, &[3, failing]);
                let _told = Told(format!("ICECORE_SEED={seed}, failing={failing}"));
                let disk = ModelDisk::new(Machine::default(), Chance::of(seed, &[1, failing]));
                disk.fail(move |attempt| (attempt.number == failing).then_some(io::ErrorKind::Other));

                let mut session = begin_on(&disk, seed).or_else(|_| begin_on(&disk, seed)).unwrap();
                work_on(&mut session, 25).await;

                survives_cuts(&session, &mut chance, 3).await;
                if chance.one_in(2) {
                    session.disk.evict();
                }
                session.open_again().unwrap();
                session.story.check(&session.store).await;
                session.go_on(1).await.unwrap();
                survives_cuts(&session, &mut chance, 2).await;
            }
        });
    }
}

fn full(from: usize) -> impl Fn(&Attempt<'_>) -> Option<io::ErrorKind> + Send + Sync + 'static {
    move |attempt| (attempt.allocates && attempt.number >= from).then_some(io::ErrorKind::StorageFull)
}

/// A full disk is found before anything is written, so nothing is unknown and nothing is broken: when there is space again, the
/// same store goes on.
#[test]
fn a_full_disk_is_told_before_anything_is_written_and_work_goes_on_when_there_is_space() {
    for seed in seeds(2) {
        block_on_either(seed, async {
            let mut sound = begin(seed);
            let opened = sound.disk.attempts();
            work_without_reopening(&mut sound, 25).await;
            for from in opened..sound.disk.attempts() {
                let _told = Told(format!("ICECORE_SEED={seed}, full from {from}"));
                let mut chance = Chance::of(seed, &[4, from]);
                let mut session = begin(seed);
                session.disk.fail(full(from));

                let errors = work_without_reopening(&mut session, 25).await;
                assert!(errors.iter().all(|kind| *kind == ErrorKind::Unavailable), "{errors:?}");
                session.story.check(&session.store).await;
                let left = session.disk.machine().list("blobs");
                assert!(left.iter().all(|name| !name.starts_with("tmp-")), "{left:?} take space");
                survives_cuts(&session, &mut chance, 2).await;

                session.disk.repair();
                let errors = work_without_reopening(&mut session, 5).await;
                assert_eq!(errors, []);
                session.story.check(&session.store).await;
                survives_cuts(&session, &mut chance, 2).await;
            }
        });
    }
}

async fn work_without_reopening(session: &mut Session, steps: usize) -> Vec<ErrorKind> {
    let mut errors = Vec::new();
    for _ in 0..steps {
        errors.extend(kind(&session.step_of(30).await));
    }
    errors
}

/// On a file system that copies on write, every write needs space, and its loss is seen when it may be too late to say that
/// nothing was written: then the store is opened again.
#[test]
fn a_disk_that_is_full_for_every_write_loses_nothing() {
    for seed in seeds(1) {
        block_on_either(seed, async {
            let mut sound = begin(seed);
            work_without_reopening(&mut sound, 25).await;
            for from in 0..sound.disk.attempts() {
                let _told = Told(format!("ICECORE_SEED={seed}, full from {from}"));
                let mut chance = Chance::of(seed, &[5, from]);
                let disk = ModelDisk::new(Machine::default(), Chance::of(seed, &[1, from]));
                disk.fail(move |attempt| {
                    let fails = attempt.allocates || matches!(attempt.operation, Operation::Write { .. });
                    (fails && attempt.number >= from).then_some(io::ErrorKind::StorageFull)
                });
                let mut session = match begin_on(&disk, seed) {
                    Ok(session) => session,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable);
                        disk.repair();
                        begin_on(&disk, seed).unwrap()
                    }
                };

                let errors = work_without_reopening(&mut session, 25).await;
                let is_right = |kind: &ErrorKind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Unknown);
                assert!(errors.iter().all(is_right), "{errors:?}");
                if chance.one_in(2) {
                    let opened = kind(&session.open_again());
                    assert!(opened.is_none_or(|kind| kind == ErrorKind::Unavailable), "{opened:?}");
                }
                survives_cuts(&session, &mut chance, 2).await;

                session.disk.repair();
                session.open_again().unwrap();
                session.story.check(&session.store).await;
                session.go_on(2).await.unwrap();
                survives_cuts(&session, &mut chance, 2).await;
            }
        });
    }
}

/// When a segment is full its unused end is given back. That this fails is no reason to refuse a commit, nor to lose one: the next
/// segment is there already, and what is written must go there.
#[test]
fn a_segment_whose_unused_end_cannot_be_cut_is_passed_over() {
    for seed in seeds(3) {
        block_on_either(seed, async {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let mut session = begin(seed);
            session.disk.fail(|attempt| {
                let cuts = matches!(attempt.operation, Operation::Resize { .. }) && !attempt.allocates;
                cuts.then_some(io::ErrorKind::Other)
            });

            for _ in 0..30 {
                session.create().await.unwrap();
            }

            session.story.check(&session.store).await;
            survives_cuts(&session, &mut Chance::of(seed, &[3]), 4).await;
        });
    }
}

/// A delete that failed half way has taken the name, and only the name in memory. Its retry finds nothing to delete, and must still make
/// sure of it.
#[test]
fn a_blob_whose_delete_was_retried_stays_away() {
    for seed in seeds(20) {
        block_on_either(seed, async {
            let _told = Told(format!("ICECORE_SEED={seed}"));
            let session = begin(seed);
            let blob = BlobId::new(log(0), "b").unwrap();
            session.store.put_blob(&blob, Bytes::from_static(b"content")).await.unwrap();
            fail_next(&session.disk, |operation| matches!(operation, Operation::SyncDir { .. }));

            let first = session.store.delete_blob(&blob).await;
            let second = session.store.delete_blob(&blob).await;

            assert_eq!(kind(&first), Some(ErrorKind::Unknown), "the name is gone, and may come back");
            assert_eq!(kind(&second), None);
            let machine = session.disk.machine().cut(&mut Chance::of(seed, &[6]));
            let disk = ModelDisk::new(machine, Chance::new(seed));
            let after = Session::begin(disk, settings(seed), Story::default(), Chance::new(seed)).unwrap();
            assert_eq!(after.store.get_blob(&blob, None).await.unwrap(), None);
        });
    }
}

/// A sweep ends the group before it. If nothing came after it, that group was never marked, and a bit flipped in it looked like a
/// torn tail.
#[test]
fn a_group_that_a_sweep_ended_is_marked_too() {
    block_on(async {
        let mut session = begin(1);
        session.create_in([log(0)].into()).await.unwrap();
        let (is_open, is_held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (gate, held) = (Arc::clone(&is_open), Arc::clone(&is_held));
        session.disk.fail(move |attempt| {
            while is_sync(attempt.operation) && !gate.load(Ordering::SeqCst) {
                held.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            None
        });
        // The first mark is on its way: what comes now is taken together.
        for _ in 0..1_000 {
            if !is_held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(is_held.load(Ordering::SeqCst), "the writer marks its last group");
        let commit = StoredCommit { version: Version(1), header: Bytes::from_static(b"header"), body: None };
        let (name, run) = (log(0), Run::one(log(1), Hash::ZERO, commit));

        let (created, swept, ()) =
            tokio::join!(session.store.create(vec![run], Mode::Each), session.store.sweep(&name), async {
                is_open.store(true, Ordering::SeqCst)
            },);

        assert!(created[0].is_done() && swept.is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(idle_marks(&session.disk.trace()), 2);
    });
}
