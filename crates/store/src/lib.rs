//! What users do with logs, written once over any [`Backend`]: append, read, tail, keep documents, verify, copy.
//!
//! Source of the design: `DESIGN` sections 5 and the hazards named in the modules.
//!
//! | module | holds |
//! | --- | --- |
//! | [`append`] | [`Append`], [`Receipt`]: the caller's side of an append |
//! | `appender` | the state of one active log: what is pending, what is in flight, what an answer changes |
//! | `sealing` | how what is pending becomes the next commit |
//! | `turn`, `rounds` | the logs that have something pending, and their commits in one `create` |
//! | `together` | commits of several logs, all or none |
//! | `open` | what must be known of a log before the first append |
//! | `confirm` | what was only read is made durable before it is acknowledged |
//! | [`ids`], `id_runs` | which ids a log has: recent ones in memory, older ones in id runs; their bytes |
//! | [`chain`] | the checks that every read makes |
//! | [`read`], `pages`, [`tail`] | events by version and time, forward and backward; and as they come |
//! | [`state`] | the documents that a log's commits make: changed in transactions, read as they were |
//! | `snapshot` | sorted tables of documents at a version, in blobs: a cache of what the commits say |
//! | [`retention`] | what of a log may go, what is held, and the end of a log |
//! | [`verify`], [`copy`] | over whole stores |

pub mod append;
mod appender;
mod busy;
pub mod chain;
mod confirm;
pub mod copy;
mod id_filter;
mod id_runs;
pub mod ids;
mod open;
mod pages;
pub mod read;
pub mod retention;
mod rounds;
mod sealing;
pub mod size;
mod snapshot;
pub mod state;
pub mod tail;
mod together;
mod turn;
pub mod verify;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_log::{
    Backend, Capabilities, Clock, Cursor, Entropy, Entry, EntryId, LogId, LogPage, LogPrefix, Result,
    SystemClock, SystemEntropy, Timestamp, clock,
};
use tokio::sync::Semaphore;

use state::{CachedStates, Consistency, Reducers};

pub use append::{Append, Enqueued, Expect, Receipt, Resolved};
pub use read::{Range, Reader, RecordedCommit, RecordedEvent};
pub use tail::{Tail, Tailed};

/// Bounds, each with its default in [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long an append waits for its outcome before it is reported as unknown, or, if nothing was sent yet, as unavailable: 30 s; a year at the most.
    pub append_timeout: Duration,
    /// The most bytes of a commit that holds several entries; a larger entry gets a commit of its own: 1 MiB.
    pub merge_bytes_max: usize,
    /// The most entries in a commit: 1,024.
    pub merge_entries_max: usize,
    /// The most bytes that wait for their turn in this process; beyond, appends wait: 256 MiB.
    pub pending_bytes_max: usize,
    /// The most logs whose head and recent ids are kept in memory while idle: 100,000.
    pub open_logs_max: usize,
    /// The most ids of all logs that are kept in memory; beyond, idle logs are read again when they are next appended to: 4,000,000.
    pub ids_in_memory_max: usize,
    /// How many ids, or commits, are kept in memory before they go to an id run: 4,096.
    pub id_run_ids: usize,
    /// The most bytes of states that are kept in memory, so that the next look reads only what came since: 256 MiB.
    pub state_bytes_max: u64,
    /// Which of them make room for others: those used least often.
    pub state_eviction: state::Eviction,
    /// After how many commits the documents are written to a snapshot, so that no more than these are read to know a log's state: 256.
    pub snapshot_commits: u64,
    /// The least number of bytes that a log grows by between two snapshots that are kept, for reads of the past: 64 KiB. If the one before is larger, its bytes.
    pub snapshot_bytes: u64,
    /// Of documents whose snapshots have more bytes than this, one document or a page is read without the rest; what is smaller is read, and kept in memory, as a
    /// whole: 1 MiB. With 0, whatever has a snapshot is read in parts.
    pub whole_state_bytes_max: u64,
    /// How many id runs of one tier are merged into one of the next: 8.
    pub id_run_merge: usize,
    /// How long a trim waits for readers of this process that have not read what it would take: 5 s.
    pub readers_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            append_timeout: Duration::from_secs(30),
            merge_bytes_max: 1 << 20,
            merge_entries_max: 1_024,
            pending_bytes_max: 256 << 20,
            open_logs_max: 100_000,
            ids_in_memory_max: 4_000_000,
            id_run_ids: 4_096,
            state_bytes_max: 256 << 20,
            state_eviction: state::Eviction::default(),
            snapshot_commits: 256,
            snapshot_bytes: 64 << 10,
            whole_state_bytes_max: 1 << 20,
            id_run_merge: 8,
            readers_patience: Duration::from_secs(5),
        }
    }
}

