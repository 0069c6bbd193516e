//! Turns: who works on a log, and the queue of the logs that have something to send.
//!
//! No task runs while nothing is pending. Who gives a log its turn starts a worker if fewer than the backend wants are
//! at work; a worker goes on until no log is left. So a commit's fate never depends on the task of a caller. Nor does
//! it depend on the worker: a turn whose task died, by a panic in a backend or with its runtime, is queued again.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_log::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::appender::{Active, Phase, State};
use crate::{Inner, lock, rounds, together};

/// The most logs in one `create`.
const LOGS_A_ROUND: usize = 1_024;
/// How long after a panic the next worker starts: a backend that panics always must not fill a log with it.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// The logs that wait for a round, and who works on them.
pub(crate) struct Queue {
    ready: Mutex<VecDeque<Arc<Active>>>,
    workers: Arc<Semaphore>,
    workers_max: usize,
    /// When commits in doubt were last looked for.
    pub looked_for_doubt: Mutex<Option<Instant>>,
}

impl Queue {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            ready: Mutex::default(),
            workers: Arc::new(Semaphore::new(workers)),
            workers_max: workers,
            looked_for_doubt: Mutex::default(),
        }
    }
}

/// The right to work on a log, held by one task at a time. Dropped otherwise than by its methods, it is queued again.
pub(crate) struct Turn {
    inner: Arc<Inner>,
    active: Arc<Active>,
    is_held: bool,
}

impl Deref for Turn {
    type Target = Active;

    fn deref(&self) -> &Active {
        &self.active
    }
}

impl Turn {
    /// Makes an idle log busy.
    pub(crate) fn begin(inner: &Arc<Inner>, active: &Arc<Active>, state: &mut State) -> Option<Self> {
        (state.phase == Phase::Idle).then(|| {
            state.phase = Phase::Busy;
            Self::of(inner, Arc::clone(active))
        })
    }

    fn of(inner: &Arc<Inner>, active: Arc<Active>) -> Self {
        Self { inner: Arc::clone(inner), active, is_held: true }
    }

    pub(crate) fn active(&self) -> &Arc<Active> {
        &self.active
    }

    /// Passes it on to the next round.
    pub(crate) fn queue(mut self) {
        self.is_held = false;
        lock(&self.inner.queue.ready).push_back(Arc::clone(&self.active));
        start_worker(&self.inner);
    }

    /// Ends it, or queues it again if something is pending.
    pub(crate) fn rest(self) {
        if let Some(turn) = self.end_if(|state| state.pending.is_empty() && state.in_flight.is_none()) {
            turn.queue();
        }
    }

    /// Ends it: the log's end, or its ids, could not be read, and its callers hear why.
    pub(crate) fn fail(self, error: &Error) {
        self.end_if(|state| {
            state.fail_pending(error);
            true
        });
    }

    /// Ends it, or gives it back. Nobody joins between the look and the end.
    pub(crate) fn end_if(mut self, may_end: impl FnOnce(&mut State) -> bool) -> Option<Self> {
        let mut state = lock(&self.active.state);
        if !may_end(&mut state) {
            drop(state);
            return Some(self);
        }
        state.phase = Phase::Idle;
        if state.pending.is_empty() {
            // Its room is more than half of what an idle log takes.
            state.pending = VecDeque::new();
        }
        let ids = state.ids.len();
        drop(state);
        self.is_held = false;
        self.active.rested.notify_waiters();
        self.active.count_ids(ids);
        self.inner.forget_idle_ids();
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_held {
            return;
        }
        let mut state = lock(&self.active.state);
        match &mut state.in_flight {
            Some(in_flight) if in_flight.is_together => {
                state.give_up_in_flight(&self.active.id, together::LEFT)
            }
            // Whether it was sent is not known here.
            Some(in_flight) => in_flight.in_doubt = true,
            None => {}
        }
        drop(state);
        lock(&self.inner.queue.ready).push_back(Arc::clone(&self.active));
        // After a panic the runtime goes on. If it was shut down, the next append to any log starts a worker in its own.
        if let Ok(runtime) = Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            runtime.spawn(async move {
                tokio::time::sleep(PANIC_PAUSE).await;
                start_worker(&inner);
            });
        }
    }
}

/// Starts a worker if turns are queued and all workers have died with their runtime.
pub(crate) fn revive(inner: &Arc<Inner>) {
    let queue = &inner.queue;
    if queue.workers.available_permits() == queue.workers_max && !lock(&queue.ready).is_empty() {
        start_worker(inner);
    }
}

fn start_worker(inner: &Arc<Inner>) {
    if let Ok(permit) = Arc::clone(&inner.queue.workers).try_acquire_owned() {
        tokio::spawn(work(Arc::clone(inner), permit));
    }
}

async fn work(inner: Arc<Inner>, permit: OwnedSemaphorePermit) {
    loop {
        let turns = take(&inner);
        if turns.is_empty() {
            break;
        }
        rounds::round(&inner, turns).await;
    }
    drop(permit);
    // Somebody may have queued between our last look and giving the permit back.
    if !lock(&inner.queue.ready).is_empty() {
        start_worker(&inner);
    }
}

fn take(inner: &Arc<Inner>) -> Vec<Turn> {
    let mut ready = lock(&inner.queue.ready);
    let count = ready.len().min(LOGS_A_ROUND);
    ready.drain(..count).map(|active| Turn::of(inner, active)).collect()
}
