//! Changes that need no look at what is there: any number of writers make them at once, and none of them is lost.
//!
//! A merge is stored as what it does, and done when the log is folded. What is written anew of a document's text is only what a merge changes; all else
//! stays as it is, to the byte. `docs/formats/state.md` says what each comes to.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Hash, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::state::changes::Json;
use crate::state::places::{Found, Items, Places};
use crate::state::{check, decimal, event};

/// The longest pointer, in bytes.
pub const POINTER_BYTES_MAX: usize = 1_024;
/// The most steps that it takes.
const STEPS_MAX: usize = 32;

/// A document that is larger is not passed over before a merge is appended.
const LOOK_BYTES_MAX: usize = 64 << 10;

/// Merges something into a document, or into a part of it, whatever it is by then.
///
/// Where there is nothing yet, or null, it begins with what nothing is: 0, or an empty array. Where there is something else than it can be merged into, it
/// changes nothing, and [`Log::history`](crate::Log::history) says so; what is seen to be so beforehand is refused, see [`Log::merge`](crate::Log::merge).
///
/// ```
/// # use icecore_store::{Store, state::Merge};
/// # use std::sync::Arc;
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # let store = Store::new(Arc::new(icecore_embedded::Memory::default()));
/// let log = store.log(icecore_log::LogId::new("acme", "session", "s-1")?);
/// log.merge("run", Merge::add(&12)?.pointer("/usage/tokens")).await?;
/// log.merge("run", Merge::append(&["hello"])?.pointer("/messages")).await?;
/// log.merge("run", Merge::add(&0.5)?.pointer("/usage/tokens")).await?;
/// let run = log.document("run").await?.unwrap();
/// assert_eq!(run.json, r#"{"usage":{"tokens":12.5},"messages":["hello"]}"#);
/// # Ok::<_, icecore_log::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    pub(crate) operation: Operation,
    pub(crate) pointer: String,
    pub(crate) operand: Bytes,
}

/// What is done with the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A number is added to a number.
    Add,
    /// Items are put behind those of an array.
    Append,
    /// Those items that are not in an array yet are put behind those that are.
    Union,
}

impl Operation {
    pub fn of(name: &str) -> Option<Self> {
        [Self::Add, Self::Append, Self::Union].into_iter().find(|one| one.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Append => "append",
            Self::Union => "union",
        }
    }
}

/// What becomes of the value that is there.
enum Becomes {
    /// This.
    Whole(Vec<u8>),
    /// The array with these items behind its own.
    With(Vec<u8>),
}

impl Merge {
    /// Adds a number to a number, exactly, whatever digits they have.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no number, or has more than 400 digits before the point, or behind it.
    pub fn add<T: Serialize + ?Sized>(number: &T) -> Result<Self> {
        Self::new(Operation::Add, number)
    }

    /// Puts items behind those of an array.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no array.
    pub fn append<T: Serialize + ?Sized>(items: &T) -> Result<Self> {
        Self::new(Operation::Append, items)
    }

    /// Puts those items behind those of an array that are not in it yet. Values are compared as [`Log::diff`](crate::Log::diff) does: 1 is not 1.0.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no array.
    pub fn union<T: Serialize + ?Sized>(items: &T) -> Result<Self> {
        Self::new(Operation::Union, items)
    }

    fn new<T: Serialize + ?Sized>(operation: Operation, operand: &T) -> Result<Self> {
        let merge = Self { operation, pointer: String::new(), operand: Json::of(operand)?.0 };
        merge.check().map(|_| merge)
    }

