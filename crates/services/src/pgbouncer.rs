//! pgbouncer in transaction mode: between two statements of a client, another may have had its session.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::guard::Guarded;
use crate::kept::{PATIENCE, free_port, give_away};

/// The program: on the path, or where Debian puts it.
///
/// # Errors
/// If it is not installed.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file());
    found.ok_or_else(|| {
        "pgbouncer is not here: `cargo xtask test` installs it, or install the package pgbouncer".to_owned()
    })
}

/// A pgbouncer in front of a server, on a port of its own.
#[derive(Debug)]
pub struct Pooler {
    /// Before the folder: it ends before its files are deleted.
    process: Option<Guarded>,
    folder: TempDir,
    port: u16,
}

impl Pooler {
    /// Starts one in front of a server's URL, with few sessions, so that clients share them.
    ///
    /// # Errors
    /// If it is not installed, or does not start; with what it said.
    pub fn start(server: &str) -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting pgbouncer: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let user = give_away(&folder)?;
        let mut pooler = Self { process: None, folder, port: 0 };
        let place = server.split_once('@').map_or(server, |(_, place)| place);
        let place = place.split('/').next().unwrap_or(place);
        let (host, server_port) = place.rsplit_once(':').unwrap_or((place, "5432"));
        let file = |name: &str| pooler.folder.path().join(name);
        let (settings, users, output) = (file("pgbouncer.ini"), file("users"), file("output"));
        fs::write(&users, "\"postgres\" \"\"\n").map_err(failed)?;
        // A port that was free may be somebody's a moment later.
        for _ in 0..5 {
            let port = free_port()?;
            let content = format!(
                "[databases]\n* = host={host} port={server_port}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\n",
                users.display()
            );
            fs::write(&settings, content).map_err(failed)?;
            let log = File::create(&output).map_err(failed)?;
            let arguments = [settings.to_string_lossy().into_owned()];
            let process = Guarded::start(&program()?, &arguments, user, "TERM", &log)?;
            let deadline = Instant::now() + PATIENCE;
            while process.is_running() && Instant::now() < deadline {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    pooler.port = port;
                    pooler.process = Some(process);
                    return Ok(pooler);
                }
                sleep(Duration::from_millis(2));
            }
        }
        Err(format!("pgbouncer does not start: {}", fs::read_to_string(&output).unwrap_or_default()))
    }

    /// The URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}
