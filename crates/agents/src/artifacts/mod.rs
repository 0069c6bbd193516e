//! Artifacts: content under an id that follows from it, of one owner, for as long as the limits say.
//!
//! Each session has a log with a record for each artifact, and the content beside it, in blobs of that log. The content is there before its record,
//! and goes after it: so a record is never without its content, and what a killed process leaves is content without a record, which a sweep finds.
//! All decisions about a session, what is there already and what makes room, are transactions of its log. `docs/formats/artifacts.md` is the
//! specification.
//!
//! | module | holds |
//! | --- | --- |
//! | [`record`] | [`Record`], [`Owner`], [`What`]: what is said of an artifact, and of whom it is |
//! | [`room`] | [`Retention`]: how long artifacts stay, and which make room for others |
//! | [`body`] | content in blobs, written as it comes and checked as it is read |
//! | `put` | the transaction that stores one |
//! | `index` | who has an artifact of some id |
//! | `uses` | that artifacts were used, which decides which one makes room |
//! | `clear` | all that a session, a user or a tenant has goes |
//! | [`sweep`] | what has expired, and what was left behind |

pub mod body;
mod clear;
mod index;
mod put;
pub mod record;
pub mod room;
pub mod sweep;
mod uses;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use icecore_log::{ErrorKind, LogId, LogPrefix, Result};
use icecore_store::state::{Changes, State};
use icecore_store::{Log, Store};

use crate::names::{self, Kind, Tenant};

pub use body::Reading;
pub use put::Upload;
pub use record::{Owner, Record, What};
pub use room::{MakesRoom, Retention};
pub use sweep::Swept;
use uses::Uses;

/// How many sessions are read at a time.
const SESSIONS_AT_ONCE: usize = 16;

/// The artifacts of a tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Store,
    tenant: Tenant,
    retention: Retention,
    uses: Arc<Uses>,
    /// Whether a sweep of the whole store finds this tenant.
    is_known: Arc<AtomicBool>,
}

/// The artifacts of one owner: nothing that is done with it is seen by another.
#[derive(Debug, Clone)]
pub struct Owned {
    all: Artifacts,
    log: Log,
    /// Names the owner within the session.
    owner: String,
}

/// An artifact that was there when it was looked for.
#[derive(Debug, Clone)]
pub struct Artifact {
    of: Owned,
    record: Record,
}

impl Artifacts {
    /// Those of a tenant, with the default limits.
    pub fn new(store: Store, tenant: Tenant) -> Self {
        Self {
            store,
            tenant,
            retention: Retention::default(),
            uses: Arc::default(),
            is_known: Arc::default(),
        }
    }

    /// With other limits. They are for what is stored from now on.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Waits until it is written that what was read was used.
    pub async fn settle(&self) {
        self.uses.write_all(&self.store).await;
    }

    /// The limits.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Those of one owner.
    ///
    /// # Errors
    /// None: each part of its log's name fits.
    pub fn of(&self, owner: &Owner) -> Result<Owned> {
        let log = self.store.log(self.tenant.log(Kind::Artifacts, &owner.session)?);
        Ok(Owned { all: self.clone(), log, owner: owner.key() })
    }

    /// The artifact of this id: of several owners' the one that was stored last, or stored again.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn find(&self, id: &str) -> Result<Option<Artifact>> {
        for entry in index::entries(self, id).await? {
            let log = self.store.log(self.tenant.keyed(Kind::Artifacts, &entry.session)?);
            if let Some(found) = (Owned { all: self.clone(), log, owner: entry.owner }).get(id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The artifact of this id in a session; of several users' the one that was stored first.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn find_in(&self, session: &[u8], id: &str) -> Result<Option<Artifact>> {
        let all = self.in_log(self.tenant.log(Kind::Artifacts, session)?).await?;
        Ok(all.into_iter().find(|artifact| artifact.record.id == id))
    }

    /// All that are there, of a session or of the tenant: those of a session in the order in which they came.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn list(&self, session: Option<&[u8]>) -> Result<Vec<Artifact>> {
        match session {
            Some(session) => self.in_log(self.tenant.log(Kind::Artifacts, session)?).await,
            None => {
                let logs = self.logs().await?;
                let each = stream::iter(logs.into_iter().map(|log| self.in_log(log)));
                let found: Vec<_> = each.buffered(SESSIONS_AT_ONCE).try_collect().await?;
                Ok(found.into_iter().flatten().collect())
            }
        }
    }

