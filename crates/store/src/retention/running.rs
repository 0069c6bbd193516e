//! The readers of this process that are on their way: a trim does not take from under them what they have not read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use icecore_log::{LogId, Version};

use crate::{Inner, lock};

/// By log: the lowest version that each of its readers still needs.
pub(crate) type Running = Mutex<HashMap<LogId, Vec<Arc<AtomicU64>>>>;

/// A reader on its way. It ends with this.
pub(crate) struct Reading {
    inner: Arc<Inner>,
    log: LogId,
    needs: Arc<AtomicU64>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("log", &self.log).field("needs", &self.needs).finish_non_exhaustive()
    }
}

impl Reading {
    pub fn begin(inner: &Arc<Inner>, log: &LogId, from: Version) -> Self {
        let needs = Arc::new(AtomicU64::new(from.0));
        lock(&inner.running).entry(log.clone()).or_default().push(Arc::clone(&needs));
        Self { inner: Arc::clone(inner), log: log.clone(), needs }
    }

    /// What is below was read.
    pub fn needs(&self, from: Version) {
        self.needs.store(from.0, Ordering::Release);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut running = lock(&self.inner.running);
        if let Some(readers) = running.get_mut(&self.log) {
            readers.retain(|needs| !Arc::ptr_eq(needs, &self.needs));
            if readers.is_empty() {
                running.remove(&self.log);
            }
        }
    }
}

/// The lowest version that a reader of this process still needs.
pub(crate) fn needed(inner: &Inner, log: &LogId) -> Option<Version> {
    let running = lock(&inner.running);
    running.get(log)?.iter().map(|needs| Version(needs.load(Ordering::Acquire))).min()
}
