//! Tries again what is transient: a moment without a server costs its callers time, and not an error.
//!
//! The store resolves a commit whose outcome is unknown by itself, log by log. What it hands to its callers at once is everything
//! else: a read, a look at a head, a blob, a create that was refused before anything was written. That is what this is for.
//!
//! | what came back | what is done |
//! | --- | --- |
//! | `Unavailable` | it is sent again |
//! | `Unknown` | the identical bytes are sent again; until one try is seen to have won or lost, it stays unknown, whatever the others come to |
//! | anything else | is the answer |
//!
//! A create of several logs is sent again only while no log in it was answered: whoever was, waits for no neighbour (contract 7). All or none
//! is only sent again when nothing was written. Nothing runs on its own: a caller that leaves ends the trying, as it would end the call.
//!
//! Around [`Metrics`](crate::Metrics) each try is counted as a call; inside of it, each call, with the further tries beside it. The second shows
//! what callers see, and is what `icecore::Open` builds.

mod policy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, End, Entropy, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, SystemEntropy, Version,
};
use tokio::time::{Instant, sleep};

use crate::metrics::Meters;
use crate::operation::Operation;

use policy::Budget;
pub(crate) use policy::Counts;
pub use policy::{Policy, Retried};

/// A [`Backend`] whose transient failures are tried again.
pub struct Retry {
    inner: Arc<dyn Backend>,
    policy: Policy,
    budget: Budget,
    entropy: Arc<dyn Entropy>,
    counts: Arc<Counts>,
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("policy", &self.policy)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Retry {
    /// Around a backend.
    pub fn new(inner: Arc<dyn Backend>, policy: Policy) -> Self {
        let budget = Budget::new(policy.budget);
        Self { inner, policy, budget, entropy: Arc::new(SystemEntropy), counts: Arc::default() }
    }

    /// Takes its chances from here.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    /// Counts where these meters show it.
    #[must_use]
    pub fn counted_by(self, meters: &Meters) -> Self {
        Self { counts: meters.retries_of(self.inner.capabilities().system), ..self }
    }

    /// What was tried again so far; with meters, by all that they count of this system.
    pub fn retried(&self, operation: Operation) -> Retried {
        self.counts.retried(operation)
    }

    fn call(&self, operation: Operation) -> Call<'_> {
        Call { retry: self, operation, began: Instant::now(), tries: 1, in_doubt: false }
    }

    async fn tried<T, F: Future<Output = Result<T>> + Send>(
        &self,
        operation: Operation,
        attempt: impl Fn() -> F + Send,
    ) -> Result<T> {
        let mut call = self.call(operation);
        loop {
            match attempt().await {
                Ok(answer) => {
                    call.answered();
                    return Ok(answer);
                }
                Err(error) => call.again_after(error).await?,
            }
        }
    }
}

/// A call that is being tried.
struct Call<'a> {
    retry: &'a Retry,
    operation: Operation,
    began: Instant,
    tries: u32,
    /// A try may have been carried out without anybody having seen it.
    in_doubt: bool,
}

impl Call<'_> {
    /// Waits for the next try; else what the caller is told.
    async fn again_after(&mut self, error: Error) -> Result<()> {
        self.in_doubt |= self.operation.is_writing() && error.kind() == ErrorKind::Unknown;
        if is_transient(error.kind()) {
            if self.again().await {
                return Ok(());
            }
        } else {
            self.answered();
        }
        Err(self.told(error, self.in_doubt))
    }

    /// Waits for the next try; `false` if there is none.
    async fn again(&mut self) -> bool {
        let Retry { policy, budget, entropy, counts, .. } = self.retry;
        let counts = counts.of(self.operation);
        let Some(pause) = policy.pause(self.tries, self.began, &**entropy) else {
            policy::count(&counts.exhausted);
            return false;
        };
        if !budget.spend() {
            policy::count(&counts.over_budget);
            return false;
        }
        sleep(pause).await;
        policy::count(&counts.retries);
        self.tries += 1;
        true
    }

    /// The system answered, whatever it said.
    fn answered(&self) {
        self.retry.budget.earn();
        if self.tries > 1 {
            policy::count(&self.retry.counts.of(self.operation).recovered);
        }
    }

    /// What the last error comes to. While an earlier try may have been carried out, no error can say that nothing was.
    fn told(&self, error: Error, in_doubt: bool) -> Error {
        if in_doubt && error.kind() != ErrorKind::Unknown {
            let unknown = Error::new(ErrorKind::Unknown, error.doing()).with("tries", self.tries);
            return unknown.because(error).advise("An earlier try may have been carried out");
        }
        policy::told(error, self.tries)
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Unknown)
}

