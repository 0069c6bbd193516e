//! `append` and `resolve`.

use std::process::ExitCode;

use icecore::{Entry, EntryId, Error, ErrorKind, Event, LogId, Receipt, Resolved, Result, Store, Version};
use serde_json::json;
use serde_json::value::RawValue;

use crate::output::Output;
use crate::{input, time};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore append acme/session/s-1 --kind said --data '{\"text\":\"hi\"}'")]
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

impl Args {
    /// What is to be appended, before a store is opened or made for it.
    pub fn entry(&self) -> Result<Entry> {
        let event = Event {
            content_type: self.content_type.clone().unwrap_or_default(),
            at: self.at.as_deref().map(time::parse).transpose()?,
            actor: self.actor.clone().unwrap_or_default(),
            trace: self.trace.clone().unwrap_or_default(),
            node: self.node.clone().unwrap_or_default(),
            meta: self.meta.iter().map(|pair| meta(pair)).collect::<Result<_>>()?,
            ..Event::new(self.kind.clone(), input::data("reading --data", &self.data)?)
        };
        if event.kind.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "reading --kind").advise("A kind is not empty"));
        }
        if event.content_type() == "application/json" {
            check_json(&event.data)?;
        }
        Ok(Entry { id: self.id.clone().map(EntryId::new).transpose()?, events: vec![event] })
    }
}

fn meta(pair: &str) -> Result<(String, String)> {
    let (name, value) = pair.split_once('=').ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "reading --meta")
            .with("given", pair)
            .advise("It is written NAME=VALUE")
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

pub async fn run(args: &Args, entry: Entry, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let mut append = log.append(entry);
    if let Some(version) = args.expect {
        append = append.expect(Version(version));
    }
    print(&append.await?, output)
}

/// Prints the receipt of what was appended.
pub fn print(receipt: &Receipt, output: &mut Output) -> Result<ExitCode> {
    output.receipt(receipt).and_then(|()| output.flush()).map_err(|error| {
        // To retry without an id would append it again.
        Error::new(ErrorKind::Unknown, "printing a receipt")
            .with("log", &receipt.log)
            .with("version", receipt.version)
            .because(error)
            .advise("The entry was appended; only its receipt could not be printed")
    })?;
    Ok(ExitCode::SUCCESS)
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
