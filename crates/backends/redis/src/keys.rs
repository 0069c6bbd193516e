//! The names of keys and the checks of values; `docs/formats/redis.md` is their specification.

use bytes::Bytes;
use icecore_log::{BlobId, LogId, Version};

/// A store's keys are in so many groups, each of which is on one node of a cluster.
pub(crate) const BUCKETS: u16 = 1_024;
/// Versions are whole numbers in the server's scripts up to here.
pub(crate) const VERSION_MAX: u64 = 1 << 53;
/// Bytes before every value.
pub(crate) const CHECK_BYTES: usize = 4;

/// One of the groups of keys: its number stands in braces, so that a cluster keeps them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bucket(pub u16);

impl Bucket {
    /// Where the store's own key is.
    pub const STORE: Self = Self(0);

    pub fn of(log: &LogId) -> Self {
        Self((crc32fast::hash(log.as_str().as_bytes()) % u32::from(BUCKETS)) as u16)
    }

    /// The slot of a cluster that holds these keys: CRC-16 (XMODEM) of what stands in braces.
    pub fn slot(self) -> u16 {
        let mut crc = 0_u16;
        for byte in self.0.to_string().bytes() {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            }
        }
        crc % 16_384
    }
}

/// The keys below a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys(pub String);

impl Keys {
    fn key(&self, bucket: Bucket, rest: std::fmt::Arguments<'_>) -> Bytes {
        format!("{}:{{{}}}:{rest}", self.0, bucket.0).into()
    }

    /// What says that this is a store, and of which format.
    pub fn store(&self) -> Bytes {
        self.key(Bucket::STORE, format_args!("store"))
    }

    /// What is written when a store is opened to see who confirms it; it expires.
    pub fn probe(&self, bucket: Bucket) -> Bytes {
        self.key(bucket, format_args!("probe"))
    }

    /// A log: a hash.
    pub fn log(&self, log: &LogId) -> Bytes {
        self.key(Bucket::of(log), format_args!("c:{log}"))
    }

    /// The names of a bucket's logs: a sorted set, all with one score.
    pub fn names(&self, bucket: Bucket) -> Bytes {
        self.key(bucket, format_args!("i"))
    }

    /// The parts of something that is not there yet.
    pub fn staged(&self, bucket: Bucket, nonce: &str) -> Bytes {
        self.key(bucket, format_args!("s:{nonce}"))
    }

    /// The parts of a large body.
    pub fn large(&self, bucket: Bucket, nonce: &str) -> Bytes {
        self.key(bucket, format_args!("l:{nonce}"))
    }

    /// The names of a log's blobs, and their lengths: a hash.
    pub fn blobs(&self, log: &LogId) -> Bytes {
        self.key(Bucket::of(log), format_args!("n:{log}"))
    }

    /// The parts of a blob.
    pub fn blob(&self, blob: &BlobId) -> Bytes {
        self.key(Bucket::of(blob.log()), format_args!("o:{}:{}", blob.log(), blob.name()))
    }
}

/// A header or a body of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Header,
    Body,
}

/// The value of a header or a body: a check of what it is, where it belongs, and its bytes; then those bytes.
pub(crate) fn value(content: Content, log: &LogId, version: Version, bytes: &[u8]) -> Bytes {
    checked(check(content, log, version, bytes), bytes)
}

/// The bytes of a value; `None` if it is damaged.
pub(crate) fn content(content: Content, log: &LogId, version: Version, value: Vec<u8>) -> Option<Bytes> {
    unchecked(value, |bytes| check(content, log, version, bytes))
}

fn check(content: Content, log: &LogId, version: Version, bytes: &[u8]) -> u32 {
    let kind = match content {
        Content::Header => b'h',
        Content::Body => b'b',
    };
    crc(&[&[kind], log.as_str().as_bytes(), &version.0.to_le_bytes(), bytes])
}

/// The value of a part of a large body or a blob.
pub(crate) fn part(nonce: &str, number: u64, bytes: &[u8]) -> Bytes {
    checked(crc(&[nonce.as_bytes(), &number.to_le_bytes(), bytes]), bytes)
}

/// The bytes of a part; `None` if it is damaged.
pub(crate) fn part_content(nonce: &str, number: u64, value: Vec<u8>) -> Option<Bytes> {
    unchecked(value, |bytes| crc(&[nonce.as_bytes(), &number.to_le_bytes(), bytes]))
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn checked(check: u32, bytes: &[u8]) -> Bytes {
    [&check.to_le_bytes(), bytes].concat().into()
}

fn unchecked(value: Vec<u8>, check: impl FnOnce(&[u8]) -> u32) -> Option<Bytes> {
    let (found, bytes) = value.split_at_checked(CHECK_BYTES)?;
    let is_whole = *found == check(bytes).to_le_bytes();
    is_whole.then(|| Bytes::from(value).slice(CHECK_BYTES..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_on_the_slot_that_a_cluster_computes() {
        // As `CLUSTER KEYSLOT "{0}"` says, and so on.

        assert_eq!([0, 1, 1_023].map(|number| Bucket(number).slot()), [13_907, 9_842, 14_911]);
    }

    #[test]
    fn a_value_of_another_place_is_damaged() {
        let (log, other) =
            (LogId::new("acme", "session", "a").unwrap(), LogId::new("acme", "session", "b").unwrap());
        let stored = value(Content::Body, &log, Version(3), b"text").to_vec();

        assert_eq!(content(Content::Body, &log, Version(3), stored.clone()).as_deref(), Some(&b"text"[..]));
        assert_eq!(content(Content::Header, &log, Version(3), stored.clone()), None);
        assert_eq!(content(Content::Body, &log, Version(4), stored.clone()), None);
        assert_eq!(content(Content::Body, &other, Version(3), stored.clone()), None);
        assert_eq!(content(Content::Body, &log, Version(3), stored[..stored.len() - 1].to_vec()), None);
        assert_eq!(content(Content::Body, &log, Version(3), b"abc".to_vec()), None);
    }
}
