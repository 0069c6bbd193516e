//! `state`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use icecore::{At, Error, ErrorKind, Log, LogId, Result, State, Store};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::input;
use crate::output::{Output, raw, shown};
use crate::time::{self, Point};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With a key, and without --output json, the value is printed alone: to the byte, unless on a terminal.\n\nExamples:\n  icecore state acme/session/s-1 --prefix cart/\n  icecore state acme/session/s-1 cart --at 3 > cart.json"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// Only this document
    #[arg(conflicts_with_all = ["prefix", "after", "limit"])]
    key: Option<String>,
    /// As it was behind this version (0: before the first), or at this time
    #[arg(long, value_name = "VERSION|TIME")]
    at: Option<Point>,
    /// Only documents whose keys begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only documents behind this key: the next page, if it was the last of the page before
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// At most so many documents
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// The one object that programs get.
#[derive(Serialize)]
struct Documents<'a> {
    log: &'a str,
    version: u64,
    documents: BTreeMap<&'a str, Box<RawValue>>,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let key = args.key.as_deref().map(input::key).transpose()?;
    let log = store.log(args.log.clone());
    must_exist(&log).await?;
    let at = time::or_now(args.at);
    let state = log.state_at(at).await?;
    let documents: Vec<_> = match key {
        Some(key) => {
            let document = state.get(key).ok_or_else(|| no_document(&args.log, key, &state, at))?;
            if !output.is_json() {
                return output.value_alone(&document.json).map(|()| ExitCode::SUCCESS);
            }
            vec![(key, document)]
        }
        None => {
            let found = state.after(&args.prefix, args.after.as_deref());
            found.take(args.limit.unwrap_or(usize::MAX)).collect()
        }
    };
    if output.is_json() {
        let documents = documents.into_iter().map(|(key, document)| Ok((key, raw(&document.json)?)));
        let documents = documents.collect::<Result<_>>()?;
        let all = Documents { log: args.log.as_str(), version: state.version.0, documents };
        let line = serde_json::to_string(&all)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "printing a log's state").because(error))?;
        return output.line(&line).map(|()| ExitCode::SUCCESS);
    }
    let last = documents.last().map(|(key, _)| *key);
    let row = |(key, document): (&str, &icecore::Document)| {
        let value = output.value(&String::from_utf8_lossy(&document.json));
        vec![key.to_owned(), document.version.to_string(), value]
    };
    let rows: Vec<_> = documents.into_iter().map(row).collect();
    let count = match rows.len() {
        0 => "No documents".to_owned(),
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    };
    let more = last.filter(|last| state.after(&args.prefix, Some(last)).next().is_some());
    let more = more.map(|last| format!("; more behind the key {}", shown(last))).unwrap_or_default();
    if last.is_some() {
        output.table(&["key", "version", "value"], rows)?;
    }
    output.note(&format!("{count} at version {}{more}", state.version));
    Ok(ExitCode::SUCCESS)
}

/// A log without a commit has the empty state, but who asks for it has most likely mistaken its name.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the log has no commit.
pub async fn must_exist(log: &Log) -> Result<()> {
    match log.head().await? {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::NotFound, "reading a log's state")
            .with("log", log.id())
            .advise("No such log has a commit")),
    }
}

fn no_document(log: &LogId, key: &str, state: &State, at: At) -> Error {
    let then = if at == At::Head { "" } else { " at that version" };
    Error::new(ErrorKind::NotFound, "reading a document")
        .with("log", log)
        .with("key", key)
        .with("version", state.version)
        .advise(format!("There is no such document in this log{then}"))
}
