//! Keeps logs in a directory: a segmented log of our own, one writing process, any number of reading ones.
//!
//! ```text
//! LOCK          held by the writer while it lives
//! MARK          how far the segments are durable, for readers: two copies, written in turn
//! 00000001.seg  groups of frames, each group made durable by one sync; the last segment is preallocated
//! blobs/        one file a blob
//! ```
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once, 7 neighbours | one writer at a time decides, against the index and the group in progress |
//! | 2 unknown | a failed write or sync poisons the writer; what was in it is unknown, what comes later unavailable |
//! | 3 durable | `fdatasync` before any answer; at open no tail is trusted: it is copied to a new segment and synced first; a store that lost commits of unknown logs is not written any more |
//! | 4 fresh | the index changes after the sync and before the answer; readers follow the mark |
//! | 5 deletion | a close is a frame, synced before anything is swept |
//! | 6 bytes | three checksums a frame: head, header, body |

mod blobs;
mod disk;
mod examine;
mod frame;
mod group;
mod index;
mod read;
mod recovery;
mod scan;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot, watch};

pub use disk::{Disk, DiskFile, RealDisk};
use group::Request;
pub use icecore_log::Access;
use index::Index;
use writer::{Desk, Writer};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
/// The most bytes of the commits in one call.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 30;
/// How often a read that failed looks again, because somebody may have destroyed those bytes since it looked.
const LOOKS_MAX: usize = 16;

/// Bounds of a file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What a new store's segment is preallocated to: 256 KiB. It doubles as it fills.
    pub segment_bytes_first: u64,
    /// What a segment grows to before the next one is begun: 64 MiB.
    pub segment_bytes_max: u64,
    /// How many zeros are written ahead of the groups at a time, so that a sync finds blocks that were written before: as many bytes as this writer
    /// has written, and at most so many: 1 MiB.
    pub zeros_bytes_max: u64,
    /// A group ends with the request that reaches so many bytes: 4 MiB.
    pub group_bytes_max: usize,
    /// How many requests may wait for the writer; more wait before it: 1,024.
    pub requests_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes_first: 256 << 10,
            segment_bytes_max: 64 << 20,
            zeros_bytes_max: 1 << 20,
            group_bytes_max: 4 << 20,
            requests_max: 1_024,
        }
    }
}

/// A [`Backend`] in a directory.
pub struct FileStore {
    shared: Arc<Shared>,
    requests: Mutex<Option<Sender<Request>>>,
    room: Semaphore,
    requests_max: usize,
    /// For a caller who is alone.
    desk: Option<Arc<Desk>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Whether the writer's thread has ended, and with it the lock.
    ended: watch::Receiver<bool>,
    access: Access,
}

/// What the writer's thread and the readers share.
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    index: RwLock<Index>,
    /// For a reader: where the mark is read.
    marks: Mutex<Option<Arc<dyn DiskFile>>>,
    /// For a reader: the mark through which everything was taken up that can be.
    followed: AtomicU64,
    changes: watch::Sender<u64>,
    is_shut_down: AtomicBool,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.shared.path)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

pub(crate) fn unavailable(doing: &'static str, error: io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Nothing was written: free some space, and retry"
        }
        _ => "Nothing was written",
    };
    Error::new(ErrorKind::Unavailable, doing).because(error).advise(advice)
}

impl FileStore {
    /// Opens a directory. To write: makes it if it is not there, takes its lock, and repairs what a crash left.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if another process writes to it, or it holds something else; [`ErrorKind::NotFound`] if it is to be read and is no store;
    /// [`ErrorKind::Unavailable`] if the disk fails. Damage is no error here: what is damaged fails when it is read.
    pub fn open(path: &Path, access: Access, settings: Settings) -> Result<Self> {
        let facts = |error: Error| error.with("path", path.display());
        if access == Access::ReadWrite {
            recovery::make_directory(path).map_err(facts)?;
        }
        Self::on(Arc::new(RealDisk::new(path)), path, access, settings).map_err(facts)
    }

