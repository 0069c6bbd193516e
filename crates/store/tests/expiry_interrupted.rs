//! Maintenance of what expires, and the setting of it, by processes that are killed anywhere, or slow, or not alone: another goes on, once, and nothing
//! is forgotten.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/expiring.rs"]
mod expiring;
#[path = "support/hooked.rs"]
mod hooked;
#[path = "support/mortal.rs"]
mod mortal;
#[path = "support/paused.rs"]
mod paused;
mod support;

use std::sync::Arc;
use std::time::Duration;

use expiring::*;
use hooked::{Hooked, shared};
use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, LogId, Result, Timestamp};
use icecore_store::append::Receipt;
use icecore_store::state::{Changes, Expiry};
use icecore_store::{Range, Store};
use mortal::Mortal;
use support::ManualClock;

/// A note that was taken away before what it is of was there is made again.
#[tokio::test]
async fn what_is_set_to_expire_slowly_is_removed_all_the_same() {
    for is_log in [false, true] {
        for calls in 0.. {
            let backend: Arc<dyn Backend> = Arc::new(Memory::default());
            let clock = Arc::new(ManualClock::default());
            clock.set(BEGAN);
            let when = format!("stopped before call {calls}, {is_log}");
            let slow = {
                let clock = Arc::clone(&clock);
                move |backend: Arc<dyn Backend>| {
                    let log = Store::builder(backend).clock(clock).build().log(id());
                    Box::pin(async move {
                        if is_log {
                            log.expire_log(slides()).await.map(Some)
                        } else {
                            log.commit(Changes::new().put("k", json("1")).expire("k", slides())).await
                        }
                    })
                        as std::pin::Pin<Box<dyn Future<Output = Result<Option<Receipt>>> + Send>>
                }
            };
            let quick = async {
                // Meanwhile two passes take all that is due to be looked at.
                for minutes in [40, 80] {
                    clock.set(BEGAN + minutes * MINUTE);
                    maintained(&backend, BEGAN + minutes * MINUTE).await;
                }
            };
            let (done, (), is_over) = interleaved(&backend, calls, slow, quick, &when).await;
            done.unwrap().unwrap();
            for minutes in [120, 160, 240] {
                maintained(&backend, BEGAN + minutes * MINUTE).await;
            }
            let log = process(&backend, BEGAN + 240 * MINUTE).log(id());
            if is_log {
                assert!(log.head().await.unwrap().unwrap().sealed, "{when}: it was forgotten");
            } else {
                assert_eq!(history(&log, "k").await[0], "delete", "{when}: it was forgotten");
            }
            assert_eq!(notes(&backend).await, Vec::<String>::new(), "{when}");
            if is_over {
                assert!(calls > 2, "{calls}");
                break;
            }
        }
    }
}

/// Two documents that are due, one that is not, and a log that is.
async fn much_is_due() -> Arc<Memory> {
    let memory = Arc::new(Memory::default());
    let backend = Arc::clone(&memory) as Arc<dyn Backend>;
    put_documents(&backend, slides()).await;
    let store = process(&backend, BEGAN);
    let log = store.log(id());
    let at = Expiry::At(Timestamp(DUE));
    log.commit(Changes::new().put("at", json("1")).expire("at", at)).await.unwrap();
    let later = Expiry::At(Timestamp(DUE + 300 * MINUTE));
    log.commit(Changes::new().put("later", json("1")).expire("later", later)).await.unwrap();
    let ends = store.log(ending());
    ends.put("k", json("1")).await.unwrap();
    ends.expire_log(slides()).await.unwrap();
    memory
}

fn ending() -> LogId {
    LogId::new("acme", "session", "ends").unwrap()
}