    /// Into this part of the document: a JSON pointer (RFC 6901) of at most 1,024 bytes and 32 steps, which is looked at when it is committed. Objects that
    /// are not there are made.
    #[must_use]
    pub fn pointer(self, pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), ..self }
    }

    /// Whether there is something in this text that it can be merged into; `None` if that takes long to tell.
    pub(crate) fn would_apply(&self, json: &[u8], places: &Places) -> Option<bool> {
        let found = match places.known(&self.pointer) {
            Some(found) => found,
            None if json.len() > LOOK_BYTES_MAX => return None,
            None => places.clone().find(json, &self.pointer, &self.check().ok()?).ok()?,
        };
        Some(self.applies(&found, json))
    }

    fn applies(&self, found: &Found, json: &[u8]) -> bool {
        match found {
            Found::Blocked => false,
            Found::Nothing { .. } => true,
            Found::Value(at) => match (self.operation, &json[at.clone()]) {
                (_, b"null") => true,
                (Operation::Add, old) => decimal::sum(old, number(&self.operand)).is_some(),
                (Operation::Append | Operation::Union, old) => old.starts_with(b"["),
            },
        }
    }

    /// What is wrong with it, before it is appended; the steps of its pointer.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], which says what.
    pub(crate) fn check(&self) -> Result<Vec<String>> {
        let invalid = |advice: &str| {
            let error = Error::new(ErrorKind::Invalid, "changing a document");
            Err(error.with("merge", self.operation.name()).advise(advice))
        };
        let Some(steps) = steps(&self.pointer) else {
            return invalid(
                "A pointer is empty or begins with /, and ~ is written ~0 in it, / in a name ~1 (RFC 6901)",
            );
        };
        if self.pointer.len() > POINTER_BYTES_MAX || steps.len() > STEPS_MAX {
            return invalid("A pointer has at most 1024 bytes and 32 steps");
        }
        if steps.iter().any(|step| step.starts_with(check::PRIVATE)) {
            return invalid("No text may begin with $serde_json::private::");
        }
        check::check_json_at(&self.operand, steps.len())?;
        match self.operation {
            Operation::Add if !decimal::can_be_added(number(&self.operand)) => {
                invalid("What is added is a number of at most 400 digits before the point, and behind it")
            }
            Operation::Append | Operation::Union if inner(&self.operand).is_none() => {
                invalid("What is merged into an array is an array of items")
            }
            _ => Ok(steps),
        }
    }

    /// Does it; whether there was something that it could be merged into.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is none that can be appended, or the document is no JSON.
    pub(crate) fn apply(&self, json: &mut Bytes, places: &mut Places) -> Result<bool> {
        let steps = self.check().map_err(|_| event::unreadable())?;
        let found = places.find(json, &self.pointer, &steps)?;
        if !self.applies(&found, json) {
            return Ok(false);
        }
        let old = if let Found::Value(at) = &found { &json[at.clone()] } else { NOTHING };
        let mut items = places.take_items(&self.pointer);
        let (part, text, at) = match (self.becomes(old, &mut items)?, found) {
            (_, Found::Blocked) => return Ok(false),
            (Becomes::Whole(value), Found::Value(part)) => {
                let at = part.start..part.start + value.len();
                (part, value, at)
            }
            (Becomes::With(more), Found::Value(array)) => {
                let (part, text) = behind_the_last(json, &array, &more);
                let at = array.start..array.end + text.len();
                (part, text, at)
            }
            (Becomes::Whole(value) | Becomes::With(value), Found::Nothing { inside, steps: left }) => {
                let (before, after) = member(&steps[steps.len() - left..])?;
                let made = [&*before, &value, &after].concat();
                let (part, text) = if json[inside.start] == b'{' {
                    behind_the_last(json, &inside, &made)
                } else {
                    (inside, [b"{", &*made, b"}"].concat())
                };
                let value_end = part.start + text.len() - after.len() - usize::from(!part.is_empty());
                (part, text, value_end - value.len()..value_end)
            }
        };
        places.replace(json, &part, &text);
        places.remember(&self.pointer, at, items);
        Ok(true)
    }

    /// What becomes of a value, or of null where there is none. `items` are those that it has, if they are known, and then those of what it becomes.
    fn becomes(&self, old: &[u8], items: &mut Option<Items>) -> Result<Becomes> {
        let is_nothing = old == NOTHING;
        let more = match self.operation {
            Operation::Add => {
                let old = if is_nothing { b"0" } else { old };
                let sum = decimal::sum(old, number(&self.operand)).ok_or_else(event::unreadable)?;
                return Ok(Becomes::Whole(sum.into()));
            }
            Operation::Append => {
                if let Some(items) = items {
                    for item in items_of(&self.operand)? {
                        items.insert(what_it_says(item)?);
                    }
                }
                inner(&self.operand).ok_or_else(event::unreadable)?.to_vec()
            }
            Operation::Union => {
                let known = match items {
                    Some(known) => known,
                    None => {
                        let old = if is_nothing { b"[]" } else { old };
                        let said = items_of(old)?.into_iter().map(what_it_says).collect::<Result<_>>()?;
                        items.insert(said)
                    }
                };
                let mut new = Vec::new();
                for item in items_of(&self.operand)? {
                    if known.insert(what_it_says(item)?) {
                        new.push(item.get().as_bytes());
                    }
                }
                new.join(&b","[..])
            }
        };
        Ok(if is_nothing { Becomes::Whole([b"[", &*more, b"]"].concat()) } else { Becomes::With(more) })
    }
}

/// As errors name it; what is merged is not told.
impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation.name())?;
        if self.pointer.is_empty() { Ok(()) } else { write!(f, " {}", self.pointer) }
    }
}

/// What stands for a value where there is none.
const NOTHING: &[u8] = b"null";

/// The steps of a JSON pointer; `None` if it is none. Source: RFC 6901, section 3.
fn steps(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let step = |step: &str| {
        let is_escaped = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        is_escaped.then(|| step.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(step).collect()
}

fn number(operand: &[u8]) -> &[u8] {
    operand.trim_ascii()
}

/// What stands between the brackets of an array; `None` if it is no array.
fn inner(array: &[u8]) -> Option<&[u8]> {
    Some(array.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?.trim_ascii())
}

fn items_of(array: &[u8]) -> Result<Vec<&RawValue>> {
    serde_json::from_slice(array).map_err(|_| event::unreadable())
}

/// The same of two values that are told apart by nothing but their words: the order of members, and spaces.
fn what_it_says(item: &RawValue) -> Result<Hash> {
    let mut value: Value = serde_json::from_str(item.get()).map_err(|_| event::unreadable())?;
    value.sort_all_objects();
    Ok(Hash::of(&serde_json::to_vec(&value).map_err(|_| event::unreadable())?))
}

/// What makes of an array or an object one with more at its end: a part of the text, and what it becomes.
fn behind_the_last(json: &[u8], container: &Range<usize>, more: &[u8]) -> (Range<usize>, Vec<u8>) {
    let end = container.end - 1;
    let is_empty = json[container.start + 1..end].trim_ascii().is_empty();
    let comma: &[u8] = if is_empty || more.is_empty() { b"" } else { b"," };
    (end..end, [comma, more].concat())
}

/// What stands before and behind a value that is made under these names.
fn member(steps: &[String]) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut before = Vec::new();
    for step in steps {
        if !before.is_empty() {
            before.push(b'{');
        }
        before.extend(serde_json::to_vec(step).map_err(|_| event::unreadable())?);
        before.push(b':');
    }
    Ok((before, vec![b'}'; steps.len().saturating_sub(1)]))
}

#[cfg(test)]
mod tests;
