//! What the tests of states share: the snapshots of a log by their names, its state from commits alone, and something to do.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::backend::BlobInfo;
use icecore_log::{Backend, BlobId, Event, Hash, LogId, Mode, PageLimit, Run, StoredCommit, Version};
use icecore_store::state::{Changes, Json, State};
use icecore_store::{Log, Settings, Store};

use crate::observed::Observed;

/// What the name of a part of a snapshot says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub to: u64,
    pub from: u64,
    pub is_kept: bool,
    pub is_last: bool,
    pub bytes: u64,
    pub name: String,
}

impl Part {
    fn of(blob: BlobInfo) -> Self {
        // snap-<incarnation>-<from>-<to>-<k or h><tag>-<part><m or z>-<bytes>
        let fields: Vec<&str> = blob.name.split('-').collect();
        let number = |at: usize| u64::from_str_radix(fields[at], 16).unwrap();
        Self {
            to: number(3),
            from: number(2),
            is_kept: fields[4].starts_with('k'),
            is_last: fields[5].ends_with('z'),
            bytes: blob.bytes,
            name: blob.name.clone(),
        }
    }

    pub fn blob(&self) -> BlobId {
        BlobId::new(id(), &self.name).unwrap()
    }
}

pub fn id() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

pub fn json(text: impl Into<String>) -> Json {
    Json::text(text.into()).unwrap()
}

/// So many letters, as JSON, that compress to little less: others for each seed.
pub fn noise(seed: u64, letters: usize) -> Json {
    json(format!("\"{}\"", letters_of(seed, letters)))
}

pub fn letters_of(seed: u64, letters: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut noise = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = String::with_capacity(letters + 8);
    while text.len() < letters {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        text.extend((0..8).map(|at| LETTERS[(noise >> (8 + 6 * at)) as usize % 64] as char));
    }
    text.truncate(letters);
    text
}

/// The log in a store of its own, as another process would have it.
pub fn open(backend: &Arc<dyn Backend>, change: impl FnOnce(&mut Settings)) -> Log {
    let mut settings = Settings::default();
    change(&mut settings);
    Store::builder(Arc::clone(backend)).settings(settings).build().log(id())
}

/// Lets everything that was begun over memory come to its end.
pub async fn land() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// The parts of snapshots, in the order of the versions that they come to.
pub async fn parts(backend: &Arc<dyn Backend>) -> Vec<Part> {
    let blobs = backend.list_blobs(&id(), "snap-").await.unwrap();
    let mut parts: Vec<_> = blobs.into_iter().map(Part::of).collect();
    parts.sort();
    parts
}

pub async fn lose_all(backend: &Arc<dyn Backend>) {
    for part in parts(backend).await {
        backend.delete_blob(&part.blob()).await.unwrap();
    }
}

/// Puts other bytes under the name of a blob.
pub async fn replace(backend: &Arc<dyn Backend>, blob: &BlobId, bytes: impl Into<Bytes>) {
    backend.delete_blob(blob).await.unwrap();
    assert!(backend.put_blob(blob, bytes.into()).await.unwrap());
}

pub async fn commits(backend: &Arc<dyn Backend>) -> Vec<StoredCommit> {
    let (mut commits, mut next) = (Vec::new(), Version::FIRST);
    loop {
        let page = backend.read(&id(), next, PageLimit::WHOLE).await.unwrap().commits;
        let Some(last) = page.last() else { return commits };
        next = last.version.next();
        commits.extend(page);
    }
}

/// A backend with these commits of the log and nothing else.
pub async fn with_commits(commits: impl IntoIterator<Item = StoredCommit>) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let mut previous = Hash::ZERO;
    for commit in commits {
        let run = Run::one(id(), previous, commit);
        previous = run.commits[0].hash();
        assert!(backend.create(vec![run], Mode::Each).await[0].is_done());
    }
    backend
}

/// The log as its commits say it, without any snapshot, and without writing one.
pub async fn folded_from_commits(backend: &Arc<dyn Backend>) -> Log {
    open(&with_commits(commits(backend).await).await, |settings| {
        (settings.snapshot_commits, settings.snapshot_bytes) = (1 << 40, 1 << 40);
    })
}

