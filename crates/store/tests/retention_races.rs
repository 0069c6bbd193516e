//! Trims, holds, deletes, bases and appends of two processes, one of them stopped before each of its calls in turn while the other does all
//! of its own: nothing that was promised to either is broken.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;
#[path = "support/paused.rs"]
mod paused;
mod support;

use std::sync::Arc;
use std::time::Duration;

use documents::*;
use icecore_embedded::Memory;
use icecore_log::{
    Backend, Clock, Entry, EntryId, ErrorKind, Event, LogId, LogPrefix, Result, SystemClock, Version,
};
use icecore_store::retention::{Hold, Keep, On, Pace, Policy, Trim};
use icecore_store::{Log, Range, Store};
use paused::{Paused, interleaved};
use support::ManualClock;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    /// Through 30,
    Trim,
    /// or more, or less.
    TrimMore,
    TrimBytes,
    DropChatter,
    /// From 20 on.
    Hold,
    HoldAll,
    Delete,
    DeleteIdle,
    Put,
    Base,
    /// The state, a document, and a page.
    Read,
}

const ALL: [Op; 11] = [
    Op::Trim,
    Op::TrimMore,
    Op::TrimBytes,
    Op::DropChatter,
    Op::Hold,
    Op::HoldAll,
    Op::Delete,
    Op::DeleteIdle,
    Op::Put,
    Op::Base,
    Op::Read,
];

const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

fn keep(commits: u64) -> Trim {
    Trim { keep: Keep { commits: Some(commits), ..Keep::default() }, ..Trim::default() }
}

fn with_id(number: u64) -> Entry {
    Entry::new(Event::new("chatter", number.to_string()))
        .with_id(EntryId::new(format!("id-{number}")).unwrap())
}

/// Of 40 commits, ten of which have an id each.
async fn forty() -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = open(&backend, by_count(NEVER));
    for number in 0..40 {
        if number % 4 == 3 {
            log.append(with_id(number)).await.unwrap();
        } else {
            work(&log, number).await;
        }
    }
    land().await;
    backend
}

/// How many bytes the last 20 commits have.
async fn twenty(backend: &Arc<dyn Backend>) -> u64 {
    commits(backend).await[20..40].iter().map(|commit| commit.len() as u64).sum()
}

/// Of a process, two hours later.
fn later(backend: &Arc<dyn Backend>) -> Store {
    let clock = ManualClock::default();
    clock.set(SystemClock.now().after(Duration::from_secs(7_200)).0);
    Store::builder(Arc::clone(backend)).clock(Arc::new(clock)).build()
}

fn hold(from: Option<Version>) -> Hold {
    Hold { on: On::Log(id()), from, until: None, reason: String::new() }
}

impl Op {
    /// Whether it says that it was done.
    async fn run(self, store: &Store, bytes: u64) -> Result<bool> {
        let (log, retention) = (store.log(id()), store.retention()?);
        match self {
            Self::Trim => log.trim(&keep(10)).await.map(|_| true),
            Self::TrimMore => log.trim(&keep(3)).await.map(|_| true),
            Self::TrimBytes => {
                let keep = Keep { bytes: Some(bytes), ..Keep::default() };
                log.trim(&Trim { keep, ..Trim::default() }).await.map(|_| true)
            }
            Self::DropChatter => {
                log.trim(&Trim { kinds: ["chatter".to_owned()].into(), ..keep(10) }).await.map(|_| true)
            }
            Self::Hold => retention.hold("h", &hold(Some(Version(20)))).await.map(|()| true),
            Self::HoldAll => retention.hold("h", &hold(None)).await.map(|()| true),
            Self::Delete => store.delete_log(&id()).await.map(|_| true),
            Self::DeleteIdle => {
                let policy = Policy {
                    on: LogPrefix::parse("acme/").unwrap(),
                    keep_commits: None,
                    keep_for: None,
                    keep_bytes: None,
                    kinds: Default::default(),
                    delete_idle_for: Some(Duration::from_secs(3_600)),
                };
                retention.set_policy(&policy).await?;
                let done = store.maintain_once(PACE, |_| ()).await?;
                match done.and_then(|done| done.first_error) {
                    Some(error) => Err(error),
                    None => Ok(true),
                }
            }
            Self::Put => log.put("ours", json("1")).await.map(|_| true),
            Self::Base => log.write_base().await.map(|_| true),
            Self::Read => {
                let document = log.document("large").await?;
                let page = log.documents("", None, 5).await?;
                Ok(document.is_some() && page.documents.len() == 5 && !log.state().await?.is_empty())
            }
        }
    }
}

