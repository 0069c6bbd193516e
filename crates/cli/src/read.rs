//! `read`.

use std::process::ExitCode;

use icecore::{LogId, Range, Result, Store, Timestamp, Version};

use crate::output::Output;
use crate::time::Point;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  icecore read acme/session/s-1 --reverse --limit 10\n  icecore read acme/session/s-1 --from 2026-01-31T12:00:00Z --output json"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// From this version, or this time, on
    #[arg(long, value_name = "VERSION|TIME")]
    from: Option<Point>,
    /// Through this version, or this time
    #[arg(long, value_name = "VERSION|TIME")]
    to: Option<Point>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// At most so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Edits of documents as they are stored, not as the puts that they were
    #[arg(long)]
    stored: bool,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let mut range = Range { reverse: args.reverse, ..Range::default() };
    range.from = match args.from {
        None => None,
        Some(Point::Version(version)) => Some(version),
        // Before all that is left: from the first that is left, which a trim may have made a later one than 1.
        Some(Point::Time(time)) => {
            let before = Timestamp(time.0.saturating_sub(1));
            log.version_at(before).await?.map(Version::next)
        }
    };
    range.to = match args.to {
        None => None,
        Some(Point::Version(version)) => Some(version),
        Some(Point::Time(time)) => Some(log.version_at(time).await?.unwrap_or(Version::ZERO)),
    };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut stored, mut whole) = (log.read(range), log.read(range).whole());
    let mut is_empty = true;
    // The first page is read in any case: that there is no such log is told also with a limit of 0.
    loop {
        let page = if args.stored { stored.next_page().await? } else { whole.next_page().await? };
        if page.is_empty() || left == 0 {
            break;
        }
        for commit in page {
            let mut events: Vec<_> = commit.into_events().collect();
            if args.reverse {
                events.reverse();
            }
            for event in events.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                output.event(&args.log, event)?;
                is_empty = false;
            }
            left = left.saturating_sub(events.len() as u64);
        }
        if left == 0 {
            break;
        }
    }
    if is_empty && !output.is_json() && args.limit != Some(0) {
        output.note("No events in this range");
    }
    Ok(ExitCode::SUCCESS)
}
