//! `maintain`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use icecore::agents::artifacts::{Swept, sweep};
use icecore::retention::{Applied, Maintained, Pace};
use icecore::{Error, ErrorKind, LogId, Meters, Result, Store};
use indicatif::HumanBytes;
use serde_json::json;

use crate::output::{Output, error_json};
use crate::{artifact, time, trim};

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("how").args(["once", "watch"]),
    after_help = "A pass finishes what others began to trim, gives back the bytes of what was trimmed long enough ago, removes what has expired (see `icecore expire`), applies the policies (see `icecore policy`), and deletes artifacts that have expired. One process at a time does it; if that is killed, another goes on where it was. Exit code 5 if another is at it, or if a log failed.\n\nExamples:\n  icecore maintain --once\n  icecore maintain --once --dry-run"
)]
pub struct Args {
    /// One pass, as for cron; this is what is done by default
    #[arg(long)]
    once: bool,
    /// Pass after pass, until it is stopped
    #[arg(long)]
    watch: bool,
    /// The time between two passes
    #[arg(long, value_name = "LENGTH", value_parser = time::length, default_value = "10m")]
    every: Duration,
    /// At most so many logs are looked at in a second
    #[arg(long, value_name = "N", default_value_t = 100)]
    logs_per_second: u32,
    /// After each pass, writes what was asked of the storage system to a file, as Prometheus reads it
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Only say what would be removed of logs, since it has expired or by the policies; nothing is said of artifacts
    #[arg(long, conflicts_with = "watch")]
    pub dry_run: bool,
}

impl Args {
    /// Puts the numbers where another program may be reading at any time: whole or not at all.
    fn write_metrics(&self, meters: &Meters) -> Result<()> {
        let Some(path) = &self.metrics else { return Ok(()) };
        let mut name = path.clone().into_os_string();
        name.push(".new");
        let written = fs::write(&name, meters.prometheus()).and_then(|()| fs::rename(&name, path));
        written.map_err(|error| {
            Error::new(ErrorKind::Invalid, "writing metrics").with("path", path.display()).because(error)
        })
    }
}

pub async fn run(args: &Args, meters: &Meters, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let pace = Pace { every: args.every, logs_per_second: args.logs_per_second };
    loop {
        let bar = output.progress(None, "logs");
        let done = store.maintain_once(pace, |so_far| bar.set_position(so_far.logs)).await;
        bar.finish_and_clear();
        let done = match done {
            // What has expired takes nothing that anybody could still want, so no policy speaks of it.
            Ok(Some(done)) => sweep::all(store).await.map(|swept| Some((done, swept))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let written = args.write_metrics(meters);
        let code = match done {
            Err(error) if args.watch => {
                // It is tried again.
                output.error(&error);
                ExitCode::SUCCESS
            }
            Err(error) => return Err(error),
            Ok(done) => tell(done.as_ref(), output)?,
        };
        output.flush()?;
        if !args.watch {
            return written.map(|()| code);
        }
        // What is maintained matters more than who reads of it.
        written.unwrap_or_else(|error| output.error(&error));
        tokio::time::sleep(args.every).await;
    }
}

fn tell(done: Option<&(Maintained, Swept)>, output: &mut Output) -> Result<ExitCode> {
    let unavailable = ExitCode::from(ErrorKind::Unavailable.exit_code());
    let Some((done, swept)) = done else {
        if output.is_json() {
            output.line(&json!({ "done": false }).to_string())?;
        } else {
            output.note("Another process is at it");
        }
        return Ok(unavailable);
    };
    if output.is_json() {
        let line = json!({ "done": true, "logs": done.logs, "trimmed": done.trimmed, "commits": done.commits, "bytes": done.bytes, "deleted": done.deleted, "expired_documents": done.expired_documents, "expired_logs": done.expired_logs, "finished": done.finished, "swept_commits": done.swept, "held": done.held, "failed": done.failed, "artifacts": artifact::swept_json(swept), "first_error": done.first_error.as_ref().map(error_json) });
        output.line(&line.to_string())?;
    } else {
        output.line(&format!(
            "logs {}: trimmed {} by {} commits of {}, deleted {}, held {}, failed {}; expired {} documents and {} logs; finished {} of others, swept {} commits, {} artifacts",
            done.logs, done.trimmed, done.commits, HumanBytes(done.bytes), done.deleted, done.held, done.failed, done.expired_documents, done.expired_logs, done.finished, done.swept, swept.expired
        ))?;
        if let Some(error) = &done.first_error {
            output.note(&error.to_string());
        }
    }
    Ok(if done.failed == 0 { ExitCode::SUCCESS } else { unavailable })
}

pub async fn dry_run(store: &Store, output: &mut Output) -> Result<ExitCode> {
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    let row = |log: &LogId, would: &str| {
        vec![log.to_string(), would.to_owned(), String::new(), String::new(), String::new()]
    };
    store
        .plan_maintenance(|log, applied| match applied {
            Applied::Trimmed(trimmed) => {
                lines.push(trim::as_json(log, trimmed));
                let (commits, bytes) = (trimmed.commits.to_string(), HumanBytes(trimmed.bytes).to_string());
                rows.push(vec![
                    log.to_string(),
                    "trim".to_owned(),
                    trimmed.through.to_string(),
                    commits,
                    bytes,
                ]);
            }
            Applied::Deleted => {
                lines.push(json!({ "log": log.as_str(), "delete": true }));
                rows.push(row(log, "delete"));
            }
            Applied::LogExpired => {
                lines.push(json!({ "log": log.as_str(), "delete": true, "expired": true }));
                rows.push(row(log, "delete: it has expired"));
            }
            Applied::DocumentsExpired(count) => {
                lines.push(json!({ "log": log.as_str(), "expired_documents": count }));
                let noun = if *count == 1 { "document" } else { "documents" };
                rows.push(row(log, &format!("remove {count} {noun} that expired")));
            }
            Applied::Nothing => {}
        })
        .await?;
    if output.is_json() {
        for line in lines {
            output.line(&line.to_string())?;
        }
    } else if rows.is_empty() {
        output.note("Nothing that expired is to be removed yet, and the policies have nothing to do");
    } else {
        output.table(&["log", "would", "through", "commits", "bytes"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
