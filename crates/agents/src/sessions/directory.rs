//! The logs that list sessions: one for each user, and four for each tenant, among which its sessions are spread, so that no two that
//! are made at the same time need meet in one. A page of a tenant's sessions is merged of the four.
//!
//! An entry is a document whose key sorts by when the session was made, newest first. Entries are put, patched and deleted without any
//! condition, so that many do so at once, and nobody needs the whole of a large directory. How many there are is a document as well, which
//! each entry changes once when it comes and once when it goes: by the ids of those changes.

use std::time::Duration;

use futures_util::future::{join, try_join, try_join_all};
use icecore_log::{
    EntryId, Error, ErrorKind, Hash, Head, Header, LogId, LogPrefix, Result, Timestamp, Version,
};
use icecore_store::state::{Changes, Document, Json, Merge};
use icecore_store::{Log, Store};
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::{Session, Sessions};
use crate::names::Tenant;
use crate::scope::{SessionScope, UserScope};

/// Among so many logs a tenant's sessions are spread.
pub(super) const SHARDS: u8 = 4;
/// The second part of the logs' names.
const KIND: &str = "directory";
const ENTRIES: &str = "e/";
const COUNT: &str = "count";
/// A key has sixteen digits of the time, and as many that tell it from others.
const KEY_LEN: usize = 32;

/// The session is there. Without it, that must be looked at.
pub(super) const MADE: &str = "made";
/// It is being ended. Whether it has must be looked at, unless it has [`ENDED`] as well.
pub(super) const ENDING: &str = "ending";
/// It has ended.
pub(super) const ENDED: &str = "ended";

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: String,
    /// What is stored; `None` if it is not an entry: a mark that came after it was taken away.
    pub stored: Option<Stored>,
}

/// As it is stored.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub user: String,
    pub session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// The key of a session's entries: first what was made last.
pub(super) fn key(created_at: Timestamp, nonce: &str) -> String {
    // Negative times come before the others.
    let since_the_first = created_at.0.cast_unsigned() ^ (1 << 63);
    format!("{:016x}{nonce}", u64::MAX - since_the_first)
}

