//! Standard output for results, standard error for progress and errors; JSON lines for machines, tables for people.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};

use base64::Engine;
use comfy_table::{Table, presets};
use icecore::{Error, ErrorKind, LogId, Receipt, RecordedEvent, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::time;

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One object a line.
    Json,
}

/// What becomes of a command when the reader of its output has gone, as in `icecore … | head -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenClosed {
    /// It has nothing else to do: it ends, and well.
    End,
    /// It goes on without printing, and ends by what it found or did.
    GoOn,
}

/// Where everything is printed.
pub struct Output {
    pub format: Format,
    pub quiet: bool,
    pub when_closed: WhenClosed,
    stdout: BufWriter<Box<dyn Write>>,
    is_closed: bool,
    /// Whether results are shown on a terminal: then values are cut, and control characters never shown as they are.
    is_terminal: bool,
}

/// How many characters of a value a person sees in a line on a terminal.
const VALUE_CHARS_MAX: usize = 60;

impl Output {
    pub fn new(format: Format, quiet: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { is_terminal, ..Self::to(Box::new(io::stdout().lock()), format, quiet) }
    }

    /// Prints results to something else than standard output.
    pub fn to(results: Box<dyn Write>, format: Format, quiet: bool) -> Self {
        let stdout = BufWriter::new(results);
        Self { format, quiet, when_closed: WhenClosed::GoOn, stdout, is_closed: false, is_terminal: false }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether the reader of our standard output has gone.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether the reader of our standard output has gone, seen without printing anything.
    #[cfg(unix)]
    pub fn looks_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let stdout = io::stdout();
        let mut looked_at = [PollFd::new(&stdout, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut looked_at, Some(&at_once)).is_ok()
            && looked_at[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    }

    /// Whether the reader of our standard output has gone; it is seen here only by printing.
    #[cfg(not(unix))]
    pub fn looks_closed(&self) -> bool {
        self.is_closed
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.print(|stdout| stdout.write_all(bytes))
    }

    pub fn line(&mut self, text: &str) -> Result<()> {
        self.print(|stdout| writeln!(stdout, "{text}"))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.print(Write::flush)
    }

    fn print(&mut self, print: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>) -> Result<()> {
        let printed = if self.is_closed { Ok(()) } else { print(&mut self.stdout) };
        let Err(error) = printed else {
            return Ok(());
        };
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.is_closed = true;
            if self.when_closed == WhenClosed::GoOn {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "printing").because(error))
    }

    /// A summary for people, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            // If nobody can be told, there is nobody to tell.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    pub fn error(&mut self, error: &Error) {
        let _ = self.stdout.flush();
        let shown = if self.is_json() {
            json!({ "error": error_json(error) }).to_string()
        } else {
            format!("icecore: {error}")
        };
        let _ = writeln!(io::stderr(), "{shown}");
    }

    /// How many columns results are shown in, if it is known: nothing need fit into a pipe.
    pub fn width(&self) -> Option<u16> {
        if self.is_terminal { Table::new().width() } else { None }
    }

    pub fn table(&mut self, headings: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings.iter().map(|heading| heading.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| shown(cell).into_owned()));
        }
        self.line(&table.trim_fmt())
    }

    pub fn receipt_as_json(&mut self, receipt: &Receipt) -> Result<()> {
        let line = json!({
            "id": receipt.id.as_ref().map(|id| id.as_str()),
            "log": receipt.log.as_str(),
            "version": receipt.version.0,
            "entry": receipt.entry,
            "repeated": receipt.repeated,
        });
        self.line(&line.to_string())
    }

    pub fn receipt(&mut self, receipt: &Receipt) -> Result<()> {
        if self.is_json() {
            return self.receipt_as_json(receipt);
        }
        let again = if receipt.repeated { ", as before" } else { "" };
        self.line(&format!("{} at version {}{again}", receipt.log, receipt.version))
    }

    pub fn event(&mut self, log: &LogId, event: &RecordedEvent) -> Result<()> {
        if self.is_json() {
            let line = event_json(log, event)?;
            return self.line(&line);
        }
        let data = match std::str::from_utf8(&event.event.data) {
            Ok(text) => shown(text),
            Err(_) => format!("({} bytes)", event.event.data.len()).into(),
        };
        let line = format!(
            "{:>6}.{:<3} {}  {}  {data}",
            event.version.0,
            event.index,
            time::show(event.at),
            shown(&event.event.kind)
        );
        self.line(&line)
    }

    /// A document's value in a line for people: whole, unless it is shown on a terminal.
    pub fn value(&self, json: &str) -> String {
        let line = one_line(json);
        let line = shown(&line);
        if self.is_terminal { cut(&line, VALUE_CHARS_MAX) } else { line.into_owned() }
    }

    /// A document's value alone: to the byte, unless it is shown on a terminal.
    pub fn value_alone(&mut self, json: &[u8]) -> Result<()> {
        if !self.is_terminal {
            return self.bytes(json);
        }
        for line in String::from_utf8_lossy(json).lines() {
            self.line(&shown(&line.replace('\t', "    ")))?;
        }
        Ok(())
    }

    /// That nothing was written, because nothing had to be.
    pub fn nothing_written(&mut self, log: &LogId, because: &str) -> Result<()> {
        if self.is_json() {
            return self.line(&json!({ "log": log.as_str(), "committed": false }).to_string());
        }
        self.line(&format!("{because}: nothing was written"))
    }

    /// Whether a person sees progress.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Progress on standard error, if a person sees it.
    pub fn progress(&self, total: Option<u64>, what: &'static str) -> ProgressBar {
        if !self.shows_progress() {
            return ProgressBar::hidden();
        }
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = match total {
            Some(_) => "{bar:30} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left",
            None => "{spinner} {human_pos} {msg}, {per_sec}, {elapsed}",
        };
        // The templates are ours; a mistake in one would only leave the default.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.with_message(what)
    }
}

