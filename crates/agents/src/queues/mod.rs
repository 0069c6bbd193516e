//! Durable queues: messages that one worker at a time is given, until one says that it is done. `docs/formats/queues.md` is the
//! specification.
//!
//! | module | holds |
//! | --- | --- |
//! | `record` | a queue's documents, and moving a message from one state to another |
//! | `put` | messages that come, each once |
//! | `lease` | messages that are given out, and what their workers say of them |
//! | [`dead`] | messages that failed too often; what is deleted for good; how many there are |
//!
//! A queue is a log, and every call is a transaction of it. Each message has a number, and in each state a document under a key that begins
//! with that state: so a call reads the beginning of what it needs, and never what is done.
//!
//! 1. **At least once**: a message is given out until it is [acknowledged](Queue::ack), or has been given out as often as it may be; then it
//!    is a dead letter, which stays.
//! 2. **Fences**: each lease has a number, higher than all before it in this queue. Who was given a message before somebody else was can
//!    change nothing of it any more; a worker passes its fence on to whatever it writes, which can then refuse an older one.
//! 3. **Order**: what is given out are those that came first, of all that are ready by then.

pub mod dead;
mod lease;
mod put;
mod record;

use std::time::Duration;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Result, Timestamp};
use icecore_store::state::Json;
use icecore_store::{Log, Store};

use crate::names::{Kind, Tenant};
use crate::scope;

pub use dead::{DeadLetter, Purge, Purged, Statistics};
use record::Work;

/// The most messages of one call.
pub const MESSAGES_MAX: usize = 1_000;
/// For how long an id is known after its message is done: who puts it again by then puts nothing.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);
/// The most bytes that are kept of why a message failed.
pub const REASON_BYTES_MAX: usize = 1_024;

/// A queue of a tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    log: Log,
}

/// A message to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Tells it from all others of the queue.
    pub id: String,
    /// What it says.
    pub payload: Json,
    /// It is given out so much later.
    pub delay: Duration,
    /// How often it is given out before it is a dead letter; `None` for ever.
    pub attempts_max: Option<u32>,
}

/// What became of a message that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Its number: the order of the queue.
    pub number: u64,
    /// It was there before.
    pub repeated: bool,
}

/// A message that was given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: u64,
    /// Proves that this worker has it.
    pub fence: u64,
    /// How often it was given out, this time included.
    pub attempts: u32,
    /// From then on it may be given to another.
    pub until: Timestamp,
    /// When it came.
    pub put_at: Timestamp,
    /// What it says, as JSON text.
    pub payload: Bytes,
}

/// Where a message is after its worker gave it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// It can be given out.
    Ready,
    /// It can, from then on.
    Delayed(Timestamp),
    /// It was given out too often.
    Dead,
}

impl GivenBack {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Delayed(_) => "delayed",
            Self::Dead => "dead",
        }
    }
}

impl Message {
    /// One that is given out at once, and as often as it takes.
    pub fn new(id: impl Into<String>, payload: Json) -> Self {
        Self { id: id.into(), payload, delay: Duration::ZERO, attempts_max: None }
    }
}

impl Queue {
    /// The queue of this name. It need not be there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the name is empty, or longer than [`ID_BYTES_MAX`](scope::ID_BYTES_MAX).
    pub fn new(store: &Store, tenant: &Tenant, name: &str) -> Result<Self> {
        scope::check("naming a queue", name, "Say which queue: its name is not empty")?;
        Ok(Self { log: store.log(tenant.log(Kind::Queue, name.as_bytes())?) })
    }

    /// The log that it is in.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Runs a transaction; the closure sees what there is, and says what moves.
    async fn work<T>(&self, mut decide: impl FnMut(&mut Work<'_>) -> Result<T>) -> Result<T> {
        let mut answer = None;
        self.log
            .transact(|state| {
                let mut work = Work::new(state, self.now_ms())?;
                answer = Some(decide(&mut work)?);
                work.changes()
            })
            .await?;
        // A transaction that ended well has run its closure.
        answer.ok_or_else(|| self.error(ErrorKind::Unavailable, "working on a queue"))
    }

    fn now_ms(&self) -> i64 {
        self.log.store().now().millis()
    }

    fn error(&self, kind: ErrorKind, doing: &'static str) -> Error {
        Error::new(kind, doing).with("log", self.log.id())
    }
}

/// # Errors
/// [`ErrorKind::Invalid`] if these are more than one call may have, or none.
fn check_count(doing: &'static str, count: usize) -> Result<()> {
    if (1..=MESSAGES_MAX).contains(&count) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, doing)
        .with("messages", count)
        .with("messages_max", MESSAGES_MAX)
        .advise("Ask for at least one message, and for more in several calls"))
}
