//! Settings, opening, and what each call of the handle comes to.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::grace::{Clocks, Moment};
use icecore_log::known::Known;
use icecore_log::{
    Access, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, SystemEntropy, Version, clock,
};
use icecore_remote::{Handle, Remote};
use tokio::time::{Instant, timeout_at};

use crate::bucket::Bucket;
use crate::look::Look;
use crate::make::make;
use crate::read::NAMES_MAX;
use crate::{create, examine, look, names, probe, read, trim};

/// The most bytes of one commit, header and body: what is sent in one request.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;

/// How soon a waiter looks for what other processes committed, at first.
const LOOK_FIRST: Duration = Duration::from_millis(20);

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
        self.clocks.is_stale(seen, self.grace)
    }
}

/// A [`Backend`](icecore_log::Backend) in a [`Bucket`], which [`Objects::open`] opens.
pub type BucketStore = Handle<Objects>;

/// What a [`BucketStore`] asks.
#[derive(Debug)]
pub struct Objects {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) settings: Settings,
    pub(crate) access: Access,
    pub(crate) known: Known,
}

impl Objects {
    /// Opens the store in a bucket. To write: tries whether the bucket honours conditions, and makes the store if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the bucket does not honour conditions, refuses, or holds something else or a later format;
    /// [`ErrorKind::NotFound`] if there is no bucket, or no store in it to be read; [`ErrorKind::Unavailable`] if it does not answer.
    pub async fn open(bucket: Arc<dyn Bucket>, access: Access, settings: Settings) -> Result<BucketStore> {
        let deadline = Instant::now() + settings.timeout;
        let objects = Self { bucket, settings, access, known: Known::default() };
        objects.reading("opening a store", deadline, probe::open(&objects)).await?;
        Ok(Handle::new(objects))
    }

    /// The name of an object that nobody else makes.
    pub(crate) fn probe_name(&self) -> String {
        format!("{}{:032x}", names::PROBE, u128::from_le_bytes(clock::random(&SystemEntropy)))
    }

    /// What is not done in time was not done.
    async fn reading<T>(
        &self,
        doing: &'static str,
        deadline: Instant,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.in_time(ErrorKind::Unavailable, doing, deadline, work).await
    }

    /// What is not done in time may have been done.
    async fn writing<T>(
        &self,
        doing: &'static str,
        deadline: Instant,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.in_time(ErrorKind::Unknown, doing, deadline, work).await
    }

    async fn in_time<T>(
        &self,
        kind: ErrorKind,
        doing: &'static str,
        deadline: Instant,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let late = |_| Err(Error::new(kind, doing).with("timeout_ms", self.settings.timeout.as_millis()));
        timeout_at(deadline, work).await.unwrap_or_else(late)
    }

    /// Blobs of a log, page by page.
    async fn list_blobs(&self, log: &LogId, prefix: &str, doing: &'static str) -> Result<Vec<BlobInfo>> {
        let folder = names::blobs(log);
        let prefix = format!("{folder}{prefix}");
        // One whose whole name is the prefix may be left out of a listing: so a shorter one is asked for.
        let asked = &prefix[..prefix.len() - 1];
        let (mut blobs, mut after) = (Vec::new(), None::<String>);
        loop {
            let listed = self.bucket.list(asked, after.as_deref(), NAMES_MAX).await;
            let listed = listed.map_err(|fault| fault.reading(doing))?;
            let Some(last) = listed.last() else {
                return Ok(blobs);
            };
            after = Some(last.name.clone());
            let named = |name: &str| name.strip_prefix(&folder).unwrap_or_default().to_owned();
            let ours = listed.iter().filter(|found| found.name.starts_with(&prefix));
            blobs.extend(ours.map(|found| BlobInfo { name: named(&found.name), bytes: found.size }));
        }
    }
}

