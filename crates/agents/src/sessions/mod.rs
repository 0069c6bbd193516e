//! Sessions of a tenant's users: made once, touched, expired, ended, listed newest first. `docs/formats/sessions.md` is the specification.
//!
//! | module | holds |
//! | --- | --- |
//! | `record` | what a session's own log says of it |
//! | [`create`] | making one: exactly one of all that race |
//! | `directory` | the logs that list sessions, and what an entry in them means |
//! | [`list`] | pages, newest first |
//! | [`limits`] | how many there may be, and how long they last unless it is said |
//! | [`purge`] | what is deleted for good |
//! | [`sweep`] | repairing what a killed process left, and purging what has ended |
//! | [`token`] | secrets that open exactly one session |
//!
//! A session is there if its own log says so, and nothing else decides. Directories are written before that and corrected after it; so
//! what a killed process leaves is an entry too many, which says itself that somebody must look, and never one too few.

pub mod create;
mod directory;
pub mod limits;
pub mod list;
pub mod purge;
mod record;
pub mod sweep;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result, Timestamp};
use icecore_store::state::{Changes, Consistency, Json, State};
use icecore_store::{Log, Store};

use crate::names::Tenant;
use crate::scope::SessionScope;

pub use create::NewSession;
pub use limits::Limits;
pub use list::{Of, Query, SessionPage};
pub use purge::Purged;
pub use sweep::Swept;
pub use token::{Issued, Token};

use directory::Directories;
use record::{ENDED, Ended, Record, TOUCHED};

/// The sessions of one tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Store,
    tenant: Tenant,
}

/// A session as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// Which one.
    pub scope: SessionScope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something was last written of it: it was made, touched, ended, or given or denied a token.
    pub touched_at: Timestamp,
    /// After how long without a touch it expires.
    pub idle: Option<Duration>,
    /// When it expires, however often it is touched.
    pub expires_at: Option<Timestamp>,
    /// Whether it can be used.
    pub status: Status,
}

/// Whether a session can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It can.
    Live,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Terminated,
}

impl Status {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Terminated => "terminated",
        }
    }
}

impl Session {
    /// When it expires if it is not touched any more.
    pub fn expires_next(&self) -> Option<Timestamp> {
        let idle = self.idle.map(|idle| self.touched_at.after(idle));
        idle.into_iter().chain(self.expires_at).min()
    }

    /// When it ended; `None` as long as it is live.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.status {
            Status::Live => None,
            Status::Expired => self.expires_next(),
            Status::Terminated => Some(self.touched_at),
        }
    }

    /// As it is at a time: whether it has expired is judged when somebody looks.
    fn judged(mut self, is_terminated: bool, now: Timestamp) -> Self {
        self.status = match self.expires_next() {
            _ if is_terminated => Status::Terminated,
            Some(end) if end <= now => Status::Expired,
            _ => Status::Live,
        };
        self
    }
}

impl Sessions {
    /// Those of a tenant.
    pub fn new(store: Store, tenant: Tenant) -> Self {
        Self { store, tenant }
    }

    /// The tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A session that can be used.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none, or it has ended; else as reading a log.
    pub async fn get(&self, scope: &SessionScope) -> Result<Session> {
        let found = self.find(scope).await?;
        found.ok_or_else(|| none(scope, DOING)).and_then(|session| must_live(session, DOING))
    }

    /// A session, also one that has ended; `None` if there is none, or it was purged.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if its record is something else; else as reading a log.
    pub async fn find(&self, scope: &SessionScope) -> Result<Option<Session>> {
        let Some(state) = self.state(scope).await? else { return Ok(None) };
        // What cannot be read is not taken for none.
        Record::of(&state)?;
        Ok(Record::session(&state, scope, self.store.now()))
    }

    /// Says that it is being used: it does not expire for as long again as it may be idle.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none, or it has ended: nothing brings it back. Else as
    /// [`Log::transact`].
    pub async fn touch(&self, scope: &SessionScope) -> Result<Session> {
        self.change(scope, "touching a session", |_| Ok(Changes::new())).await
    }

