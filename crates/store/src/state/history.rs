//! Who changed a document, when, and in which commit.

use icecore_log::{EntryId, Error, Result, Timestamp, Version};
use serde_json::Value;

use crate::Log;
use crate::read::Range;
use crate::snapshot::{Content, Record};
use crate::state::base;
use crate::state::event::{self, DocumentEvent};
use crate::state::fold;
use crate::state::whole::WholeReader;

/// A change of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The commit.
    pub version: Version,
    /// When it was committed.
    pub at: Timestamp,
    /// Who did it, if that was said.
    pub actor: String,
    /// The trace that it belongs to, if that was said.
    pub trace: String,
    /// The id of its entry.
    pub id: Option<EntryId>,
    /// `put`, `patch`, `delete`; of a merge `add`, `append`, `union`; `expire`, when it was said when it is gone by itself, and `touch`, when it was renewed; or `kept`: what the document was when what came before was trimmed.
    pub change: &'static str,
    /// The value that was put, or the patch, or what was merged; `None` of a delete, and of a put that only said what differs from a value that was trimmed.
    pub value: Option<Value>,
    /// The part of the document that something was merged into: a JSON pointer, empty for all of it. Of other changes empty.
    pub pointer: String,
    /// Whether it was carried out: a merge changes nothing where there is something that it cannot be merged into, nor does an expiry of what is not there, or
    /// a touch of what is not sliding. `None` of such a change of a value that was trimmed.
    pub applied: Option<bool>,
}

/// The changes of a document, newest first, page by page. Made by [`Log::history`].
#[derive(Debug)]
pub struct History<'a> {
    reader: WholeReader<'a>,
    key: String,
    /// What is told once all before it was.
    failed: Option<Error>,
    /// What the oldest base so far holds, if no change was found that came before it: then that is the end.
    kept: Option<Record>,
}

impl Log {
    /// Who changed a document, when, in which commit: newest first.
    pub fn history(&self, key: &str) -> History<'_> {
        History {
            reader: self.read(Range { reverse: true, ..Range::default() }).whole().only(key),
            key: key.to_owned(),
            failed: None,
            kept: None,
        }
    }
}

impl History<'_> {
    /// The next changes; none after the first that was ever made, or that was not trimmed.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn next_page(&mut self) -> Result<Vec<Changed>> {
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let commits = self.reader.next_page().await?;
            if commits.is_empty() {
                return Ok(self.kept.take().and_then(kept).into_iter().collect());
            }
            let mut changes = Vec::new();
            for commit in commits {
                if commit.entries.is_none() {
                    self.failed = Some(fold::dropped(self.reader.reader().log_id(), commit.version));
                    break;
                }
                let (at, base) = (commit.header.at, commit.header.flags.base.then_some(commit.version));
                for event in commit.into_events().rev() {
                    if let Some(base) = base
                        && let Some(record) = base::find(&event.event, base, &self.key)?
                    {
                        self.kept = Some(record);
                    }
                    let Some(change) =
                        DocumentEvent::of(&event.event).filter(|change| change.key() == self.key)
                    else {
                        continue;
                    };
                    let (version, id) = (event.version, event.id);
                    let (mut pointer, mut applied) = (String::new(), Some(true));
                    let (change, value) = match change {
                        DocumentEvent::Put { json, .. } => ("put", event::read(&json).ok()),
                        DocumentEvent::Patch { patch, .. } => ("patch", event::read(&patch).ok()),
                        // What it was made of was trimmed.
                        DocumentEvent::Edit { .. } => ("put", None),
                        DocumentEvent::Delete { .. } => ("delete", None),
                        DocumentEvent::Expire { expiry, .. } => {
                            applied = self.reader.take_merged(version, event.index);
                            ("expire", event::read(&expiry).ok())
                        }
                        DocumentEvent::Touch { .. } => {
                            applied = self.reader.take_merged(version, event.index);
                            ("touch", None)
                        }
                        DocumentEvent::Merge { merge, .. } => {
                            applied = self.reader.take_merged(version, event.index);
                            pointer = merge.pointer;
                            (merge.operation.name(), event::read(&merge.operand).ok())
                        }
                    };
                    self.kept = None;
                    let (actor, trace) = (event.event.actor, event.event.trace);
                    changes.push(Changed { version, at, actor, trace, id, change, value, pointer, applied });
                }
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// A document as a base holds it. Whoever changed it last, and how, was trimmed.
fn kept(record: Record) -> Option<Changed> {
    let Content::Value { json, version, at, .. } = record.content else { return None };
    Some(Changed {
        version,
        at,
        actor: String::new(),
        trace: String::new(),
        id: None,
        change: "kept",
        value: event::read(&json).ok(),
        pointer: String::new(),
        applied: None,
    })
}
