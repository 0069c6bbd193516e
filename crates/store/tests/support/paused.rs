//! A backend that stops before one of its calls until it is let go: what a process is between two others' doings.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::expect_used, reason = "a test says so by failing")]

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Head, LogId, LogPage, LogPrefix, Mode, Page, PageLimit,
    Result, Run, Swept, Version,
};
use tokio::sync::Semaphore;

/// Runs the one, stopped before its call after so many until the other has ended; and whether it had ended before that call.
pub async fn interleaved<A: Send + 'static, B>(
    backend: &Arc<dyn Backend>,
    calls: i64,
    slow: impl FnOnce(Arc<dyn Backend>) -> Pin<Box<dyn Future<Output = A> + Send>>,
    quick: impl Future<Output = B>,
    when: &str,
) -> (A, B, bool) {
    let paused = Paused::new(backend, calls);
    let task = tokio::spawn(slow(Arc::clone(&paused) as Arc<dyn Backend>));
    // Over memory all comes soon, unless it is stopped.
    let is_over = tokio::select! {
        () = paused.reached() => false,
        () = async { while !task.is_finished() { tokio::task::yield_now().await } } => true,
    };
    let quickly = tokio::time::timeout(Duration::from_secs(20), quick).await.expect(when);
    paused.go();
    let slowly = tokio::time::timeout(Duration::from_secs(20), task).await.expect(when).unwrap();
    (slowly, quickly, is_over)
}

#[derive(Debug)]
pub struct Paused {
    inner: Arc<dyn Backend>,
    /// How many calls pass before the one that waits.
    left: AtomicI64,
    /// Only calls that write a blob are counted.
    only_blobs: bool,
    /// How many commits the next sweeps say that they deleted, as of a system that does so only after a time of grace.
    pub sweeps: Mutex<Option<VecDeque<u64>>>,
    reached: Semaphore,
    go: Semaphore,
}

impl Paused {
    pub fn new(inner: &Arc<dyn Backend>, calls: i64) -> Arc<Self> {
        Self::with(inner, calls, false)
    }

    pub fn at_a_blob(inner: &Arc<dyn Backend>) -> Arc<Self> {
        Self::with(inner, 0, true)
    }

    fn with(inner: &Arc<dyn Backend>, calls: i64, only_blobs: bool) -> Arc<Self> {
        let (reached, go) = (Semaphore::new(0), Semaphore::new(0));
        let left = AtomicI64::new(calls);
        Arc::new(Self { inner: Arc::clone(inner), left, only_blobs, sweeps: Mutex::default(), reached, go })
    }

    /// Waits until the call has come that waits.
    pub async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub fn go(&self) {
        self.go.add_permits(1);
    }

    async fn call(&self, is_blob: bool) {
        if (is_blob || !self.only_blobs) && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.reached.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl Backend for Paused {
    fn capabilities(&self) -> Capabilities {
        let native_close = self.sweeps.lock().unwrap().is_none();
        Capabilities { native_close, ..self.inner.capabilities() }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        self.call(false).await;
        self.inner.create(runs, mode).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.call(false).await;
        self.inner.read(log, from, limit).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.call(false).await;
        self.inner.heads(logs).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.call(false).await;
        self.inner.logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.call(false).await;
        self.inner.close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.call(false).await;
        if let Some(sweeps) = &mut *self.sweeps.lock().unwrap() {
            let commits = sweeps.pop_front().unwrap_or_default();
            return Ok(Swept { commits, ..Swept::default() });
        }
        self.inner.sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.call(false).await;
        self.inner.drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.inner.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.call(true).await;
        self.inner.put_blob(blob, bytes).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.call(false).await;
        self.inner.get_blob(blob, range).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.call(false).await;
        self.inner.list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.call(false).await;
        self.inner.delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.inner.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        Ok(())
    }
}