async fn assert_all_that_was_due_went(backend: &Arc<dyn Backend>, at: i64, when: &str) {
    let store = process(backend, at);
    let log = store.log(id());
    assert_eq!(keys(&log).await, ["later", "stays"], "{when}");
    for key in ["k", "at"] {
        let changes = history(&log, key).await;
        assert_eq!(changes.iter().filter(|change| **change == "delete").count(), 1, "{when}: {changes:?}");
    }
    let ended = store.log(ending());
    assert!(ended.head().await.unwrap().unwrap().sealed, "{when}");
    let mut reader = ended.read(Range::default());
    assert_eq!(reader.next_page().await.unwrap().len(), 1, "{when}: more than the seal is left");
    let left: Vec<_> = notes(backend).await.into_iter().filter(|note| !note.ends_with("/s-1")).collect();
    assert_eq!((left, notes(backend).await.len()), (Vec::new(), 1), "{when}: of what is due later");
    let retention = store.log(LogId::new("_", "icecore", "retention").unwrap());
    assert!(keys(&retention).await.iter().all(|key| !key.starts_with("trim/")), "{when}");
}

#[tokio::test]
async fn two_that_maintain_at_once_remove_once_and_do_no_harm() {
    for calls in 0.. {
        let backend: Arc<dyn Backend> = much_is_due().await;
        let when = format!("one is stopped before call {calls}");
        // By then the lease of the one is over.
        let quick = maintain(Arc::clone(&backend), MAINTAINED + 2 * MINUTE);
        let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
        let (slowly, quickly, is_over) = interleaved(&backend, calls, slow, quick, &when).await;
        let mut counted = (0, 0);
        for done in [slowly, quickly].into_iter().flat_map(Result::unwrap) {
            assert!(done.first_error.is_none(), "{when}: {done:?}");
            counted = (counted.0 + done.expired_documents, counted.1 + done.expired_logs);
        }
        assert_eq!(counted.0, 2, "{when}");
        assert!((1..=2).contains(&counted.1), "{when}: each that ended it may say so: {counted:?}");
        assert_all_that_was_due_went(&backend, MAINTAINED + 2 * MINUTE, &when).await;
        if is_over {
            assert!(calls > 20, "{calls}");
            break;
        }
    }
}

