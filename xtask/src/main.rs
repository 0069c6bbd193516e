//! `cargo xtask …`: everything that a developer or CI runs.

mod check;
mod install;
mod mutants;
mod peers;
mod penguiflow;
mod promises;
mod quickstart;
mod run;
mod servers;
mod test;
mod wheel;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  quickstart      the main job on stores of its own: a recorded run, then a flow and a planner of Penguiflow: killed, gone on
                  with, verified, set back; installs what Python needs below target
  check           format, lints, docs, unit tests, conformance on memory and file, Python checks: before each commit
  test [--yes] [--long]
                  installs what it needs (asks first, unless --yes), starts the servers, then runs everything;
                  --long for the long runs
  services COMMAND …
                  runs a command with the servers that the tests need, such as
                  `cargo xtask services cargo nextest run --all-features -p icecore-object`
  wheel [--release]
                  builds the Python package into target/wheels
  mutants [TEST …]
                  breaks the code in a copy, promise by promise, and looks whether the tests notice
  bench [ROUNDS] [NAME …]
                  benchmarks, each a ratio to a yardstick of the same run
  bench-penguiflow [ROUNDS] [URL]
                  what Penguiflow's calls cost, beside its own store in memory and LangGraph's savers
  bench-systems [ROUNDS] [SYSTEM …]
                  every system beside its own client, with the servers of the tests: memory, file, sqlite, postgres, mysql,
                  mongodb, redis, dynamodb, s3, gcs, azure
  bench-state [ROUNDS] [PART …] [SYSTEM …]
                  state that grows, beside LangGraph's SQLite and Postgres savers, which it installs below target;
                  parts: growing, latest, small, time, slope; systems: file, sqlite, postgres
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let outcome = match arguments.first().map(String::as_str) {
        Some("quickstart") => quickstart::run(),
        Some("check") => check::run().map(|counts| println!("{}", counts.line())),
        Some("test") => test::run(flag("--yes"), flag("--long")),
        Some("bench") => {
            let own =
                ["run", "--release", "--quiet", "--package", "icecore-bench", "--features", "postgres", "--"];
            let given = arguments.iter().skip(1).map(String::as_str);
            run::cargo(&own.into_iter().chain(given).collect::<Vec<_>>())
        }
        Some("bench-penguiflow") => {
            wheel::bench(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>())
        }
        Some("bench-systems") => {
            servers::bench(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>())
        }
        Some("bench-state") => {
            peers::bench(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>())
        }
        Some("services") => servers::run(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>()),
        Some("wheel") => wheel::run(flag("--release")),
        Some("mutants") => mutants::run(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>()),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("there is no `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
