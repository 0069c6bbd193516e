//! `copy`.

use std::process::ExitCode;
use std::time::Instant;

use icecore::store::copy::Copied;
use icecore::{LogPrefix, Open, Result, Store};
use indicatif::HumanBytes;
use serde_json::json;

use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Stopped half-way, it goes on where it stopped. Run again, it copies what is new. A body that was dropped in the source after it was copied stays in the copy.\n\nExample:\n  icecore copy file:./icecore-data sqlite:./icecore.db"
)]
pub struct Args {
    /// The store to copy from
    from: String,
    /// The store to copy to; made if it is not there
    to: String,
    /// Only logs whose names begin so
    #[arg(default_value = "", hide_default_value = true, value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
}

pub async fn run(args: &Args, output: &mut Output) -> Result<ExitCode> {
    let from = Open::read_only().open(&args.from).await?;
    let to = icecore::open(&args.to).await?;
    let done = copy(&from, &to, &args.prefix, output).await;
    let shut = to.shut_down().await;
    done.and_then(|code| shut.map(|()| code))
}

async fn copy(from: &Store, to: &Store, prefix: &LogPrefix, output: &mut Output) -> Result<ExitCode> {
    let started = Instant::now();
    let total = if output.shows_progress() { commits_to_copy(from, to, prefix).await.ok() } else { None };
    let bar = output.progress(total, "commits");
    let mut last = Copied::default();
    let result = icecore::copy(from, to, prefix, |copied| {
        last = *copied;
        bar.set_position(copied.commits);
        bar.set_message(format!("commits, {}", HumanBytes(copied.bytes)));
    })
    .await;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    // What was copied stays copied, so it is told also if some logs failed.
    if output.is_json() {
        let line = json!({ "logs": last.logs, "unchanged": last.unchanged, "commits": last.commits, "bytes": last.bytes, "seconds": seconds });
        output.line(&line.to_string())?;
    } else {
        output.line(&format!(
            "The same on both sides: logs {}, of which before {}; copied: commits {}, bytes {}, in {seconds:.1} s",
            last.logs, last.unchanged, last.commits, last.bytes
        ))?;
    }
    result.map(|_| ExitCode::SUCCESS)
}

/// How many commits the source has behind what the target has, for the time left. What cannot be read counts when it is copied.
async fn commits_to_copy(from: &Store, to: &Store, prefix: &LogPrefix) -> Result<u64> {
    let (mut commits, mut cursor) = (0, None);
    loop {
        let page = from.logs(prefix, cursor, 1_000).await?;
        let sources = from.backend().heads(&page.logs).await?;
        let targets = to.backend().heads(&page.logs).await?;
        for (source, target) in sources.into_iter().zip(targets) {
            let Some(source) = source else { continue };
            let have = target.map_or(source.boundary, |target| target.version);
            commits += source.version.0.saturating_sub(have.0);
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(commits);
        }
    }
}
