//! How often and how long something is tried again, and what is counted of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use icecore_log::{Entropy, Error, ErrorKind, Result, clock};
use tokio::time::{Instant, sleep};

use crate::operation::{Each, Operation};

/// How often, and how long, what is transient is tried again.
///
/// Before try n + 1 it waits by chance between nothing and `pause_first` doubled n - 1 times, at most `pause_max`. No try begins after
/// `deadline`; one that has begun is not cut short, since that would leave its outcome unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The most tries of one call, the first included: 16.
    pub tries_max: u32,
    /// The bound of the first pause: 20 ms.
    pub pause_first: Duration,
    /// The bound of the longest pause: 1 s.
    pub pause_max: Duration,
    /// After so long no try of a call begins: 10 s, a third of what an append waits.
    pub deadline: Duration,
    /// How many further tries all calls together may make before others succeed: 100. Ten calls that the system answers earn one, up
    /// to this many. So a system that is down is not asked many times as often as one that is up.
    pub budget: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tries_max: 16,
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
            deadline: Duration::from_secs(10),
            budget: 100,
        }
    }
}

impl Policy {
    /// Opens something, and tries again while it is [`ErrorKind::Unavailable`]: a server that is being started, or fails over.
    ///
    /// # Errors
    /// The last one.
    pub async fn opening<T, F: Future<Output = Result<T>>>(
        &self,
        entropy: &dyn Entropy,
        open: impl Fn() -> F,
    ) -> Result<T> {
        let (began, mut tries) = (Instant::now(), 1);
        loop {
            match open().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    let Some(pause) = self.pause(tries, began, entropy) else {
                        return Err(told(error, tries));
                    };
                    sleep(pause).await;
                    tries += 1;
                }
                opened => return opened,
            }
        }
    }

    /// How long to wait before another try; `None` if there is none.
    pub(super) fn pause(&self, tries: u32, began: Instant, entropy: &dyn Entropy) -> Option<Duration> {
        let bound = self.pause_first.saturating_mul(1 << (tries - 1).min(16)).min(self.pause_max);
        let pause =
            bound.mul_f64(f64::from(u32::from_be_bytes(clock::random(entropy))) / f64::from(u32::MAX));
        (tries < self.tries_max && began.elapsed() + pause < self.deadline).then_some(pause)
    }
}

/// The error of a call that was tried so often.
pub(super) fn told(error: Error, tries: u32) -> Error {
    if tries > 1 { error.with("tries", tries) } else { error }
}

/// Further tries that may be made, in tenths.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU32,
    full: u32,
}

/// What a further try costs, where a call that is answered earns one.
const COST: u32 = 10;

impl Budget {
    pub(super) fn new(tries: u32) -> Self {
        let full = tries.saturating_mul(COST);
        Self { left: AtomicU32::new(full), full }
    }

    /// Pays for a further try; `false` if there is nothing left.
    pub(super) fn spend(&self) -> bool {
        self.change(|left| left.checked_sub(COST))
    }

    /// A call was answered.
    pub(super) fn earn(&self) {
        // It is nearly always full: one look then, and nothing is written that other cores read.
        if self.left.load(Ordering::Relaxed) < self.full {
            self.change(|left| (left < self.full).then_some(left + 1));
        }
    }

    fn change(&self, change: impl Fn(u32) -> Option<u32>) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }
}

/// What was tried again of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retried {
    /// Tries after the first.
    pub retries: u64,
    /// Calls that were answered after more than one try.
    pub recovered: u64,
    /// Calls that were given up because the tries or the time were up.
    pub exhausted: u64,
    /// Calls that were given up because the budget was.
    pub over_budget: u64,
}

/// Counters of what was tried again.
#[derive(Debug, Default)]
pub(crate) struct Counts(Each<Counters>);

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) retries: AtomicU64,
    pub(super) recovered: AtomicU64,
    pub(super) exhausted: AtomicU64,
    pub(super) over_budget: AtomicU64,
}

impl Counts {
    pub(super) fn of(&self, operation: Operation) -> &Counters {
        &self.0[operation]
    }

    pub(crate) fn retried(&self, operation: Operation) -> Retried {
        let Counters { retries, recovered, exhausted, over_budget } = &self.0[operation];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Retried {
            retries: read(retries),
            recovered: read(recovered),
            exhausted: read(exhausted),
            over_budget: read(over_budget),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
