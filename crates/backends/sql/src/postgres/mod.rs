//! Keeps logs in a schema of a PostgreSQL database: any number of processes, on any number of machines, may write and read it.
//!
//! The tables are in `wire`, and in `docs/formats/postgres.md`. A log has a row in `logs`, with an id in order of creation so that logs
//! of one age lie together; a commit has a row in `commits`. There is no row of the head: an append adds a row and changes none.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | the primary key of `commits`; a run is added by one statement, all of it or nothing |
//! | 2 unknown | what fails before a commit is sent is rolled back; what fails with it is looked at, sent again as it is, and else unknown. What was only seen is followed by a commit of ours before it is won |
//! | 3 durable | `fsync`, `full_page_writes`, `synchronous_commit` and `synchronous_standby_names`, looked at by each connection; less is declared where they say less |
//! | 4 fresh, chained | READ COMMITTED on the primary, set by us, and on no earlier timeline than one that was seen: a statement sees what was committed before it. The predecessor is looked at in the statement that adds |
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
mod places;
mod primary;
mod wire;
mod writer;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use icecore_log::Access;
use icecore_log::{BlobId, Durability, LogId, PageLimit, Result, Version};
use icecore_remote::Handle;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

pub use crate::server::Bounds;
use crate::server::create::Task;
use crate::server::fault::{Fault, Stage};
use crate::server::pool::{Pool, Purpose, Session};
use crate::server::rows::{self, PART_BYTES, Row};
use crate::server::statement::{Statement, query};
use crate::server::writer::Part;
use crate::server::{Dialect, Done, OPENING, Server};
use config::Found;
pub use config::Settings;
use notices::Listener;
use primary::Primary;

/// A [`Backend`](icecore_log::Backend) in a PostgreSQL database.
pub type PostgresStore = Handle<Server<Postgres>>;

/// What is PostgreSQL's own.
#[derive(Debug)]
pub struct Postgres {
    servers: Vec<PgConnectOptions>,
    primary: Arc<Primary>,
    /// Begins a transaction; where sessions are shared, with all that is ours about it.
    begin: String,
    is_shared: bool,
    listener: Option<Listener>,
}

/// Every statement of ours looks up a few rows by their keys, whatever the tables' statistics say, and those of new tables say nothing:
/// one plan for all times, without sorting or scanning. To plan each create anew costs as much as to carry it out.
const PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

impl Postgres {
    /// `synchronous_commit` as it is to be set; the server's own where it is not known yet.
    fn new(
        settings: &Settings,
        access: Access,
        primary: &Arc<Primary>,
        synchronous_commit: Option<&str>,
        listener: Option<Listener>,
    ) -> Self {
        let milliseconds = |duration: Duration| duration.as_millis().max(1).to_string();
        // `pg_temp` comes first unless it is named: a table there must not take the place of one of ours.
        let mut set = vec![
            ("search_path", format!("{},pg_temp", settings.schema)),
            ("lock_timeout", milliseconds(settings.bounds.lock_timeout)),
            ("statement_timeout", milliseconds(settings.bounds.timeout)),
            ("idle_in_transaction_session_timeout", milliseconds(settings.bounds.timeout)),
        ];
        if let Some(synchronous_commit) = synchronous_commit {
            set.push(("synchronous_commit", synchronous_commit.to_owned()));
        }
        let mode = if access == Access::ReadOnly { "READ ONLY" } else { "READ WRITE" };
        let mut begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED {mode}");
        let mut servers = settings.connect.clone();
        if settings.pgbouncer {
            for (name, value) in &set {
                begin.push_str(&format!("; SET LOCAL {name} = {}", quoted(name, value)));
            }
        } else {
            let read_only = if access == Access::ReadOnly { "on" } else { "off" };
            set.push(("default_transaction_isolation", "read committed".to_owned()));
            set.push(("default_transaction_read_only", read_only.to_owned()));
            set.extend(PLANS.map(|(name, value)| (name, value.to_owned())));
            servers = servers.into_iter().map(|server| server.options(set.clone())).collect();
        }
        let primary = Arc::clone(primary);
        Self { servers, primary, begin, is_shared: settings.pgbouncer, listener }
    }
}

/// Numbers and words stand as strings; a path of schemas is a list of names, none of which has to be quoted.
fn quoted(name: &str, value: &str) -> String {
    if name == "search_path" { value.to_owned() } else { format!("'{value}'") }
}

