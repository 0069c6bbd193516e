//! The handle: opening, and each call in a task of its own, which goes on if its caller does not wait for it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, timeout_at};

use crate::api::Api;
use crate::config::Settings;
use crate::item::Keys;
use crate::known::Known;
use crate::{blobs, create, examine, list, open, read, trim};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
/// How soon a waiter looks for what other processes committed, at first.
const LOOK_FIRST: Duration = Duration::from_millis(50);

/// A [`Backend`] in a table of DynamoDB.
#[derive(Debug)]
pub struct DynamoStore {
    inner: Arc<Inner>,
    access: Access,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub settings: Settings,
    pub keys: Keys,
    pub api: Api,
    pub known: Known,
    is_shut_down: AtomicBool,
    /// Read by what is under way.
    busy: RwLock<()>,
}

impl Inner {
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    fn check_open(&self) -> Result<()> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(())
    }
}

impl DynamoStore {
    /// Opens the store below a prefix of a table. To write: makes it if there is none, and the table if [`Settings::create`] is set.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the credentials are refused, the table has other keys or deletes items by itself, or the prefix holds
    /// something else or a later format; [`ErrorKind::NotFound`] if there is no table, or no store to be read; [`ErrorKind::Unavailable`]
    /// if the service does not answer in [`Settings::timeout`].
    pub async fn open(settings: Settings, access: Access) -> Result<Self> {
        let inner = Inner {
            keys: Keys(settings.prefix.clone()),
            api: settings.api()?,
            settings,
            known: Known::default(),
            is_shut_down: AtomicBool::new(false),
            busy: RwLock::default(),
        };
        open::open(&inner, access).await?;
        Ok(Self { inner: Arc::new(inner), access, changes: watch::Sender::new(0) })
    }

    /// Does this in a task of its own.
    async fn work<T, W>(
        &self,
        doing: &'static str,
        is_writing: bool,
        work: impl FnOnce(Arc<Inner>, Instant) -> W + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        self.inner.check_open()?;
        if is_writing && self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        let (inner, work) = (Arc::clone(&self.inner), work(Arc::clone(&self.inner), self.inner.deadline()));
        let task = async move {
            let _busy = inner.busy.read().await;
            work.await
        };
        match tokio::spawn(task).await {
            Ok(done) => done,
            Err(error) => {
                let kind = if is_writing { ErrorKind::Unknown } else { ErrorKind::Unavailable };
                Err(Error::new(kind, doing).because(error))
            }
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

async fn heads(inner: &Inner, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
    let look = |log| -> BoxFuture<'_, Result<Option<Head>>> {
        async move { Ok(read::look(inner, log, "reading heads", deadline).await?.head()) }.boxed()
    };
    let looks: Vec<_> = logs.iter().map(look).collect();
    stream::iter(looks).buffered(inner.settings.connections_max).try_collect().await
}

async fn is_past(inner: &Inner, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
    let looks: Vec<BoxFuture<'_, Result<bool>>> =
        seen.iter().map(|(log, version)| read::is_past(inner, log, *version, deadline).boxed()).collect();
    stream::iter(looks)
        .buffer_unordered(inner.settings.connections_max)
        .try_any(|past| async move { past })
        .await
}

#[async_trait]
impl Backend for DynamoStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "dynamodb",
            durability: self.inner.settings.survives(),
            atomic_create: true,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 8,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let work = self.work("creating a commit", true, move |inner, deadline| async move {
            Ok(create::create(&inner, &runs, mode, deadline).await)
        });
        let answers = work.await;
        self.changed();
        answers.unwrap_or_else(|error| (0..count).map(|_| Created::failed(error.clone())).collect())
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        self.work(read::READING, false, move |inner, deadline| async move {
            read::page(&inner, &log, from, limit, deadline).await
        })
        .await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs = logs.to_vec();
        self.work("reading heads", false, move |inner, deadline| async move {
            heads(&inner, &logs, deadline).await
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.work("listing logs", false, move |inner, deadline| async move {
            list::logs(&inner, &prefix, cursor, limit, deadline).await
        })
        .await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let log = log.clone();
        self.work("closing a log", true, move |inner, deadline| async move {
            trim::close(&inner, &log, through, deadline).await
        })
        .await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let log = log.clone();
        self.work("sweeping a log", true, move |inner, _| async move { trim::sweep(&inner, &log).await })
            .await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (log, versions) = (log.clone(), versions.to_vec());
        self.work("dropping bodies", true, move |inner, deadline| async move {
            trim::drop_bodies(&inner, &log, &versions, deadline).await
        })
        .await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let end = Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        let seen: Arc<[(LogId, Version)]> = seen.into();
        // Each look is a request for each log, which costs: they become rarer.
        let mut pause = LOOK_FIRST;
        loop {
            changes.borrow_and_update();
            let wanted = Arc::clone(&seen);
            let look = self.work("waiting", false, move |inner, deadline| async move {
                is_past(&inner, &wanted, deadline).await
            });
            if look.await? || Instant::now() >= end {
                return Ok(());
            }
            // What comes first: a commit of this handle, or the time to look for those of others.
            let _ = timeout_at(end.min(Instant::now() + pause), changes.changed()).await;
            pause = (pause * 2).min(self.inner.settings.look_every.max(LOOK_FIRST));
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let blob = blob.clone();
        self.work("writing a blob", true, move |inner, deadline| async move {
            blobs::put(&inner, &blob, &bytes, deadline).await
        })
        .await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.work("reading a blob", false, move |inner, deadline| async move {
            blobs::get(&inner, &blob, range, deadline).await
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.work("listing blobs", false, move |inner, deadline| async move {
            blobs::list(&inner, &log, &prefix, deadline).await
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let blob = blob.clone();
        self.work("deleting a blob", true, move |inner, deadline| async move {
            blobs::delete(&inner, &blob, deadline).await
        })
        .await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        // It reads everything: each of its requests has a deadline, and not the whole.
        self.work(
            "examining a store",
            false,
            move |inner, _| async move { examine::examine(&inner, depth).await },
        )
        .await
    }

    async fn shut_down(&self) -> Result<()> {
        self.inner.is_shut_down.store(true, Ordering::Release);
        self.changed();
        // What is under way has deadlines of its own.
        drop(self.inner.busy.write().await);
        Ok(())
    }
}
