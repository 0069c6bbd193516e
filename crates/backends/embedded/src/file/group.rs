//! A group in progress: what is asked for is decided against the index and what the group already holds.

use std::collections::{HashMap, HashSet};

use icecore_log::judge::{self, Ends};
use icecore_log::{Created, Error, ErrorKind, Hash, LogId, Mode, Result, Run, StoredCommit, Swept, Version};
use tokio::sync::oneshot;

use super::frame::{self, GROUP_HEAD, Head};
use super::index::{Index, LogIndex};
use super::{COMMIT_BYTES_MAX, REQUEST_BYTES_MAX, Shared};

/// More bytes than this are left to the writer's thread.
const SMALL: usize = 64 << 10;

pub(crate) enum Request {
    Create(Vec<Run>, Mode, oneshot::Sender<Vec<Created>>),
    Close(LogId, Version, oneshot::Sender<Result<()>>),
    Sweep(LogId, oneshot::Sender<Result<Swept>>),
    Drop(LogId, Vec<Version>, oneshot::Sender<Result<()>>),
    Stop(oneshot::Sender<Result<()>>),
    /// Asks for nothing: a caller has written, and the last group has to be covered in a while.
    Look,
}

impl Request {
    /// Whether its caller may be let do it: it is an append, and a small one.
    pub fn is_small(&self) -> bool {
        match self {
            Self::Create(runs, ..) => bytes_of(runs) <= SMALL,
            _ => false,
        }
    }

    /// Answers it with an error; nothing was written.
    pub fn refuse(self, error: &Error) {
        // Whoever asked may have gone.
        match self {
            Self::Create(runs, _, channel) => drop(channel.send(fail_all(&runs, error))),
            Self::Close(_, _, channel) | Self::Drop(_, _, channel) | Self::Stop(channel) => {
                drop(channel.send(Err(error.clone())));
            }
            Self::Sweep(_, channel) => drop(channel.send(Err(error.clone()))),
            Self::Look => {}
        }
    }
}

fn fail_all(runs: &[Run], error: &Error) -> Vec<Created> {
    runs.iter().map(|_| Created::failed(error.clone())).collect()
}

/// An answer that is given when the group is durable.
pub(crate) enum Answer {
    Created(oneshot::Sender<Vec<Created>>, Vec<Created>),
    Done(oneshot::Sender<Result<()>>),
}

impl Answer {
    /// Gives it; with an error if the group was not written.
    pub fn give(self, failed: Option<&Error>) {
        match (self, failed) {
            (Self::Created(channel, created), None) => drop(channel.send(created)),
            // What was decided without writing would be true, but its neighbours in the call are not: one answer for all.
            (Self::Created(channel, created), Some(error)) => {
                drop(channel.send(created.iter().map(|_| Created::failed(error.clone())).collect()));
            }
            (Self::Done(channel), None) => drop(channel.send(Ok(()))),
            (Self::Done(channel), Some(error)) => drop(channel.send(Err(error.clone()))),
        }
    }
}

/// A commit that a group adds.
pub(crate) struct NewCommit {
    pub log: LogId,
    pub version: u64,
    /// Where its frame begins in the group.
    pub offset: usize,
    pub head: Head,
    pub hash: Hash,
}

/// A group in progress.
pub(crate) struct Group {
    salt: u32,
    pub frames: u32,
    /// The group's own head, filled in last, and its frames.
    pub bytes: Vec<u8>,
    /// Where each log's head will be, with its hash.
    heads: HashMap<LogId, (Version, Hash)>,
    pub commits: Vec<NewCommit>,
    pub closes: HashMap<LogId, u64>,
    pub drops: HashSet<(LogId, u64)>,
    pub answers: Vec<Answer>,
}

impl Group {
    /// An empty one; written so, it says that what was before it is durable.
    pub fn new(salt: u32) -> Self {
        Self {
            salt,
            frames: 0,
            bytes: vec![0; GROUP_HEAD],
            heads: HashMap::new(),
            commits: Vec::new(),
            closes: HashMap::new(),
            drops: HashSet::new(),
            answers: Vec::new(),
        }
    }

    /// Decides a request, and takes up what it needs.
    pub fn take(&mut self, shared: &Shared, request: Request) {
        let index = shared.read();
        match request {
            Request::Create(runs, mode, answer) => {
                let created = self.create(shared, &index, &runs, mode);
                self.answers.push(Answer::Created(answer, created));
            }
            Request::Close(log, through, answer) => match self.close(&index, log, through) {
                Ok(()) => self.answers.push(Answer::Done(answer)),
                Err(error) => drop(answer.send(Err(error))),
            },
            Request::Drop(log, versions, answer) => {
                for version in versions {
                    let slot = index.logs.get(&log).and_then(|entry| entry.slot(version.0));
                    let has_body = slot.is_some_and(|slot| slot.body_bytes().is_some());
                    if has_body && self.drops.insert((log.clone(), version.0)) {
                        frame::put_drop(&mut self.bytes, &log, version, self.salt);
                        self.frames += 1;
                    }
                }
                self.answers.push(Answer::Done(answer));
            }
            // The writer does these between groups.
            Request::Sweep(..) | Request::Stop(_) | Request::Look => {}
        }
    }

