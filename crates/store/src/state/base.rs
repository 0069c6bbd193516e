//! The base: the whole state in one commit, so that what came before it may go. It changes nothing: every document stays what it was,
//! with its version, its time and its place among the others.

use std::sync::Arc;

use bytes::BytesMut;
use icecore_log::{Entry, Error, ErrorKind, Event, Result, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::Log;
use crate::append::Receipt;
use crate::snapshot::{Block, Record, Span};
use crate::state::document::State;
use crate::state::event::EXPIRED;
use crate::state::expiry::{Life, StoredLife};
use crate::state::transact::Turns;

/// Says that the commit is a base, and how many documents it holds.
const BASE: &str = "icecore.base";
/// Documents as they were, in order of their keys.
const DOCUMENTS: &str = "icecore.base.documents";
/// What an event holds at the most, unless one document has more: a reader has that much in memory beside the state.
const EVENT_BYTES: usize = 1 << 20;

/// What holds this state. `last_used` is when something else than a base was appended.
fn entry(state: &State, last_used: Timestamp) -> Entry {
    let head = Head { documents: state.len() as u64, last_used: last_used.0, life: state.life.stored() };
    // Numbers cannot fail to be written.
    let mut events = vec![Event::new(BASE, serde_json::to_vec(&head).unwrap_or_default())];
    let mut records = BytesMut::new();
    let mut push = |records: &mut BytesMut| {
        let event = Event::new(DOCUMENTS, records.split().freeze());
        events.push(Event { content_type: "application/octet-stream".to_owned(), ..event });
    };
    for record in state.records() {
        if !records.is_empty() && records.len() + record.bytes() > EVENT_BYTES {
            push(&mut records);
        }
        record.put(&mut records);
    }
    if !records.is_empty() {
        push(&mut records);
    }
    Entry { id: None, events }
}

/// The data of the first event of a base, and of what removes documents that were due.
#[derive(Serialize, Deserialize)]
struct Head {
    /// How many it holds, or removes.
    #[serde(default)]
    documents: u64,
    last_used: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<StoredLife>,
}

impl Head {
    fn of(entry: &Entry) -> Option<(&Event, Self)> {
        let first = entry.events.first().filter(|event| event.kind == BASE || event.kind == EXPIRED)?;
        Some((first, serde_json::from_slice(&first.data).ok()?))
    }
}

/// When something else was appended than a base, or what removes documents that were due, as the entry of one says.
pub(crate) fn was_last_used(entry: &Entry) -> Option<Timestamp> {
    Head::of(entry).map(|(_, head)| Timestamp(head.last_used))
}

/// Says that the events behind it remove documents that were due.
pub(crate) fn removed(documents: usize, last_used: Timestamp) -> Event {
    let head = Head { documents: documents as u64, last_used: last_used.0, life: None };
    Event::new(EXPIRED, serde_json::to_vec(&head).unwrap_or_default())
}

/// Makes a state what a base says, which is this version, as far as its documents are wanted.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it holds something else than documents in order of their keys.
pub(crate) fn begin(
    state: &mut State,
    base: Version,
    entries: &[Entry],
    is_wanted: impl Fn(&str) -> bool,
) -> Result<()> {
    state.clear();
    let head = entries.first().and_then(Head::of).filter(|(event, _)| event.kind == BASE);
    state.life = head.and_then(|(_, head)| head.life).as_ref().map_or_else(Life::default, Life::of);
    let mut last = None;
    for event in entries.iter().flat_map(|entry| &entry.events).filter(|event| event.kind == DOCUMENTS) {
        let mut records = records(event, base, last.clone());
        while let Some(record) = records.next().map_err(damaged)? {
            last = Some(Arc::clone(&record.key));
            if is_wanted(&record.key) {
                state.take_in(record);
            }
        }
    }
    Ok(())
}

/// What an event of a base says of a document; `None` if it does not.
///
/// # Errors
/// As [`begin`].
pub(crate) fn find(event: &Event, base: Version, key: &str) -> Result<Option<Record>> {
    if event.kind != DOCUMENTS {
        return Ok(None);
    }
    let mut records = records(event, base, None);
    while let Some(record) = records.next().map_err(damaged)? {
        if *record.key == *key {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn records(event: &Event, base: Version, behind: Option<Arc<str>>) -> Block {
    Block::behind(event.data.clone(), behind, Span { from: Version::ZERO, to: base.previous() })
}

fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a base").with("found", what)
}

impl Log {
    /// Writes the whole state into one commit. From there on it is known without what came before, which may then be trimmed.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the log has no commit; [`Refused`](ErrorKind::Refused) if the state is larger than a commit
    /// may be; else as [`Log::transact`].
    pub async fn write_base(&self) -> Result<Receipt> {
        let active = self.store.0.active(&self.id);
        let mut turns = Turns::begin(self, &active).await?;
        loop {
            let state = turns.next().await?;
            if state.version == Version::ZERO {
                return Err(Error::new(ErrorKind::NotFound, "writing a base")
                    .with("log", &self.id)
                    .advise("There is no such log"));
            }
            let last_used = match self.raw_head().await?.filter(|head| head.version == state.version) {
                Some(head) => self.last_used(&head).await?,
                None => continue,
            };
            match self.enqueue_base(state.version, entry(&state, last_used)).await {
                Ok(enqueued) => match enqueued.receipt().await {
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    done => return done,
                },
                Err(error) if error.kind() == ErrorKind::Invalid => return Err(too_large(error)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The documents are as they were accepted: there is nothing else that may be wrong with them.
fn too_large(error: Error) -> Error {
    Error::new(ErrorKind::Refused, "writing a base")
        .because(error)
        .advise("The log's documents are more than a commit of this storage system may hold: delete some, or fork what is still needed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use icecore_log::Timestamp;

    use super::*;
    use crate::snapshot::{Content, Place};
    use crate::state::expiry::Life;
    use crate::state::{Document, Expiry};

    /// Of two documents: one that was put in commit 2 and changed in 7, and a long one, which has an event of its own.
    fn state() -> State {
        let mut state = State::before(Version(10));
        let long = format!("\"{}\"", "x".repeat(EVENT_BYTES));
        let documents = [("a/ü", r#"{"n": 1.0}"#.to_owned(), 7, 2), ("b", long, 9, 9)];
        for (key, json, version, place) in documents {
            let (version, at) = (Version(version), Timestamp(1_000));
            let place = Place { version: place, index: 3 };
            state.take_in(Record {
                key: key.into(),
                content: Content::Value {
                    json: json.into(),
                    version,
                    at,
                    place,
                    expiry: None,
                    is_anew: false,
                },
            });
        }
        state
    }

    /// The first two events of a base are those of the file: what it says, a line, and its first documents.
    fn check_golden(entry: &Entry, name: &str) {
        let mut bytes = format!("{}\n", String::from_utf8_lossy(&entry.events[0].data)).into_bytes();
        bytes.extend_from_slice(&entry.events[1].data);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("ICECORE_BLESS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(bytes, std::fs::read(path).unwrap());
    }

    /// The bytes of the other have none of this: what does not expire costs nothing.
    #[test]
    fn a_base_of_what_expires_is_written_to_its_golden_bytes_and_read_from_them() {
        let mut state = State::before(Version(10));
        let sliding = Expiry::Sliding(Duration::from_secs(1_800));
        state.life = Life { expiry: Some(sliding), used: Timestamp(77), floor: Version(5) };
        let expiries =
            [("at", Expiry::At(Timestamp(1_000))), ("pinned", Expiry::Pinned), ("sliding", sliding)];
        for ((key, expiry), number) in expiries.into_iter().zip(6..) {
            let (version, json) = (Version(number), number.to_string().into());
            let place = Place { version: number, index: 0 };
            let content = Content::Value {
                json,
                version,
                at: Timestamp(900),
                place,
                expiry: Some(expiry),
                is_anew: false,
            };
            state.take_in(Record { key: key.into(), content });
        }

        let entry = entry(&state, Timestamp(5));

        check_golden(&entry, "base-expiry.bin");
        let mut read = State::before(Version(10));
        begin(&mut read, Version(10), std::slice::from_ref(&entry), |_| true).unwrap();
        assert!(read == state);
        assert_eq!(read.life, state.life);
    }

    #[test]
    fn a_base_is_written_to_its_golden_bytes_and_read_from_them() {
        let entry = entry(&state(), Timestamp(5));
        check_golden(&entry, "base.bin");
        assert_eq!(entry.events.len(), 3);
        let mut read = State::before(Version(10));
        begin(&mut read, Version(10), std::slice::from_ref(&entry), |_| true).unwrap();
        assert!(read == state());
        assert_eq!(was_last_used(&entry), Some(Timestamp(5)));
        for (key, version) in [("a/ü", 7), ("b", 9)] {
            let found = entry.events.iter().find_map(|event| find(event, Version(10), key).unwrap());
            assert_eq!(Document::of(found.unwrap().content).unwrap().version, Version(version));
        }
    }

    #[test]
    fn what_is_no_document_of_before_the_base_is_damage() {
        let good = entry(&state(), Timestamp(5));
        let read = |entry: &Entry, base| {
            begin(&mut State::default(), Version(base), std::slice::from_ref(entry), |_| true)
        };
        // A document of its own version, or of a later one.
        assert_eq!(read(&good, 9).unwrap_err().kind(), ErrorKind::Corrupt);
        let mut swapped = good.clone();
        swapped.events.swap(1, 2);
        assert_eq!(read(&swapped, 10).unwrap_err().kind(), ErrorKind::Corrupt);
        let small = &good.events[1].data;
        for cut in 1..small.len() {
            let mut cut_short = good.clone();
            cut_short.events[1].data = small.slice(..cut);
            assert_eq!(read(&cut_short, 10).unwrap_err().kind(), ErrorKind::Corrupt, "{cut}");
        }
        for flipped in 0..small.len() {
            let mut bytes = small.to_vec();
            bytes[flipped] ^= 0x80;
            let mut damaged = good.clone();
            damaged.events[1].data = bytes.into();
            // Never a panic; what is then a document of another text was vouched for by the commit's hash.
            let _ = read(&damaged, 10);
        }
    }
}