async fn is_deleted(log: &Log) -> bool {
    log.head().await.unwrap().unwrap().sealed
}

async fn versions(log: &Log) -> Vec<u64> {
    let (mut reader, mut versions) = (log.read(Range::default()), Vec::new());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return versions;
        }
        versions.extend(page.iter().map(|commit| commit.version.0));
    }
}

/// What is promised whatever came of the two.
async fn check(backend: &Arc<dyn Backend>, before: &Log, done: [(Op, &Result<bool>); 2], when: &str) {
    let log = open(backend, by_count(NEVER));
    let head = log.head().await.unwrap().unwrap();
    let is_done = |op: Op| done.iter().any(|(other, done)| *other == op && done.is_ok());
    for (op, done) in done {
        assert!(!matches!(done, Ok(false)), "{when}: it saw something else");
        if let Err(error) = done {
            let expected = match error.kind() {
                ErrorKind::Refused => {
                    is_deleted(&log).await
                        || ["hold", "trimmed_through"].iter().any(|fact| error.fact(fact).is_some())
                }
                ErrorKind::NotFound => is_deleted(&log).await,
                _ => false,
            };
            assert!(expected, "{when}: {op:?}: {error}");
            assert!(op != Op::Delete || error.fact("hold").is_some(), "{when}: {error}");
        }
    }
    let retention = backend_state(backend).await;
    assert!(retention.documents("trim/").next().is_none(), "{when}: something is still being taken");
    if is_deleted(&log).await {
        assert!(is_done(Op::Delete) || is_done(Op::DeleteIdle), "{when}");
        assert_eq!(versions(&log).await.len(), 1, "{when}");
        assert!(backend.list_blobs(&id(), "").await.unwrap().is_empty(), "{when}");
        // Who deletes a log whatever is in it takes what was just put; who deletes it as idle does not.
        assert!(is_done(Op::Delete) || !is_done(Op::Put), "{when}: it was used, and was deleted as idle");
        return;
    }
    assert!(!is_done(Op::Delete), "{when}: it was said to be deleted");
    if is_done(Op::Hold) {
        assert!(head.boundary < Version(20), "{when}: what is held was trimmed");
    }
    // Behind a base, which has more bytes than all others, nothing else may be kept by size.
    let is_alone = done.iter().any(|(op, _)| [Op::Hold, Op::HoldAll, Op::Put, Op::Read].contains(op));
    let most = [(Op::Trim, 30), (Op::TrimMore, 37), (Op::TrimBytes, if is_alone { 20 } else { 38 })];
    let most = most.iter().filter(|(op, _)| done.iter().any(|(other, _)| other == op));
    // One that begins behind the other's base, or put, keeps the newest by then.
    let most = most.map(|(_, most)| most + 2).max().unwrap_or(0);
    assert!(head.boundary.0 <= most, "{when}: {} is more than {most}", head.boundary);
    let (expected, found) = (before.state().await.unwrap(), log.state().await.unwrap());
    assert!(!is_done(Op::Put) || found.get("ours").is_some(), "{when}: what was put is lost");
    let found: Vec<_> = found.in_order().into_iter().filter(|(key, _)| *key != "ours").collect();
    assert!(found == expected.in_order(), "{when}: the documents are others");
    for number in (3..40).step_by(4) {
        let receipt = log.append(with_id(number)).await.unwrap();
        assert!(receipt.repeated && receipt.version == Version(number + 1), "{when}: {receipt:?}");
    }
    assert!(log.replay(|_| ()).await.unwrap().is_same, "{when}");
}

async fn backend_state(backend: &Arc<dyn Backend>) -> Arc<icecore_store::state::State> {
    let id = LogId::new("_", "icecore", "retention").unwrap();
    Store::new(Arc::clone(backend)).log(id).state().await.unwrap()
}

#[tokio::test]
async fn one_that_is_stopped_anywhere_and_another_keep_what_they_promise() {
    let original = forty().await;
    let before = open(&original, by_count(NEVER));
    let bytes = twenty(&original).await;
    let mut ran = 0;
    for slow in ALL {
        for quick in ALL {
            for calls in 0.. {
                let backend = copy_of(&original).await;
                let when = format!("{slow:?} stopped before call {calls}, meanwhile {quick:?}");
                let slowly = |stopped| {
                    let store = later(&stopped);
                    Box::pin(async move { slow.run(&store, bytes).await }) as _
                };
                let quick_store = later(&backend);
                let quickly = quick.run(&quick_store, bytes);
                let (slow_done, quick_done, is_over) =
                    interleaved(&backend, calls, slowly, quickly, &when).await;
                land().await;
                check(&backend, &before, [(slow, &slow_done), (quick, &quick_done)], &when).await;
                ran += 1;
                if is_over {
                    break;
                }
            }
        }
    }
    assert!(ran > 1_000, "{ran}");
}

