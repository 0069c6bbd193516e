//! Keeps logs in a schema of a PostgreSQL database: any number of processes, on any number of machines, may write and read it.
//!
//! The tables are in `wire`, and in `docs/formats/postgres.md`. A log has a row in `logs`, with an id in order of creation so that logs
//! of one age lie together; a commit has a row in `commits`. There is no row of the head: an append adds a row and changes none.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | the primary key of `commits`; a run is added by one statement, all of it or nothing |
//! | 2 unknown | what fails before a commit is sent is rolled back; what fails with it is looked at, sent again as it is, and else unknown. What was only seen is followed by a commit of ours before it is won |
//! | 3 durable | `fsync`, `full_page_writes`, `synchronous_commit` and `synchronous_standby_names`, looked at when opening; less is declared where they say less |
//! | 4 fresh, chained | READ COMMITTED on the primary, set by us: a statement sees what was committed before it. The predecessor is looked at in the statement that adds |
//! | 5 deletion | the boundary is looked at in the statement that adds, and a sweep waits for every statement that may not have seen it |
//! | 6 bytes | `bytea` columns; a checksum a row, which PostgreSQL itself has for pages, and only if asked |
//! | 7 neighbours | one statement for all logs, its slots in order so that two never wait for each other; who is stuck for 250 ms is sent alone. All or none is one transaction |
//! | 8 names | a log is listed if it has a commit: they are seen together |
//! | 9 blobs | the primary key of `blobs`; all parts in one transaction |
//!
//! A piece of work is a task of its own, with a deadline of its own: a caller that goes away leaves nothing half-sent.
//! Behind a pooler such as pgbouncer that gives each transaction another session, every statement is a transaction that sets what it needs.

mod config;
mod create;
mod fault;
mod notices;
mod pool;
mod read;
mod wire;
mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use config::Found;
pub use config::Settings;
use fault::Fault;
pub use icecore_log::Access;
use notices::Listener;
use pool::{Pool, Purpose, Session};

/// The most bytes of one commit, header and body. A statement is held in the server's memory three times over.
const COMMIT_BYTES_MAX: usize = 80 << 20;
const OPENING: &str = "opening a store";

/// A [`Backend`] in a PostgreSQL database.
pub struct PostgresStore {
    pool: Arc<Pool>,
    settings: Settings,
    access: Access,
    found: Found,
    durability: Durability,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("settings", &self.settings)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Refused, "using a store").advise("It was shut down")
}

impl PostgresStore {
    /// Opens the store in a schema. To write: makes the schema and its tables if they are not there.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the role or the password is refused, the role lacks a right, the server is a standby or too old, or the schema
    /// holds something else or a later format; [`ErrorKind::NotFound`] if there is no such database, or no store in it to be read;
    /// [`ErrorKind::Unavailable`] if the server is not there, or does not answer in [`Settings::timeout`].
    pub async fn open(mut settings: Settings, access: Access) -> Result<Self> {
        let deadline = Instant::now() + settings.timeout;
        let facts = |fault: Fault, settings: &Settings| {
            fault.told(OPENING).with("host", settings.connect.get_host()).with("schema", &settings.schema)
        };
        let mut looked = Self::probe(&settings, access, deadline).await;
        if !settings.pgbouncer && looked.as_ref().is_err_and(Fault::is_of_a_pooler) {
            settings.pgbouncer = true;
            looked = Self::probe(&settings, access, deadline).await;
        }
        let found = looked.map_err(|fault| facts(fault, &settings))?;
        let (pool, durability) = Self::prepare(&settings, access, &found, deadline)
            .await
            .map_err(|fault| facts(fault, &settings))?;
        Ok(Self { pool, settings, access, found, durability, changes: watch::Sender::new(0) })
    }

    async fn probe(settings: &Settings, access: Access, deadline: Instant) -> Result<Found, Fault> {
        let pool = Arc::new(Pool::new(settings, access, None, None));
        let mut session = pool.session(Purpose::Reading, deadline).await?;
        let found = config::probe(&mut session).await?;
        found.check()?;
        Ok(found)
    }

    async fn prepare(
        settings: &Settings,
        access: Access,
        found: &Found,
        deadline: Instant,
    ) -> Result<(Arc<Pool>, Durability), Fault> {
        let synchronous_commit = Some(found.synchronous_commit());
        let mut durability = found.durability();
        let mut listener = None;
        if durability == Durability::Replicated {
            // A commit that did not reach its standbys is told by a warning alone. Whether those can be heard is tried, not assumed.
            let pool = Arc::new(Pool::new(settings, access, synchronous_commit, Some(Listener)));
            let mut session = pool.session(Purpose::Reading, deadline).await?;
            if session.hears_warnings().await? {
                listener = Some(Listener);
            } else {
                durability = Durability::Disk;
            }
        }
        let pool = Arc::new(Pool::new(settings, access, synchronous_commit, listener));
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        config::make_tables(&mut session, settings, access).await?;
        drop(session);
        Ok((pool, durability))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
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
        work: impl Fn(Session) -> W + Send + Sync + 'static,
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
impl Backend for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "postgres",
            durability: self.durability,
            atomic_create: true,
            native_close: true,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
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
        let work = async move { writer::close(&pool, &log, through, deadline).await };
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
                async move { read::is_past(&mut session, &wanted).await }
            });
            if look.await? || Instant::now() >= deadline {
                return Ok(());
            }
            let next = deadline.min(Instant::now() + self.settings.look_every);
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
        let place = format!("{}:{}", self.settings.connect.get_host(), self.settings.connect.get_port());
        let facts = [
            ("host", place),
            ("database", self.settings.connect.get_database().unwrap_or_default().to_owned()),
            ("schema", self.settings.schema.clone()),
            ("pgbouncer", self.settings.pgbouncer.to_string()),
            ("durability_found", self.found.to_string()),
            ("conditional_writes", "hold: a primary key decides".to_owned()),
        ];
        examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        Ok(examination)
    }

    async fn shut_down(&self) -> Result<()> {
        self.pool.shut_down(self.deadline()).await;
        self.changed();
        Ok(())
    }
}
