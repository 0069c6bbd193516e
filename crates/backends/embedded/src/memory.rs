//! Keeps everything in this process: the reference model, and the default in tests.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Hash, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, StoredCommit, Swept, Version,
};
use tokio::sync::watch;

/// A [`Backend`] that forgets everything when dropped.
///
/// One lock guards everything, so that each call is one look and one step: what a case sees of it is the contract, and
/// not the outcome of a race in here.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    /// Counts the creates, so that a waiter that looked before one cannot sleep through it.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<Name, Log>,
    blobs: BTreeMap<LogId, BTreeMap<String, Bytes>>,
    is_shut_down: bool,
}

/// A log's name, which is found by its text too, so that a listing begins at its prefix and not at the first log.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(LogId);

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

/// One log's commits, without a gap, the first of version `first`.
#[derive(Debug, Default)]
struct Log {
    boundary: Version,
    first: Version,
    commits: VecDeque<StoredCommit>,
    /// The last commit's hash, so that an append does not compute it again.
    head_hash: Hash,
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Log {
    /// The last commit's number; zero without commits, even if something was closed.
    fn head(&self) -> Version {
        self.commits.back().map_or(Version::ZERO, |commit| commit.version)
    }

    fn index(&self, version: Version) -> Option<usize> {
        let index = usize::try_from(version.0.checked_sub(self.first.0)?).ok()?;
        Some(index).filter(|index| *index < self.commits.len())
    }

    fn judge(&self, run: &Run) -> Judged {
        let head = self.commits.back().map(|commit| (commit.version, self.head_hash));
        let is_same = |commit: &StoredCommit| {
            let found = self.index(commit.version).and_then(|index| self.commits.get(index));
            Ok::<_, Infallible>(found.map(|found| found.header == commit.header))
        };
        let Ok(judged) = judge::judge(run, Ends { boundary: self.boundary, head }, is_same);
        judged
    }

    /// Adds what is not here yet of a run that was judged to be done. A body that was dropped stays dropped.
    fn push(&mut self, commits: impl Iterator<Item = StoredCommit>) {
        for commit in commits {
            if self.commits.is_empty() {
                self.first = commit.version;
            }
            self.commits.push_back(commit);
        }
        self.head_hash = self.commits.back().map_or(Hash::ZERO, StoredCommit::hash);
    }
}

impl Memory {
    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.locked();
        if state.is_shut_down {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(state)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // No step below panics half-way, so a panic elsewhere left nothing half-done behind this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_now(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let fail_all = |error: &Error| runs.iter().map(|_| Created::failed(error.clone())).collect();
        let invalid = judge::invalid_runs(&runs, COMMIT_BYTES_MAX);
        let mut state = match self.open() {
            Ok(state) => state,
            Err(error) => return fail_all(&error),
        };
        match mode {
            Mode::AllOrNone => match invalid.into_iter().flatten().next() {
                Some(error) => fail_all(&error),
                None => state.all_or_none(runs),
            },
            Mode::Each => runs
                .into_iter()
                .zip(invalid)
                .map(|(run, invalid)| invalid.map_or_else(|| state.each(run), Created::failed))
                .collect(),
        }
    }
}

impl State {
    fn judge(&self, run: &Run) -> Judged {
        match self.logs.get(run.log.as_str()) {
            Some(log) => log.judge(run),
            None => Log::default().judge(run),
        }
    }

    fn apply(&mut self, run: Run, judged: Judged) -> Created {
        let count = run.commits.len();
        if judged.is_done() && judged.here < count {
            self.logs.entry(Name(run.log)).or_default().push(run.commits.into_iter().skip(judged.here));
        }
        judged.created(count)
    }

    fn each(&mut self, run: Run) -> Created {
        let judged = self.judge(&run);
        self.apply(run, judged)
    }

