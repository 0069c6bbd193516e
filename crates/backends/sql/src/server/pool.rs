//! Connections, each for one piece of work at a time. One that was left in the middle of something is closed, never used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::config::Bounds;
use super::fault::{Fault, Stage};
use super::statement::Statement;
use super::{Dialect, closed};

/// What a connection is for. Those that read leave enough to those that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Reading,
    Writing,
}

pub(crate) struct Pool<D: Dialect> {
    pub dialect: D,
    timeout: Duration,
    ask_after: Duration,
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    writing_max: u32,
    idle: Mutex<Idle<D>>,
}

struct Idle<D: Dialect> {
    connections: Vec<(D::Connection, Instant)>,
    is_shut_down: bool,
}

/// How long an idle connection has to say that it lives.
const PING_PATIENCE: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Dialect> Pool<D> {
    pub fn new(dialect: D, bounds: &Bounds) -> Self {
        let writing_max = (bounds.connections_max / 2).max(1);
        let reading_max = bounds.connections_max.saturating_sub(writing_max).max(1);
        Self {
            dialect,
            timeout: bounds.timeout,
            ask_after: bounds.ask_after,
            reading: Arc::new(Semaphore::new(reading_max)),
            writing: Arc::new(Semaphore::new(writing_max)),
            writing_max: u32::try_from(writing_max).unwrap_or(u32::MAX),
            idle: Mutex::new(Idle { connections: Vec::new(), is_shut_down: false }),
        }
    }

    /// Goes on with the connections of another, which was the first to look at the server.
    pub fn take_over(&self, first: &Self) {
        lock(&self.idle).connections.append(&mut lock(&first.idle).connections);
    }

    /// Waits for a connection, or makes one.
    pub async fn session(self: &Arc<Self>, purpose: Purpose, deadline: Instant) -> Result<Session<D>, Fault> {
        let room = match purpose {
            Purpose::Reading => Arc::clone(&self.reading),
            Purpose::Writing => Arc::clone(&self.writing),
        };
        let permit = timeout_at(deadline, room.acquire_owned()).await;
        let permit = permit.map_err(|_| Fault::late(Stage::Before))?.map_err(|_| closed())?;
        let mut session = Session {
            pool: Arc::clone(self),
            connection: None,
            is_new: false,
            is_begun: false,
            is_busy: false,
            deadline,
            _permit: permit,
        };
        while let Some((mut connection, since)) = self.take()? {
            let is_old = since.elapsed() > self.ask_after;
            // A machine that is gone does not say so: there is to be time left for another.
            let until = deadline.min(Instant::now() + PING_PATIENCE);
            if !is_old || timeout_at(until, D::ping(&mut connection)).await.is_ok_and(|asked| asked.is_ok()) {
                session.connection = Some(connection);
                return Ok(session);
            }
            self.dialect.suspect();
        }
        session.is_new = true;
        session.connection = Some(self.connect(deadline).await?);
        Ok(session)
    }

    async fn connect(&self, deadline: Instant) -> Result<D::Connection, Fault> {
        let connected = timeout_at(deadline, self.dialect.connect()).await;
        connected.map_err(|_| {
            self.dialect.suspect();
            Fault::late(Stage::Before)
        })?
    }

    fn take(&self) -> Result<Option<(D::Connection, Instant)>, Fault> {
        let mut idle = lock(&self.idle);
        if idle.is_shut_down { Err(closed().into()) } else { Ok(idle.connections.pop()) }
    }

    /// Where one connection was cut, those that are idle may be too.
    fn forget(&self) {
        self.dialect.suspect();
        lock(&self.idle).connections.clear();
    }

    fn put_back(&self, connection: D::Connection) {
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
            let _ = timeout_at(deadline, D::hang_up(connection)).await;
        }
    }
}

