//! What has expired is deleted, and so is what was left behind: content without a record, entries that lead nowhere.
//!
//! Content may be without a record because it is still being written. So only what was begun a day ago is taken for left behind; and before any of it is
//! deleted, the log says so in a document, `swept`, which every transaction that adds a record looks at. However wrong a clock is, a record that is
//! added has its content.

use std::collections::HashSet;
use std::time::Duration;

use icecore_log::{BlobId, ErrorKind, LogId, Result};
use icecore_store::state::{Changes, Condition, Json, State};
use icecore_store::{CONTENT, Log, Store};
use serde::{Deserialize, Serialize};

use super::index::{self, Entry};
use super::record::{self, Record};
use super::{Artifacts, body, gone};
use crate::names::{self, Tenant};

/// The document that says what is given up.
const SWEPT: &str = "swept";
/// After how long content without a record, or an entry without one, was left behind.
pub const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);
/// How many entries are looked at in one page.
const PAGE: usize = 1_000;
/// The tenant of what is Icecore's own.
const SYSTEM: &str = "_";

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Sessions that were looked at.
    pub sessions: u64,
    /// Artifacts that had expired.
    pub expired: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were left behind.
    pub left_behind: u64,
}

impl Swept {
    fn add(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.expired += more.expired;
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.left_behind += more.left_behind;
    }
}

/// As it is stored.
#[derive(Serialize, Deserialize, Default)]
struct Mark {
    /// What was begun until then is given up, in milliseconds since 1970.
    through_ms: i64,
}

/// What was begun until then is given up.
pub(super) fn swept_through(state: &State) -> i64 {
    let mark = state.get(SWEPT).and_then(|document| document.read::<Mark>().ok());
    mark.map_or(-1, |mark| mark.through_ms)
}

/// Sweeps the artifacts of every tenant that has any.
///
/// # Errors
/// As [`Log::transact`].
pub async fn all(store: &Store) -> Result<Swept> {
    let state = known(store)?.state().await?;
    let mut swept = Swept::default();
    for (_, document) in state.documents("") {
        let tenant = Tenant::new(document.read::<String>()?)?;
        swept.add(Artifacts::new(store.clone(), tenant).sweep().await?);
    }
    Ok(swept)
}

/// Where the tenants are listed that have artifacts.
fn known(store: &Store) -> Result<Log> {
    Ok(store.log(LogId::new(SYSTEM, "icecore", "artifacts")?))
}

pub(super) async fn make_known(store: &Store, tenant: &Tenant) -> Result<()> {
    let (log, key) = (known(store)?, names::key(tenant.as_str().as_bytes()));
    if log.document(&key).await?.is_none() {
        log.put(&key, Json::of(tenant.as_str())?).await?;
    }
    Ok(())
}

impl Artifacts {
    /// Deletes what has expired and what was left behind. It may be killed anywhere, and several may do it at once.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        for log in self.logs().await? {
            swept.add(self.sweep_session(&self.store.log(log)).await?);
        }
        for number in 0..index::SHARDS {
            self.sweep_entries(&index::shard(self, number)?).await?;
        }
        Ok(swept)
    }

    async fn sweep_session(&self, log: &Log) -> Result<Swept> {
        // Listed before the state is read: what has a record by then is not taken for left behind.
        let blobs = log.store().backend().list_blobs(log.id(), CONTENT).await?;
        let limit = self.now_ms() - i64::try_from(LEFT_BEHIND.as_millis()).unwrap_or(i64::MAX);
        let (mut expired, mut left, mut is_deleted) = (Vec::new(), HashSet::new(), true);
        let done = log.transact(|state| {
            is_deleted = false;
            let (changes, gone, bodies) = self.expire(log, state)?;
            let through = swept_through(state).max(limit);
            left.clear();
            for (body, begun) in blobs.iter().filter_map(|blob| body::begun(&blob.name)) {
                if begun <= through && !bodies.contains(body) {
                    left.insert(body.to_owned());
                }
            }
            expired = gone;
            if left.is_empty() || through <= swept_through(state) {
                return Ok(changes);
            }
            Ok(changes.put(SWEPT, Json::of(&Mark { through_ms: through })?))
        });
        match done.await {
            // Of a log that was deleted, all of it was left behind.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => drop(done?),
        }
        body::delete(log, &expired).await;
        let mut swept = Swept { sessions: 1, expired: expired.len() as u64, ..Swept::default() };
        swept.bytes = expired.iter().fold(0, |sum, one| sum.saturating_add(one.bytes));
        for blob in &blobs {
            if is_deleted || body::begun(&blob.name).is_some_and(|(body, _)| left.contains(body)) {
                log.store().backend().delete_blob(&BlobId::new(log.id().clone(), &blob.name)?).await?;
                swept.left_behind += 1;
            }
        }
        Ok(swept)
    }

    /// Takes away what has expired, of whomever it is, and notes of uses without a record: with what they were, and the bodies of those that stay.
    fn expire(&self, log: &Log, state: &State) -> Result<(Changes, Vec<Record>, HashSet<String>)> {
        let now = self.now_ms();
        let (mut changes, mut gone, mut bodies) = (Changes::new(), Vec::new(), HashSet::new());
        for (key, document) in state.documents(record::RECORDS) {
            let record = Record::read(log, document)?;
            if record.is_there(now) {
                bodies.insert(record.body);
                continue;
            }
            let of_uses = format!("{}{}", record::USES, &key[record::RECORDS.len()..]);
            changes = changes.delete(key).delete(of_uses);
            gone.push(record);
        }
        for (key, _) in state.documents(record::USES) {
            let of_records = format!("{}{}", record::RECORDS, &key[record::USES.len()..]);
            if state.get(&of_records).is_none() {
                changes = changes.delete(key);
            }
        }
        Ok((changes, gone, bodies))
    }

    /// Takes away old entries that lead to no record: on the condition that nobody has said again since that there is one.
    async fn sweep_entries(&self, log: &Log) -> Result<()> {
        let (old, mut after) = (self.store.now().before(LEFT_BEHIND), None::<String>);
        loop {
            let page = log.documents("", after.as_deref(), PAGE).await?;
            for (key, document) in page.documents.iter().filter(|(_, document)| document.at <= old) {
                let entry: Entry = document.read()?;
                if self.leads_somewhere(&entry).await? {
                    continue;
                }
                let condition = Condition::Document { key: key.clone(), version: document.version };
                match log.commit(Changes::new().delete(key.clone()).only_if(condition)).await {
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    done => drop(done?),
                }
            }
            after = page.documents.last().map(|(key, _)| key.clone());
            if !page.has_more {
                return Ok(());
            }
        }
    }

    async fn leads_somewhere(&self, entry: &Entry) -> Result<bool> {
        let log = self.store.log(self.tenant.keyed(names::Kind::Artifacts, &entry.session)?);
        let key = format!("{}{}/{}", record::RECORDS, entry.owner, names::key(entry.id.as_bytes()));
        match log.document(&key).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) => gone::<bool>(error).map(Option::unwrap_or_default),
        }
    }
}