    fn all_or_none(&mut self, runs: Vec<Run>) -> Vec<Created> {
        let judged: Vec<_> = runs.iter().map(|run| self.judge(run)).collect();
        if !judged.iter().all(Judged::is_done) {
            return judge::none_of(
                judged.into_iter().zip(&runs).map(|(judged, run)| judged.created(run.commits.len())),
            );
        }
        runs.into_iter().zip(judged).map(|(run, judged)| self.apply(run, judged)).collect()
    }
}

const COMMIT_BYTES_MAX: usize = 80 << 20;

#[async_trait]
impl Backend for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "memory",
            durability: Durability::Process,
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: false,
            read_only: false,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 1,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let answers = self.create_now(runs, mode);
        self.changes.send_modify(|changes| *changes += 1);
        answers
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let state = self.open()?;
        let Some(log) = state.logs.get(log.as_str()) else {
            return Ok(Page::default());
        };
        let mut page = Page { commits: Vec::new(), boundary: log.boundary };
        let from = from.max(Version::FIRST);
        let Some(index) = log.index(from).filter(|_| from > log.boundary) else {
            return Ok(page);
        };
        let mut bytes = 0;
        for commit in log.commits.range(index..).take(limit.commits.max(1)) {
            let mut commit = commit.clone();
            if !limit.bodies {
                commit.body = None;
            }
            bytes += commit.len();
            page.commits.push(commit);
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(page)
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let state = self.open()?;
        let head = |log: &LogId| {
            let log = state.logs.get(log.as_str())?;
            let last = log.commits.back()?;
            Some(Head { version: last.version, header: last.header.clone(), boundary: log.boundary })
        };
        Ok(logs.iter().map(head).collect())
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let after = cursor.as_ref().map(Cursor::name).transpose()?;
        let from = match after {
            Some(after) if after >= prefix.as_str() => Bound::Excluded(after),
            _ => Bound::Included(prefix.as_str()),
        };
        let state = self.open()?;
        let mut found = state
            .logs
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| prefix.matches(&name.0))
            .filter(|(_, log)| !log.commits.is_empty())
            .map(|(name, _)| name.0.clone());
        let logs: Vec<LogId> = found.by_ref().take(limit.max(1)).collect();
        let next = match (found.next(), logs.last()) {
            (Some(_), Some(last)) => Some(Cursor(Bytes::copy_from_slice(last.as_str().as_bytes()))),
            _ => None,
        };
        Ok(LogPage { logs, next })
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let mut state = self.open()?;
        let found = state.logs.entry(Name(log.clone())).or_default();
        if !found.commits.is_empty() && through >= found.head() {
            return Err(judge::head_stays(log, through));
        }
        found.boundary = found.boundary.max(through);
        Ok(())
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let mut state = self.open()?;
        let mut swept = Swept::default();
        let Some(log) = state.logs.get_mut(log.as_str()) else {
            return Ok(swept);
        };
        let boundary = log.boundary;
        let closed = log.commits.partition_point(|commit| commit.version <= boundary);
        for commit in log.commits.drain(..closed) {
            swept.commits += 1;
            swept.bytes += commit.len() as u64;
        }
        // The head is never closed, so a log that had commits has one still.
        log.first = log.commits.front().map_or(Version::ZERO, |commit| commit.version);
        Ok(swept)
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let mut state = self.open()?;
        let Some(log) = state.logs.get_mut(log.as_str()) else {
            return Ok(());
        };
        for version in versions {
            if let Some(commit) = log.index(*version).and_then(|index| log.commits.get_mut(index)) {
                commit.body = None;
            }
        }
        Ok(())
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        let past = |state: &State| {
            seen.iter()
                .any(|(log, version)| state.logs.get(log.as_str()).is_some_and(|log| log.head() > *version))
        };
        let changed = async {
            while !past(&*self.open()?) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::time::timeout(timeout, changed).await.unwrap_or(Ok(()))
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let mut state = self.open()?;
        let blobs = state.blobs.entry(blob.log().clone()).or_default();
        let is_new = !blobs.contains_key(blob.name());
        if is_new {
            blobs.insert(blob.name().to_owned(), bytes);
        }
        Ok(is_new)
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let state = self.open()?;
        let found = state.blobs.get(blob.log()).and_then(|blobs| blobs.get(blob.name()));
        Ok(found.map(|bytes| match range {
            None => bytes.clone(),
            Some(range) => {
                let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
                let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
                bytes.slice(start..end)
            }
        }))
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let state = self.open()?;
        let blobs = state.blobs.get(log).into_iter();
        Ok(blobs
            .flat_map(|blobs| blobs.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)))
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, bytes)| BlobInfo { name: name.clone(), bytes: bytes.len() as u64 })
            .collect())
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let mut state = self.open()?;
        if let Some(blobs) = state.blobs.get_mut(blob.log()) {
            blobs.remove(blob.name());
            if blobs.is_empty() {
                state.blobs.remove(blob.log());
            }
        }
        Ok(())
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let state = self.open()?;
        let commits = || state.logs.values().flat_map(|log| &log.commits);
        let blobs = || state.blobs.values().flat_map(BTreeMap::values);
        let counts = [("logs", state.logs.len()), ("commits", commits().count()), ("blobs", blobs().count())];
        let counted = counts.map(|(name, value)| (name.to_owned(), value.to_string()));
        let decided = ("conditional_writes".to_owned(), "hold: a lock of this process decides".to_owned());
        let bytes = match depth {
            Depth::Quick => 0,
            Depth::Deep => commits().map(StoredCommit::len).chain(blobs().map(Bytes::len)).sum(),
        };
        Ok(Examination {
            facts: counted.into_iter().chain([decided]).collect(),
            damage: Vec::new(),
            bytes: bytes as u64,
        })
    }

    async fn shut_down(&self) -> Result<()> {
        self.locked().is_shut_down = true;
        // Whoever waits looks again, and is refused.
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    async fn open() -> Arc<super::Memory> {
        Arc::new(super::Memory::default())
    }

    icecore_conformance::conformance_tests!(open);
}
