//! The handle: opening, and each call in a task of its own, which goes on if its caller does not wait for it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId,
    LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use redis::Value;
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, timeout_at};

use crate::call::{self, Answer, Call, Confirm};
use crate::config::Settings;
use crate::fault::Fault;
use crate::found::Found;
use crate::keys::{BUCKETS, Bucket, Keys};
use crate::parts::Parts;
use crate::pool::{Pool, Purpose};
use crate::{answer, create, examine, read, trim};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
const OPENING: &str = "opening a store";
/// What the store's own key holds.
const FORMAT: &str = "icecore redis 1";

/// A [`Backend`] in Redis or Valkey.
#[derive(Debug)]
pub struct RedisStore {
    inner: Arc<Inner>,
    access: Access,
    durability: Durability,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub settings: Settings,
    pub keys: Keys,
    pub pool: Arc<Pool>,
    confirm: Confirm,
    is_shut_down: AtomicBool,
    /// Read by what is under way.
    busy: RwLock<()>,
}

impl Inner {
    fn new(settings: Settings) -> Self {
        Self {
            keys: Keys(settings.prefix.clone()),
            pool: Arc::new(Pool::new(settings.clone())),
            confirm: Confirm::Nothing,
            settings,
            is_shut_down: AtomicBool::new(false),
            busy: RwLock::default(),
        }
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    pub async fn read(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Reading, Confirm::Nothing, calls, deadline).await
    }

    pub async fn read_one(&self, call: Call, doing: &'static str, deadline: Instant) -> Result<Value> {
        let answer = self.read(&[call], deadline).await.pop();
        answer
            .map_or_else(|| Err(Fault::answer()), |answer| answer.value)
            .map_err(|fault| fault.reading(doing))
    }

    /// What is answered here is as durable as this store declares.
    pub async fn write(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Writing, self.confirm, calls, deadline).await
    }

    /// For what is followed by a write of [`Self::write`] to the same bucket.
    pub async fn write_unconfirmed(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Writing, Confirm::Nothing, calls, deadline).await
    }

    /// When a write is acknowledged, for people.
    pub fn acknowledged(&self) -> String {
        match self.confirm {
            Confirm::Nothing => "when the server has it: a fail-over may lose it".to_owned(),
            Confirm::Replicas(count) => format!("when {count} replicas have it in memory"),
            Confirm::Disks(count) => format!("when the server and {count} replicas have it on disk"),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(())
    }
}

impl RedisStore {
    /// Opens the store below a prefix. To write: makes it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the user or the password is refused, a server evicts keys or is a replica or too old, or the prefix holds something
    /// else or a later format; [`ErrorKind::NotFound`] if there is no store to be read; [`ErrorKind::Unavailable`] if a server is not
    /// there or does not answer in [`Settings::timeout`], or has fewer replicas than [`Settings::wait`].
    pub async fn open(settings: Settings, access: Access) -> Result<Self> {
        let mut inner = Inner::new(settings);
        let deadline = inner.deadline();
        let mut durability = Durability::Replicated;
        for found in look(&inner, deadline).await.map_err(|fault| fault.reading(OPENING))? {
            found.check(inner.settings.assume_noeviction)?;
            durability = durability.min(found.durability());
        }
        make(&inner, access, deadline).await?;
        if inner.settings.wait > 0 && access == Access::ReadWrite {
            inner.confirm = confirm(&inner, deadline).await?;
            if let (Confirm::Disks(_), Durability::Disk) = (inner.confirm, durability) {
                durability = Durability::Replicated;
            }
        }
        Ok(Self { inner: Arc::new(inner), access, durability, changes: watch::Sender::new(0) })
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

/// What every server says.
async fn look(inner: &Inner, deadline: Instant) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    for node in inner.pool.nodes(deadline).await? {
        let mut session = inner.pool.session(&node, Purpose::Reading, deadline).await?;
        all.push(Found::look(&mut session, deadline).await?);
    }
    Ok(all)
}

/// Looks for the store; to write, makes it if there is none.
async fn make(inner: &Inner, access: Access, deadline: Instant) -> Result<()> {
    let key = inner.keys.store();
    let get = || Call::command(Bucket::STORE, "GET", [key.clone()]);
    let mut found = inner.read_one(get(), OPENING, deadline).await?;
    if found == Value::Nil {
        if access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::NotFound, OPENING)
                .with("prefix", &inner.settings.prefix)
                .advise("There is no store: one that is opened to write is made"));
        }
        let arguments = [key.clone(), Bytes::from(FORMAT), Bytes::from("NX")];
        let set = Call::command(Bucket::STORE, "SET", arguments);
        for answer in inner.write_unconfirmed(&[set], deadline).await {
            answer.value.map_err(|fault| fault.reading(OPENING))?;
        }
        found = inner.read_one(get(), OPENING, deadline).await?;
    }
    let refused = Error::new(ErrorKind::Refused, OPENING).with("prefix", &inner.settings.prefix);
    match answer::text(found).as_deref() {
        Some(FORMAT) => Ok(()),
        Some(other) if other.starts_with("icecore redis ") => {
            Err(refused.advise("It was written by a later version of Icecore: use that one"))
        }
        _ => Err(refused.advise("The prefix holds keys of another program: name another with prefix=")),
    }
}

