//! What is asked of a storage system, and the contract that `icecore-conformance` checks by its numbers.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use crate::commit::{Hash, StoredCommit, Version};
use crate::error::{Error, Result};
use crate::name::{BlobId, LogId, LogPrefix};

/// A place where commits are created once and never changed.
///
/// # Contract
/// 1. **Once**: at most one commit is ever stored in a slot, whoever races. A commit whose header is already there, byte for byte, is won again.
/// 2. **Unknown is an error of its own**: an outcome that was not seen is [`End::Failed`] with [`ErrorKind::Unknown`](crate::ErrorKind::Unknown), never [`End::Taken`]. Absent decides nothing;
///    the caller sends nothing but the same bytes until the slot is decided. What was seen is made durable before it is reported as won.
/// 3. **Durable**: what was won survives what [`Capabilities::durability`] declares.
/// 4. **Fresh and chained**: a read that begins after a win sees the commit; reads return consecutive versions in order. A create whose predecessor is missing or has another hash is [`End::Gap`]
///    where [`Capabilities::checks_predecessor`] says so.
/// 5. **Deletion is safe**: `close` raises the boundary durably and never lowers it; `sweep` deletes only what is closed; the head is never deleted; nothing at or below the boundary is ever created again.
/// 6. **Bytes in, bytes out**: a header never changes; a body is whole or gone.
/// 7. **Neighbours stand alone**: one log's outcome says nothing about the others in the call, unless the call is [`Mode::AllOrNone`], for backends with [`Capabilities::atomic_create`].
/// 8. **Names**: every log that existed throughout a listing appears in it exactly once; a log is listed before its first commit can be read.
/// 9. **Blobs**: created if absent, seen by the next read and listing, durable when acknowledged; deleting is idempotent.
///
/// `icecore-conformance` has at least one case for each number; a backend that passes it is done.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// What this backend is, and what it promises beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Creates each run of commits whose slots are absent; one answer a run, in the order of the runs.
    ///
    /// A run is applied in order up to its first commit that is not won. No log may have two runs in a call.
    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created>;

    /// Reads one page of consecutive commits, `from` included.
    ///
    /// An empty page with a boundary at or above `from` means that those commits were closed; with a lower one, that the log
    /// ended before `from` in the same look. A page holds at least one commit if there is one, whatever its size.
    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page>;

    /// Each log's head and boundary in one look, in the order of `logs`; `None` for a log without commits.
    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>>;

    /// Lists logs by name. The order is stable, and the backend's own.
    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage>;

    /// Raises the boundary: everything at or below `through` may be deleted and is no longer read.
    ///
    /// Idempotent; a lower `through` changes nothing. A log without commits may be closed so that a copy of a trimmed
    /// log can begin behind `through`.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if `through` is the head or beyond it.
    async fn close(&self, log: &LogId, through: Version) -> Result<()>;

    /// Deletes what has been closed for long enough, with its bytes.
    async fn sweep(&self, log: &LogId) -> Result<Swept>;

    /// Deletes the bodies of these commits; their headers stay. Versions that are not there are passed over.
    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()>;

    /// Waits until one of these logs may have a commit past the version given, or the time is up. Only a hint.
    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()>;

    /// Keeps a blob if none of that name is there; `false` if there was one, which stays as it is.
    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool>;

    /// Reads a blob, or the part of a range that it has; `None` if there is none.
    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>>;

    /// Names and lengths of a log's blobs whose names begin so, in order of the names.
    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>>;

    /// Deletes a blob, if it is there.
    async fn delete_blob(&self, blob: &BlobId) -> Result<()>;

    /// Says what the store is and how it is set, and what is damaged below the waist; `Deep` reads every stored byte.
    async fn examine(&self, depth: Depth) -> Result<Examination>;

    /// Finishes what was begun and releases locks; later calls are refused. Idempotent.
    async fn shut_down(&self) -> Result<()>;
}

/// What a backend is, and what it promises beyond the contract. Declared after probing, never assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The system, such as `file`. For people; nothing may depend on it.
    pub system: &'static str,
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// Whether [`Mode::AllOrNone`] is possible.
    pub atomic_create: bool,
    /// Whether a create at or below the boundary is refused in the same atomic step.
    pub native_close: bool,
    /// Whether a create behind a missing or different predecessor is refused.
    pub checks_predecessor: bool,
    /// Whether several processes may write at once.
    pub many_writers: bool,
    /// Whether this handle only reads.
    pub read_only: bool,
    /// The most bytes of one commit, header and body.
    pub commit_bytes_max: usize,
    /// How many `create` calls at a time serve it best.
    pub creates_in_flight: usize,
}

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing: it is gone with the process.
    Process,
    /// The death of every process, but not a loss of power.
    Machine,
    /// A loss of power.
    Disk,
    /// The loss of a machine.
    Replicated,
}

impl Durability {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Machine => "machine",
            Self::Disk => "disk",
            Self::Replicated => "replicated",
        }
    }
}

/// Consecutive commits for one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The log.
    pub log: LogId,
    /// The hash of the commit before the first; [`Hash::ZERO`] if the first is version 1.
    pub previous: Hash,
    /// At least one, versions without a gap.
    pub commits: Vec<StoredCommit>,
}

