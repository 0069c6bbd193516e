//! What the last commits of a log do to its documents, over the snapshots below: a state of which only that is in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use icecore_log::{Hash, LogId, Result, StoredCommit, Version};

use crate::Inner;
use crate::chain::Chain;
use crate::snapshot::{Content, Merged, Record};
use crate::state::document::{Document, State};
use crate::state::event::{self, DocumentEvent};
use crate::state::fold;
use crate::state::layers::Layers;

/// The changes behind some snapshots, and what must be known of these to make them.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub below: Layers,
    pub chain: Chain,
    /// The version behind which its commits begin.
    begins: Version,
    /// The documents that were changed; and of those below, the values that a patch or an edit was made of.
    pub state: State,
    /// Which of them were changed, and whether a delete came first: then what is below counts no more.
    changed: BTreeMap<Arc<str>, bool>,
    /// Stored bytes of the commits that changed documents.
    pub log_bytes: u64,
    /// A base came: nothing below counts any more.
    pub is_whole: bool,
}

impl Overlay {
    /// Nothing yet, over these; where there are none, from a base on.
    pub fn over(below: Layers, chain: Chain, base: Version) -> Self {
        let begins = if below.is_empty() { base.previous() } else { below.version() };
        let chain = below.chain(chain);
        let mut state = State::before(begins.next());
        (state.hash, state.life) = (below.hash(), below.life());
        Self { below, chain, begins, state, changed: BTreeMap::new(), log_bytes: 0, is_whole: false }
    }

    pub fn version(&self) -> Version {
        self.state.version
    }

    /// How many commits came.
    pub fn commits(&self) -> u64 {
        self.state.version.0.saturating_sub(self.begins.0)
    }

    /// About how many bytes its changes take in a snapshot.
    pub fn stored_bytes(&self) -> u64 {
        // Text compresses to less than a half.
        self.state.bytes() as u64 / 2
    }

    /// Takes up the next commit; first what it changes a part of is read from below.
    pub async fn take_up(&mut self, inner: &Inner, log: &LogId, commit: &StoredCommit) -> Result<()> {
        let (header, entries) = self.chain.open(commit)?;
        let hash = self.chain.head().map_or(Hash::ZERO, |(_, hash)| hash);
        if header.flags.base {
            (self.is_whole, self.below) = (true, Layers::default());
            self.changed.clear();
        }
        let expires = header.flags.expires;
        let mut places = BTreeMap::new();
        for (entry, stored) in entries.iter().flatten().zip(&header.entries) {
            for (_, change) in event::changes(&entry.events) {
                self.note(inner, &change, expires).await?;
                if let Some(place) = self.state.place(change.key()).filter(|_| expires) {
                    places.insert(change.key().to_owned(), place);
                }
            }
            self.log_bytes += stored.frame.length.min(event::document_bytes(&entry.events));
        }
        fold::take_up(&mut self.state, log, &header, hash, entries.as_deref(), |_| true)?;
        // What had expired was put anew, as if somebody had deleted it before.
        for (key, place) in places {
            if self.state.place(&key).is_some_and(|now| now != place)
                && let Some(is_anew) = self.changed.get_mut(&*key)
            {
                *is_anew = true;
            }
        }
        if header.flags.base {
            // What it holds is new to what is below, which is nothing.
            for (key, _) in self.state.documents("") {
                self.changed.entry(key.into()).or_insert(false);
            }
        }
        Ok(())
    }

    async fn note(&mut self, inner: &Inner, change: &DocumentEvent, expires: bool) -> Result<()> {
        let key = change.key();
        // When something expires, a put leaves that as it was.
        if (change.is_part() || expires)
            && !self.changed.contains_key(key)
            && self.state.get(key).is_none()
            && let Some(record) = self.below.get(inner, key).await?
        {
            self.state.take_in(record);
        }
        let is_deleted = matches!(change, DocumentEvent::Delete { .. });
        match self.changed.get_mut(key) {
            Some(is_anew) => *is_anew |= is_deleted,
            None => {
                self.changed.insert(key.into(), is_deleted);
            }
        }
        Ok(())
    }

    /// What the changes come to, in order of their keys.
    pub fn records(&self, from: Bound<&str>) -> impl Iterator<Item = Record> {
        self.changed.range::<str, _>((from, Bound::Unbounded)).map(|(key, is_anew)| Record {
            key: Arc::clone(key),
            content: self.state.content(key, *is_anew).unwrap_or(Content::Deleted),
        })
    }

    /// A document, if it is there now.
    pub async fn get(&self, inner: &Inner, key: &str) -> Result<Option<Document>> {
        let document = if self.changed.contains_key(key) {
            self.state.get(key).cloned()
        } else {
            let record = self.below.get(inner, key).await?;
            record.and_then(|record| Document::of(record.content))
        };
        let now = inner.clock.now();
        Ok(document.filter(|document| self.state.life.has(document, now)))
    }

    /// The state with these documents alone.
    pub async fn only(&self, inner: &Inner, keys: &BTreeSet<String>) -> Result<State> {
        let mut only = self.state.without_documents();
        for key in keys {
            let record = match self.changed.get_key_value(key.as_str()) {
                Some((key, _)) => {
                    self.state.content(key, false).map(|content| Record { key: Arc::clone(key), content })
                }
                None => self.below.get(inner, key).await?,
            };
            record.into_iter().for_each(|record| only.take_in(record));
        }
        Ok(only)
    }

    /// At most so many documents that are there now, whose keys begin so, behind a key, in order of their keys.
    pub async fn page(
        &self,
        inner: &Inner,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Document)>> {
        let from = match after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let mut below =
            Below { merged: self.below.records(from, false)?, next: None, is_done: self.below.is_empty() };
        let mut changed = self.records(from).take_while(|record| record.key.starts_with(prefix)).peekable();
        let (mut page, now) = (Vec::new(), inner.clock.now());
        while page.len() < limit {
            below.look(inner, prefix).await?;
            let is_changed = match (&below.next, changed.peek()) {
                (None, None) => break,
                (Some(record), Some(changed)) => changed.key <= record.key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            let record = if is_changed { changed.next() } else { below.next.take() };
            let Some(Record { key, content }) = record else { break };
            // What was changed counts, whatever is below.
            below.next.take_if(|below| below.key == key);
            let document = Document::of(content).filter(|document| self.state.life.has(document, now));
            page.extend(document.map(|document| (key.to_string(), document)));
        }
        Ok(page)
    }
}

/// The records below, one looked at ahead.
struct Below {
    merged: Merged,
    next: Option<Record>,
    is_done: bool,
}

impl Below {
    async fn look(&mut self, inner: &Inner, prefix: &str) -> Result<()> {
        if self.next.is_none() && !self.is_done {
            self.next =
                self.merged.next(&*inner.backend).await?.filter(|record| record.key.starts_with(prefix));
            self.is_done = self.next.is_none();
        }
        Ok(())
    }
}
