//! PostgreSQL: servers that last as long as a test, alone or with two standbys; and databases in one that lasts as long as a run.

mod quorum;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;
use crate::kept::{Kept, on_a_free_port};
pub use quorum::Quorum;

/// The role that must name [`PASSWORD`]; all others are trusted.
pub const SECURED: &str = "secured";
/// The password of [`SECURED`].
pub const PASSWORD: &str = "correct horse/battery@staple?";

const INSTALL: &str =
    "PostgreSQL is not here: `cargo xtask test` installs it, or install the package postgresql";
/// The folder of PostgreSQL's programs: on the path, as `pg_config` says, or where Debian puts them.
///
/// # Errors
/// If there is none.
pub fn programs() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    // The newest first.
    debian.sort_by_key(|folder| {
        let version =
            folder.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    std::env::split_paths(&path)
        .chain(configured.map(PathBuf::from))
        .chain(debian)
        .find(|folder| {
            ["initdb", "postgres", "psql", "pg_basebackup"].iter().all(|name| folder.join(name).is_file())
        })
        .ok_or_else(|| INSTALL.to_owned())
}

/// A PostgreSQL server on a free port of this machine, in a folder that goes with it.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
    settings: Vec<String>,
}

impl Server {
    /// Starts one, with settings such as `fsync=off` beside our own. It syncs what it writes.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start; with what it said.
    pub fn start(settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = Self { kept: Kept::new("PostgreSQL")?, settings };
        server.initialise()?;
        on_a_free_port(server, |server| &mut server.kept, Self::resume)
    }

    /// Where it is: a superuser's URL, with the database `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.kept.port)
    }

    /// Its process; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.kept.pid()
    }

    /// Kills it and all its processes with a signal that nobody can catch, as a crash does.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Stops it at once, without a checkpoint: connections are cut, and the next start recovers.
    pub fn stop(&mut self) {
        self.kept.stop();
    }

    /// Starts it again at the same address, and waits until it takes connections.
    ///
    /// # Errors
    /// If it does not; with what it said.
    pub fn resume(&mut self) -> Result {
        self.stop();
        let status = self.data().join("postmaster.pid");
        // One of a server that was killed would be taken for that of the new one.
        let _ = fs::remove_file(&status);
        let mut arguments = vec!["-D".to_owned(), self.data().to_string_lossy().into_owned()];
        let ours = [
            format!("port={}", self.kept.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "max_connections=200".to_owned(),
        ];
        for setting in ours.iter().chain(&self.settings) {
            arguments.extend(["-c".to_owned(), setting.clone()]);
        }
        self.kept.run(&programs()?.join("postgres"), &arguments, "QUIT", |_| {
            // Its eighth line is the state.
            let state = fs::read_to_string(&status).unwrap_or_default();
            state.lines().nth(7).is_some_and(|state| state.trim() == "ready")
        })
    }

    fn initialise(&self) -> Result {
        let mut initdb = Command::new(programs()?.join("initdb"));
        initdb.arg("-D").arg(self.data());
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        self.kept.as_user(&mut initdb);
        run(&mut initdb)?;
        let rules = format!(
            "host all {SECURED} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
        );
        fs::write(self.data().join("pg_hba.conf"), rules)
            .map_err(|error| format!("writing pg_hba.conf: {error}"))
    }

    fn data(&self) -> PathBuf {
        self.kept.path("data")
    }
}

/// Runs statements one after the other, each in a transaction of its own, with `psql`: what they answer, a row a line.
///
/// # Errors
/// At the first that fails; with what the server said.
pub fn sql(url: &str, statements: &[&str]) -> Result<String> {
    let mut psql = Command::new(programs()?.join("psql"));
    psql.args(["-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
    for statement in statements {
        psql.args(["-c", statement]);
    }
    run(&mut psql)
}

pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// An empty database that is dropped at the end.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes one in a server, whose URL is a superuser's.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn create(server: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        // One of a process with the same number, which was killed.
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sql(server, &[&drop, &format!("CREATE DATABASE {name} TEMPLATE template0")])?;
        Ok(Self { server: server.to_owned(), name })
    }

    /// Its URL: a superuser's.
    pub fn url(&self) -> String {
        let (before, _) = self.server.rsplit_once('/').unwrap_or((&self.server, ""));
        format!("{before}/{}", self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be gone, and its databases with it.
        let _ = sql(&self.server, &[&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)]);
    }
}
