//! A caller who is alone writes in its own thread, unless that would keep others waiting.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::chance::Chance;
use super::disk::ModelDisk;
use super::machine::{Machine, Operation};
use super::session::{Session, block_on, block_on_many, idle_marks, log, settings};
use super::story::Story;

/// A session, and for each sync that comes whether the writer's thread did it, after such a pause.
fn begin(pause: Duration) -> (Session, Arc<Mutex<Vec<bool>>>) {
    let disk = ModelDisk::new(Machine::default(), Chance::new(1));
    let session = Session::begin(disk.clone(), settings(1), Story::default(), Chance::new(2)).unwrap();
    let by_writer: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = Arc::clone(&by_writer);
    disk.fail(move |attempt| {
        if matches!(attempt.operation, Operation::Sync { .. }) {
            seen.lock().unwrap().push(std::thread::current().name() == Some("icecore-file"));
            std::thread::sleep(pause);
        }
        None
    });
    (session, by_writer)
}

async fn create(session: &mut Session) {
    session.create_in([log(0)].into()).await.unwrap();
}

/// How quick the disk is shows in the first group, which the writer's thread makes. Nobody but that thread covers the last one.
#[test]
fn a_lone_caller_writes_itself_and_its_last_group_is_covered() {
    block_on_many(async {
        let (mut session, by_writer) = begin(Duration::ZERO);
        create(&mut session).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        by_writer.lock().unwrap().clear();
        let before = idle_marks(&session.disk.trace());

        create(&mut session).await;

        assert!(by_writer.lock().unwrap().iter().any(|by_writer| !by_writer));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(idle_marks(&session.disk.trace()), before + 1);
        session.story.check(&session.store).await;
    });
}

#[test]
fn a_caller_does_not_wait_for_a_slow_disk_in_its_own_thread() {
    block_on_many(async {
        let (mut session, by_writer) = begin(Duration::from_millis(3));
        for _ in 0..5 {
            create(&mut session).await;
        }

        assert!(by_writer.lock().unwrap().iter().all(|by_writer| *by_writer));
    });
}

/// Where there is only one thread, nothing else would go on meanwhile.
#[test]
fn the_only_thread_of_a_runtime_does_not_wait_for_the_disk() {
    block_on(async {
        let (mut session, by_writer) = begin(Duration::ZERO);
        for _ in 0..5 {
            create(&mut session).await;
        }

        assert!(by_writer.lock().unwrap().iter().all(|by_writer| *by_writer));
    });
}
