//! Keeps logs in a SQLite database: any number of processes of one machine may write and read it.
//!
//! The tables are in `wire`, and byte for byte in `docs/formats/sqlite.md`. A log has a row in `logs`, with an id in order
//! of creation; a commit has a row in `commits`. There is no row of the head: an append adds a row and changes none.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once, 7 neighbours | one writer at a time in all processes (`BEGIN IMMEDIATE`), which decides with what it reads under that lock |
//! | 2 unknown | whatever fails at `COMMIT` is unknown; what fails before it is rolled back |
//! | 3 durable | `journal_mode=WAL` and `synchronous=FULL`, both read back after they were set: the log is synced at every `COMMIT` |
//! | 4 fresh | a read is a transaction of its own, which sees every commit that came before it |
//! | 5 deletion | the boundary is read under the same lock as the slot |
//! | 6 bytes | BLOB columns; a checksum a row, which SQLite itself does not have |
//!
//! What is waiting when the writer gets its turn goes into one transaction. Opening to write also brings the write-ahead
//! log into the database: a process that died between writing a commit and syncing it leaves one that can be seen
//! and is not durable, and what is seen must be before it is won again.
//!
//! SQLite's own limits hold: the processes share one machine, and the file is not on a network drive.

mod config;
mod fault;
mod read;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

pub use config::Settings;
use fault::Fault;
pub use icecore_log::Access;
use writer::{Job, Writer};

/// The most bytes of one commit, header and body.
const COMMIT_BYTES_MAX: usize = 80 << 20;
/// How often a waiter looks for what other processes committed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A [`Backend`] in a SQLite database.
pub struct SqliteStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<Handle>>,
    /// How many jobs may wait for the writer.
    room: Semaphore,
    /// How many connections may read.
    readers: Semaphore,
    access: Access,
}

/// The writer's thread, and the way to it.
struct Handle {
    jobs: std::sync::mpsc::Sender<Job>,
    thread: std::thread::JoinHandle<()>,
}

/// What reads and the writer share.
struct Shared {
    path: PathBuf,
    settings: Settings,
    idle: Mutex<Idle>,
    changes: watch::Sender<u64>,
    watched: Mutex<Option<Watched>>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    is_shut_down: bool,
}

/// Tells that some connection, of any process, has committed.
struct Watched {
    connection: Connection,
    version: i64,
    looked: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.shared.path)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Refused, "using a store").advise("It was shut down")
}

impl SqliteStore {
    /// Opens a database. To write: makes it, and the folder that it is in, if they are not there. To read: SQLite may make the two
    /// files that readers and writers share beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the file holds something else, or was written by a later version of Icecore;
    /// [`ErrorKind::NotFound`] if it is to be read and is not there; [`ErrorKind::Unavailable`] if the disk fails, or
    /// another process holds the database for longer than [`Settings::busy_timeout`].
    pub fn open(path: &Path, access: Access, settings: Settings) -> Result<Self> {
        let facts = |error: Error| error.with("path", path.display());
        let writer = match access {
            Access::ReadOnly => {
                config::check_readable(path, &settings).map_err(facts)?;
                None
            }
            Access::ReadWrite => Some(config::open_to_write(path, &settings).map_err(facts)?),
        };
        let (readers, room) = (settings.readers_max.max(1), settings.jobs_max.max(1));
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            settings,
            idle: Mutex::default(),
            changes: watch::Sender::new(0),
            watched: Mutex::default(),
        });
        let writer =
            writer.map(|connection| Handle::start(connection, &shared)).transpose().map_err(facts)?;
        Ok(Self {
            shared,
            writer: Mutex::new(writer),
            room: Semaphore::new(room),
            readers: Semaphore::new(readers),
            access,
        })
    }

    /// Has the writer do this in its next transaction; the answer comes when it is durable.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        if self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        let _room = self.room.acquire().await.map_err(|_| closed())?;
        let (channel, outcome) = oneshot::channel();
        let jobs = lock(&self.writer).as_ref().map(|writer| writer.jobs.clone()).ok_or_else(closed)?;
        jobs.send(Job::new(doing, bytes, work, channel)).map_err(|_| closed())?;
        outcome.await.map_err(|_| {
            Error::new(ErrorKind::Unknown, doing).advise("The writer ended: open the store again")
        })?
    }

    /// Reads in one transaction, outside of the runtime's own threads.
    async fn read_with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let _reader = self.readers.acquire().await.map_err(|_| closed())?;
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || shared.read(doing, work)).await {
            Ok(result) => result,
            Err(error) => Err(Error::new(ErrorKind::Unavailable, doing).because(error)),
        }
    }
}

impl Handle {
    fn start(connection: Connection, shared: &Arc<Shared>) -> Result<Self> {
        let (jobs, receiver) = std::sync::mpsc::channel();
        let writer = Writer::new(connection, Arc::clone(shared));
        let thread = std::thread::Builder::new()
            .name("icecore-sqlite".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| Error::new(ErrorKind::Unavailable, "starting the writer").because(error))?;
        Ok(Self { jobs, thread })
    }

