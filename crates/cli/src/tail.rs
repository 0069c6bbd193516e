//! `tail`.

use std::process::ExitCode;

use icecore::{LogId, Result, Store, Tailed, Version};

use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore tail acme/session/s-1 --from 10")]
pub struct Args {
    /// The log: tenant/kind/key; it need not exist yet
    log: LogId,
    /// From this version on; by default only what comes from now on
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
    /// End when there is nothing more, instead of waiting for it
    #[arg(long)]
    until_caught_up: bool,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let from = match args.from {
        Some(version) => Version(version),
        None => log.head().await?.map_or(Version::FIRST, |head| head.version.next()),
    };
    let mut tail = log.tail(from);
    loop {
        let next = tokio::select! {
            next = tail.next() => next?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        match next {
            Tailed::Commit(commit) => {
                for event in commit.into_events() {
                    output.event(&args.log, &event)?;
                }
            }
            Tailed::CaughtUp(_) if args.until_caught_up => return Ok(ExitCode::SUCCESS),
            Tailed::Trimmed(version) => {
                output.note(&format!("Trimmed through version {version}: it goes on behind"))
            }
            // While nothing comes, nothing is printed by which a closed pipe would be noticed.
            Tailed::CaughtUp(_) | Tailed::Heartbeat if output.looks_closed() => return Ok(ExitCode::SUCCESS),
            Tailed::CaughtUp(_) | Tailed::Heartbeat => {}
        }
        output.flush()?;
    }
}
