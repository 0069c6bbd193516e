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

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Access, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use icecore_remote::{Handle, Remote};
use tokio::time::Instant;

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

    /// Connects to who takes writes.
    fn connect(&self) -> impl Future<Output = Done<Self::Connection>> + Send;
    /// A connection was cut, or not answered in time: who takes writes may be another now.
    fn suspect(&self) {}
    /// What all that was acknowledged survives: no more than what was declared, and less where a connection has found less since.
    fn durability(&self, declared: Durability) -> Durability {
        declared
    }
    /// What was found last, for who examines the store.
    fn facts(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
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
    /// Who follows the server, and whether a commit waits for them, where it says so.
    fn followers(_: &mut Session<Self>) -> impl Future<Output = Done<Option<String>>> + Send {
        async { Ok(None) }
    }

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

/// A database server. In a [`Handle`] it is a [`Backend`](icecore_log::Backend).
#[expect(private_bounds, reason = "the dialects are those of this crate")]
pub struct Server<D: Dialect> {
    pool: Arc<Pool<D>>,
    bounds: Bounds,
    access: Access,
    durability: Durability,
    /// What is known since it was opened.
    facts: Vec<(&'static str, String)>,
}

impl<D: Dialect> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
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
impl<D: Dialect> Server<D> {
    pub(crate) fn handle(
        pool: Arc<Pool<D>>,
        bounds: Bounds,
        access: Access,
        durability: Durability,
        facts: Vec<(&'static str, String)>,
    ) -> Handle<Self> {
        Handle::new(Self { pool, bounds, access, durability, facts })
    }

    /// Reads with one connection. One that was cut while it was idle is no reason to fail: it is tried again.
    async fn read_with<T, W>(
        &self,
        doing: &'static str,
        deadline: Instant,
        work: impl Fn(Session<D>) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Done<T>>,
    {
        let session = || self.pool.session(Purpose::Reading, deadline);
        let tried = async { work(session().await?).await };
        let done = match tried.await {
            Err(Fault::Before(_)) if Instant::now() < deadline => {
                async { work(session().await?).await }.await
            }
            done => done,
        };
        done.map_err(|fault| fault.told(doing))
    }
}

impl<D: Dialect> Remote for Server<D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: D::SYSTEM,
            durability: self.pool.dialect.durability(self.durability),
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: self.pool.dialect.commit_bytes_max(),
            creates_in_flight: 2,
        }
    }

    fn timeout(&self) -> Duration {
        self.bounds.timeout
    }

    fn looks(&self) -> (Duration, Duration) {
        (self.bounds.look_every, self.bounds.look_every)
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode, deadline: Instant) -> Vec<Created> {
        create::create(&self.pool, &runs, mode, deadline).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit, deadline: Instant) -> Result<Page> {
        self.read_with("reading a log", deadline, move |mut session| async move {
            read::page(&mut session, log, from, limit).await
        })
        .await
    }

    async fn heads(&self, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
        self.read_with("reading heads", deadline, move |mut session| async move {
            read::heads(&mut session, logs).await
        })
        .await
    }

    async fn is_past(&self, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
        self.read_with(
            "waiting",
            deadline,
            move |mut session| async move { D::is_past(&mut session, seen).await },
        )
        .await
    }

    async fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> Result<LogPage> {
        self.read_with("listing logs", deadline, move |mut session| {
            let cursor = cursor.clone();
            async move { read::list(&mut session, prefix, cursor, limit).await }
        })
        .await
    }

    async fn close(&self, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
        D::close(&self.pool, log, through, deadline).await.map_err(|fault| fault.told("closing a log"))
    }

    async fn sweep(&self, log: &LogId, deadline: Instant) -> Result<Swept> {
        writer::sweep(&self.pool, log, deadline).await.map_err(|fault| fault.told("sweeping a log"))
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version], deadline: Instant) -> Result<()> {
        let dropped = writer::drop_bodies(&self.pool, log, versions, deadline).await;
        dropped.map_err(|fault| fault.told("dropping bodies"))
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes, deadline: Instant) -> Result<bool> {
        let put = writer::put_blob(&self.pool, blob, &bytes, deadline).await;
        put.map_err(|fault| fault.told("writing a blob"))
    }

    async fn get_blob(
        &self,
        blob: &BlobId,
        range: Option<Range<u64>>,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        self.read_with("reading a blob", deadline, move |mut session| {
            let range = range.clone();
            async move { read::blob(&mut session, blob, range).await }
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str, deadline: Instant) -> Result<Vec<BlobInfo>> {
        self.read_with("listing blobs", deadline, move |mut session| async move {
            read::blobs(&mut session, log, prefix).await
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId, deadline: Instant) -> Result<()> {
        let deleted = writer::delete_blob(&self.pool, blob, deadline).await;
        deleted.map_err(|fault| fault.told("deleting a blob"))
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let deadline = Instant::now() + self.bounds.timeout;
        let mut examination = self
            .read_with("examining a store", deadline, move |mut session| async move {
                read::examine(&mut session, depth).await
            })
            .await?;
        let facts = self.facts.iter().cloned().chain(self.pool.dialect.facts());
        examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        Ok(examination)
    }

    async fn end(&self, deadline: Instant) {
        self.pool.shut_down(deadline).await;
    }
}
