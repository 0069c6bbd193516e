//! A folder of its own for each test, and the program run in it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const LOG: &str = "acme/session/s-1";

/// A folder, and the URL of a store in it that is not there yet.
pub struct Place {
    folder: TempDir,
    pub url: String,
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    /// Each line of standard output, as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The error on standard error, as JSON: one line.
    pub fn error(&self) -> Value {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        serde_json::from_str::<Value>(lines[0]).expect(lines[0])["error"].clone()
    }

    /// It ended so, and said why on standard error only.
    #[track_caller]
    pub fn failed(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(says), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
    }

    /// It succeeded.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

impl Place {
    pub fn file() -> Self {
        Self::new("file:store")
    }

    pub fn sqlite() -> Self {
        Self::new("sqlite:store.db")
    }

    /// One for each system that this build keeps logs in.
    pub fn each() -> [Self; 2] {
        [Self::file(), Self::sqlite()]
    }

    pub fn new(url: &str) -> Self {
        Self { folder: TempDir::new().unwrap(), url: url.to_owned() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command
            .args(arguments)
            .env("ICECORE_STORE", &self.url)
            .env("COLUMNS", "80")
            .current_dir(self.folder.path());
        command
    }

    /// Runs it with nothing on standard input.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs it with JSON output.
    pub fn json(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["--output", "json"], arguments].concat())
    }

    /// Runs it with this on standard input.
    pub fn run_with(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Ran {
        let mut child = self.spawn(arguments);
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.into());
        let feed = std::thread::spawn(move || {
            // It may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let ran = Ran::of(child.wait_with_output().unwrap());
        feed.join().unwrap();
        ran
    }

    /// Starts it with pipes on all sides.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Appends one event, with an id.
    pub fn append(&self, id: &str, data: &str) -> Ran {
        self.json(&["append", LOG, "--kind", "said", "--data", data, "--id", id])
    }

    /// Appends so many events, each a commit of its own.
    pub fn fill(&self, count: usize) {
        for n in 1..=count {
            self.append(&format!("m-{n}"), &n.to_string()).done();
        }
    }

    /// The data of a log's events, as they were stored.
    pub fn data(&self, log: &str) -> Vec<String> {
        let ran = self.json(&["read", log]).done();
        ran.json().iter().map(|event| event["data"].to_string()).collect()
    }
}

/// The first lines of a pipe, as they come.
pub fn first_lines(from: impl Read, count: usize) -> Vec<String> {
    BufReader::new(from).lines().take(count).map(|line| line.unwrap()).collect()
}

/// Lines to import, each with an id.
pub fn lines(count: usize) -> String {
    (1..=count).map(|n| format!("{{\"id\":\"e-{n}\",\"kind\":\"said\",\"data\":{n}}}\n")).collect()
}

/// Flips a bit where the only segment of a file store first holds this text.
pub fn damage(store: &Path, text: &str) {
    let segment = store.join("00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}