/// Looks at these logs, side by side; what was seen, in their order.
fn looks<'a>(
    inner: &'a Objects,
    logs: impl Iterator<Item = &'a LogId>,
    doing: &'static str,
) -> BoxStream<'a, Result<Look>> {
    let looks: Vec<BoxFuture<'a, _>> = logs.map(|log| look::look(inner, log, doing).boxed()).collect();
    stream::iter(looks).buffered(inner.settings.parallel.max(1)).boxed()
}

impl Remote for Objects {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: self.settings.system,
            durability: self.settings.durability,
            atomic_create: false,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 8,
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    fn looks(&self) -> (Duration, Duration) {
        (LOOK_FIRST, self.settings.look_every)
    }

    // Each run has a time of its own.
    async fn create(&self, runs: Vec<Run>, mode: Mode, _: Instant) -> Vec<Created> {
        create::create(self, runs, mode).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit, deadline: Instant) -> Result<Page> {
        let doing = "reading a log";
        self.reading(doing, deadline, read::page(self, log, from, limit, doing)).await
    }

    async fn heads(&self, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
        let doing = "reading heads";
        let heads = looks(self, logs.iter(), doing).map_ok(|look| look.head()).try_collect();
        self.reading(doing, deadline, heads).await
    }

    async fn is_past(&self, seen: &[(LogId, Version)], _: Instant) -> Result<bool> {
        let looks = looks(self, seen.iter().map(|(log, _)| log), "waiting");
        let past = looks.zip(stream::iter(seen)).any(|(look, (_, version))| {
            // A look that failed is no reason to sleep: whoever waits reads next, and is told.
            ready(look.map_or(true, |look| look.tip.is_some_and(|tip| tip.last > *version)))
        });
        Ok(past.await)
    }

    fn looks_together(&self) -> bool {
        false
    }

    fn may_be_past(&self, seen: &[(LogId, Version)]) -> bool {
        self.known.is_past(seen)
    }

    async fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> Result<LogPage> {
        let (doing, prefix) = ("listing logs", names::logs(prefix));
        let token = cursor.as_ref().map(token_of).transpose()?;
        let folders = self.bucket.folders(&prefix, token.as_deref(), limit.clamp(1, NAMES_MAX));
        let listed = async { folders.await.map_err(|fault| fault.reading(doing)) };
        let page = self.reading(doing, deadline, listed).await?;
        let logs = page.names.iter().filter_map(|name| names::log_of(name)).collect();
        Ok(LogPage { logs, next: page.next.as_deref().map(cursor_of) })
    }

    async fn close(&self, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
        self.writing("closing a log", deadline, trim::close(self, log, through)).await
    }

    async fn sweep(&self, log: &LogId, deadline: Instant) -> Result<Swept> {
        self.writing("sweeping a log", deadline, trim::sweep(self, log)).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version], deadline: Instant) -> Result<()> {
        self.writing("dropping bodies", deadline, trim::drop_bodies(self, log, versions)).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes, deadline: Instant) -> Result<bool> {
        let (doing, name) = ("writing a blob", names::blob(blob));
        let put = async { make(self, &name, bytes).await.map_err(|fault| fault.writing(doing)) };
        self.writing(doing, deadline, put).await
    }

    async fn get_blob(
        &self,
        blob: &BlobId,
        range: Option<Range<u64>>,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        let (doing, name) = ("reading a blob", names::blob(blob));
        let get = async { self.bucket.get(&name, range).await.map_err(|fault| fault.reading(doing)) };
        Ok(self.reading(doing, deadline, get).await?.map(|object| object.bytes))
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str, deadline: Instant) -> Result<Vec<BlobInfo>> {
        let doing = "listing blobs";
        self.reading(doing, deadline, self.list_blobs(log, prefix, doing)).await
    }

    async fn delete_blob(&self, blob: &BlobId, deadline: Instant) -> Result<()> {
        let (doing, name) = ("deleting a blob", names::blob(blob));
        let delete = async { self.bucket.delete(vec![name]).await.map_err(|fault| fault.writing(doing)) };
        self.writing(doing, deadline, delete).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        examine::examine(self, depth).await
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
