//! What every server has that is started here and may be killed, stopped and started again: a process, a folder, a user, a port.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::guard::{Guarded, User};

/// A guard against a server that hangs, and no measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How many ports are tried: one that was free may be somebody's a moment later.
const PORTS: usize = 5;

/// A server's process, if it runs, and what stays while it does not.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Before the folder: a server ends before its files are deleted.
    process: Option<Guarded>,
    folder: TempDir,
    /// Who it runs as, if not as who runs the tests.
    pub user: Option<User>,
    pub port: u16,
    /// As errors name it.
    name: &'static str,
}

impl Kept {
    /// A folder that is its own, for a server that was not started yet.
    pub fn new(name: &'static str) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| format!("making a folder: {error}"))?;
        let user = give_away(&folder)?;
        Ok(Self { process: None, folder, user, port: 0, name })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Something in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in its folder that the server alone may read; where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn own_file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        let write = || {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            self.user.map_or(Ok(()), |user| chown(&path, Some(user.uid), Some(user.gid)))
        };
        write().map_err(|error| format!("writing {name} for a server: {error}"))?;
        Ok(path.display().to_string())
    }

    /// Its process; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// Kills it and all its processes with a signal that nobody can catch, as a crash does.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it with the signal that it was started with.
    pub fn stop(&mut self) {
        drop(self.process.take());
    }

    /// What it has said since it was started.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// Starts it, and waits until it is ready. `signal` is the one that stops it.
    pub fn run(
        &mut self,
        program: &Path,
        arguments: &[String],
        signal: &str,
        is_ready: impl Fn(&Self) -> bool,
    ) -> Result {
        self.stop();
        let output = File::create(self.path("output")).map_err(|error| format!("making a file: {error}"))?;
        let process = Guarded::start(program, arguments, self.user, signal, &output)?;
        let deadline = Instant::now() + PATIENCE;
        // It may have ended, and somebody else answer at its port.
        while process.is_running() && Instant::now() < deadline {
            if is_ready(self) {
                self.process = Some(process);
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
        Err(format!("{} does not start: {}", self.name, self.said()))
    }

    /// Has a command run where the server does, and as who it runs.
    pub fn as_user(&self, command: &mut Command) {
        // Our own folder may be closed to the server's user.
        command.current_dir(self.folder());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
    }
}

/// Starts a server on a port that was free: the first that it can have.
pub(crate) fn on_a_free_port<S>(
    mut server: S,
    kept: impl Fn(&mut S) -> &mut Kept,
    mut start: impl FnMut(&mut S) -> Result,
) -> Result<S> {
    let mut started = Ok(());
    for _ in 0..PORTS {
        kept(&mut server).port = free_port()?;
        started = start(&mut server);
        if started.is_ok() {
            break;
        }
    }
    started.map(|()| server)
}

/// A port that nobody has at the moment.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("finding a free port: {error}"))
}

/// Some refuse to run as root: PostgreSQL's user, or the one that owns nothing; and gives it the folder.
pub(crate) fn give_away(folder: &TempDir) -> Result<Option<User>> {
    let owner =
        fs::metadata(folder.path()).map_err(|error| format!("looking at a new folder: {error}"))?.uid();
    if owner != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(User { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
    };
    let user = find("postgres").or_else(|| find("nobody")).ok_or_else(|| {
        "this is root, and there is no user postgres or nobody to run a server as".to_owned()
    })?;
    chown(folder.path(), Some(user.uid), Some(user.gid))
        .map_err(|error| format!("giving a folder to the server's user: {error}"))?;
    Ok(Some(user))
}
