//! The command-line tool, run on a store; what it does wrong ends the story.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::run::{self, Outcome};

pub struct Tool {
    binary: PathBuf,
    /// Relative to the repository.
    pub store: &'static str,
}

impl Tool {
    /// Builds it.
    pub fn build(store: &'static str) -> Outcome<Self> {
        println!("Building the tool (once; a minute or two from cold) …");
        run::cargo(&["build", "--quiet", "--package", "icecore-cli"])?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| run::root().join("target"), PathBuf::from);
        Ok(Self { binary: target.join("debug/icecore"), store })
    }

    /// The same on another store.
    pub fn at(&self, store: &'static str) -> Self {
        Self { binary: self.binary.clone(), store }
    }

    pub fn url(&self) -> String {
        format!("file:{}", self.store)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(run::root()).args(["--store", &self.url()]).args(arguments);
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Outcome<Output> {
        self.command(arguments).output().map_err(|error| format!("icecore could not be started: {error}"))
    }

    /// Runs it; it must succeed. Its lines.
    pub fn lines(&self, arguments: &[&str]) -> Outcome<Vec<String>> {
        run::lines(&mut self.command(arguments))
    }

    /// Runs it; the value that it prints.
    pub fn json(&self, arguments: &[&str]) -> Outcome<Value> {
        let lines = self.lines(&[arguments, &["--output", "json", "--quiet"]].concat())?;
        serde_json::from_str(&lines.concat())
            .map_err(|error| format!("icecore {}: {error}", arguments.join(" ")))
    }

    /// Runs it; it must print exactly this.
    pub fn prints(&self, arguments: &[&str], wanted: &[String]) -> Outcome {
        let found = self.lines(&[arguments, &["--quiet"]].concat())?;
        if found == wanted {
            return Ok(());
        }
        Err(format!("`icecore {}` gave {found:?} instead of {wanted:?}", arguments.join(" ")))
    }
}

/// Removes a store of an earlier run, and nothing else.
pub fn clear(path: &str) -> Outcome {
    let path = run::root().join(Path::new(path));
    if !path.exists() {
        return Ok(());
    }
    if !path.join("LOCK").exists() {
        return Err(format!("{} is there and is no store: move it away", path.display()));
    }
    fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))
}
