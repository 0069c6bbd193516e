//! `import`: lines in, entries out, in order, many in flight.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use icecore::{Entry, EntryId, Error, ErrorKind, Event, LogId, Receipt, Result, Store};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line: {\"id\"?, \"kind\", \"data\", \"at\"?, \"actor\"?, \"trace\"?, \"node\"?, \"meta\"?}\n\nExample:\n  icecore import acme/flow/recorded examples/recorded-flow.ndjson"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// An NDJSON file, or - for standard input
    file: PathBuf,
    /// Print one receipt a line, each as soon as its entry is durable
    #[arg(long)]
    receipts: bool,
    /// Pass over bad lines, and write them to the file of --rejects
    #[arg(long, requires = "rejects")]
    keep_going: bool,
    /// Where bad lines go, each with its number and what is wrong
    #[arg(long, value_name = "FILE", requires = "keep_going")]
    rejects: Option<PathBuf>,
}

/// How many entries may wait for their receipts.
const IN_FLIGHT: usize = 4_096;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 65 << 20;

/// One line, with its number from 1.
struct Line {
    number: u64,
    text: Result<String, &'static str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    id: Option<String>,
    kind: String,
    #[serde(borrow)]
    data: &'a RawValue,
    at: Option<String>,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    trace: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    meta: BTreeMap<String, String>,
}

