//! When a document, or a log, is gone by itself.
//!
//! The fold of commits stays what it is: whatever was put is kept there, with its expiry, until something takes it away. Whether it is
//! due is judged when it is looked at, by the store's clock, and where one commit changes what earlier ones have left, by that commit's own time.

use std::time::Duration;

use bytes::Bytes;
use icecore_log::{Entry, Error, ErrorKind, Event, Header, Result, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::Log;
use crate::append::Receipt;
use crate::retention;
use crate::state::changes::{Changes, Condition};
use crate::state::document::Document;
use crate::state::event;
use crate::state::{base, document::State};

/// When a document, or a log, is gone by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// From this time on.
    At(Timestamp),
    /// So long after it was changed, or touched, last. A log: after something was appended to it last.
    Sliding(Duration),
    /// Never, not even with its log. Only of documents.
    Pinned,
}

/// As it is stored: nanoseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Stored {
    At(i64),
    Sliding(u64),
    Pinned(bool),
}

/// The longest sliding expiry: about a hundred years. So a time so far ahead can still be told.
const SLIDING_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Expiry {
    /// From when on it is gone, if it was renewed at this time; `None` if never.
    pub fn due(self, renewed: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(time) => Some(time),
            Self::Sliding(span) => Some(renewed.after(span)),
            Self::Pinned => None,
        }
    }

    fn stored(self) -> Stored {
        match self {
            Self::At(time) => Stored::At(time.0),
            // What is too long stays too long, and is refused.
            Self::Sliding(span) => Stored::Sliding(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
            Self::Pinned => Stored::Pinned(true),
        }
    }

    fn of(stored: &Stored) -> Option<Self> {
        let expiry = match stored {
            Stored::At(time) => Self::At(Timestamp(*time)),
            Stored::Sliding(span) => Self::Sliding(Duration::from_nanos(*span)),
            Stored::Pinned(is_pinned) => return is_pinned.then_some(Self::Pinned),
        };
        expiry.is_possible().then_some(expiry)
    }

    fn is_possible(self) -> bool {
        !matches!(self, Self::Sliding(span) if span.is_zero() || span > SLIDING_MAX)
    }

    /// # Errors
    /// [`ErrorKind::Invalid`] if it is a length of time that is none, or more than a hundred years.
    fn check(self) -> Result<()> {
        if self.is_possible() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "setting an expiry")
            .advise("A sliding expiry is longer than nothing, and at most a hundred years"))
    }

    /// One byte that says which, and a number.
    pub(crate) fn to_parts(self) -> (u8, i64) {
        match self {
            Self::At(time) => (1, time.0),
            Self::Sliding(span) => (2, span.as_nanos() as i64),
            Self::Pinned => (3, 0),
        }
    }

    pub(crate) fn of_parts(kind: u8, number: i64) -> Option<Self> {
        let expiry = match (kind, u64::try_from(number)) {
            (1, _) => Self::At(Timestamp(number)),
            (2, Ok(span)) => Self::Sliding(Duration::from_nanos(span)),
            (3, Ok(0)) => Self::Pinned,
            _ => return None,
        };
        expiry.is_possible().then_some(expiry)
    }
}

/// An expiry as the data of an event; `null` takes it back.
pub(crate) fn to_json(expiry: Option<Expiry>) -> Bytes {
    // An object of one number cannot fail to be written.
    serde_json::to_vec(&expiry.map(Expiry::stored)).unwrap_or_default().into()
}

/// What [`to_json`] wrote.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it is none.
pub(crate) fn of_json(json: &[u8]) -> Result<Option<Expiry>> {
    let damaged = || {
        Error::new(ErrorKind::Corrupt, "reading a log's state").with("because", "an event holds no expiry")
    };
    match serde_json::from_slice::<Option<Stored>>(json).map_err(|_| damaged())? {
        Some(stored) => Expiry::of(&stored).map(Some).ok_or_else(damaged),
        None => Ok(None),
    }
}

/// Whether an event says when something expires.
pub(crate) fn is_about(event: &Event) -> bool {
    event.kind == event::EXPIRE || event.kind == event::LOG_EXPIRE
}