    async fn logs(&self) -> Result<Vec<LogId>> {
        self.store.all_logs(&LogPrefix::kind(self.tenant.as_str(), Kind::Artifacts.name())?).await
    }

    async fn in_log(&self, id: LogId) -> Result<Vec<Artifact>> {
        let log = self.store.log(id);
        let state = match log.state().await {
            // A session whose log was deleted has none.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            state => state?,
        };
        let now = self.now_ms();
        let mut found = Vec::new();
        for (key, document) in state.in_order() {
            let Some((owner, _)) = record::owner_and_id(key) else { continue };
            let record = Record::read(&log, document)?;
            if record.is_there(now) {
                let of = Owned { all: self.clone(), log: log.clone(), owner: owner.to_owned() };
                found.push(Artifact { of, record });
            }
        }
        Ok(found)
    }

    fn now_ms(&self) -> i64 {
        self.store.now().millis()
    }
}

/// A session whose log was deleted has nothing any more.
fn gone<T>(error: icecore_log::Error) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

impl Owned {
    /// The artifact of this id.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn get(&self, id: &str) -> Result<Option<Artifact>> {
        let state = self.log.state().await.map(Some).or_else(gone)?;
        let record = state.map_or(Ok(None), |state| self.record(&state, id))?;
        let record = record.filter(|record| record.is_there(self.all.now_ms()));
        Ok(record.map(|record| Artifact { of: self.clone(), record }))
    }

    fn record(&self, state: &State, id: &str) -> Result<Option<Record>> {
        state.get(&self.record_key(id)).map(|document| Record::read(&self.log, document)).transpose()
    }

    fn records(&self) -> String {
        format!("{}{}/", record::RECORDS, self.owner)
    }

    fn record_key(&self, id: &str) -> String {
        format!("{}{}", self.records(), names::key(id.as_bytes()))
    }

    fn uses(&self) -> String {
        format!("{}{}/", record::USES, self.owner)
    }

    fn use_key(&self, id: &str) -> String {
        format!("{}{}", self.uses(), names::key(id.as_bytes()))
    }
}

impl Artifact {
    /// What is said of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The session that has it: its id, or what stands for one that cannot be the key of a log.
    pub fn session(&self) -> String {
        self.of.log.id().key()
    }

    /// Its content, as it is read: every part is checked before it is given.
    pub fn read(&self) -> Reading {
        Reading::new(self.clone())
    }

    /// All of its content, in parts; `None` if it was deleted meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is damaged: none of it is given. Else as the backend has it.
    pub async fn content(&self) -> Result<Option<Vec<Bytes>>> {
        let (mut reading, mut parts) = (self.read(), Vec::with_capacity(self.record.parts.len()));
        loop {
            match reading.next().await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => return Ok(Some(parts)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes that it was used: of those that were used least recently one makes room. It is written a moment later.
    ///
    /// Needs a Tokio runtime.
    pub fn used(&self) {
        let all = &self.of.all;
        if all.retention.makes_room == MakesRoom::LeastRecentlyUsed {
            all.uses.note(&all.store, self.of.log.id(), self.of.use_key(&self.record.id));
        }
    }

    /// Deletes it; whether it was still there.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn delete(&self) -> Result<bool> {
        let (of, id) = (&self.of, &self.record.id);
        let mut was_there = false;
        of.log
            .transact(|state| {
                let found = of.record(state, id)?;
                was_there = found.is_some_and(|record| record.body == self.record.body);
                if !was_there {
                    return Ok(Changes::new());
                }
                Ok(Changes::new().delete(of.record_key(id)).delete(of.use_key(id)))
            })
            .await
            .or_else(gone)?;
        if was_there {
            body::delete(&of.log, std::slice::from_ref(&self.record)).await;
        }
        Ok(was_there)
    }
}
