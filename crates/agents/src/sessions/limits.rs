//! How many sessions a tenant and each of its users may have, and how long one lasts unless it is said.
//!
//! A creator first puts its entries, and then counts: of all that were let in, whoever came last has counted the others. So there are never
//! more than there may be; and of those that race for the last place all may be refused.

use std::time::Duration;

use futures_util::future::try_join_all;
use icecore_log::{Error, ErrorKind, Result};
use icecore_store::state::{Changes, Document, Json, State};
use serde::{Deserialize, Serialize};

use super::directory::{self, Directories, Directory, SHARDS, Seen};
use super::list::Walk;
use super::{Sessions, Status};
use crate::scope::SessionScope;

const LIMITS: &str = "limits";
/// So many entries are looked at together.
const TOGETHER: usize = 500;

/// What a tenant's administrator has said. By default nothing is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// So many live sessions the tenant may have.
    pub sessions_per_tenant: Option<u64>,
    /// So many live sessions each user may have.
    pub sessions_per_user: Option<u64>,
    /// A new session expires when it was not touched for so long.
    pub idle: Option<Duration>,
    /// A new session expires after so long, however often it is touched.
    pub lifetime: Option<Duration>,
}

/// As it is stored.
#[derive(Serialize, Deserialize, Default)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions_per_tenant: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions_per_user: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
}

impl Limits {
    fn read(document: Option<&Document>) -> Result<Self> {
        let stored: Stored = document.map_or_else(|| Ok(Stored::default()), Document::read)?;
        Ok(Self {
            sessions_per_tenant: stored.sessions_per_tenant,
            sessions_per_user: stored.sessions_per_user,
            idle: stored.idle_ms.map(Duration::from_millis),
            lifetime: stored.lifetime_ms.map(Duration::from_millis),
        })
    }
}

impl Stored {
    fn of(limits: &Limits) -> Result<Self> {
        if [limits.idle, limits.lifetime].iter().flatten().any(|length| length.as_millis() == 0) {
            return Err(Error::new(ErrorKind::Invalid, "limiting sessions")
                .advise("New sessions would expire at once: give a millisecond at least"));
        }
        let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            sessions_per_tenant: limits.sessions_per_tenant,
            sessions_per_user: limits.sessions_per_user,
            idle_ms: limits.idle.map(ms),
            lifetime_ms: limits.lifetime.map(ms),
        })
    }
}

impl Sessions {
    /// The tenant's limits.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn limits(&self) -> Result<Limits> {
        let found = directory::settings(&self.store, &self.tenant)?.document(LIMITS).await?;
        Limits::read(found.as_ref())
    }

    /// Sets the tenant's limits, for all processes and for sessions that are made from now on; those that are there stay as they are.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if new sessions would expire at once; else as [`Log::append`](icecore_store::Log::append).
    pub async fn set_limits(&self, limits: &Limits) -> Result<()> {
        let json = Json::of(&Stored::of(limits)?)?;
        directory::settings(&self.store, &self.tenant)?.put(LIMITS, json).await.map(drop)
    }

    /// Changes some of the tenant's limits; what others change meanwhile is kept.
    ///
    /// # Errors
    /// As [`Sessions::set_limits`]; and as [`Log::transact`](icecore_store::Log::transact).
    pub async fn change_limits(&self, change: impl Fn(&mut Limits)) -> Result<Limits> {
        let mut limits = Limits::default();
        let changed = |state: &State| {
            limits = Limits::read(state.get(LIMITS))?;
            change(&mut limits);
            Ok(Changes::new().put(LIMITS, Json::of(&Stored::of(&limits)?)?))
        };
        directory::settings(&self.store, &self.tenant)?.transact(changed).await?;
        Ok(limits)
    }

    /// Whether there may be the session whose entries were just put.
    pub(super) async fn is_within(
        &self,
        limits: &Limits,
        scope: &SessionScope,
        directories: &Directories,
    ) -> Result<()> {
        let refused = |whose: &str, max: u64| {
            scope
                .error(ErrorKind::Refused, "creating a session")
                .with("sessions_max", max)
                .with("limit_of", whose)
                .advise(format!(
                    "The {whose} has as many sessions as it may have: end one, or raise the limit"
                ))
        };
        if let Some(max) = limits.sessions_per_user
            && !self.are_at_most(vec![directories.user().clone()], max).await?
        {
            return Err(refused("user", max));
        }
        if let Some(max) = limits.sessions_per_tenant
            && !self.are_at_most(self.of_tenant()?, max).await?
        {
            return Err(refused("tenant", max));
        }
        Ok(())
    }

    /// The directories that together list the tenant's sessions.
    pub(super) fn of_tenant(&self) -> Result<Vec<Directory>> {
        (0..SHARDS).map(|shard| Directory::of_tenant(&self.store, &self.tenant, shard)).collect()
    }

    /// Whether these list at most so many that are live, or may come to be.
    async fn are_at_most(&self, directories: Vec<Directory>, max: u64) -> Result<bool> {
        let counts = try_join_all(directories.iter().map(Directory::count)).await?;
        if counts.iter().sum::<u64>() <= max {
            return Ok(true);
        }
        // Some may have ended, and not been swept yet.
        let (mut walk, mut live) = (Walk::new(directories, None), 0);
        loop {
            let entries = walk.next(TOGETHER).await?;
            if entries.is_empty() {
                return Ok(true);
            }
            let counts = |seen: &Seen| match seen {
                Seen::Session(session, _) => session.status == Status::Live,
                Seen::Unborn(_) => true,
                Seen::Nothing => false,
            };
            live += self.see(&entries).await?.iter().filter(|seen| counts(seen)).count() as u64;
            if live > max {
                return Ok(false);
            }
        }
    }
}