/// The earliest time at which something may be due that these events say, if they are committed about now.
pub(crate) fn first_due(events: &[Event], now: Timestamp) -> Option<Timestamp> {
    let about = events.iter().filter(|event| is_about(event));
    about.filter_map(|event| of_json(&event.data).ok()??.due(now)).min()
}

/// What a log's own expiry comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Life {
    /// When the log is gone; never pinned.
    pub expiry: Option<Expiry>,
    /// When something was appended last that counts as use. Only kept while there is an expiry.
    pub used: Timestamp,
    /// The log expired behind this version, and was used again: what was there by then is gone, unless it is pinned.
    pub floor: Version,
}

/// As a base holds it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredLife {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry: Option<Stored>,
    #[serde(default)]
    used: i64,
    #[serde(default)]
    floor: u64,
}

impl Life {
    /// `None` if there is nothing to be said.
    pub fn stored(&self) -> Option<StoredLife> {
        let stored =
            || StoredLife { expiry: self.expiry.map(Expiry::stored), used: self.used.0, floor: self.floor.0 };
        (*self != Self::default()).then(stored)
    }

    pub fn of(stored: &StoredLife) -> Self {
        Self {
            expiry: stored.expiry.as_ref().and_then(Expiry::of),
            used: Timestamp(stored.used),
            floor: Version(stored.floor),
        }
    }

    /// From when on the log is gone.
    pub fn due(&self) -> Option<Timestamp> {
        self.expiry?.due(self.used)
    }

    /// Whether a document is there at a time.
    pub fn has(&self, document: &Document, at: Timestamp) -> bool {
        let is_before = |due: Option<Timestamp>| due.is_none_or(|due| at < due);
        document.expiry == Some(Expiry::Pinned)
            || document.version > self.floor && is_before(document.due()) && is_before(self.due())
    }

    /// Before the changes of a commit: if the log has expired by then, it begins anew. `last` is the version before.
    pub fn begin(&mut self, last: Version, header: &Header, entries: &[Entry]) {
        if entries.iter().any(is_use) {
            self.use_at(header.at, last);
        }
    }

    /// The log is used behind this version.
    pub fn use_at(&mut self, at: Timestamp, last: Version) {
        if self.due().is_some_and(|due| due <= at) {
            self.floor = last;
            // A time that has come says nothing of what comes behind it.
            self.expiry = self.expiry.filter(|expiry| matches!(expiry, Expiry::Sliding(_)));
        }
        self.used = if self.expiry.is_some() { at } else { Timestamp::default() };
    }

    /// Behind the changes of a commit: what it says of the log itself.
    pub fn end(&mut self, header: &Header, entries: &[Entry]) -> Result<()> {
        for event in entries.iter().flat_map(|entry| &entry.events) {
            if event.kind == event::LOG_EXPIRE {
                self.expiry = of_json(&event.data)?;
                self.used = if self.expiry.is_some() { header.at } else { Timestamp::default() };
            }
        }
        Ok(())
    }
}

/// Whether an entry counts as use of its log: a base is none, nor is that something was removed because it was due.
fn is_use(entry: &Entry) -> bool {
    base::was_last_used(entry).is_none()
}

/// By when what a transaction has looked at was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    /// At this time.
    pub at: Timestamp,
    /// From this time on it is judged otherwise.
    pub until: Option<Timestamp>,
}

impl Changes {
    /// Says when a document is gone by itself; `None` takes that back. It stays so through later changes, until it is said anew, or the
    /// document is deleted or expired. Of a document that is not there it says nothing.
    #[must_use]
    pub fn expire(self, key: impl Into<String>, expiry: impl Into<Option<Expiry>>) -> Self {
        self.change(event::DocumentEvent::Expire { key: key.into(), expiry: to_json(expiry.into()) })
    }

    /// Renews a document whose expiry is sliding, without changing its value. Of any other it does nothing.
    #[must_use]
    pub fn touch(self, key: impl Into<String>) -> Self {
        self.change(event::DocumentEvent::Touch { key: key.into() })
    }

    /// Says when the log is gone by itself, with all its documents that are not pinned; `None` takes that back.
    #[must_use]
    pub fn expire_log(self, expiry: impl Into<Option<Expiry>>) -> Self {
        self.push(Event::new(event::LOG_EXPIRE, to_json(expiry.into())))
    }
}

