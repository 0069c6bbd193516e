//! The outbox: what is accepted at once, and written soon, in the order of the calls.
//!
//! A runtime tells of every step of a flow while the flow waits. Here it waits for a place in memory, and no longer: whatever came
//! within a few milliseconds is written together. What is lost if the process is killed is the end of that, never something from
//! the middle: of each log what is there is a prefix of what was accepted.
//!
//! Nothing is dropped because the system is away: it is tried again until it is there, and who adds more waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use icecore_log::{Entry, Error, ErrorKind, LogId, Result};
use icecore_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Bounds, each with its default in [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long the first of a batch waits for others: 20 ms.
    pub linger: Duration,
    /// The most bytes that wait in memory, about; beyond, callers wait: 32 MiB.
    pub bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { linger: Duration::from_millis(20), bytes_max: 32 << 20 }
    }
}

/// Gives the store, opened when it is first needed.
pub type Open = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Store>> + Send>> + Send + Sync>;
/// Makes the entry, once it is written.
type Make = Box<dyn FnOnce() -> Result<(LogId, Entry)> + Send>;

/// Events on their way to a store. Cheap to clone; a clone is the same outbox.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    open: Open,
    settings: Settings,
    state: Mutex<State>,
    /// Somebody waits for what is in it.
    hurry: Notify,
    /// How many are settled.
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(usize, Make)>,
    /// When the first of these was accepted.
    since: Option<Instant>,
    /// Of these, and of what is being written.
    bytes: usize,
    accepted: u64,
    is_running: bool,
    is_closed: bool,
    /// What will never be written, since somebody asked: how many, and why the first.
    failed: (u64, Option<Error>),
    /// Why the system is being tried again.
    trouble: Option<Error>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("unsettled", &self.unsettled()).finish_non_exhaustive()
    }
}

const DOING: &str = "writing what was accepted";
/// Pauses between tries while the system is away: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// No batch waits longer for others, whatever the settings say.
const LINGER_MAX: Duration = Duration::from_secs(3_600);
/// The most entries that are handed to the store at once: one commit, if they are small.
const ENTRIES_AT_ONCE: usize = 1_024;
/// About what one that waits takes beside its bytes.
const OVERHEAD: usize = 256;
/// The most logs that are written at a time.
const LOGS_AT_ONCE: usize = 1_024;

impl Outbox {
    /// Nothing is opened or started before something is accepted.
    pub fn new(open: Open, mut settings: Settings) -> Self {
        settings.linger = settings.linger.min(LINGER_MAX);
        Self(Arc::new(Inner {
            open,
            settings,
            state: Mutex::default(),
            hurry: Notify::new(),
            settled: watch::Sender::new(0),
        }))
    }

    /// Accepts an entry, of about so many bytes. Whether there is room for more: if not, wait for [`Outbox::room`].
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system is away and twice as much waits as should: it was not accepted.
    /// [`ErrorKind::Refused`] if it was closed.
    pub fn accept(
        &self,
        runtime: &Handle,
        bytes: usize,
        make: impl FnOnce() -> Result<(LogId, Entry)> + Send + 'static,
    ) -> Result<bool> {
        let bytes_max = self.0.settings.bytes_max;
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Refused, DOING).advise("The store was closed: open another"));
        }
        // Else it is written soon, and a burst of callers who all wait for room is no reason to drop anything.
        if state.trouble.is_some() && state.bytes > bytes_max.saturating_mul(2) {
            return Err(state.in_trouble("It was not accepted, as too much waits to be written"));
        }
        let bytes = bytes.saturating_add(OVERHEAD);
        state.bytes = state.bytes.saturating_add(bytes);
        state.accepted += 1;
        state.waiting.push_back((bytes, Box::new(make)));
        state.since.get_or_insert_with(Instant::now);
        if !std::mem::replace(&mut state.is_running, true) {
            runtime.spawn(Arc::clone(&self.0).run());
        }
        let has_room = state.bytes <= bytes_max;
        if !has_room {
            // Whoever could add to it waits.
            self.0.hurry.notify_one();
        }
        Ok(has_room)
    }

    /// How many were accepted and are neither written nor given up.
    pub fn unsettled(&self) -> u64 {
        // First what is settled: it was accepted before, and more may be meanwhile.
        let settled = *self.0.settled.borrow();
        self.0.lock().accepted - settled
    }

    /// How many were given up since [`Outbox::flush`] last said so.
    pub fn lost(&self) -> u64 {
        self.0.lock().failed.0
    }

    /// Why the system is being tried again, if it is.
    pub fn trouble(&self) -> Option<Error> {
        self.0.lock().trouble.clone()
    }

    /// Waits until there is room.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if there is none in time. What was accepted is kept and tried again.
    pub async fn room(&self, timeout: Duration) -> Result<()> {
        let has_room = |inner: &Inner| inner.lock().bytes <= inner.settings.bytes_max;
        self.wait(timeout, has_room, "What was accepted is kept; too much waits to be written").await
    }

    /// Waits until all that was accepted before is written, or given up.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it is not in time. What was accepted is kept and tried again.
    pub async fn settle(&self, timeout: Duration) -> Result<()> {
        let through = self.0.lock().accepted;
        let is_settled = move |inner: &Inner| *inner.settled.borrow() >= through;
        if is_settled(&self.0) {
            return Ok(());
        }
        self.0.hurry.notify_one();
        self.wait(timeout, is_settled, "What was accepted is kept, and is not yet written: ask again").await
    }

    /// As [`Outbox::settle`]; and says what was given up since this was last asked.
    ///
    /// # Errors
    /// The error of the first that will never be written, with how many those are as the fact `lost`.
    pub async fn flush(&self, timeout: Duration) -> Result<()> {
        self.settle(timeout).await?;
        let (lost, first) = std::mem::take(&mut self.0.lock().failed);
        first.map_or(Ok(()), |error| Err(error.with("lost", lost)))
    }

    /// Accepts no more.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
    }

    async fn wait(&self, timeout: Duration, is_so: impl Fn(&Inner) -> bool, advice: &str) -> Result<()> {
        let mut settled = self.0.settled.subscribe();
        let waited = tokio::time::timeout(timeout, async {
            while !is_so(&self.0) {
                // The sender lives as long as this does.
                let _ = settled.changed().await;
            }
        });
        waited.await.map_err(|_| self.0.lock().in_trouble(advice))
    }
}