    /// Ends a session for good, and says why. One that somebody ended before is given as it is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none, or it has expired; else as [`Log::transact`].
    pub async fn terminate(&self, scope: &SessionScope, because: &str) -> Result<Session> {
        let Some(state) = self.state(scope).await? else { return Err(none(scope, ENDING)) };
        let (Some(record), Some(session)) =
            (Record::of(&state)?, Record::session(&state, scope, self.store.now()))
        else {
            return Err(none(scope, ENDING));
        };
        let directories = self.directories(scope)?;
        if session.status != Status::Terminated {
            must_live(session, ENDING)?;
            // From here on, who lists it looks whether it has ended.
            directories.mark(&record.key(), directory::ENDING).await?;
            self.end(scope, because, &[Status::Live]).await?;
        }
        // That it ended is said by its record. If this fails, it will be looked at.
        let _ = directories.mark(&record.key(), directory::ENDED).await;
        let ended = self.find(scope).await?;
        ended.ok_or_else(|| none(scope, ENDING))
    }

    /// Ends a session that is so; one that somebody ended stays as it is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is otherwise.
    async fn end(&self, scope: &SessionScope, because: &str, those: &[Status]) -> Result<()> {
        let json = Json::of(&Ended { because: because.to_owned() })?;
        let ending = |state: &State| {
            let session = Record::session(state, scope, self.store.now());
            let session = session.ok_or_else(|| none(scope, ENDING))?;
            if session.status == Status::Terminated {
                return Ok(Changes::new());
            }
            if !those.contains(&session.status) {
                let error = scope.error(ErrorKind::NotFound, ENDING).with("state", session.status.name());
                return Err(error.advise("It is not as it was: look again"));
            }
            Ok(Changes::new().put(ENDED, json.clone()))
        };
        self.record(scope)?.transact(ending).await.map(drop)
    }

    /// Changes what is said of a live session, which is a touch as well.
    async fn change(
        &self,
        scope: &SessionScope,
        doing: &'static str,
        mut changes: impl FnMut(&State) -> Result<Changes>,
    ) -> Result<Session> {
        self.owns(scope)?;
        let log = self.record(scope)?;
        let touch = |state: &State| {
            let session = Record::session(state, scope, self.store.now());
            must_live(session.ok_or_else(|| none(scope, doing))?, doing)?;
            Ok(changes(state)?.put(TOUCHED, record::nothing()?))
        };
        log.transact(touch)
            .await
            .map_err(|error| if is_purged(&error) { none(scope, doing) } else { error })?;
        // What this process has just appended is known to it.
        let state = log.with(Consistency::Eventual).state().await?;
        let session = Record::session(&state, scope, self.store.now());
        session.ok_or_else(|| none(scope, doing))
    }

    /// What a session's own log says; `None` if it was purged.
    async fn state(&self, scope: &SessionScope) -> Result<Option<Arc<State>>> {
        self.owns(scope)?;
        match self.record(scope)?.state().await {
            Ok(state) => Ok(Some(state)),
            Err(error) if is_purged(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn record(&self, scope: &SessionScope) -> Result<Log> {
        Ok(self.store.log(scope.record()?))
    }

    fn directories(&self, scope: &SessionScope) -> Result<Directories> {
        Directories::of(&self.store, scope)
    }

    /// # Errors
    /// [`ErrorKind::Refused`] if it is another tenant's.
    fn owns(&self, scope: &SessionScope) -> Result<()> {
        if *scope.tenant() == self.tenant {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, DOING).advise("It is another tenant's session"))
    }
}

const DOING: &str = "looking for a session";
const ENDING: &str = "ending a session";

fn none(scope: &SessionScope, doing: &'static str) -> Error {
    scope.error(ErrorKind::NotFound, doing).advise("There is no such session")
}

fn must_live(session: Session, doing: &'static str) -> Result<Session> {
    let advice = match session.status {
        Status::Live => return Ok(session),
        Status::Expired => "It has expired: create another, with another id",
        Status::Terminated => "It was ended: create another, with another id",
    };
    Err(session.scope.error(ErrorKind::NotFound, doing).with("state", session.status.name()).advise(advice))
}

/// Whether a log is not there any more because it was deleted.
fn is_purged(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.fact("sealed_at").is_some()
}
