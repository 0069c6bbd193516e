//! LangGraph's savers, which a script of `bench/peers` measures.

use std::path::Path;
use std::process::{Command, Stdio};

use icecore::{Error, ErrorKind, Result};
use icecore_services::postgres::Server;
use serde_json::Value;

use crate::file::{failed, folder};
use crate::state::place::System;

/// Where `cargo xtask bench-state` installs them.
const PYTHON: &str = "target/peers/bin/python";
const SCRIPT: &str = "bench/peers/langgraph_savers.py";

/// What the script measured in one round.
pub struct Peers(Value);

impl Peers {
    /// Has the script measure one part with these systems; `workload` is the folder with what is stored.
    pub fn measure(part: &str, workload: &Path, systems: &[System], server: Option<&Server>) -> Result<Self> {
        let databases = folder()?;
        let mut script = Command::new(PYTHON);
        script.arg(SCRIPT).arg(part).arg(workload).stderr(Stdio::inherit());
        // glibc may give the memory of each read back to the system, or not, by how the heap happens to lie: twice the time. Not here.
        for bound in ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"] {
            script.env(bound, (64 << 20).to_string());
        }
        if systems.iter().any(|system| system.peer() == System::Sqlite) {
            script.arg("--sqlite").arg(databases.path());
        }
        if let Some(server) = server {
            script.arg("--postgres").arg(server.url());
        }
        let output = script.output().map_err(|error| {
            failed("starting LangGraph", error).advise("`cargo xtask bench-state` installs what it needs")
        })?;
        match serde_json::from_slice(&output.stdout) {
            Ok(measured) if output.status.success() => Ok(Self(measured)),
            _ => Err(Error::new(ErrorKind::Unavailable, "measuring LangGraph")
                .with("status", output.status)
                .advise("What it said is above")),
        }
    }

    pub fn number(&self, of: &str, what: &str) -> Result<f64> {
        self.0[of][what].as_f64().ok_or_else(|| missing(of, what))
    }

    /// How what a system stores is made durable.
    pub fn durability(&self, system: System) -> Result<&str> {
        let of = format!("{} durability", system.name());
        self.0[&of].as_str().ok_or_else(|| missing(&of, ""))
    }
}

fn missing(of: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "reading what LangGraph took").with("of", of).with("what", what)
}
