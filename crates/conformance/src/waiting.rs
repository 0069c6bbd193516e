//! Contract 4, continued: waiting, which is a hint. A minute here is the guard of a hung test, not a measure.

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, LogId, Version};

use crate::commits::*;
use crate::fixture::{Fixture, readers};

const HOUR: Duration = Duration::from_secs(3_600);

async fn woken(backend: &dyn Backend, seen: &[(LogId, Version)], timeout: Duration) {
    let waiting = tokio::time::timeout(Duration::from_secs(60), backend.wait(seen, timeout));
    waiting.await.expect("the waiter sleeps on").unwrap();
}

/// Contract 4.
pub async fn a_waiter_is_woken_by_a_later_commit(fixture: &dyn Fixture) {
    let log = log("s-1");
    for (round, handle) in (1..).zip(readers(fixture).await) {
        let waiting = {
            let (handle, log) = (Arc::clone(&handle), log.clone());
            tokio::spawn(async move { woken(&*handle, &[(log, Version(round - 1))], HOUR).await })
        };
        // Whether it waits already is left to chance: it must be woken in both orders.
        for _ in 0..round * 10 {
            tokio::task::yield_now().await;
        }

        append(&*fixture.backend(), &log, round..=round).await;

        waiting.await.unwrap();
        assert_eq!(page(&*handle, &log, round).await.commits.len(), 1);
    }
}

/// Contract 4. No wake-up is lost between the look and the sleep.
pub async fn a_waiter_never_sleeps_through_a_commit(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let following = {
        let (backend, log) = (Arc::clone(&backend), log.clone());
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < 100 {
                woken(&*backend, &[(log.clone(), Version(seen))], HOUR).await;
                seen += page(&*backend, &log, seen + 1).await.commits.len() as u64;
            }
        })
    };

    for version in 1..=100 {
        append(&*backend, &log, version..=version).await;
        tokio::task::yield_now().await;
    }

    following.await.unwrap();
}

/// Contract 4.
pub async fn a_waiter_that_is_behind_does_not_wait(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (ahead, still, absent) = (log("ahead"), log("still"), log("absent"));
    append(&*backend, &ahead, 1..=3).await;
    append(&*backend, &still, 1..=1).await;

    for timeout in [HOUR, Duration::MAX] {
        woken(&*backend, &[(ahead.clone(), Version(2))], timeout).await;
        let several =
            [(still.clone(), Version(1)), (absent.clone(), Version(0)), (ahead.clone(), Version(0))];
        woken(&*backend, &several, timeout).await;
    }
}

/// Contract 4.
pub async fn a_waiter_gives_up_when_the_time_is_up(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log_of_one = log("s-1");
    append(&*backend, &log_of_one, 1..=1).await;

    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        woken(&*backend, &[(log_of_one.clone(), Version(1))], timeout).await;
        woken(&*backend, &[(log("absent"), Version(0))], timeout).await;
        woken(&*backend, &[], timeout).await;
    }
}

/// Contract 4. What is closed is not what is there: else whoever follows such a log would be woken again and again.
pub async fn a_closed_log_without_commits_wakes_nobody(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    backend.close(&log, Version(4)).await.unwrap();

    for handle in readers(fixture).await {
        let seen = [(log.clone(), Version(0)), (log.clone(), Version(4))];
        let waiting = handle.wait(&seen, HOUR);
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), "it was woken");
    }
}

/// Whoever waits when the store is shut down is told, and not left to its time-out.
pub async fn a_waiter_is_woken_when_the_store_is_shut_down(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let waiting = {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { backend.wait(&[(log("s-1"), Version(0))], HOUR).await })
    };
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }

    backend.shut_down().await.unwrap();

    // In time it is refused, or woken without a word: a hint has no more to say.
    let woken = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the waiter sleeps on");
    drop(woken.unwrap());
}
