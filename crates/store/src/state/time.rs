//! A state as it was; a log set back to it, or begun anew from it.

use std::sync::Arc;

use icecore_log::{Error, ErrorKind, Event, Hash, LogId, Result, Timestamp, Version};

use crate::append::Receipt;
use crate::state::changes::{Changes, Condition, Json};
use crate::state::document::{Document, State};
use crate::state::event::{FORK, ROLLBACK};
use crate::state::expiry::Expiry;
use crate::state::fold::Folded;
use crate::{
    Log,
    state::diff::{Diff, Difference},
};

/// A moment of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// Now.
    #[default]
    Head,
    /// Behind this commit; zero is before the first.
    Version(Version),
    /// Behind the last commit that was made at or before this time.
    Time(Timestamp),
}

impl Log {
    /// The documents as they were: at a version what was there when it was committed, at a time what was there then. So the answer stays the same, also when
    /// what it shows has expired since.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the log never came to that version, or was trimmed behind it, or has no commit and a later
    /// version than zero is asked for; else as [`Log::state`].
    pub async fn state_at(&self, at: At) -> Result<Arc<State>> {
        Ok(self.seen_as_of(&self.folded_at(at).await?.state, at))
    }

    fn seen_as_of(&self, state: &Arc<State>, at: At) -> Arc<State> {
        let seen_at = match at {
            At::Head => Some(self.store.now()),
            At::Version(_) => state.at,
            At::Time(time) => Some(time),
        };
        seen_at.map_or_else(|| Arc::clone(state), |at| state.seen_at(at))
    }

    pub(crate) async fn folded_at(&self, at: At) -> Result<Folded> {
        let version = match at {
            At::Head => return self.fold_strong().await,
            At::Version(Version::ZERO) => return Ok(Folded::empty(&self.id)),
            At::Version(version) => version,
            At::Time(_) if self.raw_head().await?.is_none() => return Ok(Folded::empty(&self.id)),
            At::Time(time) => match self.version_at(time).await? {
                Some(version) => version,
                // Before the first commit there was nothing; behind a trim nobody knows.
                None => return self.before_the_first().await,
            },
        };
        let head = self.raw_head().await?.filter(|head| head.version >= version);
        let Some(head) = head else {
            let found = self.raw_head().await?.map_or(Version::ZERO, |head| head.version);
            return Err(Error::new(ErrorKind::NotFound, "reading a log's state")
                .with("log", &self.id)
                .with("version", version)
                .with("found", found)
                .advise("The log has not come to that version"));
        };
        self.living(&head)?;
        self.fold_to(&head, version).await
    }

    async fn before_the_first(&self) -> Result<Folded> {
        match self.raw_head().await? {
            Some(head) if head.boundary > Version::ZERO => {
                Err(Error::new(ErrorKind::NotFound, "reading a log's state")
                    .with("log", &self.id)
                    .with("trimmed_through", head.boundary)
                    .advise("Its history was trimmed through that version: ask for a later one"))
            }
            _ => Ok(Folded::empty(&self.id)),
        }
    }

    /// What differs between the documents at two moments.
    ///
    /// # Errors
    /// As [`Log::state_at`].
    pub async fn diff(&self, from: At, to: At) -> Result<Diff> {
        Diff::of(&*self.state_at(from).await?, &*self.state_at(to).await?)
    }

    /// Makes the documents what they were, by a new commit: nothing of what came between is lost. With a document comes back when it expires, unless that
    /// was a time that has come since: then it stays gone.
    ///
    /// The receipt; `None` if they are what they were.
    ///
    /// # Errors
    /// As [`Log::state_at`] and [`Log::transact`].
    pub async fn rollback(&self, to: At) -> Result<Option<Receipt>> {
        let wanted = self.state_at(to).await?;
        self.transact(|state| {
            let mut changes = Changes::new();
            // What was due since then by a time stays gone.
            let now = self.store.now();
            let wanted_of = |key: &str| wanted.get(key).filter(|document| !is_over(document, now));
            for Difference { key, .. } in Diff::of(state, &wanted)?.differences {
                changes = match (wanted_of(&key), state.get(&key)) {
                    (Some(document), _) => changes.put(key, Json(document.json.clone())),
                    (None, Some(_)) => changes.delete(key),
                    (None, None) => changes,
                };
            }
            for (key, document) in wanted.documents("").filter(|(_, document)| !is_over(document, now)) {
                if state.get(key).and_then(|now| now.expiry) != document.expiry {
                    changes = changes.expire(key, document.expiry);
                }
            }
            if changes.is_empty() {
                return Ok(changes);
            }
            let note = format!(r#"{{"from":{},"to":{}}}"#, state.version, wanted.version);
            changes.events.insert(0, Event::new(ROLLBACK, note));
            Ok(changes)
        })
        .await
    }

    /// Begins a new log with the documents as they were here. From then on the two are independent.
    ///
    /// Its first commit is a base: it holds the whole state, and says where that came from. When a document expires goes with it; when the log does, does not.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if the new log has a commit; [`Invalid`](ErrorKind::Invalid) if the state is larger than an
    /// entry may be; else as [`Log::state_at`] and [`Log::append`].
    pub async fn fork(&self, new: &LogId, at: At) -> Result<Receipt> {
        if *new == self.id {
            return Err(Error::new(ErrorKind::Invalid, "forking a log")
                .with("log", new)
                .advise("A fork is a new log: give it another name"));
        }
        let Folded { state, chain } = self.folded_at(at).await?;
        let hash = chain.head().map_or(Hash::ZERO, |(_, hash)| hash);
        let origin = Json::of(&serde_json::json!({
            "log": self.id.as_str(),
            "version": state.version.0,
            "hash": hash.to_string(),
        }))?;
        let (seen, now) = (self.seen_as_of(&state, at), self.store.now());
        let mut changes = Changes::new().push(Event::new(FORK, origin.0));
        for (key, document) in seen.in_order().into_iter().filter(|(_, document)| !is_over(document, now)) {
            changes = changes.put(key, Json(document.json.clone()));
            if document.expiry.is_some() {
                changes = changes.expire(key, document.expiry);
            }
        }
        let log = self.store.log(new.clone());
        let noted = log.note_due(&changes.events, None).await?;
        let receipt = log.enqueue_base(Version::ZERO, changes.entry()).await?.receipt().await?;
        log.keep_noted(noted).await?;
        Ok(receipt)
    }
}

/// Whether the time has come that was said of a document.
fn is_over(document: &Document, now: Timestamp) -> bool {
    matches!(document.expiry, Some(Expiry::At(time)) if time <= now)
}

impl Changes {
    /// Only if the log has no commit.
    #[must_use]
    pub fn only_if_new(self) -> Self {
        self.only_if(Condition::Log(Version::ZERO))
    }
}