/// How the replicas are asked that the URL wants: their disks, if all servers can say so; else their memory.
async fn confirm(inner: &Inner, deadline: Instant) -> Result<Confirm> {
    let wait = inner.settings.wait;
    let (calls, asks_disks) = probes(inner, deadline).await.map_err(|fault| fault.reading(OPENING))?;
    let soon = Instant::now() + inner.settings.timeout / 4;
    for (confirm, until) in [(Confirm::Disks(wait), soon), (Confirm::Replicas(wait), deadline)] {
        if matches!(confirm, Confirm::Disks(_)) && !asks_disks {
            continue;
        }
        let answers = call::send(&inner.pool, Purpose::Writing, confirm, &calls, until).await;
        match answers.into_iter().find_map(|answer| answer.value.err()) {
            None => return Ok(confirm),
            Some(fault) if until == deadline => return Err(fault.reading(OPENING).with("wait", wait)),
            Some(_) => {}
        }
    }
    Ok(Confirm::Replicas(wait))
}

/// A write to each server that changes nothing, and whether all of them know `WAITAOF`.
async fn probes(inner: &Inner, deadline: Instant) -> Result<(Vec<Call>, bool), Fault> {
    let (mut calls, mut asks_disks, mut seen) = (Vec::new(), true, Vec::new());
    for bucket in (0..BUCKETS).map(Bucket) {
        let node = inner.pool.node(bucket, deadline).await?;
        if seen.contains(&node) {
            continue;
        }
        let arguments = [inner.keys.probe(bucket), Bytes::new(), Bytes::from("EX"), Bytes::from("60")];
        calls.push(Call::command(bucket, "SET", arguments));
        let mut ask = redis::pipe();
        ask.cmd("WAITAOF").arg(0).arg(0).arg(1);
        let mut session = inner.pool.session(&node, Purpose::Reading, deadline).await?;
        let answers = session.ask(&ask, deadline).await?;
        asks_disks &= matches!(answers[..], [Value::Array(_)]);
        seen.push(node);
    }
    Ok((calls, asks_disks))
}

#[async_trait]
impl Backend for RedisStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "redis",
            durability: self.durability,
            atomic_create: false,
            native_close: true,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 4,
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
            read::heads(&inner, &logs, deadline).await
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.work("listing logs", false, move |inner, deadline| async move {
            read::list(&inner, &prefix, cursor, limit, deadline).await
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
        loop {
            changes.borrow_and_update();
            let wanted = Arc::clone(&seen);
            let look = self.work("waiting", false, move |inner, deadline| async move {
                read::is_past(&inner, &wanted, deadline).await
            });
            if look.await? || Instant::now() >= end {
                return Ok(());
            }
            let next = end.min(Instant::now() + self.inner.settings.look_every);
            // What comes first: a commit of this handle, or the time to look for those of others.
            let _ = timeout_at(next, changes.changed()).await;
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let blob = blob.clone();
        self.work("writing a blob", true, move |inner, deadline| async move {
            trim::put_blob(&inner, &blob, &bytes, deadline).await
        })
        .await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.work("reading a blob", false, move |inner, deadline| async move {
            Parts::of_blob(&inner, &blob).read(&inner, range, "reading a blob", deadline).await
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.work("listing blobs", false, move |inner, deadline| async move {
            read::blobs(&inner, &log, &prefix, deadline).await
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let blob = blob.clone();
        self.work("deleting a blob", true, move |inner, deadline| async move {
            trim::delete_blob(&inner, &blob, deadline).await
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
        self.inner.pool.shut_down();
        Ok(())
    }
}
