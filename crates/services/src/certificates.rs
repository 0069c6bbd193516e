//! Certificates for servers of a test: an authority's of its own, and one that it gave to this machine.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Result;
use crate::http::{on_path, said};
use crate::kept::give_away;

const INSTALL: &str =
    "openssl is not here: `cargo xtask test` installs it, or install the package of that name";

/// `openssl`, which makes them.
///
/// # Errors
/// If it is not on the path.
pub fn program() -> Result<PathBuf> {
    on_path("openssl").ok_or_else(|| INSTALL.to_owned())
}

/// Files in the PEM format, which the servers' user may read, and which go with it.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes an authority, a certificate for 127.0.0.1, and another authority that gave nobody anything.
    ///
    /// # Errors
    /// If there is no `openssl`; with what it said.
    pub fn make() -> Result<Self> {
        let failed = |error: std::io::Error| format!("making certificates: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let user = give_away(&folder)?;
        let path = folder.path();
        let file = |name: &str| path.join(name);
        for name in ["ca", "other"] {
            let subject = format!("/CN={name}");
            openssl(
                path,
                &format!("req -x509 {KEY} -days 2 -subj {subject} -keyout {name}.key -out {name}.pem"),
            )?;
        }
        openssl(path, &format!("req -new {KEY} -subj /CN=server -keyout server.key -out server.csr"))?;
        fs::write(file("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").map_err(failed)?;
        openssl(
            path,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        )?;
        let read = |name: &str| fs::read(file(name)).map_err(failed);
        fs::write(file("both.pem"), [read("server.pem")?, read("server.key")?].concat()).map_err(failed)?;
        if let Some(user) = user {
            for name in ["ca.pem", "server.pem", "server.key", "both.pem"] {
                chown(file(name), Some(user.uid), Some(user.gid)).map_err(failed)?;
            }
        }
        Ok(Self { folder })
    }

    /// The authority that gave the server its certificate.
    pub fn authority(&self) -> String {
        self.file("ca.pem")
    }

    /// One that did not.
    pub fn another_authority(&self) -> String {
        self.file("other.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> String {
        self.file("server.pem")
    }

    /// The server's key, which only its user may read.
    pub fn key(&self) -> String {
        self.file("server.key")
    }

    /// The server's certificate and its key, in one file.
    pub fn server_and_key(&self) -> String {
        self.file("both.pem")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(folder: &Path, arguments: &str) -> Result {
    said(Command::new(program()?).args(arguments.split(' ')).current_dir(folder)).map(drop)
}
