//! `state`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use icecore::{At, Document, DocumentPage, Error, ErrorKind, Log, LogId, Result, Store, Version};
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
    let page = args.page(&log, key).await?;
    if let Some(key) = key {
        let found = page.documents.first().filter(|(found, _)| found == key);
        let (_, document) = found.ok_or_else(|| no_document(args, key, page.version))?;
        if !output.is_json() {
            return output.value_alone(&document.json).map(|()| ExitCode::SUCCESS);
        }
    }
    if output.is_json() {
        print_object(args, &page, output)?
    } else {
        print_table(&page, output)?
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The documents that are asked for: of a large state only these are read, if they are asked for as they are now.
    async fn page(&self, log: &Log, key: Option<&str>) -> Result<DocumentPage> {
        // No other key that begins as this one does comes before it.
        let (prefix, limit) = match key {
            Some(key) => (key, 1),
            None => (&*self.prefix, self.limit.unwrap_or(usize::MAX)),
        };
        match time::or_now(self.at) {
            At::Head => log.documents(prefix, self.after.as_deref(), limit).await,
            at => Ok(DocumentPage::of(&*log.state_at(at).await?, prefix, self.after.as_deref(), limit)),
        }
    }
}

fn print_object(args: &Args, page: &DocumentPage, output: &mut Output) -> Result<()> {
    let documents = page.documents.iter().map(|(key, document)| Ok((&**key, raw(&document.json)?)));
    let documents = documents.collect::<Result<_>>()?;
    let all = Documents { log: args.log.as_str(), version: page.version.0, documents };
    let line = serde_json::to_string(&all)
        .map_err(|error| Error::new(ErrorKind::Corrupt, "printing a log's state").because(error))?;
    output.line(&line)
}

fn print_table(page: &DocumentPage, output: &mut Output) -> Result<()> {
    let row = |(key, document): &(String, Document)| {
        let value = output.value(&String::from_utf8_lossy(&document.json));
        vec![key.clone(), document.version.to_string(), value]
    };
    let rows: Vec<_> = page.documents.iter().map(row).collect();
    let count = match rows.len() {
        0 => "No documents".to_owned(),
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    };
    let last = page.documents.last().filter(|_| page.has_more);
    let more = last.map(|(last, _)| format!("; more behind the key {}", shown(last))).unwrap_or_default();
    if !rows.is_empty() {
        output.table(&["key", "version", "value"], rows)?;
    }
    output.note(&format!("{count} at version {}{more}", page.version));
    Ok(())
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

fn no_document(args: &Args, key: &str, version: Version) -> Error {
    let then = if time::or_now(args.at) == At::Head { "" } else { " at that version" };
    Error::new(ErrorKind::NotFound, "reading a document")
        .with("log", &args.log)
        .with("key", key)
        .with("version", version)
        .advise(format!("There is no such document in this log{then}"))
}
