//! `put`, `patch`, `merge` and `delete`.

use std::process::ExitCode;

use icecore::{Changes, Condition, EntryId, Error, ErrorKind, Json, LogId, Merge, Result, Store, Version};

use crate::expire::Expires;
use crate::output::Output;
use crate::{append, input};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  icecore put acme/session/s-1 cart '{\"items\":[\"tea\"]}'\n  icecore put acme/session/s-1 cart @cart.json --expect-document 0"
)]
pub struct PutArgs {
    /// The log: tenant/kind/key; made if it is not there
    pub log: LogId,
    /// The document's key: any text of 1 to 1024 bytes
    key: String,
    /// JSON, or @FILE, or - for standard input; kept byte for byte
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    json: String,
    #[command(flatten)]
    expires: Expires,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The patch is a JSON merge patch, RFC 7396: a member replaces the document's, an object is merged into it, and null removes it. Anything but an object replaces the document. A document that is not there is made.\n\nExample:\n  icecore patch acme/session/s-1 cart '{\"total\":4.75,\"note\":null}'"
)]
pub struct PatchArgs {
    /// The log: tenant/kind/key; made if it is not there
    pub log: LogId,
    /// The document's key: any text of 1 to 1024 bytes
    key: String,
    /// A JSON merge patch, RFC 7396, in which null removes a member; or @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    patch: String,
    #[command(flatten)]
    expires: Expires,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Many may do so at once, and none is lost. Where there is nothing yet, or null, it begins with 0 or an empty list; what is something else is left as it is, and that is an error (exit code 3).\n\nExamples:\n  icecore merge acme/session/s-1 run --add 12 --pointer /usage/tokens\n  icecore merge acme/session/s-1 run --append '[\"hello\"]' --pointer /messages\n  icecore merge acme/session/s-1 tags --union '[\"tea\",\"gift\"]'"
)]
pub struct MergeArgs {
    /// The log: tenant/kind/key; made if it is not there
    pub log: LogId,
    /// The document's key: any text of 1 to 1024 bytes
    key: String,
    #[command(flatten)]
    operation: Operation,
    /// Into this part of the document: a JSON pointer, RFC 6901; objects that are not there are made
    #[arg(long, default_value = "", hide_default_value = true)]
    pointer: String,
    #[command(flatten)]
    how: How,
}

/// One of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Operation {
    /// Add a number to a number, exactly
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    add: Option<String>,
    /// Put the items of this list behind those of a list: JSON, or @FILE, or -
    #[arg(long, value_name = "JSON|@FILE|-")]
    append: Option<String>,
    /// Put those items behind those of a list that are not in it yet: JSON, or @FILE, or -
    #[arg(long, value_name = "JSON|@FILE|-")]
    union: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Its history stays, and `state --at` still shows it. If it is not there, that is an error (exit code 4), unless --if-exists.\n\nExample:\n  icecore delete acme/session/s-1 cart"
)]
pub struct DeleteArgs {
    /// The log: tenant/kind/key
    pub log: LogId,
    /// The document's key
    key: String,
    /// No error if it is not there: then nothing is written
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    how: How,
}

/// What is said of a change.
#[derive(Debug, clap::Args)]
pub struct Described {
    /// An id: a second change with it and the same content changes nothing
    #[arg(long)]
    id: Option<String>,
    /// Who does it
    #[arg(long)]
    actor: Option<String>,
    /// The trace that it belongs to
    #[arg(long)]
    trace: Option<String>,
}

impl Described {
    pub fn add_to(&self, mut changes: Changes) -> Result<Changes> {
        if let Some(id) = &self.id {
            changes = changes.with_id(EntryId::new(id.clone())?);
        }
        if let Some(actor) = &self.actor {
            changes = changes.by(actor.clone());
        }
        if let Some(trace) = &self.trace {
            changes = changes.in_trace(trace.clone());
        }
        Ok(changes)
    }
}

/// What is said of a change, and the conditions under which it is made.
#[derive(Debug, clap::Args)]
pub struct How {
    #[command(flatten)]
    described: Described,
    /// Only if the log's last commit is this version (0: if it has none)
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Only if this version changed the document last (0: if there is none)
    #[arg(long, value_name = "VERSION")]
    expect_document: Option<u64>,
}