    fn close(&mut self, index: &Index, log: LogId, through: Version) -> Result<()> {
        let head = match self.heads.get(&log) {
            Some((version, _)) => Some(*version),
            None => index.head(&log)?.map(|(version, _)| version),
        };
        if head.is_some_and(|head| through >= head) {
            return Err(judge::head_stays(&log, through));
        }
        if self.boundary(index, &log) < through.0 {
            frame::put_close(&mut self.bytes, &log, through, self.salt);
            self.frames += 1;
            self.closes.insert(log, through.0);
        }
        Ok(())
    }

    fn boundary(&self, index: &Index, log: &LogId) -> u64 {
        let closed = self.closes.get(log).copied().unwrap_or(0);
        closed.max(index.logs.get(log).map_or(0, |entry| entry.boundary))
    }

    fn create(&mut self, shared: &Shared, index: &Index, runs: &[Run], mode: Mode) -> Vec<Created> {
        if let Some(error) = too_large(runs) {
            return fail_all(runs, &error);
        }
        let invalid = judge::invalid_runs(runs, COMMIT_BYTES_MAX);
        if mode == Mode::Each {
            let each = runs.iter().zip(invalid);
            return each
                .map(|(run, invalid)| invalid.map_or_else(|| self.apply(shared, index, run), Created::failed))
                .collect();
        }
        if let Some(error) = invalid.into_iter().flatten().next() {
            return fail_all(runs, &error);
        }
        let (frames, bytes, commits, heads) =
            (self.frames, self.bytes.len(), self.commits.len(), self.heads.clone());
        let answers: Vec<Created> = runs.iter().map(|run| self.apply(shared, index, run)).collect();
        if answers.iter().all(Created::is_done) {
            return answers;
        }
        self.frames = frames;
        self.bytes.truncate(bytes);
        self.commits.truncate(commits);
        self.heads = heads;
        judge::none_of(answers)
    }

    fn apply(&mut self, shared: &Shared, index: &Index, run: &Run) -> Created {
        let judged = self
            .ends(shared, index, &run.log)
            .and_then(|ends| judge::judge(run, ends, |commit| self.is_same(shared, index, &run.log, commit)));
        let judged = match judged {
            Ok(judged) => judged,
            Err(error) => return Created::failed(error),
        };
        if judged.is_done() {
            for commit in &run.commits[judged.here..] {
                let (offset, hash) = (self.bytes.len(), commit.hash());
                let head = frame::put_commit(&mut self.bytes, &run.log, commit, self.salt);
                self.frames += 1;
                let log = run.log.clone();
                self.commits.push(NewCommit { log, version: commit.version.0, offset, head, hash });
                self.heads.insert(run.log.clone(), (commit.version, hash));
            }
        }
        judged.created(run.commits.len())
    }

    fn ends(&self, shared: &Shared, index: &Index, log: &LogId) -> Result<Ends> {
        let entry = index.logs.get(log);
        let head = match (self.heads.get(log), entry) {
            (Some(head), _) => Some(*head),
            (None, Some(entry)) => match (entry.last()?, entry.head_hash) {
                (Some((version, _)), Some(hash)) => Some((version, hash)),
                (Some((version, slot)), None) => {
                    Some((version, shared.header_hash(index, log, version.0, slot)?))
                }
                (None, _) => None,
            },
            (None, None) => None,
        };
        let closed = self.closes.get(log).copied().unwrap_or(0);
        Ok(Ends { boundary: Version(closed.max(entry.map_or(0, |entry| entry.boundary))), head })
    }

    /// Whether a slot at or below the head holds the same header; by its hash, which the index may have.
    fn is_same(
        &self,
        shared: &Shared,
        index: &Index,
        log: &LogId,
        commit: &StoredCommit,
    ) -> Result<Option<bool>> {
        let version = commit.version.0;
        let slot = index.logs.get(log).and_then(|entry: &LogIndex| entry.slot(version));
        let found = match slot {
            Some(slot) => Some(shared.header_hash(index, log, version, slot)?),
            None => {
                let mut here = self.commits.iter().filter(|new| new.version == version && new.log == *log);
                here.next().map(|new| new.hash)
            }
        };
        Ok(found.map(|hash| hash == commit.hash()))
    }
}

fn bytes_of(runs: &[Run]) -> usize {
    runs.iter().flat_map(|run| &run.commits).map(StoredCommit::len).sum()
}

/// A group's length is a number of 32 bits.
fn too_large(runs: &[Run]) -> Option<Error> {
    let bytes = bytes_of(runs);
    (bytes > REQUEST_BYTES_MAX).then(|| {
        Error::new(ErrorKind::Invalid, "creating commits")
            .with("bytes", bytes)
            .with("bytes_max", REQUEST_BYTES_MAX)
            .advise("Send them in several calls")
    })
}
