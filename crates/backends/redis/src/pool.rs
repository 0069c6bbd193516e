//! Connections, each for one piece of work at a time, and which server they go to. One that was left in the middle of something is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use icecore_log::{Error, ErrorKind};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::answer;
use crate::config::{Address, Login, Servers, Settings};
use crate::fault::Fault;
use crate::keys::Bucket;

/// What a connection is for. Those that read leave enough to those that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Reading,
    Writing,
}

pub(crate) struct Pool {
    settings: Settings,
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    idle: HashMap<Node, Vec<MultiplexedConnection>>,
    /// Which node of a cluster has which slots; `None` until it is asked for, and when it has turned out to be old.
    slots: Option<Arc<Slots>>,
}

/// The first and the last slot of a range, and the primary that has them.
type Slots = Vec<(u16, u16, Address)>;

/// A server, as it is found: by its address, or by what Sentinels call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Node {
    At(Address),
    Primary,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub fn new(settings: Settings) -> Self {
        let writing = (settings.connections_max / 2).max(1);
        let reading = settings.connections_max.saturating_sub(writing).max(1);
        Self {
            settings,
            reading: Arc::new(Semaphore::new(reading)),
            writing: Arc::new(Semaphore::new(writing)),
            state: Mutex::default(),
        }
    }

    /// Whether a server may be a replica and not say so when it is read.
    pub fn may_be_replica(&self) -> bool {
        !matches!(self.settings.servers, Servers::Cluster(_))
    }

    /// Where a bucket is.
    pub async fn node(&self, bucket: Bucket, deadline: Instant) -> Result<Node, Fault> {
        let slots = match &self.settings.servers {
            Servers::One(address) => return Ok(Node::At(address.clone())),
            Servers::Sentinel(..) => return Ok(Node::Primary),
            Servers::Cluster(_) => self.slots(deadline).await?,
        };
        let slot = bucket.slot();
        let found = slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        found.map(|(_, _, address)| Node::At(address.clone())).ok_or_else(|| {
            self.forget_slots();
            Fault::uncovered()
        })
    }

    /// Every server that holds a part of the store.
    pub async fn nodes(&self, deadline: Instant) -> Result<Vec<Node>, Fault> {
        match &self.settings.servers {
            Servers::Cluster(_) => {
                let slots = self.slots(deadline).await?;
                let mut nodes: Vec<_> =
                    slots.iter().map(|(_, _, address)| Node::At(address.clone())).collect();
                nodes.sort();
                nodes.dedup();
                Ok(nodes)
            }
            _ => Ok(vec![self.node(Bucket::STORE, deadline).await?]),
        }
    }

    /// Waits for a connection, or makes one.
    pub async fn session(
        self: &Arc<Self>,
        node: &Node,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Session, Fault> {
        let room = match purpose {
            Purpose::Reading => Arc::clone(&self.reading),
            Purpose::Writing => Arc::clone(&self.writing),
        };
        let permit = timeout_at(deadline, room.acquire_owned()).await;
        let permit = permit.map_err(|_| Fault::busy())?.map_err(|_| Fault::busy())?;
        let idle = lock(&self.state).idle.get_mut(node).and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect(node, deadline).await?,
        };
        let (pool, node) = (Arc::clone(self), node.clone());
        Ok(Session { pool, node, connection: Some(connection), is_busy: false, _permit: permit })
    }

    async fn connect(&self, node: &Node, deadline: Instant) -> Result<MultiplexedConnection, Fault> {
        match (node, &self.settings.servers) {
            (Node::Primary, Servers::Sentinel(sentinels, name)) => {
                self.connect_primary(sentinels, name, deadline).await
            }
            (Node::At(address), _) => self.connect_to(address, &self.settings.login, deadline).await,
            (Node::Primary, _) => Err(Fault::replica()),
        }
    }

    async fn connect_to(
        &self,
        address: &Address,
        login: &Login,
        deadline: Instant,
    ) -> Result<MultiplexedConnection, Fault> {
        let client = self.settings.client(address, login)?;
        // The deadlines are ours.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connected = timeout_at(deadline, client.get_multiplexed_async_connection_with_config(&config));
        let connected = connected.await.map_err(|_| Fault::unreachable())?;
        let mut connection = connected.map_err(|error| Fault::connecting(&error))?;
        // Who is not let in, or finds nobody, is told before anything is sent that might be carried out.
        let mut ask = redis::pipe();
        ask.cmd("PING");
        let sent = timeout_at(deadline, connection.send_packed_commands(&ask, 0, 1)).await;
        let answered = sent.map_err(|_| Fault::unreachable())?;
        match answered.map_err(|error| Fault::connecting(&error))?.into_iter().next() {
            Some(Value::ServerError(error)) => Err(Fault::of(&error)),
            _ => Ok(connection),
        }
    }

    /// Asks one Sentinel after the other; one that was away for long may name a server that is a replica by now.
    async fn connect_primary(
        &self,
        sentinels: &[Address],
        name: &str,
        deadline: Instant,
    ) -> Result<MultiplexedConnection, Fault> {
        let mut last = Fault::replica();
        for sentinel in sentinels {
            // One that is cut off must not use up the time of all.
            let until = deadline.min(Instant::now() + self.settings.timeout / 4);
            match self.primary_by(sentinel, name, until).await {
                Ok(connection) => return Ok(connection),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn primary_by(
        &self,
        sentinel: &Address,
        name: &str,
        deadline: Instant,
    ) -> Result<MultiplexedConnection, Fault> {
        let mut asked = self.connect_to(sentinel, &self.settings.sentinel_login, deadline).await?;
        let mut ask = redis::pipe();
        ask.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let said = exchange(&mut asked, &ask, deadline).await?.into_iter().next();
        let address = said.and_then(answer::address).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "opening a store")
                .with("sentinel", sentinel)
                .with("primary", name)
                .advise("The Sentinel knows no primary of that name")
        })?;
        let mut connection = self.connect_to(&address, &self.settings.login, deadline).await?;
        let mut ask = redis::pipe();
        ask.cmd("ROLE");
        let role = exchange(&mut connection, &ask, deadline).await?.into_iter().next();
        match role {
            Some(role) if answer::is_replica(&role) => Err(Fault::replica()),
            _ => Ok(connection),
        }
    }

    async fn slots(&self, deadline: Instant) -> Result<Arc<Slots>, Fault> {
        let known = lock(&self.state).slots.clone();
        if let Some(slots) = known {
            return Ok(slots);
        }
        let Servers::Cluster(seeds) = &self.settings.servers else { return Ok(Arc::default()) };
        let mut last = Fault::uncovered();
        for seed in seeds {
            let until = deadline.min(Instant::now() + self.settings.timeout / 4);
            match self.slots_by(seed, until).await {
                Ok(slots) if !slots.is_empty() => {
                    let slots = Arc::new(slots);
                    lock(&self.state).slots = Some(Arc::clone(&slots));
                    return Ok(slots);
                }
                Ok(_) => {}
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn slots_by(&self, seed: &Address, deadline: Instant) -> Result<Slots, Fault> {
        let mut connection = self.connect_to(seed, &self.settings.login, deadline).await?;
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("SLOTS");
        let said = exchange(&mut connection, &ask, deadline).await?.into_iter().next();
        match said {
            Some(Value::ServerError(error)) => Err(Fault::of(&error)),
            said => said.and_then(|said| answer::slots(said, seed)).ok_or_else(Fault::answer),
        }
    }

    fn forget_slots(&self) {
        lock(&self.state).slots = None;
    }

    /// Where one connection was cut, or leads to the wrong server, those that are idle may as well.
    pub fn forget(&self, node: &Node) {
        let mut state = lock(&self.state);
        state.idle.remove(node);
        state.slots = None;
    }

    pub fn shut_down(&self) {
        self.reading.close();
        self.writing.close();
        lock(&self.state).idle.clear();
    }
}

/// Sends commands and gives what each is answered with, which may be an error of the server.
async fn exchange(
    connection: &mut MultiplexedConnection,
    commands: &Pipeline,
    deadline: Instant,
) -> Result<Vec<Value>, Fault> {
    let sent = connection.send_packed_commands(commands, 0, commands.len());
    let answered = timeout_at(deadline, sent).await.map_err(|_| Fault::late())?;
    answered.map_err(|error| Fault::cut(&error))
}

/// A connection for one piece of work.
pub(crate) struct Session {
    pool: Arc<Pool>,
    node: Node,
    connection: Option<MultiplexedConnection>,
    /// Something was sent and not answered.
    is_busy: bool,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// Sends commands and gives what each is answered with, which may be an error of the server.
    pub async fn ask(&mut self, commands: &Pipeline, deadline: Instant) -> Result<Vec<Value>, Fault> {
        let Some(connection) = &mut self.connection else { return Err(Fault::busy()) };
        self.is_busy = true;
        let answered = exchange(connection, commands, deadline).await;
        match &answered {
            Ok(_) => self.is_busy = false,
            Err(_) => self.pool.forget(&self.node),
        }
        answered
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_busy
            && !self.pool.reading.is_closed()
        {
            lock(&self.pool.state).idle.entry(self.node.clone()).or_default().push(connection);
        }
    }
}
