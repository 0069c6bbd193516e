//! Where in the text of a document the value at a JSON pointer is: found by passing over the text, which is neither parsed nor written anew, and remembered,
//! so that the next change there costs what it changes and not what the document has.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use icecore_log::{Hash, Result};

use crate::state::{check, edit, event};

/// So many places of a document are remembered.
const KNOWN_MAX: usize = 32;
/// About what a remembered item takes, and a place beside its pointer.
const ITEM_BYTES: usize = 48;
const KNOWN_BYTES: usize = 96;

/// Tells the items of an array from others.
pub(crate) type Items = HashSet<Hash>;

/// What is known of the places in a document's text. A cache: without it, they are found again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    known: Vec<Known>,
    /// The text is JSON that can be read.
    is_checked: bool,
}

#[derive(Debug, Clone)]
struct Known {
    pointer: String,
    at: Range<usize>,
    /// Of an array, once that was needed.
    items: Option<Items>,
}

/// What there is at a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A value.
    Value(Range<usize>),
    /// Nothing; but an object, or a null in place of one, where the last `steps` of the pointer can be made.
    Nothing { inside: Range<usize>, steps: usize },
    /// Something that has no members of such names.
    Blocked,
}

impl Places {
    /// What is at a pointer, of which these are the steps.
    ///
    /// # Errors
    /// [`Corrupt`](icecore_log::ErrorKind::Corrupt) if the text is no JSON.
    pub fn find(&mut self, json: &[u8], pointer: &str, steps: &[String]) -> Result<Found> {
        if let Some(known) = self.known(pointer) {
            return Ok(known);
        }
        if !self.is_checked {
            check::check_json(json).map_err(|_| event::unreadable())?;
            self.is_checked = true;
        }
        find(json, steps).ok_or_else(event::unreadable)
    }

    /// What is at a pointer, if that is remembered.
    pub fn known(&self, pointer: &str) -> Option<Found> {
        let known = self.known.iter().find(|known| known.pointer == pointer)?;
        Some(Found::Value(known.at.clone()))
    }

    /// Puts another text in place of a part. What is within that part is forgotten.
    pub fn replace(&mut self, json: &mut Bytes, part: &Range<usize>, text: &[u8]) {
        edit::replace(json, part.clone(), text);
        self.known.retain_mut(|known| known.follow(part, text.len()));
    }

    /// Remembers where the value at a pointer is, and its items.
    pub fn remember(&mut self, pointer: &str, at: Range<usize>, items: Option<Items>) {
        self.known.retain(|known| known.pointer != pointer);
        if self.known.len() >= KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push(Known { pointer: pointer.to_owned(), at, items });
    }

    /// The items of the array at a pointer, as far as they are known; then they are not any more.
    pub fn take_items(&mut self, pointer: &str) -> Option<Items> {
        self.known.iter_mut().find(|known| known.pointer == pointer)?.items.take()
    }

    /// About how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let one = |known: &Known| {
            KNOWN_BYTES
                + known.pointer.len()
                + known.items.as_ref().map_or(0, |items| items.len() * ITEM_BYTES)
        };
        self.known.iter().map(one).sum()
    }
}

impl Known {
    /// Moves with the text as a part of it becomes another, of so many bytes; whether it is there still.
    fn follow(&mut self, part: &Range<usize>, bytes: usize) -> bool {
        let moved = |place: usize| place - part.len() + bytes;
        if self.at.end <= part.start {
            return true;
        }
        let is_behind = part.end <= self.at.start;
        let is_around = self.at.start < part.start && part.end < self.at.end;
        if is_behind {
            self.at.start = moved(self.at.start);
        }
        self.at.end = if is_behind || is_around { moved(self.at.end) } else { self.at.end };
        // One of them is another now.
        self.items.take_if(|_| is_around);
        is_behind || is_around
    }
}

