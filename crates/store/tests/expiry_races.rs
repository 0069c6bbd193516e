//! Renewals of documents, and uses of logs, beside maintenance by another process, whose clock is another, one of them stopped before each of its
//! calls in turn while the other does all of its own: what was renewed stays, and only what was due goes.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/expiring.rs"]
mod expiring;
#[path = "support/paused.rs"]
mod paused;
mod support;

use std::sync::Arc;

use expiring::*;
use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, Event, Result, Timestamp, Version};
use icecore_store::Range;
use icecore_store::append::Receipt;
use icecore_store::state::{At, Changes, Condition, Expiry, Merge};

/// What a writer does to a document that is about to expire.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Renewal {
    Touch,
    Put,
    Merge,
    /// Puts it off by an hour.
    PutOff,
    /// Takes its expiry back.
    TakeBack,
    /// A put on the condition that it is there.
    PutIfThere,
}

const RENEWALS: [Renewal; 6] =
    [Renewal::Touch, Renewal::Put, Renewal::Merge, Renewal::PutOff, Renewal::TakeBack, Renewal::PutIfThere];

impl Renewal {
    async fn run(self, backend: Arc<dyn Backend>, at: i64) -> Result<Option<Receipt>> {
        let log = process(&backend, at).log(id());
        match self {
            Self::Touch => log.touch("k").await,
            Self::Put => log.put("k", json("2")).await.map(Some),
            Self::Merge => log.merge("k", Merge::add(&1)?).await.map(Some),
            Self::PutOff => log.expire("k", Expiry::At(Timestamp(DUE + 60 * MINUTE))).await,
            Self::TakeBack => log.expire("k", None).await,
            Self::PutIfThere => {
                let exists = Condition::Exists("k".to_owned());
                log.commit(Changes::new().only_if(exists).put("k", json("2"))).await
            }
        }
    }

    /// When it is due that was renewed at this time, and was still there; `None` if never.
    fn due(self, first: Expiry, renewed: i64) -> Option<i64> {
        match self {
            Self::PutOff => Some(DUE + 60 * MINUTE),
            Self::TakeBack => None,
            _ => first.due(Timestamp(renewed)).map(|due| due.0),
        }
    }
}

/// Every commit that took a document away did so when it was due.
async fn assert_only_what_was_due_went(backend: &Arc<dyn Backend>, when: &str) {
    let log = process(backend, MAINTAINED).log(id());
    let mut reader = log.read(Range::default());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return;
        }
        for commit in page {
            let entries = commit.entries.iter().flatten();
            if entries.flat_map(|entry| &entry.events).all(|event| event.kind != "icecore.document.delete") {
                continue;
            }
            let before = log.state_at(At::Version(Version(commit.version.0 - 1))).await.unwrap();
            let due = before.get("k").map(|document| document.due());
            assert!(due.is_none_or(|due| due.is_some_and(|due| due <= commit.header.at)), "{when}: {due:?}");
        }
    }
}

async fn assert_renewed(
    backend: &Arc<dyn Backend>,
    first: Expiry,
    renewal: Renewal,
    written: i64,
    done: &Result<Option<Receipt>>,
    when: &str,
) {
    assert_only_what_was_due_went(backend, when).await;
    let there = async |at: i64| process(backend, at).log(id()).document("k").await.unwrap().is_some();
    let receipt = match done {
        Ok(receipt) => receipt.clone().unwrap(),
        // It is said that it was not there, and it is not.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{when}: {error}");
            assert_eq!(error.fact("failed"), Some("k exists"), "{when}: {error}");
            assert!(!there(MAINTAINED).await, "{when}: it was said to be gone");
            return;
        }
    };
    let at =
        process(backend, BEGAN).log(id()).state_at(At::Version(receipt.version)).await.unwrap().at.unwrap().0;
    // By the time of its commit it had expired: then it was begun anew, with no expiry.
    let is_anew = at >= DUE;
    assert!(!is_anew || matches!(renewal, Renewal::Put | Renewal::Merge), "{when}: it was gone at {at}");
    assert!(written < DUE || is_anew, "{when}");
    match renewal.due(first, at).filter(|_| !is_anew) {
        Some(due) => {
            // What is due all the same may have been removed.
            assert!(due < MAINTAINED || there(due - 1).await, "{when}: what was renewed is gone");
            assert!(!there(due).await, "{when}: it stays for ever");
        }
        None => assert!(there(i64::MAX / 2).await, "{when}: what stays is gone"),
    }
}

