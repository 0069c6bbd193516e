//! `import`: lines in, entries out, in order, many in flight.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use icecore::{Entry, EntryId, Error, ErrorKind, Event, LogId, Receipt, Result, Store};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::input::Input;
use crate::lines::{self, Bad, LINE_BYTES_MAX, Line};
use crate::output::Output;
use crate::rejects::{self, Rejects};
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line is one JSON object: kind and data, and if you like id, at, actor, trace, node and meta. A line without an id gets one from the log, its number and its bytes.\n\nExample:\n  icecore import acme/flow/recorded examples/recorded-flow.ndjson"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// An NDJSON file, or - for standard input
    file: PathBuf,
    /// Print one JSON receipt a line, each as soon as its entry is durable
    #[arg(long)]
    receipts: bool,
    /// Pass over bad lines, and write them to FILE.rejects
    #[arg(long)]
    keep_going: bool,
    /// Write bad lines here instead, each with its number and what is wrong
    #[arg(long, value_name = "FILE", requires = "keep_going")]
    rejects: Option<PathBuf>,
}

/// How many entries may wait for their receipts.
const IN_FLIGHT: usize = 4_096;

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

/// The input, and where its bad lines go: opened before a store is opened or made for them.
pub struct Files {
    input: Input,
    rejects: Option<Rejects>,
}

impl Args {
    pub fn open(&self) -> Result<Files> {
        let input = Input::open(&self.file)?;
        let rejects = if self.keep_going {
            let path = self.rejects.clone().unwrap_or_else(|| rejects::default_path(&self.file));
            Some(Rejects::create(path, &input)?)
        } else {
            None
        };
        Ok(Files { input, rejects })
    }
}

pub async fn run(args: &Args, files: Files, store: &Store, output: &mut Output) -> Result<ExitCode> {
    import(args, store, lines::read(files.input), files.rejects, output).await
}

async fn import(
    args: &Args,
    store: &Store,
    mut lines: mpsc::Receiver<Result<Line>>,
    rejects: Option<Rejects>,
    output: &mut Output,
) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let bar = output.progress(None, "lines");
    let mut progress =
        Progress { args, output, bar, rejects, counts: Counts::default(), failure: None, is_done: false };
    let (started, mut in_flight) = (Instant::now(), FuturesOrdered::new());
    while !(progress.is_done && in_flight.is_empty()) {
        let line = tokio::select! {
            Some((sent, receipt)) = in_flight.next(), if !in_flight.is_empty() => {
                progress.settle(sent, receipt)?;
                continue;
            }
            line = lines.recv(), if !progress.is_done && in_flight.len() < IN_FLIGHT => line,
        };
        let Some((line, entry)) = progress.next_entry(line)? else {
            continue;
        };
        let mut enqueue = pin!(log.append(entry).enqueue());
        // The store gives room back as receipts are taken, so they must be taken while room is waited for.
        let enqueued = loop {
            tokio::select! {
                enqueued = &mut enqueue => break enqueued,
                Some((sent, receipt)) = in_flight.next(), if !in_flight.is_empty() => {
                    progress.settle(sent, receipt)?;
                }
            }
        };
        let sent = Sent { number: line.number, line: args.keep_going.then_some(line) };
        match enqueued {
            Ok(enqueued) => in_flight.push_back(async move { (sent, enqueued.receipt().await) }),
            Err(error) => progress.settle(sent, Err(error))?,
        }
    }
    progress.end(started)
}

/// An entry on its way. Its line is kept if it may have to go to the rejects.
struct Sent {
    number: u64,
    line: Option<Line>,
}

/// How far an import came, and where it tells.
struct Progress<'a> {
    args: &'a Args,
    output: &'a mut Output,
    bar: ProgressBar,
    rejects: Option<Rejects>,
    counts: Counts,
    /// The first error that ends the import.
    failure: Option<Error>,
    /// Whether no further line is to be taken.
    is_done: bool,
}

