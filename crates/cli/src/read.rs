//! `read`.

use std::process::ExitCode;

use icecore::{Log, LogId, Range, Result, Store, Version};

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  icecore read acme/session/s-1 --reverse --limit 10\n  icecore read acme/session/s-1 --from 2026-01-31T12:00:00Z --output json"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// From this version, or this time, on
    #[arg(long, value_name = "VERSION|TIME")]
    from: Option<String>,
    /// Through this version, or this time
    #[arg(long, value_name = "VERSION|TIME")]
    to: Option<String>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// At most so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let mut range = Range { reverse: args.reverse, ..Range::default() };
    if let Some(from) = &args.from {
        range.from = Some(match from.parse() {
            Ok(version) => Version(version),
            Err(_) => through(&log, from, -1).await?.map_or(Version::FIRST, Version::next),
        });
    }
    if let Some(to) = &args.to {
        range.to = Some(match to.parse() {
            Ok(version) => Version(version),
            Err(_) => through(&log, to, 0).await?.unwrap_or(Version::ZERO),
        });
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut reader = log.read(range);
    while left > 0 {
        let page = reader.next_page().await?;
        if page.is_empty() {
            break;
        }
        for commit in page {
            let mut events: Vec<_> = commit.into_events().collect();
            if args.reverse {
                events.reverse();
            }
            for event in events.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                output.event(&args.log, event)?;
            }
            left = left.saturating_sub(events.len() as u64);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The last version at or before a time, moved by some nanoseconds.
async fn through(log: &Log, text: &str, moved: i64) -> Result<Option<Version>> {
    let time = time::parse(text)?;
    log.version_at(icecore::Timestamp(time.0.saturating_add(moved))).await
}
