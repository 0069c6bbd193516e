//! `bench-state`: state that grows, beside LangGraph's savers, which are installed for it.

use std::fs;

use crate::install;
use crate::run::{self, Outcome};

/// What is measured beside ours, a package and its version a line.
pub const REQUIREMENTS: &str = "bench/peers/requirements.txt";

/// A tool of the virtual environment that they are in.
pub fn tool(name: &str) -> String {
    run::root().join("target/peers/bin").join(name).to_string_lossy().into_owned()
}

/// The lines of [`REQUIREMENTS`].
pub fn requirements() -> Vec<String> {
    let lines = fs::read_to_string(run::root().join(REQUIREMENTS)).unwrap_or_default();
    lines.lines().map(str::to_owned).collect()
}

/// Runs it, with rounds, parts and systems as given.
pub fn bench(arguments: &[&str]) -> Outcome {
    install::run_inside(install::for_peers)?;
    let own = [
        "run",
        "--release",
        "--quiet",
        "--package",
        "icecore-bench",
        "--features",
        "postgres",
        "--",
        "state",
    ];
    run::cargo(&[&own[..], arguments].concat())
}