/// What is said by size must not count what another trim took meanwhile among what is kept.
#[tokio::test]
async fn by_size_what_another_took_meanwhile_is_not_counted() {
    let original = forty().await;
    let bytes = twenty(&original).await;
    for calls in 0.. {
        let backend = copy_of(&original).await;
        let slowly = |stopped| {
            let log = Store::new(stopped).log(id());
            let trim = Trim { keep: Keep { bytes: Some(bytes), ..Keep::default() }, ..Trim::default() };
            Box::pin(async move { log.plan_trim(&trim).await.unwrap().through }) as _
        };
        let quickly = async {
            open(&backend, by_count(NEVER)).write_base().await.unwrap();
            backend.close(&id(), Version(15)).await.unwrap();
            backend.sweep(&id()).await.unwrap();
        };
        let when = format!("before call {calls}");
        let (through, (), is_over) = interleaved(&backend, calls, slowly, quickly, &when).await;
        // Before the first call it sees the base, which is one more commit, and has more bytes than any.
        assert!(calls == 0 || through == Version(20), "{calls}: {through}");
        if is_over {
            assert!(calls > 3, "{calls}");
            break;
        }
    }
}

/// Who appends at the moment of the delete is told that it was there, or that it was not; but nothing of it stays with the seal.
#[tokio::test]
async fn what_is_appended_beside_a_delete_does_not_stay_with_its_seal() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = open(&backend, by_count(NEVER));
    log.put("a", json("1")).await.unwrap();
    let writers = (0..20).map(async |_| while log.put("secret", json("\"mine\"")).await.is_ok() {});
    let delete = async {
        land().await;
        log.store().delete_log(&id()).await.unwrap();
    };
    futures_util::future::join(futures_util::future::join_all(writers), delete).await;
    let left = commits_from(&backend).await;

    assert_eq!(left.len(), 1);
    let opened = log.read(Range::default()).next_page().await.unwrap();
    let kinds: Vec<_> = opened[0].entries.iter().flatten().flat_map(|entry| &entry.events).collect();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
}

async fn commits_from(backend: &Arc<dyn Backend>) -> Vec<icecore_log::StoredCommit> {
    let head = backend.heads(&[id()]).await.unwrap().remove(0).unwrap();
    backend.read(&id(), head.boundary.next(), icecore_log::PageLimit::WHOLE).await.unwrap().commits
}