impl Postgres {
    /// Opens the store in a schema. To write: makes the schema and its tables if they are not there.
    ///
    /// # Errors
    /// [`Refused`](icecore_log::ErrorKind::Refused) if the role or the password is refused, the role lacks a right, the server is a standby or too
    /// old, or the schema holds something else or a later format; [`NotFound`](icecore_log::ErrorKind::NotFound) if there is no such database, or no
    /// store in it to be read; [`Unavailable`](icecore_log::ErrorKind::Unavailable) if the server is not there, or does not answer in
    /// [`Bounds::timeout`].
    pub async fn open(mut settings: Settings, access: Access) -> Result<PostgresStore> {
        let deadline = Instant::now() + settings.bounds.timeout;
        let primary = Arc::<Primary>::default();
        let facts = |fault: Fault, settings: &Settings| {
            fault.told(OPENING).with("host", settings.hosts()).with("schema", &settings.schema)
        };
        let mut looked = Self::probe(&settings, access, &primary, deadline).await;
        if !settings.pgbouncer && looked.as_ref().is_err_and(fault::is_of_a_pooler) {
            settings.pgbouncer = true;
            looked = Self::probe(&settings, access, &primary, deadline).await;
        }
        let looked = looked.map_err(|fault| facts(fault, &settings))?;
        let tls = looked.1.tls.clone();
        let (pool, durability) = Self::prepare(&settings, access, &primary, looked, deadline)
            .await
            .map_err(|fault| facts(fault, &settings))?;
        let user = settings.connect.first().map_or("", PgConnectOptions::get_username);
        let mut facts = settings.bounds.facts(user, tls.as_deref());
        facts.extend([
            ("host", settings.hosts()),
            ("database", settings.database().to_owned()),
            ("schema", settings.schema.clone()),
            ("pgbouncer", settings.pgbouncer.to_string()),
            ("conditional_writes", "hold: a primary key decides".to_owned()),
        ]);
        Ok(Server::handle(pool, settings.bounds, access, durability, facts))
    }

    fn pool(
        settings: &Settings,
        access: Access,
        primary: &Arc<Primary>,
        synchronous_commit: Option<&str>,
        listener: Option<Listener>,
    ) -> Arc<Pool<Postgres>> {
        let dialect = Postgres::new(settings, access, primary, synchronous_commit, listener);
        Arc::new(Pool::new(dialect, &settings.bounds))
    }

    /// A connection that has looked at the server, and what it found.
    async fn probe(
        settings: &Settings,
        access: Access,
        primary: &Arc<Primary>,
        deadline: Instant,
    ) -> Done<(Arc<Pool<Postgres>>, Found)> {
        let pool = Self::pool(settings, access, primary, None, None);
        // What it says about itself is asked for by whoever connects.
        let _session = pool.session(Purpose::Reading, deadline).await?;
        let found = primary.found().ok_or_else(|| Fault::late(Stage::Before))?;
        found.check()?;
        Ok((pool, found))
    }

    async fn prepare(
        settings: &Settings,
        access: Access,
        primary: &Arc<Primary>,
        (first, found): (Arc<Pool<Postgres>>, Found),
        deadline: Instant,
    ) -> Done<(Arc<Pool<Postgres>>, Durability)> {
        let synchronous_commit = found.synchronous_commit();
        if !settings.pgbouncer {
            // Every later connection begins with it. Set even if it is what the server has: that may be changed while we are connected.
            let mut session = first.session(Purpose::Reading, deadline).await?;
            let set = format!("SET synchronous_commit = '{synchronous_commit}'");
            session.control(&set, Stage::Before).await?;
        }
        let next = |before: &Pool<Postgres>, listener| {
            let pool = Self::pool(settings, access, primary, Some(synchronous_commit), listener);
            pool.take_over(before);
            pool
        };
        let mut durability = found.durability();
        let is_replicated = durability == Durability::Replicated;
        let mut pool = next(&first, is_replicated.then_some(Listener));
        // A commit that did not reach its standbys is told by a warning alone. Whether those can be heard is tried, not assumed.
        if is_replicated && !hears_warnings(&mut pool.session(Purpose::Reading, deadline).await?).await? {
            durability = Durability::Disk;
            pool = next(&pool, None);
        }
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        config::make_tables(&mut session, settings, access).await?;
        drop(session);
        Ok((pool, durability))
    }
}

