//! `fork`.

use std::process::ExitCode;

use icecore::{ErrorKind, LogId, Result, Store};

use crate::append;
use crate::output::Output;
use crate::state::must_exist;
use crate::time::{self, Point};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The new log's first commit holds all documents, and says where they came from. From then on the two are independent.\n\nExample:\n  icecore fork acme/session/s-1 acme/session/s-1-what-if --at 3"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// The new log: tenant/kind/key
    new: LogId,
    /// With the documents as they were behind this version (0: none), or at this time; by default now
    #[arg(long, value_name = "VERSION|TIME")]
    at: Option<Point>,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    must_exist(&log).await?;
    let receipt = log.fork(&args.new, time::or_now(args.at)).await.map_err(|error| match error.kind() {
        ErrorKind::Conflict => {
            error.advise("It is there already: a fork begins a new log, so give it another name")
        }
        _ => error,
    })?;
    append::print(&receipt, output)
}
