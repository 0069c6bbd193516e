//! `cargo xtask bench`: medians of several rounds, each a ratio to a yardstick that was measured in the same round.
//!
//! The yardsticks are physical: the same bytes with the same syncs in a bare loop, SHA-256 over the same bytes.

mod file;
mod layers;
mod many;
mod measure;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod reading;
mod sessions;
#[cfg(feature = "postgres")]
mod state;
#[cfg(feature = "systems")]
mod systems;

use icecore::{Error, ErrorKind, Result};
use measure::Report;

const HELP: &str = "\
icecore-bench [ROUNDS] [NAME …]

Names: memory, layers, file, reading, postgres (a build with that feature), many-logs. By default all but many-logs, which takes minutes.

icecore-bench sessions [COUNT] [SYSTEM …]

A page of the list of sessions when there are so many, 20,000. Systems: file, postgres (a build with that feature).

icecore-bench [ROUNDS] systems [SYSTEM …]

Every system beside its own client, in a build with the feature systems, with the servers of the tests: `cargo xtask bench-systems`.

icecore-bench [ROUNDS] state [PART …] [SYSTEM …]

State that grows, beside LangGraph's savers, in a build with the feature postgres; `cargo xtask bench-state` installs them.
Parts: growing, latest, small, time, slope. Systems: file, sqlite, postgres. By default all; time and slope, which take minutes,
are of file unless systems are named. ICECORE_BENCH_COMMITS: how many commits a long log has, 10,000.";

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return std::process::ExitCode::SUCCESS;
    }
    let (numbers, names): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| argument.parse::<usize>().is_ok());
    let usual = if names.first().is_some_and(|name| *name == "state") { 3 } else { 7 };
    let number = numbers.first().and_then(|number| number.parse().ok());
    let rounds = number.unwrap_or(usual);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime
        .map_err(|error| Error::new(ErrorKind::Unavailable, "starting").because(error))
        .and_then(|runtime| runtime.block_on(run(rounds, number, &names)));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(rounds: usize, count: Option<usize>, names: &[&String]) -> Result<()> {
    if let [flag, url] = names
        && *flag == "--open"
    {
        return many::open(url).await;
    }
    #[cfg(feature = "postgres")]
    if let [name, chosen @ ..] = names
        && *name == "state"
    {
        let mut report = Report::of_two(rounds);
        state::run(&mut report, chosen).await?;
        report.print();
        return Ok(());
    }
    #[cfg(feature = "systems")]
    if let [name, chosen @ ..] = names
        && *name == "systems"
    {
        let mut report = Report::new(rounds);
        systems::beside_their_clients(&mut report, chosen).await?;
        report.print();
        return Ok(());
    }
    let wanted = |name: &str| {
        if names.is_empty() { name != "many-logs" } else { names.iter().any(|found| *found == name) }
    };
    if let [name, systems @ ..] = names
        && *name == "sessions"
    {
        let mut report = Report::new(sessions::PAGES);
        sessions::pages(&mut report, count.unwrap_or(sessions::USUAL), systems).await?;
        report.print();
        return Ok(());
    }
    let mut report = Report::new(rounds);
    if wanted("memory") {
        memory::appends_of_a_hundred(&mut report).await?;
    }
    if wanted("layers") {
        layers::around_memory(&mut report).await?;
    }
    if wanted("file") {
        file::one_writer(&mut report).await?;
        file::many_writers(&mut report).await?;
    }
    if wanted("reading") {
        reading::back(&mut report).await?;
        reading::verify(&mut report).await?;
    }
    #[cfg(feature = "postgres")]
    if wanted("postgres") {
        postgres::appends(&mut report).await?;
    }
    if wanted("many-logs") {
        many::logs(&mut report).await?;
    }
    report.print();
    Ok(())
}