/// Whether a warning of the server is heard: it gives one when a transaction is ended that was not begun.
async fn hears_warnings(session: &mut Session<Postgres>) -> Done<bool> {
    match session.control("COMMIT", Stage::Committing).await {
        Err(Fault::Doubt(_)) if !session.is_busy() => Ok(true),
        told => told.map(|_| false),
    }
}

impl Dialect for Postgres {
    const SYSTEM: &'static str = "postgres";
    const ADDS_LOGS: bool = false;
    type Connection = PgConnection;
    type Database = sqlx::Postgres;
    type Row = PgRow;

    async fn connect(&self) -> Done<PgConnection> {
        self.primary.connect(&self.servers).await
    }

    fn suspect(&self) {
        self.primary.suspect();
    }

    fn durability(&self, declared: Durability) -> Durability {
        self.primary.durability(declared)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let found = self.primary.found().into_iter();
        found
            .flat_map(|found| [("durability_found", found.to_string()), ("timeline", found.history())])
            .collect()
    }

    async fn ping(connection: &mut PgConnection) -> sqlx::Result<()> {
        connection.ping().await
    }

    async fn hang_up(connection: PgConnection) -> sqlx::Result<()> {
        connection.close().await
    }

    async fn fetch(
        &self,
        connection: &mut PgConnection,
        statement: Statement<sqlx::Postgres>,
        stage: Stage,
    ) -> (sqlx::Result<Vec<PgRow>>, bool) {
        let sent = async { statement.kept(!self.is_shared).query()?.fetch_all(connection).await };
        Listener::hear(self.listening(stage), sent).await
    }

    async fn run(&self, connection: &mut PgConnection, sql: &str, stage: Stage) -> (sqlx::Result<u64>, bool) {
        let sent = sqlx::Executor::execute(connection, sqlx::raw_sql(AssertSqlSafe(sql)));
        let (answer, is_warned) = Listener::hear(self.listening(stage), sent).await;
        (answer.map(|answer| answer.rows_affected()), is_warned)
    }

