//! From commits to a state. States that were folded are kept, and go on from where they are.

use std::sync::Arc;

use icecore_log::{
    Entry, Error, ErrorKind, Hash, Head, Header, LogId, PageLimit, Result, StoredCommit, Version,
};

use crate::chain::Chain;
use crate::pages::Pages;
use crate::read::Range;
use crate::retention::{deleted, is_deleted};
use crate::snapshot::{self, Place};
use crate::state::base;
use crate::state::cache::Slot;
use crate::state::consistency::{Consistency, Seen, Token};
use crate::state::document::{Document, State};
use crate::state::event::{self, DocumentEvent};
use crate::state::layers::Layers;
use crate::state::upkeep;
use crate::{Log, open};

const DOING: &str = "reading a log's state";
/// How many commits before the last are looked at for one document.
pub(crate) const LOOK_BACK: u64 = 6;
/// How often snapshots are listed again because some of them were deleted meanwhile.
pub(crate) const GONE_MAX: u32 = 3;

/// A state, and what the commit behind it must follow.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    pub state: Arc<State>,
    pub chain: Chain,
}

impl Folded {
    /// Before a base, or before the first commit.
    pub fn before(log: &LogId, base: Version) -> Self {
        Self { state: Arc::new(State::before(base)), ..Self::empty(log) }
    }

    /// Before the first commit.
    pub fn empty(log: &LogId) -> Self {
        Self { state: Arc::default(), chain: Chain::new(log.clone()) }
    }

    fn is_at(&self, head: &Head) -> bool {
        self.chain.head() == Some((head.version, head.hash()))
    }

    /// Takes up the next commit.
    pub fn take_up(&mut self, log: &LogId, commit: &StoredCommit) -> Result<()> {
        let (header, entries) = self.chain.open(commit)?;
        let hash = self.chain.head().map_or(Hash::ZERO, |(_, hash)| hash);
        // Only what others hold too is copied.
        take_up(Arc::make_mut(&mut self.state), log, &header, hash, entries.as_deref(), |_| true)
    }
}

impl Log {
    /// The state at the head, as fresh as this handle asks for; the empty state if the log has no commit.
    pub(crate) async fn fold_head(&self) -> Result<Folded> {
        match &self.consistency {
            Consistency::Strong => self.fold_strong().await,
            Consistency::Eventual => match self.fold_local().await? {
                Some(folded) => {
                    self.store.0.states.count(true);
                    Ok(folded)
                }
                None => self.fold_strong().await,
            },
            Consistency::AtLeast(token) => self.fold_at_least(token).await,
        }
    }

    /// The state at the head, as it is now.
    pub(crate) async fn fold_strong(&self) -> Result<Folded> {
        self.fold_at(self.raw_head().await?.as_ref()).await
    }

    async fn fold_at_least(&self, token: &Token) -> Result<Folded> {
        token.check_log(&self.id)?;
        if let Some(folded) = self.fold_local().await?
            && token.seen_by(&folded.state) == Seen::Yes
        {
            self.store.0.states.count(true);
            return Ok(folded);
        }
        let folded = self.fold_strong().await?;
        self.must_have_seen(token, &folded.state).await?;
        Ok(folded)
    }

    /// The state that is in memory, with what this process appended since; `None` if none is.
    pub(crate) async fn fold_local(&self) -> Result<Option<Folded>> {
        let Some(slot) = self.store.0.states.find(&self.id) else { return Ok(None) };
        let mut folded = slot.folded.lock().await;
        self.take_up_won(&slot, &mut folded, None);
        Ok(folded.clone())
    }

    /// Goes on with what this process itself appended. If that does not fit, the state is forgotten.
    fn take_up_won(&self, slot: &Slot, kept: &mut Option<Folded>, to: Option<Version>) {
        while let Some(folded) = kept
            && to.is_none_or(|to| folded.state.version < to)
            && let Some(commit) = slot.won(folded.state.version.next())
        {
            if folded.take_up(&self.id, &commit).is_err() {
                *kept = None;
            }
        }
    }

    /// The state at the head that was just read, or at a later one.
    pub(crate) async fn fold_at(&self, head: Option<&Head>) -> Result<Folded> {
        self.fold_at_over(head, None).await
    }

