//! `replay`.

use std::process::ExitCode;
use std::time::Instant;

use icecore::{ErrorKind, LogId, Result, Store};
use serde_json::json;

use crate::output::{Output, error_json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 20 if a snapshot, or what is read, is not what the commits come to.\n\nExample:\n  icecore replay acme/session/s-1"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let started = Instant::now();
    let log = store.log(args.log.clone());
    let commits = log.head().await?.map(|head| head.version.0);
    let bar = output.progress(commits, "commits");
    let replayed = log.replay(|so_far| bar.set_position(so_far.commits)).await?;
    bar.finish_and_clear();
    let (seconds, damaged) = (started.elapsed().as_secs_f64(), replayed.damaged_snapshots.len());
    if output.is_json() {
        let damage: Vec<_> = replayed.damaged_snapshots.iter().map(error_json).collect();
        let line = json!({ "log": args.log.as_str(), "version": replayed.version.0, "commits": replayed.commits, "documents": replayed.documents, "snapshots": replayed.snapshots, "damaged_snapshots": damage, "same": replayed.is_same, "seconds": seconds });
        output.line(&line.to_string())?;
    } else {
        for damage in &replayed.damaged_snapshots {
            output.line(&damage.to_string())?;
        }
        let found = match (replayed.is_same, damaged) {
            (false, _) => "what is read is NOT what the commits come to".to_owned(),
            (true, 0) => "all say the same".to_owned(),
            (true, _) => {
                format!("{damaged} damaged, which is passed over and costs time; what is read is right")
            }
        };
        output.line(&format!(
            "version {}, commits {}, documents {}, snapshots {}: {found}, in {seconds:.1} s",
            replayed.version, replayed.commits, replayed.documents, replayed.snapshots
        ))?;
    }
    let is_good = replayed.is_same && damaged == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Corrupt.exit_code()) })
}
