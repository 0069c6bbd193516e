//! Maintenance: what nobody waits for. One process at a time does it, by a lease; if that is killed, another goes on where it was, and if
//! two do it at once they do no harm.

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Cursor, Error, LogId, LogPrefix, Result, clock};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::retention::policy::{self, Applied, Policy};
use crate::retention::{SYSTEM, hold};
use crate::state::{Changes, Json, State};
use crate::{Log, Store};

/// How a store is maintained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the end of a pass to the beginning of the next: 10 minutes.
    pub every: Duration,
    /// How many logs are looked at in a second at the most: 100.
    pub logs_per_second: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(600), logs_per_second: 100 }
    }
}

/// What a pass did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// Logs of which a policy speaks.
    pub logs: u64,
    /// Of these, logs that were trimmed,
    pub trimmed: u64,
    /// by so many commits,
    pub commits: u64,
    /// of so many bytes.
    pub bytes: u64,
    /// Logs that were deleted.
    pub deleted: u64,
    /// Trims and deletes of others that were finished for them.
    pub finished: u64,
    /// Commits that had been closed, and were swept now.
    pub swept: u64,
    /// Documents that were due, and were removed.
    pub expired_documents: u64,
    /// Logs that were due, and were deleted.
    pub expired_logs: u64,
    /// Logs that a hold, or a reader of this process, kept from being trimmed.
    pub held: u64,
    /// Logs that failed.
    pub failed: u64,
    /// The first of their errors.
    pub first_error: Option<Error>,
}

/// As it is stored: who maintains the store, until when, and where it is in the listing.
#[derive(Serialize, Deserialize, Default)]
struct Lease {
    #[serde(default)]
    holder: String,
    #[serde(default)]
    until: i64,
    /// What is left of a pass that is on its way, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<Left>,
}

/// The prefixes that are still to be looked at, and how far the first was.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Left {
    prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<Vec<u8>>,
}

const LEASE: &str = "lease";
/// How long a lease is. It is renewed after a third of that.
const LEASED_FOR: Duration = Duration::from_secs(60);
/// A sweep that found nothing to delete for so long has nothing to delete.
const SWEPT_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// But what was closed before may be swept long before what was closed last: it is gone on with for so long.
const SWEPT_ON: Duration = Duration::from_secs(25 * 60 * 60);
const LOGS_A_PAGE: usize = 1_000;

impl Store {
    /// One pass: finishes what others began to trim, sweeps what was closed long enough ago, removes what has expired, and applies the policies. `None`
    /// if another process is at it.
    ///
    /// Only what policies speak of is listed, and only what was noted as due is looked at: without any, it costs a few requests.
    ///
    /// # Errors
    /// As reading and writing Icecore's own logs. What fails of a single log is counted, and the next one is looked at.
    pub async fn maintain_once(
        &self,
        pace: Pace,
        mut progress: impl FnMut(&Maintained),
    ) -> Result<Option<Maintained>> {
        let Some(mut turn) = Turn::take(self).await? else { return Ok(None) };
        let mut done = Maintained::default();
        self.finish_others(&mut done).await?;
        self.sweep_closed(&mut done).await?;
        let mut rate = Rate { next: Instant::now(), logs_per_second: pace.logs_per_second };
        if !self.remove_due(&mut turn, &mut done, &mut rate).await? {
            return Ok(None);
        }
        progress(&done);
        turn.begin(&self.retention()?.policies().await?);
        while let Some((prefix, cursor)) = turn.place()? {
            let page = self.logs(&prefix, cursor, LOGS_A_PAGE).await?;
            // A pass may take hours, and somebody may want to keep more by then.
            let policies = self.retention()?.policies().await?;
            for log in page.logs {
                if !turn.renew().await? {
                    return Ok(None);
                }
                // Another prefix speaks of it, which is longer.
                let Some(policy) = policy::of_log(&policies, &log).filter(|policy| policy.on == prefix)
                else {
                    continue;
                };
                rate.wait().await;
                done.count(self.log(log).apply(&policy, false).await);
                progress(&done);
            }
            if !turn.go_on(page.next).await? {
                return Ok(None);
            }
        }
        turn.end().await?;
        Ok(Some(done))
    }

