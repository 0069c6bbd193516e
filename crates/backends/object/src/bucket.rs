//! What the engine asks of an object store: six calls, so that a test can stand between.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Timestamp};

/// A place where objects are kept by name. Names are ASCII; `/` separates folders.
///
/// A listing and a read that begin after a call has returned see what it did.
#[async_trait]
pub trait Bucket: fmt::Debug + Send + Sync + 'static {
    /// Creates an object if none has that name; `false` if there is one, or one is being made. One request, which is not sent again.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Fault>;

    /// Replaces an object if it is still the one with this tag; `false` if it is not.
    async fn replace(&self, name: &str, bytes: Bytes, tag: &str) -> Result<bool, Fault>;

    /// Reads an object, or the part of a range that it has; `None` if there is none.
    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Object>, Fault>;

    /// Objects whose names begin so, in order of the bytes of their names, those behind `after` only.
    /// One whose whole name is `prefix` may be left out, as `object_store` does for Azure.
    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Listed>, Fault>;

    /// The folders directly below the last `/` of `prefix` whose names begin so, each once.
    async fn folders(&self, prefix: &str, cursor: Option<&str>, max: usize) -> Result<Folders, Fault>;

    /// Deletes objects; those that are not there are passed over.
    async fn delete(&self, names: Vec<String>) -> Result<(), Fault>;

    /// What the place is set to, for people, as far as an object of that name shows it: names and values.
    async fn facts(&self, _name: &str) -> Result<Vec<(&'static str, &'static str)>, Fault> {
        Ok(Vec::new())
    }
}

/// An object, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bytes that were asked for.
    pub bytes: Bytes,
    /// Length of the whole object in bytes.
    pub size: u64,
    /// Changes when the object is replaced.
    pub tag: String,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its whole name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

/// A page of folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folders {
    /// Their whole names, without the `/` at the end.
    pub names: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// What stops a call.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What may have become of it.
    pub kind: FaultKind,
    /// What the store or the connection said, without any secret.
    pub message: String,
}

/// What may have become of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The store was not reached: nothing was done.
    NotSent,
    /// The store refused it, as it would again: nothing was done.
    Refused,
    /// There is no such bucket.
    Missing,
    /// It may have been done, or be done yet.
    Lost,
}

impl Fault {
    /// A fault of a kind, and what was said.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// As an error of a call that changes nothing.
    pub(crate) fn reading(self, doing: &'static str) -> Error {
        let kind = match self.kind {
            FaultKind::NotSent | FaultKind::Lost => ErrorKind::Unavailable,
            FaultKind::Refused => ErrorKind::Refused,
            FaultKind::Missing => ErrorKind::NotFound,
        };
        Error::new(kind, doing).because(self)
    }

    /// As an error of a call that changes something.
    pub(crate) fn writing(self, doing: &'static str) -> Error {
        match self.kind {
            FaultKind::Lost => Error::new(ErrorKind::Unknown, doing).because(self),
            _ => self.reading(doing),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