/// Logs over one backend. Cheap to clone; a clone is the same store.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) capabilities: Capabilities,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) reducers: Reducers,
    /// Names this process in the headers that it writes.
    pub(crate) writer: [u8; 16],
    /// Bytes that may still join what is pending.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) queue: turn::Queue,
    active: Mutex<HashMap<LogId, Arc<appender::Active>>>,
    /// States at the heads of logs.
    pub(crate) states: state::cache::States,
    /// How many snapshots may still be written at a time: they are for later, and others are served now.
    pub(crate) snapshot_writers: Arc<Semaphore>,
    /// Readers that are on their way.
    pub(crate) running: retention::running::Running,
    /// What this process noted to be due some time.
    pub(crate) notes: retention::due::Notes,
    ids_in_memory: Arc<AtomicUsize>,
    /// Idle logs are looked for when there are more ids than this.
    forget_ids_from: AtomicUsize,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

/// Builds a [`Store`] with other settings, or with a clock and randomness that a test drives.
#[derive(Debug)]
pub struct Builder {
    backend: Arc<dyn Backend>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    reducers: Reducers,
}

impl Builder {
    /// Other bounds.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// With merges of the caller's own, see [`Log::reduce`].
    #[must_use]
    pub fn reducers(mut self, reducers: Reducers) -> Self {
        self.reducers = reducers;
        self
    }

    /// The store.
    pub fn build(mut self) -> Store {
        self.settings.append_timeout = self.settings.append_timeout.min(TIMEOUT_MAX);
        let capabilities = self.backend.capabilities();
        Store(Arc::new(Inner {
            writer: clock::random(&*self.entropy),
            room: Arc::new(Semaphore::new(self.settings.pending_bytes_max.clamp(1, u32::MAX as usize))),
            queue: turn::Queue::new(capabilities.creates_in_flight.max(1)),
            active: Mutex::default(),
            states: state::cache::States::new(self.settings.state_bytes_max, self.settings.state_eviction),
            snapshot_writers: Arc::new(Semaphore::new(SNAPSHOT_WRITERS)),
            running: retention::running::Running::default(),
            notes: retention::due::Notes::default(),
            ids_in_memory: Arc::default(),
            forget_ids_from: AtomicUsize::new(self.settings.ids_in_memory_max),
            capabilities,
            backend: self.backend,
            settings: self.settings,
            clock: self.clock,
            entropy: self.entropy,
            reducers: self.reducers,
        }))
    }
}

/// How the names of blobs begin that hold content of their own, of which the log's commits speak: a copy takes them along. All others are caches of
/// what the commits say.
pub const CONTENT: &str = "content-";

