//! Deleting sessions for good: all that they have, the user's artifacts in them, what says that they were, and where they are listed.
//!
//! A session is ended first, so that nobody finds half of it. Its own log goes after its others, and its entries go last: what leads to it
//! is there until it is gone, so that a purge that was killed is gone on with by the next, or by a sweep.

use std::collections::BTreeSet;
use std::ops::Bound;

use futures_util::future::try_join_all;
use icecore_log::{Error, ErrorKind, Header, LogId, LogPrefix, Result, Version};
use icecore_store::retention::{Keep, Trim};
use icecore_store::state::State;

use super::directory::{self, Directory, ENDING};
use super::list::{Of, Walk};
use super::record::{ENDED, PURGED, Record};
use super::{Sessions, Status};
use crate::artifacts::Artifacts;
use crate::scope::SessionScope;

const DOING: &str = "purging sessions";
const ANY: [Status; 3] = [Status::Live, Status::Expired, Status::Terminated];
/// So many names are looked at together.
const TOGETHER: usize = 500;

/// What a purge took, or would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Purged {
    /// Sessions.
    pub sessions: u64,
    /// Logs, theirs and such as nobody's session has.
    pub logs: u64,
    /// Artifacts of their users in them.
    pub artifacts: u64,
    /// Sessions that a hold keeps: they have ended, and can be purged when it is released.
    pub held: u64,
}

impl Sessions {
    /// Purges one session. Doing it again takes what was written since.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is nothing of it; [`Refused`](ErrorKind::Refused) if somebody holds its history: it has
    /// ended then all the same; else as [`Store::delete_log`](icecore_store::Store::delete_log).
    pub async fn purge(&self, scope: &SessionScope) -> Result<Purged> {
        let purged = self.purge_one(scope, None, &ANY).await?;
        if purged == Purged::default() { Err(super::none(scope, DOING)) } else { Ok(purged) }
    }

    /// What [`Sessions::purge`] would take.
    ///
    /// # Errors
    /// As [`Sessions::purge`].
    pub async fn plan_purge(&self, scope: &SessionScope) -> Result<Purged> {
        let sessions = u64::from(self.find(scope).await?.is_some());
        let logs = self.living(&scope.prefix()?).await?;
        for log in &logs {
            self.check_free(log).await?;
        }
        let artifacts = self.artifacts().plan_clear_user(scope.id().as_bytes(), user(scope)).await?;
        if logs.is_empty() && artifacts == 0 {
            return Err(super::none(scope, DOING));
        }
        Ok(Purged { sessions, logs: logs.len() as u64, artifacts, held: 0 })
    }

