//! Keeps everything in this process: the reference model, and the default in tests.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, End, Error, ErrorKind, Hash, Head, LogId,
    LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, StoredCommit, Swept, Version,
};
use tokio::sync::watch;

/// A [`Backend`] that forgets everything when dropped.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    /// Counts the creates, so that a waiter that looked before one cannot sleep through it.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<LogId, Log>,
    blobs: BTreeMap<BlobId, Bytes>,
    is_shut_down: bool,
}

/// One log's commits, without a gap, the first of version `first`.
#[derive(Debug, Default, Clone)]
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
    fn head(&self) -> Version {
        if self.commits.is_empty() {
            self.boundary
        } else {
            Version(self.first.0 + self.commits.len() as u64 - 1)
        }
    }

    fn get(&self, version: Version) -> Option<&StoredCommit> {
        let index = version.0.checked_sub(self.first.0)?;
        self.commits.get(usize::try_from(index).ok()?)
    }

    /// Whether this commit may follow `previous` here; `Ok(true)` if it is here already.
    fn check(&self, previous: Hash, commit: &StoredCommit) -> Result<bool, End> {
        if commit.version <= self.boundary {
            return Err(End::Closed(self.boundary));
        }
        if let Some(found) = self.get(commit.version) {
            return if found.header == commit.header { Ok(true) } else { Err(End::Taken) };
        }
        let follows = if commit.version.previous() == self.boundary && self.commits.is_empty() {
            // Nothing is left to compare with: the log is new, or a trimmed one is being copied.
            true
        } else {
            commit.version == self.head().next() && previous == self.head_hash
        };
        if follows { Ok(false) } else { Err(End::Gap) }
    }

    fn push(&mut self, commit: StoredCommit) {
        if self.commits.is_empty() {
            self.first = commit.version;
        }
        self.head_hash = commit.hash();
        self.commits.push_back(commit);
    }

    fn apply(&mut self, run: &Run) -> Created {
        let mut previous = run.previous;
        for (won, commit) in run.commits.iter().enumerate() {
            match self.check(previous, commit) {
                Ok(true) => {}
                Ok(false) => self.push(commit.clone()),
                Err(end) => return Created { won, end },
            }
            previous = commit.hash();
        }
        Created::done(run.commits.len())
    }
}

impl Memory {
    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_shut_down {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(state)
    }
}

impl State {
    fn each(&mut self, run: &Run) -> Created {
        if let Some(log) = self.logs.get_mut(&run.log) {
            return log.apply(run);
        }
        let mut log = Log::default();
        let created = log.apply(run);
        if created.won > 0 {
            self.logs.insert(run.log.clone(), log);
        }
        created
    }

