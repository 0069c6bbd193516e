//! `rollback`.

use std::process::ExitCode;

use icecore::{At, LogId, Result, Store};

use crate::output::Output;
use crate::state::must_exist;
use crate::time::Point;
use crate::{append, diff};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It is one new commit: what came between stays in the log, and a rollback can be rolled back. Other events are left as they are.\n\nExample:\n  icecore rollback acme/session/s-1 --to 3 --dry-run"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// The documents become what they were behind this version (0: none), or at this time
    #[arg(long, value_name = "VERSION|TIME")]
    to: Point,
    /// Only show what would change, as `diff` does
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    must_exist(&log).await?;
    match log.rollback(args.to.into()).await? {
        Some(receipt) => append::print(&receipt, output),
        None => {
            output.nothing_written(&args.log, "The documents are what they were then")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub async fn dry_run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    must_exist(&log).await?;
    let would_change = log.diff(At::Head, args.to.into()).await?;
    diff::print(&args.log, &would_change, output)?;
    Ok(ExitCode::SUCCESS)
}
