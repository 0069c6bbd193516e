//! The handle: settings, and each call in a task of its own.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId,
    LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, SystemEntropy, Version, clock,
};
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, timeout_at};

use crate::bucket::Bucket;
use crate::look::Look;
use crate::make::make;
use crate::read::NAMES_MAX;
use crate::{create, examine, look, names, probe, read, trim};
use icecore_log::grace::{Clocks, Moment};
use icecore_log::known::Known;

/// The most bytes of one commit, header and body: what is sent in one request.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;

/// Bounds, with their defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The system's name.
    pub system: &'static str,
    /// What the system's objects survive.
    pub durability: Durability,
    /// How long a call may take in all: 60 s.
    pub timeout: Duration,
    /// How long after a close its slots are kept, at the least: 24 h. All writers of a store must have the same.
    pub grace: Duration,
    /// Requests of one call that are under way at once, at the most: 32.
    pub parallel: usize,
    /// How often a waiter looks for what other processes committed, at the least: 1 s. It begins with 20 ms.
    pub look_every: Duration,
    /// The clocks of a writer.
    pub clocks: Clocks,
    /// Facts for people: where the store is, and how it was found to be.
    pub facts: Vec<(String, String)>,
}

impl Settings {
    /// The defaults, for a system of this name and durability.
    pub fn new(system: &'static str, durability: Durability) -> Self {
        Self {
            system,
            durability,
            timeout: Duration::from_secs(60),
            grace: Duration::from_secs(24 * 60 * 60),
            parallel: 32,
            look_every: Duration::from_secs(1),
            clocks: Clocks::default(),
            facts: Vec::new(),
        }
    }

    /// Whether what was seen then may have been closed and deleted since.
    pub(crate) fn is_stale(&self, seen: Moment) -> bool {
        self.clocks.since(seen) >= self.grace / 2
    }
}

/// A [`Backend`] in a [`Bucket`].
#[derive(Debug)]
pub struct BucketStore {
    inner: Arc<Inner>,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub bucket: Arc<dyn Bucket>,
    pub settings: Settings,
    pub access: Access,
    pub known: Known,
    is_shut_down: AtomicBool,
    /// Read by what is under way.
    busy: RwLock<()>,
}

impl Inner {
    /// The name of an object that nobody else makes.
    pub(crate) fn probe_name(&self) -> String {
        format!("{}{:032x}", names::PROBE, u128::from_le_bytes(clock::random(&SystemEntropy)))
    }
}

impl BucketStore {
    /// Opens the store in a bucket. To write: tries whether the bucket honours conditions, and makes the store if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the bucket does not honour conditions, refuses, or holds something else or a later format;
    /// [`ErrorKind::NotFound`] if there is no bucket, or no store in it to be read; [`ErrorKind::Unavailable`] if it does not answer.
    pub async fn open(bucket: Arc<dyn Bucket>, access: Access, settings: Settings) -> Result<Self> {
        let deadline = Instant::now() + settings.timeout;
        let inner = Arc::new(Inner {
            bucket,
            settings,
            access,
            known: Known::default(),
            is_shut_down: AtomicBool::new(false),
            busy: RwLock::default(),
        });
        match timeout_at(deadline, probe::open(&inner)).await {
            Ok(opened) => opened?,
            Err(_) => return Err(late(&inner, ErrorKind::Unavailable, "opening a store")),
        }
        Ok(Self { inner, changes: watch::Sender::new(0) })
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(())
    }

    /// Does this in a task of its own, which goes on if the caller does not wait for it.
    async fn work<T, W>(
        &self,
        doing: &'static str,
        is_writing: bool,
        work: impl FnOnce(Arc<Inner>) -> W + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        self.check_open()?;
        if is_writing && self.inner.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        let kind = if is_writing { ErrorKind::Unknown } else { ErrorKind::Unavailable };
        let deadline = Instant::now() + self.inner.settings.timeout;
        let (inner, work) = (Arc::clone(&self.inner), work(Arc::clone(&self.inner)));
        let task = async move {
            let _busy = inner.busy.read().await;
            timeout_at(deadline, work).await
        };
        match tokio::spawn(task).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(late(&self.inner, kind, doing)),
            Err(error) => Err(Error::new(kind, doing).because(error)),
        }
    }
}

/// Looks at these logs, side by side; what was seen, in their order.
fn looks<'a>(
    inner: &'a Inner,
    logs: impl Iterator<Item = &'a LogId>,
    doing: &'static str,
) -> BoxStream<'a, Result<Look>> {
    let looks: Vec<BoxFuture<'a, _>> = logs.map(|log| look::look(inner, log, doing).boxed()).collect();
    stream::iter(looks).buffered(inner.settings.parallel.max(1)).boxed()
}

fn late(inner: &Inner, kind: ErrorKind, doing: &'static str) -> Error {
    Error::new(kind, doing).with("timeout_ms", inner.settings.timeout.as_millis())
}