/// A text's beginning, if it has more characters than this.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

pub fn error_json(error: &Error) -> Value {
    let mut object = Map::<String, Value>::new();
    for (name, value) in error.facts() {
        match object.get_mut(name) {
            None => drop(object.insert(name.to_owned(), value.into())),
            Some(Value::Array(all)) => all.push(value.into()),
            Some(one) => *one = json!([one.take(), value]),
        }
    }
    object.insert("kind".to_owned(), error.kind().name().into());
    object.insert("message".to_owned(), error.to_string().into());
    if error.kind() == ErrorKind::Unknown {
        object.insert("outcome".to_owned(), "unknown".into());
    }
    Value::Object(object)
}

/// Text from a store as it may be shown on a terminal: no control character reaches it.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect::<String>()
        .into()
}

fn event_json(log: &LogId, recorded: &RecordedEvent) -> Result<String> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        log: &'a str,
        version: u64,
        index: u32,
        id: Option<&'a str>,
        kind: &'a str,
        at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
        #[serde(flatten)]
        more: Map<String, Value>,
    }
    let event = &recorded.event;
    let text = std::str::from_utf8(&event.data).ok();
    // A raw value keeps the bytes; a line break in it would break the line, and is only white space there.
    let data: Option<Box<RawValue>> = text.and_then(|text| RawValue::from_string(one_line(text)).ok());
    let mut more = Map::new();
    let texts = [
        ("content_type", &event.content_type),
        ("actor", &event.actor),
        ("trace", &event.trace),
        ("node", &event.node),
        ("correlation", &event.correlation),
        ("causation", &event.causation),
    ];
    for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        more.insert(name.to_owned(), value.as_str().into());
    }
    if event.schema_version > 0 {
        more.insert("schema_version".to_owned(), event.schema_version.into());
    }
    if !event.subjects.is_empty() {
        more.insert("subjects".to_owned(), event.subjects.clone().into());
    }
    if !event.meta.is_empty() {
        more.insert(
            "meta".to_owned(),
            event
                .meta
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect::<Map<_, _>>()
                .into(),
        );
    }
    let line = Line {
        log: log.as_str(),
        version: recorded.version.0,
        index: recorded.index,
        id: recorded.id.as_ref().map(|id| id.as_str()),
        kind: &event.kind,
        at: time::show(recorded.at),
        data_base64: data.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(&event.data)),
        data: data.as_deref(),
        more,
    };
    serde_json::to_string(&line)
        .map_err(|error| Error::new(ErrorKind::Invalid, "printing an event").because(error))
}

/// Stored JSON as it is, within a line of JSON: a number keeps its digits.
pub fn raw(json: &[u8]) -> Result<Box<RawValue>> {
    let text = str::from_utf8(json).ok();
    text.and_then(|text| RawValue::from_string(one_line(text)).ok()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "printing a document").advise("What is stored is not JSON")
    })
}

/// JSON has line breaks only between its tokens: in strings they are escaped.
fn one_line(json: &str) -> String {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What was printed, for the test to look at.
    #[derive(Clone, Default)]
    struct Printed(Arc<Mutex<Vec<u8>>>);

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn alone(is_terminal: bool, json: &str) -> String {
        let printed = Printed::default();
        let output = Output::to(Box::new(printed.clone()), Format::Table, true);
        let mut output = Output { is_terminal, ..output };

        assert!(output.value_alone(json.as_bytes()).and_then(|()| output.flush()).is_ok());
        let bytes = printed.0.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_value_alone_is_itself_but_on_a_terminal_it_controls_nothing() {
        let value = "{\n\t\"a\": \"\u{9b}2J\u{7f}\"}";

        assert_eq!(alone(false, value), value);
        assert_eq!(alone(true, value), "{\n    \"a\": \"\\u{9b}2J\\u{7f}\"}\n");
    }

    #[test]
    fn a_value_in_a_line_is_cut_only_on_a_terminal() {
        let long = format!("\"{}\"", "é".repeat(100));
        let person =
            |is_terminal| Output { is_terminal, ..Output::to(Box::new(io::sink()), Format::Table, true) };

        assert_eq!(person(false).value(&long), long);
        assert_eq!(person(true).value(&long).chars().count(), VALUE_CHARS_MAX + 1);
        assert_eq!(person(true).value("{\"a\":1}"), "{\"a\":1}");
    }
}
