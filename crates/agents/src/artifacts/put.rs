//! Storing one: the content first, then who has it, then the record, in a transaction that looks at all the others.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Event, Hash, Result, Version};
use icecore_store::state::{Changes, Json, State};
use serde_json::value::RawValue;

use super::body::{self, Writing};
use super::record::{self, Record, What};
use super::room::{self, Candidate, MakesRoom};
use super::{Artifact, Owned, index, sweep, uses};
use crate::names;

/// The first event of a session's log: a log is listed from its first commit on.
const BEGUN: &str = "artifacts.begun";

/// Content that is given in pieces. Nothing is there until [`Upload::finish`] has answered.
#[derive(Debug)]
pub struct Upload {
    of: Owned,
    what: What,
    writing: Writing,
    /// Whether a sweep finds what is written.
    is_begun: bool,
}

/// What a transaction decided.
#[derive(Default)]
struct Decided {
    /// What was there already.
    found: Option<Record>,
    /// What is gone.
    dropped: Vec<Record>,
}

impl Owned {
    /// Stores content, or finds that it is there already: then the first reference stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is larger than one may be; [`ErrorKind::Conflict`] if other content has its id; else as [`Log::append`](icecore_store::Log::append).
    pub async fn put(&self, what: What, content: Bytes) -> Result<Artifact> {
        self.check_bytes(content.len() as u64)?;
        let hashed = content.clone();
        let sha256 = body::apart(content.len(), move || Hash::of(&hashed).to_string()).await?;
        // What is there need not be written first.
        if let Some(found) = self.get(&record::id(what.namespace.as_deref(), &sha256)).await?
            && found.record.sha256 == sha256
        {
            return self.put_again(found).await;
        }
        let mut upload = self.upload(what);
        upload.write(content).await?;
        upload.finish().await
    }

    /// Stores content that comes in pieces; [`body::PART_BYTES`] of it are in memory, and the piece that is written.
    pub fn upload(&self, what: What) -> Upload {
        let store = self.log.store();
        let name = body::name(self.all.now_ms(), store.random());
        Upload { of: self.clone(), what, writing: Writing::new(self.log.clone(), name), is_begun: false }
    }

    /// It was stored before, and is so once more: it was used, and is the one that is found by its id.
    async fn put_again(&self, found: Artifact) -> Result<Artifact> {
        found.used();
        index::add_newest(self, &found.record.id).await?;
        Ok(found)
    }

    /// Whether one may have so many bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if not.
    pub fn check_bytes(&self, bytes: u64) -> Result<()> {
        let max = self.all.retention.artifact_bytes_max;
        if bytes <= max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "storing an artifact")
            .with("bytes", bytes)
            .with("bytes_max", max)
            .advise("Its size exceeds limit artifact_bytes_max: store less, or raise that"))
    }

    /// What is to be done so that this record is there. Run again when others were first.
    fn decide(&self, state: &State, new: &Record, decided: &mut Decided) -> Result<Changes> {
        let now = self.all.now_ms();
        let (prefix, mut all) = (self.records(), Vec::new());
        for (_, document) in state.documents(&prefix) {
            all.push(Record::read(&self.log, document)?);
        }
        if let Some(found) = all.iter().find(|one| one.id == new.id && one.is_there(now)) {
            if found.body == new.body {
                // It is ours: an answer was lost.
                return Ok(Changes::new());
            }
            if found.sha256 != new.sha256 {
                return Err(other_content(&new.id));
            }
            *decided = Decided { found: Some(found.clone()), dropped: Vec::new() };
            return uses::put_last(Changes::new(), self.use_key(&new.id));
        }
        // Whoever swept has seen to it that nothing comes of what was begun so long ago.
        if body::begun_at(&new.body).is_none_or(|begun| begun <= sweep::swept_through(state)) {
            return Err(Error::new(ErrorKind::Unavailable, "storing an artifact")
                .with("id", &new.id)
                .advise("It took longer than a day, and what was written of it was swept: store it again"));
        }
        let dropped = self.dropped(state, all, new);
        let mut changes = Changes::new();
        for gone in &dropped {
            changes = changes.delete(self.record_key(&gone.id)).delete(self.use_key(&gone.id));
        }
        changes = changes.put(self.record_key(&new.id), Json::of(new)?);
        *decided = Decided { found: None, dropped };
        uses::put_last(changes, self.use_key(&new.id))
    }

    /// What has expired, and what makes room.
    fn dropped(&self, state: &State, all: Vec<Record>, new: &Record) -> Vec<Record> {
        let now = self.all.now_ms();
        let (mut kept, mut dropped): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_there(now));
        let prefix = match self.all.retention.makes_room {
            MakesRoom::LeastRecentlyUsed => self.uses(),
            MakesRoom::Oldest => self.records(),
            MakesRoom::None => return dropped,
        };
        let is_of_the_trace = |one: &Record| new.trace.is_some() && one.trace == new.trace;
        let candidates = |kept: &[Record]| -> Vec<_> {
            let one = |one: &Record| Candidate { bytes: one.bytes, is_of_the_trace: is_of_the_trace(one) };
            kept.iter().map(one).collect()
        };
        let gone = |kept: &[Record]| {
            room::made(&candidates(kept), new.bytes, new.trace.is_some(), &self.all.retention)
        };
        // Most often there is room, and then their order makes no difference.
        if gone(&kept).is_empty() {
            return dropped;
        }
        let order: Vec<&str> =
            state.in_order().into_iter().filter_map(|(key, _)| key.strip_prefix(&*prefix)).collect();
        let places: std::collections::HashMap<_, _> = order.into_iter().zip(1_usize..).collect();
        kept.sort_by_key(|one| places.get(&*names::key(one.id.as_bytes())).copied().unwrap_or(0));
        let gone = gone(&kept);
        let gone = kept.into_iter().enumerate().filter(|(place, _)| gone.contains(place));
        dropped.extend(gone.map(|(_, record)| record));
        dropped
    }
}