    /// As [`Log::fold_at`], with the snapshots that were found for that head, if somebody has looked for them.
    pub(crate) async fn fold_at_over(&self, head: Option<&Head>, found: Option<Layers>) -> Result<Folded> {
        let mut base = None;
        let mut folded = self.try_fold_at(head, found).await;
        // What it follows from may have been trimmed since, or dropped: then a base was written before that, and the state is known from it.
        while let Err(error) = &folded
            && error.kind() == ErrorKind::NotFound
            && let Some(head) = self.raw_head().await?
        {
            let newer = Some(self.decode(&head)?.base);
            if newer <= base {
                break;
            }
            (base, folded) = (newer, self.try_fold_at(Some(&head), None).await);
        }
        folded
    }

    async fn try_fold_at(&self, head: Option<&Head>, found: Option<Layers>) -> Result<Folded> {
        let states = &self.store.0.states;
        let slot = states.slot(&self.id);
        let mut kept = slot.folded.lock().await;
        states.count(kept.is_some());
        // While we waited somebody may have gone on further than we had seen: then the log has, too, or what is kept is no more.
        let is_behind = |head: &Head| kept.as_ref().is_some_and(|kept| kept.state.version > head.version);
        let looked_again = if head.is_some_and(is_behind) { self.raw_head().await? } else { None };
        let Some(head) = looked_again.as_ref().or(head) else {
            *kept = None;
            return Ok(Folded::empty(&self.id));
        };
        if !kept.as_ref().is_some_and(|kept| kept.is_at(head)) {
            self.living(head)?;
        }
        self.take_up_won(&slot, &mut kept, Some(head.version));
        // Taken out while it goes on: what is half done is never kept.
        let folded = match kept.take() {
            Some(folded) if folded.is_at(head) => folded,
            // If what is kept is of a history that is no more, such as one that a fail-over lost, it is folded anew.
            Some(folded) if folded.state.version < head.version => {
                match self.go_on(folded, head.version).await {
                    Ok(folded) if folded.is_at(head) => folded,
                    Ok(_) | Err(_) => self.fold_to(head, head.version).await?,
                }
            }
            Some(_) | None => self.fold_to_over(head, head.version, found).await?,
        };
        *kept = Some(folded.clone());
        drop(kept);
        states.weigh(&self.id, &slot, folded.state.bytes());
        Ok(folded)
    }