#[tokio::test]
async fn a_state_in_memory_ends_with_the_log() {
    use icecore_store::state::Consistency;
    for read_in_parts in [false, true] {
        let backend: Arc<dyn Backend> = Arc::new(Memory::default());
        let log = open(&backend, |settings| {
            if read_in_parts {
                by_count(4)(settings);
            }
        });
        for number in 0..20 {
            work(&log, number).await;
        }
        land().await;
        let lazy = log.with(Consistency::Eventual);
        assert!(!lazy.documents("", None, 5).await.unwrap().documents.is_empty());
        if !read_in_parts {
            lazy.state().await.unwrap();
        }

        log.store().delete_log(&id()).await.unwrap();

        // What this process did itself is taken up without a look; it was an empty state once, and then the strong reads had it, too.
        for reader in [&lazy, &log] {
            assert_eq!(reader.documents("", None, 5).await.unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(reader.state().await.unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(reader.document("large").await.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}

/// A snapshot holds documents: one that was being written while the log was deleted was left behind for ever.
#[tokio::test]
async fn a_snapshot_that_comes_late_does_not_outlive_its_log() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let paused = Paused::at_a_blob(&backend);
    let log = open(&(Arc::clone(&paused) as Arc<dyn Backend>), by_count(8));
    for number in 0..9 {
        work(&log, number).await;
    }
    paused.reached().await;

    open(&backend, by_count(NEVER)).store().delete_log(&id()).await.unwrap();
    paused.go();
    land().await;

    assert_eq!(backend.list_blobs(&id(), "").await.unwrap(), []);
}

#[tokio::test]
async fn an_id_run_that_comes_late_does_not_outlive_its_log() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let paused = Paused::at_a_blob(&backend);
    let log = open(&(Arc::clone(&paused) as Arc<dyn Backend>), |settings| settings.id_run_ids = 8);
    for number in 0..8 {
        log.append(with_id(number)).await.unwrap();
    }
    paused.reached().await;

    open(&backend, by_count(NEVER)).store().delete_log(&id()).await.unwrap();
    paused.go();
    land().await;

    assert_eq!(backend.list_blobs(&id(), "").await.unwrap(), []);
}

/// A fail-over may lose the base and keep what was said in the other log.
#[tokio::test]
async fn a_trim_whose_base_was_lost_writes_another() {
    for through in [30_u64, 40, 1_000_000] {
        let backend = forty().await;
        let log = open(&backend, by_count(NEVER));
        let before = log.state().await.unwrap();
        let retention = log.store().log(LogId::new("_", "icecore", "retention").unwrap());
        let intent = format!(r#"{{"through":{through}}}"#);
        retention.put(&format!("trim/{}", id()), json(intent)).await.unwrap();

        let done = log.store().maintain_once(PACE, |_| ()).await.unwrap().unwrap();

        assert_eq!((done.finished, done.failed), (1, 0), "{done:?}");
        let head = log.head().await.unwrap().unwrap();
        assert_eq!((head.version.0, head.boundary.0), (41, through.min(40)));
        let log = open(&backend, by_count(NEVER));
        assert!(log.state().await.unwrap().in_order() == before.in_order());
        log.put("ours", json("1")).await.unwrap();
    }
    // Of a log that is not there, there is nothing to take; it does not come to be by that either.
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = open(&backend, by_count(NEVER));
    let retention = log.store().log(LogId::new("_", "icecore", "retention").unwrap());
    for through in [5, u64::MAX] {
        let intent = format!(r#"{{"through":{through}}}"#);
        retention.put(&format!("trim/{}", id()), json(intent)).await.unwrap();
        let done = log.store().maintain_once(PACE, |_| ()).await.unwrap().unwrap();
        assert_eq!((done.finished, done.failed), (1, 0), "{done:?}");
        assert!(log.head().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_cannot_be_read_of_what_is_held_or_taken_is_never_none() {
    for (key, value) in [
        ("hold/a", r#"{"log":"acme/session/s-1","from":"1"}"#),
        ("hold/a", r#"{"from":1}"#),
        ("hold/a", r#"{"log":"acme/session/s-1","prefix":"acme/"}"#),
        ("hold/a", "7"),
        ("trim/acme/session/s-1", "{}"),
        ("trim/acme/session/s-1", r#"{"through":5,"only":"some"}"#),
        ("trim/acme", r#"{"through":5}"#),
    ] {
        let backend = forty().await;
        let log = open(&backend, by_count(NEVER));
        let own = log.store().log(LogId::new("_", "icecore", "retention").unwrap());
        own.put(key, json(value)).await.unwrap();
        let retention = log.store().retention().unwrap();

        let trimmed = log.trim(&keep(10)).await.unwrap_err();
        let deleted = log.store().delete_log(&id()).await.unwrap_err();
        let held = retention.hold("b", &hold(Some(Version(1)))).await;

        for error in [&trimmed, &deleted] {
            assert_ne!(error.kind(), ErrorKind::NotFound, "{key}: {error}");
            let named = error.fact("hold").or(error.fact("document")).unwrap();
            assert!(key.ends_with(named), "{key}: {error}");
        }
        // Another hold takes nothing; but what is just being taken cannot be held.
        assert_eq!(held.is_ok(), key.starts_with("hold/"), "{key}: {held:?}");
        let head = log.head().await.unwrap().unwrap();
        assert_eq!((head.boundary, head.sealed), (Version::ZERO, false), "{key}");
        own.delete(key).await.unwrap();
        retention.release("b").await.unwrap();
        log.trim(&keep(10)).await.unwrap();
    }
}

#[tokio::test]
async fn holds_have_the_names_that_they_were_given_and_are_of_what_there_is() {
    let backend = forty().await;
    let log = open(&backend, by_count(NEVER));
    let retention = log.store().retention().unwrap();
    // From version 0 on is all that is left, as if none was named.
    retention.hold("hold/a", &hold(Some(Version::ZERO))).await.unwrap();
    let error = log.trim(&keep(10)).await.unwrap_err();

    assert_eq!(error.fact("hold"), Some("hold/a"));
    assert_eq!(retention.holds().await.unwrap()[0].0, "hold/a");
    assert!(retention.release("hold/a").await.unwrap());
    log.store().delete_log(&id()).await.unwrap();
    for from in [None, Some(Version::ZERO), Some(Version(1)), Some(Version(100))] {
        let error = retention.hold("late", &hold(from)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
}
