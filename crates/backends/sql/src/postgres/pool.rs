//! Connections, each for one piece of work at a time. One that was left in the middle of something is closed, never used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_log::Access;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::closed;
use super::config::Settings;
use super::fault::{Fault, Stage};
use super::notices::Listener;

/// What a connection is for. Those that read leave enough to those that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Reading,
    Writing,
}

pub(super) struct Pool {
    connect: PgConnectOptions,
    /// Begins a transaction; where sessions are shared, with all that is ours about it.
    begin: String,
    is_shared: bool,
    timeout: Duration,
    ask_after: Duration,
    listener: Option<Listener>,
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    writing_max: u32,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(PgConnection, Instant)>,
    is_shut_down: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Pool {
    /// `synchronous_commit` as it is to be set; the server's own where it is not known yet.
    pub fn new(
        settings: &Settings,
        access: Access,
        synchronous_commit: Option<&str>,
        listener: Option<Listener>,
    ) -> Self {
        let milliseconds = |duration: Duration| duration.as_millis().max(1).to_string();
        // `pg_temp` comes first unless it is named: a table there must not take the place of one of ours.
        let mut set = vec![
            ("search_path", format!("{},pg_temp", settings.schema)),
            ("lock_timeout", milliseconds(settings.lock_timeout)),
            ("statement_timeout", milliseconds(settings.timeout)),
            ("idle_in_transaction_session_timeout", milliseconds(settings.timeout)),
        ];
        if let Some(synchronous_commit) = synchronous_commit {
            set.push(("synchronous_commit", synchronous_commit.to_owned()));
        }
        let mode = if access == Access::ReadOnly { "READ ONLY" } else { "READ WRITE" };
        let mut begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED {mode}");
        let mut connect = settings.connect.clone();
        if settings.pgbouncer {
            for (name, value) in &set {
                begin.push_str(&format!("; SET LOCAL {name} = {}", quoted(name, value)));
            }
        } else {
            let read_only = if access == Access::ReadOnly { "on" } else { "off" };
            set.push(("default_transaction_isolation", "read committed".to_owned()));
            set.push(("default_transaction_read_only", read_only.to_owned()));
            set.extend(PLANS.map(|(name, value)| (name, value.to_owned())));
            connect = connect.options(set);
        }
        let writing_max = (settings.connections_max / 2).max(1);
        let reading_max = settings.connections_max.saturating_sub(writing_max).max(1);
        Self {
            connect,
            begin,
            is_shared: settings.pgbouncer,
            timeout: settings.timeout,
            ask_after: settings.ask_after,
            listener,
            reading: Arc::new(Semaphore::new(reading_max)),
            writing: Arc::new(Semaphore::new(writing_max)),
            writing_max: u32::try_from(writing_max).unwrap_or(u32::MAX),
            idle: Mutex::default(),
        }
    }

    pub fn is_shut_down(&self) -> bool {
        lock(&self.idle).is_shut_down
    }

    /// Waits for a connection, or makes one.
    pub async fn session(self: &Arc<Self>, purpose: Purpose, deadline: Instant) -> Result<Session, Fault> {
        let room = match purpose {
            Purpose::Reading => Arc::clone(&self.reading),
            Purpose::Writing => Arc::clone(&self.writing),
        };
        let permit = timeout_at(deadline, room.acquire_owned()).await;
        let permit = permit.map_err(|_| Fault::late(Stage::Before))?.map_err(|_| closed())?;
        let mut session = Session {
            pool: Arc::clone(self),
            connection: None,
            is_begun: false,
            is_busy: false,
            deadline,
            _permit: permit,
        };
        while let Some((mut connection, since)) = self.take()? {
            let is_old = since.elapsed() > self.ask_after;
            if !is_old || timeout_at(deadline, connection.ping()).await.is_ok_and(|asked| asked.is_ok()) {
                session.connection = Some(connection);
                return Ok(session);
            }
        }
        let connected = timeout_at(deadline, PgConnection::connect_with(&self.connect)).await;
        let connected = connected.map_err(|_| Fault::late(Stage::Before))?;
        session.connection = Some(connected.map_err(|error| Fault::new(&error, Stage::Before))?);
        Ok(session)
    }

    fn take(&self) -> Result<Option<(PgConnection, Instant)>, Fault> {
        let mut idle = lock(&self.idle);
        if idle.is_shut_down { Err(closed().into()) } else { Ok(idle.connections.pop()) }
    }

    /// Where one connection was cut, those that are idle may be too.
    fn forget(&self) {
        lock(&self.idle).connections.clear();
    }

    fn put_back(&self, connection: PgConnection) {
        let mut idle = lock(&self.idle);
        if !idle.is_shut_down {
            idle.connections.push((connection, Instant::now()));
        }
    }

    /// Waits for what is being written, and closes the connections.
    pub async fn shut_down(&self, deadline: Instant) {
        // Those that are late are told that the outcome is unknown.
        let _written = timeout_at(deadline, self.writing.acquire_many(self.writing_max)).await;
        self.writing.close();
        self.reading.close();
        let connections = {
            let mut idle = lock(&self.idle);
            idle.is_shut_down = true;
            std::mem::take(&mut idle.connections)
        };
        for (connection, _) in connections {
            // The server notices a connection that ends without a word as well.
            let _ = timeout_at(deadline, connection.close()).await;
        }
    }
}

/// Numbers and words stand as strings; a path of schemas is a list of names, none of which has to be quoted.
fn quoted(name: &str, value: &str) -> String {
    if name == "search_path" { value.to_owned() } else { format!("'{value}'") }
}

/// A connection for one piece of work.
pub(super) struct Session {
    pool: Arc<Pool>,
    connection: Option<PgConnection>,
    /// In a transaction that has not ended.
    is_begun: bool,
    /// Something was sent and not answered.
    is_busy: bool,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
}

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl Session {
    /// Runs one statement as a transaction of its own, which is committed when this returns.
    pub async fn alone(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        if !self.pool.is_shared {
            return self.send(statement, Stage::Committing).await;
        }
        self.begin().await?;
        let rows = self.within(statement).await?;
        self.commit().await?;
        Ok(rows)
    }

    /// Reads with one statement, in one look.
    pub async fn look(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        if !self.pool.is_shared {
            return self.send(statement, Stage::Before).await;
        }
        self.begin().await?;
        let rows = self.within(statement).await?;
        self.control("COMMIT", Stage::Before).await?;
        self.is_begun = false;
        Ok(rows)
    }

    /// Gives what follows as much time as a call of its own.
    pub fn renew(&mut self) {
        self.deadline = Instant::now() + self.pool.timeout;
    }

    /// Whether a warning of the server is heard: it gives one when a transaction is ended that was not begun.
    pub async fn hears_warnings(&mut self) -> Result<bool, Fault> {
        match self.control("COMMIT", Stage::Committing).await {
            Err(Fault::Doubt(_)) if !self.is_busy => Ok(true),
            told => told.map(|()| false),
        }
    }

    pub async fn begin(&mut self) -> Result<(), Fault> {
        let begin = self.pool.begin.clone();
        self.is_begun = true;
        self.control(&begin, Stage::Before).await
    }

    /// Runs a statement in the transaction that was begun; if it fails, the transaction is over.
    pub async fn within(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        let sent = self.send(statement, Stage::Before).await;
        if sent.is_err() {
            self.roll_back().await;
        }
        sent
    }

    /// As [`Self::within`], for what has no parameters.
    pub async fn execute(&mut self, sql: &str) -> Result<(), Fault> {
        let sent = self.control(sql, Stage::Before).await;
        if sent.is_err() {
            self.roll_back().await;
        }
        sent
    }

    pub async fn commit(&mut self) -> Result<(), Fault> {
        self.control("COMMIT", Stage::Committing).await?;
        self.is_begun = false;
        Ok(())
    }

    /// Gives the transaction up. If even that fails the connection is closed, which comes to the same.
    pub async fn roll_back(&mut self) {
        if !self.is_busy && self.control("ROLLBACK", Stage::Before).await.is_ok() {
            self.is_begun = false;
        }
    }

    async fn control(&mut self, sql: &str, stage: Stage) -> Result<(), Fault> {
        let listening = self.pool.listener.as_ref().filter(|_| stage == Stage::Committing);
        let Some(connection) = &mut self.connection else { return Err(closed().into()) };
        self.is_busy = true;
        // Built from constants, and from names that were checked.
        let sent = sqlx::Executor::execute(connection, sqlx::raw_sql(AssertSqlSafe(sql)));
        let (answer, is_warned) = Listener::hear(listening, timeout_at(self.deadline, sent)).await;
        let answer = answer.map_err(|_| self.late(stage))?;
        self.settle(answer.map(drop), is_warned, stage)
    }

    async fn send(&mut self, statement: Statement<'_>, stage: Stage) -> Result<Vec<PgRow>, Fault> {
        let listening = self.pool.listener.as_ref().filter(|_| stage == Stage::Committing);
        let statement = statement.persistent(!self.pool.is_shared);
        let Some(connection) = &mut self.connection else { return Err(closed().into()) };
        self.is_busy = true;
        let sent = statement.fetch_all(connection);
        let (answer, is_warned) = Listener::hear(listening, timeout_at(self.deadline, sent)).await;
        let answer = answer.map_err(|_| self.late(stage))?;
        self.settle(answer, is_warned, stage)
    }

    fn late(&self, stage: Stage) -> Fault {
        self.pool.forget();
        Fault::late(stage)
    }

    /// After an answer: whether the connection can go on, and what the answer says.
    fn settle<T>(
        &mut self,
        answer: Result<T, sqlx::Error>,
        is_warned: bool,
        stage: Stage,
    ) -> Result<T, Fault> {
        match answer {
            Ok(_) if is_warned => {
                self.is_busy = false;
                Err(Fault::warned())
            }
            Ok(answer) => {
                self.is_busy = false;
                Ok(answer)
            }
            Err(error) => {
                let fault = Fault::new(&error, stage);
                // What the server refused leaves the session as it was. What ended it, or is no answer at all, does not.
                let is_over =
                    fault.state().is_none_or(|state| ["08", "57", "58", "XX"].contains(&&state[..2]));
                self.is_busy = is_over;
                if is_over {
                    self.pool.forget();
                }
                Err(fault)
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_busy
            && !self.is_begun
        {
            self.pool.put_back(connection);
        }
    }
}
