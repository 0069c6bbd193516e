//! Opening, and what each call of the handle comes to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use icecore_remote::{Handle, Remote};
use redis::Value;
use tokio::time::Instant;

use crate::call::{self, Answer, Call, Confirm};
use crate::config::{Servers, Settings};
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

/// A [`Backend`](icecore_log::Backend) in Redis or Valkey, which [`Redis::open`] opens.
pub type RedisStore = Handle<Redis>;

/// What a [`RedisStore`] asks.
#[derive(Debug)]
pub struct Redis {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) pool: Arc<Pool>,
    access: Access,
    confirm: Confirm,
    durability: Durability,
    /// A script is only given keys of one bucket.
    is_apart: AtomicBool,
}

impl Redis {
    /// Opens the store below a prefix. To write: makes it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the user or the password is refused, a server evicts keys or is a replica or too old, or the prefix holds something
    /// else or a later format; [`ErrorKind::NotFound`] if there is no store to be read; [`ErrorKind::Unavailable`] if a server is not
    /// there or does not answer in [`Settings::timeout`], or has fewer replicas than [`Settings::wait`].
    pub async fn open(settings: Settings, access: Access) -> Result<RedisStore> {
        let mut redis = Self {
            keys: Keys(settings.prefix.clone()),
            pool: Arc::new(Pool::new(settings.clone())),
            access,
            confirm: Confirm::Nothing,
            durability: Durability::Replicated,
            is_apart: AtomicBool::new(matches!(settings.servers, Servers::Cluster(_))),
            settings,
        };
        let deadline = redis.deadline();
        for found in look(&redis, deadline).await.map_err(|fault| fault.reading(OPENING))? {
            found.check(redis.settings.assume_noeviction)?;
            redis.durability = redis.durability.min(found.durability());
        }
        make(&redis, access, deadline).await?;
        if redis.settings.wait > 0 && access == Access::ReadWrite {
            redis.confirm = confirm(&redis, deadline).await?;
            if let (Confirm::Disks(_), Durability::Disk) = (redis.confirm, redis.durability) {
                redis.durability = Durability::Replicated;
            }
        }
        Ok(Handle::new(redis))
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    pub(crate) async fn read(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Reading, Confirm::Nothing, calls, deadline).await
    }

    pub(crate) async fn read_one(&self, call: Call, doing: &'static str, deadline: Instant) -> Result<Value> {
        let answer = self.read(&[call], deadline).await.pop();
        answer
            .map_or_else(|| Err(Fault::answer()), |answer| answer.value)
            .map_err(|fault| fault.reading(doing))
    }

    /// What is answered here is as durable as this store declares.
    pub(crate) async fn write(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Writing, self.confirm, calls, deadline).await
    }

    /// For what is followed by a write of [`Self::write`] to the same bucket.
    pub(crate) async fn write_unconfirmed(&self, calls: &[Call], deadline: Instant) -> Vec<Answer> {
        call::send(&self.pool, Purpose::Writing, Confirm::Nothing, calls, deadline).await
    }

    /// Whether a script is only given keys of one bucket, as in a cluster.
    pub(crate) fn is_apart(&self) -> bool {
        self.is_apart.load(Ordering::Relaxed)
    }

    /// From now on. A cluster may stand behind one address.
    pub(crate) fn keep_apart(&self) {
        self.is_apart.store(true, Ordering::Relaxed);
    }

    /// When a write is acknowledged, for people.
    pub(crate) fn acknowledged(&self) -> String {
        match self.confirm {
            Confirm::Nothing => "when the server has it: a fail-over may lose it".to_owned(),
            Confirm::Replicas(count) => format!("when {count} replicas have it in memory"),
            Confirm::Disks(count) => format!("when the server and {count} replicas have it on disk"),
        }
    }
}

/// What every server says.
async fn look(inner: &Redis, deadline: Instant) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    for node in inner.pool.nodes(deadline).await? {
        let mut session = inner.pool.session(&node, Purpose::Reading, deadline).await?;
        all.push(Found::look(&mut session, deadline).await?);
    }
    Ok(all)
}

/// Looks for the store; to write, makes it if there is none.
async fn make(inner: &Redis, access: Access, deadline: Instant) -> Result<()> {
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
async fn confirm(inner: &Redis, deadline: Instant) -> Result<Confirm> {
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
async fn probes(inner: &Redis, deadline: Instant) -> Result<(Vec<Call>, bool), Fault> {
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

impl Remote for Redis {
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
            creates_in_flight: 2,
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    fn looks(&self) -> (Duration, Duration) {
        (self.settings.look_every, self.settings.look_every)
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode, deadline: Instant) -> Vec<Created> {
        create::create(self, &runs, mode, deadline).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit, deadline: Instant) -> Result<Page> {
        read::page(self, log, from, limit, deadline).await
    }

    async fn heads(&self, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
        read::heads(self, logs, deadline).await
    }

    async fn is_past(&self, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
        read::is_past(self, seen, deadline).await
    }

    async fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> Result<LogPage> {
        read::list(self, prefix, cursor, limit, deadline).await
    }

    async fn close(&self, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
        trim::close(self, log, through, deadline).await
    }

    async fn sweep(&self, log: &LogId, _: Instant) -> Result<Swept> {
        trim::sweep(self, log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version], deadline: Instant) -> Result<()> {
        trim::drop_bodies(self, log, versions, deadline).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes, deadline: Instant) -> Result<bool> {
        trim::put_blob(self, blob, &bytes, deadline).await
    }

    async fn get_blob(
        &self,
        blob: &BlobId,
        range: Option<Range<u64>>,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        Parts::of_blob(self, blob).read(self, range, "reading a blob", deadline).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str, deadline: Instant) -> Result<Vec<BlobInfo>> {
        read::blobs(self, log, prefix, deadline).await
    }

    async fn delete_blob(&self, blob: &BlobId, deadline: Instant) -> Result<()> {
        trim::delete_blob(self, blob, deadline).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        examine::examine(self, depth).await
    }

    async fn end(&self, _: Instant) {
        self.pool.shut_down();
    }
}
