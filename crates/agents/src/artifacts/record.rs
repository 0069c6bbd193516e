//! What is said of an artifact, and of whom it is.

use icecore_log::{Error, ErrorKind, Result};
use icecore_store::Log;
use icecore_store::state::{Document, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::names;

/// How the keys of all records begin.
pub(super) const RECORDS: &str = "a/";
/// How the keys begin of what says in which order they were used.
pub(super) const USES: &str = "u/";
/// How many hexadecimal digits of the content's hash are in an id.
const ID_DIGITS: usize = 12;

/// Whose an artifact is. A tenant and a user are those that the runtime tells apart, within the store's tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The runtime's tenant, if it has such.
    pub tenant: Option<Vec<u8>>,
    /// The user, if it is known.
    pub user: Option<Vec<u8>>,
    /// The session.
    pub session: Vec<u8>,
}

impl Owner {
    /// A session whose user is not known.
    pub fn session(session: impl Into<Vec<u8>>) -> Self {
        Self { tenant: None, user: None, session: session.into() }
    }

    /// Names it within its session.
    pub(super) fn key(&self) -> String {
        names::joined(&[self.tenant.as_deref(), self.user.as_deref()])
    }
}

/// What is said of an artifact when it is stored.
#[derive(Debug, Clone)]
pub struct What {
    /// What it belongs to, such as the name of a tool; its id begins so.
    pub namespace: Option<Vec<u8>>,
    /// The trace that made it, which has limits of its own.
    pub trace: Option<Vec<u8>>,
    /// All else: a JSON object of the caller's, which comes back as it is.
    pub about: Json,
}

/// An artifact's record, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its id: the namespace, and the beginning of the content's hash.
    pub id: String,
    /// The length of its content.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
    /// The key of its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// When it was stored, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it is gone; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// Names the blobs that hold its content.
    pub(super) body: String,
    /// The SHA-256 of each of them.
    pub(super) parts: Vec<String>,
    /// What the caller says of it.
    pub about: Box<RawValue>,
}

impl Record {
    pub(super) fn read(log: &Log, document: &Document) -> Result<Self> {
        document.read().map_err(|error| {
            Error::new(ErrorKind::Corrupt, "reading an artifact")
                .with("log", log.id())
                .with("version", document.version)
                .because(error)
                .advise("The document is no record of an artifact")
        })
    }

    /// Whether it has not expired.
    pub(super) fn is_there(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|expires| now_ms <= expires)
    }
}

/// The owner and the id in a record's key.
pub(super) fn owner_and_id(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(RECORDS)?.rsplit_once('/')
}

/// The id of content in a namespace: as Penguiflow makes it.
pub fn id(namespace: Option<&[u8]>, sha256: &str) -> String {
    let namespace = namespace.map(sanitized).filter(|namespace| !namespace.is_empty());
    format!("{}_{}", namespace.as_deref().unwrap_or("art"), &sha256[..ID_DIGITS.min(sha256.len())])
}

/// Runs of anything but `A–Z a–z 0–9 _ -` become `_`; `_` and `-` at the ends go.
fn sanitized(namespace: &[u8]) -> String {
    let mut text = String::with_capacity(namespace.len());
    let mut is_run = false;
    for byte in namespace {
        if is_plain(*byte) {
            text.push(char::from(*byte));
        } else if !is_run {
            text.push('_');
        }
        is_run = !is_plain(*byte);
    }
    text.trim_matches(['_', '-']).to_owned()
}

/// Whether an artifact could have this id.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use icecore_log::Hash;

    use super::*;

    #[test]
    fn an_id_is_the_namespace_and_the_hash() {
        let of = |namespace: &str| id(Some(namespace.as_bytes()), &Hash::of(b"x").to_string());
        assert_eq!(id(None, &Hash::of(b"x").to_string()), "art_2d711642b726");
        assert_eq!(of(""), "art_2d711642b726");
        assert_eq!(of("observation.web fetch"), "observation_web_fetch_2d711642b726");
        assert_eq!(of("_-a-b_c-_"), "a-b_c_2d711642b726");
        assert_eq!(of("../.."), "art_2d711642b726");
        assert_eq!(of("a日本b"), "a_b_2d711642b726");
        assert_eq!(of("a._.b"), "a___b_2d711642b726");
    }

    #[test]
    fn owners_are_not_mixed_up() {
        let key = |tenant: Option<&str>, user: Option<&str>| {
            let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
            Owner { tenant: bytes(tenant), user: bytes(user), session: b"s".to_vec() }.key()
        };
        assert_ne!(key(Some("a"), None), key(None, Some("a")));
        assert_ne!(key(Some("a\",\"b"), None), key(Some("a"), Some("b")));
        let odd = format!("{RECORDS}{}/art_1", key(Some("a/b"), Some("/")));
        assert_eq!(owner_and_id(&odd), Some((r#"["a/b","/"]"#, "art_1")));
    }
}
