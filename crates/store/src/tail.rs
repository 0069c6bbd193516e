//! A log's commits as they come.

use std::collections::VecDeque;
use std::time::Duration;

use icecore_log::{PageLimit, Result, StoredCommit, Version};

use crate::Log;
use crate::chain::Chain;
use crate::read::{self, RecordedCommit};

/// How long a tail waits for a hint before it looks for itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a tail has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tailed {
    /// The next commit.
    Commit(Box<RecordedCommit>),
    /// There is nothing behind this version now. Said once each time.
    CaughtUp(Version),
    /// Still nothing, about once a second.
    Heartbeat,
    /// The commits through this version were trimmed before we came; it goes on behind them.
    Trimmed(Version),
}

/// Follows a log, also one that has no commit yet. Made by [`Log::tail`].
#[derive(Debug)]
pub struct Tail<'a> {
    log: &'a Log,
    next: Version,
    chain: Option<Chain>,
    /// Read and not yet opened: one by one, so that what is good before a damaged commit is given first.
    stored: VecDeque<StoredCommit>,
    is_caught_up: bool,
}

impl Log {
    /// Follows the log from this version on, included.
    pub fn tail(&self, from: Version) -> Tail<'_> {
        Tail {
            log: self,
            next: from.max(Version::FIRST),
            chain: None,
            stored: VecDeque::new(),
            is_caught_up: false,
        }
    }
}

impl Tail<'_> {
    /// What comes next; waits for it. Safe to drop while it waits: nothing is skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](icecore_log::ErrorKind::Corrupt), naming log and version, if a check fails.
    pub async fn next(&mut self) -> Result<Tailed> {
        if let Some(commit) = self.open_next()? {
            return Ok(Tailed::Commit(Box::new(commit)));
        }
        if self.is_caught_up {
            let seen = [(self.log.id.clone(), self.next.previous())];
            self.log.store.0.backend.wait(&seen, LOOK_EVERY).await?;
        }
        let page = read::good_page(self.log, self.next, PageLimit::WHOLE).await?;
        if page.commits.is_empty() {
            // Missing means caught up only together with a boundary below it, from the same look.
            if page.boundary >= self.next {
                (self.next, self.chain, self.is_caught_up) = (page.boundary.next(), None, false);
                return Ok(Tailed::Trimmed(page.boundary));
            }
            let first = !std::mem::replace(&mut self.is_caught_up, true);
            return Ok(if first { Tailed::CaughtUp(self.next.previous()) } else { Tailed::Heartbeat });
        }
        self.is_caught_up = false;
        if self.chain.is_none() {
            self.chain = self.start_chain().await?;
        }
        self.stored = page.commits.into();
        Ok(self.open_next()?.map_or(Tailed::Heartbeat, |commit| Tailed::Commit(Box::new(commit))))
    }

    /// Opens the next commit that was read.
    fn open_next(&mut self) -> Result<Option<RecordedCommit>> {
        let (Some(stored), Some(chain)) = (self.stored.pop_front(), &mut self.chain) else {
            return Ok(None);
        };
        // A damaged one is looked at again by the next call: it may have been restored by then.
        let (header, entries) = chain.open(&stored).inspect_err(|_| self.stored.clear())?;
        self.next = stored.version.next();
        Ok(Some(read::recorded(&stored, header, entries)))
    }

    async fn start_chain(&self) -> Result<Option<Chain>> {
        let Some(head) = self.log.raw_head().await? else {
            return Ok(None);
        };
        let header = self.log.decode(&head)?;
        self.log.chain(&header).await.map(Some)
    }
}