    /// Lets the writer finish what it has, and waits for its end.
    fn stop(self) {
        drop(self.jobs);
        // A writer that panicked has ended as well; its callers were told that the outcome is unknown.
        let _ = self.thread.join();
    }
}

impl Shared {
    fn read<T>(&self, doing: &'static str, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T> {
        let idle = {
            let mut idle = lock(&self.idle);
            if idle.is_shut_down {
                return Err(closed());
            }
            idle.connections.pop()
        };
        let connection = match idle {
            Some(connection) => connection,
            None => config::open_to_read(&self.path, &self.settings)?,
        };
        let result = connection
            .unchecked_transaction()
            .map_err(Fault::from)
            .and_then(|_transaction| work(&connection))
            .map_err(|fault| fault.before_writing(doing));
        let mut idle = lock(&self.idle);
        if !idle.is_shut_down {
            idle.connections.push(connection);
        }
        result
    }

    /// Whether another connection has committed since the last look, which the waiters are told; and begins to watch.
    fn look(&self) -> Result<()> {
        let fault = |error: rusqlite::Error| Fault::from(error).before_writing("waiting");
        let mut watched = lock(&self.watched);
        if lock(&self.idle).is_shut_down {
            return Err(closed());
        }
        match &mut *watched {
            None => {
                let connection = config::open_to_read(&self.path, &self.settings)?;
                let version = wire::data_version(&connection).map_err(fault)?;
                *watched = Some(Watched { connection, version, looked: Instant::now() });
            }
            Some(watched) if watched.looked.elapsed() >= LOOK_EVERY / 2 => {
                let version = wire::data_version(&watched.connection).map_err(fault)?;
                watched.looked = Instant::now();
                if version != std::mem::replace(&mut watched.version, version) {
                    self.changed();
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn shut_down(&self) {
        let mut watched = lock(&self.watched);
        let mut idle = lock(&self.idle);
        idle.is_shut_down = true;
        idle.connections.clear();
        *watched = None;
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Those that read are closed first: the last connection brings the write-ahead log into the database.
        self.shared.shut_down();
        if let Some(writer) = lock(&self.writer).take() {
            writer.stop();
        }
    }
}

#[async_trait]
impl Backend for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "sqlite",
            durability: Durability::Disk,
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 2,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let bytes = runs.iter().flat_map(|run| &run.commits).map(icecore_log::StoredCommit::len).sum();
        let work = move |connection: &Connection| writer::create(connection, &runs, mode);
        match self.write("creating a commit", bytes, work).await {
            Ok(created) => created,
            Err(error) => (0..count).map(|_| Created::failed(error.clone())).collect(),
        }
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        self.read_with("reading a log", move |connection| read::page(connection, &log, from, limit)).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs = logs.to_vec();
        self.read_with("reading heads", move |connection| {
            logs.iter().map(|log| read::head(connection, log)).collect()
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.read_with("listing logs", move |connection| read::list(connection, &prefix, cursor, limit)).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let log = log.clone();
        self.write("closing a log", 0, move |connection| writer::close(connection, &log, through)).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let mut swept = Swept::default();
        // In steps, so that others get their turn in between.
        loop {
            let log = log.clone();
            let step =
                self.write("sweeping a log", 0, move |connection| writer::sweep(connection, &log)).await?;
            if step == Swept::default() {
                return Ok(swept);
            }
            swept.commits += step.commits;
            swept.bytes += step.bytes;
        }
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (log, versions) = (log.clone(), versions.to_vec());
        let work = move |connection: &Connection| writer::drop_bodies(connection, &log, &versions);
        self.write("dropping bodies", 0, work).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.shared.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let deadline = tokio::time::Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        loop {
            // Watching begins before the look at the logs, or what comes between the two would be missed.
            self.shared.look()?;
            changes.borrow_and_update();
            let wanted = seen.to_vec();
            let is_past =
                self.read_with("waiting", move |connection| read::is_past(connection, &wanted)).await?;
            if is_past {
                return Ok(());
            }
            loop {
                if tokio::time::Instant::now() >= deadline {
                    return Ok(());
                }
                let next = deadline.min(tokio::time::Instant::now() + LOOK_EVERY);
                if tokio::time::timeout_at(next, changes.changed()).await.is_ok() {
                    break;
                }
                self.shared.look()?;
            }
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let (blob, length) = (blob.clone(), bytes.len());
        self.write("writing a blob", length, move |connection| writer::put_blob(connection, &blob, &bytes))
            .await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.read_with("reading a blob", move |connection| read::blob(connection, &blob, range)).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.read_with("listing blobs", move |connection| read::blobs(connection, &log, &prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let blob = blob.clone();
        self.write("deleting a blob", 0, move |connection| writer::delete_blob(connection, &blob)).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let path = self.shared.path.clone();
        self.read_with("examining a store", move |connection| read::examine(connection, &path, depth)).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.shared.shut_down();
        self.shared.changed();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            // What it still has may take a while, which is not for the runtime's own threads.
            let stopped = tokio::task::spawn_blocking(move || writer.stop()).await;
            return stopped
                .map_err(|error| Error::new(ErrorKind::Unavailable, "closing a store").because(error));
        }
        Ok(())
    }
}
