//! `check`: what is looked at before each commit.

use std::time::Instant;

use crate::install::python;
use crate::run::{self, Counts, Outcome, command, succeed};
use crate::wheel;

pub fn run() -> Outcome<Counts> {
    let cargo = run::cargo_path();
    step("format", || succeed(&mut command(&cargo, &["fmt", "--all", "--check"])))?;
    step("lints", || {
        succeed(&mut command(
            &cargo,
            &[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "--deny",
                "warnings",
            ],
        ))
    })?;
    step("docs", || {
        succeed(
            command(&cargo, &["doc", "--quiet", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "--deny warnings"),
        )
    })?;
    step("Python", || {
        let ruff = python("ruff");
        let mypy = python("mypy");
        let files = ["examples", "crates/python", "bench/peers", "crates/services"];
        let rules = ["check", "--quiet", "--select", "B,E,F,I,SIM,UP,W", "--line-length", "120"];
        succeed(&mut command(&ruff, &[&rules[..], &files].concat()))?;
        let format = ["format", "--quiet", "--check", "--line-length", "120"];
        succeed(&mut command(&ruff, &[&format[..], &files].concat()))?;
        let tested_in = wheel::tool("python");
        // Penguiflow has types, and no marker that says so.
        let strict = ["--strict", "--follow-untyped-imports", "--cache-dir", "target/mypy"];
        let strict = [&strict[..], &["--python-executable", &tested_in]].concat();
        // Apart: in each, files are known by their names.
        for files in ["examples", "crates/python"] {
            succeed(
                command(&mypy, &[&strict[..], &[files]].concat()).env("MYPYPATH", "crates/python/python"),
            )?;
        }
        Ok(())
    })?;
    let mut counts = Counts::default();
    step("unit tests, and conformance on memory and file", || {
        let tests = ["nextest", "run", "--cargo-quiet", "--workspace", "--lib", "--bins"];
        counts = run::count(&mut command(&cargo, &tests))?;
        Ok(())
    })?;
    if counts.failed > 0 { Err(counts.line()) } else { Ok(counts) }
}

fn step(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    println!("\n== {name}");
    let started = Instant::now();
    work()?;
    println!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
