//! Keeps logs in a database of MySQL or MariaDB: any number of processes, on any number of machines, may write and read it.
//!
//! The tables are in `wire`, and in `docs/formats/mysql.md`. They are those of PostgreSQL, and only what both of these servers know is used.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | the primary key of `icecore_commits`. Rows are added by plain `INSERT`s: all of a statement's rows, or an error; and nothing is inferred from a count: who has a slot is read back by its header |
//! | 2 unknown | what fails before a `COMMIT` is rolled back; what fails with it, whatever the server says, is looked at, sent again as it is, and else unknown. What was only seen is followed by a commit of ours before it is won |
//! | 3 durable | `innodb_flush_log_at_trx_commit`, `sync_binlog`, `innodb_doublewrite` and others, looked at when opening; less is declared where they say less |
//! | 4 fresh, chained | READ COMMITTED on the primary, set by us. The head is looked at under a shared lock, in the transaction that adds |
//! | 5 deletion | that transaction holds the log's row shared to its end, and who raises a boundary holds it alone |
//! | 6 bytes | `longblob` and `varbinary` columns, strict mode, set by us; a checksum a row |
//! | 7 neighbours | one transaction for all logs, its slots in order; who is stuck for a second is sent alone, and two that waited for each other go on. All or none is one transaction |
//! | 8 names | a log is listed if it has a commit: they are seen together. Names are bytes: no case is folded, no space at an end is lost |
//! | 9 blobs | the primary key of `icecore_blobs`; all parts in one transaction |

mod config;
mod fault;
mod wire;
mod writer;

use std::ops::Range;
use std::sync::Arc;

pub use icecore_log::Access;
use icecore_log::{BlobId, Error, ErrorKind, LogId, PageLimit, Result, Version};
use icecore_remote::Handle;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::time::Instant;

pub use crate::server::Bounds;
use crate::server::create::{ROW_BYTES, Task};
use crate::server::fault::{Fault, Stage};
use crate::server::pool::{Pool, Purpose, Session};
use crate::server::rows::{self, Row};
use crate::server::statement::{Statement, query};
use crate::server::writer::Part;
use crate::server::{Dialect, Done, OPENING, Server};
pub use config::Settings;
use writer::bind_names;

/// A [`Backend`](icecore_log::Backend) in a database of MySQL or MariaDB.
pub type MySqlStore = Handle<Server<MySql>>;

/// What is MySQL's and MariaDB's own.
#[derive(Debug)]
pub struct MySql {
    connect: MySqlConnectOptions,
    /// What a session is given when it is connected.
    session: String,
    statement_bytes: usize,
}

/// How many logs one statement asks for.
const NAMES_MAX: usize = 1_024;
/// Larger statements are not faster, and are held in memory.
const STATEMENT_BYTES_MAX: usize = 32 << 20;
/// As on PostgreSQL.
const COMMIT_BYTES_MAX: usize = 80 << 20;

impl MySql {
    /// Opens the store in a database. To write: makes its tables if they are not there.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if the user or the password is refused, the user lacks a right, the server is a replica or too old, or the
    /// tables are of something else or of a later format; [`NotFound`](ErrorKind::NotFound) if there is no such database, or no store in it to
    /// be read; [`Unavailable`](ErrorKind::Unavailable) if the server is not there, or does not answer in [`Bounds::timeout`].
    pub async fn open(settings: Settings, access: Access) -> Result<MySqlStore> {
        let deadline = Instant::now() + settings.bounds.timeout;
        let connect = &settings.connect;
        let prepared = Self::prepare(&settings, access, deadline).await;
        let (pool, found) =
            prepared.map_err(|fault: Fault| fault.told(OPENING).with("host", connect.get_host()))?;
        let mut facts = settings.bounds.facts(connect.get_username(), found.tls());
        facts.extend([
            ("host", format!("{}:{}", connect.get_host(), connect.get_port())),
            ("database", connect.get_database().unwrap_or_default().to_owned()),
            ("durability_found", found.to_string()),
            ("conditional_writes", "hold: a primary key decides".to_owned()),
        ]);
        Ok(Server::handle(pool, settings.bounds, access, found.durability(), facts))
    }

    async fn prepare(
        settings: &Settings,
        access: Access,
        deadline: Instant,
    ) -> Done<(Arc<Pool<MySql>>, config::Found)> {
        let pool = |statement_bytes| {
            let dialect = MySql {
                connect: settings.connect.clone(),
                session: settings.session(access),
                statement_bytes,
            };
            Arc::new(Pool::new(dialect, &settings.bounds))
        };
        let first = pool(0);
        let mut session = first.session(Purpose::Writing, deadline).await?;
        let found = config::probe(&mut session).await?;
        found.check(access)?;
        config::make_tables(&mut session, access).await?;
        drop(session);
        let pool = pool(found.statement_bytes());
        pool.take_over(&first);
        Ok((pool, found))
    }
}

