//! Lines of an NDJSON file, read in a thread of its own, so that receipts are printed while the next line is waited for.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use icecore::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The longest line, in bytes: an entry of 64 MiB, and room for what describes it.
pub const LINE_BYTES_MAX: usize = 65 << 20;
/// How many lines are read ahead.
const LINES_AHEAD: usize = 256;
/// How many bytes of lines are held at a time, whatever their number; a longer line is held alone.
const BYTES_HELD_MAX: usize = 128 << 20;

/// One line, with its number from 1. It takes up room until it is dropped.
#[derive(Debug)]
pub struct Line {
    pub number: u64,
    pub text: Result<String, Bad>,
    _room: OwnedSemaphorePermit,
}

/// A line that is no text.
#[derive(Debug)]
pub enum Bad {
    NotUtf8(Vec<u8>),
    /// What it held was passed over.
    TooLong,
}

/// Reads lines until the end of the input, or its first error, which comes last.
pub fn read(input: impl Read + Send + 'static) -> mpsc::Receiver<Result<Line>> {
    read_bounded(input, LINE_BYTES_MAX, BYTES_HELD_MAX)
}

fn read_bounded(
    input: impl Read + Send + 'static,
    line_bytes_max: usize,
    bytes_held_max: usize,
) -> mpsc::Receiver<Result<Line>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let (room, runtime) = (Arc::new(Semaphore::new(bytes_held_max)), Handle::current());
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 20, input);
        for number in 1.. {
            let bytes = match next_line(&mut reader, line_bytes_max) {
                Ok(None) => return,
                Ok(Some(bytes)) => bytes,
                Err(error) => {
                    // Nobody listens any more if it cannot be told.
                    let _ = sender.blocking_send(Err(unreadable(error, number)));
                    return;
                }
            };
            let held = bytes.as_ref().map_or(1, |bytes| bytes.len().clamp(1, bytes_held_max));
            let held = u32::try_from(held).unwrap_or(u32::MAX);
            let Ok(room) = runtime.block_on(Arc::clone(&room).acquire_many_owned(held)) else {
                return;
            };
            let text = bytes.and_then(|bytes| text_of(bytes, number));
            if sender.blocking_send(Ok(Line { number, text, _room: room })).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The bytes through the next line feed; `None` at the end. A line that is too long is passed over to its end.
fn next_line(reader: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Result<Vec<u8>, Bad>>> {
    let mut bytes = Vec::new();
    if reader.take(bytes_max as u64 + 1).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.len() <= bytes_max || bytes.ends_with(b"\n") {
        return Ok(Some(Ok(bytes)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(Err(Bad::TooLong)))
}

fn text_of(mut bytes: Vec<u8>, number: u64) -> Result<String, Bad> {
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    let text = String::from_utf8(bytes).map_err(|error| Bad::NotUtf8(error.into_bytes()))?;
    // Some editors begin a file with a byte order mark.
    match text.strip_prefix('\u{FEFF}') {
        Some(rest) if number == 1 => Ok(rest.to_owned()),
        _ => Ok(text),
    }
}

/// What follows is not lost with the line: it was never read. So it is no bad line, and always ends the import.
fn unreadable(error: io::Error, number: u64) -> Error {
    Error::new(ErrorKind::Unavailable, "reading the lines to import")
        .with("line", number)
        .because(error)
        .advise("Nothing from this line on was imported: import again when the file can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_passed_over_to_its_end_and_no_further() {
        let mut reader = BufReader::with_capacity(3, &b"1234\n12345\n123456789\nab\n12345"[..]);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, 4).unwrap() {
            lines.push(line.ok().map(|line| String::from_utf8(line).unwrap()));
        }

        let expected = [Some("1234\n"), None, None, Some("ab\n"), None];
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lines_ahead_are_bounded_in_bytes_and_not_only_in_number() {
        // 4,096 lines of 65 MiB were read ahead: 266 GB.
        let text = "123456789\n".repeat(4);
        let mut lines = read_bounded(io::Cursor::new(text), 1_000, 35);
        let mut held = Vec::new();

        for _ in 0..3 {
            held.push(lines.recv().await.unwrap().unwrap());
        }

        assert!(held[0]._room.semaphore().available_permits() <= 5, "three lines of ten bytes are held");
        held.clear();
        assert!(lines.recv().await.is_some(), "there is room again");
        assert!(lines.recv().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_line_larger_than_the_room_is_held_alone() {
        let mut lines = read_bounded(io::Cursor::new("1\n1234567890\n2\n"), 100, 4);
        let mut texts = Vec::new();

        while let Some(line) = lines.recv().await {
            texts.push(line.unwrap().text.unwrap());
        }

        assert_eq!(texts, ["1", "1234567890", "2"]);
    }
}
