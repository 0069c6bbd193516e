//! Making a session: of all that race for an id, in any process, exactly one makes it.
//!
//! 1. The session's own log is looked at, and where it ends.
//! 2. An entry goes into the directory of the user and one of the tenant's. It says that it is not known whether there is a session.
//! 3. The session is written, on the condition that its log still ends there. This decides.
//! 4. The entries say that it is there. Whoever lost takes its own away again.
//!
//! If it is killed between 2 and 4, whoever lists finds an entry that must be looked at. Who takes such an entry away first writes into the
//! session's log, so that a creator who was only slow fails at 3.

use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result, Version};
use icecore_store::state::{Changes, Condition, Json};

use super::directory::{Entry, MADE};
use super::record::{self, Record, SESSION, TOUCHED};
use super::{Session, Sessions};
use crate::scope::SessionScope;

/// How often it is begun anew because something else was written into the session's log meanwhile.
const TRIES: u32 = 8;

/// How long a session lasts; what is not said is as the tenant's [`Limits`](super::Limits) say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewSession {
    /// It expires when it was not touched for so long.
    pub idle: Option<Duration>,
    /// It expires so long after it was made, however often it is touched.
    pub lifetime: Option<Duration>,
}

impl Sessions {
    /// Makes a session. An id names one session for ever: also one that has ended, or was purged, is not made again.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is one, or was, with the fact `state`; [`Refused`](ErrorKind::Refused) if there are as many
    /// as there may be; [`Invalid`](ErrorKind::Invalid) if it would last for no time; else as [`Log::append`](icecore_store::Log::append).
    pub async fn create(&self, scope: &SessionScope, new: NewSession) -> Result<Session> {
        self.owns(scope)?;
        let limits = self.limits().await?;
        let new = NewSession { idle: new.idle.or(limits.idle), lifetime: new.lifetime.or(limits.lifetime) };
        if [new.idle, new.lifetime].contains(&Some(Duration::ZERO)) {
            return Err(scope.error(ErrorKind::Invalid, DOING).advise("It would have expired at once"));
        }
        for _ in 0..TRIES {
            let version = self.is_free(scope).await?;
            let made = self.new_record(scope, new);
            let directories = self.directories(scope)?;
            let entry = Entry::of(&made);
            directories.enter(&entry).await?;
            if let Err(error) = self.is_within(&limits, scope, &directories).await {
                directories.leave(&entry.key).await?;
                return Err(error);
            }
            match self.write_record(scope, &made, version).await {
                Ok(session) => {
                    // It is there. If this fails, whoever lists it looks.
                    let _ = directories.mark(&entry.key, MADE).await;
                    return Ok(session);
                }
                // It may be there, and its entries lead to it.
                Err(error) if error.kind() == ErrorKind::Unknown => return Err(error),
                Err(error) => {
                    let left = directories.leave(&entry.key).await;
                    if error.kind() != ErrorKind::Conflict {
                        return Err(error);
                    }
                    left?;
                }
            }
        }
        Err(scope.error(ErrorKind::Unavailable, DOING).advise("Others were always first: retry"))
    }

    /// The live session of this id, which is made if there is none; and whether it was made.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if it has ended; else as [`Sessions::create`].
    pub async fn get_or_create(&self, scope: &SessionScope, new: NewSession) -> Result<(Session, bool)> {
        match self.create(scope, new).await {
            Ok(session) => Ok((session, true)),
            Err(error) if error.fact("state") == Some(super::Status::Live.name()) => {
                Ok((self.get(scope).await?, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Where the session's log ends, in which there is no session yet.
    async fn is_free(&self, scope: &SessionScope) -> Result<Version> {
        let taken = |state: &str, advice: &str| {
            Err(scope.error(ErrorKind::Conflict, DOING).with("state", state).advise(advice))
        };
        let Some(state) = self.state(scope).await? else {
            return taken("purged", "It was purged: an id names one session for ever. Choose another");
        };
        if Record::of(&state)?.is_none() {
            return Ok(state.version);
        }
        match Record::session(&state, scope, self.store.now()).map(|session| session.status) {
            Some(status @ super::Status::Live) => taken(status.name(), "There is such a session: get it"),
            Some(status) => {
                taken(status.name(), "It has ended: an id names one session for ever. Choose another")
            }
            // Two ids that have one SHA-256.
            None => taken("other", "Another id stands for this log. Choose another"),
        }
    }

    fn new_record(&self, scope: &SessionScope, new: NewSession) -> Record {
        let created_at = self.store.now();
        Record {
            user: scope.user().id().to_owned(),
            session: scope.id().to_owned(),
            created_at_ns: created_at.0,
            nonce: format!("{:016x}", u64::from_be_bytes(self.store.random())),
            idle_ms: new.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX).max(1)),
            expires_at_ns: new.lifetime.map(|lifetime| created_at.after(lifetime).0),
        }
    }

    async fn write_record(&self, scope: &SessionScope, made: &Record, behind: Version) -> Result<Session> {
        let log = self.record(scope)?;
        let changes = Changes::new()
            .put(SESSION, Json::of(made)?)
            .put(TOUCHED, record::nothing()?)
            .only_if(Condition::Log(behind));
        log.commit(changes).await.map_err(|error| {
            if super::is_purged(&error) {
                Error::new(ErrorKind::Conflict, DOING).because(error)
            } else {
                error
            }
        })?;
        // It may have ended by now.
        self.find(scope).await?.ok_or_else(|| super::none(scope, DOING))
    }
}

const DOING: &str = "creating a session";
