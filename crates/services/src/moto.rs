//! moto: S3 and DynamoDB in memory. It checks no signature, and it forgets everything at its end. That it creates an object or an item once,
//! whoever races, takes locks of ours: see `moto.py`.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::http::{Answer, Started, exchange, find, said};

/// The bucket that is there from the start.
pub const BUCKET: &str = "icecore-test";

/// Of a key that moto does not look at; but whoever brings none may not read what others have written.
const AUTHORIZATION: &str =
    "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=any";

/// How it is started.
const LOCKED: &str = include_str!("moto.py");

/// The program: in `target/tools` of the repository, or on the path.
///
/// # Errors
/// If it is not installed.
pub fn program() -> Result<PathBuf> {
    find("bin/moto_server").ok_or_else(|| {
        "moto is not here: `cargo xtask test` installs it, or install Python's package moto[server]"
            .to_owned()
    })
}

/// Its version, such as `5.2.5`, as the Python beside it says: the program itself does not.
///
/// # Errors
/// If it is not installed with what its server needs, or there is no Python beside it.
pub fn version() -> Result<String> {
    // The packages behind `moto[server]`: the program is there without them too, and does not start.
    const ASK: &str = "from importlib.metadata import version; version('flask'); version('flask-cors'); print(version('moto'))";
    said(Command::new(python()?).args(["-c", ASK]))
}

/// The Python beside it.
fn python() -> Result<PathBuf> {
    let program = program()?;
    // A link would lead out of the folder that has its Python.
    let program = program.canonicalize().unwrap_or(program);
    Ok(program.with_file_name("python3"))
}

/// A moto server on a free port of this machine.
#[derive(Debug)]
pub struct Server {
    started: Started,
}

impl Server {
    /// Starts one, and makes [`BUCKET`].
    ///
    /// # Errors
    /// If moto is not installed, or does not start; with what it said.
    pub fn start() -> Result<Self> {
        let arguments = |port: u16| {
            ["-c", LOCKED, "-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec()
        };
        let is_ready = |port| send(port, "PUT", &format!("/{BUCKET}"), &[], b"");
        Ok(Self { started: Started::new(&python()?, arguments, is_ready)? })
    }

    /// Where it is; objects have their bucket in their path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.started.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.started.process.pid()
    }

    /// Asks for a path below [`Self::url`], which begins with a slash.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        send(self.started.port, method, path, headers, body)
    }
}

fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    exchange(port, method, path, &[headers, &[("Authorization", AUTHORIZATION)]].concat(), body)
}