#[derive(Default)]
struct Counts {
    lines: u64,
    appended: u64,
    repeated: u64,
    rejected: u64,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let (started, mut counts) = (Instant::now(), Counts::default());
    let mut rejects = match &args.rejects {
        Some(path) => Some(BufWriter::new(
            File::create(path).map_err(|error| unreadable("making the file of rejects", path, error))?,
        )),
        None => None,
    };
    let mut lines = read_lines(&args.file)?;
    let bar = output.progress(None, "lines");
    let log = store.log(args.log.clone());
    let mut in_flight = FuturesOrdered::new();
    let (mut failure, mut is_done) = (None, false);
    while !(is_done && in_flight.is_empty()) {
        tokio::select! {
            Some((number, receipt)) = in_flight.next(), if !in_flight.is_empty() => {
                match receipt {
                    Ok(receipt) => took(args, &receipt, &mut counts, output)?,
                    Err(error) => {
                        let refused = Reject { number, line: None, error };
                        (failure, is_done) = settle(refused, args, rejects.as_mut(), &mut counts, failure, is_done)?;
                    }
                }
                bar.inc(1);
            }
            line = lines.recv(), if !is_done && in_flight.len() < IN_FLIGHT => {
                let Some(line) = line else {
                    is_done = true;
                    continue;
                };
                counts.lines += 1;
                let enqueued = match entry_of(&args.log, &line) {
                    Ok(None) => continue,
                    Ok(Some(entry)) => log.append(entry).enqueue().await,
                    Err(error) => Err(error),
                };
                match enqueued {
                    Ok(enqueued) => in_flight.push_back(async move { (line.number, enqueued.receipt().await) }),
                    Err(error) => {
                        let refused = Reject { number: line.number, line: line.text.ok(), error };
                        (failure, is_done) = settle(refused, args, rejects.as_mut(), &mut counts, failure, is_done)?;
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    if let (Some(mut rejects), Some(path)) = (rejects, &args.rejects) {
        rejects.flush().map_err(|error| unreadable("writing the file of rejects", path, error))?;
    }
    summary(args, &counts, started, output)?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

struct Reject {
    number: u64,
    line: Option<String>,
    error: Error,
}

/// A bad line ends the import, or goes to the rejects. What may pass by itself, such as a full disk, always ends it.
fn settle(
    reject: Reject,
    args: &Args,
    rejects: Option<&mut BufWriter<File>>,
    counts: &mut Counts,
    failure: Option<Error>,
    is_done: bool,
) -> Result<(Option<Error>, bool)> {
    counts.rejected += 1;
    let Reject { number, line, error } = reject;
    let is_lines_fault = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Conflict);
    if let (true, Some(rejects), Some(path)) = (is_lines_fault && args.keep_going, rejects, &args.rejects) {
        let told = json!({ "line": number, "error": error.to_string(), "text": line });
        writeln!(rejects, "{told}")
            .map_err(|error| unreadable("writing the file of rejects", path, error))?;
        return Ok((failure, is_done));
    }
    Ok((failure.or(Some(error.with("line", number))), true))
}

fn took(args: &Args, receipt: &Receipt, counts: &mut Counts, output: &mut Output) -> Result<()> {
    if receipt.repeated {
        counts.repeated += 1;
    } else {
        counts.appended += 1;
    }
    if args.receipts {
        output.receipt(receipt)?;
        output.flush()?;
    }
    Ok(())
}

fn summary(args: &Args, counts: &Counts, started: Instant, output: &mut Output) -> Result<()> {
    let seconds = started.elapsed().as_secs_f64();
    let Counts { lines, appended, repeated, rejected } = *counts;
    if output.is_json() && !args.receipts {
        let line = json!({ "log": args.log.as_str(), "lines": lines, "appended": appended, "repeated": repeated, "rejected": rejected, "seconds": seconds });
        return output.line(&line.to_string());
    }
    output.note(&format!(
        "{lines} lines: {appended} appended, {repeated} there before, {rejected} rejected, in {seconds:.1} s"
    ));
    Ok(())
}

/// Reads lines in a thread of its own, so that receipts are printed while the next line is waited for.
fn read_lines(path: &std::path::Path) -> Result<mpsc::Receiver<Line>> {
    let mut reader: Box<dyn BufRead + Send> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(path).map_err(|error| unreadable("opening a file", path, error))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Error::new(ErrorKind::Invalid, "opening a file")
                .with("file", path.display())
                .advise("It is a directory"));
        }
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    std::thread::spawn(move || {
        for number in 1.. {
            let mut bytes = Vec::new();
            let text = match reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(_) if bytes.len() > LINE_BYTES_MAX => Err("the line is longer than 65 MiB"),
                Ok(_) => text_of(bytes, number),
                Err(_) => Err("the file cannot be read any further"),
            };
            let is_last = text.as_ref().is_err_and(|what| *what != NOT_UTF8);
            if sender.blocking_send(Line { number, text }).is_err() || is_last {
                return;
            }
        }
    });
    Ok(receiver)
}

const NOT_UTF8: &str = "the line is not UTF-8";

fn text_of(mut bytes: Vec<u8>, number: u64) -> Result<String, &'static str> {
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    let text = String::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
    // Some editors begin a file with a byte order mark.
    Ok(if number == 1 { text.trim_start_matches('\u{FEFF}').to_owned() } else { text })
}

/// The entry of a line; `None` for a blank one.
fn entry_of(log: &LogId, line: &Line) -> Result<Option<Entry>> {
    let invalid = || Error::new(ErrorKind::Invalid, "importing");
    let text = line.text.as_ref().map_err(|what| invalid().with("because", what))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| invalid().because(error))?;
    let id = match fields.id {
        Some(id) => EntryId::new(id)?,
        None => EntryId::new(derived_id(log, line.number, text))?,
    };
    let event = Event {
        at: fields.at.as_deref().map(time::parse).transpose()?,
        actor: fields.actor,
        trace: fields.trace,
        node: fields.node,
        meta: fields.meta,
        ..Event::new(fields.kind, fields.data.get().to_owned())
    };
    if event.kind.is_empty() {
        return Err(invalid().advise("A kind is not empty"));
    }
    Ok(Some(Entry::new(event).with_id(id)))
}

/// The same line of the same file in the same log always gets the same id.
fn derived_id(log: &LogId, number: u64, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(log.as_str());
    hash.update([0]);
    hash.update(number.to_be_bytes());
    hash.update(text);
    let digits: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("line-{number}-{digits}")
}

fn unreadable(doing: &'static str, path: &std::path::Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, doing).with("file", path.display()).because(error)
}