impl Run {
    /// A run of one commit.
    pub fn one(log: LogId, previous: Hash, commit: StoredCommit) -> Self {
        Self { log, previous, commits: vec![commit] }
    }

    /// What is wrong with it, before anything is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is empty, has a gap, starts at version 0, or a commit is larger than `commit_bytes_max`.
    pub fn validate(&self, commit_bytes_max: usize) -> Result<()> {
        let invalid = |advice: &str| {
            Err(Error::new(crate::ErrorKind::Invalid, "creating a commit")
                .with("log", &self.log)
                .advise(advice))
        };
        let Some(first) = self.commits.first() else {
            return invalid("A run has at least one commit");
        };
        if first.version == Version::ZERO {
            return invalid("Versions begin at 1");
        }
        if (first.version == Version::FIRST) != (self.previous == Hash::ZERO) {
            return invalid("The first commit, and no other, has no predecessor");
        }
        for (commit, version) in self.commits.iter().zip(first.version.0..) {
            if commit.version.0 != version {
                return invalid("A run's versions have no gap");
            }
            if commit.header.is_empty() {
                return invalid("A commit has a header");
            }
            if commit.len() > commit_bytes_max {
                return Err(Error::new(crate::ErrorKind::Invalid, "creating a commit")
                    .with("log", &self.log)
                    .with("version", commit.version)
                    .with("bytes", commit.len())
                    .with("bytes_max", commit_bytes_max));
            }
        }
        Ok(())
    }
}

/// Whether the runs of a call depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each stands alone.
    #[default]
    Each,
    /// All are won, or none. Where it is not declared, every run fails as refused.
    AllOrNone,
}

/// How far a run came.
#[derive(Debug, Clone)]
pub struct Created {
    /// How many of its commits were won, from the first on.
    pub won: usize,
    /// Why it stopped there.
    pub end: End,
}

/// Why a run ended.
#[derive(Debug, Clone)]
pub enum End {
    /// Every commit was won.
    Done,
    /// The slot holds another commit; or, all or none, a neighbour was not won.
    Taken,
    /// The slot is at or below the boundary.
    Closed(Version),
    /// The commit before is missing, or is not the one named as the predecessor.
    Gap,
    /// The request failed; only of kind `Unknown` may it have been carried out.
    Failed(Error),
}

impl Created {
    /// All `count` commits were won.
    pub fn done(count: usize) -> Self {
        Self { won: count, end: End::Done }
    }

    /// None was won.
    pub fn failed(error: Error) -> Self {
        Self { won: 0, end: End::Failed(error) }
    }

    /// Whether every commit was won.
    pub fn is_done(&self) -> bool {
        matches!(self.end, End::Done)
    }
}

/// How much one page may hold. The first commit is always returned, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// The most commits.
    pub commits: usize,
    /// The page ends with the commit that reaches this many bytes of headers and bodies.
    pub bytes: usize,
    /// Whether bodies are wanted; without them `body` is `None`.
    pub bodies: bool,
}

impl PageLimit {
    /// Whole commits: at most 1,000, or 4 MiB.
    pub const WHOLE: Self = Self { commits: 1_000, bytes: 4 << 20, bodies: true };
    /// Headers only: at most 4,096, or 4 MiB.
    pub const HEADERS: Self = Self { commits: 4_096, bytes: 4 << 20, bodies: false };

    /// This limit with at most so many commits.
    #[must_use]
    pub fn commits(self, commits: usize) -> Self {
        Self { commits: commits.min(self.commits), ..self }
    }
}

/// Consecutive commits, and the boundary that was seen with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// From the version asked for, without a gap.
    pub commits: Vec<StoredCommit>,
    /// The boundary in the same look.
    pub boundary: Version,
}

/// Where a log ends, and below what it may have been deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The last commit's number.
    pub version: Version,
    /// The last commit's header.
    pub header: Bytes,
    /// Everything at or below it may be deleted; zero if nothing was.
    pub boundary: Version,
}

impl Head {
    /// The last commit's hash.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.header)
    }
}

/// Where a listing goes on: the backend's own bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Bytes);

impl Cursor {
    /// The name behind which a listing goes on, for backends whose cursors are names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is no text, and so not of such a listing.
    pub fn name(&self) -> Result<&str> {
        std::str::from_utf8(&self.0).map_err(|_| Self::foreign())
    }

    /// The error of a cursor that another listing made.
    pub fn foreign() -> Error {
        Error::new(crate::ErrorKind::Invalid, "listing logs").advise("The cursor is not of this listing")
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// The logs.
    pub logs: Vec<LogId>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Commits.
    pub commits: u64,
    /// Bytes of headers and bodies.
    pub bytes: u64,
}

/// A blob's name within its log, and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// The name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Whether a store is opened to write or only to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Makes what is missing; may hold a lock.
    #[default]
    ReadWrite,
    /// Makes nothing, changes nothing, and holds no lock: for looking at a store that others write.
    ReadOnly,
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Settings and sizes.
    Quick,
    /// Every stored byte.
    Deep,
}

/// What a store is and what is wrong with it, below the waist.
#[derive(Debug, Clone, Default)]
pub struct Examination {
    /// Named facts for people: versions, settings, sizes.
    pub facts: Vec<(String, String)>,
    /// What is damaged, each naming the file or row, and the log and version where they can be told.
    pub damage: Vec<Error>,
    /// Bytes that were read.
    pub bytes: u64,
}
