//! MongoDB: servers that last as long as a test, alone or as a replica set; and databases in one that lasts as long as a run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{find_packaged, said};
use crate::kept::{Kept, PATIENCE, on_a_free_port};

const INSTALL: &str = "MongoDB is not here: `cargo xtask test` installs it, or put mongod on the path";
/// The name of every replica set.
const SET: &str = "rs0";

/// `mongod`: in `target/tools` of the repository, where a package of Python's has it, or on the path.
///
/// # Errors
/// If there is none.
pub fn program() -> Result<PathBuf> {
    find_packaged("fiftyone/db/bin/mongod").ok_or_else(|| INSTALL.to_owned())
}

/// The server's version, such as `6.0.5`.
///
/// # Errors
/// If it is not installed.
pub fn version() -> Result<String> {
    let text = said(Command::new(program()?).arg("--version"))?;
    let version = text.lines().next().and_then(|line| line.strip_prefix("db version v"));
    version.map(str::to_owned).ok_or_else(|| format!("mongod says {text:?}"))
}

/// A MongoDB server on a free port of this machine, in a folder that goes with it.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
    is_set: bool,
    settings: Vec<String>,
}

impl Server {
    /// Starts one without a replica set.
    ///
    /// # Errors
    /// If MongoDB is not installed, or does not start; with what it said.
    pub fn start_alone() -> Result<Self> {
        Self::new(false, &[])?.start()
    }

    /// As [`Self::start_alone`], with arguments such as `--auth` beside our own.
    ///
    /// # Errors
    /// As [`Self::start_alone`].
    pub fn start_alone_with(settings: &[&str]) -> Result<Self> {
        Self::new(false, settings)?.start()
    }

    /// Starts one that is a replica set of its own, and waits until it takes writes.
    ///
    /// # Errors
    /// As [`Self::start_alone`].
    pub fn start_set() -> Result<Self> {
        Self::new(true, &[])?.start_in_a_set()
    }

    /// As [`Self::start_set`], and it asks who one is. The first user may be made by anybody on this machine.
    ///
    /// # Errors
    /// As [`Self::start_alone`].
    pub fn start_set_with_users() -> Result<Self> {
        let mut server = Self::new(true, &[])?;
        let key = server.kept.own_file("key", "what+the+members+know+each+other+by")?;
        server.settings.extend(["--keyFile".to_owned(), key]);
        server.start_in_a_set()
    }

    fn new(is_set: bool, settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Ok(Self { kept: Kept::new("mongod")?, is_set, settings })
    }

    fn start(self) -> Result<Self> {
        on_a_free_port(self, |server| &mut server.kept, Self::resume)
    }

    fn start_in_a_set(self) -> Result<Self> {
        let server = self.start()?;
        initiate(&[&server])?;
        server.until_primary()?;
        Ok(server)
    }

