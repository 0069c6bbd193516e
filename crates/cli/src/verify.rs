//! `verify`.

use std::process::ExitCode;
use std::time::Instant;

use icecore::{ErrorKind, LogPrefix, Result, Store};
use serde_json::json;

use crate::output::{Output, error_json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a prefix, every stored byte is checked too. Exit code 20 if anything is damaged.\n\nExample:\n  icecore verify acme/"
)]
pub struct Args {
    /// Only logs whose names begin so
    #[arg(default_value = "", hide_default_value = true, value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let started = Instant::now();
    let bar = output.progress(None, "commits");
    let verified = store.verify(&args.prefix, |so_far| bar.set_position(so_far.commits)).await?;
    bar.finish_and_clear();
    for damage in &verified.damage {
        if output.is_json() {
            output.line(&json!({ "damage": error_json(damage) }).to_string())?;
        } else {
            output.line(&damage.to_string())?;
        }
    }
    let (seconds, damaged) = (started.elapsed().as_secs_f64(), verified.damage.len());
    if output.is_json() {
        let line = json!({ "logs": verified.logs, "commits": verified.commits, "dropped": verified.dropped, "events": verified.events, "bytes": verified.bytes, "damaged": damaged, "seconds": seconds });
        output.line(&line.to_string())?;
    } else {
        let found = if damaged == 0 { "no damage".to_owned() } else { format!("{damaged} damaged") };
        output.line(&format!(
            "logs {}, commits {}, events {}, bytes {}: {found}, in {seconds:.1} s",
            verified.logs, verified.commits, verified.events, verified.bytes
        ))?;
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Corrupt.exit_code()) })
}
