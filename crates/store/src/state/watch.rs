//! A document as it changes.

use icecore_log::{Result, Version};

use crate::Log;
use crate::read::RecordedCommit;
use crate::state::document::{Document, State};
use crate::state::fold;
use crate::tail::{Tail, Tailed};

/// What a watch has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// What the document is at this version; `None` if it is not there. First as it is now, then after each commit that changed it, and within about a second of when it has expired.
    Is(Version, Option<Document>),
    /// There is nothing behind this version now. Said once each time.
    CaughtUp(Version),
    /// Still nothing, about once a second.
    Heartbeat,
}

/// Follows a document. Made by [`Log::watch`].
#[derive(Debug)]
pub struct Watch<'a> {
    log: &'a Log,
    key: String,
    /// This one document, through the commit that was looked at last.
    state: State,
    /// What was told last.
    shown: Option<Document>,
    /// `None` before it was read, and when it must be read anew.
    tail: Option<Tail<'a>>,
}

impl Log {
    /// Follows a document: as it is now, and after each commit that changes it. The log need not exist yet.
    ///
    /// ```
    /// # use icecore_store::{Store, state::{Json, Watched}};
    /// # use std::sync::Arc;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Store::new(Arc::new(icecore_embedded::Memory::default()));
    /// let log = store.log(icecore_log::LogId::new("acme", "session", "s-1")?);
    /// let mut watch = log.watch("cart");
    /// assert_eq!(watch.next().await?, Watched::Is(icecore_log::Version(0), None));
    /// log.put("cart", Json::text("1")?).await?;
    /// loop {
    ///     if let Watched::Is(version, Some(document)) = watch.next().await? {
    ///         assert_eq!((version.0, &document.json[..]), (1, &b"1"[..]));
    ///         break;
    ///     }
    /// }
    /// # Ok::<_, icecore_log::Error>(()) }).unwrap();
    /// ```
    pub fn watch(&self, key: &str) -> Watch<'_> {
        Watch { log: self, key: key.to_owned(), state: State::default(), shown: None, tail: None }
    }
}

impl Watch<'_> {
    /// What comes next; waits for it. Safe to drop while it waits: nothing is skipped.
    ///
    /// If the log was trimmed beyond what was seen, the next is the document as it is by then.
    ///
    /// # Errors
    /// As [`Log::state`] and [`Tail::next`].
    pub async fn next(&mut self) -> Result<Watched> {
        loop {
            // It has expired: nothing in the log says so.
            if self.shown.is_some() && self.seen().is_none() {
                return Ok(self.is());
            }
            let Some(tail) = &mut self.tail else { return self.begin().await };
            match tail.next().await? {
                // What it did to the document is not known any more.
                Tailed::Commit(commit) if commit.entries.is_none() => self.tail = None,
                Tailed::Commit(commit) => {
                    if let Some(watched) = self.apply(&commit)? {
                        return Ok(watched);
                    }
                }
                Tailed::CaughtUp(version) => return Ok(Watched::CaughtUp(version)),
                Tailed::Heartbeat => return Ok(Watched::Heartbeat),
                Tailed::Trimmed(_) => self.tail = None,
            }
        }
    }

    async fn begin(&mut self) -> Result<Watched> {
        let whole = self.log.fold_strong().await?.state;
        self.state = whole.only(&self.key);
        self.tail = Some(self.log.tail(self.state.version.next()));
        Ok(self.is())
    }

    fn is(&mut self) -> Watched {
        self.shown = self.seen();
        Watched::Is(self.state.version, self.shown.clone())
    }

    /// The document, if it is there now.
    fn seen(&self) -> Option<Document> {
        let now = self.log.store.now();
        self.state.get(&self.key).filter(|document| self.state.life.has(document, now)).cloned()
    }

    /// What the document is behind a commit, if that changed it: then its version is another, or it is gone.
    fn apply(&mut self, commit: &RecordedCommit) -> Result<Option<Watched>> {
        let before = self.state.version_of(&self.key);
        let is_ours = |key: &str| key == self.key;
        fold::take_up(
            &mut self.state,
            &self.log.id,
            &commit.header,
            commit.hash,
            commit.entries.as_deref(),
            is_ours,
        )?;
        Ok((self.state.version_of(&self.key) != before).then(|| self.is()))
    }
}
