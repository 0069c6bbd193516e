//! The events that change documents.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Event, Result};
use serde_json::value::RawValue;

/// Kinds that begin so are ours.
pub(crate) const RESERVED: &str = "icecore.";
const PUT: &str = "icecore.document.put";
const PATCH: &str = "icecore.document.patch";
const DELETE: &str = "icecore.document.delete";
/// Says that a log was set back to an earlier version; the events beside it do it.
pub(crate) const ROLLBACK: &str = "icecore.rollback";
/// Says where a log's first state came from.
pub(crate) const FORK: &str = "icecore.fork";
/// Where an event's document is named, in what describes it.
const KEY: &str = "key";
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// A change of a document, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DocumentEvent {
    Put { key: String, json: Bytes },
    Patch { key: String, patch: Bytes },
    Delete { key: String },
}

impl DocumentEvent {
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Patch { key, .. } | Self::Delete { key } => key,
        }
    }

    pub fn into_event(self) -> Event {
        let (kind, key, data) = match self {
            Self::Put { key, json } => (PUT, key, json),
            Self::Patch { key, patch } => (PATCH, key, patch),
            Self::Delete { key } => (DELETE, key, Bytes::from_static(b"null")),
        };
        Event { meta: [(KEY.to_owned(), key)].into(), ..Event::new(kind, data) }
    }

    /// `None` if the event changes no document.
    pub fn of(event: &Event) -> Option<Self> {
        let key = event.meta.get(KEY).cloned().unwrap_or_default();
        match event.kind.as_str() {
            PUT => Some(Self::Put { key, json: event.data.clone() }),
            PATCH => Some(Self::Patch { key, patch: event.data.clone() }),
            DELETE => Some(Self::Delete { key }),
            _ => None,
        }
    }
}

/// What is wrong with events of our own kinds, before they are appended: a state is then never in doubt about what they mean.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the kind is one that we do not know, the key is empty or too long, or the data is no JSON.
pub(crate) fn check(event: &Event) -> Result<()> {
    if !event.kind.starts_with(RESERVED) {
        return Ok(());
    }
    let invalid = |advice: &str| {
        let kind: String = event.kind.chars().take(40).collect();
        Err(Error::new(ErrorKind::Invalid, "changing a document").with("kind", kind).advise(advice))
    };
    check_json(&event.data)?;
    match DocumentEvent::of(event) {
        Some(change) => check_key(change.key()),
        None if [ROLLBACK, FORK].contains(&event.kind.as_str()) => Ok(()),
        None => invalid("Kinds that begin with icecore. are Icecore's own: name another"),
    }
}

/// # Errors
/// [`ErrorKind::Invalid`] if it is empty or longer than [`KEY_BYTES_MAX`].
pub(crate) fn check_key(key: &str) -> Result<()> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "changing a document")
        .with("key_bytes", key.len())
        .with("key_bytes_max", KEY_BYTES_MAX)
        .advise("A document's key is some text"))
}

const PRIVATE: &[u8] = b"$serde_json::private::";

/// # Errors
/// [`ErrorKind::Invalid`] if it is no JSON value.
pub(crate) fn check_json(json: &[u8]) -> Result<()> {
    // serde_json reads an object with such a member as something else.
    if json.windows(PRIVATE.len()).any(|bytes| bytes == PRIVATE) {
        return Err(Error::new(ErrorKind::Invalid, "changing a document")
            .advise("No member may be named $serde_json::private::…"));
    }
    // As a value, since that is how it is read when it is patched or compared.
    let read: std::result::Result<serde_json::Value, _> = serde_json::from_slice(json);
    let error = match read {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let is_deep = serde_json::from_slice::<&RawValue>(json).is_ok();
    let advice = if is_deep {
        "It is nested more than 127 deep, or holds half of a surrogate pair"
    } else {
        "A document is one JSON value"
    };
    Err(Error::new(ErrorKind::Invalid, "changing a document")
        .with("line", error.line())
        .with("column", error.column())
        .advise(advice))
}