/// What a writer did beside maintenance, one of the two being stopped before its call after so many; and whether it had ended before that call.
async fn beside_maintenance<T, W>(
    backend: &Arc<dyn Backend>,
    is_writer_slow: bool,
    calls: i64,
    write: impl FnOnce(Arc<dyn Backend>) -> W,
    when: &str,
) -> (T, bool)
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let (done, maintained, is_over) = if is_writer_slow {
        let quick = maintain(Arc::clone(backend), MAINTAINED);
        interleaved(backend, calls, |b| Box::pin(write(b)), quick, when).await
    } else {
        let quick = write(Arc::clone(backend));
        let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
        let (maintained, done, is_over) = interleaved(backend, calls, slow, quick, when).await;
        (done, maintained, is_over)
    };
    let maintained = maintained.unwrap().unwrap();
    assert!(maintained.first_error.is_none(), "{when}: {maintained:?}");
    (done, is_over)
}

#[tokio::test]
async fn what_is_renewed_beside_maintenance_stays_and_only_what_is_due_goes() {
    let mut ran = 0;
    for first in [slides(), Expiry::At(Timestamp(DUE))] {
        for renewal in RENEWALS {
            for (written, is_writer_slow) in WRITTEN.iter().flat_map(|at| [(*at, false), (*at, true)]) {
                for calls in 0.. {
                    let backend = documents(first).await;
                    let when = format!(
                        "{renewal:?} of {first:?} at {} before it is due, {} is stopped before call {calls}",
                        DUE - written,
                        if is_writer_slow { "it" } else { "maintenance" },
                    );
                    let write = |backend| renewal.run(backend, written);
                    let (done, is_over) =
                        beside_maintenance(&backend, is_writer_slow, calls, write, &when).await;
                    assert_renewed(&backend, first, renewal, written, &done, &when).await;
                    assert_goes_in_the_end(&backend, &when).await;
                    ran += 1;
                    if is_over {
                        break;
                    }
                }
            }
        }
    }
    assert!(ran > 500, "{ran}");
}

/// What is to go at the end of the same ten minutes is set while maintenance looks at what was set before.
#[tokio::test]
async fn what_is_noted_again_beside_maintenance_is_not_forgotten() {
    for calls in 0.. {
        let backend = documents(slides()).await;
        let when = format!("maintenance is stopped before call {calls}");
        let quick = async {
            let log = process(&backend, MAINTAINED - 5 * MINUTE).log(id());
            let at = Expiry::At(Timestamp(DUE));
            log.commit(Changes::new().put("late", json("1")).expire("late", at)).await.unwrap();
        };
        let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
        let (maintained, (), is_over): (Maintenance, _, _) =
            interleaved(&backend, calls, slow, quick, &when).await;
        maintained.unwrap().unwrap();

        assert_goes_in_the_end(&backend, &when).await;
        let log = process(&backend, MAINTAINED).log(id());
        assert_eq!(history(&log, "late").await[0], "delete", "{when}: it was forgotten");
        if is_over {
            break;
        }
    }
}

/// How a log is used that is about to end.
#[derive(Debug, Clone, Copy)]
enum Use {
    Append,
    Put,
    PutIfAbsent,
    Touch,
    ExpireLater,
}

const USES: [Use; 5] = [Use::Append, Use::Put, Use::PutIfAbsent, Use::Touch, Use::ExpireLater];

impl Use {
    async fn run(self, backend: Arc<dyn Backend>, at: i64) -> Result<Version> {
        let log = process(&backend, at).log(id());
        let receipt = match self {
            Self::Append => Some(log.append(Event::new("said", "\"mine\"")).await?),
            Self::Put => Some(log.put("mine", json("1")).await?),
            Self::PutIfAbsent => {
                let absent = Condition::Absent("mine".to_owned());
                log.commit(Changes::new().only_if(absent).put("mine", json("1"))).await?
            }
            Self::Touch => log.touch("k").await?,
            Self::ExpireLater => Some(log.expire_log(Expiry::At(Timestamp(DUE + 60 * MINUTE))).await?),
        };
        Ok(receipt.unwrap().version)
    }
}

