//! Documents, and the state that they make.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp, Version};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::snapshot::{Content, Place, Record};
use crate::state::edit::Edit;
use crate::state::event::{self, DocumentEvent};
use crate::state::merge::Merge;
use crate::state::passed::Passed;
use crate::state::places::Places;

/// A JSON value under a key in a log's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The value: as it was put, to the byte; after a patch as it follows, with every digit of its numbers.
    pub json: Bytes,
    /// The commit that changed it last.
    pub version: Version,
    /// When that was committed.
    pub at: Timestamp,
}

impl Document {
    /// The value.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if what is stored is no JSON, which is checked when it is written.
    pub fn value(&self) -> Result<Value> {
        event::read(&self.json).map_err(|error| error.with("version", self.version))
    }

    pub(crate) fn of(content: Content) -> Option<Self> {
        match content {
            Content::Value { json, version, at, .. } => Some(Self { json, version, at }),
            Content::Deleted => None,
        }
    }

    /// The value as a type of the caller's.
    ///
    /// ```
    /// # use icecore_store::{Store, state::Json};
    /// # use std::sync::Arc;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Store::new(Arc::new(icecore_embedded::Memory::default()));
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// struct Cart { items: Vec<String> }
    ///
    /// let log = store.log(icecore_log::LogId::new("acme", "session", "s-1")?);
    /// log.put("cart", Json::of(&Cart { items: vec!["tea".into()] })?).await?;
    /// let cart: Cart = log.document("cart").await?.unwrap().read()?;
    /// assert_eq!(cart.items, ["tea"]);
    /// # Ok::<_, icecore_log::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the value is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        // What serde says may repeat the value, so only the place is told.
        serde_json::from_slice(&self.json).map_err(|error| {
            Error::new(ErrorKind::Invalid, "reading a document")
                .with("version", self.version)
                .with("line", error.line())
                .with("column", error.column())
                .advise("Its value is not of the type that is asked for")
        })
    }
}

/// The documents of a log at a version.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The version; zero before the first commit.
    pub version: Version,
    /// When its last commit was made; `None` before the first.
    pub at: Option<Timestamp>,
    /// The hash of its last commit; zeros before the first.
    pub hash: Hash,
    documents: BTreeMap<Arc<str>, Placed>,
    bytes: usize,
    passed: Passed,
}

/// What is kept for speed makes no difference.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let all = |state: &Self| (state.version, state.at, state.hash);
        all(self) == all(other) && self.documents == other.documents
    }
}

impl Eq for State {}

/// A document, and its place among those of its log, in the order in which each was first put.
#[derive(Debug, Clone)]
struct Placed {
    document: Document,
    place: Place,
    /// What merges have found in its text.
    places: Places,
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        (&self.document, self.place) == (&other.document, other.place)
    }
}

impl Placed {
    fn bytes(&self) -> usize {
        self.document.json.len() + self.places.bytes()
    }
}

/// About what a document takes in memory beside its key and its value.
const DOCUMENT_BYTES: usize = 160;

impl State {
    /// None yet: the commit that comes next holds all.
    pub(crate) fn before(base: Version) -> Self {
        Self { version: base.previous(), ..Self::default() }
    }

    /// Goes on to the next commit.
    pub(crate) fn pass(&mut self, version: Version, at: Timestamp, hash: Hash) {
        self.passed.next(self.version, self.hash);
        (self.version, self.at, self.hash) = (version, Some(at), hash);
    }

    /// The hash of a commit that this state has come by, if it is still known.
    pub(crate) fn hash_at(&self, version: Version) -> Option<Hash> {
        if version == self.version { Some(self.hash) } else { self.passed.hash_at(version) }
    }

    /// A commit was found to be in this state's history.
    pub(crate) fn remember(&self, version: Version, hash: Hash) {
        self.passed.remember(version, hash);
    }

    /// A document, if there is one under this key.
    pub fn get(&self, key: &str) -> Option<&Document> {
        self.documents.get(key).map(|placed| &placed.document)
    }

