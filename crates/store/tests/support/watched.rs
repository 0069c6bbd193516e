//! A backend over another that cannot read some commits, and that trims a log between two reads.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};

/// Around a backend; what is not planned passes.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Backend>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    unreadable: Vec<(LogId, Version, ErrorKind)>,
    /// Closed through the second when the first is about to be read.
    closing: Option<(Version, Version)>,
}

impl Watched {
    pub fn new(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::default() })
    }

    /// A page that holds this commit is an error that names it.
    pub fn spoil(&self, log: &LogId, version: u64, kind: ErrorKind) {
        self.plan.lock().unwrap().unreadable.push((log.clone(), Version(version), kind));
    }

    /// Closes the log through `through` as soon as a page from `from` on is asked for.
    pub fn close_before(&self, from: u64, through: u64) {
        self.plan.lock().unwrap().closing = Some((Version(from), Version(through)));
    }

    fn check(&self, log: &LogId, version: Version) -> Result<()> {
        let plan = self.plan.lock().unwrap();
        match plan.unreadable.iter().find(|(name, bad, _)| name == log && *bad == version) {
            Some((_, _, kind)) => {
                Err(Error::new(*kind, "reading a commit").with("log", log).with("version", version))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Backend for Watched {
    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let closing = self.plan.lock().unwrap().closing.take_if(|(at, _)| *at == from);
        if let Some((_, through)) = closing {
            self.inner.close(log, through).await?;
        }
        let page = self.inner.read(log, from, limit).await?;
        page.commits.iter().try_for_each(|commit| self.check(log, commit.version))?;
        Ok(page)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        self.inner.create(runs, mode).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let heads = self.inner.heads(logs).await?;
        for (log, head) in logs.iter().zip(&heads) {
            head.as_ref().map_or(Ok(()), |head| self.check(log, head.version))?;
        }
        Ok(heads)
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.inner.logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.inner.close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.inner.sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.inner.drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.inner.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.inner.put_blob(blob, bytes).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.inner.get_blob(blob, range).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.inner.delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.inner.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.inner.shut_down().await
    }
}
