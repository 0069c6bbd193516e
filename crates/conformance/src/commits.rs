//! Commits of no meaning, and the calls that every case makes. Backends never look inside a header, so any bytes will do.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::backend::Depth;
use icecore_log::{
    Backend, Error, Hash, Head, LogId, LogPrefix, Mode, Page, PageLimit, Run, StoredCommit, Version,
};

use crate::told::Told;

/// The log `acme/session/{key}`.
pub fn log(key: &str) -> LogId {
    LogId::new("acme", "session", key).unwrap()
}

/// A header with bytes that text columns would spoil; other for each version and each seed.
pub fn header(version: u64, seed: u64) -> Bytes {
    let mut header = b"\0\xff\r\n' header ".to_vec();
    header.extend_from_slice(&version.to_le_bytes());
    header.extend_from_slice(&seed.to_le_bytes());
    header.into()
}

/// A commit; the same version and seed always give the same header.
pub fn commit(version: u64, seed: u64, body: impl Into<Bytes>) -> StoredCommit {
    StoredCommit { version: Version(version), header: header(version, seed), body: Some(body.into()) }
}

/// Commit `version` of a seed, with a body that names both.
pub fn numbered(version: u64, seed: u64) -> StoredCommit {
    commit(version, seed, format!("body {version} of {seed}"))
}

/// The hash of commit `version` of a seed; zero before the first.
pub fn hash(version: u64, seed: u64) -> Hash {
    if version == 0 { Hash::ZERO } else { Hash::of(&header(version, seed)) }
}

/// These versions of one seed as a run, behind a predecessor of the same seed.
pub fn run(log: &LogId, versions: RangeInclusive<u64>, seed: u64) -> Run {
    let previous = hash(versions.start() - 1, seed);
    let commits = versions.map(|version| numbered(version, seed)).collect();
    Run { log: log.clone(), previous, commits }
}

/// One commit as a run, behind a predecessor of seed 0.
pub fn one(log: &LogId, commit: StoredCommit) -> Run {
    Run::one(log.clone(), hash(commit.version.0 - 1, 0), commit)
}

/// Bytes that do not compress; the same for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise.into()
}

/// Creates runs that stand alone.
pub async fn create_each(backend: &dyn Backend, runs: Vec<Run>) -> Vec<Told> {
    create_in(backend, runs, Mode::Each).await
}

/// Creates runs, and checks that there is an answer for each.
pub async fn create_in(backend: &dyn Backend, runs: Vec<Run>, mode: Mode) -> Vec<Told> {
    let lengths: Vec<_> = runs.iter().map(|run| run.commits.len()).collect();
    let answers: Vec<_> = backend.create(runs, mode).await.iter().map(Told::from).collect();
    assert_eq!(answers.len(), lengths.len(), "one answer a run");
    for (answer, length) in answers.iter().zip(lengths) {
        assert!(answer.won <= length, "{answer:?} of {length} commits");
        assert_eq!(answer.is_done(), answer.won == length && length > 0, "{answer:?} of {length} commits");
    }
    answers
}

/// Creates one run.
pub async fn create(backend: &dyn Backend, run: Run) -> Told {
    create_each(backend, vec![run]).await.remove(0)
}

/// Sends the same bytes until every run is decided, as a caller must whose request may have been lost in a race.
pub async fn decide(backend: &dyn Backend, runs: Vec<Run>, mode: Mode) -> Vec<Told> {
    for _ in 0..1_000 {
        let answers = create_in(backend, runs.clone(), mode).await;
        if answers.iter().all(|answer| answer.is_decided()) {
            return answers;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after 1,000 attempts it is still not decided who won");
}

/// Creates these versions of seed 0, all of which must be won.
pub async fn append(backend: &dyn Backend, log: &LogId, versions: RangeInclusive<u64>) -> Vec<StoredCommit> {
    let run = run(log, versions, 0);
    let commits = run.commits.clone();
    assert_eq!(create(backend, run).await, Told::done(commits.len()), "appending to {log}");
    commits
}

/// One page of whole commits.
pub async fn page(backend: &dyn Backend, log: &LogId, from: u64) -> Page {
    read(backend, log, from, PageLimit::WHOLE).await
}

/// One page, whose versions must be consecutive from `from`, and within the limit.
pub async fn read(backend: &dyn Backend, log: &LogId, from: u64, limit: PageLimit) -> Page {
    let page = backend.read(log, Version(from), limit).await.unwrap();
    for (commit, version) in page.commits.iter().zip(from..) {
        assert_eq!(commit.version, Version(version), "versions from {from} on, without a gap");
        assert!(limit.bodies || commit.body.is_none(), "no bodies were asked for");
    }
    assert!(page.commits.len() <= limit.commits, "at most {} commits", limit.commits);
    let all_but_last = page.commits.iter().rev().skip(1).map(StoredCommit::len).sum::<usize>();
    assert!(page.commits.len() <= 1 || all_but_last < limit.bytes, "the page went on past its bytes");
    page
}

/// Every commit from `from` on, page by page.
pub async fn read_all(backend: &dyn Backend, log: &LogId, from: u64, limit: PageLimit) -> Vec<StoredCommit> {
    let mut commits = Vec::new();
    loop {
        let page = read(backend, log, from + commits.len() as u64, limit).await;
        if page.commits.is_empty() {
            return commits;
        }
        commits.extend(page.commits);
    }
}

/// One log's head.
pub async fn head(backend: &dyn Backend, log: &LogId) -> Option<Head> {
    let mut heads = backend.heads(std::slice::from_ref(log)).await.unwrap();
    assert_eq!(heads.len(), 1, "one answer a log");
    heads.remove(0)
}

/// The head's version and the boundary; zeros for a log without commits.
pub async fn ends(backend: &dyn Backend, log: &LogId) -> (u64, u64) {
    head(backend, log).await.map_or((0, 0), |head| (head.version.0, head.boundary.0))
}

/// Every name that a listing gives, in pages of at most `limit`.
pub async fn list(backend: &dyn Backend, prefix: &LogPrefix, limit: usize) -> Vec<LogId> {
    let mut names = Vec::new();
    let mut cursor = None;
    for _ in 0..100_000 {
        let page = backend.logs(prefix, cursor, limit).await.unwrap();
        assert!(page.logs.len() <= limit, "at most {limit} logs a page");
        names.extend(page.logs);
        cursor = page.next;
        if cursor.is_none() {
            return names;
        }
    }
    panic!("the listing has no end");
}

/// Every name that a listing gives, in order of the names.
pub async fn list_sorted(backend: &dyn Backend, prefix: &LogPrefix) -> Vec<LogId> {
    let mut names = list(backend, prefix, 1_000).await;
    names.sort();
    names
}

/// What a store says of itself under a name.
pub async fn fact(backend: &dyn Backend, name: &str) -> String {
    let facts = backend.examine(Depth::Quick).await.unwrap().facts;
    facts.into_iter().find(|(found, _)| found == name).unwrap().1
}

/// Why a store was not opened; which shows none of these, to people or in a log.
pub fn refused<T: Debug>(opened: Result<T, Error>, secrets: &[&str]) -> Error {
    let error = opened.unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    error
}
