//! `copy`.

use std::process::ExitCode;
use std::time::Instant;

use icecore::{LogPrefix, Open, Result, Store};
use serde_json::json;

use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Stopped half-way, it goes on where it stopped. Run again, it copies what is new.\n\nExample:\n  icecore copy file:./icecore-data sqlite:./icecore.db"
)]
pub struct Args {
    /// The store to copy from
    from: String,
    /// The store to copy to; made if it is not there
    to: String,
    /// Only logs whose names begin so
    #[arg(default_value = "")]
    prefix: String,
}

pub async fn run(args: &Args, output: &mut Output) -> Result<ExitCode> {
    let prefix = LogPrefix::parse(&args.prefix)?;
    let from = Open::read_only().open(&args.from).await?;
    let to = icecore::open(&args.to).await?;
    let done = copy(&from, &to, &prefix, output).await;
    let shut = to.shut_down().await;
    done.and_then(|code| shut.map(|()| code))
}

async fn copy(from: &Store, to: &Store, prefix: &LogPrefix, output: &mut Output) -> Result<ExitCode> {
    let started = Instant::now();
    let mut logs = 0;
    let mut cursor = None;
    loop {
        let page = from.logs(prefix, cursor, 10_000).await?;
        logs += page.logs.len() as u64;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let bar = output.progress(Some(logs), "logs");
    let copied = icecore::copy(from, to, prefix, |so_far| bar.set_position(so_far.logs)).await?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    if output.is_json() {
        let line = json!({ "logs": copied.logs, "unchanged": copied.unchanged, "commits": copied.commits, "bytes": copied.bytes, "seconds": seconds });
        output.line(&line.to_string())?;
    } else {
        output.line(&format!(
            "{} logs the same on both sides, {} of them before; {} commits, {} bytes copied, in {seconds:.1} s",
            copied.logs, copied.unchanged, copied.commits, copied.bytes
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