impl Log {
    /// Says when a document is gone by itself; `None` takes that back.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is no such document; else as [`Log::commit`].
    pub async fn expire(&self, key: &str, expiry: impl Into<Option<Expiry>>) -> Result<Option<Receipt>> {
        let exists = Condition::Exists(key.to_owned());
        self.commit(Changes::new().only_if(exists).expire(key, expiry)).await
    }

    /// Renews a document whose expiry is sliding.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is no such document; else as [`Log::commit`].
    pub async fn touch(&self, key: &str) -> Result<Option<Receipt>> {
        let exists = Condition::Exists(key.to_owned());
        self.commit(Changes::new().only_if(exists).touch(key)).await
    }

    /// Says when the log is gone by itself, with all its documents that are not pinned; `None` takes that back. Once that is due, a
    /// pass of maintenance ends it as [`Store::delete_log`](crate::Store::delete_log) does; if it is used again before that, it begins anew.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn expire_log(&self, expiry: impl Into<Option<Expiry>>) -> Result<Receipt> {
        self.append_unconditionally(&Changes::new().expire_log(expiry)).await
    }

    /// What is wrong with what events say of expiry, before they are appended.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is none that can be; [`ErrorKind::Refused`] of Icecore's own logs.
    pub(crate) fn check_expiry(&self, events: &[Event]) -> Result<()> {
        for event in events.iter().filter(|event| is_about(event)) {
            if retention::is_own(&self.id) {
                return Err(Error::new(ErrorKind::Refused, "setting an expiry")
                    .with("log", &self.id)
                    .advise("It is Icecore's own: what is held, kept and due is in it"));
            }
            let invalid = || {
                Error::new(ErrorKind::Invalid, "setting an expiry")
                    .with("log", &self.id)
                    .advise("It is a time, or a length of time that is more than nothing and at most a hundred years; and a log is not pinned")
            };
            let expiry = of_json(&event.data).map_err(|_| invalid())?;
            if event.kind == event::LOG_EXPIRE && expiry == Some(Expiry::Pinned) {
                return Err(invalid());
            }
            expiry.map_or(Ok(()), Expiry::check)?;
        }
        Ok(())
    }
}

impl State {
    /// When the log is gone by itself, if it ever is.
    pub fn expiry(&self) -> Option<Expiry> {
        self.life.expiry
    }

    /// From when on the log is gone, if nothing is appended to it before; `None` if it stays.
    pub fn due(&self) -> Option<Timestamp> {
        self.life.due()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_said_of_expiry_is_written_to_its_golden_bytes_and_read_from_them() {
        let (at, sliding) =
            (Expiry::At(Timestamp(1_767_225_600_000_000_001)), Expiry::Sliding(Duration::from_secs(1_800)));
        let changes = Changes::new()
            .expire("at", at)
            .expire("slides/ü", sliding)
            .expire("pinned", Expiry::Pinned)
            .expire("never", None)
            .touch("slides/ü")
            .expire_log(at)
            .expire_log(sliding)
            .expire_log(None)
            .push(base::removed(3, Timestamp(5)));
        let events = changes.entry().events;
        let line = |event: &Event| {
            let data = String::from_utf8_lossy(&event.data);
            format!("{}\n", serde_json::json!({"kind": event.kind, "meta": event.meta, "data": data}))
        };
        let lines: String = events.iter().map(line).collect();

        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/expiry.ndjson");
        if std::env::var_os("ICECORE_BLESS").is_some() {
            std::fs::write(&path, &lines).unwrap();
        }
        assert_eq!(lines, std::fs::read_to_string(path).unwrap());
        let read: Vec<_> = events
            .iter()
            .filter(|event| is_about(event))
            .map(|event| of_json(&event.data).unwrap())
            .collect();
        let (documents, logs) =
            ([Some(at), Some(sliding), Some(Expiry::Pinned), None], [Some(at), Some(sliding), None]);
        assert_eq!(read, [&documents[..], &logs[..]].concat());
        assert_eq!(
            base::was_last_used(&Entry { id: None, events: events[8..].to_vec() }),
            Some(Timestamp(5))
        );
    }
}