impl Upload {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is more than an artifact may have; [`ErrorKind::Unavailable`] if it could not be written. Nothing was stored then.
    pub async fn write(&mut self, piece: Bytes) -> Result<()> {
        let bytes = self.writing.bytes.saturating_add(piece.len() as u64);
        let written = match self.of.check_bytes(bytes) {
            Ok(()) => self.add(piece).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.writing.abandon().await;
        }
        written
    }

    async fn add(&mut self, piece: Bytes) -> Result<()> {
        self.begin().await?;
        self.writing.add(piece).await
    }

    /// Once.
    async fn begin(&mut self) -> Result<()> {
        if !self.is_begun {
            self.of.begin().await?;
            self.is_begun = true;
        }
        Ok(())
    }

    /// Writes what is left; the hash of all.
    async fn end(&mut self) -> Result<String> {
        self.begin().await?;
        self.writing.end().await
    }

    /// Stores it: when this answers, content and record are durable.
    ///
    /// # Errors
    /// As [`Owned::put`].
    pub async fn finish(mut self) -> Result<Artifact> {
        let sha256 = match self.end().await {
            Ok(sha256) => sha256,
            Err(error) => {
                self.writing.abandon().await;
                return Err(error);
            }
        };
        let record = self.record(sha256)?;
        let stored = self.store(&record).await;
        match &stored {
            // What may have been stored must keep its content; if it was not, a sweep finds that.
            Err(error) if error.kind() == ErrorKind::Unknown => {}
            Ok(artifact) if artifact.record.body == record.body => {}
            _ => self.writing.abandon().await,
        }
        stored
    }

    async fn store(&self, record: &Record) -> Result<Artifact> {
        let of = &self.of;
        // First that somebody has it, which is how it is found.
        index::add(of, &record.id).await?;
        // What was used before this makes room after what was not.
        of.all.uses.write(&of.all.store, of.log.id()).await?;
        let mut decided = Decided::default();
        of.log.transact(|state| of.decide(state, record, &mut decided)).await?;
        body::delete(&of.log, &decided.dropped).await;
        let record = decided.found.unwrap_or_else(|| record.clone());
        Ok(Artifact { of: of.clone(), record })
    }

    fn record(&self, sha256: String) -> Result<Record> {
        let (now, Writing { name, parts, bytes, .. }) = (self.of.all.now_ms(), &self.writing);
        let ttl = self.of.all.retention.ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        Ok(Record {
            id: record::id(self.what.namespace.as_deref(), &sha256),
            bytes: *bytes,
            sha256,
            trace: self.what.trace.as_deref().map(names::key),
            created_at_ms: now,
            expires_at_ms: ttl.map(|ttl| now.saturating_add(ttl)),
            body: name.clone(),
            parts: parts.clone(),
            about: self.what.about.read::<Box<RawValue>>()?,
        })
    }
}

impl Owned {
    /// Sees to it that a sweep finds this session, and its tenant, before there is any content.
    async fn begin(&self) -> Result<()> {
        if !self.all.is_known.load(Ordering::Relaxed) {
            sweep::make_known(&self.all.store, &self.all.tenant).await?;
            self.all.is_known.store(true, Ordering::Relaxed);
        }
        if self.log.state().await?.version == Version::ZERO {
            self.log.append(Event::new(BEGUN, "null")).await?;
        }
        Ok(())
    }
}

fn other_content(id: &str) -> Error {
    Error::new(ErrorKind::Conflict, "storing an artifact")
        .with("id", id)
        .advise("Other content whose hash begins alike has this id: store it in another namespace")
}
