//! MariaDB, which stands for MySQL too: servers that last as long as a test, and databases in one that lasts as long as a run.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;
use crate::kept::{Kept, on_a_free_port};
use crate::postgres::run;

/// The user who may do everything, and has to say the password.
pub const USER: &str = "root";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct horse/battery@staple?";

const INSTALL: &str =
    "MariaDB is not here: `cargo xtask test` installs it, or install the package mariadb-server";

/// One of MariaDB's programs: on the path, or where Debian puts it.
///
/// # Errors
/// If there is none.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| INSTALL.to_owned())
}

/// A MariaDB server on a free port of this machine, in a folder that goes with it.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
    settings: Vec<String>,
}

impl Server {
    /// Starts one, with settings such as `sync-binlog=0` beside our own. It syncs what it writes.
    ///
    /// # Errors
    /// If MariaDB is not installed, or does not start; with what it said.
    pub fn start(settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = Self { kept: Kept::new("MariaDB")?, settings };
        server.initialise()?;
        on_a_free_port(server, |server| &mut server.kept, Self::resume)
    }

    /// Where it is: [`USER`]'s URL, with the database `test`.
    pub fn url(&self) -> String {
        format!("mysql://{USER}:{}@127.0.0.1:{}/test", encoded(PASSWORD), self.kept.port)
    }

    /// Its process; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.kept.pid()
    }

    /// Kills it with a signal that nobody can catch, as a crash does.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Stops it in order: what runs is ended, and connections are closed.
    pub fn stop(&mut self) {
        self.kept.stop();
    }

    /// Starts it again at the same address, and waits until it takes connections.
    ///
    /// # Errors
    /// If it does not; with what it said.
    pub fn resume(&mut self) -> Result {
        self.stop();
        let path = |name: &str| self.kept.path(name).to_string_lossy().into_owned();
        let mut arguments = vec!["--no-defaults".to_owned()];
        let ours = [
            format!("datadir={}", path("data")),
            // As it starts, a server deletes what another one that has the same folder is using.
            format!("tmpdir={}", self.kept.folder().display()),
            format!("socket={}", path("socket")),
            format!("pid-file={}", path("pid")),
            format!("log-bin={}", path("log")),
            format!("port={}", self.kept.port),
            "bind-address=127.0.0.1".to_owned(),
            "skip-name-resolve".to_owned(),
            "server-id=1".to_owned(),
            "sync-binlog=1".to_owned(),
            "innodb-buffer-pool-size=64M".to_owned(),
            "innodb-log-file-size=96M".to_owned(),
            // What is usual in MySQL.
            "max-allowed-packet=64M".to_owned(),
            "max-connections=400".to_owned(),
            "max-binlog-size=64M".to_owned(),
            "expire-logs-days=1".to_owned(),
        ];
        arguments.extend(ours.iter().chain(&self.settings).map(|setting| format!("--{setting}")));
        self.kept.run(&program("mariadbd")?, &arguments, "TERM", |kept| {
            // It listens when it is ready; somebody else who has the port would have ended it.
            kept.said().contains("ready for connections")
                && TcpStream::connect(("127.0.0.1", kept.port)).is_ok()
        })
    }

    fn initialise(&self) -> Result {
        let mut install = Command::new(program("mariadb-install-db")?);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", self.kept.path("data").display()));
        install.env("TMPDIR", self.kept.folder());
        self.kept.as_user(&mut install);
        run(&mut install)?;
        // A server that only reads statements: it listens nowhere, and the root that it is asked as has no password yet.
        let mut bootstrap = Command::new(program("mariadbd")?);
        bootstrap.args(["--no-defaults", "--bootstrap", "--log-warnings=0"]);
        bootstrap.arg(format!("--datadir={}", self.kept.path("data").display()));
        bootstrap.env("TMPDIR", self.kept.folder());
        self.kept.as_user(&mut bootstrap);
        let statements = format!(
            "CREATE DATABASE test;\nFLUSH PRIVILEGES;\nGRANT ALL ON *.* TO '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' WITH GRANT OPTION;\n"
        );
        feed(&mut bootstrap, &statements)
    }
}

fn feed(command: &mut Command, text: &str) -> Result {
    let failed = |error: std::io::Error| format!("{}: {error}", INSTALL);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(stdin) = &mut child.stdin {
        stdin.write_all(text.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Every byte as a URL takes it anywhere.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Runs statements one after the other with `mariadb`: what they answer, a row a line.
///
/// # Errors
/// At the first that fails; with what the server said.
pub fn sql(url: &str, statements: &[&str]) -> Result<String> {
    let unreadable = || format!("{} is no URL of a server that this crate started", url.len());
    let (_, place) = url.rsplit_once('@').ok_or_else(unreadable)?;
    let (host, database) = place.split_once('/').ok_or_else(unreadable)?;
    let (host, port) = host.split_once(':').ok_or_else(unreadable)?;
    let mut mariadb = Command::new(program("mariadb")?);
    mariadb.args(["--no-defaults", "--protocol=tcp", "--batch", "--skip-column-names"]);
    mariadb.args(["--user", USER, "--host", host, "--port", port]);
    mariadb.env("MYSQL_PWD", PASSWORD);
    mariadb.args(["--execute", &statements.join(";\n"), database.split('?').next().unwrap_or_default()]);
    run(&mut mariadb)
}

/// An empty database that is dropped at the end.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes one in a server, whose URL is [`USER`]'s.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn create(server: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        // One of a process with the same number, which was killed.
        sql(server, &[&format!("DROP DATABASE IF EXISTS {name}"), &format!("CREATE DATABASE {name}")])?;
        Ok(Self { server: server.to_owned(), name })
    }

    /// Its URL: [`USER`]'s.
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
        let _ = sql(&self.server, &[&format!("DROP DATABASE IF EXISTS {}", self.name)]);
    }
}