impl Dialect for MySql {
    const SYSTEM: &'static str = "mysql";
    const ADDS_LOGS: bool = true;
    type Connection = MySqlConnection;
    type Database = sqlx::MySql;
    type Row = MySqlRow;

    async fn connect(&self) -> Done<MySqlConnection> {
        let said = |error: sqlx::Error| Self::fault(&error, Stage::Before);
        let mut connection = MySqlConnection::connect_with(&self.connect).await.map_err(said)?;
        let session = sqlx::raw_sql(AssertSqlSafe(self.session.as_str()));
        sqlx::Executor::execute(&mut connection, session).await.map_err(said)?;
        Ok(connection)
    }

    async fn ping(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        connection.ping().await
    }

    async fn hang_up(connection: MySqlConnection) -> sqlx::Result<()> {
        connection.close().await
    }

    async fn fetch(
        &self,
        connection: &mut MySqlConnection,
        statement: Statement<sqlx::MySql>,
        _stage: Stage,
    ) -> (sqlx::Result<Vec<MySqlRow>>, bool) {
        let sent = async { statement.query()?.fetch_all(connection).await };
        (sent.await, false)
    }

    async fn run(
        &self,
        connection: &mut MySqlConnection,
        sql: &str,
        _stage: Stage,
    ) -> (sqlx::Result<u64>, bool) {
        let sent = sqlx::Executor::execute(connection, sqlx::raw_sql(AssertSqlSafe(sql)));
        (sent.await.map(|answer| answer.rows_affected()), false)
    }

