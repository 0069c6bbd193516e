//! Loses requests and answers, on a plan: what a network does, made repeatable.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};

use crate::operation::Operation;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// It passes.
    #[default]
    Pass,
    /// It is carried out, and the answer is lost: unknown.
    LoseAnswer,
    /// It never arrives: unknown all the same.
    LoseRequest,
    /// Unknown now; it arrives when [`Fault::land`] is called, however late.
    Delay,
    /// It is refused before anything is written: unavailable.
    Refuse,
    /// Of a create, the first run is refused, and the others pass.
    RefuseFirst,
}

/// A [`Backend`] whose calls fail as a test plans it. What is not planned passes.
pub struct Fault {
    inner: Arc<dyn Backend>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    creates: VecDeque<Fate>,
    others: HashMap<Operation, VecDeque<Fate>>,
    reads_refused: usize,
    delayed: Vec<(Vec<Run>, Mode)>,
    sent: Vec<Vec<Run>>,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Fault {
    /// Around a backend, with nothing planned.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// What becomes of the next creates, in order.
    pub fn plan(&self, fates: impl IntoIterator<Item = Fate>) {
        self.locked().creates.extend(fates);
    }

    /// Whatever was planned of creates is not done any more.
    pub fn forget_plan(&self) {
        self.locked().creates.clear();
    }

    /// What becomes of the next calls of another operation, in order. What is delayed never arrives.
    pub fn plan_calls(&self, operation: Operation, fates: impl IntoIterator<Item = Fate>) {
        self.locked().others.entry(operation).or_default().extend(fates);
    }

    /// Refuses this many of the next reads, heads and listings.
    pub fn refuse_reads(&self, count: usize) {
        self.locked().reads_refused = count;
    }

    /// Every create so far, as it was sent.
    pub fn sent(&self) -> Vec<Vec<Run>> {
        self.locked().sent.clone()
    }

    /// Lets the delayed creates arrive, in the order in which they were sent.
    pub async fn land(&self) -> Vec<Vec<Created>> {
        let delayed = std::mem::take(&mut self.locked().delayed);
        let mut answers = Vec::new();
        for (runs, mode) in delayed {
            answers.push(self.inner.create(runs, mode).await);
        }
        answers
    }

    fn locked(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> Result<()> {
        let mut plan = self.locked();
        if plan.reads_refused == 0 {
            return Ok(());
        }
        plan.reads_refused -= 1;
        Err(Error::new(ErrorKind::Unavailable, "reading").advise("A fault was injected"))
    }

    async fn pass<T>(&self, operation: Operation, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fate = self.locked().others.get_mut(&operation).and_then(VecDeque::pop_front).unwrap_or_default();
        let kind = match fate {
            Fate::Pass => return call.await,
            Fate::LoseAnswer => {
                // Whether it went well or not is lost with it.
                let _ = call.await;
                ErrorKind::Unknown
            }
            Fate::LoseRequest | Fate::Delay => ErrorKind::Unknown,
            Fate::Refuse | Fate::RefuseFirst => ErrorKind::Unavailable,
        };
        Err(Error::new(kind, "calling a backend")
            .with("operation", operation.name())
            .advise("A fault was injected"))
    }
}

fn fail_all(count: usize, kind: ErrorKind) -> Vec<Created> {
    (0..count)
        .map(|_| Created::failed(Error::new(kind, "creating a commit").advise("A fault was injected")))
        .collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)] // A method added to `Backend` must be decided here too.
impl Backend for Fault {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let fate = {
            let mut plan = self.locked();
            plan.sent.push(runs.clone());
            plan.creates.pop_front().unwrap_or_default()
        };
        match fate {
            Fate::Pass => self.inner.create(runs, mode).await,
            Fate::LoseAnswer => {
                self.inner.create(runs, mode).await;
                fail_all(count, ErrorKind::Unknown)
            }
            Fate::LoseRequest => fail_all(count, ErrorKind::Unknown),
            Fate::Delay => {
                self.locked().delayed.push((runs, mode));
                fail_all(count, ErrorKind::Unknown)
            }
            // All or none stays so also where one is refused.
            Fate::RefuseFirst if mode == Mode::Each => {
                let mut answers = fail_all(count.min(1), ErrorKind::Unavailable);
                answers.extend(self.inner.create(runs.into_iter().skip(1).collect(), mode).await);
                answers
            }
            Fate::Refuse | Fate::RefuseFirst => fail_all(count, ErrorKind::Unavailable),
        }
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.reading()?;
        self.pass(Operation::Read, self.inner.read(log, from, limit)).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.reading()?;
        self.pass(Operation::Heads, self.inner.heads(logs)).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.reading()?;
        self.pass(Operation::Logs, self.inner.logs(prefix, cursor, limit)).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.pass(Operation::Close, self.inner.close(log, through)).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.pass(Operation::Sweep, self.inner.sweep(log)).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.pass(Operation::DropBodies, self.inner.drop_bodies(log, versions)).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.pass(Operation::Wait, self.inner.wait(seen, timeout)).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.pass(Operation::PutBlob, self.inner.put_blob(blob, bytes)).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.pass(Operation::GetBlob, self.inner.get_blob(blob, range)).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.pass(Operation::ListBlobs, self.inner.list_blobs(log, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.pass(Operation::DeleteBlob, self.inner.delete_blob(blob)).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.pass(Operation::Examine, self.inner.examine(depth)).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.pass(Operation::ShutDown, self.inner.shut_down()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    async fn open() -> Arc<super::Fault> {
        Arc::new(super::Fault::new(Arc::new(icecore_embedded::Memory::default())))
    }

    icecore_conformance::conformance_tests!(open);
}
