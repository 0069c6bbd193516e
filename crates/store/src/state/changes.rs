//! What a transaction does, as data: changes of documents, events, and the conditions under which they are made.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;
use icecore_log::{Entry, EntryId, Error, ErrorKind, Event, LogId, Result, Timestamp, Version};
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::snapshot::{Place, Record};
use crate::state::check;
use crate::state::document::{Document, State};
use crate::state::edit;
use crate::state::event::{self, DocumentEvent};
use crate::state::merge::Merge;

/// A JSON value, as bytes that are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(pub(crate) Bytes);

impl Json {
    /// Takes the text of a JSON value, which is kept to the byte: numbers as they are written, members in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no JSON value, or nested more than 127 deep.
    pub fn text(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        check::check_json(&text)?;
        Ok(Self(text))
    }

    /// Writes a value of the caller's as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be, such as a map whose keys are no strings. JSON has no NaN: it is written as null.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|_| {
            Error::new(ErrorKind::Invalid, "changing a document")
                .advise("The value cannot be written as JSON")
        })?;
        Self::text(text)
    }

    /// The value as a type of the caller's.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        // What serde says may repeat the value, so only the place is told.
        serde_json::from_slice(&self.0).map_err(|error| {
            Error::new(ErrorKind::Invalid, "reading a value")
                .with("line", error.line())
                .with("column", error.column())
                .advise("It is not of the type that is asked for")
        })
    }

    /// Its text.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// As it is, to the byte.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl TryFrom<&str> for Json {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::text(text.to_owned())
    }
}

/// What must hold when a transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The log's last commit is this version; zero if it has none.
    Log(Version),
    /// This version changed the document last.
    Document {
        /// Its key.
        key: String,
        /// The version.
        version: Version,
    },
    /// There is no such document.
    Absent(String),
    /// There is such a document.
    Exists(String),
}

impl Condition {
    /// What was found instead, if it does not hold.
    fn failed(&self, state: &State) -> Option<Version> {
        let (found, holds) = match self {
            Self::Log(version) => (state.version, state.version == *version),
            Self::Document { key, version } => {
                (state.version_of(key), state.get(key).is_some() && state.version_of(key) == *version)
            }
            Self::Absent(key) => (state.version_of(key), state.get(key).is_none()),
            Self::Exists(key) => (Version::ZERO, state.get(key).is_some()),
        };
        (!holds).then_some(found)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(version) => write!(f, "log at {version}"),
            Self::Document { key, version } => write!(f, "{key} at {version}"),
            Self::Absent(key) => write!(f, "{key} absent"),
            Self::Exists(key) => write!(f, "{key} exists"),
        }
    }
}

/// Checks every condition; the error names each that does not hold, as `failed`, and what was found, as `found`: the version that
/// changed the document last, or the log's last; zero if there is none.
pub(crate) fn check(log: &LogId, conditions: &[Condition], state: &State) -> Result<()> {
    let mut error: Option<Error> = None;
    for condition in conditions {
        if let Some(found) = condition.failed(state) {
            let one = error.take().unwrap_or_else(|| conflict(log));
            error = Some(one.with("failed", condition).with("found", found));
        }
    }
    error.map_or(Ok(()), |error| Err(error.advise("Read the state, decide again, and retry")))
}

/// Checks that every merge finds what it can be merged into, each after what comes before it; the error names each that does not, as [`check`] does conditions. `now` is when
/// they are committed, if the state does not say by when it is seen.
pub(crate) fn check_merges(log: &LogId, changes: &Changes, state: &State, now: Timestamp) -> Result<()> {
    let keys = changes.merged_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let mut after = state.without_documents();
    for key in &keys {
        let content = state.content(key, false).into_iter();
        content.for_each(|content| after.take_in(Record { key: (&**key).into(), content }));
    }
    let at = state.judged().map_or_else(|| state.next_at(now), |judged| judged.at);
    after.life.use_at(at, state.version);
    let mut error: Option<Error> = None;
    let own = changes.events.iter().filter_map(DocumentEvent::of);
    for change in own.filter(|change| keys.contains(change.key())) {
        let (key, mut merge) = (change.key().to_owned(), String::new());
        if let DocumentEvent::Merge { merge: one, .. } = &change {
            one.check()?;
            merge = one.to_string();
        }
        let place = Place { version: state.version.next().0, index: 0 };
        let is_merge = matches!(change, DocumentEvent::Merge { .. });
        if !after.apply(change, place, at)? && is_merge {
            let one = error.take().unwrap_or_else(|| conflict(log));
            error = Some(one.with("failed", format!("{key} {merge}")).with("found", state.version_of(&key)));
        }
    }
    error.map_or(Ok(()), |error| {
        Err(error
            .advise("What is there is something else than it can be merged into: read it, and decide again"))
    })
}

fn conflict(log: &LogId) -> Error {
    Error::new(ErrorKind::Conflict, "changing a log's state").with("log", log)
}

/// Changes of one log, committed together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub(crate) id: Option<EntryId>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) events: Vec<Event>,
    actor: String,
    trace: String,
    /// An event of one of our own kinds was made by somebody else: what its data is was not looked at.
    pub(crate) is_foreign: bool,
}

