//! A backend that goes wrong in the ways that a plan of fates cannot say: it panics, hangs, or is slow for one log.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};
use icecore_store::{Settings, Store};

/// What each field says holds for every call until it is changed.
#[derive(Debug, Default)]
pub struct Hooked {
    pub memory: Arc<Memory>,
    /// The next create panics when it is carried out.
    pub panics: AtomicBool,
    /// Before it is carried out.
    pub panics_before: AtomicBool,
    /// Creates are never answered.
    pub hangs: AtomicBool,
    /// Every look at heads fails if a log of this key is among them.
    pub damaged: Option<&'static str>,
    /// Reads of a log of this key take for ever.
    pub stuck: Option<&'static str>,
    /// For as long as this is not set.
    pub is_loose: AtomicBool,
    pub commit_bytes_max: Option<usize>,
    /// This commit's slot reads as if it were empty.
    pub missing: Option<Version>,
    /// Reading a blob takes so long.
    pub blob_pause: Option<Duration>,
    /// Before a create, so many times, another process appends to the log.
    pub rivals: AtomicUsize,
    pub reads: AtomicUsize,
    pub creates: AtomicUsize,
    pub listings: AtomicUsize,
    pub blob_reads: AtomicUsize,
}

#[async_trait]
impl Backend for Hooked {
    fn capabilities(&self) -> Capabilities {
        let capabilities = self.memory.capabilities();
        let commit_bytes_max = self.commit_bytes_max.unwrap_or(capabilities.commit_bytes_max);
        Capabilities { commit_bytes_max, ..capabilities }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        self.creates.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let left = self.rivals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            let rival = Store::new(Arc::clone(&self.memory) as Arc<dyn Backend>);
            rival.append(&runs[0].log, icecore_log::Event::new("said", "\"rival\"")).await.unwrap();
        }
        let limit = self.capabilities().commit_bytes_max;
        let large = runs.iter().flat_map(|run| &run.commits).any(|commit| commit.len() > limit);
        assert!(!large, "a commit is larger than the backend takes");
        assert!(!self.panics_before.swap(false, Ordering::SeqCst), "this panic was planned");
        let created = self.memory.create(runs, mode).await;
        assert!(!self.panics.swap(false, Ordering::SeqCst), "this panic was planned");
        created
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let is_stuck = !self.is_loose.load(Ordering::SeqCst);
        if is_stuck && self.stuck.is_some_and(|key| log.as_str().ends_with(key)) {
            std::future::pending::<()>().await;
        }
        if self.missing == Some(from) && limit.commits == 1 {
            return Ok(Page::default());
        }
        self.memory.read(log, from, limit).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        if logs.iter().any(|log| self.damaged.is_some_and(|key| log.as_str().ends_with(key))) {
            return Err(Error::new(ErrorKind::Corrupt, "reading heads"));
        }
        self.memory.heads(logs).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.memory.logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.memory.close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.memory.sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.memory.drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.memory.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.memory.put_blob(blob, bytes).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.blob_reads.fetch_add(1, Ordering::SeqCst);
        if let Some(pause) = self.blob_pause {
            tokio::time::sleep(pause).await;
        }
        self.memory.get_blob(blob, range).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        self.memory.list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.memory.delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.memory.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.memory.shut_down().await
    }
}

/// As a backend of stores.
pub fn shared(hooked: Hooked) -> (Arc<Hooked>, Arc<dyn Backend>) {
    let hooked = Arc::new(hooked);
    (Arc::clone(&hooked), hooked)
}

/// A store of its own over a backend, as another process would have it.
pub fn store_over(backend: &Arc<dyn Backend>, change: impl FnOnce(&mut Settings)) -> Store {
    let mut settings = Settings::default();
    settings.append_timeout = Duration::from_secs(20);
    change(&mut settings);
    Store::builder(Arc::clone(backend)).settings(settings).build()
}
