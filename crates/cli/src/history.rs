//! `history`.

use std::process::ExitCode;
use std::time::Duration;

use icecore::state::Changed;
use icecore::{LogId, Result, Store, Timestamp};
use serde_json::{Value, json};

use crate::output::Output;
use crate::{input, time};

/// A table is printed when it has so many rows, or so many bytes of values.
const ROWS_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Newest first. The value of a put is what was put, of a patch the patch, of a merge what was merged, of an expiry when it is gone.\n\nExample:\n  icecore history acme/session/s-1 cart --limit 10"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// The document's key
    key: String,
    /// At most so many changes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let key = input::key(&args.key)?;
    let log = store.log(args.log.clone());
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut table = Rows::default();
    let mut history = log.history(key);
    let mut is_empty = true;
    // The first page is read in any case: that there is no such log is told also with a limit of 0.
    loop {
        let page = history.next_page().await?;
        if page.is_empty() || left == 0 {
            break;
        }
        for changed in page.into_iter().take(left) {
            (left, is_empty) = (left - 1, false);
            if output.is_json() {
                output.line(&line(args, &changed).to_string())?;
            } else {
                table.push(row(&changed, output), output)?;
            }
        }
        if left == 0 {
            break;
        }
    }
    table.print(output)?;
    if is_empty && !output.is_json() && args.limit != Some(0) {
        output.note("This log never had such a document");
    }
    Ok(ExitCode::SUCCESS)
}

fn line(args: &Args, changed: &Changed) -> Value {
    let mut line = json!({
        "log": args.log.as_str(),
        "key": args.key,
        "version": changed.version.0,
        "at": time::show(changed.at),
        "change": changed.change,
        "id": changed.id.as_ref().map(|id| id.as_str()),
    });
    for (name, said) in [("actor", &changed.actor), ("trace", &changed.trace)] {
        if !said.is_empty() {
            line[name] = said.as_str().into();
        }
    }
    if !changed.pointer.is_empty() {
        line["pointer"] = changed.pointer.as_str().into();
    }
    if changed.applied == Some(false) {
        line["applied"] = false.into();
    }
    if let Some(value) = value(changed) {
        line["value"] = value;
    }
    line
}

/// An expiry as `icecore expire` takes it, and everything else as it was written.
fn value(changed: &Changed) -> Option<Value> {
    let value = changed.value.as_ref()?;
    if changed.change != "expire" {
        return Some(value.clone());
    }
    let said = |name: &str, said: String| Some(json!({ name: said }));
    if let Some(at) = value["at"].as_i64() {
        return said("at", time::show(Timestamp(at)));
    }
    match value["sliding"].as_u64() {
        Some(span) => said("sliding", time::show_length(Duration::from_nanos(span))),
        None => Some(value.clone()),
    }
}

fn row(changed: &Changed, output: &Output) -> Vec<String> {
    vec![
        changed.version.to_string(),
        time::show(changed.at),
        change(changed, output),
        changed.actor.clone(),
        changed.trace.clone(),
        changed.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        value(changed).map(|value| output.value(&value.to_string())).unwrap_or_default(),
    ]
}

fn change(changed: &Changed, output: &Output) -> String {
    let mut told = changed.change.to_owned();
    if !changed.pointer.is_empty() {
        told = format!("{told} {}", output.value(&changed.pointer));
    }
    if changed.applied == Some(false) { format!("{told}, in vain") } else { told }
}

/// A table that comes piece by piece.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Vec<String>>,
    bytes: usize,
    is_begun: bool,
}

impl Rows {
    fn push(&mut self, row: Vec<String>, output: &mut Output) -> Result<()> {
        self.bytes += row.iter().map(String::len).sum::<usize>();
        self.rows.push(row);
        if self.rows.len() < ROWS_MAX && self.bytes < BYTES_MAX { Ok(()) } else { self.print(output) }
    }

    fn print(&mut self, output: &mut Output) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let headings: &[_] = &["version", "time", "change", "actor", "trace", "id", "value"];
        output.table(if self.is_begun { &[] } else { headings }, rows)?;
        (self.bytes, self.is_begun) = (0, true);
        Ok(())
    }
}