impl Progress<'_> {
    /// The next line that has an entry.
    fn next_entry(&mut self, line: Option<Result<Line>>) -> Result<Option<(Line, Entry)>> {
        let line = match line {
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                self.fail(error);
                return Ok(None);
            }
            None => {
                self.is_done = true;
                return Ok(None);
            }
        };
        self.counts.lines += 1;
        match entry_of(&self.args.log, &line) {
            Ok(entry) => Ok(entry.map(|entry| (line, entry))),
            Err(error) => {
                self.settle(Sent { number: line.number, line: Some(line) }, Err(error))?;
                Ok(None)
            }
        }
    }

    /// A bad line ends the import, or goes to the rejects. What may pass by itself, such as a full disk, always ends it.
    fn settle(&mut self, sent: Sent, receipt: Result<Receipt>) -> Result<()> {
        self.bar.inc(1);
        let error = match receipt {
            Ok(receipt) => return self.took(&receipt),
            Err(error) => error,
        };
        let is_lines_fault = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Conflict);
        self.counts.rejected += u64::from(is_lines_fault);
        match (is_lines_fault, &mut self.rejects, &sent.line) {
            (true, Some(rejects), Some(line)) => return rejects.add(line, &error),
            _ => self.fail(error.with("line", sent.number)),
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.is_done = true;
    }

    fn took(&mut self, receipt: &Receipt) -> Result<()> {
        if receipt.repeated {
            self.counts.repeated += 1;
        } else {
            self.counts.appended += 1;
        }
        if self.args.receipts {
            self.output.receipt_as_json(receipt)?;
            self.output.flush()?;
        }
        Ok(())
    }

    fn end(mut self, started: Instant) -> Result<ExitCode> {
        self.bar.finish_and_clear();
        if let Some(rejects) = &mut self.rejects {
            rejects.flush()?;
        }
        self.summary(started.elapsed().as_secs_f64())?;
        self.failure.map_or(Ok(ExitCode::SUCCESS), Err)
    }

    fn summary(&mut self, seconds: f64) -> Result<()> {
        let Counts { lines, appended, repeated, rejected } = self.counts;
        let path = self.rejects.as_ref().map(|rejects| rejects.path().display().to_string());
        let path = path.filter(|_| rejected > 0);
        if self.output.is_json() && !self.args.receipts {
            let log = self.args.log.as_str();
            let line = json!({ "log": log, "lines": lines, "appended": appended, "repeated": repeated, "rejected": rejected, "rejects": path, "seconds": seconds });
            return self.output.line(&line.to_string());
        }
        let written = path.map_or_else(String::new, |path| format!(" (see {path})"));
        self.output.note(&format!(
            "{lines} lines: {appended} appended, {repeated} there before, {rejected} rejected{written}, in {seconds:.1} s"
        ));
        Ok(())
    }
}

/// The entry of a line; `None` for a blank one.
fn entry_of(log: &LogId, line: &Line) -> Result<Option<Entry>> {
    let invalid = || Error::new(ErrorKind::Invalid, "importing");
    let text = line.text.as_ref().map_err(|bad| match bad {
        Bad::NotUtf8(_) => invalid().advise("The line is not UTF-8"),
        Bad::TooLong => invalid().with("bytes_max", LINE_BYTES_MAX).advise("The line is too long"),
    })?;
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

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::output::Format;

    /// Gives its text, then fails.
    struct Failing(io::Cursor<String>);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("a bad sector")),
                read => Ok(read),
            }
        }
    }

    fn args(keep_going: bool) -> Args {
        let log = LogId::new("acme", "flow", "recorded").unwrap();
        Args { log, file: "-".into(), receipts: false, keep_going, rejects: None }
    }

    fn text(count: usize, bytes: usize) -> String {
        // Numbers of their own, so that compression does not make them all small.
        let data =
            |line: usize| (0..bytes / 16).map(|n| format!("{:016x}", Hashed(line, n))).collect::<String>();
        (0..count).map(|line| format!("{{\"kind\":\"k\",\"data\":\"{}\"}}\n", data(line))).collect()
    }

    struct Hashed(usize, usize);

    impl std::fmt::LowerHex for Hashed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let digest = Sha256::digest(format!("{} {}", self.0, self.1));
            digest.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
        }
    }

    async fn memory() -> Store {
        icecore::open("memory:").await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_cannot_be_read_any_further_ends_the_import_also_with_keep_going() {
        // It counted as one rejected line, and the import ended with 0 though most of the file was never read.
        for keep_going in [false, true] {
            let store = memory().await;
            let folder = tempfile::tempdir().unwrap();
            let input = Failing(io::Cursor::new(text(3, 16)));
            let rejects = Rejects::create(folder.path().join("rejects"), &Input::Stdin(io::stdin())).unwrap();
            let rejects = keep_going.then_some(rejects);
            let mut output = Output::to(Box::new(io::sink()), Format::Table, true);

            let error = import(&args(keep_going), &store, lines::read(input), rejects, &mut output)
                .await
                .unwrap_err();

            assert_eq!((error.kind(), error.fact("line")), (ErrorKind::Unavailable, Some("4")));
            let head = store.log(args(false).log).head().await.unwrap().unwrap();
            assert_eq!(head.events, 3, "what was read before is appended");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_import_larger_than_the_stores_room_does_not_stall() {
        // Room was waited for while nobody took the receipts that give it back.
        let mut settings = icecore::Settings::default();
        settings.pending_bytes_max = 16 << 10;
        settings.append_timeout = Duration::from_secs(20);
        let backend = Arc::clone(memory().await.backend());
        let store = Store::builder(backend).settings(settings).build();
        let mut output = Output::to(Box::new(io::sink()), Format::Table, true);
        let input = io::Cursor::new(text(60, 3 << 10));

        import(&args(false), &store, lines::read(input), None, &mut output).await.unwrap();

        assert_eq!(store.log(args(false).log).head().await.unwrap().unwrap().events, 60);
    }
}
