//! Whether a task works on something of a log, so that a second is not started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Not under the log's lock: a runtime that is being shut down drops a task in the very call that spawns it, and so does what ends with
/// the task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Busy(Arc<AtomicBool>);

/// Held by the task; ends with it, however that ends.
#[derive(Debug)]
pub(crate) struct Working(Busy);

impl Busy {
    /// `None` if somebody works already.
    pub fn begin(&self) -> Option<Working> {
        (!self.0.swap(true, Ordering::AcqRel)).then(|| Working(self.clone()))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
