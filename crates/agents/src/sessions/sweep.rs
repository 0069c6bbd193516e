//! Sweeping: purges sessions that ended long enough ago, and repairs what killed processes left in directories. Whoever is killed at it
//! leaves less to the next; and if two do it at once they do no harm.

use std::collections::HashSet;
use std::time::Duration;

use icecore_log::{ErrorKind, Event, Result, Version};
use icecore_store::state::{Changes, Condition};

use super::directory::{self, Directory, Entry, MADE, Missing, Seen};
use super::list::Walk;
use super::purge::Purged;
use super::{Session, Sessions, Status};
use crate::scope::SessionScope;

/// An entry whose session is not there so long after it was begun is taken away: its creator is gone, or else fails.
const GONE_AFTER: Duration = Duration::from_secs(10 * 60);
/// In the log of a session that was begun and is not there: whoever began it must begin anew.
const VOIDED: &str = "session.voided";
const TOGETHER: usize = 500;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Sessions that had ended, and were purged.
    pub purged: Purged,
    /// Entries that say now what became of their sessions.
    pub repaired: u64,
    /// Entries that led to nothing.
    pub removed: u64,
}

/// What a sweep has done so far.
#[derive(Default)]
struct Sweeping {
    done: Swept,
    /// Sessions that are held: two directories lead to each.
    held: HashSet<SessionScope>,
}

impl Sweeping {
    fn count(&mut self, scope: &SessionScope, purged: Result<Purged>) -> Result<()> {
        if self.done.purged.count(purged)? && !self.held.insert(scope.clone()) {
            self.done.purged.held -= 1;
        }
        Ok(())
    }
}

impl Sessions {
    /// Purges what ended at least so long ago, and repairs the tenant's directories, all of them: which takes a look at each entry.
    ///
    /// # Errors
    /// As [`Sessions::purge`]; what is held is counted and passed over.
    pub async fn sweep(&self, ended_for: Duration) -> Result<Swept> {
        let mut swept = Sweeping::default();
        for directory in self.of_tenant()? {
            self.sweep_one(&directory, ended_for, &mut swept).await?;
        }
        // Those of users: what is left there has no counterpart in the tenant's.
        let mut cursor = None;
        loop {
            let page = self.store.logs(&directory::prefix(&self.tenant)?, cursor, TOGETHER).await?;
            for log in page.logs.into_iter().filter(|log| log.key().starts_with("user/")) {
                if let Some(directory) = Directory::by_name(&self.store, log) {
                    self.sweep_one(&directory, ended_for, &mut swept).await?;
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(swept.done);
            }
        }
    }

    async fn sweep_one(
        &self,
        directory: &Directory,
        ended_for: Duration,
        swept: &mut Sweeping,
    ) -> Result<()> {
        let mut walk = Walk::new(vec![directory.clone()], None);
        loop {
            let entries = walk.next(TOGETHER).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let seen = self.see(&entries).await?;
            for (entry, seen) in entries.into_iter().zip(seen) {
                self.settle(directory, &entry, seen, ended_for, swept).await?;
            }
        }
    }

    /// Does what an entry asks for.
    async fn settle(
        &self,
        directory: &Directory,
        entry: &Entry,
        seen: Seen,
        ended_for: Duration,
        swept: &mut Sweeping,
    ) -> Result<()> {
        let Some(stored) = &entry.stored else {
            swept.done.removed += 1;
            return directory.clear(&entry.key).await;
        };
        let scope = stored.scope(&self.tenant)?;
        match seen {
            Seen::Session(session, missing) if self.is_over(&session, missing, ended_for) => {
                swept.count(&scope, self.purge_one(&scope, Some(&entry.key), &[Status::Expired]).await)
            }
            Seen::Session(_, missing) => {
                swept.done.repaired += u64::from(missing.made || missing.ended);
                self.repair(directory, &entry.key, missing).await
            }
            Seen::Unborn(version) => {
                if self.store.now().since(entry.created_at()) < GONE_AFTER
                    || !self.void(&scope, version).await?
                {
                    return Ok(());
                }
                Self::remove(directory, entry, swept).await
            }
            Seen::Nothing => Self::remove(directory, entry, swept).await,
        }
    }

    /// Here only: each directory is looked at for itself.
    async fn remove(directory: &Directory, entry: &Entry, swept: &mut Sweeping) -> Result<()> {
        swept.done.removed += 1;
        directory.leave(&entry.key).await
    }

    fn is_over(&self, session: &Session, missing: Missing, ended_for: Duration) -> bool {
        let is_long_ago = session.ended_at().is_some_and(|end| end.after(ended_for) <= self.store.now());
        missing.is_being_purged || is_long_ago
    }

    async fn repair(&self, directory: &Directory, key: &str, missing: Missing) -> Result<()> {
        if missing.made {
            directory.mark(key, MADE).await?;
        }
        if missing.ended {
            directory.mark(key, directory::ENDED).await?;
        }
        Ok(())
    }

    /// Writes into the log of a session that is not there, if it still ends here: whoever began to make it fails then. Whether it did.
    async fn void(&self, scope: &SessionScope, version: Version) -> Result<bool> {
        let changes = Changes::new().event(Event::new(VOIDED, "{}")).only_if(Condition::Log(version));
        match self.record(scope)?.commit(changes).await {
            Ok(_) => Ok(true),
            Err(error) if [ErrorKind::Conflict, ErrorKind::NotFound].contains(&error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
