//! A backend that is there until one of the calls that change something, and then for nobody: what a process leaves that is killed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};

#[derive(Debug)]
pub struct Mortal {
    inner: Arc<dyn Backend>,
    /// How many changes it still makes.
    left: AtomicI64,
    /// Whether the last one is carried out, though nobody is told.
    is_last_done: bool,
}

impl Mortal {
    pub fn new(inner: &Arc<dyn Backend>, changes: i64, is_last_done: bool) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), left: AtomicI64::new(changes), is_last_done })
    }

    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    async fn change<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return change.await;
        }
        if left == 0 && self.is_last_done {
            change.await?;
        }
        Err(dead())
    }

    async fn look<T>(&self, look: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_dead() { Err(dead()) } else { look.await }
    }
}

fn dead() -> Error {
    Error::new(ErrorKind::Unavailable, "calling a backend").advise("It is gone")
}

#[async_trait]
impl Backend for Mortal {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let created = self.change(async { Ok(self.inner.create(runs, mode).await) }).await;
        created.unwrap_or_else(|error| vec![Created::failed(error); count])
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.look(self.inner.read(log, from, limit)).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.look(self.inner.heads(logs)).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.look(self.inner.logs(prefix, cursor, limit)).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.change(self.inner.close(log, through)).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.change(self.inner.sweep(log)).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.change(self.inner.drop_bodies(log, versions)).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.inner.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.change(self.inner.put_blob(blob, bytes)).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.look(self.inner.get_blob(blob, range)).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.look(self.inner.list_blobs(log, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.change(self.inner.delete_blob(blob)).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.inner.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        Ok(())
    }
}
