//! What a caller appends: entries, and the events in them.

use bytes::Bytes;
use std::collections::BTreeMap;

use crate::clock::{self, Entropy, Timestamp};
use crate::error::{Error, ErrorKind, Result};

/// The caller's id of an entry: 1 to 256 bytes, unique in its log. A repeated id with the same content is one append.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(Box<str>);

impl EntryId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Takes any text as an id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or longer than [`Self::BYTES_MAX`].
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() || id.len() > Self::BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "naming an entry")
                .with("id_bytes", id.len())
                .with("id_bytes_max", Self::BYTES_MAX));
        }
        Ok(Self(id.into()))
    }

    /// One that no other entry has: `~` and 32 hexadecimal digits.
    pub fn random(entropy: &dyn Entropy) -> Self {
        let number = u128::from_be_bytes(clock::random(entropy));
        Self(format!("~{number:032x}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One caller's append: an id and its events, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Makes a retry harmless. Without one, a retry appends again.
    pub id: Option<EntryId>,
    /// In order; at least one.
    pub events: Vec<Event>,
}

impl Entry {
    /// The most events in one entry.
    pub const EVENTS_MAX: usize = 65_536;
    /// The most bytes of one entry before compression: its events' data and all that describes them.
    pub const BYTES_MAX: usize = 64 << 20;

    /// An entry of one event, without an id.
    pub fn new(event: Event) -> Self {
        Self { id: None, events: vec![event] }
    }

    /// Gives it an id.
    #[must_use]
    pub fn with_id(mut self, id: EntryId) -> Self {
        self.id = Some(id);
        self
    }
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self::new(event)
    }
}

/// Something that happened. `kind` is an open set; `data` is kept to the byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// What happened, such as `node_success`.
    pub kind: String,
    /// The content, as it was given.
    pub data: Bytes,
    /// When it happened, if the caller says so; else it is read as the time of its commit.
    pub at: Option<Timestamp>,
    /// What `data` is; empty means `application/json`.
    pub content_type: String,
    /// The version of the caller's schema for this kind; 0 if there is none.
    pub schema_version: u32,
    /// Who did it.
    pub actor: String,
    /// The trace that it belongs to.
    pub trace: String,
    /// The node of a flow that it happened in.
    pub node: String,
    /// What it belongs to, across logs.
    pub correlation: String,
    /// The id of what caused it.
    pub causation: String,
    /// The persons that the data is about; later the unit of erasure.
    pub subjects: Vec<String>,
    /// Anything else.
    pub meta: BTreeMap<String, String>,
}

impl Event {
    /// An event of JSON data.
    pub fn new(kind: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), data: data.into(), ..Self::default() }
    }

    /// What `data` is.
    pub fn content_type(&self) -> &str {
        if self.content_type.is_empty() { "application/json" } else { &self.content_type }
    }
}