/// In each field, and in the order in which the documents came.
pub fn assert_same(found: &State, expected: &State, when: &str) {
    let order = |state: &State| state.in_order().iter().map(|(key, _)| (*key).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (found.version, found.at, found.hash),
        (expected.version, expected.at, expected.hash),
        "{when}"
    );
    assert_eq!(order(found), order(expected), "{when}");
    assert!(found.documents("").eq(expected.documents("")), "{when}");
    assert!(found == expected, "{when}");
}

/// Every document, by pages.
pub async fn assert_pages_same(log: &Log, expected: &State, when: &str) {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = log.documents("", after.as_deref(), 7).await.unwrap();
        assert_eq!(page.version, expected.version, "{when}");
        after = page.documents.last().map(|(key, _)| key.clone());
        found.extend(page.documents);
        if !page.has_more {
            break;
        }
    }
    let expected = expected.documents("").map(|(key, document)| (key.to_owned(), document.clone()));
    assert!(found.into_iter().eq(expected), "{when}");
}

/// As a setting: more than comes to be.
pub const NEVER: u64 = 1 << 40;

/// Snapshots by the number of commits alone, and all is read in parts.
pub fn by_count(commits: u64) -> impl Fn(&mut Settings) {
    move |settings| {
        (settings.snapshot_commits, settings.snapshot_bytes) = (commits, NEVER);
        settings.whole_state_bytes_max = 0;
    }
}

/// A commit of everything that changes documents.
pub async fn work(log: &Log, number: u64) {
    let json_of = |text: String| json(text);
    let turns = |n| format!(r#"{{"n":{n},"text":{:?}}}"#, letters_of(n / 8, 700));
    let changes = Changes::new().put(format!("k{:03}", number * 7 % 60), noise(number, 150));
    let changes = match number % 5 {
        0 => changes.put("large", json_of(turns(number))),
        1 => changes.patch(format!("p{}", number % 7), json_of(format!(r#"{{"n":{number}}}"#))),
        2 => changes.delete(format!("k{:03}", number * 11 % 60)).delete("p1"),
        3 => changes.patch("large", json_of(format!(r#"{{"m":{number}}}"#))),
        _ => changes.event(Event::new("said", "\"hello\"")),
    };
    log.commit(changes).await.unwrap();
}

/// How many commits a process reads that knows nothing yet, and that it reads the right state.
pub async fn read_afresh(observed: &Observed, when: &str) -> u64 {
    let backend = observed.inner();
    let expected = folded_from_commits(&backend).await.state().await.unwrap();
    let (counted, backend) = Observed::new(backend);
    let whole = open(&backend, |settings| by_count(NEVER)(settings));
    assert_same(&whole.state().await.unwrap(), &expected, when);
    let read = counted.commits.load(Ordering::SeqCst);
    for whole_state_bytes_max in [0, 1 << 20] {
        let log = open(&backend, |settings| {
            by_count(NEVER)(settings);
            settings.whole_state_bytes_max = whole_state_bytes_max;
        });
        assert_pages_same(&log, &expected, when).await;
        for (key, document) in expected.documents("").step_by(9) {
            assert_eq!(log.document(key).await.unwrap().as_ref(), Some(document), "{when}");
        }
        assert_eq!(log.document("none").await.unwrap(), None, "{when}");
    }
    read
}

pub async fn spans(backend: &Arc<dyn Backend>) -> Vec<(u64, u64)> {
    parts(backend).await.iter().map(|part| (part.from, part.to)).collect()
}

/// A copy of the log with its snapshots.
pub async fn copy_of(backend: &Arc<dyn Backend>) -> Arc<dyn Backend> {
    let copy = with_commits(commits(backend).await).await;
    for part in parts(backend).await {
        let bytes = backend.get_blob(&part.blob(), None).await.unwrap().unwrap();
        assert!(copy.put_blob(&part.blob(), bytes).await.unwrap());
    }
    copy
}
