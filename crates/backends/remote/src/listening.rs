//! A task that listens to the system for the waiters of a handle, while there are any.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::Remote;

/// How long after a try the next may begin; and how often it is asked whether anybody waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether somebody listens; the same for all clones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listening {
    is_up: Arc<AtomicBool>,
    task: Arc<Mutex<Option<(Instant, AbortHandle)>>>,
}

impl Listening {
    /// Whether nothing is missed that is created from now on.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Begins to listen, unless somebody does, or could not a moment ago.
    pub fn keep_up<R: Remote>(&self, remote: &Arc<R>, changes: &watch::Sender<u64>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_some_and(|(begun, task)| !task.is_finished() || begun.elapsed() < PATIENCE) {
            return;
        }
        let (remote, ear) =
            (Arc::clone(remote), Ear { is_up: Arc::clone(&self.is_up), changes: changes.clone() });
        let listen = async move {
            tokio::select! {
                () = remote.listen(|| ear.tell(true)) => {}
                () = nobody_waits(&ear.changes) => {}
            }
        };
        *task = Some((Instant::now(), tokio::spawn(listen).abort_handle()));
    }

    /// Ends it: the handle is shut down, or let go of.
    pub fn end(&self) {
        if let Some((_, task)) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// What the task that listens has; when it ends, however that is, nobody relies on it any more.
struct Ear {
    is_up: Arc<AtomicBool>,
    changes: watch::Sender<u64>,
}

impl Ear {
    fn tell(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Release);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Where nobody was told anything, nobody need look.
        if self.is_up.load(Ordering::Acquire) {
            self.tell(false);
        }
    }
}

async fn nobody_waits(changes: &watch::Sender<u64>) {
    loop {
        sleep(PATIENCE).await;
        if changes.receiver_count() == 0 {
            return;
        }
    }
}