impl State {
    fn in_trouble(&self, advice: &str) -> Error {
        let error =
            Error::new(ErrorKind::Unavailable, DOING).with("waiting_bytes", self.bytes).advise(advice);
        match &self.trouble {
            Some(trouble) => error.because(trouble.clone()),
            None => error,
        }
    }

    fn give_up(&mut self, error: Error) {
        self.failed.0 += 1;
        self.failed.1.get_or_insert(error);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes batch after batch, until nothing waits.
    async fn run(self: Arc<Self>) {
        loop {
            let since = self.lock().since.unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(since + self.settings.linger) => {}
                () = self.hurry.notified() => {}
            }
            let batch = {
                let mut state = self.lock();
                state.since = None;
                std::mem::take(&mut state.waiting)
            };
            let (count, bytes) = (batch.len() as u64, batch.iter().map(|(bytes, _)| bytes).sum::<usize>());
            self.write(batch).await;
            let is_done = {
                let mut state = self.lock();
                state.bytes -= bytes;
                state.is_running = !state.waiting.is_empty();
                !state.is_running
            };
            self.settled.send_modify(|settled| *settled += count);
            if is_done {
                return;
            }
        }
    }

    async fn write(&self, batch: VecDeque<(usize, Make)>) {
        let mut logs: Vec<(LogId, Vec<Entry>)> = Vec::new();
        let mut places: HashMap<LogId, usize> = HashMap::new();
        for (_, make) in batch {
            match make() {
                Ok((log, entry)) => match places.get(&log) {
                    Some(place) => logs[*place].1.push(entry),
                    None => {
                        places.insert(log.clone(), logs.len());
                        logs.push((log, vec![entry]));
                    }
                },
                Err(error) => self.lock().give_up(error),
            }
        }
        let store = match self.opened().await {
            Ok(store) => store,
            Err(error) => {
                return self.give_all_up(&error, logs.iter().map(|(_, entries)| entries.len()).sum());
            }
        };
        let mut logs = logs.into_iter().map(|(log, entries)| self.write_log(&store, log, entries));
        let mut writing: FuturesUnordered<_> = logs.by_ref().take(LOGS_AT_ONCE).collect();
        while writing.next().await.is_some() {
            writing.extend(logs.next());
        }
        self.lock().trouble = None;
    }

    /// The store; an error only if nobody can use it any more.
    async fn opened(&self) -> Result<Store> {
        let mut pause = RETRY_FIRST;
        loop {
            match (self.open)().await {
                Err(error) if !self.lock().is_closed => self.again(error, &mut pause).await,
                done => return done,
            }
        }
    }

    /// Writes what one log gets, in order. Each entry has an id: one that is tried again is not written twice.
    async fn write_log(&self, store: &Store, log: LogId, entries: Vec<Entry>) {
        let log = store.log(log);
        let mut left = entries;
        let mut pause = RETRY_FIRST;
        while !left.is_empty() {
            let some = left.len().min(ENTRIES_AT_ONCE);
            let outcomes = match log.append_all(left[..some].to_vec()).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    if let Some(error) = self.is_over().await {
                        return self.give_all_up(&error, left.len());
                    }
                    self.again(error, &mut pause).await;
                    continue;
                }
            };
            // What is behind one that must be tried again was not written either, or has its receipt already.
            let mut trouble = None;
            let mut outcomes = outcomes.into_iter();
            let kept = left.split_off(some);
            left.retain(|_| match outcomes.next() {
                Some(Err(error)) if is_transient(&error) => {
                    trouble = Some(error);
                    true
                }
                // The same id with other content: what came first stays.
                Some(Err(error)) if error.kind() != ErrorKind::Conflict => {
                    self.lock().give_up(error);
                    false
                }
                _ => false,
            });
            left.extend(kept);
            let Some(error) = trouble else {
                pause = RETRY_FIRST;
                continue;
            };
            if let Some(error) = self.is_over().await {
                return self.give_all_up(&error, left.len());
            }
            self.again(error, &mut pause).await;
        }
    }

    /// Why nothing more will be written: it was closed, and then the store.
    async fn is_over(&self) -> Option<Error> {
        if self.lock().is_closed { (self.open)().await.err() } else { None }
    }

    fn give_all_up(&self, error: &Error, count: usize) {
        let mut state = self.lock();
        (0..count).for_each(|_| state.give_up(error.clone()));
    }

    async fn again(&self, error: Error, pause: &mut Duration) {
        self.lock().trouble = Some(error);
        tokio::time::sleep(*pause).await;
        *pause = pause.saturating_mul(2).min(RETRY_MAX);
    }
}

fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown)
}