/// Whether it is a key of an entry.
pub(super) fn is_key(key: &str) -> bool {
    key.len() == KEY_LEN && key.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Entry {
    /// Of a session that may come to be.
    pub fn of(record: &Record) -> Self {
        let stored = Stored {
            user: record.user.clone(),
            session: record.session.clone(),
            idle_ms: record.idle_ms,
            expires_at_ns: record.expires_at_ns,
            made: false,
            ending: false,
            ended: false,
        };
        Self { key: record.key(), stored: Some(stored) }
    }

    /// What stands under a key. A mark that came too late names no user; anything else that is no entry is not taken for nothing.
    fn read(key: String, document: &Document) -> Result<Self> {
        match document.read() {
            Ok(stored) => Ok(Self { key, stored: Some(stored) }),
            Err(_) if document.value()?.get("user").is_none() => Ok(Self { key, stored: None }),
            Err(error) => Err(Error::new(ErrorKind::Corrupt, "reading an entry of a directory")
                .because(error)
                .with("entry", key)
                .advise("It does not say which session it is of: delete the document if nobody knows it")),
        }
    }

    /// Its nonce.
    fn nonce(&self) -> &str {
        self.key.get(16..).unwrap_or_default()
    }

    /// When the session was made.
    pub fn created_at(&self) -> Timestamp {
        let inverted = self.key.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        Timestamp(((u64::MAX - inverted.unwrap_or(u64::MAX)) ^ (1 << 63)).cast_signed())
    }
}

impl Stored {
    pub fn scope(&self, tenant: &Tenant) -> Result<SessionScope> {
        tenant.user(&*self.user)?.session(&*self.session)
    }
}

/// One log that lists sessions.
#[derive(Debug, Clone)]
pub(super) struct Directory(pub Log);

impl Directory {
    pub fn of_user(store: &Store, user: &UserScope) -> Result<Self> {
        Self::named(store, user.tenant(), &format!("user/{}", user.key()))
    }

    pub fn of_tenant(store: &Store, tenant: &Tenant, shard: u8) -> Result<Self> {
        Self::named(store, tenant, &format!("tenant/{shard}"))
    }

    fn named(store: &Store, tenant: &Tenant, key: &str) -> Result<Self> {
        LogId::new(tenant.as_str(), KIND, key).map(|id| Self(store.log(id)))
    }

    /// A directory by the name of its log; `None` if it is none.
    pub fn by_name(store: &Store, log: LogId) -> Option<Self> {
        let key = log.key();
        (key.starts_with("tenant/") || key.starts_with("user/")).then(|| Self(store.log(log)))
    }

    /// Puts an entry, once.
    pub async fn enter(&self, entry: &Entry) -> Result<()> {
        let Some(stored) = &entry.stored else { return Ok(()) };
        let changes = Changes::new()
            .put(format!("{ENTRIES}{}", entry.key), Json::of(stored)?)
            .merge(COUNT, Merge::add(&1)?)
            .with_id(EntryId::new(format!("in.{}", entry.key))?);
        self.0.commit(changes).await.map(drop)
    }

    /// Takes away an entry that was put, once.
    pub async fn leave(&self, key: &str) -> Result<()> {
        let changes = Changes::new()
            .delete(format!("{ENTRIES}{key}"))
            .merge(COUNT, Merge::add(&-1)?)
            .with_id(EntryId::new(format!("out.{key}"))?);
        self.0.commit(changes).await.map(drop)
    }

    /// Takes an entry away if it is there. One that never came is not counted as gone.
    pub async fn leave_if_there(&self, key: &str) -> Result<()> {
        if self.entry(key).await?.is_some() { self.leave(key).await } else { Ok(()) }
    }

    /// Takes away what is none.
    pub async fn clear(&self, key: &str) -> Result<()> {
        self.0.delete(&format!("{ENTRIES}{key}")).await.map(drop)
    }

    /// Says something of an entry.
    pub async fn mark(&self, key: &str, mark: &str) -> Result<()> {
        let patch = Json::text(format!(r#"{{"{mark}":true}}"#))?;
        self.0.patch(&format!("{ENTRIES}{key}"), patch).await.map(drop)
    }

    /// One entry.
    pub async fn entry(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.0.document(&format!("{ENTRIES}{key}")).await?;
        found.map(|document| Entry::read(key.to_owned(), &document)).transpose()
    }

    /// How many entries it has.
    pub async fn count(&self) -> Result<u64> {
        let count = self.0.document(COUNT).await?.map(|document| document.read::<i64>()).transpose()?;
        Ok(count.unwrap_or(0).max(0).unsigned_abs())
    }

    /// Entries behind a key, and whether there may be more.
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<(Vec<Entry>, bool)> {
        let after = after.map(|after| format!("{ENTRIES}{after}"));
        let page = self.0.documents(ENTRIES, after.as_deref(), limit).await?;
        let entry = |(key, document): (String, Document)| {
            Entry::read(key.strip_prefix(ENTRIES).unwrap_or(&key).to_owned(), &document)
        };
        let entries = page.documents.into_iter().map(entry).collect::<Result<_>>();
        entries.map(|entries| (entries, page.has_more)).map_err(|error| error.with("log", self.0.id()))
    }
}

/// Those of a session: of its user, and of its tenant.
#[derive(Debug)]
pub(super) struct Directories {
    user: Directory,
    tenant: Directory,
}

impl Directories {
    pub fn of(store: &Store, scope: &SessionScope) -> Result<Self> {
        Ok(Self {
            user: Directory::of_user(store, scope.user())?,
            tenant: Directory::of_tenant(store, scope.tenant(), shard(scope)?)?,
        })
    }

    /// Puts an entry into both, or says that it may be in one.
    pub async fn enter(&self, entry: &Entry) -> Result<()> {
        let (user, tenant) = join(self.user.enter(entry), self.tenant.enter(entry)).await;
        // What was not seen to come is left to a sweep: if it comes, it says itself that it must be looked at.
        match (&user, &tenant) {
            (Ok(()), Err(_)) => drop(self.user.leave(&entry.key).await),
            (Err(_), Ok(())) => drop(self.tenant.leave(&entry.key).await),
            _ => {}
        }
        user.and(tenant)
    }

    /// Takes away what was put into both.
    pub async fn leave(&self, key: &str) -> Result<()> {
        try_join(self.user.leave(key), self.tenant.leave(key)).await.map(drop)
    }

    pub async fn leave_if_there(&self, key: &str) -> Result<()> {
        try_join(self.user.leave_if_there(key), self.tenant.leave_if_there(key)).await.map(drop)
    }

    pub async fn mark(&self, key: &str, mark: &str) -> Result<()> {
        try_join(self.user.mark(key, mark), self.tenant.mark(key, mark)).await.map(drop)
    }

    pub fn user(&self) -> &Directory {
        &self.user
    }
}

/// Which of the tenant's directories lists a session.
pub(super) fn shard(scope: &SessionScope) -> Result<u8> {
    Ok(Hash::of(scope.record()?.as_str().as_bytes()).0[0] % SHARDS)
}

/// The beginning of the names of a tenant's directories.
pub(super) fn prefix(tenant: &Tenant) -> Result<LogPrefix> {
    LogPrefix::kind(tenant.as_str(), KIND)
}

/// What limits a tenant has said.
pub(super) fn settings(store: &Store, tenant: &Tenant) -> Result<Log> {
    LogId::new(tenant.as_str(), KIND, "settings").map(|id| store.log(id))
}

/// What an entry leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A session, and whether the entry says all of it.
    Session(Session, Missing),
    /// Nothing yet: the session's log ends here. Its creator may still be on its way.
    Unborn(Version),
    /// Nothing, and nothing will come: another has the id, or it was purged.
    Nothing,
}

/// What an entry does not say of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Missing {
    pub made: bool,
    pub ended: bool,
    /// It is being purged, and whoever began may have been killed.
    pub is_being_purged: bool,
}

impl Sessions {
    /// What entries lead to, in their order: one look at the ends of all their sessions' logs, and one more at each that says that it must be
    /// looked at.
    pub(super) async fn see(&self, entries: &[Entry]) -> Result<Vec<Seen>> {
        let mut scopes = Vec::with_capacity(entries.len());
        for entry in entries {
            scopes.push(entry.stored.as_ref().map(|stored| stored.scope(&self.tenant)).transpose()?);
        }
        let records = scopes.iter().flatten().map(SessionScope::record).collect::<Result<Vec<_>>>()?;
        let heads =
            if records.is_empty() { Vec::new() } else { self.store.backend().heads(&records).await? };
        let mut heads = heads.into_iter();
        let looks = entries.iter().zip(scopes).map(|(entry, scope)| {
            let head = scope.as_ref().and_then(|_| heads.next().flatten());
            async move {
                match (&entry.stored, scope) {
                    (Some(stored), Some(scope)) => self.see_one(entry, stored, scope, head).await,
                    _ => Ok(Seen::Nothing),
                }
            }
        });
        try_join_all(looks).await
    }

    async fn see_one(
        &self,
        entry: &Entry,
        stored: &Stored,
        scope: SessionScope,
        head: Option<Head>,
    ) -> Result<Seen> {
        let Some(head) = head else { return Ok(Seen::Unborn(Version::ZERO)) };
        let header = Header::decode(head.header.clone())?;
        if header.flags.seal {
            return Ok(Seen::Nothing);
        }
        let is_all_said = stored.made && (stored.ended || !stored.ending);
        // What trims and repairs write is no touch; anything else in this log is.
        if is_all_said && !header.flags.base && !header.entries.is_empty() {
            let session = Session {
                scope,
                created_at: entry.created_at(),
                touched_at: header.at,
                idle: stored.idle_ms.map(Duration::from_millis),
                expires_at: stored.expires_at_ns.map(Timestamp),
                status: super::Status::Live,
            };
            return Ok(Seen::Session(session.judged(stored.ended, self.store.now()), Missing::default()));
        }
        let Some(state) = self.state(&scope).await? else { return Ok(Seen::Nothing) };
        let Some(record) = Record::of(&state)? else { return Ok(Seen::Unborn(state.version)) };
        if record.nonce != entry.nonce() {
            return Ok(Seen::Nothing);
        }
        let Some(session) = Record::session(&state, &scope, self.store.now()) else {
            return Ok(Seen::Nothing);
        };
        let is_ended = session.status == super::Status::Terminated;
        let missing = Missing {
            made: !stored.made,
            ended: is_ended && !stored.ended,
            is_being_purged: Record::is_being_purged(&state),
        };
        Ok(Seen::Session(session, missing))
    }
}
