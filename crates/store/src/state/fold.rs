//! From commits to a state. States that were folded are kept, and go on from where they are.

use std::sync::Arc;

use icecore_log::{Entry, Error, ErrorKind, Head, Header, LogId, PageLimit, Result, Version};
use moka::sync::Cache;

use crate::chain::Chain;
use crate::pages::Pages;
use crate::read::Range;
use crate::state::document::{Document, State};
use crate::state::event::DocumentEvent;
use crate::{Log, open};

const DOING: &str = "reading a log's state";
/// How many commits before the last are looked at for one document.
const LOOK_BACK: u64 = 6;

/// A state, and what the commit behind it must follow.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    pub state: Arc<State>,
    pub chain: Chain,
}

impl Folded {
    /// Before the first commit.
    pub fn empty(log: &LogId) -> Self {
        Self { state: Arc::default(), chain: Chain::new(log.clone()) }
    }
}

/// The states at the heads of logs that were used last, bounded by their bytes.
pub(crate) fn cache(bytes_max: u64) -> Cache<LogId, Folded> {
    let weigh = |log: &LogId, folded: &Folded| {
        u32::try_from(folded.state.bytes() + log.as_str().len() + 512).unwrap_or(u32::MAX)
    };
    Cache::builder().weigher(weigh).max_capacity(bytes_max).build()
}

impl Log {
    /// The state at the head, as it is now; the empty state if the log has no commit.
    pub(crate) async fn fold_head(&self) -> Result<Folded> {
        self.fold_at(self.raw_head().await?.as_ref()).await
    }

    /// The state at the head that was just read.
    async fn fold_at(&self, head: Option<&Head>) -> Result<Folded> {
        let Some(head) = head else {
            self.store.0.states.invalidate(&self.id);
            return Ok(Folded::empty(&self.id));
        };
        if let Some(known) = self.store.0.states.get(&self.id) {
            if known.chain.head() == Some((head.version, head.hash())) {
                return Ok(known);
            }
            // If what is kept is of a history that is no more, such as one that a fail-over lost, it is folded anew.
            if known.state.version < head.version
                && let Ok(folded) = self.go_on(known, head.version).await
            {
                return Ok(self.keep(folded));
            }
        }
        Ok(self.keep(self.fold_to(head, head.version).await?))
    }

    /// A document at the head. One that was put lately is found at the end of its log, without the state being folded.
    pub(crate) async fn document_at_head(&self, key: &str) -> Result<Option<Document>> {
        let head = self.raw_head().await?;
        if let Some(head) = &head
            && head.version.0 - head.boundary.0 > LOOK_BACK
            && !self.store.0.states.contains_key(&self.id)
            && let Some(found) = self.find_at_the_end(head, key).await?
        {
            return Ok(found);
        }
        Ok(self.fold_at(head.as_ref()).await?.state.get(key).cloned())
    }

    /// A document as the last few commits have it, or that it is deleted. The outer `None`: they do not say.
    async fn find_at_the_end(&self, head: &Head, key: &str) -> Result<Option<Option<Document>>> {
        let from = Version(head.version.0 - LOOK_BACK);
        let range = Range { from: Some(from), to: Some(head.version), reverse: true };
        let mut reader = self.read_behind(head, range).await?;
        loop {
            let commits = reader.next_page().await?;
            if commits.is_empty() {
                return Ok(None);
            }
            for commit in commits {
                let (version, at, is_base) = (commit.version, commit.header.at, commit.header.flags.base);
                if commit.entries.is_none() {
                    return Ok(None);
                }
                for event in commit.into_events().rev() {
                    match DocumentEvent::of(&event.event).filter(|change| change.key() == key) {
                        Some(DocumentEvent::Put { json, .. }) => {
                            return Ok(Some(Some(Document { json, version, at })));
                        }
                        Some(DocumentEvent::Delete { .. }) => return Ok(Some(None)),
                        Some(DocumentEvent::Patch { .. }) => return Ok(None),
                        None => {}
                    }
                }
                if is_base {
                    return Ok(Some(None));
                }
            }
        }
    }

    fn keep(&self, folded: Folded) -> Folded {
        self.store.0.states.insert(self.id.clone(), folded.clone());
        folded
    }

    /// The state at a version, from the newest base at or before it.
    pub(crate) async fn fold_to(&self, head: &Head, version: Version) -> Result<Folded> {
        let last = if version == head.version { self.decode(head)? } else { self.header(version).await? };
        let chain = self.chain(&self.decode(head)?).await?;
        let state = State::before(last.base);
        self.go_on(Folded { state: Arc::new(state), chain }, version).await
    }

    /// One commit's header.
    pub(crate) async fn header(&self, version: Version) -> Result<Header> {
        let page = self.store.0.backend.read(&self.id, version, PageLimit::HEADERS.commits(1)).await?;
        match page.commits.into_iter().next() {
            Some(commit) => Header::decode(commit.header)
                .map_err(|error| error.with("log", &self.id).with("version", version)),
            None => Err(self.not_there(version, page.boundary)),
        }
    }

    /// Why there is no commit below the head.
    fn not_there(&self, version: Version, boundary: Version) -> Error {
        if boundary >= version {
            trimmed(&self.id, version, boundary)
        } else {
            open::damaged(&self.id, version, "a commit below the head is missing")
        }
    }

    async fn go_on(&self, folded: Folded, to: Version) -> Result<Folded> {
        let Folded { mut state, mut chain } = folded;
        let mut pages = Pages::default();
        while state.version < to {
            let next = state.version.next();
            let page = pages.next(self, next, to).await?;
            if page.commits.is_empty() {
                return Err(self.not_there(next, page.boundary));
            }
            // Only what others hold too is copied.
            let state = Arc::make_mut(&mut state);
            for commit in page.commits {
                let (header, entries) = chain.open(&commit)?;
                take_up(state, &self.id, &header, entries.as_deref(), |_| true)?;
            }
        }
        Ok(Folded { state, chain })
    }
}

/// What a commit does to a state, as far as the changes that are wanted go.
pub(crate) fn take_up(
    state: &mut State,
    log: &LogId,
    header: &Header,
    entries: Option<&[Entry]>,
    is_wanted: impl Fn(&DocumentEvent) -> bool,
) -> Result<()> {
    let entries = entries.ok_or_else(|| dropped(log, header.version))?;
    if header.flags.base {
        state.clear();
    }
    for event in entries.iter().flat_map(|entry| &entry.events) {
        if let Some(change) = DocumentEvent::of(event).filter(&is_wanted) {
            let at = |error: Error| error.with("log", log).with("version", header.version);
            state.apply(change, header.version, header.at).map_err(at)?;
        }
    }
    (state.version, state.at) = (header.version, Some(header.at));
    Ok(())
}

fn trimmed(log: &LogId, version: Version, boundary: Version) -> Error {
    Error::new(ErrorKind::NotFound, DOING)
        .with("log", log)
        .with("version", version)
        .with("trimmed_through", boundary)
        .advise("Its history was trimmed through that version: ask for a later one")
}

pub(crate) fn dropped(log: &LogId, version: Version) -> Error {
    Error::new(ErrorKind::NotFound, DOING)
        .with("log", log)
        .with("version", version)
        .advise("The body of this commit was dropped: what it did to the documents is not known any more")
}