    fn all_or_none(&mut self, runs: &[Run]) -> Vec<Created> {
        let mut after = Vec::with_capacity(runs.len());
        let mut answers = Vec::with_capacity(runs.len());
        for run in runs {
            let mut log = self.logs.get(&run.log).cloned().unwrap_or_default();
            answers.push(log.apply(run));
            after.push((run.log.clone(), log));
        }
        if answers.iter().all(Created::is_done) {
            self.logs.extend(after);
            return answers;
        }
        let neighbours =
            |answer: Created| Created { won: 0, end: if answer.is_done() { End::Taken } else { answer.end } };
        answers.into_iter().map(neighbours).collect()
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
        let answers = {
            let mut state = match self.open() {
                Ok(state) => state,
                Err(error) => return runs.iter().map(|_| Created::failed(error.clone())).collect(),
            };
            let invalid = crate::validate(&runs, COMMIT_BYTES_MAX);
            match mode {
                Mode::AllOrNone => match invalid.into_iter().flatten().next() {
                    Some(error) => runs.iter().map(|_| Created::failed(error.clone())).collect(),
                    None => state.all_or_none(&runs),
                },
                Mode::Each => runs
                    .iter()
                    .zip(invalid)
                    .map(|(run, invalid)| invalid.map_or_else(|| state.each(run), Created::failed))
                    .collect(),
            }
        };
        self.changes.send_modify(|changes| *changes += 1);
        answers
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let state = self.open()?;
        let Some(log) = state.logs.get(log) else {
            return Ok(Page::default());
        };
        let mut page = Page { commits: Vec::new(), boundary: log.boundary };
        let from = from.max(Version::FIRST);
        let Some(skipped) = from.0.checked_sub(log.first.0).filter(|_| from > log.boundary) else {
            return Ok(page);
        };
        let mut bytes = 0;
        for commit in
            log.commits.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)).take(limit.commits.max(1))
        {
            let body = commit.body.clone().filter(|_| limit.bodies);
            page.commits.push(StoredCommit { body, ..commit.clone() });
            bytes += page.commits.last().map_or(0, StoredCommit::len);
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(page)
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let state = self.open()?;
        let head = |log: &LogId| {
            let log = state.logs.get(log)?;
            let last = log.commits.back()?;
            Some(Head { version: last.version, header: last.header.clone(), boundary: log.boundary })
        };
        Ok(logs.iter().map(head).collect())
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let after = cursor
            .map(|cursor| std::str::from_utf8(&cursor.0).ok().and_then(|name| LogId::parse(name).ok()))
            .map(|name| {
                name.ok_or_else(|| {
                    Error::new(ErrorKind::Invalid, "listing logs").advise("The cursor is not ours")
                })
            })
            .transpose()?;
        let state = self.open()?;
        let from = match &after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut found = state
            .logs
            .range((from, Bound::Unbounded))
            .filter(|(name, log)| prefix.matches(name) && !log.commits.is_empty())
            .map(|(name, _)| name.clone());
        let logs: Vec<LogId> = found.by_ref().take(limit.max(1)).collect();
        let next = match (found.next(), logs.last()) {
            (Some(_), Some(last)) => Some(Cursor(Bytes::copy_from_slice(last.as_str().as_bytes()))),
            _ => None,
        };
        Ok(LogPage { logs, next })
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let mut state = self.open()?;
        let log_state = state.logs.entry(log.clone()).or_default();
        if !log_state.commits.is_empty() && through >= log_state.head() {
            return Err(crate::head_stays(log, through));
        }
        log_state.boundary = log_state.boundary.max(through);
        Ok(())
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let mut state = self.open()?;
        let mut swept = Swept::default();
        if let Some(log) = state.logs.get_mut(log) {
            while log.commits.front().is_some_and(|commit| commit.version <= log.boundary) {
                if let Some(commit) = log.commits.pop_front() {
                    swept.commits += 1;
                    swept.bytes += commit.len() as u64;
                    log.first = commit.version.next();
                }
            }
        }
        Ok(swept)
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let mut state = self.open()?;
        let Some(log) = state.logs.get_mut(log) else {
            return Ok(());
        };
        let versions: HashSet<_> = versions.iter().collect();
        for commit in log.commits.iter_mut().filter(|commit| versions.contains(&commit.version)) {
            commit.body = None;
        }
        Ok(())
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        let past = |state: &State| {
            seen.iter().any(|(log, version)| state.logs.get(log).is_some_and(|log| log.head() > *version))
        };
        let changed = async {
            loop {
                if past(&*self.open()?) {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(timeout, changed).await.unwrap_or(Ok(()))
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let mut state = self.open()?;
        let is_new = !state.blobs.contains_key(blob);
        if is_new {
            state.blobs.insert(blob.clone(), bytes);
        }
        Ok(is_new)
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let state = self.open()?;
        Ok(state.blobs.get(blob).map(|bytes| match range {
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
        let own = state.blobs.iter().filter(|(blob, _)| blob.log() == log && blob.name().starts_with(prefix));
        Ok(own
            .map(|(blob, bytes)| BlobInfo { name: blob.name().to_owned(), bytes: bytes.len() as u64 })
            .collect())
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.open()?.blobs.remove(blob);
        Ok(())
    }

    async fn examine(&self, _depth: Depth) -> Result<Examination> {
        let state = self.open()?;
        let commits: usize = state.logs.values().map(|log| log.commits.len()).sum();
        let facts = [("logs", state.logs.len()), ("commits", commits), ("blobs", state.blobs.len())];
        Ok(Examination {
            facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect(),
            ..Examination::default()
        })
    }

    async fn shut_down(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_shut_down = true;
        Ok(())
    }
}
