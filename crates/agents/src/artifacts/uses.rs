//! That artifacts were used: noted in memory, and written together a moment later, or before something makes room.
//!
//! It decides only which one makes room. So who reads does not wait for it, and a process that is killed loses what it noted last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_log::{LogId, Result};
use icecore_store::Store;
use icecore_store::state::{Changes, Json};
use tokio::sync;

/// How long the first one waits for others.
const LINGER: Duration = Duration::from_millis(20);

/// What was used and is not written yet.
#[derive(Debug, Default)]
pub(super) struct Uses {
    noted: Mutex<Noted>,
    /// Held while they are written: what was noted first is written first.
    turn: sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Noted {
    /// The keys of their documents, by log, in the order of their last use.
    keys: HashMap<LogId, Vec<String>>,
    /// Whether a task is about to write them.
    is_running: bool,
}

impl Uses {
    /// Notes a use, after all before it.
    pub fn note(self: &Arc<Self>, store: &Store, log: &LogId, key: String) {
        let mut noted = self.lock();
        let keys = noted.keys.entry(log.clone()).or_default();
        keys.retain(|one| *one != key);
        keys.push(key);
        if !std::mem::replace(&mut noted.is_running, true) {
            drop(noted);
            let (this, store) = (Arc::clone(self), store.clone());
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                this.lock().is_running = false;
                this.write_all(&store).await;
            });
        }
    }

    /// Writes what was noted of a log.
    ///
    /// # Errors
    /// As [`Log::append`](icecore_store::Log::append).
    pub async fn write(&self, store: &Store, log: &LogId) -> Result<()> {
        let _turn = self.turn.lock().await;
        let Some(keys) = self.lock().keys.remove(log) else { return Ok(()) };
        let mut changes = Changes::new();
        for key in keys {
            changes = put_last(changes, key)?;
        }
        store.log(log.clone()).commit(changes).await.map(drop)
    }

    /// Writes all that was noted. What fails is forgotten: it would be no error of anybody's who could do something about it.
    pub async fn write_all(&self, store: &Store) {
        let logs: Vec<_> = self.lock().keys.keys().cloned().collect();
        for log in logs {
            drop(self.write(store, &log).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A document that is put anew is behind all others.
pub(super) fn put_last(changes: Changes, key: String) -> Result<Changes> {
    Ok(changes.delete(key.clone()).put(key, Json::text("true")?))
}