    /// Where it is: this server, whatever set it is in.
    pub fn url(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address())
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        address(&self.kept)
    }

    /// Kills it with a signal that nobody can catch, as a crash does.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Starts it again at the same address, and waits until it answers.
    ///
    /// # Errors
    /// If it does not; with what it said.
    pub fn resume(&mut self) -> Result {
        let folder = self.kept.folder().to_string_lossy().into_owned();
        let port = self.kept.port.to_string();
        let mut arguments =
            vec!["--dbpath", &folder, "--port", &port, "--bind_ip", "127.0.0.1", "--nounixsocket"];
        arguments.extend(["--wiredTigerCacheSizeGB", "0.25", "--quiet"]);
        arguments.extend(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        if self.is_set {
            arguments.extend(["--replSet", SET, "--oplogSize", "64"]);
            // Else a set's server takes 15 s to end.
            arguments.extend(["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]);
        }
        let arguments: Vec<String> =
            arguments.into_iter().map(str::to_owned).chain(self.settings.iter().cloned()).collect();
        self.kept.run(&program()?, &arguments, "KILL", |kept| {
            ask(&address(kept), "admin", "ping", Value::Number(1)).is_ok()
        })
    }

    /// Whether it takes writes.
    pub fn is_primary(&self) -> bool {
        let hello = self.ask("hello", Value::Number(1));
        // The value is one byte behind the name and its end.
        let name = b"isWritablePrimary\0";
        hello.is_ok_and(|hello| {
            let at = hello.windows(name.len()).position(|window| window == name);
            at.and_then(|at| hello.get(at + name.len())) == Some(&1)
        })
    }

    fn until_primary(&self) -> Result {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_primary() {
            if Instant::now() > deadline {
                return Err(format!("mongod never became the primary: {}", self.kept.said()));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn ask(&self, command: &str, value: Value) -> Result<Vec<u8>> {
        ask(&self.address(), "admin", command, value)
    }
}

fn address(kept: &Kept) -> String {
    format!("127.0.0.1:{}", kept.port)
}

/// A replica set of three.
#[derive(Debug)]
pub struct Set {
    /// Its members.
    pub nodes: Vec<Server>,
}

impl Set {
    /// Starts one, and waits until it has a primary.
    ///
    /// # Errors
    /// As [`Server::start_alone`]; or if no primary is elected.
    pub fn start() -> Result<Self> {
        let nodes = (0..3).map(|_| Server::new(true, &[])?.start()).collect::<Result<Vec<_>>>()?;
        initiate(&nodes.iter().collect::<Vec<_>>())?;
        let set = Self { nodes };
        set.primary()?;
        Ok(set)
    }

    /// The number of the primary, once there is one.
    ///
    /// # Errors
    /// If none is elected.
    pub fn primary(&self) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_primary = |node: &Server| node.kept.pid().is_some() && node.is_primary();
            if let Some(primary) = self.nodes.iter().position(is_primary) {
                return Ok(primary);
            }
            if Instant::now() > deadline {
                return Err("the replica set has no primary".to_owned());
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Where it is.
    pub fn url(&self, database: &str) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(Server::address).collect();
        format!("mongodb://{}/{database}?replicaSet={SET}", addresses.join(","))
    }
}

/// Makes these servers a replica set, which notices a dead primary after a second.
fn initiate(nodes: &[&Server]) -> Result {
    let member = |(number, node): (i32, &&Server)| {
        let host = Value::Text(node.address());
        (
            number.to_string(),
            Value::Document(vec![("_id".to_owned(), Value::Number(number)), ("host".to_owned(), host)]),
        )
    };
    let members = Value::List((0..).zip(nodes).map(member).collect());
    let settings = [("electionTimeoutMillis", 1_000), ("heartbeatIntervalMillis", 300)];
    let settings = settings.map(|(name, value)| (name.to_owned(), Value::Number(value))).to_vec();
    let config = vec![
        ("_id".to_owned(), Value::Text(SET.to_owned())),
        ("members".to_owned(), members),
        ("settings".to_owned(), Value::Document(settings)),
    ];
    nodes[0].ask("replSetInitiate", Value::Document(config)).map(drop)
}

/// As much of BSON as the commands here need.
#[derive(Debug, Clone)]
enum Value {
    Number(i32),
    Text(String),
    Document(Vec<(String, Value)>),
    List(Vec<(String, Value)>),
}

fn document(fields: &[(String, Value)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in fields {
        let (kind, bytes) = match value {
            Value::Number(number) => (0x10, number.to_le_bytes().to_vec()),
            Value::Text(text) => {
                let length = u32::try_from(text.len() + 1).unwrap_or(0);
                (0x02, [&length.to_le_bytes(), text.as_bytes(), &[0]].concat())
            }
            Value::Document(fields) => (0x03, document(fields)),
            Value::List(fields) => (0x04, document(fields)),
        };
        content.extend([&[kind], name.as_bytes(), &[0], &*bytes].concat());
    }
    let length = u32::try_from(content.len() + 5).unwrap_or(0);
    [&length.to_le_bytes(), &*content, &[0]].concat()
}

/// What the server at `host:port` answers to a command, as bytes; it must say that it was done.
fn ask(address: &str, database: &str, command: &str, value: Value) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let place = Value::Text(database.to_owned());
    let body = document(&[(command.to_owned(), value), ("$db".to_owned(), place)]);
    // A message: its header, its flags, and one section, which is a document.
    let length = u32::try_from(16 + 4 + 1 + body.len()).unwrap_or(0);
    let mut message = Vec::new();
    for number in [length, 1, 0, 2_013, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    stream.write_all(&message).map_err(failed)?;
    let mut start = [0; 4];
    stream.read_exact(&mut start).map_err(failed)?;
    let rest = (u32::from_le_bytes(start) as usize).saturating_sub(4);
    let mut answer = vec![0; rest];
    stream.read_exact(&mut answer).map_err(failed)?;
    let done = [&b"\x01ok\0"[..], &1.0_f64.to_le_bytes()].concat();
    if answer.windows(done.len()).any(|window| window == done) {
        return Ok(answer);
    }
    Err(format!("{address} refused {command}: {}", String::from_utf8_lossy(&answer)))
}

/// A database of a test's own in a server, which is dropped at the end.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Names one, in a server at a URL such as [`Server::url`].
    pub fn new(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database =
            Self { server: server.to_owned(), name: format!("test-{}-{number}", std::process::id()) };
        // That of a process with the same number, which was killed.
        database.drop_it();
        database
    }

    /// A store's URL.
    pub fn url(&self) -> String {
        self.server.replacen("/?", &format!("/{}?", self.name), 1)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn drop_it(&self) {
        let address = self.server.trim_start_matches("mongodb://").split('/').next().unwrap_or_default();
        // The server may be gone, and its databases with it.
        let _ = ask(address, &self.name, "dropDatabase", Value::Number(1));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.drop_it();
    }
}