    /// What a pass would remove now, since it has expired or by the policies: each log to which something would be done is told.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn plan_maintenance(&self, mut tell: impl FnMut(&LogId, &Applied)) -> Result<()> {
        self.plan_due(&mut tell).await?;
        let policies = self.retention()?.policies().await?;
        for prefix in prefixes(&policies) {
            let prefix = LogPrefix::parse(&prefix)?;
            let mut cursor = None;
            loop {
                let page = self.logs(&prefix, cursor, LOGS_A_PAGE).await?;
                for id in page.logs {
                    if let Some(policy) = policy::of_log(&policies, &id).filter(|policy| policy.on == prefix)
                    {
                        let applied = self.log(id.clone()).apply(&policy, true).await?;
                        if applied != Applied::Nothing {
                            tell(&id, &applied);
                        }
                    }
                }
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Maintains the store for as long as the answer lives: for processes that live long. The first pass comes after a part of the time
    /// between two, by chance, so that many processes that start together do not all ask at once.
    ///
    /// Needs a Tokio runtime.
    pub fn keep_maintained(&self, pace: Pace) -> Maintenance {
        // Between two passes the store is only its users': with the last of them it goes.
        let store = Arc::downgrade(&self.0);
        let part = u32::from_be_bytes(clock::random(&*self.0.entropy));
        Maintenance(tokio::spawn(async move {
            tokio::time::sleep(pace.every.mul_f64(f64::from(part) / f64::from(u32::MAX))).await;
            while let Some(store) = store.upgrade().map(Store) {
                // What fails now is tried again.
                let _ = store.maintain_once(pace, |_| ()).await;
                drop(store);
                tokio::time::sleep(pace.every).await;
            }
        }))
    }

    async fn finish_others(&self, done: &mut Maintained) -> Result<()> {
        let retention = self.retention()?;
        for (log, intent) in retention.begun().await? {
            match retention.finish(&log, &intent).await {
                Ok(()) => done.finished += 1,
                Err(error) => done.fail(error.with("log", &log)),
            }
        }
        Ok(())
    }

    async fn sweep_closed(&self, done: &mut Maintained) -> Result<()> {
        let retention = self.retention()?;
        for (log, since) in retention.to_sweep().await? {
            match self.0.backend.sweep(&log).await {
                Ok(swept) => {
                    done.swept += swept.commits;
                    let (now, all_but_the_end) = (self.now(), SWEPT_AFTER - SWEPT_ON);
                    let age = now.since(since);
                    if age > SWEPT_AFTER {
                        retention.swept(&log, since, None).await?;
                    } else if swept.commits > 0 && age < all_but_the_end {
                        let since_then = now.before(all_but_the_end);
                        retention.swept(&log, since, Some(since_then)).await?;
                    }
                }
                Err(error) => done.fail(error.with("log", &log)),
            }
        }
        Ok(())
    }
}

/// Ends with it: the pass that is on its way is left where it is, for another.
#[derive(Debug)]
pub struct Maintenance(JoinHandle<()>);

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Maintained {
    fn count(&mut self, applied: Result<Applied>) {
        self.logs += 1;
        match applied {
            Ok(Applied::Nothing) => {}
            Ok(Applied::Deleted) => self.deleted += 1,
            Ok(Applied::DocumentsExpired(count)) => self.expired_documents += count,
            Ok(Applied::LogExpired) => self.expired_logs += 1,
            Ok(Applied::Trimmed(trimmed)) => {
                self.trimmed += 1;
                self.commits += trimmed.commits;
                self.bytes += trimmed.bytes;
            }
            Err(error) if hold::is_held(&error) => self.held += 1,
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }
}

/// The prefixes that are to be looked at.
fn prefixes(policies: &[Policy]) -> Vec<String> {
    let all = policies.iter().map(|policy| policy.on.as_str().to_owned());
    let system = policy::system().map(|policy| policy.on.as_str().to_owned());
    let mut prefixes: Vec<_> = all.chain(system).collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

/// Bounds how many logs are looked at.
pub(super) struct Rate {
    next: Instant,
    logs_per_second: u32,
}

impl Rate {
    pub(super) async fn wait(&mut self) {
        if self.next > Instant::now() {
            tokio::time::sleep_until(self.next).await;
        }
        self.next = self.next.max(Instant::now()) + Duration::from_secs(1) / self.logs_per_second.max(1);
    }
}

/// The lease is ours.
pub(super) struct Turn {
    log: Log,
    holder: String,
    renewed: Instant,
    left: Option<Left>,
}

impl Turn {
    /// Takes the lease, and with it what a pass that did not end has left; `None` if another has it.
    async fn take(store: &Store) -> Result<Option<Self>> {
        let log = store.log(LogId::new(SYSTEM, "icecore", "maintenance")?);
        let holder = format!("{:032x}", u128::from_be_bytes(clock::random(&*store.0.entropy)));
        let mut taken = None;
        log.transact(|state| {
            let lease = Lease::of(state)?;
            // One that lasts longer than any is of a clock that was wrong.
            let (now, last) = (log.store.now(), log.store.now().after(2 * LEASED_FOR));
            taken = (lease.until <= now.0 || lease.until > last.0).then_some(lease.left);
            match &taken {
                Some(left) => Lease::until(&log, &holder, left.clone()),
                None => Ok(Changes::new()),
            }
        })
        .await?;
        Ok(taken.map(|left| Self { log, holder, renewed: Instant::now(), left }))
    }

    /// Goes on with what is left of the last pass, or begins another.
    fn begin(&mut self, policies: &[Policy]) {
        let all = prefixes(policies);
        let left = self.left.take().and_then(|mut left| {
            let first = left.prefixes.first().cloned();
            left.prefixes.retain(|prefix| all.contains(prefix));
            if left.prefixes.first() != first.as_ref() {
                left.cursor = None;
            }
            (!left.prefixes.is_empty()).then_some(left)
        });
        self.left = Some(left.unwrap_or(Left { prefixes: all, cursor: None }));
    }

    /// What is looked at next.
    fn place(&self) -> Result<Option<(LogPrefix, Option<Cursor>)>> {
        let Some(left) = &self.left else { return Ok(None) };
        let Some(prefix) = left.prefixes.first() else { return Ok(None) };
        Ok(Some((LogPrefix::parse(prefix)?, left.cursor.clone().map(|bytes| Cursor(bytes.into())))))
    }

    /// The page was looked at; whether the lease is still ours.
    async fn go_on(&mut self, next: Option<Cursor>) -> Result<bool> {
        if let Some(left) = &mut self.left {
            if next.is_none() {
                left.prefixes.remove(0);
            }
            left.cursor = next.map(|cursor| cursor.0.to_vec());
            if left.prefixes.is_empty() {
                return Ok(true);
            }
        }
        self.write().await
    }

    /// Renews the lease when it is time; whether it is still ours.
    pub(super) async fn renew(&mut self) -> Result<bool> {
        if self.renewed.elapsed() < LEASED_FOR / 3 { Ok(true) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<bool> {
        self.renewed = Instant::now();
        self.change(|log, holder, left| Lease::until(log, holder, left.clone())).await
    }

    /// Gives the lease back.
    async fn end(mut self) -> Result<()> {
        self.left = None;
        self.change(|_, _, _| Ok(Changes::new().put(LEASE, Json::of(&Lease::default())?))).await.map(drop)
    }

    async fn change(&self, change: impl Fn(&Log, &str, &Option<Left>) -> Result<Changes>) -> Result<bool> {
        let mut is_ours = false;
        self.log
            .transact(|state| {
                is_ours = Lease::of(state)?.holder == self.holder;
                if is_ours { change(&self.log, &self.holder, &self.left) } else { Ok(Changes::new()) }
            })
            .await?;
        Ok(is_ours)
    }
}

impl Lease {
    fn of(state: &State) -> Result<Self> {
        state.get(LEASE).map_or(Ok(Self::default()), |document| document.read())
    }

    fn until(log: &Log, holder: &str, left: Option<Left>) -> Result<Changes> {
        let until = log.store.now().after(LEASED_FOR).0;
        Ok(Changes::new().put(LEASE, Json::of(&Self { holder: holder.to_owned(), until, left })?))
    }
}
