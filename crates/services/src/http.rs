//! What the servers that speak HTTP have in common: how they are found, started, and asked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::guard::Guarded;
use crate::kept::{PATIENCE, free_port};

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Such as 412.
    pub status: u16,
    /// What came with it.
    pub body: String,
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Sends a request, on a connection of its own.
pub(crate) fn exchange(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let failed = |error: std::io::Error| format!("{method} {path}: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let own = [("Host", "127.0.0.1"), ("Connection", "close"), ("Content-Length", &body.len().to_string())];
    let lines = own.iter().chain(headers).map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = format!("{method} {path} HTTP/1.1\r\n{}\r\n", lines.collect::<String>());
    stream.write_all(&[head.as_bytes(), body].concat()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let parsed = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        Some(Answer { status: head.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
    });
    parsed.ok_or_else(|| format!("{method} {path}: the answer is {text:?}"))
}

/// A server that answers on a port of its own. It runs as who runs the tests, who alone may be able to read its program.
#[derive(Debug)]
pub(crate) struct Started {
    /// Before the folder: it ends before its files are deleted.
    pub process: Guarded,
    /// For what it says, which is a line a request with moto.
    _folder: TempDir,
    pub port: u16,
}

impl Started {
    /// Starts one, and returns when the first request has succeeded.
    pub fn new(
        program: &Path,
        arguments: impl Fn(u16) -> Vec<String>,
        first: impl Fn(u16) -> Result<Answer>,
    ) -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting {}: {error}", program.display());
        let folder = tempfile::tempdir().map_err(failed)?;
        let output = folder.path().join("output");
        let mut reason = String::new();
        // A port that was free may be somebody's a moment later.
        for _ in 0..5 {
            let port = free_port()?;
            let log = File::create(&output).map_err(failed)?;
            // Nothing is kept: there is nothing to end in order.
            let process = Guarded::start(program, &arguments(port), None, "KILL", &log)?;
            let deadline = Instant::now() + PATIENCE;
            while process.is_running() && Instant::now() < deadline {
                match first(port) {
                    Ok(answer) if answer.is_success() => return Ok(Self { process, _folder: folder, port }),
                    Ok(answer) => {
                        reason = format!("it answered {} {}", answer.status, answer.body);
                        break;
                    }
                    Err(error) => reason = error,
                }
                sleep(Duration::from_millis(5));
            }
        }
        let said = fs::read_to_string(&output).unwrap_or_default();
        Err(format!("{} does not start: {reason}\n{said}", program.display()))
    }
}

/// A program that `cargo xtask test` puts into `target/tools` of the repository, or one of the same name on the path.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let own = repository.map(|folder| folder.join("target/tools").join(tool));
    own.filter(|program| program.is_file()).or_else(|| on_path(tool.rsplit('/').next()?))
}

/// A program that a package of Python's has in it, which `cargo xtask test` puts into `target/tools`, or one of the same name on the path.
pub(crate) fn find_packaged(program: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/lib");
    let pythons = fs::read_dir(tools).into_iter().flatten().flatten();
    let own = pythons.map(|python| python.path().join("site-packages").join(program));
    let own = own.into_iter().find(|program| program.is_file());
    own.or_else(|| on_path(program.rsplit('/').next()?))
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What a program prints; it must succeed.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}
