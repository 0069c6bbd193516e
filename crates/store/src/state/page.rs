//! One document, or a page of them: of a large state only that much is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use icecore_log::{ErrorKind, Head, Result, Version};
use tokio::sync::OwnedMutexGuard;

use crate::Log;
use crate::state::cache::Slot;
use crate::state::consistency::{Consistency, Seen};
use crate::state::document::{Document, State};
use crate::state::fold::{self, GONE_MAX, LOOK_BACK};
use crate::state::layers::Layers;
use crate::state::overlay::Overlay;
use crate::state::upkeep;

/// Some of a log's documents, in order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocumentPage {
    /// The version at which they were read; zero of a log without commits.
    pub version: Version,
    /// The documents with their keys.
    pub documents: Vec<(String, Document)>,
    /// Whether there may be more behind the last.
    pub has_more: bool,
}

/// Where a document is looked for.
enum Look {
    Whole(Arc<State>),
    /// What came behind the snapshots, and these. Never empty.
    Part(OwnedMutexGuard<Option<Overlay>>),
}

/// Whether a state is read in part.
enum Part {
    /// What came behind its snapshots. Never empty.
    Over(OwnedMutexGuard<Option<Overlay>>),
    /// Its snapshots are so small that it is read as a whole.
    Small(Layers),
    /// Nor can they be read.
    None,
}