#[tokio::test]
async fn a_log_that_is_used_when_it_is_ended_keeps_what_it_acknowledged_or_refuses() {
    let (mut ran, mut kept, mut refused) = (0, 0, 0);
    for first in [slides(), Expiry::At(Timestamp(DUE))] {
        for used in USES {
            for (written, is_writer_slow) in WRITTEN.iter().flat_map(|at| [(*at, false), (*at, true)]) {
                for calls in 0.. {
                    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
                    let log = process(&backend, BEGAN).log(id());
                    log.commit(Changes::new().put("k", json("1")).expire("k", slides())).await.unwrap();
                    log.expire_log(first).await.unwrap();
                    let when = format!(
                        "{used:?} of {first:?} at {} before it is due, {} is stopped before call {calls}",
                        DUE - written,
                        if is_writer_slow { "it" } else { "maintenance" },
                    );
                    let write = |backend| used.run(backend, written);
                    let (done, is_over) =
                        beside_maintenance(&backend, is_writer_slow, calls, write, &when).await;
                    match assert_used(&backend, (first, used, written), done, &when).await {
                        true => kept += 1,
                        false => refused += 1,
                    }
                    ran += 1;
                    if is_over {
                        break;
                    }
                }
            }
        }
    }
    assert!(ran > 400 && kept > 100 && refused > 100, "{ran} {kept} {refused}");
}

/// Whether it was acknowledged, and then is kept.
async fn assert_used(
    backend: &Arc<dyn Backend>,
    (first, used, written): (Expiry, Use, i64),
    done: Result<Version>,
    when: &str,
) -> bool {
    let log = process(backend, MAINTAINED).log(id());
    let is_ended = log.head().await.unwrap().unwrap().sealed;
    let version = match done {
        Ok(version) => version,
        Err(error) => {
            let is_gone = matches!(used, Use::Touch) && error.fact("failed") == Some("k exists");
            let is_over = matches!(error.kind(), ErrorKind::Refused | ErrorKind::NotFound) && is_ended;
            assert!(is_gone || is_over, "{when}: {error}");
            return false;
        }
    };
    let at = process(backend, BEGAN).log(id()).state_at(At::Version(version)).await;
    // With a time that was said before, it is due all the same if it was used before that.
    let at = match at {
        Ok(state) => state.at.unwrap().0,
        Err(error) => {
            assert!(is_ended && first == Expiry::At(Timestamp(DUE)), "{when}: {error}");
            assert!(!matches!(used, Use::ExpireLater), "{when}: it was put off, and is gone");
            assert!(written < DUE, "{when}: it began anew, and is gone");
            // Nothing of it is claimed to be there: from the time that was said on, it was to be gone.
            return true;
        }
    };
    let is_anew = at >= DUE;
    let due = match (used, first) {
        (Use::ExpireLater, _) => Some(DUE + 60 * MINUTE),
        (_, Expiry::Sliding(_)) => Some(at + SPAN),
        _ => (!is_anew).then_some(DUE),
    };
    let last = due.map_or(i64::MAX / 2, |due| due - 1);
    let log = process(backend, last).log(id());
    match used {
        Use::Put | Use::PutIfAbsent => {
            assert!(keys(&log).await.contains(&"mine".to_owned()), "{when}: what was acknowledged is gone");
        }
        Use::Touch => assert!(keys(&log).await.contains(&"k".to_owned()), "{when}: it was touched"),
        Use::Append => {
            let mut reader = log.read(Range::default());
            let commits = reader.next_page().await.unwrap();
            let mut events = commits.iter().flat_map(|commit| commit.entries.iter().flatten());
            assert!(
                events.any(|entry| entry.events.iter().any(|event| event.kind == "said")),
                "{when}: what was acknowledged is gone"
            );
        }
        Use::ExpireLater => assert!(!log.head().await.unwrap().unwrap().sealed, "{when}"),
    }
    for minutes in [70, 140] {
        maintained(backend, MAINTAINED + minutes * MINUTE).await;
    }
    let is_ended = process(backend, DUE).log(id()).head().await.unwrap().unwrap().sealed;
    assert_eq!(is_ended, due.is_some(), "{when}: it ends when it is due, and not else");
    assert_eq!(notes(backend).await, Vec::<String>::new(), "{when}");
    true
}
