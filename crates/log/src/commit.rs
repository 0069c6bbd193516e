//! The commit: a header that lives as long as its log's history, and a body that is whole or gone.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;

use crate::clock::Timestamp;

/// A commit's number in its log: 1, 2, 3 …, no gaps. 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

impl Version {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);
    /// The first commit.
    pub const FIRST: Self = Self(1);

    /// The version `n` after this one.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// The next version.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The version before, or zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first commit of a log names as its predecessor.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Tells a log from another of the same name that was there before; random, from commit 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Incarnation(pub [u8; 16]);

/// What is special about a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Its body holds the whole state, the name and the log's secret: history may be trimmed behind it.
    pub base: bool,
    /// The last commit of a log that was deleted or moved.
    pub seal: bool,
    /// It, or one before it, says when a document or the log expires: what a few commits say of a document is then not all.
    pub expires: bool,
}

/// Where one frame of a body is, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Length in the body, in bytes; frames follow each other in order.
    pub length: u64,
    /// The key that it is encrypted under; empty if it is not.
    pub key: Bytes,
    /// SHA-256 of the frame's bytes, which begin with a salt.
    pub commitment: Hash,
}

/// What a header says of one entry. No text of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    /// HMAC of the entry's id under the log's secret; `None` if it has no id.
    pub id_tag: Option<[u8; 16]>,
    /// HMAC of the entry's content under the log's secret; `None` if it has no id.
    pub content_tag: Option<[u8; 16]>,
    /// How many events it has.
    pub events: u32,
    /// Its frame.
    pub frame: Frame,
}

/// The header: all that is needed to check the chain, and nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// HMAC of the log's name, tenant included, under the log's secret.
    pub name_tag: [u8; 16],
    /// Which log of that name.
    pub incarnation: Incarnation,
    /// The commit's number.
    pub version: Version,
    /// How many events the log had before this commit.
    pub position: u64,
    /// The hash of the header before; [`Hash::ZERO`] in the first.
    pub previous: Hash,
    /// When it was made: the later of the writer's clock and the commit before.
    pub at: Timestamp,
    /// Which writing process made it.
    pub writer: [u8; 16],
    /// The writer's epoch, where writers are leased; else 0.
    pub epoch: u64,
    /// Random: makes every attempt's hash its own.
    pub nonce: [u8; 16],
    /// What is special about it.
    pub flags: Flags,
    /// The newest commit, itself included, whose body has a preamble: 1, or the last base.
    pub base: Version,
    /// The frame that holds the log's name and secret, in the first commit and in every base.
    pub preamble: Option<Frame>,
    /// Its entries, in order.
    pub entries: Vec<EntryHeader>,
}

impl Header {
    /// The most entries in one commit.
    pub const ENTRIES_MAX: usize = 2_048;
    /// The longest encoded header, in bytes.
    pub const BYTES_MAX: usize = 512 << 10;

    /// The number of events in this commit.
    pub fn events(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.events)).sum()
    }

    /// All frames of the body in order: the preamble, if there is one, and one for each entry.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.preamble.iter().chain(self.entries.iter().map(|entry| &entry.frame))
    }
}

/// A commit as a backend keeps it: bytes in, bytes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// Its number in the log.
    pub version: Version,
    /// The encoded header; never changes.
    pub header: Bytes,
    /// The encoded body, or `None` once it was dropped.
    pub body: Option<Bytes>,
}

impl StoredCommit {
    /// The hash that the next commit names as its predecessor: SHA-256 of the header.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.header)
    }

    /// Bytes of header and body.
    pub fn len(&self) -> usize {
        self.header.len() + self.body.as_ref().map_or(0, Bytes::len)
    }

    /// Whether both header and body are empty, which no commit of ours is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