    /// A document as the last few commits have it, or that it is deleted. The outer `None`: they do not say. Of a log in which nothing expires: else
    /// earlier ones have a say in it.
    pub(crate) async fn find_at_the_end(&self, head: &Head, key: &str) -> Result<Option<Option<Document>>> {
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
                let named = |error: Error| error.with("log", &self.id).with("version", version);
                for event in commit.into_events().rev() {
                    if is_base && let Some(kept) = base::find(&event.event, version, key).map_err(named)? {
                        return Ok(Some(Document::of(kept.content)));
                    }
                    match DocumentEvent::of(&event.event).filter(|change| change.key() == key) {
                        Some(DocumentEvent::Put { json, .. }) => {
                            return Ok(Some(Some(Document { json, version, at, expiry: None })));
                        }
                        Some(DocumentEvent::Delete { .. }) => return Ok(Some(None)),
                        // What it comes to depends on what was before.
                        Some(_) => return Ok(None),
                        None => {}
                    }
                }
                if is_base {
                    return Ok(Some(None));
                }
            }
        }
    }

    /// The state at a version, from the snapshots nearest to it, or else from the newest base at or before it.
    pub(crate) async fn fold_to(&self, head: &Head, version: Version) -> Result<Folded> {
        self.fold_to_over(head, version, None).await
    }

    async fn fold_to_over(&self, head: &Head, version: Version, mut found: Option<Layers>) -> Result<Folded> {
        let (header, hash) = self.header(head, version).await?;
        // Its base went with the trim: whether a snapshot still says the same is no answer that lasts.
        if header.base <= head.boundary {
            let from = self.base_behind(head.boundary, head).await?;
            return Err(trimmed(&self.id, version, head.boundary).with("states_from", from));
        }
        let chain = self.chain(&header).await?;
        let (mut nearest, mut gone) = (version, 0);
        loop {
            let layers = match found.take() {
                Some(layers) => layers,
                None => self.layers(&header, nearest).await?,
            };
            match self.fold_over(&layers, chain.clone(), &header, hash).await {
                Ok(folded) => {
                    let read = version.0 - layers.version().max(header.base.previous()).0;
                    if version == head.version && read > self.store.0.settings.snapshot_commits {
                        upkeep::offer(&self.store.0, &self.store.0.active(&self.id));
                    }
                    return Ok(folded);
                }
                Err(error) if layers.is_empty() => return Err(error),
                // Others that say the same were written, and these deleted.
                Err(error) if error.kind() == ErrorKind::NotFound && gone < GONE_MAX => gone += 1,
                // Damaged, or of another history: older ones serve, and in the end the commits.
                Err(error) if is_of_snapshots(&error) => {
                    (nearest, gone) = (layers.version().previous(), 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn fold_over(&self, layers: &Layers, chain: Chain, header: &Header, hash: Hash) -> Result<Folded> {
        let state =
            if layers.is_empty() { State::before(header.base) } else { layers.state(&self.store.0).await? };
        let folded = Folded { state: Arc::new(state), chain: layers.chain(chain) };
        let folded = self.go_on(folded, header.version).await?;
        if folded.state.hash == hash {
            return Ok(folded);
        }
        Err(open::damaged(&self.id, header.version, "a snapshot is of another history"))
    }

    /// The header of a commit at or before the head, and its hash.
    async fn header(&self, head: &Head, version: Version) -> Result<(Header, Hash)> {
        if version == head.version {
            return Ok((self.decode(head)?, head.hash()));
        }
        let page = self.store.0.backend.read(&self.id, version, PageLimit::HEADERS.commits(1)).await?;
        match page.commits.into_iter().next() {
            Some(commit) => {
                let hash = commit.hash();
                let header = Header::decode(commit.header);
                Ok((header.map_err(|error| error.with("log", &self.id).with("version", version))?, hash))
            }
            None => Err(self.not_there(version, page.boundary)),
        }
    }

    /// Why there is no commit below the head.
    pub(crate) fn not_there(&self, version: Version, boundary: Version) -> Error {
        if boundary >= version {
            trimmed(&self.id, version, boundary)
        } else {
            open::damaged(&self.id, version, "a commit below the head is missing")
        }
    }

    /// The commits of the next page, of which there must be some.
    pub(crate) async fn next_commits(
        &self,
        pages: &mut Pages,
        from: Version,
        to: Version,
    ) -> Result<Vec<StoredCommit>> {
        let page = pages.next(self, from, to).await?;
        if page.commits.is_empty() { Err(self.not_there(from, page.boundary)) } else { Ok(page.commits) }
    }

    async fn go_on(&self, mut folded: Folded, to: Version) -> Result<Folded> {
        let mut pages = Pages::default();
        while folded.state.version < to {
            let next = folded.state.version.next();
            let commits = self.next_commits(&mut pages, next, to).await?;
            commits.iter().try_for_each(|commit| folded.take_up(&self.id, commit))?;
        }
        Ok(folded)
    }
}

/// What a commit does to a state, as far as the changes that are wanted go.
pub(crate) fn take_up(
    state: &mut State,
    log: &LogId,
    header: &Header,
    hash: Hash,
    entries: Option<&[Entry]>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<()> {
    if is_deleted(header) {
        return Err(deleted(log, header.version));
    }
    let entries = entries.ok_or_else(|| dropped(log, header.version))?;
    let at = |error: Error| error.with("log", log).with("version", header.version);
    if header.flags.base {
        base::begin(state, header.version, entries, &is_wanted).map_err(at)?;
    }
    state.life.begin(header.version.previous(), header, entries);
    let changes = entries.iter().flat_map(|entry| event::changes(&entry.events));
    let bytes: usize = entries.iter().flat_map(|entry| &entry.events).map(|event| event.data.len()).sum();
    for ((_, mut change), index) in changes.zip(0..) {
        if is_wanted(change.key()) {
            if let DocumentEvent::Put { json, .. } = &mut change {
                *json = snapshot::apart(std::mem::take(json), bytes);
            }
            state.apply(change, Place { version: header.version.0, index }, header.at).map_err(at)?;
        }
    }
    if header.flags.expires {
        state.life.end(header, entries).map_err(at)?;
    }
    state.pass(header.version, header.at, hash);
    Ok(())
}

/// Whether it may be that a snapshot is gone, or not what it was: what it says can be had without it.
pub(crate) fn is_of_snapshots(error: &Error) -> bool {
    [ErrorKind::NotFound, ErrorKind::Corrupt].contains(&error.kind())
}

fn trimmed(log: &LogId, version: Version, boundary: Version) -> Error {
    Error::new(ErrorKind::NotFound, DOING)
        .with("log", log)
        .with("version", version)
        .with("trimmed_through", boundary)
        .advise("Its history was trimmed: ask for a later version")
}

pub(crate) fn dropped(log: &LogId, version: Version) -> Error {
    Error::new(ErrorKind::NotFound, DOING)
        .with("log", log)
        .with("version", version)
        .advise("The body of this commit was dropped: what it did to the documents is not known any more")
}
