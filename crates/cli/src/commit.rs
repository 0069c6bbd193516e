//! `commit`: changes of several logs from lines of JSON, all of them or none.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use icecore::{
    Changes, Condition, Entry, Error, ErrorKind, Event, Json, LogId, Merge, Result, Store, Version,
};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::change::Described;
use crate::input::{self, Input};
use crate::output::Output;
use crate::{append, time};

#[derive(Debug, clap::Args)]
#[command(after_help = "A line is one JSON object: a log, and one of
  {\"put\":KEY,\"value\":JSON}        {\"patch\":KEY,\"value\":JSON}     {\"delete\":KEY}
  {\"add\":KEY,\"value\":NUMBER}      {\"append\":KEY,\"value\":LIST}    {\"union\":KEY,\"value\":LIST}
  {\"kind\":KIND,\"data\":JSON}       an event; as for import, with at, actor, trace, node, meta
or a condition:
  {\"expect\":VERSION}              the log's last commit is this version; 0: it has none
  {\"document\":KEY,\"version\":N}    version N changed it last; 0: there is none
  {\"exists\":KEY}                  there is such a document
add, append and union may have a pointer (RFC 6901). A log of which there are conditions alone is not changed, but must still be so as the others are.

Several logs are committed together on memory, file, SQLite, PostgreSQL, MySQL, replica sets of MongoDB and DynamoDB; elsewhere that is refused (exit code 6), and nothing is written.

Example:
  printf '%s\\n' '{\"log\":\"acme/account/ann\",\"add\":\"credits\",\"value\":-4}' \\
    '{\"log\":\"acme/account/bob\",\"add\":\"credits\",\"value\":4}' |
    icecore commit - --id move-17")]
pub struct Args {
    /// A file of such lines, or - for standard input; in the order of its lines
    file: PathBuf,
    #[command(flatten)]
    described: Described,
}

/// One line: a change, an event or a condition of a log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    log: String,
    put: Option<String>,
    patch: Option<String>,
    delete: Option<String>,
    add: Option<String>,
    append: Option<String>,
    union: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    pointer: Option<String>,
    expect: Option<u64>,
    document: Option<String>,
    version: Option<u64>,
    exists: Option<String>,
    kind: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    at: Option<String>,
    actor: Option<String>,
    trace: Option<String>,
    node: Option<String>,
    meta: Option<BTreeMap<String, String>>,
}

const READING: &str = "reading what to commit";
/// All lines are in memory at a time: as many bytes as one commit has at the most, and room for what describes them.
const BYTES_MAX: u64 = 2 * Entry::BYTES_MAX as u64;

impl Args {
    /// What is to be changed, before a store is opened or made for it.
    pub fn changes(&self) -> Result<Vec<(LogId, Changes)>> {
        // What every log's changes begin with.
        let described = self.described.add_to(Changes::new())?;
        let mut lines = BufReader::new(Input::open(&self.file)?.take(BYTES_MAX + 1));
        let (mut all, mut line, mut bytes) = (BTreeMap::new(), Vec::new(), 0);
        for number in 1_u64.. {
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            let read = read.map_err(|error| input::failed(READING, &self.file, error))?;
            bytes += read as u64;
            if bytes > BYTES_MAX {
                return Err(Error::new(ErrorKind::Invalid, READING)
                    .with("bytes_max", BYTES_MAX)
                    .advise("It is too large for one commit: split it"));
            }
            if read == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                read_line(&line, &described, &mut all).map_err(|error| error.with("line", number))?;
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// Adds what a line says to the changes of its log.
fn read_line(line: &[u8], described: &Changes, all: &mut BTreeMap<LogId, Changes>) -> Result<()> {
    // What serde says may repeat a value; it is the caller's own, and helps to find what is wrong.
    let fields: Fields<'_> = serde_json::from_slice(line)
        .map_err(|error| Error::new(ErrorKind::Invalid, READING).because(error))?;
    let log: LogId = fields.log.parse()?;
    let changes = all.remove(&log).unwrap_or_else(|| described.clone());
    let changes = fields.add_to(changes)?;
    all.insert(log, changes);
    Ok(())
}

impl Fields<'_> {
    fn add_to(self, changes: Changes) -> Result<Changes> {
        let step = self.step()?;
        self.check_members(step)?;
        let value =
            || self.value.ok_or_else(|| lacks("value")).and_then(|value| Json::text(value.get().to_owned()));
        let key =
            |given: &Option<String>| input::key(given.as_deref().unwrap_or_default()).map(str::to_owned);
        let merge = |merge: Merge| merge.pointer(self.pointer.clone().unwrap_or_default());
        Ok(match step {
            "put" => changes.put(key(&self.put)?, value()?),
            "patch" => changes.patch(key(&self.patch)?, value()?),
            "delete" => changes.delete(key(&self.delete)?),
            "add" => changes.merge(key(&self.add)?, merge(Merge::add(&value()?)?)),
            "append" => changes.merge(key(&self.append)?, merge(Merge::append(&value()?)?)),
            "union" => changes.merge(key(&self.union)?, merge(Merge::union(&value()?)?)),
            "expect" => changes.only_if(Condition::Log(Version(self.expect.unwrap_or_default()))),
            "exists" => changes.only_if(Condition::Exists(key(&self.exists)?)),
            "document" => {
                let key = key(&self.document)?;
                changes.only_if(match self.version.ok_or_else(|| lacks("version"))? {
                    0 => Condition::Absent(key),
                    version => Condition::Document { key, version: Version(version) },
                })
            }
            _ => changes.event(self.event()?),
        })
    }

    /// The one thing that the line says.
    fn step(&self) -> Result<&'static str> {
        let steps = [
            ("put", self.put.is_some()),
            ("patch", self.patch.is_some()),
            ("delete", self.delete.is_some()),
            ("add", self.add.is_some()),
            ("append", self.append.is_some()),
            ("union", self.union.is_some()),
            ("expect", self.expect.is_some()),
            ("document", self.document.is_some()),
            ("exists", self.exists.is_some()),
            ("kind", self.kind.is_some()),
        ];
        let mut given = steps.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name);
        match (given.next(), given.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(Error::new(ErrorKind::Invalid, READING).advise(
                "Say one thing a line: put, patch, delete, add, append, union, kind, expect, document or exists",
            )),
        }
    }

    /// What does not belong to a step would be passed over in silence.
    fn check_members(&self, step: &str) -> Result<()> {
        let (is_event, is_merge) = (step == "kind", ["add", "append", "union"].contains(&step));
        let strange = [
            ("value", self.value.is_some() && !is_merge && !["put", "patch"].contains(&step)),
            ("pointer", self.pointer.is_some() && !is_merge),
            ("version", self.version.is_some() && step != "document"),
            ("data", self.data.is_some() && !is_event),
            ("at", self.at.is_some() && !is_event),
            ("actor", self.actor.is_some() && !is_event),
            ("trace", self.trace.is_some() && !is_event),
            ("node", self.node.is_some() && !is_event),
            ("meta", self.meta.is_some() && !is_event),
        ];
        match strange.iter().find(|(_, is_strange)| *is_strange) {
            Some((name, _)) => Err(Error::new(ErrorKind::Invalid, READING)
                .with("member", name)
                .advise(format!("It does not belong to {step}: leave it out"))),
            None => Ok(()),
        }
    }

    fn event(&self) -> Result<Event> {
        let kind = self.kind.clone().filter(|kind| !kind.is_empty());
        let kind =
            kind.ok_or_else(|| Error::new(ErrorKind::Invalid, READING).advise("A kind is not empty"))?;
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        Ok(Event {
            at: self.at.as_deref().map(time::parse).transpose()?,
            actor: text(&self.actor),
            trace: text(&self.trace),
            node: text(&self.node),
            meta: self.meta.clone().unwrap_or_default(),
            ..Event::new(kind, self.data.ok_or_else(|| lacks("data"))?.get().to_owned())
        })
    }
}

fn lacks(member: &str) -> Error {
    Error::new(ErrorKind::Invalid, READING).with("member", member).advise("The line lacks it")
}

pub async fn run(changes: Vec<(LogId, Changes)>, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let receipts = store.commit(changes).await?;
    match (receipts.is_empty(), output.is_json()) {
        (true, true) => output.line(&json!({ "committed": false }).to_string())?,
        (true, false) => output.line("There was nothing to change: nothing was written")?,
        (false, _) => {}
    }
    for receipt in &receipts {
        append::print(receipt, output)?;
    }
    Ok(ExitCode::SUCCESS)
}