    /// Opens a store on any disk: for tests with a failing one.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub fn on(disk: Arc<dyn Disk>, path: &Path, access: Access, settings: Settings) -> Result<Self> {
        let shared = Arc::new(Shared {
            disk,
            path: path.to_owned(),
            index: RwLock::default(),
            marks: Mutex::default(),
            followed: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            is_shut_down: AtomicBool::new(false),
        });
        let (ending, ended) = watch::channel(access == Access::ReadOnly);
        let requests_max = settings.requests_max.max(1);
        let room = Semaphore::new(requests_max);
        let (mut requests, mut thread, mut desk) = (None, None, None);
        match access {
            Access::ReadOnly => recovery::open_to_read(&shared)?,
            Access::ReadWrite => {
                let writer = recovery::open_to_write(&shared, settings)?;
                let writer = Arc::new(Mutex::new(Some(writer)));
                desk = Some(Arc::clone(&writer));
                let (sender, receiver) = std::sync::mpsc::channel();
                let spawned = std::thread::Builder::new().name("icecore-file".to_owned()).spawn(move || {
                    // Also if the writer panics: whoever waits for its end must not wait for ever.
                    let _ending = Ending(ending);
                    Writer::run(&writer, &receiver);
                });
                thread = Some(spawned.map_err(|error| unavailable("starting the writer", error))?);
                requests = Some(sender);
            }
        }
        let (requests, thread) = (Mutex::new(requests), Mutex::new(thread));
        Ok(Self { shared, requests, room, requests_max, desk, thread, ended, access })
    }

    /// Asks the writer; its answer.
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T> {
        if self.access == Access::ReadOnly {
            return Err(
                Error::new(ErrorKind::Refused, "writing to a store").advise("It was opened only for reading")
            );
        }
        let _room = self.room.acquire().await.map_err(|_| closed())?;
        let (answer, outcome) = oneshot::channel();
        let sender =
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        if let Some(request) = self.serve_here(make(answer), &sender) {
            sender.send(request).map_err(|_| closed())?;
        }
        outcome.await.map_err(|_| {
            Error::new(ErrorKind::Unknown, "writing to a store")
                .advise("The writer ended: open the store again")
        })
    }

    /// Serves a request in this thread, if it is a small append, nobody else asks for anything, and the disk is quick; else gives it back.
    fn serve_here(&self, request: Request, sender: &Sender<Request>) -> Option<Request> {
        let is_alone = self.room.available_permits() + 1 == self.requests_max;
        if !is_alone || !request.is_small() || !may_block() {
            return Some(request);
        }
        match self.desk.as_ref().and_then(|desk| desk.try_lock().ok()).as_deref_mut() {
            Some(Some(writer)) if writer.is_quick() => {
                if writer.serve_here(request) {
                    // If the thread has ended, so has the writer, and covered what there was.
                    let _ = sender.send(Request::Look);
                }
                None
            }
            _ => Some(request),
        }
    }

    fn is_open(&self) -> Result<()> {
        if self.shared.is_shut_down.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    /// Reads. Bytes are destroyed only after the index says so, so what fails may be what somebody has dropped or swept since
    /// we looked: as long as the store goes on, it is looked at again.
    fn read_again<T>(&self, read: impl Fn(&Shared) -> Result<T>) -> Result<T> {
        self.refresh()?;
        let mut looks = 0;
        loop {
            let through = self.shared.read().through;
            let outcome = read(&self.shared);
            looks += 1;
            if outcome.is_ok() || looks == LOOKS_MAX {
                return outcome;
            }
            if self.access == Access::ReadOnly {
                recovery::refresh(&self.shared, scan::Tail::Look)?;
            }
            if self.shared.read().through == through && looks > 1 {
                return outcome;
            }
        }
    }

    /// Reading begins with a look at how far the writer has come, if that is another process.
    fn refresh(&self) -> Result<()> {
        self.is_open()?;
        if self.access == Access::ReadOnly {
            recovery::refresh(&self.shared, scan::Tail::Follow)
        } else {
            Ok(())
        }
    }
}

/// Whether this thread may wait for a disk for a moment: there are others that go on meanwhile.
fn may_block() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}

fn closed() -> Error {
    Error::new(ErrorKind::Refused, "using a store").advise("It was shut down")
}

/// Says that the writer's thread has ended.
struct Ending(watch::Sender<bool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        // The thread finishes what it has and cuts the unused tail; then the lock may go.
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Backend for FileStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "file",
            durability: Durability::Disk,
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: false,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 3,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        match self.ask(|answer| Request::Create(runs, mode, answer)).await {
            Ok(created) => created,
            Err(error) => (0..count).map(|_| Created::failed(error.clone())).collect(),
        }
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.read_again(|shared| shared.page(log, from, limit))
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.read_again(|shared| logs.iter().map(|log| shared.head(log)).collect())
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.refresh()?;
        self.shared.list(prefix, cursor, limit)
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.ask(|answer| Request::Close(log.clone(), through, answer)).await?
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.ask(|answer| Request::Sweep(log.clone(), answer)).await?
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.ask(|answer| Request::Drop(log.clone(), versions.to_vec(), answer)).await?
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.shared.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let timeout = timeout.min(Duration::from_secs(24 * 60 * 60));
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            self.refresh()?;
            if self.shared.is_past(seen) || tokio::time::Instant::now() >= deadline {
                return Ok(());
            }
            // A writer of another process tells nobody: its mark is looked at every 20 ms.
            let pause = if self.access == Access::ReadOnly { Duration::from_millis(20) } else { timeout };
            let next = deadline.min(tokio::time::Instant::now() + pause);
            let _ = tokio::time::timeout_at(next, changes.changed()).await;
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.is_open()?;
        if self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, "writing a blob")
                .advise("The store was opened only for reading"));
        }
        let (shared, blob) = (Arc::clone(&self.shared), blob.clone());
        blocking(move || blobs::put(&*shared.disk, &blob, &bytes)).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.is_open()?;
        let (shared, blob) = (Arc::clone(&self.shared), blob.clone());
        blocking(move || blobs::get(&*shared.disk, &blob, range)).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.is_open()?;
        blobs::list(&*self.shared.disk, log, prefix)
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.is_open()?;
        if self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, "deleting a blob")
                .advise("The store was opened only for reading"));
        }
        blobs::delete(&*self.shared.disk, blob)
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.refresh()?;
        let (shared, access) = (Arc::clone(&self.shared), self.access);
        blocking(move || examine::examine(&shared, access, depth)).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.shared.is_shut_down.store(true, Ordering::Release);
        let sender = self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut outcome = Ok(());
        if let Some(sender) = sender {
            let (answer, done) = oneshot::channel();
            if sender.send(Request::Stop(answer)).is_ok() {
                outcome = done.await.unwrap_or(Ok(()));
            }
        }
        // Whoever called first may have left: the lock is free when the writer has ended, and not before.
        let _ = self.ended.clone().wait_for(|has_ended| *has_ended).await;
        self.shared.changed();
        outcome
    }
}

/// Runs what reads or writes much outside of the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Unavailable, "working in the background").because(error)),
    }
}
