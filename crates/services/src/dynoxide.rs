//! dynoxide: DynamoDB over SQLite, written by others than moto. A second opinion, where somebody has installed it: it takes minutes to build.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::dynamodb::send;
use crate::http::{Started, find, said};

/// How it is installed.
pub const INSTALL: &str = "cargo install dynoxide-rs --version 3.2.0 --locked --root target/tools";

/// The program: in `target/tools` of the repository, or on the path.
pub fn program() -> Option<PathBuf> {
    find("bin/dynoxide")
}

/// Its version, as it says it.
///
/// # Errors
/// If it is not installed, or does not run.
pub fn version() -> Result<String> {
    said(Command::new(installed()?).arg("--version"))
}

fn installed() -> Result<PathBuf> {
    program().ok_or_else(|| format!("dynoxide is not here: {INSTALL}"))
}

/// A server on a free port of this machine, in memory.
#[derive(Debug)]
pub struct Server {
    started: Started,
}

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed, or does not start; with what it said.
    pub fn start() -> Result<Self> {
        let arguments =
            |port: u16| ["--host", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned).to_vec();
        let is_ready = |port| send(port, "ListTables", b"{}");
        Ok(Self { started: Started::new(&installed()?, arguments, is_ready)? })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.started.port)
    }
}
