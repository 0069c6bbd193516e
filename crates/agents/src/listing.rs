//! Which sessions a runtime has. It makes none: a session is there once something is saved under its id, and gone when all of that is.
//! [`crate::sessions`] are others, which are made and end.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use icecore_log::{Cursor, Error, ErrorKind, Head, Header, LogId, LogPrefix, Result, Timestamp};
use icecore_store::Store;

use crate::artifacts::Artifacts;
use crate::deletion::BY_SESSION;
use crate::names::{self, Kind, Tenant};

/// What is by session: a session is listed by the first of these that it ever had.
const KINDS: [Kind; 6] = {
    let [updates, steering, tasks, traces, conversation] = BY_SESSION;
    [updates, steering, tasks, traces, conversation, Kind::Artifacts]
};
/// The most sessions of a page.
const LIMIT_MAX: usize = 1_000;
/// So many pages of names may have no session that is left or new, before a page without any is given.
const PAGES_MAX: usize = 2 * KINDS.len();

/// Lists the sessions of a tenant's runtime.
#[derive(Debug)]
pub struct Listing {
    store: Store,
    tenant: Tenant,
}

/// A session of which something is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its id, as a log's key: see [`names::key`].
    pub key: String,
    /// When something was last saved of it, of what is by session.
    pub active: Timestamp,
    /// What there is, by kind of log.
    pub kinds: Vec<&'static str>,
}

impl Listed {
    /// The session's id; `None` if it is too long or no text, so that only its hash is stored.
    pub fn id(&self) -> Option<&str> {
        (!names::is_hashed(&self.key)).then_some(&self.key)
    }
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ListedPage {
    /// In no order that means anything.
    pub sessions: Vec<Listed>,
    /// Where the next page begins; `None` after the last. A page may be empty, and another follow.
    pub next: Option<String>,
}

impl Listing {
    /// Of this tenant.
    pub fn new(store: Store, tenant: Tenant) -> Self {
        Self { store, tenant }
    }

    /// A page of at most so many, behind a cursor that a page gave. A session that is there throughout is on exactly one page.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the cursor is none, or the limit is 0; else as reading a log.
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<ListedPage> {
        if limit == 0 {
            return Err(Error::new(ErrorKind::Invalid, DOING).advise("A page has room for one at the least"));
        }
        let mut page = self.one(after, limit).await?;
        for _ in 1..PAGES_MAX {
            let Some(next) = page.next.as_deref().filter(|_| page.sessions.is_empty()) else { break };
            page = self.one(Some(next), limit).await?;
        }
        Ok(page)
    }

    /// A page of the names of one kind.
    async fn one(&self, after: Option<&str>, limit: usize) -> Result<ListedPage> {
        let (place, cursor) = after.map_or(Ok((0, None)), parse)?;
        let prefix = LogPrefix::kind(self.tenant.as_str(), KINDS[place].name())?;
        let page = self.store.logs(&prefix, cursor, limit.min(LIMIT_MAX)).await?;
        let next = match page.next {
            Some(Cursor(bytes)) => Some(format!("{place}.{}", BASE64.encode(bytes))),
            None if place + 1 < KINDS.len() => Some(format!("{}.", place + 1)),
            None => None,
        };
        // What is kept for no session.
        let nobody = names::key(b"");
        let keys: Vec<_> = page.logs.iter().map(LogId::key).filter(|key| *key != nobody).collect();
        Ok(ListedPage { sessions: self.look(place, keys).await?, next })
    }

    /// Of these, which have a log of the kind at this place, those that no earlier kind has listed, and of which something is left.
    async fn look(&self, place: usize, keys: Vec<String>) -> Result<Vec<Listed>> {
        let log = |key: &str, kind| self.tenant.keyed(kind, key);
        let all = keys.iter().flat_map(|key| KINDS.map(|kind| log(key, kind)));
        let logs = all.collect::<Result<Vec<_>>>()?;
        let mut heads = self.store.backend().heads(&logs).await?.into_iter();
        let mut sessions = Vec::new();
        for (key, logs) in keys.into_iter().zip(logs.chunks(KINDS.len())) {
            let heads: Vec<_> = heads.by_ref().take(KINDS.len()).collect();
            if heads[..place].iter().any(Option::is_some) {
                continue;
            }
            let mut listed = Listed { key, active: Timestamp(i64::MIN), kinds: Vec::new() };
            for ((kind, log), head) in KINDS.iter().zip(logs).zip(heads) {
                let Some(head) = head else { continue };
                if let Some(at) = self.last(*kind, log, &head).await? {
                    listed.active = listed.active.max(at);
                    listed.kinds.push(kind.name());
                }
            }
            if !listed.kinds.is_empty() {
                sessions.push(listed);
            }
        }
        Ok(sessions)
    }

    /// When something was last saved in a log; `None` if nothing of it is left.
    async fn last(&self, kind: Kind, log: &LogId, head: &Head) -> Result<Option<Timestamp>> {
        let header = Header::decode(head.header.clone())?;
        let is_left = if header.flags.seal {
            false
        } else if kind == Kind::Artifacts || (header.flags.base && head.boundary.next() == head.version) {
            // A log of artifacts begins before it has one; and what was trimmed to its state may have none.
            let state = match self.store.log(log.clone()).state().await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                state => state?,
            };
            state.documents("").any(|(key, _)| kind != Kind::Artifacts || Artifacts::is_of_one(key))
        } else {
            true
        };
        Ok(is_left.then_some(header.at))
    }
}

const DOING: &str = "listing sessions";

/// The kind that a cursor is in, and where it is in the names of that.
fn parse(after: &str) -> Result<(usize, Option<Cursor>)> {
    let parsed = || {
        let (place, cursor) = after.split_once('.')?;
        let place = place.parse().ok().filter(|place| *place < KINDS.len())?;
        let cursor = BASE64.decode(cursor).ok()?;
        Some((place, (!cursor.is_empty()).then(|| Cursor(Bytes::from(cursor)))))
    };
    parsed().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, DOING)
            .advise("The cursor is not of this listing: take what a page gave")
    })
}
