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

/// Whether somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    is_up: Arc<AtomicBool>,
    task: Mutex<Option<(Instant, AbortHandle)>>,
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
        let (remote, changes, is_up) = (Arc::clone(remote), changes.clone(), Arc::clone(&self.is_up));
        let listen = async move {
            let tell = |is_told: bool| {
                is_up.store(is_told, Ordering::Release);
                changes.send_modify(|count| *count += 1);
            };
            tokio::select! {
                () = remote.listen(|| tell(true)) => {}
                () = nobody_waits(&changes) => {}
            }
            tell(false);
        };
        *task = Some((Instant::now(), tokio::spawn(listen).abort_handle()));
    }

    /// Ends it: the handle is shut down.
    pub fn end(&self) {
        if let Some((_, task)) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A handle that is let go of without being shut down listens no more.
impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
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
