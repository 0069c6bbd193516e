//! Items: their keys, their attributes, and the checks of what they hold. `docs/formats/dynamodb.md` describes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use icecore_log::{BlobId, LogId, SystemEntropy, Version, clock};
use serde_json::{Map, Value, json};

/// An item as the interface has it: attributes by name, each a value with its type.
pub(crate) type Item = Map<String, Value>;

/// In how many partitions the names of a tenant's logs are.
pub(crate) const BUCKETS: u32 = 16;
/// The attributes of items that are numbers: what a table could be set to delete items by.
pub(crate) const NUMBERS: [&str; 7] = ["c", "f", "g", "m", "n", "q", "t"];
const CHECK_BYTES: usize = 4;

/// The sort key of what a log says of itself. It stands behind all commits, so that a query that reaches the end of a log has read it
/// after them, and one from the end finds it and the head.
pub(crate) const SELF: &str = "z";
/// Before the sort keys of all commits, and behind those of all parts.
pub(crate) const BEFORE_COMMITS: &str = "c";

/// The partitions below a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys(pub String);

impl Keys {
    /// The one item that says what this is.
    pub fn store(&self) -> Item {
        key(&format!("{}/s", self.0), "s")
    }

    /// A log's commits, the parts of their large bodies, and what it says of itself.
    pub fn log(&self, log: &LogId) -> String {
        format!("{}/l/{log}", self.0)
    }

    /// A log's blobs and their parts.
    pub fn blobs(&self, log: &LogId) -> String {
        format!("{}/o/{log}", self.0)
    }

    /// The names of the tenants.
    pub fn tenants(&self) -> String {
        format!("{}/t", self.0)
    }

    /// Some of the names of a tenant's logs.
    pub fn names(&self, tenant: &str, bucket: u32) -> String {
        format!("{}/i/{tenant}/{bucket:x}", self.0)
    }

    /// The item that makes a log be listed.
    pub fn name(&self, log: &LogId) -> Item {
        let bucket = crc(&[log.as_str().as_bytes()]) % BUCKETS;
        key(&self.names(tenant(log.as_str()), bucket), log.as_str())
    }
}

/// The tenant of an escaped name, or of its beginning.
pub(crate) fn tenant(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

pub(crate) fn key(partition: &str, sort: &str) -> Item {
    [("pk", string(partition)), ("sk", string(sort))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// The sort key of a commit. The greatest is below [`SELF`].
pub(crate) fn slot(version: Version) -> String {
    format!("c{:016x}", version.0)
}

/// What the sort keys of the parts of a commit's header and body begin with, whoever wrote them.
pub(crate) fn parts_of(version: Version) -> String {
    format!("b{:016x}/", version.0)
}

/// The version in a sort key of a commit or of a part.
pub(crate) fn version(sort: &str) -> Option<Version> {
    u64::from_str_radix(sort.get(1..17)?, 16).ok().map(Version)
}

/// The sort key of a blob.
pub(crate) fn blob(blob: &BlobId) -> String {
    format!("n{}", blob.name())
}

/// A name that nobody else gives.
pub(crate) fn nonce() -> String {
    format!("{:032x}", u128::from_le_bytes(clock::random(&SystemEntropy)))
}

pub(crate) fn string(text: impl ToString) -> Value {
    json!({ "S": text.to_string() })
}

pub(crate) fn number(number: u64) -> Value {
    json!({ "N": number.to_string() })
}

pub(crate) fn binary(bytes: &[u8]) -> Value {
    json!({ "B": STANDARD.encode(bytes) })
}

pub(crate) fn string_of<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.get("S")?.as_str()
}

pub(crate) fn number_of(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.get("N")?.as_str()?.parse().ok()
}

pub(crate) fn binary_of(item: &Item, name: &str) -> Option<Vec<u8>> {
    STANDARD.decode(item.get(name)?.get("B")?.as_str()?).ok()
}

/// What a checked value is, and where it belongs: the same bytes elsewhere fail the check.
#[derive(Debug, Clone)]
pub(crate) struct Place(Vec<u8>);

impl Place {
    pub fn header(log: &LogId, version: Version) -> Self {
        Self([&b"h"[..], &version.0.to_le_bytes(), log.as_str().as_bytes()].concat())
    }

    pub fn body(log: &LogId, version: Version) -> Self {
        Self([&b"b"[..], &version.0.to_le_bytes(), log.as_str().as_bytes()].concat())
    }

    pub fn blob(blob: &BlobId) -> Self {
        Self(format!("n{blob}").into_bytes())
    }

    pub fn part(nonce: &str, number: u64) -> Self {
        Self(format!("p{nonce}/{number}").into_bytes())
    }

    /// The bytes behind their check.
    pub fn value(&self, bytes: &[u8]) -> Value {
        binary(&[&crc(&[&self.0, bytes]).to_le_bytes(), bytes].concat())
    }

    /// The bytes of an attribute; `None` if there is none, or it is damaged.
    pub fn content(&self, item: &Item, name: &str) -> Option<Bytes> {
        let value = binary_of(item, name)?;
        let (check, bytes) = value.split_at_checked(CHECK_BYTES)?;
        let is_whole = *check == crc(&[&self.0, bytes]).to_le_bytes();
        is_whole.then(|| Bytes::from(value).slice(CHECK_BYTES..))
    }
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(key: &str) -> LogId {
        LogId::new("acme", "session", key).unwrap()
    }

    #[test]
    fn a_query_of_a_log_has_parts_then_commits_in_order_then_the_log_itself() {
        let mut keys = [
            SELF.to_owned(),
            slot(Version(u64::MAX)),
            slot(Version(256)),
            slot(Version(255)),
            slot(Version(1)),
            BEFORE_COMMITS.to_owned(),
            parts_of(Version(u64::MAX)) + "f",
        ];
        let expected: Vec<_> = keys.iter().rev().cloned().collect();
        keys.sort();

        assert_eq!(keys[..], expected);
        assert_eq!(version(&slot(Version(77))), Some(Version(77)));
        assert_eq!(version("c"), None);
    }

    #[test]
    fn a_value_of_another_place_is_damaged() {
        let place = Place::body(&log("a"), Version(3));
        let item: Item = [("b".to_owned(), place.value(b"text"))].into_iter().collect();

        assert_eq!(place.content(&item, "b").as_deref(), Some(&b"text"[..]));
        for other in [
            Place::header(&log("a"), Version(3)),
            Place::body(&log("a"), Version(4)),
            Place::body(&log("b"), Version(3)),
        ] {
            assert_eq!(other.content(&item, "b"), None, "{other:?}");
        }
        assert_eq!(place.content(&item, "c"), None);
    }

    #[test]
    fn the_longest_names_fit_into_keys() {
        let log = LogId::new("t", "k", &"x".repeat(LogId::BYTES_MAX - 4)).unwrap();
        let keys = Keys("p".repeat(crate::config::PREFIX_MAX));
        assert!(keys.log(&log).len() < 2_048 && keys.names(tenant(log.as_str()), 15).len() < 2_048);
        let blob = BlobId::new(log.clone(), &"b".repeat(BlobId::NAME_BYTES_MAX)).unwrap();
        for sort in [super::blob(&blob), log.to_string()] {
            assert!(sort.len() < 1_024);
        }
    }
}
