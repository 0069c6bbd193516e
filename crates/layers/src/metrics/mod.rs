//! Counts what is asked of a backend, and measures how long it takes.
//!
//! [`Meters`] keep the numbers, for any number of stores; [`Metrics`] is the layer that writes into them. What is written is a handful
//! of counters of the processor's own: no lock, nothing allocated. They are read as a [`Snapshot`], as Prometheus' text
//! ([`Meters::prometheus`]), and with the feature `opentelemetry` by a meter of OpenTelemetry's (`Meters::observe`).
//!
//! The names, and what each counts, are in `docs/guide/metrics.md`.

#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod prometheus;
mod series;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Head, LogId, LogPage, LogPrefix, Mode, Page, PageLimit,
    Result, Run, StoredCommit, Swept, Version,
};

use crate::operation::Operation;
use crate::retry;

pub use series::{BUCKET_BOUNDS, BUCKETS};
use series::{Outcome, Series, Timed};
pub use snapshot::{BackendSnapshot, OperationSnapshot, Snapshot};

/// Where numbers are kept. Cheap to clone; a clone is the same.
///
/// ```
/// # use std::sync::Arc;
/// # use icecore_layers::{Meters, Operation};
/// # use icecore_log::{Backend, LogId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> icecore_log::Result<()> {
/// let meters = Meters::default();
/// let backend = meters.around(Arc::new(icecore_embedded::Memory::default()));
///
/// backend.heads(&[LogId::new("acme", "session", "s-42")?]).await?;
///
/// assert_eq!(meters.snapshot().of("memory", Operation::Heads).map(|heads| heads.outcome("ok")), Some(1));
/// assert!(meters.prometheus().contains(
///     r#"icecore_backend_requests_total{backend="memory",operation="heads",outcome="ok"} 1"#
/// ));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Meters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By system. Locked when a store is opened and when numbers are read, and never by a call.
    systems: Mutex<BTreeMap<&'static str, Arc<Series>>>,
    #[cfg(feature = "opentelemetry")]
    durations: Arc<opentelemetry::Durations>,
}

impl Meters {
    /// Counts the calls of a backend, together with those of others of the same system.
    pub fn around(&self, inner: Arc<dyn Backend>) -> Metrics {
        let series = self.series(inner.capabilities().system);
        Metrics { inner, series }
    }

    /// The numbers as they are now. What is counted meanwhile may be in one of them, and not yet in another.
    pub fn snapshot(&self) -> Snapshot {
        let systems = self.0.systems.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot { backends: systems.values().map(|series| series.snapshot()).collect() }
    }

    pub(crate) fn retries_of(&self, system: &'static str) -> Arc<retry::Counts> {
        Arc::clone(&self.series(system).retries)
    }

    fn series(&self, system: &'static str) -> Arc<Series> {
        let mut systems = self.0.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let series = systems.entry(system).or_insert_with(|| {
            Arc::new(Series::new(
                system,
                #[cfg(feature = "opentelemetry")]
                Arc::clone(&self.0.durations),
            ))
        });
        Arc::clone(series)
    }
}

/// A [`Backend`] whose calls are counted. Made by [`Meters::around`].
#[derive(Debug)]
pub struct Metrics {
    inner: Arc<dyn Backend>,
    series: Arc<Series>,
}

impl Metrics {
    fn begin(&self, operation: Operation) -> Timed<'_> {
        self.series.begin(operation)
    }

    async fn counted<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let timed = self.begin(operation);
        let answer = call.await;
        timed.end(Outcome::of(&answer));
        answer
    }
}

fn bytes_of(commits: &[StoredCommit]) -> u64 {
    commits.iter().map(|commit| commit.len() as u64).sum()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)] // A method added to `Backend` must be decided here too.
impl Backend for Metrics {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let timed = self.begin(Operation::Create);
        timed.sent(runs.iter().map(|run| bytes_of(&run.commits)).sum());
        let answers = self.inner.create(runs, mode).await;
        timed.end(self.series.count_runs(&answers));
        answers
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let page = self.counted(Operation::Read, self.inner.read(log, from, limit)).await?;
        self.series.received(Operation::Read, bytes_of(&page.commits));
        Ok(page)
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let heads = self.counted(Operation::Heads, self.inner.heads(logs)).await?;
        let bytes = heads.iter().flatten().map(|head| head.header.len() as u64).sum();
        self.series.received(Operation::Heads, bytes);
        Ok(heads)
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.counted(Operation::Logs, self.inner.logs(prefix, cursor, limit)).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.counted(Operation::Close, self.inner.close(log, through)).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.counted(Operation::Sweep, self.inner.sweep(log)).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.counted(Operation::DropBodies, self.inner.drop_bodies(log, versions)).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.counted(Operation::Wait, self.inner.wait(seen, timeout)).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let timed = self.begin(Operation::PutBlob);
        timed.sent(bytes.len() as u64);
        let answer = self.inner.put_blob(blob, bytes).await;
        timed.end(Outcome::of(&answer));
        answer
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let found = self.counted(Operation::GetBlob, self.inner.get_blob(blob, range)).await?;
        self.series.received(Operation::GetBlob, found.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(found)
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.counted(Operation::ListBlobs, self.inner.list_blobs(log, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.counted(Operation::DeleteBlob, self.inner.delete_blob(blob)).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.counted(Operation::Examine, self.inner.examine(depth)).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.counted(Operation::ShutDown, self.inner.shut_down()).await
    }
}
