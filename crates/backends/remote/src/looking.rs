//! One look for all who wait at a handle, where a look at many logs is one request: many that wait cost what one does.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_log::{LogId, Result, Version};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::{Doors, Remote};

/// What somebody waits for: a commit past the version in one of the logs.
pub(crate) type Seen = Arc<[(LogId, Version)]>;

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Looking(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    seats: BTreeMap<u64, (Seen, Arc<Notify>)>,
    is_looking: bool,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    waiting: Arc<Mutex<Waiting>>,
    woken: Arc<Notify>,
}

impl Seat {
    /// Until there may be something.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.waiting).seats.remove(&self.number);
    }
}

impl Looking {
    /// Looks for this too from now on, every `pause`, which is asked before each look.
    pub fn join<R: Remote>(
        &self,
        seen: &Seen,
        remote: &Arc<R>,
        doors: &Arc<Doors>,
        pause: impl Fn() -> Duration + Send + 'static,
    ) -> Seat {
        let (woken, mut waiting) = (Arc::new(Notify::new()), lock(&self.0));
        let number = waiting.next;
        waiting.next += 1;
        waiting.seats.insert(number, (Arc::clone(seen), Arc::clone(&woken)));
        if !waiting.is_looking {
            waiting.is_looking = true;
            let (remote, doors) = (Arc::clone(remote), Arc::clone(doors));
            let mut all = Look { waiting: Arc::clone(&self.0), is_over: false };
            tokio::spawn(async move {
                loop {
                    sleep(pause()).await;
                    if !all.look(&*remote, &doors).await {
                        return;
                    }
                }
            });
        }
        Seat { number, waiting: Arc::clone(&self.0), woken }
    }
}

/// The task that looks. However it ends, nobody sleeps on.
struct Look {
    waiting: Arc<Mutex<Waiting>>,
    /// Nobody waited: who comes begins another.
    is_over: bool,
}

impl Look {
    /// Wakes those for whom there may be something; `false` if nobody waits, or nothing may be asked.
    async fn look<R: Remote>(&mut self, remote: &R, doors: &Doors) -> bool {
        let seats: Vec<_> = {
            let mut waiting = lock(&self.waiting);
            waiting.is_looking = !waiting.seats.is_empty();
            waiting.seats.values().cloned().collect()
        };
        self.is_over = seats.is_empty();
        let _busy = doors.busy.read().await;
        if self.is_over || doors.is_shut.load(Ordering::Acquire) {
            return false;
        }
        match past(remote, &seats).await {
            Ok(past) => past.into_iter().for_each(|woken| woken.notify_one()),
            // Each looks by itself, and is told of it.
            Err(_) => seats.iter().for_each(|(_, woken)| woken.notify_one()),
        }
        true
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if !self.is_over {
            let mut waiting = lock(&self.waiting);
            waiting.is_looking = false;
            waiting.seats.values().for_each(|(_, woken)| woken.notify_one());
        }
    }
}

/// Those for whom there is something.
async fn past<'a, R: Remote>(remote: &R, seats: &'a [(Seen, Arc<Notify>)]) -> Result<Vec<&'a Arc<Notify>>> {
    let mut least = BTreeMap::<&LogId, Version>::new();
    for (log, version) in seats.iter().flat_map(|(seen, _)| seen.iter()) {
        let least = least.entry(log).or_insert(*version);
        *least = (*least).min(*version);
    }
    let all: Vec<_> = least.into_iter().map(|(log, version)| (log.clone(), version)).collect();
    let deadline = || Instant::now() + remote.timeout();
    if !remote.is_past(&all, deadline()).await? {
        return Ok(Vec::new());
    }
    let logs: Vec<_> = all.into_iter().map(|(log, _)| log).collect();
    let heads = remote.heads(&logs, deadline()).await?;
    let heads: BTreeMap<_, _> = logs.iter().zip(heads).collect();
    let is_past = |(log, version): &(LogId, Version)| {
        heads.get(log).and_then(Option::as_ref).is_some_and(|head| head.version > *version)
    };
    Ok(seats.iter().filter(|(seen, _)| seen.iter().any(is_past)).map(|(_, woken)| woken).collect())
}
