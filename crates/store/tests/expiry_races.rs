//! Renewals and maintenance of two processes, each with a clock of its own, one of them stopped before each of its calls in turn, or killed there,
//! while the other does all of its own: what was renewed stays, what goes was due, and nothing is forgotten.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

#[path = "support/mortal.rs"]
mod mortal;
#[path = "support/paused.rs"]
mod paused;
mod support;

use std::sync::Arc;
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, Event, LogId, Result, Timestamp, Version};
use icecore_store::append::Receipt;
use icecore_store::retention::{Maintained, Pace};
use icecore_store::state::{At, Changes, Condition, Expiry, Json, Merge};
use icecore_store::{Log, Range, Store};
use mortal::Mortal;
use paused::Paused;
use support::ManualClock;

const MINUTE: i64 = 60_000_000_000;
const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

/// When it begins: at the beginning of a stretch of ten minutes.
const BEGAN: i64 = 1_000_000 * MINUTE;
/// The span, and the time, after which something is due: the last moment of a stretch. So one nanosecond later maintenance may remove it.
const SPAN: i64 = 20 * MINUTE - 1;
const DUE: i64 = BEGAN + SPAN;
const MAINTAINED: i64 = DUE + 1;
/// The clocks of writers: as far behind as they may be, at the last moment, and at the moment.
const WRITTEN: [i64; 3] = [MAINTAINED - 5 * MINUTE, DUE - 1, DUE];

fn id() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn slides() -> Expiry {
    Expiry::Sliding(Duration::from_nanos(SPAN as u64))
}

/// A process of its own, whose clock stands.
fn process(backend: &Arc<dyn Backend>, at: i64) -> Store {
    let clock = Arc::new(ManualClock::default());
    clock.set(at);
    Store::builder(Arc::clone(backend)).clock(clock).build()
}

async fn keys(log: &Log) -> Vec<String> {
    log.state().await.unwrap().documents("").map(|(key, _)| key.to_owned()).collect()
}

async fn notes(backend: &Arc<dyn Backend>) -> Vec<String> {
    let store = process(backend, BEGAN);
    let mut names = Vec::new();
    for number in 0..16 {
        let id = LogId::new("_", "icecore", &format!("due-{number:x}")).unwrap();
        names.extend(keys(&store.log(id)).await);
    }
    names
}

async fn maintained(backend: &Arc<dyn Backend>, at: i64) -> Maintained {
    let done = process(backend, at).maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert!(done.first_error.is_none(), "{:?}", done.first_error);
    done
}

/// What was done to a document, the newest first.
async fn history(log: &Log, key: &str) -> Vec<&'static str> {
    let (mut history, mut changes) = (log.history(key), Vec::new());
    loop {
        let page = history.next_page().await.unwrap();
        if page.is_empty() {
            return changes;
        }
        changes.extend(page.into_iter().map(|one| one.change));
    }
}

/// Runs the one, stopped before its call after so many until the other has ended; and whether it had ended before that call.
async fn interleaved<A: Send + 'static, B>(
    backend: &Arc<dyn Backend>,
    calls: i64,
    slow: impl FnOnce(Arc<dyn Backend>) -> std::pin::Pin<Box<dyn Future<Output = A> + Send>>,
    quick: impl Future<Output = B>,
    when: &str,
) -> (A, B, bool) {
    let paused = Paused::new(backend, calls);
    let task = tokio::spawn(slow(Arc::clone(&paused) as Arc<dyn Backend>));
    let is_over = tokio::select! {
        () = paused.reached() => false,
        () = async { while !task.is_finished() { tokio::task::yield_now().await } } => true,
    };
    let quickly = tokio::time::timeout(Duration::from_secs(20), quick).await.expect(when);
    paused.go();
    let slowly = tokio::time::timeout(Duration::from_secs(20), task).await.expect(when).unwrap();
    (slowly, quickly, is_over)
}

type Maintenance = Result<Option<Maintained>>;

async fn maintain(backend: Arc<dyn Backend>, at: i64) -> Maintenance {
    process(&backend, at).maintain_once(PACE, |_| ()).await
}

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

async fn documents(first: Expiry) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = process(&backend, BEGAN).log(id());
    log.commit(Changes::new().put("k", json("1")).expire("k", first)).await.unwrap();
    log.put("stays", json("1")).await.unwrap();
    backend
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

/// However it came: what is due goes some time, and what notes there were.
async fn assert_goes_in_the_end(backend: &Arc<dyn Backend>, when: &str) {
    for minutes in [70, 140] {
        maintained(backend, MAINTAINED + minutes * MINUTE).await;
    }
    let log = process(backend, MAINTAINED + 140 * MINUTE).log(id());
    let newest = history(&log, "k").await[0];
    let is_there = log.document("k").await.unwrap().is_some();
    assert_eq!(newest == "delete", !is_there, "{when}: it is still stored: {newest}");
    assert!(keys(&log).await.contains(&"stays".to_owned()), "{when}");
    assert_eq!(notes(backend).await, Vec::<String>::new(), "{when}");
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
                    let (done, maintained, is_over) = if is_writer_slow {
                        let quick = maintain(Arc::clone(&backend), MAINTAINED);
                        interleaved(&backend, calls, |b| Box::pin(write(b)), quick, &when).await
                    } else {
                        let quick = write(Arc::clone(&backend));
                        let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
                        let (maintained, done, over) = interleaved(&backend, calls, slow, quick, &when).await;
                        (done, maintained, over)
                    };
                    let maintained = maintained.unwrap().unwrap();
                    assert!(maintained.first_error.is_none(), "{when}: {maintained:?}");
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
async fn much_is_due() -> Arc<dyn Backend> {
    let backend = documents(slides()).await;
    let store = process(&backend, BEGAN);
    let log = store.log(id());
    let at = Expiry::At(Timestamp(DUE));
    log.commit(Changes::new().put("at", json("1")).expire("at", at)).await.unwrap();
    let later = Expiry::At(Timestamp(DUE + 300 * MINUTE));
    log.commit(Changes::new().put("later", json("1")).expire("later", later)).await.unwrap();
    let ends = store.log(ending());
    ends.put("k", json("1")).await.unwrap();
    ends.expire_log(slides()).await.unwrap();
    backend
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
        let backend = much_is_due().await;
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
            let backend = much_is_due().await;
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
async fn maintenance_that_is_killed_anywhere_is_gone_on_with_by_another() {
    for is_last_done in [false, true] {
        for changes in 0.. {
            let backend = much_is_due().await;
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
                    let (done, maintained, is_over) = if is_writer_slow {
                        let quick = maintain(Arc::clone(&backend), MAINTAINED);
                        interleaved(&backend, calls, |b| Box::pin(write(b)), quick, &when).await
                    } else {
                        let quick = write(Arc::clone(&backend));
                        let slow = |b| Box::pin(maintain(b, MAINTAINED)) as _;
                        let (maintained, done, over) = interleaved(&backend, calls, slow, quick, &when).await;
                        (done, maintained, over)
                    };
                    let maintained = maintained.unwrap().unwrap();
                    assert!(maintained.first_error.is_none(), "{when}: {maintained:?}");
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