/// How long a store waits, as it is closed, for the snapshots that are being written.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);
const SNAPSHOT_WRITERS: usize = 2;
/// A year: a point in time so far ahead can still be told.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Store {
    /// A store over this backend, with the default settings. Appends need a Tokio runtime with time enabled.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self::builder(backend).build()
    }

    /// A store with other settings.
    pub fn builder(backend: Arc<dyn Backend>) -> Builder {
        Builder {
            backend,
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            reducers: Reducers::default(),
        }
    }

    /// The backend below, for what has no method here.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    /// What the backend promises now: less than when it was opened, if it has found less since.
    pub fn capabilities(&self) -> Capabilities {
        self.0.backend.capabilities()
    }

    /// The time, by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// An id that no other entry has, for an append that may have to be tried again.
    pub fn random_id(&self) -> EntryId {
        EntryId::random(&*self.0.entropy)
    }

    /// Bytes that nobody can guess, by the store's source of randomness.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        clock::random(&*self.0.entropy)
    }

    /// A handle for one log, whether it exists or not.
    pub fn log(&self, id: LogId) -> Log {
        Log { store: self.clone(), id, consistency: Consistency::Strong }
    }

    /// One page of the logs' names; `next` of the answer goes on.
    pub async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.0.backend.logs(prefix, cursor, limit).await
    }

    /// Every log's name, collected. For a store of many logs, page with [`Store::logs`].
    pub async fn all_logs(&self, prefix: &LogPrefix) -> Result<Vec<LogId>> {
        let mut logs = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.logs(prefix, cursor, 1_000).await?;
            logs.extend(page.logs);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(logs);
            }
        }
    }

    /// How the states in memory have served.
    pub fn cached_states(&self) -> CachedStates {
        self.0.states.counts()
    }

    /// Closes the backend: releases its locks, and cuts what is unused. Appends still under way are waited for by their callers.
    pub async fn shut_down(&self) -> Result<()> {
        // A process that lives shortly would else never finish one, and the next must read all again.
        let writers = self.0.snapshot_writers.acquire_many(SNAPSHOT_WRITERS as u32);
        let _ = tokio::time::timeout(SNAPSHOT_PATIENCE, writers).await;
        self.0.backend.shut_down().await
    }
}

impl Inner {
    /// The state of a log that is being written, made on first use.
    pub(crate) fn active(&self, log: &LogId) -> Arc<appender::Active> {
        let mut active = lock(&self.active);
        if let Some(found) = active.get(log) {
            return Arc::clone(found);
        }
        if active.len() >= self.settings.open_logs_max.max(1) {
            // Whoever holds a clone is using it; the others can be read again from the backend.
            active.retain(|_, log| Arc::strong_count(log) > 1 || !log.is_idle());
        }
        let made = Arc::new(appender::Active::new(log.clone(), Arc::clone(&self.ids_in_memory)));
        active.insert(log.clone(), Arc::clone(&made));
        made
    }

    /// Forgets idle logs once there are too many ids in memory, down to three quarters of what there may be.
    pub(crate) fn forget_idle_ids(&self) {
        let count = || self.ids_in_memory.load(Ordering::Relaxed);
        if count() <= self.forget_ids_from.load(Ordering::Relaxed) {
            return;
        }
        let max = self.settings.ids_in_memory_max;
        lock(&self.active).retain(|_, log| {
            // Whoever holds a clone is using it.
            count() <= max / 4 * 3 || Arc::strong_count(log) > 1 || !log.has_ids() || !log.is_idle()
        });
        // If all are in use there is no point in looking again after each commit.
        self.forget_ids_from.store(max.max(count().saturating_add(max / 16)), Ordering::Relaxed);
    }

    pub(crate) fn all_active(&self) -> Vec<Arc<appender::Active>> {
        lock(&self.active).values().cloned().collect()
    }
}

/// Locks, also after a panic elsewhere: each critical section leaves its state whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One log of a store.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) store: Store,
    pub(crate) id: LogId,
    pub(crate) consistency: Consistency,
}

impl Log {
    /// Its name.
    pub fn id(&self) -> &LogId {
        &self.id
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Appends an entry: `.await` it, after [`Append::expect`] if it has a condition.
    ///
    /// When it answers, the entry is as durable as the backend declares. Dropping it before it was sent removes the entry.
    ///
    /// # Errors
    /// [`Invalid`](icecore_log::ErrorKind::Invalid) if the entry is empty or too large;
    /// [`Conflict`](icecore_log::ErrorKind::Conflict) if the condition does not hold, or the id was used for other content;
    /// [`Unavailable`](icecore_log::ErrorKind::Unavailable) if nothing was written: retry;
    /// [`Unknown`](icecore_log::ErrorKind::Unknown) if it may have been: retry with the same id, or ask [`Log::resolve`];
    /// [`Refused`](icecore_log::ErrorKind::Refused) if the log is sealed or the store read-only.
    pub fn append(&self, entry: impl Into<Entry>) -> Append<'_> {
        Append::new(self, entry.into())
    }
}