    /// Purges every session of the tenant or of one user, also those that have ended, and what their directories remember of them. The
    /// tenant's limits stay, and there may be new sessions.
    ///
    /// # Errors
    /// As [`Sessions::purge`]; what is held is counted and passed over.
    pub async fn purge_all(&self, of: &Of) -> Result<Purged> {
        let (mut all, mut held) = (Purged::default(), BTreeSet::new());
        let mut walk = Walk::new(self.directories_of(of)?, None);
        loop {
            let entries = walk.next(TOGETHER).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if let Some(stored) = &entry.stored {
                    let scope = stored.scope(&self.tenant)?;
                    let purged = self.purge_one(&scope, Some(&entry.key), &ANY).await;
                    if all.count(purged)? {
                        held.insert(scope.prefix()?.as_str().to_owned());
                    }
                }
            }
        }
        // What no entry leads to: written by somebody who was slow. What is left of a session that is held leads to what is held.
        for log in self.living(&self.prefix_of(of)?).await? {
            if is_of_any(&held, &log) {
                continue;
            }
            all.count(self.delete(&log).await.map(|logs| Purged { logs, ..Purged::default() }))?;
        }
        self.forget(of).await?;
        Ok(all)
    }

    /// What [`Sessions::purge_all`] would take.
    ///
    /// # Errors
    /// As reading logs; what is held is counted and passed over.
    pub async fn plan_purge_all(&self, of: &Of) -> Result<Purged> {
        let logs = self.living(&self.prefix_of(of)?).await?;
        let mut held = BTreeSet::new();
        for log in &logs {
            if is_held(self.check_free(log).await)? {
                held.insert(session_of(log));
            }
        }
        let records = logs.iter().filter(|log| log.key().ends_with("/record"));
        let states = try_join_all(records.map(|log| async {
            let state = self.store.log(log.clone()).state().await?;
            Ok::<_, Error>((session_of(log), Record::of(&state)?))
        }));
        let mut purged = Purged::default();
        for (session, record) in states.await? {
            let Some(record) = record.filter(|_| !held.contains(&session)) else { continue };
            let clear = self.artifacts();
            let clear = clear.plan_clear_user(record.session.as_bytes(), record.user.as_bytes());
            match clear.await {
                Ok(artifacts) => {
                    (purged.sessions, purged.artifacts) = (purged.sessions + 1, purged.artifacts + artifacts);
                }
                refused => {
                    is_held(refused.map(drop))?;
                    held.insert(session);
                }
            }
        }
        purged.logs = logs.iter().filter(|log| !held.contains(&session_of(log))).count() as u64;
        purged.held = held.len() as u64;
        Ok(purged)
    }

    async fn check_free(&self, log: &LogId) -> Result<()> {
        self.store.retention()?.check_free(log, Version(u64::MAX)).await
    }

    fn artifacts(&self) -> Artifacts {
        Artifacts::new(self.store.clone(), self.tenant.clone())
    }

    /// Purges what has this id, if it is so, and what leads to it: also this entry, if one is named.
    pub(super) async fn purge_one(
        &self,
        scope: &SessionScope,
        key: Option<&str>,
        those: &[Status],
    ) -> Result<Purged> {
        let directories = self.directories(scope)?;
        let mut keys: Vec<String> = key.map(str::to_owned).into_iter().collect();
        let mut purged = Purged::default();
        match self.state(scope).await? {
            Some(state) => {
                if let Some(record) = Record::of(&state)? {
                    if !self.end_to_purge(scope, &state, &record, those).await? {
                        return Ok(purged);
                    }
                    keys.push(record.key());
                    purged.sessions = 1;
                }
            }
            // Whoever deleted it may have been killed before its entries went.
            None if key.is_none() => keys = self.keys_of(scope).await?,
            None => {}
        }
        // Of a user that has them in a session of this id: those of others stay.
        purged.artifacts = self.artifacts().clear_user(scope.id().as_bytes(), user(scope)).await?;
        let record = scope.record()?;
        let logs = self.living(&scope.prefix()?).await?;
        for log in logs.iter().filter(|log| **log != record) {
            purged.logs += self.delete(log).await?;
        }
        if logs.contains(&record) {
            purged.logs += self.delete(&record).await?;
        }
        for key in &keys {
            directories.leave_if_there(key).await?;
        }
        Ok(purged)
    }

    /// Ends a session that is so; whether it has ended by now.
    async fn end_to_purge(
        &self,
        scope: &SessionScope,
        state: &State,
        record: &Record,
        those: &[Status],
    ) -> Result<bool> {
        if state.get(ENDED).is_some() {
            return Ok(true);
        }
        // It stays so: an entry that says that it has ended would not be looked at any more, and not be gone on with.
        self.directories(scope)?.mark(&record.key(), ENDING).await?;
        match self.end(scope, PURGED, those).await {
            // Somebody has touched it, by another clock; or purged it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(super::is_purged(&error)),
            done => done.map(|()| true),
        }
    }

    /// The keys of all entries that a user's directory has of a session.
    async fn keys_of(&self, scope: &SessionScope) -> Result<Vec<String>> {
        let mut walk = Walk::new(vec![Directory::of_user(&self.store, scope.user())?], None);
        let mut keys = Vec::new();
        loop {
            let entries = walk.next(TOGETHER).await?;
            if entries.is_empty() {
                return Ok(keys);
            }
            let is_of = |session: &str| session == scope.id();
            keys.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.stored.as_ref().is_some_and(|stored| is_of(&stored.session)))
                    .map(|entry| entry.key),
            );
        }
    }

    /// Deletes a log; how many that were there.
    async fn delete(&self, log: &LogId) -> Result<u64> {
        match self.store.delete_log(log).await {
            Ok(deleted) => Ok(u64::from(!deleted.repeated)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Every log whose name begins so and that was not deleted.
    async fn living(&self, prefix: &LogPrefix) -> Result<Vec<LogId>> {
        let (mut living, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.logs(prefix, cursor, TOGETHER).await?;
            if !page.logs.is_empty() {
                let heads = self.store.backend().heads(&page.logs).await?;
                for (log, head) in page.logs.into_iter().zip(heads) {
                    let Some(head) = head else { continue };
                    if !Header::decode(head.header)?.flags.seal {
                        living.push(log);
                    }
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(living);
            }
        }
    }

    fn prefix_of(&self, of: &Of) -> Result<LogPrefix> {
        match of {
            Of::Tenant => self.tenant.sessions_prefix(),
            Of::User(user) => self.has_user(user)?.prefix(),
        }
    }

    /// Takes away what was written in directories before: the ids of sessions that are gone.
    async fn forget(&self, of: &Of) -> Result<()> {
        let directories = match of {
            Of::User(user) => vec![Directory::of_user(&self.store, user)?],
            Of::Tenant => {
                let logs = self.living(&directory::prefix(&self.tenant)?).await?;
                logs.into_iter().filter_map(|log| Directory::by_name(&self.store, log)).collect()
            }
        };
        let keep = Keep { commits: Some(1), ..Keep::default() };
        for directory in directories {
            match directory.0.trim(&Trim { keep, ..Trim::default() }).await {
                // There is none, or it is held.
                Err(error) if [ErrorKind::NotFound, ErrorKind::Refused].contains(&error.kind()) => {}
                done => done.map(drop)?,
            }
        }
        Ok(())
    }
}

fn user(scope: &SessionScope) -> &[u8] {
    scope.user().id().as_bytes()
}

/// What the names of all logs of a session begin with.
fn session_of(log: &LogId) -> String {
    let key = log.key();
    key.rsplit_once('/').map_or_else(|| key.clone(), |(session, _)| session.to_owned())
}

/// Whether somebody holds it.
fn is_held(checked: Result<()>) -> Result<bool> {
    match checked {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Refused => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a log is of one of the sessions whose names begin so. None of these begins another; so the last before it is the only one that
/// can begin it.
fn is_of_any(prefixes: &BTreeSet<String>, log: &LogId) -> bool {
    let to = (Bound::Unbounded, Bound::Included(log.as_str()));
    let before = prefixes.range::<str, _>(to).next_back();
    before.is_some_and(|prefix| log.as_str().starts_with(prefix))
}

impl Purged {
    /// Counts one; whether it is held.
    pub(super) fn count(&mut self, one: Result<Self>) -> Result<bool> {
        match one {
            Ok(one) => {
                self.sessions += one.sessions;
                self.logs += one.logs;
                self.artifacts += one.artifacts;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Refused => {
                self.held += 1;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}
