//! Commits with the values that were put, where storage only has what differs from the value before.

use std::collections::VecDeque;

use icecore_log::{Error, ErrorKind, Event, Result};

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
}

impl<'a> Reader<'a> {
    /// Each edit that is stored is given as the put that it was.
    pub fn whole(self) -> WholeReader<'a> {
        WholeReader { reader: self, key: None, read: VecDeque::new(), state: None, step: 16 }
    }
}

impl WholeReader<'_> {
    pub(crate) fn only(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
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
            let (commit, made) = self.make_whole(commit, &mut state).await?;
            self.read.pop_front();
            (bytes, _) = (bytes + made, page.push(commit));
        }
        self.state = state;
        Ok(page)
    }

    async fn backward(&mut self) -> Result<Vec<RecordedCommit>> {
        loop {
            let count = self.step.min(self.read.len());
            let (mut page, mut bytes, mut state) = (Vec::new(), 0, None);
            for commit in self.read.range(..count).rev() {
                let (commit, made) = self.make_whole(commit, &mut state).await?;
                page.push(commit);
                bytes += made;
                if bytes > PAGE_BYTES_MAX && count > 1 {
                    break;
                }
            }
            if page.len() == count {
                self.step = (self.step * 2).min(256);
                self.read.drain(..count);
                page.reverse();
                return Ok(page);
            }
            self.step = count / 2;
        }
    }

    /// A commit with whole values, and their bytes. `state` is that before it, if it was needed for an earlier one; then that behind it.
    async fn make_whole(
        &self,
        commit: &RecordedCommit,
        state: &mut Option<State>,
    ) -> Result<(RecordedCommit, usize)> {
        let mut commit = commit.clone();
        let Some(entries) = commit.entries.as_mut() else {
            *state = None;
            return Ok((commit, 0));
        };
        let is_wanted = |change: &DocumentEvent| self.key.as_ref().is_none_or(|key| change.key() == key);
        let is_edit = |event: &Event| {
            DocumentEvent::of(event)
                .is_some_and(|change| matches!(change, DocumentEvent::Edit { .. }) && is_wanted(&change))
        };
        if state.is_none() {
            if !entries.iter().flat_map(|entry| &entry.events).any(is_edit) {
                return Ok((commit, 0));
            }
            match self.reader.log().state_at(At::Version(commit.version.previous())).await {
                Ok(before) => *state = Some(before.as_ref().clone()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok((commit, 0)),
                Err(error) => return Err(error),
            }
        }
        let (Some(known), mut bytes) = (state, 0) else { return Ok((commit, 0)) };
        let at = |error: Error| error.with("log", self.reader.log_id()).with("version", commit.version);
        if commit.header.flags.base {
            let is_wanted = |key: &str| self.key.as_ref().is_none_or(|wanted| key == wanted);
            base::begin(known, commit.version, entries, is_wanted).map_err(at)?;
        }
        let mut places = (0..).map(|index| Place { version: commit.version.0, index });
        for entry in entries {
            let changes: Vec<_> = event::changes(&entry.events)
                .zip(&mut places)
                .filter(|((_, change), _)| is_wanted(change))
                .collect();
            for ((index, change), place) in changes {
                let key = change.key().to_owned();
                let is_edit = matches!(change, DocumentEvent::Edit { .. });
                known.apply(change, place, commit.header.at).map_err(at)?;
                if is_edit && let Some(document) = known.get(&key) {
                    let put = DocumentEvent::Put { key, json: document.json.clone() }.into_event();
                    bytes += put.data.len();
                    entry.events[index] =
                        Event { kind: put.kind, data: put.data, ..entry.events[index].clone() };
                }
            }
        }
        Ok((commit, bytes))
    }
}
