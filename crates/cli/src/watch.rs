//! `watch`.

use std::process::ExitCode;

use icecore::state::{Document, Watched};
use icecore::{LogId, Result, Store, Version};
use serde_json::json;

use crate::output::Output;
use crate::{input, time};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line for the document as it is now, and one for each commit that changes it.\n\nExample:\n  icecore watch acme/session/s-1 cart"
)]
pub struct Args {
    /// The log: tenant/kind/key; it need not exist yet
    log: LogId,
    /// The document's key
    key: String,
    /// End when there is nothing more, instead of waiting for it
    #[arg(long)]
    until_caught_up: bool,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let mut watch = log.watch(input::key(&args.key)?);
    loop {
        let next = tokio::select! {
            next = watch.next() => next?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        match next {
            Watched::Is(version, document) => print(args, version, document.as_ref(), output)?,
            Watched::CaughtUp(_) if args.until_caught_up => return Ok(ExitCode::SUCCESS),
            // While nothing comes, nothing is printed by which a closed pipe would be noticed.
            Watched::CaughtUp(_) | Watched::Heartbeat if output.looks_closed() => {
                return Ok(ExitCode::SUCCESS);
            }
            Watched::CaughtUp(_) | Watched::Heartbeat => {}
        }
        output.flush()?;
    }
}

/// The version is that of the log: a document that did not change since has an older one.
fn print(args: &Args, version: Version, document: Option<&Document>, output: &mut Output) -> Result<()> {
    if output.is_json() {
        let mut line = json!({ "log": args.log.as_str(), "key": args.key, "version": version.0 });
        line["exists"] = document.is_some().into();
        if let Some(document) = document {
            line["at"] = time::show(document.at).into();
            line["value"] = document.value()?;
        }
        return output.line(&line.to_string());
    }
    let (at, value) = match document {
        Some(document) => (time::show(document.at), output.value(&String::from_utf8_lossy(&document.json))),
        None => (String::new(), "(none)".to_owned()),
    };
    output.line(format!("{:>6} {at:<30}  {value}", version.0).trim_end())
}
