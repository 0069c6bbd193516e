//! `cargo xtask bench`: medians of several rounds, each a ratio to a yardstick that was measured in the same round.
//!
//! The yardsticks are physical: the same bytes with the same syncs in a bare loop, SHA-256 over the same bytes.

mod file;
mod many;
mod measure;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod reading;

use icecore::{Error, ErrorKind, Result};
use measure::Report;

const HELP: &str = "icecore-bench [ROUNDS] [NAME …]\n\nNames: memory, file, reading, postgres (a build with that feature), many-logs. By default all but many-logs, which takes minutes.";

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return std::process::ExitCode::SUCCESS;
    }
    let (numbers, names): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| argument.parse::<usize>().is_ok());
    let rounds = numbers.first().and_then(|number| number.parse().ok()).unwrap_or(7);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime
        .map_err(|error| Error::new(ErrorKind::Unavailable, "starting").because(error))
        .and_then(|runtime| runtime.block_on(run(rounds, &names)));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(rounds: usize, names: &[&String]) -> Result<()> {
    if let [flag, url] = names
        && *flag == "--open"
    {
        return many::open(url).await;
    }
    let wanted = |name: &str| {
        if names.is_empty() { name != "many-logs" } else { names.iter().any(|found| *found == name) }
    };
    let mut report = Report::new(rounds);
    if wanted("memory") {
        memory::appends_of_a_hundred(&mut report).await?;
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
