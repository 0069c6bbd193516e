//! A queue's documents, and moving a message from one state to another.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Result, Timestamp};
use icecore_store::state::{Changes, Document, Json, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::names;

/// The document that every call that moves something writes.
const HEAD: &str = "queue";
/// How the keys begin of what messages say, and of where they are.
pub(super) const MESSAGES: &str = "m/";
const IDS: &str = "i/";
/// How the keys begin of messages in each state.
pub(super) const READY: &str = "r/";
pub(super) const DELAYED: &str = "d/";
pub(super) const LEASED: &str = "l/";
pub(super) const DEAD: &str = "x/";
const DONE: &str = "o/";

/// Of these documents.
const FORMAT: u32 = 1;
/// How many ids that nobody needs to know any more go with each message that comes or is done: more than come, so that none stay.
const FORGOTTEN_AT_ONCE: usize = 2;

/// As it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// The number of the next message.
    pub next: u64,
    /// The last fence.
    pub fence: u64,
}

/// As it is stored: what a message says.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored<'a> {
    pub id: String,
    pub at_ms: i64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// As it is stored: where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub number: u64,
    #[serde(rename = "is")]
    pub place: Place,
    /// When it is ready, its lease ends, it died, or its id is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
    /// Of its last lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// Of the payload.
    pub sha256: String,
    /// Why it was given back last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Ready,
    Delayed,
    Leased,
    Dead,
    Done,
}

/// A message among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub number: u64,
    /// What [`names::key`] made of its id.
    pub id: String,
    pub key: String,
}

impl Status {
    /// The key of the document that says that it is there.
    fn key(&self) -> String {
        let (number, at) = (self.number, self.at_ms.unwrap_or(0).max(0));
        match self.place {
            Place::Ready => format!("{READY}{number:020}"),
            Place::Dead => format!("{DEAD}{number:020}"),
            Place::Delayed => format!("{DELAYED}{at:020}/{number:020}"),
            Place::Leased => format!("{LEASED}{at:020}/{number:020}"),
            Place::Done => format!("{DONE}{at:020}/{number:020}"),
        }
    }

    /// Whether it was done long enough ago.
    fn is_forgotten(&self, now_ms: i64) -> bool {
        self.place == Place::Done && self.at_ms <= Some(now_ms)
    }

    /// Whether it may not be given out again.
    pub fn is_worn_out(&self) -> bool {
        self.attempts_max.is_some_and(|max| self.attempts >= max)
    }
}

impl Stored<'_> {
    pub fn json(id: &str, at_ms: i64, payload: &Json) -> Result<Json> {
        let payload = serde_json::from_slice(payload.bytes()).map_err(|_| unreadable())?;
        Json::of(&Stored { id: id.to_owned(), at_ms, payload })
    }

    pub fn payload(&self) -> Bytes {
        Bytes::copy_from_slice(self.payload.get().as_bytes())
    }

    pub fn at(&self) -> Timestamp {
        Timestamp::of_millis(self.at_ms)
    }
}

/// What a transaction sees of a queue, and what it changes.
pub(super) struct Work<'a> {
    pub state: &'a State,
    pub now_ms: i64,
    pub head: Head,
    before: Option<Head>,
    changes: Changes,
}

impl<'a> Work<'a> {
    pub fn new(state: &'a State, now_ms: i64) -> Result<Self> {
        let before: Option<Head> = state.get(HEAD).map(read).transpose()?;
        let head = before.clone().unwrap_or(Head { format: FORMAT, next: 1, fence: 0 });
        if head.format != FORMAT {
            return Err(Error::new(ErrorKind::Invalid, "reading a queue")
                .with("format", head.format)
                .with("known", FORMAT)
                .advise("A later Icecore wrote it: use that one"));
        }
        Ok(Self { state, now_ms, head, before, changes: Changes::new() })
    }

    /// What is to be committed; nothing if nothing moved.
    pub fn changes(self) -> Result<Changes> {
        if self.changes.is_empty() || self.before.as_ref() == Some(&self.head) {
            return Ok(self.changes);
        }
        Ok(self.changes.put(HEAD, Json::of(&self.head)?))
    }

    /// Where the message of this id is; `None` if there is none, or it was done so long ago that its id is forgotten.
    pub fn status(&self, id: &str) -> Result<Option<Status>> {
        let status = self.stored_status(id)?;
        Ok(status.filter(|status| !status.is_forgotten(self.now_ms)))
    }