#[tokio::test]
async fn a_log_that_is_deleted_beside_maintenance_is_no_failure_of_it() {
    for (is_deleted_slowly, deleted) in [(false, id()), (false, ending()), (true, id()), (true, ending())] {
        for calls in 0.. {
            let backend: Arc<dyn Backend> = much_is_due().await;
            let when = format!("{deleted}, stopped before call {calls}, {is_deleted_slowly}");
            let delete = async |backend| process(&backend, MAINTAINED).delete_log(&deleted).await;
            let slow_delete = |backend: Arc<dyn Backend>| {
                let deleted = deleted.clone();
                Box::pin(async move { process(&backend, MAINTAINED).delete_log(&deleted).await }) as _
            };
            let (deleted, maintained, is_over) = if is_deleted_slowly {
                let quick = maintain(Arc::clone(&backend), MAINTAINED);
                interleaved(&backend, calls, slow_delete, quick, &when).await
            } else {
                let quick = delete(Arc::clone(&backend));
                let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
                let (maintained, deleted, over) = interleaved(&backend, calls, slow, quick, &when).await;
                (deleted, maintained, over)
            };
            deleted.unwrap();
            let maintained = maintained.unwrap().unwrap();
            assert!(maintained.first_error.is_none(), "{when}: {maintained:?}");
            let left = notes(&backend).await;
            assert!(left.iter().all(|note| note.ends_with("/s-1")), "{when}: {left:?}");
            if is_over {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_looked_at_again_and_keeps_no_other_waiting() {
    let memory = much_is_due().await;
    let backend = Arc::clone(&memory) as Arc<dyn Backend>;
    let (_, damaged) = shared(Hooked { memory, damaged: Some("/ends"), ..Hooked::default() });

    let done = maintain(damaged, MAINTAINED).await.unwrap().unwrap();

    assert_eq!((done.failed, done.expired_documents, done.expired_logs), (1, 2, 0));
    let error = done.first_error.unwrap();
    assert_eq!((error.kind(), error.fact("log")), (ErrorKind::Corrupt, Some("acme/session/ends")));
    // Not at once, so that what is damaged does not take up every pass.
    assert_eq!(maintained(&backend, MAINTAINED + 2 * MINUTE).await.expired_logs, 0);
    assert_eq!(maintained(&backend, MAINTAINED + 90 * MINUTE).await.expired_logs, 1);
    assert_all_that_was_due_went(&backend, MAINTAINED + 90 * MINUTE, "it can be read again").await;
}

#[tokio::test]
async fn maintenance_that_is_killed_anywhere_is_gone_on_with_by_another() {
    for is_last_done in [false, true] {
        for changes in 0.. {
            let backend: Arc<dyn Backend> = much_is_due().await;
            let when = format!("killed at change {changes}, which was done: {is_last_done}");
            let mortal = Mortal::new(&backend, changes, is_last_done);
            let killed = maintain(Arc::clone(&mortal) as Arc<dyn Backend>, MAINTAINED);
            let killed = tokio::time::timeout(Duration::from_secs(60), killed).await.expect(&when);
            let reader = process(&backend, MAINTAINED);
            assert_eq!(keys(&reader.log(id())).await, ["later", "stays"], "{when}: what is due is seen");

            maintained(&backend, MAINTAINED + 2 * MINUTE).await;

            // What it failed at for an unavailable system is looked at again in an hour, if it could say so.
            maintained(&backend, MAINTAINED + 90 * MINUTE).await;
            assert_all_that_was_due_went(&backend, MAINTAINED + 90 * MINUTE, &when).await;
            if !mortal.is_dead() {
                assert!(killed.unwrap().unwrap().first_error.is_none() && changes > 5, "{when}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_is_killed_while_setting_an_expiry_leaves_nothing_that_stays() {
    for (is_log, is_last_done) in [(false, false), (false, true), (true, false), (true, true)] {
        for changes in 0.. {
            let backend: Arc<dyn Backend> = Arc::new(Memory::default());
            process(&backend, BEGAN).log(id()).put("before", json("1")).await.unwrap();
            let when = format!("killed at change {changes}, which was done: {is_last_done}, {is_log}");
            let mortal = Mortal::new(&backend, changes, is_last_done);
            let log = process(&(Arc::clone(&mortal) as Arc<dyn Backend>), BEGAN).log(id());
            let what = Changes::new().put("k", json("1"));
            let what = if is_log { what.expire_log(slides()) } else { what.expire("k", slides()) };
            let answer = tokio::time::timeout(Duration::from_secs(60), log.commit(what)).await.expect(&when);

            let log = process(&backend, BEGAN).log(id());
            let is_there = log.document("k").await.unwrap().is_some();
            assert!(is_there || answer.is_err(), "{when}: what was acknowledged is lost");
            assert_eq!(process(&backend, DUE - 1).log(id()).document("k").await.unwrap().is_some(), is_there);
            assert_eq!(process(&backend, DUE).log(id()).document("k").await.unwrap(), None, "{when}");
            maintained(&backend, MAINTAINED).await;
            maintained(&backend, MAINTAINED + 90 * MINUTE).await;
            let log = process(&backend, MAINTAINED + 90 * MINUTE).log(id());
            let is_gone = if is_log {
                log.head().await.unwrap().unwrap().sealed
            } else {
                history(&log, "k").await.first() == Some(&"delete")
            };
            assert_eq!(is_gone, is_there, "{when}");
            assert!(is_log && is_there || keys(&log).await == ["before"], "{when}: what was there is lost");
            assert_eq!(notes(&backend).await, Vec::<String>::new(), "{when}");
            if !mortal.is_dead() {
                assert!(answer.is_ok() && changes >= 2, "{when}");
                break;
            }
        }
    }
}