    /// The documents whose keys begin so, in order of their keys.
    pub fn documents<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Document)> {
        self.after(prefix, None)
    }

    /// As [`State::documents`], behind a key: the next page, if that was the last of the page before.
    pub fn after<'a>(
        &'a self,
        prefix: &'a str,
        key: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a Document)> + use<'a> {
        let from = match key {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let found = self.documents.range::<str, _>((from, Bound::Unbounded));
        found
            .map(|(key, placed)| (&**key, &placed.document))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The documents in the order in which each was first put; one that was deleted and put again is behind those that were there.
    pub fn in_order(&self) -> Vec<(&str, &Document)> {
        let mut all: Vec<_> = self.documents.iter().collect();
        all.sort_by_key(|(_, placed)| placed.place);
        all.into_iter().map(|(key, placed)| (&**key, &placed.document)).collect()
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// With this document alone.
    pub(crate) fn only(&self, key: &str) -> Self {
        let mut only = self.without_documents();
        if let Some(content) = self.content(key, false) {
            only.take_in(Record { key: key.into(), content });
        }
        only
    }

    /// The version of a document; zero if there is none.
    pub(crate) fn version_of(&self, key: &str) -> Version {
        self.get(key).map_or(Version::ZERO, |document| document.version)
    }

    /// Forgets every document: a base holds the whole state.
    pub(crate) fn clear(&mut self) {
        (self.documents, self.bytes) = (BTreeMap::new(), 0);
    }

    /// What an event does to the documents. `place` is its commit, and which change it is in there. Whether it did something: a merge does nothing to
    /// what it cannot be merged into.
    pub(crate) fn apply(&mut self, event: DocumentEvent, place: Place, at: Timestamp) -> Result<bool> {
        match event {
            DocumentEvent::Put { key, json } => self.set(&key, json, place, at),
            DocumentEvent::Patch { key, patch } => {
                let patched = match self.get(&key) {
                    Some(document) => merged(document.value()?, &patch)?,
                    None => merged(Value::Null, &patch)?,
                };
                self.set(&key, patched, place, at);
            }
            DocumentEvent::Edit { key, edit, beside } => {
                let edit = Edit::parse(&edit)?;
                let placed =
                    self.documents.get_mut(&*key).filter(|placed| placed.document.version == edit.version);
                let Some(placed) = placed else {
                    return Err(event::unfitting());
                };
                self.bytes -= placed.bytes();
                placed.places = Places::default();
                edit.apply(&mut placed.document.json, &beside)?;
                self.bytes += placed.bytes();
                (placed.document.version, placed.document.at) = (Version(place.version), at);
            }
            DocumentEvent::Delete { key } => self.remove(&key),
            DocumentEvent::Merge { key, merge } => return self.merge(&key, &merge, place, at),
        }
        Ok(true)
    }

    fn merge(&mut self, key: &str, merge: &Merge, place: Place, at: Timestamp) -> Result<bool> {
        let Some(placed) = self.documents.get_mut(key) else {
            let mut json = Bytes::from_static(b"null");
            let is_done = merge.apply(&mut json, &mut Places::default())?;
            if is_done {
                self.set(key, json, place, at);
            }
            return Ok(is_done);
        };
        self.bytes -= placed.bytes();
        let done = merge.apply(&mut placed.document.json, &mut placed.places);
        self.bytes += placed.bytes();
        if let Ok(true) = done {
            (placed.document.version, placed.document.at) = (Version(place.version), at);
        }
        done
    }

    /// Whether a merge would do something; `None` if that takes long to tell.
    pub(crate) fn would_apply(&self, key: &str, merge: &Merge) -> Option<bool> {
        let Some(placed) = self.documents.get(key) else { return Some(true) };
        merge.would_apply(&placed.document.json, &placed.places)
    }

    /// None yet, at a version.
    pub(crate) fn at(version: Version, at: Timestamp, hash: Hash) -> Self {
        Self { version, at: Some(at), hash, ..Self::default() }
    }

    /// At the same version, with none.
    pub(crate) fn without_documents(&self) -> Self {
        Self { version: self.version, at: self.at, hash: self.hash, ..Self::default() }
    }

    /// Takes in what a snapshot says of a key that is not there yet.
    pub(crate) fn take_in(&mut self, record: Record) {
        if let Content::Value { json, version, at, place, .. } = record.content {
            self.bytes += record.key.len() + json.len() + DOCUMENT_BYTES;
            let document = Document { json, version, at };
            self.documents.insert(record.key, Placed { document, place, places: Places::default() });
        }
    }

    /// Every document, as a snapshot has it, in order of their keys.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.documents.iter().map(|(key, Placed { document: Document { json, version, at }, place, .. })| {
            Record {
                key: Arc::clone(key),
                content: Content::Value {
                    json: json.clone(),
                    version: *version,
                    at: *at,
                    place: *place,
                    is_anew: false,
                },
            }
        })
    }

    /// What a snapshot says of a document; `None` if there is none.
    pub(crate) fn content(&self, key: &str, is_anew: bool) -> Option<Content> {
        let Placed { document: Document { json, version, at }, place, .. } = self.documents.get(key)?;
        Some(Content::Value { json: json.clone(), version: *version, at: *at, place: *place, is_anew })
    }

    fn set(&mut self, key: &str, json: Bytes, place: Place, at: Timestamp) {
        self.bytes += json.len();
        let document = Document { json, version: Version(place.version), at };
        if let Some(placed) = self.documents.get_mut(key) {
            self.bytes -= placed.bytes();
            (placed.document, placed.places) = (document, Places::default());
            return;
        }
        self.bytes += key.len() + DOCUMENT_BYTES;
        self.documents.insert(key.into(), Placed { document, place, places: Places::default() });
    }

    fn remove(&mut self, key: &str) {
        if let Some(placed) = self.documents.remove(key) {
            self.bytes -= key.len() + placed.bytes() + DOCUMENT_BYTES;
        }
    }
}

/// A value after a JSON merge patch.
fn merged(mut value: Value, patch: &[u8]) -> Result<Bytes> {
    merge(&mut value, event::read(patch)?);
    Ok(serde_json::to_vec(&value).map_err(|_| event::unreadable())?.into())
}

/// Source: RFC 7396, section 2. Members keep their order, which the crate `json-patch` does not care for: two processes that fold
/// the same commits must come to the same bytes.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}
