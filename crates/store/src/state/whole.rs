//! Commits with the values that were put, where storage only has what differs from the value before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use icecore_log::{Error, ErrorKind, Event, Result, Version};

use crate::read::{Reader, RecordedCommit};
use crate::snapshot::Place;
use crate::state::At;
use crate::state::base;
use crate::state::document::State;
use crate::state::event::{self, DocumentEvent};

/// The most bytes of values that a page makes whole, unless a single commit has more: few stored bytes may be many of values.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Reads a log page by page, with whole values. Made by [`Reader::whole`].
#[derive(Debug)]
pub struct WholeReader<'a> {
    reader: Reader<'a>,
    /// Only changes of this document are made whole, if one is named.
    key: Option<String>,
    /// Read and not yet given, in the direction of the reading.
    read: VecDeque<RecordedCommit>,
    /// The documents behind the last commit that was given, once they were needed. Of no use backwards.
    state: Option<State>,
    /// How many commits are made whole at once, backwards: each time the state before them must be found.
    step: usize,
    /// Of the merges into the document that is named, whether they changed it: by their version, and which event of the commit they are.
    merged: HashMap<(Version, u32), bool>,
}

/// A commit with whole values, their bytes, and which of its merges changed something.
#[derive(Debug)]
struct Made {
    commit: RecordedCommit,
    bytes: usize,
    merged: Vec<((Version, u32), bool)>,
}

impl<'a> Reader<'a> {
    /// Each edit that is stored is given as the put that it was.
    pub fn whole(self) -> WholeReader<'a> {
        WholeReader {
            reader: self,
            key: None,
            read: VecDeque::new(),
            state: None,
            step: 16,
            merged: HashMap::new(),
        }
    }
}

impl WholeReader<'_> {
    pub(crate) fn only(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Whether a merge that was given changed the document that is named; `None` if nobody knows, since what was before it was trimmed.
    pub(crate) fn take_merged(&mut self, version: Version, index: u32) -> Option<bool> {
        self.merged.remove(&(version, index))
    }

    pub(crate) fn reader(&self) -> &Reader<'_> {
        &self.reader
    }

    /// The next commits, in the direction of the range; none after the last. An edit of what was trimmed stays as it is stored.
    ///
    /// # Errors
    /// As [`Reader::next_page`], and as folding a state.
    pub async fn next_page(&mut self) -> Result<Vec<RecordedCommit>> {
        if self.read.is_empty() {
            self.read = self.reader.next_page().await?.into();
        }
        if self.reader.is_reverse() { self.backward().await } else { self.forward().await }
    }

    async fn forward(&mut self) -> Result<Vec<RecordedCommit>> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut state = self.state.take();
        while bytes < PAGE_BYTES_MAX
            && let Some(commit) = self.read.front()
        {
            let made = self.make_whole(commit, &mut state).await?;
            self.read.pop_front();
            self.merged.extend(made.merged);
            (bytes, _) = (bytes + made.bytes, page.push(made.commit));
        }
        self.state = state;
        Ok(page)
    }

    async fn backward(&mut self) -> Result<Vec<RecordedCommit>> {
        loop {
            let count = self.step.min(self.read.len());
            let (mut page, mut bytes, mut state, mut merged) = (Vec::new(), 0, None, Vec::new());
            for commit in self.read.range(..count).rev() {
                let made = self.make_whole(commit, &mut state).await?;
                page.push(made.commit);
                merged.extend(made.merged);
                bytes += made.bytes;
                if bytes > PAGE_BYTES_MAX && count > 1 {
                    break;
                }
            }
            if page.len() == count {
                self.step = (self.step * 2).min(256);
                self.read.drain(..count);
                self.merged.extend(merged);
                page.reverse();
                return Ok(page);
            }
            self.step = count / 2;
        }
    }

    /// `state` is that before the commit, if it was needed for an earlier one; then that behind it.
    async fn make_whole(&self, commit: &RecordedCommit, state: &mut Option<State>) -> Result<Made> {
        let mut made = Made { commit: commit.clone(), bytes: 0, merged: Vec::new() };
        let Some(entries) = made.commit.entries.as_mut() else {
            *state = None;
            return Ok(made);
        };
        let is_wanted = |change: &DocumentEvent| self.key.as_ref().is_none_or(|key| change.key() == key);
        if state.is_none() {
            let needs_the_state = |event: &Event| {
                DocumentEvent::of(event).is_some_and(|change| is_wanted(&change) && self.is_told(&change))
            };
            if !entries.iter().flat_map(|entry| &entry.events).any(needs_the_state) {
                return Ok(made);
            }
            // A base holds all that was before it, which may have been trimmed.
            let before = match commit.header.flags.base {
                true => Ok(Arc::new(State::before(commit.version))),
                false => {
                    let at = At::Version(commit.version.previous());
                    self.reader.log().folded_at(at).await.map(|folded| folded.state)
                }
            };
            match before {
                Ok(before) => *state = Some(before.as_ref().clone()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(made),
                Err(error) => return Err(error),
            }
        }
        let Some(known) = state else { return Ok(made) };
        let at = |error: Error| error.with("log", self.reader.log_id()).with("version", commit.version);
        if commit.header.flags.base {
            let is_wanted = |key: &str| self.key.as_ref().is_none_or(|wanted| key == wanted);
            base::begin(known, commit.version, entries, is_wanted).map_err(at)?;
        }
        known.life.begin(commit.version.previous(), &commit.header, entries);
        let mut places = (0..).map(|index| Place { version: commit.version.0, index });
        let mut before = 0;
        for entry in entries.iter_mut() {
            let changes: Vec<_> = event::changes(&entry.events)
                .zip(&mut places)
                .filter(|((_, change), _)| is_wanted(change))
                .collect();
            for ((index, change), place) in changes {
                let key = change.key().to_owned();
                let is_edit = matches!(change, DocumentEvent::Edit { .. });
                let is_merge = change.may_do_nothing() && self.is_told(&change);
                let is_done = known.apply(change, place, commit.header.at).map_err(at)?;
                if is_merge {
                    // An entry has at most 65,536 events, a commit at most 2,048 entries.
                    made.merged.push(((commit.version, (before + index) as u32), is_done));
                }
                if is_edit && let Some(document) = known.get(&key) {
                    let put = DocumentEvent::Put { key, json: document.json.clone() }.into_event();
                    made.bytes += put.data.len();
                    entry.events[index] =
                        Event { kind: put.kind, data: put.data, ..entry.events[index].clone() };
                }
            }
            before += entry.events.len();
        }
        if commit.header.flags.expires {
            known.life.end(&commit.header, entries).map_err(at)?;
        }
        Ok(made)
    }

    /// Whether the state before it must be known to tell what a change did.
    fn is_told(&self, change: &DocumentEvent) -> bool {
        match change {
            DocumentEvent::Edit { .. } => true,
            change => change.may_do_nothing() && self.key.is_some(),
        }
    }
}
