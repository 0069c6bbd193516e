//! `append` and `resolve`.

use std::io::Read;
use std::process::ExitCode;

use icecore::{Entry, EntryId, Error, ErrorKind, Event, LogId, Resolved, Result, Store, Version};
use serde_json::json;
use serde_json::value::RawValue;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  icecore append acme/session/s-1 --kind said --data '{\"text\":\"hello\"}' --id m-1"
)]
pub struct Args {
    /// The log: tenant/kind/key, such as acme/session/s-42
    log: LogId,
    /// What happened
    #[arg(long)]
    kind: String,
    /// JSON, or @FILE, or - for standard input; kept byte for byte
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: String,
    /// An id: a second append with it and the same content changes nothing
    #[arg(long)]
    id: Option<String>,
    /// Only if the log's last commit is this version (0: if it has none)
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// When it happened, in RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Anything else; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    meta: Vec<String>,
    /// What the data is, if not application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Who did it
    #[arg(long)]
    actor: Option<String>,
    /// The trace that it belongs to
    #[arg(long)]
    trace: Option<String>,
    /// The node of a flow that it happened in
    #[arg(long)]
    node: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore resolve acme/session/s-1 m-1")]
pub struct ResolveArgs {
    /// The log
    log: LogId,
    /// The entry's id
    id: String,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let mut event = Event::new(args.kind.clone(), data(&args.data)?);
    event.content_type = args.content_type.clone().unwrap_or_default();
    if event.content_type() == "application/json" {
        check_json(&event.data)?;
    }
    event.at = args.at.as_deref().map(time::parse).transpose()?;
    event.actor = args.actor.clone().unwrap_or_default();
    event.trace = args.trace.clone().unwrap_or_default();
    event.node = args.node.clone().unwrap_or_default();
    for pair in &args.meta {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "reading --meta")
                .with("given", pair)
                .advise("It is written NAME=VALUE")
        })?;
        event.meta.insert(name.to_owned(), value.to_owned());
    }
    let entry = Entry { id: args.id.clone().map(EntryId::new).transpose()?, events: vec![event] };
    let log = store.log(args.log.clone());
    let mut append = log.append(entry);
    if let Some(version) = args.expect {
        append = append.expect(Version(version));
    }
    let receipt = append.await?;
    output.receipt(&receipt)?;
    Ok(ExitCode::SUCCESS)
}

fn data(given: &str) -> Result<Vec<u8>> {
    let failed =
        |error| Error::new(ErrorKind::NotFound, "reading --data").with("given", given).because(error);
    if given == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().take(Entry::BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes);
    }
    match given.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(failed),
        None => Ok(given.as_bytes().to_vec()),
    }
}

fn check_json(data: &[u8]) -> Result<()> {
    let invalid = || {
        Error::new(ErrorKind::Invalid, "reading --data")
            .advise("It is not JSON; name what it is with --content-type, or quote it")
    };
    let text = std::str::from_utf8(data).map_err(|_| invalid())?;
    serde_json::from_str::<&RawValue>(text).map(|_| ()).map_err(|error| invalid().because(error))
}

pub async fn resolve(args: &ResolveArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let id = EntryId::new(args.id.clone())?;
    match store.log(args.log.clone()).resolve(&id).await? {
        Resolved::Committed(receipt) => output.receipt(&receipt)?,
        resolved if output.is_json() => {
            let committed = (resolved == Resolved::NotCommitted).then_some(false);
            let answer = json!({ "id": args.id, "log": args.log.as_str(), "committed": committed });
            output.line(&answer.to_string())?;
        }
        Resolved::NotCommitted => {
            output.line("It was not committed, and cannot be any more: append it again if you want it")?;
        }
        Resolved::Undetermined => {
            output.line("It cannot be told any more: the log was trimmed before its ids were kept")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