/// A connection for one piece of work.
pub(crate) struct Session<D: Dialect> {
    pool: Arc<Pool<D>>,
    connection: Option<D::Connection>,
    /// The connection was made for this piece of work.
    is_new: bool,
    /// In a transaction that has not ended.
    is_begun: bool,
    /// Something was sent and not answered.
    is_busy: bool,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
}

impl<D: Dialect> Session<D> {
    /// Runs one statement as a transaction of its own, which is committed when this returns.
    pub async fn alone(&mut self, statement: Statement<D::Database>) -> Result<Vec<D::Row>, Fault> {
        if !self.pool.dialect.is_shared() {
            return self.send(statement, Stage::Committing).await;
        }
        self.begin().await?;
        let rows = self.within(statement).await?;
        self.commit().await?;
        Ok(rows)
    }

    /// Reads with one statement, in one look.
    pub async fn look(&mut self, statement: Statement<D::Database>) -> Result<Vec<D::Row>, Fault> {
        if !self.pool.dialect.is_shared() {
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

    pub async fn begin(&mut self) -> Result<(), Fault> {
        self.is_begun = true;
        let pool = Arc::clone(&self.pool);
        match self.control(pool.dialect.begin(), Stage::Before).await {
            // It was cut while it was idle, and nothing was asked of it yet.
            Err(Fault::Before(_)) if self.is_busy && !self.is_new => {
                self.connection = Some(pool.connect(self.deadline).await?);
                self.is_new = true;
                self.control(pool.dialect.begin(), Stage::Before).await.map(drop)
            }
            begun => begun.map(drop),
        }
    }

    /// Runs a statement in the transaction that was begun; if it fails, the transaction is over.
    pub async fn within(&mut self, statement: Statement<D::Database>) -> Result<Vec<D::Row>, Fault> {
        let sent = self.send(statement, Stage::Before).await;
        if sent.is_err() {
            self.roll_back().await;
        }
        sent
    }

    /// As [`Self::within`], for what has no parameters.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, Fault> {
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

    /// Runs what has no parameters; how many rows it changed.
    pub async fn control(&mut self, sql: &str, stage: Stage) -> Result<u64, Fault> {
        let Some(connection) = &mut self.connection else { return Err(closed().into()) };
        self.is_busy = true;
        let sent = self.pool.dialect.run(connection, sql, stage);
        let answer = timeout_at(self.deadline, sent).await.map_err(|_| self.late(stage))?;
        self.settle(answer, stage)
    }

    async fn send(&mut self, statement: Statement<D::Database>, stage: Stage) -> Result<Vec<D::Row>, Fault> {
        let Some(connection) = &mut self.connection else { return Err(closed().into()) };
        self.is_busy = true;
        let sent = self.pool.dialect.fetch(connection, statement, stage);
        let answer = timeout_at(self.deadline, sent).await.map_err(|_| self.late(stage))?;
        self.settle(answer, stage)
    }

    fn late(&self, stage: Stage) -> Fault {
        self.pool.forget();
        Fault::late(stage)
    }

    /// After an answer: whether the connection can go on, and what the answer says.
    fn settle<T>(&mut self, answer: (sqlx::Result<T>, bool), stage: Stage) -> Result<T, Fault> {
        match answer {
            (Ok(_), true) => {
                self.is_busy = false;
                Err(Fault::warned())
            }
            (Ok(answer), false) => {
                self.is_busy = false;
                Ok(answer)
            }
            (Err(error), _) => {
                let fault = D::fault(&error, stage);
                // What the server refused leaves the session as it was. What ended it, or is no answer at all, does not.
                let is_over = D::is_over(&fault);
                self.is_busy = is_over;
                if is_over {
                    self.pool.forget();
                }
                Err(fault)
            }
        }
    }

    /// Whether something was sent and not answered.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Whether there is time for another attempt.
    pub fn has_time(&self) -> bool {
        Instant::now() < self.deadline
    }
}

impl<D: Dialect> Drop for Session<D> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_busy
            && !self.is_begun
        {
            self.pool.put_back(connection);
        }
    }
}
