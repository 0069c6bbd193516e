//! The events that change documents.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Event, Result};
use serde_json::Value;

use crate::state::check::check_json;
use crate::state::edit;
use crate::state::merge::{Merge, Operation};

/// Kinds that begin so are ours.
pub(crate) const RESERVED: &str = "icecore.";
const PUT: &str = "icecore.document.put";
const PATCH: &str = "icecore.document.patch";
const EDIT: &str = "icecore.document.edit";
const DELETE: &str = "icecore.document.delete";
/// Says when a document expires.
pub(crate) const EXPIRE: &str = "icecore.document.expire";
const TOUCH: &str = "icecore.document.touch";
/// Says when the log expires.
pub(crate) const LOG_EXPIRE: &str = "icecore.log.expire";
/// Says that the events beside it remove what was due.
pub(crate) const EXPIRED: &str = "icecore.expired";
/// How the kinds of merges begin; their operations follow.
const DOCUMENT: &str = "icecore.document.";
/// Says that a log was set back to an earlier version; the events beside it do it.
pub(crate) const ROLLBACK: &str = "icecore.rollback";
/// Says where a log's first state came from.
pub(crate) const FORK: &str = "icecore.fork";
/// Where an event's document is named, in what describes it.
const KEY: &str = "key";
/// The part of the document that a merge is about, in what describes it; not there if it is the whole.
const POINTER: &str = "pointer";
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// A change of a document, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DocumentEvent {
    Put {
        key: String,
        json: Bytes,
    },
    Patch {
        key: String,
        patch: Bytes,
    },
    /// A put of what an earlier value differs little from.
    Edit {
        key: String,
        edit: Bytes,
        /// What else it was made of, if it was.
        beside: Bytes,
    },
    Delete {
        key: String,
    },
    Merge {
        key: String,
        merge: Merge,
    },
    /// Says when the document is gone by itself.
    Expire {
        key: String,
        expiry: Bytes,
    },
    /// Renews a document whose expiry is sliding.
    Touch {
        key: String,
    },
}

impl DocumentEvent {
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. }
            | Self::Patch { key, .. }
            | Self::Edit { key, .. }
            | Self::Delete { key }
            | Self::Merge { key, .. }
            | Self::Expire { key, .. }
            | Self::Touch { key } => key,
        }
    }

    pub fn into_event(self) -> Event {
        let (kind, key, data) = match self {
            Self::Put { key, json } => (PUT, key, json),
            Self::Patch { key, patch } => (PATCH, key, patch),
            Self::Edit { key, edit, .. } => (EDIT, key, edit),
            Self::Delete { key } => (DELETE, key, Bytes::from_static(b"null")),
            Self::Expire { key, expiry } => (EXPIRE, key, expiry),
            Self::Touch { key } => (TOUCH, key, Bytes::from_static(b"null")),
            Self::Merge { key, merge: Merge { operation, pointer, operand } } => {
                let kind = format!("{DOCUMENT}{}", operation.name());
                let pointer = (!pointer.is_empty()).then(|| (POINTER.to_owned(), pointer));
                let meta = std::iter::once((KEY.to_owned(), key)).chain(pointer).collect();
                return Event { meta, ..Event::new(kind, operand) };
            }
        };
        Event { meta: [(KEY.to_owned(), key)].into(), ..Event::new(kind, data) }
    }

    /// `None` if the event changes no document. What stands beside an edit is not in it: see [`changes`].
    pub fn of(event: &Event) -> Option<Self> {
        let key = event.meta.get(KEY).cloned().unwrap_or_default();
        match event.kind.as_str() {
            PUT => Some(Self::Put { key, json: event.data.clone() }),
            PATCH => Some(Self::Patch { key, patch: event.data.clone() }),
            EDIT => Some(Self::Edit { key, edit: event.data.clone(), beside: Bytes::new() }),
            DELETE => Some(Self::Delete { key }),
            EXPIRE => Some(Self::Expire { key, expiry: event.data.clone() }),
            TOUCH => Some(Self::Touch { key }),
            kind => {
                let operation = operation(kind)?;
                let pointer = event.meta.get(POINTER).cloned().unwrap_or_default();
                Some(Self::Merge { key, merge: Merge { operation, pointer, operand: event.data.clone() } })
            }
        }
    }

    /// Whether what it comes to depends on the value before.
    pub fn is_part(&self) -> bool {
        !matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    /// Whether it may do nothing, so that only the state before it tells what it did.
    pub fn may_do_nothing(&self) -> bool {
        matches!(self, Self::Merge { .. } | Self::Expire { .. } | Self::Touch { .. })
    }
}

