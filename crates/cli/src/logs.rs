//! `logs`.

use std::process::ExitCode;

use icecore::{LogPrefix, Result, Store};
use serde_json::json;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore logs acme/session/")]
pub struct Args {
    /// Only logs whose names begin so
    #[arg(default_value = "", hide_default_value = true, value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let (mut left, mut cursor, mut is_first) = (args.limit.unwrap_or(usize::MAX), None, true);
    while left > 0 {
        let page = store.logs(&args.prefix, cursor, left.min(1_000)).await?;
        left = left.saturating_sub(page.logs.len());
        let mut rows = Vec::with_capacity(page.logs.len());
        for id in page.logs {
            // Deleted since it was listed: then there is nothing to say of it.
            let Some(head) = store.log(id.clone()).head().await? else {
                continue;
            };
            if output.is_json() {
                let line = json!({ "log": id.as_str(), "version": head.version.0, "events": head.events, "at": time::show(head.at), "trimmed_through": head.boundary.0, "sealed": head.sealed });
                output.line(&line.to_string())?;
            } else {
                rows.push(vec![
                    id.to_string(),
                    head.version.to_string(),
                    head.events.to_string(),
                    time::show(head.at),
                    if head.sealed { "deleted" } else { "" }.to_owned(),
                ]);
            }
        }
        if !rows.is_empty() {
            output.table(if is_first { &["log", "version", "events", "last", ""] } else { &[] }, rows)?;
            is_first = false;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if is_first && !output.is_json() && args.limit != Some(0) {
        output.note("No logs");
    }
    Ok(ExitCode::SUCCESS)
}