    fn begin(&self) -> &str {
        &self.begin
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn fault(error: &sqlx::Error, stage: Stage) -> Fault {
        fault::fault(error, stage)
    }

    fn is_over(fault: &Fault) -> bool {
        fault::is_over(fault)
    }

    /// A statement is held in the server's memory three times over.
    fn statement_bytes(&self) -> usize {
        32 << 20
    }

    fn commit_bytes_max(&self) -> usize {
        80 << 20
    }

    async fn add(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<usize>> {
        create::places(&session.within(create::statement(tasks)).await?)
    }

    /// One statement is as good as a transaction.
    async fn add_alone(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<usize>> {
        create::places(&session.alone(create::statement(tasks)).await?)
    }

    async fn slots(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<PgRow>> {
        session.look(create::slots(tasks)).await
    }

    async fn make_logs(pool: &Arc<Pool<Self>>, logs: &[LogId], deadline: Instant) -> Done<()> {
        writer::make_logs(pool, logs, deadline).await
    }

    async fn make_durable(session: &mut Session<Self>) -> Done<()> {
        session.alone(query(wire::MAKE_DURABLE)).await.map(drop)
    }

    async fn page(session: &mut Session<Self>, log: &LogId, from: i64, limit: PageLimit) -> Done<Vec<PgRow>> {
        let most = i64::try_from(limit.commits.max(1)).unwrap_or(i64::MAX);
        let bytes = i64::try_from(limit.bytes.max(1)).unwrap_or(i64::MAX);
        let sql = if limit.bodies { wire::PAGE } else { wire::PAGE_OF_HEADERS };
        session.look(query(sql).bind(log.as_str().as_bytes()).bind(from).bind(most).bind(bytes)).await
    }

    async fn heads(session: &mut Session<Self>, logs: &[LogId]) -> Done<Vec<PgRow>> {
        let names: Vec<&[u8]> = logs.iter().map(|log| log.as_str().as_bytes()).collect();
        session.look(query(wire::HEADS).bind(names)).await
    }

    async fn is_past(session: &mut Session<Self>, seen: &[(LogId, Version)]) -> Done<bool> {
        let names: Vec<&[u8]> = seen.iter().map(|(log, _)| log.as_str().as_bytes()).collect();
        let signed = |version| rows::signed(version).unwrap_or(i64::MAX);
        let versions: Vec<i64> = seen.iter().map(|(_, version)| signed(*version)).collect();
        let found = session.look(query(wire::IS_PAST).bind(names).bind(versions)).await?;
        Ok(!found.is_empty())
    }

    async fn names(
        session: &mut Session<Self>,
        range: Range<&[u8]>,
        after: Option<&str>,
        most: i64,
    ) -> Done<Vec<PgRow>> {
        let statement = query(wire::NAMES).bind(range.start).bind(range.end).bind(after.map(str::as_bytes));
        session.look(statement.bind(most)).await
    }

    async fn parts(session: &mut Session<Self>, blob: &BlobId, parts: (i64, i64)) -> Done<Vec<PgRow>> {
        let statement = query(wire::GET_PARTS)
            .bind(blob.log().as_str().as_bytes())
            .bind(blob.name().as_bytes())
            .bind(parts.0)
            .bind(parts.1);
        session.look(statement).await
    }

    async fn blobs(session: &mut Session<Self>, log: &LogId, range: Range<&[u8]>) -> Done<Vec<PgRow>> {
        let statement = query(wire::LIST_BLOBS).bind(log.as_str().as_bytes());
        session.look(statement.bind(range.start).bind(range.end)).await
    }

    async fn sizes(session: &mut Session<Self>) -> Done<Vec<PgRow>> {
        session.look(query(wire::SIZES)).await
    }

    async fn followers(session: &mut Session<Self>) -> Done<Option<String>> {
        match session.look(query(wire::WHO_FOLLOWS)).await {
            Ok(rows) => rows.first().map(|row| row.text(0)).transpose(),
            Err(fault) if session.is_busy() => Err(fault),
            // What only speaks as PostgreSQL does may not know of standbys.
            Err(_) => Ok(None),
        }
    }

    async fn close(pool: &Arc<Pool<Self>>, log: &LogId, through: Version, deadline: Instant) -> Done<()> {
        writer::close(pool, log, through, deadline).await
    }

    async fn closed(session: &mut Session<Self>, log: &LogId) -> Done<Vec<PgRow>> {
        session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await
    }

    async fn wait_for_writers(session: &mut Session<Self>, deadline: Instant) -> Done<()> {
        writer::wait_for_writers(session, deadline).await
    }

    async fn sweep(session: &mut Session<Self>, id: i64, boundary: i64) -> Done<(u64, u64)> {
        let found = session.alone(query(wire::SWEEP).bind(id).bind(boundary)).await?;
        let Some(row) = found.first() else { return Ok((0, 0)) };
        Ok((row.number(0)?.cast_unsigned(), row.number(1)?.cast_unsigned()))
    }

    async fn drop_bodies(session: &mut Session<Self>, log: &LogId, versions: &[i64]) -> Done<()> {
        let statement = query(wire::DROP_BODIES).bind(log.as_str().as_bytes()).bind(versions);
        session.alone(statement).await.map(drop)
    }

    async fn put_first(
        session: &mut Session<Self>,
        blob: &BlobId,
        bytes: i64,
        crc: i64,
        content: &[u8],
    ) -> Done<Option<i64>> {
        let statement = query(wire::PUT_BLOB)
            .bind(blob.log().as_str().as_bytes())
            .bind(blob.name().as_bytes())
            .bind(bytes)
            .bind(crc)
            .bind(content);
        session.within(statement).await?.first().map(|row| row.number(0)).transpose()
    }

    async fn put_part(session: &mut Session<Self>, part: Part<'_>) -> Done<()> {
        let statement = query(wire::PUT_PART)
            .bind(part.log)
            .bind(part.part)
            .bind(part.blob.name().as_bytes())
            .bind(part.bytes)
            .bind(part.crc)
            .bind(part.content);
        session.within(statement).await.map(drop)
    }

    async fn delete_blob(session: &mut Session<Self>, blob: &BlobId) -> Done<()> {
        let statement = query(wire::DELETE_BLOB)
            .bind(blob.log().as_str().as_bytes())
            .bind(blob.name().as_bytes())
            .bind(PART_BYTES as i64);
        session.alone(statement).await.map(drop)
    }
}

impl Postgres {
    fn listening(&self, stage: Stage) -> Option<&Listener> {
        self.listener.as_ref().filter(|_| stage == Stage::Committing)
    }
}