#[async_trait]
impl Backend for BucketStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: self.inner.settings.system,
            durability: self.inner.settings.durability,
            atomic_create: false,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.inner.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 8,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let refused = self.check_open().err().or_else(|| {
            let only_reads = Error::new(ErrorKind::Refused, "creating a commit");
            (self.inner.access == Access::ReadOnly)
                .then(|| only_reads.advise("The store was opened only for reading"))
        });
        if let Some(error) = refused {
            return (0..count).map(|_| Created::failed(error.clone())).collect();
        }
        // Each run has a deadline of its own.
        let inner = Arc::clone(&self.inner);
        let task = async move {
            let _busy = inner.busy.read().await;
            create::create(&inner, runs, mode).await
        };
        let answers = tokio::spawn(task).await;
        self.changes.send_modify(|count| *count += 1);
        answers.unwrap_or_else(|error| {
            let unknown = Error::new(ErrorKind::Unknown, "creating a commit").because(error);
            (0..count).map(|_| Created::failed(unknown.clone())).collect()
        })
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        let doing = "reading a log";
        self.work(
            doing,
            false,
            move |inner| async move { read::page(&inner, &log, from, limit, doing).await },
        )
        .await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs = logs.to_vec();
        let doing = "reading heads";
        self.work(doing, false, move |inner| async move {
            let looks = looks(&inner, logs.iter(), doing);
            looks.map_ok(|look| look.head()).try_collect().await
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = names::logs(prefix);
        let token = cursor.as_ref().map(token_of).transpose()?;
        let doing = "listing logs";
        self.work(doing, false, move |inner| async move {
            let max = limit.clamp(1, NAMES_MAX);
            let page = inner.bucket.folders(&prefix, token.as_deref(), max).await;
            let page = page.map_err(|fault| fault.reading(doing))?;
            let logs = page.names.iter().filter_map(|name| names::log_of(name)).collect();
            Ok(LogPage { logs, next: page.next.as_deref().map(cursor_of) })
        })
        .await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let log = log.clone();
        self.work("closing a log", true, move |inner| async move { trim::close(&inner, &log, through).await })
            .await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let log = log.clone();
        self.work("sweeping a log", true, move |inner| async move { trim::sweep(&inner, &log).await }).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (log, versions) = (log.clone(), versions.to_vec());
        self.work("dropping bodies", true, move |inner| async move {
            trim::drop_bodies(&inner, &log, &versions).await
        })
        .await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        let mut pause = Duration::from_millis(20).min(self.inner.settings.look_every);
        loop {
            changes.borrow_and_update();
            let wanted = seen.to_vec();
            let look = self.work("waiting", false, move |inner| async move {
                let looks = looks(&inner, wanted.iter().map(|(log, _)| log), "waiting");
                let past = looks.zip(stream::iter(&wanted)).any(|(look, (_, version))| {
                    // A look that failed is no reason to sleep: whoever waits reads next, and is told.
                    ready(look.map_or(true, |look| look.tip.is_some_and(|tip| tip.last > *version)))
                });
                Ok(past.await)
            });
            // A store that does not answer is no reason to wait for longer.
            match timeout_at(deadline.max(Instant::now() + pause), look).await {
                Ok(Ok(false)) if Instant::now() < deadline => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => return Ok(()),
            }
            let next = deadline.min(Instant::now() + pause);
            // What comes first: the time to look for what others committed, or a commit of this handle to one of these logs.
            while timeout_at(next, changes.changed()).await.is_ok_and(|changed| changed.is_ok()) {
                self.check_open()?;
                let is_past = |(log, version): &(LogId, Version)| {
                    self.inner.known.get(log).is_some_and(|tip| tip.last > *version)
                };
                if seen.iter().any(is_past) {
                    break;
                }
            }
            pause = (pause * 2).min(self.inner.settings.look_every);
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let name = names::blob(blob);
        let doing = "writing a blob";
        self.work(doing, true, move |inner| async move {
            make(&inner, &name, bytes).await.map_err(|fault| fault.writing(doing))
        })
        .await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let name = names::blob(blob);
        let doing = "reading a blob";
        self.work(doing, false, move |inner| async move {
            let got = inner.bucket.get(&name, range).await.map_err(|fault| fault.reading(doing))?;
            Ok(got.map(|object| object.bytes))
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let folder = names::blobs(log);
        let prefix = format!("{folder}{prefix}");
        // One whose whole name is the prefix may be left out of a listing: so a shorter one is asked for.
        let asked = prefix[..prefix.len() - 1].to_owned();
        let doing = "listing blobs";
        self.work(doing, false, move |inner| async move {
            let (mut blobs, mut after) = (Vec::new(), None::<String>);
            loop {
                let listed = inner.bucket.list(&asked, after.as_deref(), NAMES_MAX).await;
                let listed = listed.map_err(|fault| fault.reading(doing))?;
                let Some(last) = listed.last() else {
                    return Ok(blobs);
                };
                after = Some(last.name.clone());
                let named = |name: &str| name.strip_prefix(&folder).unwrap_or_default().to_owned();
                let ours = listed.iter().filter(|found| found.name.starts_with(&prefix));
                blobs.extend(ours.map(|found| BlobInfo { name: named(&found.name), bytes: found.size }));
            }
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let name = names::blob(blob);
        let doing = "deleting a blob";
        self.work(doing, true, move |inner| async move {
            inner.bucket.delete(vec![name]).await.map_err(|fault| fault.writing(doing))
        })
        .await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        // It reads everything: it has no deadline, and each of its requests has.
        self.check_open()?;
        examine::examine(&self.inner, depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.inner.is_shut_down.store(true, Ordering::Release);
        self.changes.send_modify(|count| *count += 1);
        // What is under way has deadlines of its own.
        drop(self.inner.busy.write().await);
        Ok(())
    }
}

/// A store's token behind a checksum: what is none is refused here, and not by the server.
fn cursor_of(token: &str) -> Cursor {
    let mut bytes = crc32fast::hash(token.as_bytes()).to_le_bytes().to_vec();
    bytes.extend_from_slice(token.as_bytes());
    Cursor(bytes.into())
}

fn token_of(cursor: &Cursor) -> Result<String> {
    let split = cursor.0.split_at_checked(4).and_then(|(crc, token)| {
        let token = std::str::from_utf8(token).ok()?;
        (crc == crc32fast::hash(token.as_bytes()).to_le_bytes()).then(|| token.to_owned())
    });
    split.ok_or_else(Cursor::foreign)
}