impl Changes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a document.
    #[must_use]
    pub fn put(self, key: impl Into<String>, json: Json) -> Self {
        self.change(DocumentEvent::Put { key: key.into(), json: json.0 })
    }

    /// Patches a document by a JSON merge patch; one that is not there is made. Source: RFC 7396.
    #[must_use]
    pub fn patch(self, key: impl Into<String>, patch: Json) -> Self {
        self.change(DocumentEvent::Patch { key: key.into(), patch: patch.0 })
    }

    /// Deletes a document, if it is there.
    #[must_use]
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.change(DocumentEvent::Delete { key: key.into() })
    }

    /// Merges something into a document; one that is not there is made.
    #[must_use]
    pub fn merge(self, key: impl Into<String>, merge: Merge) -> Self {
        self.change(DocumentEvent::Merge { key: key.into(), merge })
    }

    /// Adds an event that changes no document.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.is_foreign |= event.kind.starts_with(event::RESERVED);
        self.push(event)
    }

    /// Only if this holds.
    #[must_use]
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Makes a retry harmless: what was committed under this id is not committed again, whatever the state is then.
    #[must_use]
    pub fn with_id(mut self, id: EntryId) -> Self {
        self.id = Some(id);
        self
    }

    /// Who does it: of every change that does not say so itself.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// The trace that it belongs to: of every change that does not say so itself.
    #[must_use]
    pub fn in_trace(mut self, trace: impl Into<String>) -> Self {
        self.trace = trace.into();
        self
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn change(self, change: DocumentEvent) -> Self {
        self.push(change.into_event())
    }

    pub(crate) fn push(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// What is appended for them: an entry, which knows nothing of their conditions.
    pub fn entry(&self) -> Entry {
        let described = |event: &Event| {
            let or = |own: &str, all: &str| if own.is_empty() { all.to_owned() } else { own.to_owned() };
            Event {
                actor: or(&event.actor, &self.actor),
                trace: or(&event.trace, &self.trace),
                ..event.clone()
            }
        };
        Entry { id: self.id.clone(), events: self.events.iter().map(described).collect() }
    }

    /// The documents into which something is merged.
    pub(crate) fn merged_keys(&self) -> BTreeSet<String> {
        let merges = self.events.iter().filter(|event| event::is_merge(event)).filter_map(DocumentEvent::of);
        merges.map(|merge| merge.key().to_owned()).collect()
    }

    /// Whether it seems that a merge would change nothing, as far as that is told without much looking: its document is another in this state.
    pub(crate) fn seem_refused_by(&self, state: &State) -> bool {
        if !self.events.iter().any(event::is_merge) {
            return false;
        }
        let mut seen = BTreeSet::new();
        self.events.iter().filter_map(DocumentEvent::of).any(|change| {
            let is_first = seen.insert(change.key().to_owned());
            let DocumentEvent::Merge { key, merge } = change else { return false };
            is_first && state.would_apply(&key, &merge) == Some(false)
        })
    }

    /// The documents whose one change is a put of a value of at least so many bytes; when it expires may be said behind it.
    pub(crate) fn large_puts(&self, bytes_min: usize) -> BTreeSet<String> {
        // Most changes are small, and need not be looked at.
        if self.events.iter().all(|event| event.data.len() < bytes_min) {
            return BTreeSet::new();
        }
        let mut large = HashMap::new();
        for change in self.events.iter().filter_map(DocumentEvent::of) {
            let is_large = matches!(&change, DocumentEvent::Put { json, .. } if json.len() >= bytes_min);
            if matches!(&change, DocumentEvent::Expire { .. }) && large.contains_key(change.key()) {
                continue;
            }
            large.entry(change.key().to_owned()).and_modify(|large| *large = false).or_insert(is_large);
        }
        large.into_iter().filter(|(_, is_large)| *is_large).map(|(key, _)| key).collect()
    }

    /// Their entry as it may be stored behind this state: a value that differs little from the one before is an edit of that.
    /// `None` if there is none such.
    pub(crate) fn shortened(&self, entry: &Entry, before: &State, bytes_max: usize) -> Option<Entry> {
        let large = self.large_puts(edit::VALUE_BYTES_MIN);
        if large.is_empty() {
            return None;
        }
        let shortened = |(at, event): (usize, &Event)| {
            let change = DocumentEvent::of(event).filter(|change| large.contains(change.key()))?;
            // What is said of its expiry stays as it is.
            if !matches!(change, DocumentEvent::Put { .. }) {
                return None;
            }
            let Document { json, version, .. } = before.get(change.key())?;
            let beside = event::what_is_beside(&entry.events[..at]);
            let edit = edit::encode(json, *version, &event.data, &beside)
                .filter(|_| event.data.len() <= bytes_max)?;
            let edit = DocumentEvent::Edit { key: change.key().to_owned(), edit, beside }.into_event();
            Some(Event { kind: edit.kind, data: edit.data, ..event.clone() })
        };
        let edits: Vec<_> = entry.events.iter().enumerate().map(shortened).collect();
        edits.iter().any(Option::is_some).then(|| {
            let events = edits.into_iter().zip(&entry.events);
            let events = events.map(|(edit, event)| edit.unwrap_or_else(|| event.clone())).collect();
            Entry { id: entry.id.clone(), events }
        })
    }
}