impl Log {
    /// One document as it is now. Of a large state only a part is read; and one that was put lately is found at the end of its log.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn document(&self, key: &str) -> Result<Option<Document>> {
        let mut head = None;
        if self.consistency == Consistency::Strong
            && self.store.0.states.find(&self.id).is_none()
            && let Some(head) = head.insert(self.raw_head().await?)
            && head.version.0 - head.boundary.0 > LOOK_BACK
            && self.living(head).is_ok_and(|header| !header.flags.expires)
        {
            match self.find_at_the_end(head, key).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                // Trimmed since.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for _ in 0..GONE_MAX {
            match self.look(head.take()).await? {
                Look::Whole(state) => return Ok(self.seen(&state).get(key).cloned()),
                Look::Part(mut overlay) => {
                    let Some(found) = overlay.as_ref() else { continue };
                    match found.get(&self.store.0, key).await {
                        Err(error) if fold::is_of_snapshots(&error) => *overlay = None,
                        found => return found,
                    }
                }
            }
        }
        Ok(self.seen(&self.fold_strong().await?.state).get(key).cloned())
    }

    /// At most `limit` documents whose keys begin with `prefix`, in order of their keys, behind the key `after`: the next page, if that
    /// was the last of the page before. Of a large state only a part is read.
    ///
    /// Each page is as the documents are when it is read; its version says when that was.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<DocumentPage> {
        // One more, which says that there is one.
        let enough = limit.saturating_add(1);
        for _ in 0..GONE_MAX {
            match self.look(None).await? {
                Look::Whole(state) => {
                    return Ok(DocumentPage::of(&self.seen(&state), prefix, after, limit));
                }
                Look::Part(mut overlay) => {
                    let Some(found) = overlay.as_ref() else { continue };
                    match found.page(&self.store.0, prefix, after, enough).await {
                        Ok(documents) => return Ok(DocumentPage::cut(found.version(), documents, limit)),
                        Err(error) if fold::is_of_snapshots(&error) => *overlay = None,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(DocumentPage::of(&self.seen(&self.fold_strong().await?.state), prefix, after, limit))
    }

    /// A state that has at least these documents, of those that there are.
    pub(crate) async fn documents_of(&self, keys: &BTreeSet<String>) -> Result<Arc<State>> {
        for _ in 0..GONE_MAX {
            match self.look(None).await? {
                Look::Whole(state) => return Ok(self.seen(&state)),
                Look::Part(mut overlay) => {
                    let Some(found) = overlay.as_ref() else { continue };
                    match found.only(&self.store.0, keys).await {
                        Err(error) if fold::is_of_snapshots(&error) => *overlay = None,
                        found => return found.map(|found| self.seen(&Arc::new(found))),
                    }
                }
            }
        }
        Ok(self.seen(&self.fold_strong().await?.state))
    }

    /// A state as it is seen now.
    pub(crate) fn seen(&self, state: &Arc<State>) -> Arc<State> {
        state.seen_at(self.store.now())
    }

    /// Looks for documents; the head is read, unless it was just now.
    async fn look(&self, head: Option<Option<Head>>) -> Result<Look> {
        let slot = self.store.0.states.slot(&self.id);
        let is_fresh = |state: &State| match &self.consistency {
            Consistency::Strong => false,
            Consistency::AtLeast(token) => token.seen_by(state) == Seen::Yes,
            Consistency::Eventual => true,
        };
        if let Consistency::AtLeast(token) = &self.consistency {
            token.check_log(&self.id)?;
        }
        if self.consistency != Consistency::Strong {
            // That one goes on with what this process appends.
            if let Some(folded) = self.fold_local().await?
                && is_fresh(&folded.state)
            {
                self.store.0.states.count(true);
                return Ok(Look::Whole(folded.state));
            }
            let mut overlay = Arc::clone(&slot.overlay).lock_owned().await;
            self.take_up_won_in_part(&slot, &mut overlay).await;
            if let Some(part) = overlay.as_ref()
                && is_fresh(&part.state)
            {
                return Ok(Look::Part(overlay));
            }
        }
        let head = match head {
            Some(head) => head,
            None => self.raw_head().await?,
        };
        let is_whole = slot.folded.lock().await.is_some();
        let part = match &head {
            Some(head) if !is_whole => {
                self.living(head)?;
                self.part(head, &slot).await?
            }
            _ => Part::None,
        };
        let found = match part {
            Part::Over(part) => Look::Part(part),
            Part::Small(layers) => Look::Whole(self.fold_at_over(head.as_ref(), Some(layers)).await?.state),
            Part::None => Look::Whole(self.fold_at(head.as_ref()).await?.state),
        };
        if let Consistency::AtLeast(token) = &self.consistency {
            match &found {
                Look::Whole(state) => self.must_have_seen(token, state).await?,
                Look::Part(part) => {
                    if let Some(part) = part.as_ref() {
                        self.must_have_seen(token, &part.state).await?;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Goes on with what this process itself appended. If that does not fit, it is forgotten.
    async fn take_up_won_in_part(&self, slot: &Slot, kept: &mut Option<Overlay>) {
        while let Some(overlay) = kept
            && let Some(commit) = slot.won(overlay.version().next())
        {
            if overlay.take_up(&self.store.0, &self.id, &commit).await.is_err() {
                *kept = None;
            }
        }
    }

    /// What came behind the snapshots of a large state.
    async fn part(&self, head: &Head, slot: &Arc<Slot>) -> Result<Part> {
        let inner = &self.store.0;
        let mut kept = Arc::clone(&slot.overlay).lock_owned().await;
        // While we waited somebody may have gone on further than we had seen: then the log has, too, or what is kept is no more.
        let is_behind = |head: &Head| kept.as_ref().is_some_and(|kept| kept.version() > head.version);
        let looked_again = if is_behind(head) { self.raw_head().await? } else { None };
        let head = looked_again.as_ref().unwrap_or(head);
        if is_behind(head) {
            *kept = None;
        }
        // So many that snapshots have very likely been written since.
        let is_near = |overlay: &Overlay| overlay.commits() / 2 <= inner.settings.snapshot_commits;
        let mut known = kept.take().filter(is_near);
        loop {
            let is_anew = known.is_none();
            let overlay = match known.take() {
                Some(overlay) => overlay,
                None => match self.overlay_anew(head).await? {
                    Ok(overlay) => overlay,
                    Err(small) => return Ok(Part::Small(small)),
                },
            };
            match self.overlay_on(overlay, head.version).await {
                Ok(overlay) if overlay.state.hash == head.hash() => {
                    if overlay.commits() > inner.settings.snapshot_commits {
                        upkeep::offer(inner, &inner.active(&self.id));
                    }
                    inner.states.weigh(&self.id, slot, overlay.state.bytes());
                    *kept = Some(overlay);
                    return Ok(Part::Over(kept));
                }
                // Of another history, or on snapshots that are gone.
                Ok(_) if is_anew => return Ok(Part::None),
                Err(error) if is_anew && fold::is_of_snapshots(&error) => return Ok(Part::None),
                Ok(_) => {}
                Err(error) if fold::is_of_snapshots(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing yet over the snapshots of a large state; the snapshots, if it is none.
    async fn overlay_anew(&self, head: &Head) -> Result<std::result::Result<Overlay, Layers>> {
        let header = self.decode(head)?;
        let layers = self.layers(&header, head.version).await?;
        if layers.bytes() <= self.store.0.settings.whole_state_bytes_max {
            return Ok(Err(layers));
        }
        Ok(Ok(Overlay::over(layers, self.chain(&header).await?, header.base)))
    }
}

impl DocumentPage {
    /// Of a state: as [`Log::documents`], of the documents as they are in it.
    pub fn of(state: &State, prefix: &str, after: Option<&str>, limit: usize) -> Self {
        let documents = state.after(prefix, after).take(limit.saturating_add(1));
        let documents = documents.map(|(key, document)| (key.to_owned(), document.clone()));
        Self::cut(state.version, documents.collect(), limit)
    }

    fn cut(version: Version, mut documents: Vec<(String, Document)>, limit: usize) -> Self {
        let has_more = documents.len() > limit;
        documents.truncate(limit);
        Self { version, documents, has_more }
    }
}