    /// The same, before one is put under this id: nothing of a forgotten one stays.
    pub fn clear(&mut self, id: &str) -> Result<Option<Status>> {
        let Some(status) = self.stored_status(id)? else { return Ok(None) };
        if status.is_forgotten(self.now_ms) {
            self.delete(status.key());
            return Ok(None);
        }
        Ok(Some(status))
    }

    fn stored_status(&self, id: &str) -> Result<Option<Status>> {
        self.state.get(&format!("{IDS}{id}")).map(read).transpose()
    }

    /// The same, of one that another document says is there.
    pub fn status_of(&self, entry: &Entry) -> Result<Status> {
        self.status(&entry.id)?.ok_or_else(unreadable)
    }

    /// What a message says.
    pub fn stored(&self, number: u64) -> Result<Stored<'a>> {
        let document = self.state.get(&message(number)).ok_or_else(unreadable)?;
        serde_json::from_slice(&document.json).map_err(|_| unreadable())
    }

    /// How many bytes its document has.
    pub fn stored_bytes(&self, number: u64) -> u64 {
        self.state.get(&message(number)).map_or(0, |document| document.json.len() as u64)
    }

    /// The messages in a state, in the order of their keys, behind a key.
    pub fn entries(
        &self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = Result<Entry>> + use<'a> {
        self.state.after(prefix, after).map(|(key, document)| {
            let number = key.rsplit('/').next().and_then(|digits| digits.parse().ok());
            Ok(Entry { number: number.ok_or_else(unreadable)?, id: read(document)?, key: key.to_owned() })
        })
    }

    /// The first so many of those that wait for a time which has come: their delay is over, or their lease.
    pub fn due(&self, limit: usize) -> Result<Vec<Entry>> {
        let end = |prefix| format!("{prefix}{:020}", self.now_ms.max(0).saturating_add(1));
        let mut due = Vec::new();
        for prefix in [LEASED, DELAYED] {
            let end = end(prefix);
            for entry in self.entries(prefix, None).take(limit - due.len()) {
                let entry = entry?;
                if entry.key >= end {
                    break;
                }
                due.push(entry);
            }
        }
        Ok(due)
    }

    /// A message that is new.
    pub fn add(&mut self, id: &str, key: &str, payload: &Json, status: &Status) -> Result<()> {
        let stored = Stored::json(id, self.now_ms, payload)?;
        self.put(message(status.number), stored);
        self.place(key, status)
    }

    /// A message goes from one state to another.
    pub fn shift(&mut self, id: &str, from: &Status, to: &Status) -> Result<()> {
        self.delete(from.key());
        self.place(id, to)
    }

    /// A message is done: only its id is known, for as long as it says.
    pub fn finish(&mut self, id: &str, from: &Status, to: &Status) -> Result<()> {
        self.delete(message(from.number));
        self.shift(id, from, to)
    }

    /// A message is not there any more, and its id neither.
    pub fn remove(&mut self, entry: &Entry) {
        self.delete(message(entry.number));
        self.delete(entry.key.clone());
        self.delete(format!("{IDS}{}", entry.id));
    }

    /// Forgets ids that were known for long enough: at most twice as many as come or are done now.
    pub fn forget(&mut self, count: usize) -> Result<()> {
        let end = format!("{DONE}{:020}", self.now_ms.max(0).saturating_add(1));
        let old: Result<Vec<_>> = self.entries(DONE, None).take(count * FORGOTTEN_AT_ONCE).collect();
        for entry in old?.into_iter().take_while(|entry| entry.key < end) {
            self.delete(entry.key);
            self.delete(format!("{IDS}{}", entry.id));
        }
        Ok(())
    }

    fn place(&mut self, id: &str, status: &Status) -> Result<()> {
        self.put(status.key(), Json::of(id)?);
        self.put(format!("{IDS}{id}"), Json::of(status)?);
        Ok(())
    }

    fn put(&mut self, key: String, json: Json) {
        self.changes = std::mem::take(&mut self.changes).put(key, json);
    }

    fn delete(&mut self, key: String) {
        self.changes = std::mem::take(&mut self.changes).delete(key);
    }
}

/// What stands for an id in the keys.
pub(super) fn key(id: &str) -> String {
    names::key(id.as_bytes())
}

pub(super) fn message(number: u64) -> String {
    format!("{MESSAGES}{number:020}")
}

fn read<T: serde::de::DeserializeOwned>(document: &Document) -> Result<T> {
    serde_json::from_slice(&document.json).map_err(|_| unreadable())
}

pub(super) fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "reading a queue").advise("Its documents are something else than a queue")
}