/// `None` if the text is no JSON, as far as it was looked at.
fn find(json: &[u8], steps: &[String]) -> Option<Found> {
    let begin = pass_over_spaces(json, 0);
    let mut at = begin..pass_over(json, begin)?;
    for (number, step) in steps.iter().enumerate() {
        let found = match json.get(at.start)? {
            b'{' => member(json, at.start, step)?,
            b'[' => match index(step) {
                Some(index) => item(json, at.start, index)?,
                None => return Some(Found::Blocked),
            },
            b'n' => None,
            _ => return Some(Found::Blocked),
        };
        match (found, json[at.start]) {
            (Some(found), _) => at = found,
            (None, b'[') => return Some(Found::Blocked),
            (None, _) => return Some(Found::Nothing { inside: at, steps: steps.len() - number }),
        }
    }
    Some(Found::Value(at))
}

/// Source: RFC 6901, section 4.
fn index(step: &str) -> Option<usize> {
    let is_index = step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
    step.parse().ok().filter(|_| is_index)
}

/// The value of the last member of this name, in the object that begins there: whoever parses it sees that one.
#[expect(clippy::option_option, reason = "no JSON, or no such member")]
fn member(json: &[u8], object: usize, name: &str) -> Option<Option<Range<usize>>> {
    let (mut at, mut found) = (pass_over_spaces(json, object + 1), None);
    while json.get(at)? != &b'}' {
        let name_end = pass_over(json, at)?;
        let is_it = is_name(json.get(at..name_end)?, name);
        // The colon.
        let begin = pass_over_spaces(json, pass_over_spaces(json, name_end) + 1);
        let end = pass_over(json, begin)?;
        if is_it {
            found = Some(begin..end);
        }
        at = next(json, end)?;
    }
    Some(found)
}

#[expect(clippy::option_option, reason = "no JSON, or no such item")]
fn item(json: &[u8], array: usize, index: usize) -> Option<Option<Range<usize>>> {
    let (mut at, mut number) = (pass_over_spaces(json, array + 1), 0);
    while json.get(at)? != &b']' {
        let end = pass_over(json, at)?;
        if number == index {
            return Some(Some(at..end));
        }
        (at, number) = (next(json, end)?, number + 1);
    }
    Some(None)
}

/// Where the next member or item begins, or the end is.
fn next(json: &[u8], end: usize) -> Option<usize> {
    let at = pass_over_spaces(json, end);
    Some(if json.get(at)? == &b',' { pass_over_spaces(json, at + 1) } else { at })
}

fn is_name(text: &[u8], name: &str) -> bool {
    match text.get(1..text.len().saturating_sub(1)) {
        Some(plain) if !plain.contains(&b'\\') => plain == name.as_bytes(),
        _ => serde_json::from_slice::<String>(text).is_ok_and(|text| text == name),
    }
}

fn pass_over_spaces(json: &[u8], at: usize) -> usize {
    at + json.iter().skip(at).take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the value that begins there ends.
fn pass_over(json: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, at);
    loop {
        match json.get(at)? {
            b'"' => at = pass_over_text(json, at)?,
            b'[' | b'{' => (depth, at) = (depth + 1, at + 1),
            b']' | b'}' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => at += 1,
            _ => {
                let is_scalar =
                    |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                let bytes = json.get(at..)?.iter().take_while(is_scalar).count();
                at = (bytes > 0).then_some(at + bytes)?;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Most of a large document is text: it is passed over many bytes at a time.
fn pass_over_text(json: &[u8], quote: usize) -> Option<usize> {
    let mut at = quote + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
impl Places {
    /// Panics if one that is remembered is not where it would be found.
    pub fn check(&self, json: &[u8]) {
        for known in &self.known {
            let steps: Vec<String> = known
                .pointer
                .split('/')
                .skip(1)
                .map(|step| step.replace("~1", "/").replace("~0", "~"))
                .collect();
            assert_eq!(find(json, &steps), Some(Found::Value(known.at.clone())), "{}", known.pointer);
        }
    }
}
