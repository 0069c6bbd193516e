//! A backend that counts what is asked of it; and loses snapshots, or writes one for ever, if that was planned.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Head, LogId, LogPage, LogPrefix, Mode, Page, PageLimit,
    Result, Run, StoredCommit, Swept, Version,
};
use tokio::sync::RwLock;

use crate::documents::lose_all;

/// Around a backend; what is not planned passes.
#[derive(Debug)]
pub struct Observed {
    inner: Mutex<Arc<dyn Backend>>,
    pub is_read_only: AtomicBool,
    pub heads: AtomicU64,
    /// Commits that were read with their bodies.
    pub commits: AtomicU64,
    /// Their bytes.
    pub commit_bytes: AtomicU64,
    pub blobs: AtomicU64,
    pub listings: AtomicU64,
    /// Blobs that were written, and their bytes.
    pub written: AtomicU64,
    pub written_bytes: AtomicU64,
    /// No blob is written while somebody has this for himself.
    pub writing: RwLock<()>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Before the blob after so many is read, every snapshot is deleted.
    lose_after: Option<u64>,
    /// The blob after so many is never written.
    stuck_after: Option<u64>,
    /// The next create says that it was carried out, and holds its thread until it may go on.
    paused: Option<(Sender<()>, Receiver<()>)>,
}

impl Observed {
    pub fn new(inner: Arc<dyn Backend>) -> (Arc<Self>, Arc<dyn Backend>) {
        let observed = Arc::new(Self {
            inner: Mutex::new(inner),
            is_read_only: AtomicBool::default(),
            heads: AtomicU64::default(),
            commits: AtomicU64::default(),
            commit_bytes: AtomicU64::default(),
            blobs: AtomicU64::default(),
            listings: AtomicU64::default(),
            written: AtomicU64::default(),
            written_bytes: AtomicU64::default(),
            writing: RwLock::default(),
            plan: Mutex::default(),
        });
        (Arc::clone(&observed), observed)
    }

    /// Over memory.
    pub fn memory() -> (Arc<Self>, Arc<dyn Backend>) {
        Self::new(Arc::new(Memory::default()))
    }

    pub fn inner(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    /// From now on another backend is below, as after a fail-over.
    pub fn fail_over(&self, to: Arc<dyn Backend>) {
        *self.inner.lock().unwrap() = to;
    }

    pub fn lose_snapshots_after(&self, blobs: u64) {
        self.plan.lock().unwrap().lose_after = Some(blobs);
    }

    pub fn is_lossy(&self) -> bool {
        self.plan.lock().unwrap().lose_after.is_some()
    }

    pub fn stuck_after(&self, blobs: u64) {
        self.plan.lock().unwrap().stuck_after = Some(blobs);
    }

    pub fn pause_create(&self, done: Sender<()>, may_go: Receiver<()>) {
        self.plan.lock().unwrap().paused = Some((done, may_go));
    }

    /// Everything that was asked of it but appends.
    pub fn looks(&self) -> u64 {
        [&self.heads, &self.commits, &self.blobs, &self.listings]
            .map(|count| count.load(Ordering::SeqCst))
            .iter()
            .sum()
    }

    fn add(count: &AtomicU64, plus: usize) {
        count.fetch_add(plus as u64, Ordering::SeqCst);
    }
}

/// Whether it is the turn of a plan that counts down.
fn is_turn(plan: &mut Option<u64>) -> bool {
    match plan {
        Some(0) => {
            *plan = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

#[async_trait]
impl Backend for Observed {
    fn capabilities(&self) -> Capabilities {
        let read_only = self.is_read_only.load(Ordering::SeqCst);
        Capabilities { read_only, ..self.inner().capabilities() }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let created = self.inner().create(runs, mode).await;
        let paused = self.plan.lock().unwrap().paused.take();
        if let Some((entered, may_go)) = paused {
            entered.send(()).unwrap();
            // The thread, not the task.
            may_go.recv().unwrap();
        }
        created
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let page = self.inner().read(log, from, limit).await?;
        if limit.bodies {
            Self::add(&self.commits, page.commits.len());
            Self::add(&self.commit_bytes, page.commits.iter().map(StoredCommit::len).sum());
        }
        Ok(page)
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        Self::add(&self.heads, 1);
        self.inner().heads(logs).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.inner().logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.inner().close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.inner().sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.inner().drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.inner().wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        if is_turn(&mut self.plan.lock().unwrap().stuck_after) {
            std::future::pending::<()>().await;
        }
        let _may_write = self.writing.read().await;
        Self::add(&self.written, 1);
        Self::add(&self.written_bytes, bytes.len());
        self.inner().put_blob(blob, bytes).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        Self::add(&self.blobs, 1);
        if is_turn(&mut self.plan.lock().unwrap().lose_after) {
            lose_all(&self.inner()).await;
        }
        self.inner().get_blob(blob, range).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        Self::add(&self.listings, 1);
        self.inner().list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.inner().delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.inner().examine(depth).await
    }

    /// Other processes go on with what is below.
    async fn shut_down(&self) -> Result<()> {
        Ok(())
    }
}