/// The kind of failure that leaves a run undecided, or not written.
fn undecided(created: &Created) -> Option<ErrorKind> {
    match &created.end {
        End::Failed(error) => Some(error.kind()).filter(|kind| is_transient(*kind)),
        End::Done | End::Taken | End::Closed(_) | End::Gap => None,
    }
}

/// What the tries of one run have shown.
#[derive(Debug, Clone, Default)]
struct Seen {
    won: usize,
    in_doubt: bool,
}

impl Seen {
    fn add(&mut self, created: &Created) {
        self.won = self.won.max(created.won);
        self.in_doubt |= undecided(created) == Some(ErrorKind::Unknown);
    }

    /// What the last answer comes to, after those before it.
    ///
    /// Won and taken were seen in the slot, and are so. Closed, a gap and every error say of the last try that it did nothing, and nothing
    /// of an earlier one: whoever takes them for a refusal would write the same again somewhere else.
    fn told(&self, last: Created, call: &Call<'_>) -> Created {
        let error = match last.end {
            End::Done | End::Taken => return last,
            End::Closed(_) | End::Gap if !self.in_doubt && self.won <= last.won => return last,
            End::Closed(boundary) => {
                Error::new(ErrorKind::Unknown, "creating a commit").with("boundary", boundary)
            }
            End::Gap => Error::new(ErrorKind::Unknown, "creating a commit")
                .advise("An earlier try may have been carried out"),
            End::Failed(error) => error,
        };
        Created { won: self.won, end: End::Failed(call.told(error, self.in_doubt)) }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)] // A method added to `Backend` must be decided here too.
impl Backend for Retry {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let mut call = self.call(Operation::Create);
        let mut seen = vec![Seen::default(); runs.len()];
        loop {
            let answers = self.inner.create(runs.clone(), mode).await;
            seen.iter_mut().zip(&answers).for_each(|(seen, answer)| seen.add(answer));
            let is_open = !answers.is_empty() && answers.iter().all(|answer| undecided(answer).is_some());
            // All or none is decided by the backend alone: what it says of one log is meant of all.
            let is_whole = mode == Mode::Each || !seen.iter().any(|seen| seen.in_doubt);
            if is_open && is_whole && call.again().await {
                continue;
            }
            if !is_open {
                call.answered();
            }
            let answers = seen.iter().zip(answers).map(|(seen, last)| seen.told(last, &call));
            return answers.collect();
        }
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.tried(Operation::Read, || self.inner.read(log, from, limit)).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.tried(Operation::Heads, || self.inner.heads(logs)).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.tried(Operation::Logs, || self.inner.logs(prefix, cursor.clone(), limit)).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.tried(Operation::Close, || self.inner.close(log, through)).await
    }

    /// What it says was deleted is what the last try deleted.
    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.tried(Operation::Sweep, || self.inner.sweep(log)).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.tried(Operation::DropBodies, || self.inner.drop_bodies(log, versions)).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut call = self.call(Operation::Wait);
        loop {
            // Waiting is only a hint: when the time is up it has been kept, however it went.
            let Some(left) = timeout.checked_sub(call.began.elapsed()) else { return Ok(()) };
            match self.inner.wait(seen, left).await {
                Ok(()) => {
                    call.answered();
                    return Ok(());
                }
                Err(error) => call.again_after(error).await?,
            }
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let mut call = self.call(Operation::PutBlob);
        loop {
            let error = match self.inner.put_blob(blob, bytes.clone()).await {
                Ok(false) if call.in_doubt => match self.inner.get_blob(blob, None).await {
                    // What was in doubt and has our bytes is ours, as with commits.
                    Ok(Some(found)) => {
                        call.answered();
                        return Ok(found == bytes);
                    }
                    Ok(None) => Error::new(ErrorKind::Unavailable, "writing a blob")
                        .with("blob", blob.name())
                        .advise("It was there, and was deleted meanwhile"),
                    Err(error) => error,
                },
                Ok(is_new) => {
                    call.answered();
                    return Ok(is_new);
                }
                Err(error) => error,
            };
            call.again_after(error).await?;
        }
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.tried(Operation::GetBlob, || self.inner.get_blob(blob, range.clone())).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.tried(Operation::ListBlobs, || self.inner.list_blobs(log, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.tried(Operation::DeleteBlob, || self.inner.delete_blob(blob)).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.tried(Operation::Examine, || self.inner.examine(depth)).await
    }

    /// Once: whoever ends does not want to wait for a system that is away.
    async fn shut_down(&self) -> Result<()> {
        self.inner.shut_down().await
    }
}
