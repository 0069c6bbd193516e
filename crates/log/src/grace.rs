//! How long ago a writer looked, on two clocks; and how long after a close its slots may be deleted.
//!
//! A create of one object, or of one document, cannot look at a boundary. So what is closed is deleted only after a time of grace, and a writer whose
//! look is older than half of it looks at the boundary before it acknowledges: its slot may have been empty because it was deleted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};

/// The two clocks of a writer. A process that was stopped, or a machine that slept, shows in one of them at least.
#[derive(Clone)]
pub struct Clocks {
    /// The wall clock. It may be set back.
    pub wall: Arc<dyn Clock>,
    /// Since the machine was started, the time that it slept included. It never goes back.
    pub boot: Arc<dyn Clock>,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { wall: Arc::new(SystemClock), boot: Arc::new(BootClock) }
    }
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clocks")
    }
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    wall: Timestamp,
    boot: Timestamp,
}

impl Clocks {
    /// Now.
    pub fn now(&self) -> Moment {
        Moment { wall: self.wall.now(), boot: self.boot.now() }
    }

    /// How long ago it was, on the clock that says more.
    pub fn since(&self, moment: Moment) -> Duration {
        let now = self.now();
        now.wall.since(moment.wall).max(now.boot.since(moment.boot))
    }

    /// Whether what was seen then may have been closed and deleted since: half of the time of grace is over.
    pub fn is_stale(&self, seen: Moment, grace: Duration) -> bool {
        self.since(seen) >= grace / 2
    }
}

impl Moment {
    /// Whether it was before the other, by the clock that never goes back.
    pub fn is_before(self, other: Self) -> bool {
        self.boot < other.boot
    }
}

/// Linux's clock of the time since the start, suspension included.
#[derive(Debug, Clone, Copy)]
struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        Timestamp(0).after(seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
    }
}
