//! The document of a commit: its name, its fields, and their checks.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, LogId, StoredCommit, Version};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

/// The most bytes of a header, which is never in parts.
pub(crate) const HEADER_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a body that stands in its commit's document, and of a part of a longer one: a document has 16 MiB at the most.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Sixteen digits sort as the numbers do.
pub(crate) fn digits(version: Version) -> String {
    format!("{:016x}", version.0)
}

pub(crate) fn version(digits: &str) -> Option<Version> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_number = digits.len() == 16 && digits.bytes().all(is_digit);
    is_number.then(|| u64::from_str_radix(digits, 16).ok().map(Version)).flatten()
}

pub(crate) fn id(log: &LogId, version: Version) -> String {
    format!("{log}/{}", digits(version))
}

/// The log and the version that an `_id` names.
pub(crate) fn named_by(id: &str) -> Option<(LogId, Version)> {
    let (log, digits) = id.rsplit_once('/')?;
    Some((LogId::parse(log).ok()?, version(digits)?))
}

/// The slots of a log, both ends included.
pub(crate) fn range(log: &LogId, first: Version, last: Version) -> Document {
    doc! {"_id": {"$gte": id(log, first), "$lte": id(log, last)}}
}

pub(crate) fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

pub(crate) fn crc(parts: &[&[u8]]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    i64::from(hasher.finalize())
}

/// A check of what it is, where it belongs, and its bytes.
fn check(kind: &[u8; 1], log: &LogId, version: Version, bytes: &[u8]) -> Bson {
    Bson::Int64(crc(&[kind, log.as_str().as_bytes(), &version.0.to_le_bytes(), bytes]))
}

pub(crate) fn is_large(commit: &StoredCommit) -> bool {
    commit.body.as_ref().is_some_and(|body| body.len() > PART_BYTES)
}

/// The document of a commit. A large body is named by `nonce`.
pub(crate) fn encode(log: &LogId, commit: &StoredCommit, nonce: &str) -> Document {
    let version = commit.version;
    let mut document = doc! {
        "_id": id(log, version),
        "s": commit.len() as i64,
        "h": binary(&commit.header),
        "hc": check(b"h", log, version, &commit.header),
    };
    match &commit.body {
        None => {}
        Some(body) if is_large(commit) => {
            document.insert("n", body.len() as i64);
            document.insert("k", nonce);
        }
        Some(body) => {
            document.insert("b", binary(body));
            document.insert("bc", check(b"b", log, version, body));
        }
    }
    document
}

/// The document of a slot that no commit may have any more: the log was closed through this before it had a commit.
pub(crate) fn encode_void(log: &LogId, slot: Version, through: Version) -> Document {
    doc! {"_id": id(log, slot), "s": 0_i64, "v": digits(through)}
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    Commit { version: Version, header: Bytes, body: Body },
    Void { version: Version, through: Version },
}

/// A body, as its document has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Dropped, or not asked for.
    None,
    Here(Bytes),
    /// In parts of this name, so many bytes.
    Parts {
        nonce: String,
        bytes: u64,
    },
}

impl Slot {
    pub fn version(&self) -> Version {
        match self {
            Self::Commit { version, .. } | Self::Void { version, .. } => *version,
        }
    }
}

fn bytes_of(document: &mut Document, field: &str) -> Option<Bytes> {
    match document.remove(field)? {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes }) => Some(bytes.into()),
        _ => None,
    }
}

/// Reads a document.
///
/// # Errors
/// [`ErrorKind::Corrupt`], with the version, if it is none that was written.
pub(crate) fn decode(log: &LogId, mut document: Document, doing: &'static str) -> Result<Slot, Error> {
    let digits = document.get_str("_id").ok().and_then(|id| id.rsplit_once('/')).map(|(_, digits)| digits);
    let number = digits.and_then(version).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, doing).with("log", log).advise("A document has no name of a commit")
    })?;
    let wrong = |what: &'static str| damaged(log, number, doing).with("found", what);
    if let Ok(through) = document.get_str("v") {
        let through = version(through).ok_or_else(|| wrong("a close of no number"))?;
        return Ok(Slot::Void { version: number, through });
    }
    let header = bytes_of(&mut document, "h").ok_or_else(|| wrong("no header"))?;
    if document.get("hc") != Some(&check(b"h", log, number, &header)) {
        return Err(wrong("the checksum of its header is wrong"));
    }
    let body = if let Ok(nonce) = document.get_str("k") {
        let bytes = document.get_i64("n").ok().and_then(|bytes| u64::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| wrong("a body of no length"))?;
        Body::Parts { nonce: nonce.to_owned(), bytes }
    } else if document.contains_key("b") {
        let body = bytes_of(&mut document, "b").ok_or_else(|| wrong("a body that is none"))?;
        if document.get("bc") != Some(&check(b"b", log, number, &body)) {
            return Err(wrong("the checksum of its body is wrong"));
        }
        Body::Here(body)
    } else {
        Body::None
    };
    Ok(Slot::Commit { version: number, header, body })
}

pub(crate) fn damaged(log: &LogId, version: Version, doing: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, doing).with("log", log).with("version", version)
}

/// What a hole in a log is told as.
pub(crate) fn missing(log: &LogId, version: Version, doing: &'static str) -> Error {
    damaged(log, version, doing).advise("The commit is missing and was not closed: restore it from a copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(key: &str) -> LogId {
        LogId::new("acme", "session", key).unwrap()
    }

    fn commit() -> StoredCommit {
        StoredCommit { version: Version(3), header: Bytes::from("header"), body: Some(Bytes::from("body")) }
    }

    #[test]
    fn a_document_reads_back_and_one_of_another_place_is_damaged() {
        let stored = encode(&log("a"), &commit(), "");

        let slot = decode(&log("a"), stored.clone(), "a").unwrap();
        let body = Body::Here(Bytes::from("body"));
        assert_eq!(slot, Slot::Commit { version: Version(3), header: Bytes::from("header"), body });
        assert_eq!(decode(&log("b"), stored.clone(), "a").unwrap_err().kind(), ErrorKind::Corrupt);
        for (field, value) in [
            ("_id", Bson::from(id(&log("a"), Version(4)))),
            ("_id", Bson::from("other")),
            ("h", binary(b"other!")),
            ("b", binary(b"bodz")),
            ("b", Bson::Int32(1)),
            ("bc", Bson::Int64(1)),
            ("hc", Bson::Null),
        ] {
            let mut changed = stored.clone();
            changed.insert(field, value);
            let found = decode(&log("a"), changed, "a");
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt, "{field}");
        }
    }

    #[test]
    fn names_sort_as_the_versions_do_and_are_read_in_one_form_only() {
        let versions = [0, 1, 9, 10, 255, 256, u64::MAX].map(Version);
        assert!(versions.map(digits).is_sorted());
        assert_eq!(versions.map(digits).map(|digits| version(&digits)), versions.map(Some));
        for wrong in ["", "1", "000000000000000A", "+000000000000001", "00000000000000001"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }
}