fn operation(kind: &str) -> Option<Operation> {
    Operation::of(kind.strip_prefix(DOCUMENT)?)
}

pub(crate) fn is_merge(event: &Event) -> bool {
    operation(&event.kind).is_some()
}

/// The changes that the events of an entry make, each with the place of its event.
pub(crate) fn changes(events: &[Event]) -> impl Iterator<Item = (usize, DocumentEvent)> {
    events.iter().enumerate().filter_map(|(at, event)| {
        let mut change = DocumentEvent::of(event)?;
        if let DocumentEvent::Edit { edit, beside, .. } = &mut change
            && edit::is_made_of_what_is_beside(edit)
        {
            *beside = what_is_beside(&events[..at]);
        }
        Some((at, change))
    })
}

/// What an edit may have in common with the events before it in its entry: what was appended, and then put into a document.
pub(crate) fn what_is_beside(before: &[Event]) -> Bytes {
    let near = before.iter().rev().take(BESIDE_EVENTS_MAX).filter(|event| !event.kind.starts_with(RESERVED));
    let (mut beside, mut left) = (Vec::new(), BESIDE_BYTES_MAX);
    for event in near {
        let data = &event.data[event.data.len().saturating_sub(left)..];
        left -= data.len();
        beside.push(data);
    }
    beside.reverse();
    beside.concat().into()
}

const BESIDE_EVENTS_MAX: usize = 64;
const BESIDE_BYTES_MAX: usize = 64 << 10;

/// About how many bytes of these events change documents.
pub(crate) fn document_bytes(events: &[Event]) -> u64 {
    let changes = events.iter().filter(|event| event.kind.starts_with(DOCUMENT));
    changes.map(|event| (event.data.len() + DESCRIBED_BYTES) as u64).sum()
}

/// What describes a change takes about so much.
const DESCRIBED_BYTES: usize = 48;

/// What is wrong with events of our own kinds, before they are appended: a state is then never in doubt about what they mean.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the kind is one that we do not know, the key is empty or too long, or the data is no JSON.
pub(crate) fn check(event: &Event) -> Result<()> {
    if event.kind.starts_with(RESERVED) {
        check_json(&event.data)?;
    }
    check_kind(event)
}

/// As [`check`], where the data is known to be JSON.
pub(crate) fn check_kind(event: &Event) -> Result<()> {
    if !event.kind.starts_with(RESERVED) {
        return Ok(());
    }
    let invalid = |advice: &str| {
        let kind: String = event.kind.chars().take(40).collect();
        Err(Error::new(ErrorKind::Invalid, "changing a document").with("kind", kind).advise(advice))
    };
    match DocumentEvent::of(event) {
        Some(DocumentEvent::Edit { .. }) => {
            invalid("Put the document: how that is stored is Icecore's own matter")
        }
        Some(change) => {
            check_key(change.key())?;
            if let DocumentEvent::Merge { merge, .. } = change { merge.check().map(drop) } else { Ok(()) }
        }
        None if [ROLLBACK, FORK, LOG_EXPIRE, EXPIRED].contains(&event.kind.as_str()) => Ok(()),
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

/// A stored value. It was checked when it was appended; but a log may have been copied, or written by somebody else.
pub(crate) fn read(json: &[u8]) -> Result<Value> {
    check_json(json).ok().and_then(|()| serde_json::from_slice(json).ok()).ok_or_else(unreadable)
}

pub(crate) fn unfitting() -> Error {
    Error::new(ErrorKind::Corrupt, "reading a log's state")
        .with("because", "an edit was made of a value that the document did not have")
}

pub(crate) fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "reading a log's state").advise("A document's event holds no JSON")
}