impl How {
    pub fn of(&self, key: &str, changes: Changes) -> Result<Changes> {
        let mut changes = self.described.add_to(changes)?;
        if let Some(version) = self.expect {
            changes = changes.only_if(Condition::Log(Version(version)));
        }
        let key = key.to_owned();
        Ok(match self.expect_document {
            None => changes,
            Some(0) => changes.only_if(Condition::Absent(key)),
            Some(version) => changes.only_if(Condition::Document { key, version: Version(version) }),
        })
    }
}

impl PutArgs {
    /// What is to be changed, before a store is opened or made for it.
    pub fn changes(&self) -> Result<Changes> {
        let key = input::key(&self.key)?;
        let json = input::json("reading a document", &self.json)?;
        self.how.of(key, self.expires.add(key, Changes::new().put(key, json)))
    }
}

impl PatchArgs {
    /// What is to be changed, before a store is opened or made for it.
    pub fn changes(&self) -> Result<Changes> {
        let key = input::key(&self.key)?;
        let patch = input::json("reading a patch", &self.patch)?;
        self.how.of(key, self.expires.add(key, Changes::new().patch(key, patch)))
    }
}

impl MergeArgs {
    /// What is to be changed, before a store is opened or made for it.
    pub fn changes(&self) -> Result<Changes> {
        let key = input::key(&self.key)?;
        let Operation { add, append, union } = &self.operation;
        let items = |given: &String| input::json("reading items", given);
        let merge = match (add, append, union) {
            (Some(number), ..) => Merge::add(&Json::text(number.clone())?),
            (_, Some(given), _) => Merge::append(&items(given)?),
            (.., given) => Merge::union(&given.as_ref().map(items).transpose()?),
        };
        self.how.of(key, Changes::new().merge(key, merge?.pointer(self.pointer.clone())))
    }
}

impl DeleteArgs {
    /// What is to be changed, before a store is opened.
    pub fn changes(&self) -> Result<Changes> {
        if self.how.expect_document == Some(0) {
            return Err(Error::new(ErrorKind::Invalid, "reading --expect-document")
                .advise("0 means that there is no document, and then there is nothing to delete"));
        }
        let key = input::key(&self.key)?;
        let changes = Changes::new().delete(key);
        // Whether it is there is decided with the commit: looked at before, it might be gone by then.
        let changes = match self.how.expect_document {
            None => changes.only_if(Condition::Exists(key.to_owned())),
            Some(_) => changes,
        };
        self.how.of(key, changes)
    }

    /// Whether nothing but the lack of the document stands in the way.
    fn found_none(&self, error: &Error) -> bool {
        let lack = Condition::Exists(self.key.clone()).to_string();
        let mut failed = error.facts().filter(|(name, _)| *name == "failed").peekable();
        error.kind() == ErrorKind::Conflict && failed.peek().is_some() && failed.all(|(_, what)| what == lack)
    }
}

/// Looks first, unless the commit does so by its conditions: who types it wants to know.
pub async fn merge(
    args: &MergeArgs,
    changes: Changes,
    store: &Store,
    output: &mut Output,
) -> Result<ExitCode> {
    if args.how.expect.or(args.how.expect_document).is_none() {
        store.log(args.log.clone()).check_merges(&changes).await?;
    }
    run(&args.log, changes, store, output).await
}

pub async fn run(log: &LogId, changes: Changes, store: &Store, output: &mut Output) -> Result<ExitCode> {
    match store.log(log.clone()).commit(changes).await? {
        Some(receipt) => append::print(&receipt, output),
        None => output.nothing_written(log, "There was nothing to change").map(|()| ExitCode::SUCCESS),
    }
}

pub async fn delete(
    args: &DeleteArgs,
    changes: Changes,
    store: &Store,
    output: &mut Output,
) -> Result<ExitCode> {
    match run(&args.log, changes, store, output).await {
        Err(error) if args.found_none(&error) => {
            if args.if_exists {
                output.nothing_written(&args.log, "There is no such document")?;
                return Ok(ExitCode::SUCCESS);
            }
            let is_log = store.log(args.log.clone()).head().await?.is_some();
            let what = if is_log { "document in this log" } else { "log" };
            Err(Error::new(ErrorKind::NotFound, "deleting a document")
                .with("log", &args.log)
                .with("key", &args.key)
                .advise(format!(
                    "There is no such {what}: nothing was written. With --if-exists that is no error"
                )))
        }
        done => done,
    }
}