    fn begin(&self) -> &str {
        "START TRANSACTION"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn fault(error: &sqlx::Error, stage: Stage) -> Fault {
        fault::fault(error, stage)
    }

    fn is_over(fault: &Fault) -> bool {
        fault::is_over(fault)
    }

    fn statement_bytes(&self) -> usize {
        self.statement_bytes.min(STATEMENT_BYTES_MAX)
    }

    fn commit_bytes_max(&self) -> usize {
        self.statement_bytes.saturating_sub(ROW_BYTES).min(COMMIT_BYTES_MAX)
    }

    async fn add(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<usize>> {
        writer::add(session, tasks).await
    }

    async fn add_alone(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<usize>> {
        session.begin().await?;
        let added = writer::add(session, tasks).await?;
        if added.is_empty() {
            session.roll_back().await;
        } else {
            session.commit().await?;
        }
        Ok(added)
    }

    async fn slots(session: &mut Session<Self>, tasks: &[&mut Task<'_>]) -> Done<Vec<MySqlRow>> {
        let mut found = Vec::with_capacity(tasks.len());
        let number = |version: Option<Version>| version.and_then(rows::signed).unwrap_or(0);
        for task in tasks {
            let commits = task.rest();
            let statement = query(wire::slots())
                .bind(number(commits.first().map(|commit| commit.version)))
                .bind(number(commits.last().map(|commit| commit.version)))
                .bind(task.run.log.as_str().as_bytes());
            found.extend(session.look(statement).await?);
        }
        Ok(found)
    }

    async fn make_logs(pool: &Arc<Pool<Self>>, logs: &[LogId], deadline: Instant) -> Done<()> {
        for log in logs {
            writer::make_log(pool, log, deadline).await?;
        }
        Ok(())
    }

    async fn make_durable(session: &mut Session<Self>) -> Done<()> {
        loop {
            session.begin().await?;
            match session.execute(wire::TOUCH).await {
                Ok(1) => return session.commit().await,
                Ok(_) => {
                    session.roll_back().await;
                    let gone = Error::new(ErrorKind::Refused, "writing to a store");
                    return Err(gone.advise("The row of icecore_store is gone: restore the store").into());
                }
                Err(Fault::Stuck(_) | Fault::Raced(_)) if session.has_time() => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn page(
        session: &mut Session<Self>,
        log: &LogId,
        from: i64,
        limit: PageLimit,
    ) -> Done<Vec<MySqlRow>> {
        let name = log.as_str().as_bytes();
        let most = i64::try_from(limit.commits.max(1)).unwrap_or(i64::MAX);
        let bytes = i64::try_from(limit.bytes.max(1)).unwrap_or(i64::MAX);
        let statement = query(wire::page(limit.bodies));
        session.look(statement.bind(name).bind(from).bind(most).bind(bytes).bind(name)).await
    }

    async fn heads(session: &mut Session<Self>, logs: &[LogId]) -> Done<Vec<MySqlRow>> {
        let mut found = Vec::with_capacity(logs.len());
        for logs in logs.chunks(NAMES_MAX) {
            found.extend(session.look(bind_names(query(wire::heads(logs.len())), logs.iter())).await?);
        }
        Ok(found)
    }

    async fn is_past(session: &mut Session<Self>, seen: &[(LogId, Version)]) -> Done<bool> {
        for seen in seen.chunks(NAMES_MAX) {
            let names = seen.iter().map(|(log, _)| log);
            for row in session.look(bind_names(query(wire::versions(seen.len())), names)).await? {
                let (name, head) = (row.bytes(0)?, row.number_if_any(1)?.map_or(0, i64::cast_unsigned));
                let is_past =
                    |(log, seen): &(LogId, Version)| log.as_str().as_bytes() == name && head > seen.0;
                if seen.iter().any(is_past) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn names(
        session: &mut Session<Self>,
        range: Range<&[u8]>,
        after: Option<&str>,
        most: i64,
    ) -> Done<Vec<MySqlRow>> {
        // Every name comes after the empty one.
        let after = after.unwrap_or_default().as_bytes();
        session.look(query(wire::NAMES).bind(range.start).bind(range.end).bind(after).bind(most)).await
    }

    async fn parts(session: &mut Session<Self>, blob: &BlobId, parts: (i64, i64)) -> Done<Vec<MySqlRow>> {
        let (log, name) = (blob.log().as_str().as_bytes(), blob.name().as_bytes());
        let statement = query(wire::GET_PARTS).bind(name).bind(name).bind(parts.0).bind(parts.1);
        session.look(statement.bind(log)).await
    }

    async fn blobs(session: &mut Session<Self>, log: &LogId, range: Range<&[u8]>) -> Done<Vec<MySqlRow>> {
        let statement = query(wire::LIST_BLOBS).bind(log.as_str().as_bytes());
        session.look(statement.bind(range.start).bind(range.end)).await
    }

    async fn sizes(session: &mut Session<Self>) -> Done<Vec<MySqlRow>> {
        session.look(query(wire::SIZES)).await
    }

    async fn close(pool: &Arc<Pool<Self>>, log: &LogId, through: Version, deadline: Instant) -> Done<()> {
        writer::close(pool, log, through, deadline).await
    }

    async fn closed(session: &mut Session<Self>, log: &LogId) -> Done<Vec<MySqlRow>> {
        session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await
    }

    /// Who creates holds the log's row: whoever had not seen the boundary was over before it rose.
    async fn wait_for_writers(_session: &mut Session<Self>, _deadline: Instant) -> Done<()> {
        Ok(())
    }

    async fn sweep(session: &mut Session<Self>, id: i64, boundary: i64) -> Done<(u64, u64)> {
        writer::sweep(session, id, boundary).await
    }

    async fn drop_bodies(session: &mut Session<Self>, log: &LogId, versions: &[i64]) -> Done<()> {
        let found = Self::closed(session, log).await?;
        let Some(row) = found.first() else { return Ok(()) };
        let id = row.number(0)?;
        session.begin().await?;
        let mut dropped = 0;
        for versions in versions.chunks(NAMES_MAX) {
            let versions: Vec<String> = versions.iter().map(i64::to_string).collect();
            let sql = format!(
                "UPDATE icecore_commits SET body = NULL, body_crc = NULL, bytes = OCTET_LENGTH(header) WHERE log = {id} AND body IS NOT NULL AND version IN ({})",
                versions.join(", ")
            );
            dropped += session.execute(&sql).await?;
        }
        if dropped > 0 {
            return session.commit().await;
        }
        session.roll_back().await;
        // Others may have dropped them, and not been told yet.
        Self::make_durable(session).await
    }

    async fn put_first(
        session: &mut Session<Self>,
        blob: &BlobId,
        bytes: i64,
        crc: i64,
        content: &[u8],
    ) -> Done<Option<i64>> {
        let found = session.within(query(wire::CLOSED).bind(blob.log().as_str().as_bytes())).await?;
        let Some(row) = found.first() else {
            session.roll_back().await;
            let gone = Error::new(ErrorKind::Unavailable, "writing a blob").with("log", blob.log());
            return Err(gone.advise("Its log is not there: retry").into());
        };
        let log = row.number(0)?;
        match Self::put_part(session, Part { log, blob, part: 0, bytes, crc, content }).await {
            Ok(()) => Ok(Some(log)),
            Err(fault) if fault::is_there(&fault) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn put_part(session: &mut Session<Self>, part: Part<'_>) -> Done<()> {
        let statement = query(wire::PUT_PART)
            .bind(part.log)
            .bind(part.blob.name().as_bytes())
            .bind(part.part)
            .bind(part.bytes)
            .bind(part.crc)
            .bind(part.content);
        session.within(statement).await.map(drop)
    }

    async fn delete_blob(session: &mut Session<Self>, blob: &BlobId) -> Done<()> {
        let (log, name) = (blob.log().as_str().as_bytes(), blob.name().as_bytes());
        session.begin().await?;
        session.within(query(wire::DELETE_BLOB).bind(log).bind(name)).await?;
        session.commit().await
    }
}
