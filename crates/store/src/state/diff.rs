//! What differs between two states.

use icecore_log::{Result, Version};
use serde_json::{Map, Value, json};

use crate::state::document::{Document, State};

/// What differs from one state to another, document by document, in order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// The version of the first.
    pub from: Version,
    /// The version of the second.
    pub to: Version,
    /// Documents that differ in their values.
    pub differences: Vec<Difference>,
}

/// A document that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// What it was; `None` if there was none.
    pub from: Option<Value>,
    /// What it is; `None` if there is none.
    pub to: Option<Value>,
}

impl Diff {
    /// Compares two states. Values that say the same in other words, such as with their members in another order, do not differ;
    /// numbers do if they are written otherwise: 1 is not 1.0.
    pub(crate) fn of(from: &State, to: &State) -> Result<Self> {
        let mut keys: Vec<&str> = from.documents("").chain(to.documents("")).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        let value = |document: Option<&Document>| document.map(Document::value).transpose();
        let mut differences = Vec::new();
        for key in keys {
            let (before, after) = (from.get(key), to.get(key));
            if before.map(|document| &document.json) == after.map(|document| &document.json) {
                continue;
            }
            let (from, to) = (value(before)?, value(after)?);
            if from != to {
                differences.push(Difference { key: key.to_owned(), from, to });
            }
        }
        Ok(Self { from: from.version, to: to.version, differences })
    }

    /// As a JSON Patch, which makes of an object with the documents of the first as its members one with those of the second.
    /// Source: RFC 6902; the operations are `add`, `remove` and `replace`.
    pub fn json_patch(&self) -> Value {
        let object = |side: fn(&Difference) -> &Option<Value>| {
            let members =
                self.differences.iter().filter_map(|one| Some((one.key.clone(), side(one).clone()?)));
            Value::Object(members.collect::<Map<_, _>>())
        };
        json!(json_patch::diff(&object(|one| &one.from), &object(|one| &one.to)))
    }
}
