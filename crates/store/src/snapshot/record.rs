//! What a snapshot says of a key: the record, its bytes, and how one lies over another.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use icecore_log::{Timestamp, Version};

use super::table::{Damage, Input};
use crate::state::expiry::Expiry;

/// Where a document stands among those of its log, in the order in which each was first put: which change put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    /// The commit.
    pub version: u64,
    /// Which of that commit's changes it was.
    pub index: u32,
}

/// What a snapshot says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub key: Arc<str>,
    pub content: Content,
}

/// The document of a key, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Value {
        json: Bytes,
        /// The commit that changed it last.
        version: Version,
        /// When that was committed.
        at: Timestamp,
        place: Place,
        /// When it is gone by itself.
        expiry: Option<Expiry>,
        /// A delete came before it, since the snapshot's `from`: what is below does not show through, not even its place.
        is_anew: bool,
    },
    Deleted,
}

/// What is known of a key after both: `newer` lies over `older`, and where a document only changed it keeps its place.
pub(crate) fn over(older: Option<Record>, mut newer: Record) -> Record {
    let Some(Record { content: older, .. }) = older else { return newer };
    if let Content::Value { place, is_anew: is_anew @ false, .. } = &mut newer.content {
        match older {
            Content::Value { place: first, is_anew: was_anew, .. } => (*place, *is_anew) = (first, was_anew),
            Content::Deleted => *is_anew = true,
        }
    }
    newer
}

const DELETED: u8 = 0;
const VALUE: u8 = 1;
const VALUE_ANEW: u8 = 2;
/// With an expiry, which is behind the place.
const VALUE_EXPIRES: u8 = 3;
const VALUE_ANEW_EXPIRES: u8 = 4;
/// Which expiry, and its number.
const EXPIRY: usize = 1 + 8;
/// Kind, and length of the key.
const HEAD: usize = 1 + 2;
/// Version, time, place, and length of the JSON.
const VALUE_HEAD: usize = 8 + 8 + 8 + 4 + 4;

impl Record {
    /// As it is in a snapshot that begins at version 0: there is nothing below, so nothing is said of what is not there.
    pub fn whole(mut self) -> Option<Self> {
        match &mut self.content {
            Content::Value { is_anew, .. } => *is_anew = false,
            Content::Deleted => return None,
        }
        Some(self)
    }

    /// How many bytes [`Record::put`] writes.
    pub fn bytes(&self) -> usize {
        let value = match &self.content {
            Content::Value { json, expiry, .. } => VALUE_HEAD + expiry.map_or(0, |_| EXPIRY) + json.len(),
            Content::Deleted => 0,
        };
        HEAD + self.key.len() + value
    }

    /// Writes it behind others. Its key was checked to be shorter than 2^16 bytes, its JSON to be shorter than 2^32.
    pub fn put(&self, bytes: &mut BytesMut) {
        bytes.put_u8(match &self.content {
            Content::Deleted => DELETED,
            Content::Value { is_anew: false, expiry: None, .. } => VALUE,
            Content::Value { is_anew: true, expiry: None, .. } => VALUE_ANEW,
            Content::Value { is_anew: false, .. } => VALUE_EXPIRES,
            Content::Value { is_anew: true, .. } => VALUE_ANEW_EXPIRES,
        });
        bytes.put_u16(self.key.len() as u16);
        bytes.put_slice(self.key.as_bytes());
        if let Content::Value { json, version, at, place, expiry, .. } = &self.content {
            bytes.put_u64(version.0);
            bytes.put_i64(at.0);
            bytes.put_u64(place.version);
            bytes.put_u32(place.index);
            if let Some((kind, number)) = expiry.map(Expiry::to_parts) {
                bytes.put_u8(kind);
                bytes.put_i64(number);
            }
            bytes.put_u32(json.len() as u32);
            bytes.put_slice(json);
        }
    }
}

/// The versions that a snapshot speaks of: `from` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub from: Version,
    pub to: Version,
}

impl Span {
    /// Whether a snapshot of these versions may say this.
    pub fn allows(&self, content: &Content) -> bool {
        let is_whole = self.from == Version::ZERO;
        match content {
            Content::Deleted => !is_whole,
            Content::Value { version, place, is_anew, .. } => {
                self.from < *version
                    && *version <= self.to
                    && place.version <= version.0
                    && !(is_whole && *is_anew)
            }
        }
    }
}

/// The records of a block, read one by one: a block of hostile bytes could claim more of them than memory holds.
#[derive(Debug)]
pub(crate) struct Block {
    plain: Bytes,
    /// Where the next record begins.
    at: usize,
    /// The key of the record before it, if there is one.
    key: Option<Arc<str>>,
    /// What the first key must be, where that is said elsewhere.
    first: Option<Arc<str>>,
    /// The next block's first key.
    below: Option<Arc<str>>,
    span: Span,
}

impl Block {
    /// A block whose hash was checked, and what the index says of its first key and of the next block's.
    pub fn new(plain: Bytes, first: Arc<str>, below: Option<Arc<str>>, span: Span) -> Self {
        Self { plain, at: 0, key: None, first: Some(first), below, span }
    }

    /// Records that stand alone, behind a key.
    pub fn behind(plain: Bytes, key: Option<Arc<str>>, span: Span) -> Self {
        Self { plain, at: 0, key, first: None, below: None, span }
    }

    /// The next record.
    pub fn next(&mut self) -> Result<Option<Record>, Damage> {
        if self.at == self.plain.len() {
            return Ok(None);
        }
        let mut input = Input(&self.plain[self.at..]);
        let kind = input.u8()?;
        let key = input.key()?;
        let follows = self.key.as_ref().is_none_or(|before| key > &**before);
        let begins = self.at > 0 || self.first.as_ref().is_none_or(|first| key == &**first);
        if !follows || !begins || self.below.as_ref().is_some_and(|below| key >= &**below) {
            return Err("a key that is out of order");
        }
        let content = match kind {
            DELETED => Content::Deleted,
            VALUE | VALUE_ANEW | VALUE_EXPIRES | VALUE_ANEW_EXPIRES => {
                let version = Version(input.u64()?);
                let at = Timestamp(input.u64()? as i64);
                let place = Place { version: input.u64()?, index: input.u32()? };
                let expiry = match kind {
                    VALUE | VALUE_ANEW => None,
                    _ => Some(input.expiry()?),
                };
                let length = input.u32()? as usize;
                let json = self.owned(input.take(length)?);
                let is_anew = [VALUE_ANEW, VALUE_ANEW_EXPIRES].contains(&kind);
                Content::Value { json, version, at, place, expiry, is_anew }
            }
            _ => return Err("a record of an unknown kind"),
        };
        if !self.span.allows(&content) {
            return Err("a record of another snapshot");
        }
        let key: Arc<str> = key.into();
        self.at = self.plain.len() - input.0.len();
        self.key = Some(Arc::clone(&key));
        Ok(Some(Record { key, content }))
    }

    fn owned(&self, json: &[u8]) -> Bytes {
        apart(self.plain.slice_ref(json), self.plain.len())
    }
}

/// A document, copied if it is a small part of so many bytes that it was read with: while it stays in memory it should not keep them all there.
pub(crate) fn apart(json: Bytes, bytes: usize) -> Bytes {
    if json.len() < bytes / 2 { Bytes::copy_from_slice(&json) } else { json }
}
