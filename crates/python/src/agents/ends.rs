//! What becomes of what was accepted when Python drops an object, or the process ends.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use icecore::agents::Outbox;
use pyo3::prelude::*;

use super::Agents;
use crate::runtime::{self, lock};

/// Those that are alive, for the end of the process.
static ALIVE: Mutex<Vec<Weak<Agents>>> = Mutex::new(Vec::new());
/// Those that Python has dropped while something was on its way.
static STRAYS: Mutex<Vec<Outbox>> = Mutex::new(Vec::new());
/// Between looks at whether one of these is through.
const STRAYS_PATIENCE: Duration = Duration::from_secs(60);

impl Drop for Agents {
    fn drop(&mut self) {
        if runtime::is_forked() || !is_owing(&self.outbox) {
            return;
        }
        let outbox = self.outbox.clone();
        lock(&STRAYS).push(outbox.clone());
        // With it goes the store, and the store's locks. It is not dropped where the list is locked.
        runtime::spawn(async move {
            while outbox.settle(STRAYS_PATIENCE).await.is_err() {}
            let settled: Vec<_> = lock(&STRAYS).extract_if(.., |stray| !is_owing(stray)).collect();
            drop(settled);
        });
    }
}

/// Whether something of it is not written yet, or was given up and nobody was told.
fn is_owing(outbox: &Outbox) -> bool {
    outbox.unsettled() > 0 || outbox.lost() > 0
}

/// It is among those that are alive.
pub fn remember(agents: &Arc<Agents>) {
    let mut alive = lock(&ALIVE);
    alive.retain(|other| other.strong_count() > 0);
    alive.push(Arc::downgrade(agents));
}

/// Writes what was accepted, as the process ends, and accepts no more; what is not written then, is told.
#[pyfunction(name = "_flush_at_exit")]
pub fn flush_at_exit(py: Python<'_>, seconds: f64) -> Vec<String> {
    if runtime::is_forked() {
        return Vec::new();
    }
    let alive =
        lock(&ALIVE).iter().filter_map(Weak::upgrade).map(|agents| agents.outbox.clone()).collect::<Vec<_>>();
    let strays = std::mem::take(&mut *lock(&STRAYS));
    let mut outboxes: Vec<_> = alive.into_iter().chain(strays).collect();
    // Of a thread that still runs: it is told.
    outboxes.iter().for_each(Outbox::close);
    outboxes.retain(is_owing);
    if outboxes.is_empty() {
        return Vec::new();
    }
    let Ok(runtime) = runtime::runtime(py) else { return Vec::new() };
    py.detach(move || {
        let until = Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0));
        let flushes = outboxes.iter().map(|outbox| async move {
            let error = outbox.flush(until).await.err()?;
            let told = error.fact("lost").and_then(|lost| lost.parse().ok());
            let lost: u64 = told.unwrap_or_else(|| outbox.lost());
            Some(format!("{} events: {error}", outbox.unsettled() + lost))
        });
        runtime.block_on(futures_util::future::join_all(flushes)).into_iter().flatten().collect()
    })
}
