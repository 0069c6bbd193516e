//! What the stores in database servers have in common, which is all but their SQL, their settings and their errors.
//!
//! A [`Dialect`] is what differs. It takes and gives rows of one shape, so that they are read, checked and judged here, once.
//!
//! A piece of work is a task of its own, with a deadline of its own: a caller that goes away leaves nothing half-sent.

pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod fault;
pub(crate) mod pool;
pub(crate) mod read;
pub(crate) mod rows;
pub(crate) mod statement;
pub(crate) mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId,
    LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub use config::Bounds;
use create::Task;
use fault::{Fault, Stage};
use pool::{Pool, Purpose, Session};
use rows::Row;
use statement::Statement;

pub(crate) const OPENING: &str = "opening a store";

/// What a statement or a piece of work comes to.
pub(crate) type Done<T> = std::result::Result<T, Fault>;

/// What differs between the servers. Everything is asked on a connection that a dialect has set up.
///
/// Where a row is asked for, its columns are named in the order in which they stand.
pub(crate) trait Dialect: fmt::Debug + Send + Sync + Sized + 'static {
    /// As it is declared.
    const SYSTEM: &'static str;
    /// Whether [`Self::add`] makes the logs of tasks that say that theirs is new.
    const ADDS_LOGS: bool;
    type Connection: Send;
    type Database: sqlx::Database;
    type Row: Row + Send + Sync;

    fn connect(&self) -> impl Future<Output = sqlx::Result<Self::Connection>> + Send;
    fn ping(connection: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn hang_up(connection: Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// Runs a statement with parameters; and whether the server warned.
    fn fetch(
        &self,
        connection: &mut Self::Connection,
        statement: Statement<Self::Database>,
        stage: Stage,
    ) -> impl Future<Output = (sqlx::Result<Vec<Self::Row>>, bool)> + Send;
    /// Runs what has no parameters, and is made of constants and of names that were checked; how many rows it changed.
    fn run(
        &self,
        connection: &mut Self::Connection,
        sql: &str,
        stage: Stage,
    ) -> impl Future<Output = (sqlx::Result<u64>, bool)> + Send;
    /// Begins a transaction.
    fn begin(&self) -> &str;
    /// Whether every statement has to be in a transaction that sets what it needs.
    fn is_shared(&self) -> bool;
    /// What an error means.
    fn fault(error: &sqlx::Error, stage: Stage) -> Fault;
    /// Whether the connection cannot go on after it.
    fn is_over(fault: &Fault) -> bool;

    /// How many bytes of commits go into a statement.
    fn statement_bytes(&self) -> usize;
    /// The most bytes of one commit.
    fn commit_bytes_max(&self) -> usize;
    /// Adds a piece of each task in the transaction that was begun, all its commits or none; the places of those that were added.
    ///
    /// A piece is added above the boundary and behind its predecessor, into slots that are free. All that is needed for this to hold
    /// until the transaction ends is locked.
    fn add(
        session: &mut Session<Self>,
        tasks: &[&mut Task<'_>],
    ) -> impl Future<Output = Done<Vec<usize>>> + Send;
    /// As [`Self::add`], in a transaction of its own.
    fn add_alone(
        session: &mut Session<Self>,
        tasks: &[&mut Task<'_>],
    ) -> impl Future<Output = Done<Vec<usize>>> + Send;
    /// For each task a row of its log, if there is one, once for each of its slots that is filled: `name, boundary, crc`, of the head
    /// `version, header_crc, header`, of the slot the same.
    fn slots(
        session: &mut Session<Self>,
        tasks: &[&mut Task<'_>],
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// Makes logs that are not there.
    fn make_logs(
        pool: &Arc<Pool<Self>>,
        logs: &[LogId],
        deadline: Instant,
    ) -> impl Future<Output = Done<()>> + Send;
    /// Everything that can be seen now is durable when this returns.
    fn make_durable(session: &mut Session<Self>) -> impl Future<Output = Done<()>> + Send;

    /// `boundary, crc, version, header_crc, header`, and if they are wanted `body_crc, body`, of a page in any order; of a log without
    /// commits from there on one row without them.
    fn page(
        session: &mut Session<Self>,
        log: &LogId,
        from: i64,
        limit: PageLimit,
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// `name, boundary, crc`, and of the head `version, header_crc, header`.
    fn heads(
        session: &mut Session<Self>,
        logs: &[LogId],
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// Whether one of the logs has a commit past the version.
    fn is_past(
        session: &mut Session<Self>,
        seen: &[(LogId, Version)],
    ) -> impl Future<Output = Done<bool>> + Send;
    /// `name` of logs with commits, in order.
    fn names(
        session: &mut Session<Self>,
        range: Range<&[u8]>,
        after: Option<&str>,
        most: i64,
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// `bytes` of the whole, and `part, crc, content` of parts in any order; if there are none of these one row without them.
    fn parts(
        session: &mut Session<Self>,
        blob: &BlobId,
        parts: (i64, i64),
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// `name, bytes`, in order of the names.
    fn blobs(
        session: &mut Session<Self>,
        log: &LogId,
        range: Range<&[u8]>,
    ) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// `logs, commits`, of all tables the `bytes`, and the server's `version`.
    fn sizes(session: &mut Session<Self>) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;

    /// Raises a boundary; nothing that did not see it may create a commit below it once [`Self::sweep`] has deleted one.
    fn close(
        pool: &Arc<Pool<Self>>,
        log: &LogId,
        through: Version,
        deadline: Instant,
    ) -> impl Future<Output = Done<()>> + Send;
    /// `id, boundary, crc` of a log, and whether there is something at or below its boundary.
    fn closed(session: &mut Session<Self>, log: &LogId) -> impl Future<Output = Done<Vec<Self::Row>>> + Send;
    /// Waits for who may not have seen a boundary.
    fn wait_for_writers(
        session: &mut Session<Self>,
        deadline: Instant,
    ) -> impl Future<Output = Done<()>> + Send;
    /// Deletes some of the commits of a log through a boundary: how many, and their bytes.
    fn sweep(
        session: &mut Session<Self>,
        id: i64,
        boundary: i64,
    ) -> impl Future<Output = Done<(u64, u64)>> + Send;
    /// Drops bodies, durably, even if another has dropped them.
    fn drop_bodies(
        session: &mut Session<Self>,
        log: &LogId,
        versions: &[i64],
    ) -> impl Future<Output = Done<()>> + Send;
    /// In the transaction that was begun, adds the first part of a blob; its log's id, or `None` if there is one of its name.
    fn put_first(
        session: &mut Session<Self>,
        blob: &BlobId,
        bytes: i64,
        crc: i64,
        content: &[u8],
    ) -> impl Future<Output = Done<Option<i64>>> + Send;
    /// Adds another part.
    fn put_part(session: &mut Session<Self>, part: writer::Part<'_>)
    -> impl Future<Output = Done<()>> + Send;
    fn delete_blob(session: &mut Session<Self>, blob: &BlobId) -> impl Future<Output = Done<()>> + Send;
}

/// A [`Backend`] in a database server.
#[expect(private_bounds, reason = "the dialects are those of this crate")]
pub struct ServerStore<D: Dialect> {
    pool: Arc<Pool<D>>,
    bounds: Bounds,
    access: Access,
    durability: Durability,
    /// What is known since it was opened.
    facts: Vec<(&'static str, String)>,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

impl<D: Dialect> fmt::Debug for ServerStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStore")
            .field("system", &D::SYSTEM)
            .field("facts", &self.facts)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Refused, "using a store").advise("It was shut down")
}

#[expect(private_bounds, reason = "as above")]
impl<D: Dialect> ServerStore<D> {
    pub(crate) fn new(
        pool: Arc<Pool<D>>,
        bounds: Bounds,
        access: Access,
        durability: Durability,
        facts: Vec<(&'static str, String)>,
    ) -> Self {
        Self { pool, bounds, access, durability, facts, changes: watch::Sender::new(0) }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.bounds.timeout
    }

    /// Does this in a task of its own, which goes on if the caller does not wait for it.
    async fn work<T: Send + 'static>(
        &self,
        doing: &'static str,
        is_writing: bool,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T> {
        if is_writing && self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        match tokio::spawn(work).await {
            Ok(done) => done.map_err(|fault| fault.told(doing)),
            Err(error) => {
                let kind = if is_writing { ErrorKind::Unknown } else { ErrorKind::Unavailable };
                Err(Error::new(kind, doing).because(error))
            }
        }
    }

    /// Reads with one connection. One that was cut while it was idle is no reason to fail: it is tried again.
    async fn read_with<T, W>(
        &self,
        doing: &'static str,
        work: impl Fn(Session<D>) -> W + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Fault>> + Send,
    {
        let (pool, deadline) = (Arc::clone(&self.pool), self.deadline());
        let task = async move {
            let done = work(pool.session(Purpose::Reading, deadline).await?).await;
            match done {
                Err(Fault::Before(_)) if Instant::now() < deadline => {
                    work(pool.session(Purpose::Reading, deadline).await?).await
                }
                done => done,
            }
        };
        self.work(doing, false, task).await
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl<D: Dialect> Backend for ServerStore<D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: D::SYSTEM,
            durability: self.durability,
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: self.pool.dialect.commit_bytes_max(),
            creates_in_flight: 2,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let (pool, deadline, count) = (Arc::clone(&self.pool), self.deadline(), runs.len());
        let work = async move { Ok(create::create(&pool, &runs, mode, deadline).await) };
        let answers = self.work("creating a commit", true, work).await;
        self.changed();
        answers.unwrap_or_else(|error| (0..count).map(|_| Created::failed(error.clone())).collect())
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        self.read_with("reading a log", move |mut session| {
            let log = log.clone();
            async move { read::page(&mut session, &log, from, limit).await }
        })
        .await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs: Arc<[LogId]> = logs.into();
        self.read_with("reading heads", move |mut session| {
            let logs = Arc::clone(&logs);
            async move { read::heads(&mut session, &logs).await }
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.read_with("listing logs", move |mut session| {
            let (prefix, cursor) = (prefix.clone(), cursor.clone());
            async move { read::list(&mut session, &prefix, cursor, limit).await }
        })
        .await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let (pool, deadline, log) = (Arc::clone(&self.pool), self.deadline(), log.clone());
        let work = async move { D::close(&pool, &log, through, deadline).await };
        self.work("closing a log", true, work).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let (pool, deadline, log) = (Arc::clone(&self.pool), self.deadline(), log.clone());
        self.work("sweeping a log", true, async move { writer::sweep(&pool, &log, deadline).await }).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (pool, deadline) = (Arc::clone(&self.pool), self.deadline());
        let (log, versions) = (log.clone(), versions.to_vec());
        let work = async move { writer::drop_bodies(&pool, &log, &versions, deadline).await };
        self.work("dropping bodies", true, work).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        let seen: Arc<[(LogId, Version)]> = seen.into();
        loop {
            changes.borrow_and_update();
            let wanted = Arc::clone(&seen);
            let look = self.read_with("waiting", move |mut session| {
                let wanted = Arc::clone(&wanted);
                async move { D::is_past(&mut session, &wanted).await }
            });
            if look.await? || Instant::now() >= deadline {
                return Ok(());
            }
            let next = deadline.min(Instant::now() + self.bounds.look_every);
            // What comes first: a commit of this handle, or the time to look for those of others.
            let _ = timeout_at(next, changes.changed()).await;
            if self.pool.is_shut_down() {
                return Err(closed());
            }
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let (pool, deadline, blob) = (Arc::clone(&self.pool), self.deadline(), blob.clone());
        let work = async move { writer::put_blob(&pool, &blob, &bytes, deadline).await };
        self.work("writing a blob", true, work).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.read_with("reading a blob", move |mut session| {
            let (blob, range) = (blob.clone(), range.clone());
            async move { read::blob(&mut session, &blob, range).await }
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.read_with("listing blobs", move |mut session| {
            let (log, prefix) = (log.clone(), prefix.clone());
            async move { read::blobs(&mut session, &log, &prefix).await }
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let (pool, deadline, blob) = (Arc::clone(&self.pool), self.deadline(), blob.clone());
        let work = async move { writer::delete_blob(&pool, &blob, deadline).await };
        self.work("deleting a blob", true, work).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let read = self.read_with("examining a store", move |mut session| async move {
            read::examine(&mut session, depth).await
        });
        let mut examination = read.await?;
        let facts = self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        examination.facts.extend(facts);
        Ok(examination)
    }

    async fn shut_down(&self) -> Result<()> {
        self.pool.shut_down(self.deadline()).await;
        self.changed();
        Ok(())
    }
}
