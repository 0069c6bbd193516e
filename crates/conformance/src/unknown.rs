//! Contract 2, **unknown is an error of its own**: the same bytes decide what became of a create that nobody waited for.
//!
//! Whether a lost connection is reported as `Unknown` cannot be asked from outside: a backend shows it with its own faults.

use std::sync::Arc;

use icecore_log::{Backend, Mode};

use crate::commits::*;
use crate::fixture::{Fixture, readers};
use crate::told::{Ending, Told};

/// Begins a create and gives it up after so many turns of the scheduler, as a caller does whose time is up.
async fn give_up(backend: &Arc<dyn Backend>, run: icecore_log::Run, turns: usize) {
    let handle = Arc::clone(backend);
    let task = tokio::spawn(async move { handle.create(vec![run], Mode::Each).await });
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    task.abort();
    // Whether it was carried out is what the cases ask next.
    drop(task.await);
}

/// Contract 2.
pub async fn a_create_that_was_given_up_is_decided_by_its_own_bytes(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    for turns in 0..20 {
        let log = log(&format!("s-{turns}"));
        give_up(&backend, run(&log, 1..=3, 0), turns % 7).await;

        assert_eq!(decide(&*backend, vec![run(&log, 1..=3, 0)], Mode::Each).await, [Told::done(3)]);

        for handle in readers(fixture).await {
            assert_eq!(page(&*handle, &log, 1).await.commits.len(), 3);
        }
    }
}

/// Contract 2. Whether the first one landed or not, and however late: one of the two is in the slot, and stays.
pub async fn a_create_that_was_given_up_never_replaces_another(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    for turns in 0..20 {
        let log = log(&format!("s-{turns}"));
        give_up(&backend, one(&log, numbered(1, 1)), turns % 7).await;

        let second = decide(&*backend, vec![one(&log, numbered(1, 2))], Mode::Each).await[0];
        let first = decide(&*backend, vec![one(&log, numbered(1, 1))], Mode::Each).await[0];

        let taken = Told::stopped(Ending::Taken);
        let kept = if second.is_done() { numbered(1, 2) } else { numbered(1, 1) };
        assert!(
            [(Told::done(1), taken), (taken, Told::done(1))].contains(&(first, second)),
            "{first:?} {second:?}"
        );
        assert_eq!(page(&*backend, &log, 1).await.commits, [kept]);
    }
}

/// Contract 2. Who gives up a read or a wait takes nothing from the others.
pub async fn a_read_that_was_given_up_leaves_the_store_as_it_was(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=10).await;

    for turns in 0..10 {
        let (handle, read_log) = (Arc::clone(&backend), log.clone());
        let task = tokio::spawn(async move { page(&*handle, &read_log, 1).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        task.abort();
        drop(task.await);
    }

    assert_eq!(page(&*backend, &log, 1).await.commits.len(), 10);
    append(&*backend, &log, 11..=11).await;
}
