//! Documents, and the state that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp, Version};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::snapshot::{Content, Place, Record};
use crate::state::edit::Edit;
use crate::state::event::{self, DocumentEvent};
use crate::state::expiry::{self, Expiry, Judged, Life};
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
    /// When it is gone by itself, if that was said of it. The log may have an expiry of its own: [`State::expiry`].
    pub expiry: Option<Expiry>,
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
            Content::Value { json, version, at, expiry, .. } => Some(Self { json, version, at, expiry }),
            Content::Deleted => None,
        }
    }

    /// From when on it is gone by its own expiry; `None` if it has none, or is pinned.
    pub fn due(&self) -> Option<Timestamp> {
        self.expiry?.due(self.at)
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
    /// All that are stored: also those that are due, until something takes them away.
    documents: Arc<BTreeMap<Arc<str>, Placed>>,
    /// Those that have an expiry of their own, by when that is due.
    dues: Arc<BTreeSet<(Timestamp, Arc<str>)>>,
    /// What the log's own expiry comes to.
    pub(crate) life: Life,
    /// Whoever looks sees what is there at this time; `None` shows what is stored.
    judged: Option<Timestamp>,
    bytes: usize,
    passed: Passed,
}

/// What is seen makes a difference, and what is kept for speed none.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let all = |state: &Self| (state.version, state.at, state.hash, state.life);
        all(self) == all(other) && self.seen().eq(other.seen())
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
    /// It was changed.
    fn renew(&mut self, place: Place, at: Timestamp) {
        (self.document.version, self.document.at) = (Version(place.version), at);
    }

    fn bytes(&self) -> usize {
        self.document.json.len() + self.places.bytes()
    }

    fn content(&self, is_anew: bool) -> Content {
        let Document { json, version, at, expiry } = &self.document;
        Content::Value {
            json: json.clone(),
            version: *version,
            at: *at,
            place: self.place,
            expiry: *expiry,
            is_anew,
        }
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
        self.documents.get(key).filter(|placed| self.sees(placed)).map(|placed| &placed.document)
    }

    fn sees(&self, placed: &Placed) -> bool {
        self.judged.is_none_or(|at| self.life.has(&placed.document, at))
    }

    fn seen(&self) -> impl Iterator<Item = (&Arc<str>, &Placed)> {
        self.documents.iter().filter(|(_, placed)| self.sees(placed))
    }

    /// Whether time alone may take something away, or has.
    fn has_expiry(&self) -> bool {
        !self.dues.is_empty() || self.life != Life::default()
    }

    /// As it is seen at a time.
    pub(crate) fn seen_at(self: &Arc<Self>, at: Timestamp) -> Arc<Self> {
        if self.has_expiry() {
            Arc::new(Self { judged: Some(at), ..self.as_ref().clone() })
        } else {
            Arc::clone(self)
        }
    }

    /// When the next commit is made, which is not before the last one.
    pub(crate) fn next_at(&self, now: Timestamp) -> Timestamp {
        self.at.map_or(now, |at| at.max(now))
    }

    /// By when it is seen, and until when it is seen so; `None` if time makes no difference.
    pub(crate) fn judged(&self) -> Option<Judged> {
        let at = self.judged?;
        let later = Timestamp(at.0.saturating_add(1));
        let next = self.dues.range((later, Arc::from(""))..).next().map(|(due, _)| *due);
        let log = self.life.due().filter(|due| *due > at);
        Some(Judged { at, until: [next, log].into_iter().flatten().min() })
    }

    /// When the next of those is due that are there at a time, or the log itself.
    pub(crate) fn next_due(self: &Arc<Self>, at: Timestamp) -> Option<Timestamp> {
        self.seen_at(at).judged()?.until
    }

    /// The keys of what is stored and not there at a time.
    pub(crate) fn expired(&self, at: Timestamp) -> Vec<String> {
        let is_gone = |(_, placed): &(&Arc<str>, &Placed)| !self.life.has(&placed.document, at);
        self.documents.iter().filter(is_gone).map(|(key, _)| key.to_string()).collect()
    }

    /// Where a document that is stored stands among the others.
    pub(crate) fn place(&self, key: &str) -> Option<Place> {
        self.documents.get(key).map(|placed| placed.place)
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
            .filter(|(_, placed)| self.sees(placed))
            .map(|(key, placed)| (&**key, &placed.document))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The documents in the order in which each was first put; one that was deleted and put again is behind those that were there.
    pub fn in_order(&self) -> Vec<(&str, &Document)> {
        let mut all: Vec<_> = self.seen().collect();
        all.sort_by_key(|(_, placed)| placed.place);
        all.into_iter().map(|(key, placed)| (&**key, &placed.document)).collect()
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        if self.judged.is_none() { self.documents.len() } else { self.seen().count() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.seen().next().is_none()
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
        (self.documents, self.dues, self.bytes) = (Arc::default(), Arc::default(), 0);
    }

    /// What an event does to the documents. `place` is its commit, and which change it is in there. Whether it did something: a merge does nothing to
    /// what it cannot be merged into. What has expired by `at` is not there.
    pub(crate) fn apply(&mut self, event: DocumentEvent, place: Place, at: Timestamp) -> Result<bool> {
        if !self.has_expiry() && !matches!(event, DocumentEvent::Expire { .. }) {
            return self.apply_to_what_is_stored(event, place, at);
        }
        let key = event.key().to_owned();
        let stored = self.documents.get_key_value(&*key);
        let before = stored.and_then(|(key, placed)| Some((placed.document.due()?, Arc::clone(key))));
        let is_gone = stored.is_some_and(|(_, placed)| !self.life.has(&placed.document, at));
        let is_done = if is_gone {
            self.apply_to_what_is_gone(event, place, at)
        } else {
            self.apply_to_what_is_stored(event, place, at)
        };
        let stored = self.documents.get_key_value(&*key);
        let after = stored.and_then(|(key, placed)| Some((placed.document.due()?, Arc::clone(key))));
        if before != after {
            let dues = Arc::make_mut(&mut self.dues);
            before.map(|due| dues.remove(&due));
            dues.extend(after);
        }
        is_done
    }

    /// What is changed begins anew; only an edit was made of what is still stored.
    fn apply_to_what_is_gone(&mut self, event: DocumentEvent, place: Place, at: Timestamp) -> Result<bool> {
        let key = event.key().to_owned();
        match event {
            DocumentEvent::Expire { expiry, .. } => expiry::of_json(&expiry).map(|_| false),
            DocumentEvent::Touch { .. } => Ok(false),
            DocumentEvent::Edit { .. } => {
                self.apply_to_what_is_stored(event, place, at)?;
                let json = self.documents.get(&*key).map(|placed| placed.document.json.clone());
                self.remove(&key);
                json.into_iter().for_each(|json| self.set(&key, json, place, at));
                Ok(true)
            }
            event => {
                self.remove(&key);
                self.apply_to_what_is_stored(event, place, at)
            }
        }
    }

    fn apply_to_what_is_stored(&mut self, event: DocumentEvent, place: Place, at: Timestamp) -> Result<bool> {
        match event {
            DocumentEvent::Put { key, json } => self.set(&key, json, place, at),
            DocumentEvent::Patch { key, patch } => {
                let patched = match self.documents.get(&*key) {
                    Some(placed) => merged(placed.document.value()?, &patch)?,
                    None => merged(Value::Null, &patch)?,
                };
                self.set(&key, patched, place, at);
            }
            DocumentEvent::Edit { key, edit, beside } => {
                let edit = Edit::parse(&edit)?;
                let placed = Arc::make_mut(&mut self.documents)
                    .get_mut(&*key)
                    .filter(|placed| placed.document.version == edit.version);
                let Some(placed) = placed else {
                    return Err(event::unfitting());
                };
                self.bytes -= placed.bytes();
                placed.places = Places::default();
                edit.apply(&mut placed.document.json, &beside)?;
                self.bytes += placed.bytes();
                placed.renew(place, at);
            }
            DocumentEvent::Delete { key } => self.remove(&key),
            DocumentEvent::Merge { key, merge } => return self.merge(&key, &merge, place, at),
            DocumentEvent::Expire { key, expiry } => {
                let expiry = expiry::of_json(&expiry)?;
                let placed = Arc::make_mut(&mut self.documents).get_mut(&*key);
                return Ok(placed.is_some_and(|placed| {
                    placed.document.expiry = expiry;
                    placed.renew(place, at);
                    true
                }));
            }
            DocumentEvent::Touch { key } => {
                let is_sliding =
                    |placed: &&mut Placed| matches!(placed.document.expiry, Some(Expiry::Sliding(_)));
                let placed = Arc::make_mut(&mut self.documents).get_mut(&*key).filter(is_sliding);
                return Ok(placed.is_some_and(|placed| {
                    placed.renew(place, at);
                    true
                }));
            }
        }
        Ok(true)
    }

    fn merge(&mut self, key: &str, merge: &Merge, place: Place, at: Timestamp) -> Result<bool> {
        let Some(placed) = Arc::make_mut(&mut self.documents).get_mut(key) else {
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
            placed.renew(place, at);
        }
        done
    }

    /// Whether a merge would do something; `None` if that takes long to tell.
    pub(crate) fn would_apply(&self, key: &str, merge: &Merge) -> Option<bool> {
        let found = self.documents.get(key).filter(|placed| self.sees(placed));
        let Some(placed) = found else { return Some(true) };
        merge.would_apply(&placed.document.json, &placed.places)
    }

    /// None yet, at a version.
    pub(crate) fn at(version: Version, at: Timestamp, hash: Hash) -> Self {
        Self { version, at: Some(at), hash, ..Self::default() }
    }

    /// At the same version, with none.
    pub(crate) fn without_documents(&self) -> Self {
        let Self { version, at, hash, life, judged, .. } = *self;
        Self { version, at, hash, life, judged, ..Self::default() }
    }

    /// Takes in what a snapshot says of a key that is not there yet.
    pub(crate) fn take_in(&mut self, record: Record) {
        if let Content::Value { json, version, at, place, expiry, .. } = record.content {
            self.bytes += record.key.len() + json.len() + DOCUMENT_BYTES;
            let document = Document { json, version, at, expiry };
            if let Some(due) = document.due() {
                Arc::make_mut(&mut self.dues).insert((due, Arc::clone(&record.key)));
            }
            let placed = Placed { document, place, places: Places::default() };
            Arc::make_mut(&mut self.documents).insert(record.key, placed);
        }
    }

    /// Every document that is stored, as a snapshot has it, in order of their keys.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.documents
            .iter()
            .map(|(key, placed)| Record { key: Arc::clone(key), content: placed.content(false) })
    }

    /// What a snapshot says of a document that is stored; `None` if there is none.
    pub(crate) fn content(&self, key: &str, is_anew: bool) -> Option<Content> {
        self.documents.get(key).map(|placed| placed.content(is_anew))
    }

    fn set(&mut self, key: &str, json: Bytes, place: Place, at: Timestamp) {
        self.bytes += json.len();
        let documents = Arc::make_mut(&mut self.documents);
        if let Some(placed) = documents.get_mut(key) {
            self.bytes -= placed.bytes();
            (placed.document.json, placed.places) = (json, Places::default());
            placed.renew(place, at);
            return;
        }
        self.bytes += key.len() + DOCUMENT_BYTES;
        let document = Document { json, version: Version(place.version), at, expiry: None };
        documents.insert(key.into(), Placed { document, place, places: Places::default() });
    }

    fn remove(&mut self, key: &str) {
        if let Some(placed) = Arc::make_mut(&mut self.documents).remove(key) {
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
