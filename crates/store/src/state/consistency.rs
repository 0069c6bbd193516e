//! How fresh a state must be that is read.

use icecore_log::{Error, ErrorKind, Hash, LogId, PageLimit, Result, StoredCommit, Version};

use crate::Log;
use crate::append::Receipt;
use crate::state::document::State;

/// How fresh a state must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consistency {
    /// All that was acknowledged before the read began is in it: the log's end is looked at.
    #[default]
    Strong,
    /// All that the token has seen is in it. If the state in memory has come that far, and its commit by, nothing is looked at.
    AtLeast(Token),
    /// Whatever is in memory; what other processes have appended meanwhile may be missing. If nothing is, as strong.
    Eventual,
}

/// "I have seen this log at this version": for reads, by any process, that must not answer from before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// The log.
    pub log: LogId,
    /// The version.
    pub version: Version,
    /// The hash of its commit, if it is known: then a history that lost that commit is noticed, for as long as the commit of that version
    /// was not trimmed.
    pub hash: Option<Hash>,
}

impl Receipt {
    /// For reads that must see this append.
    pub fn token(&self) -> Token {
        Token { log: self.log.clone(), version: self.version, hash: self.hash }
    }
}

/// What a state says about a token's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is in it.
    Yes,
    /// The state is from before.
    No,
    /// Another commit stands in its place.
    Another(Hash),
    /// The state has come as far, and does not know any more which commit was there; this hash it should have.
    Unsure(Hash),
}

impl Log {
    /// A handle of the same log whose reads of documents are as fresh as this says. Transactions and all other reads are strong always.
    #[must_use]
    pub fn with(&self, consistency: Consistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// The token of a state of this log: for reads that must not answer from before it.
    pub fn token(&self, state: &State) -> Token {
        Token { log: self.id.clone(), version: state.version, hash: Some(state.hash) }
    }

    /// Looks at the token's commit, if a state that has come as far does not know it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the state has not come as far; [`ErrorKind::Corrupt`] if another commit stands there.
    pub(crate) async fn must_have_seen(&self, token: &Token, state: &State) -> Result<()> {
        let hash = match token.seen_by(state) {
            Seen::Yes => return Ok(()),
            Seen::No => return Err(token.not_there(state.version)),
            Seen::Another(found) => return Err(token.lost(found)),
            Seen::Unsure(hash) => hash,
        };
        let page = self.store.0.backend.read(&self.id, token.version, PageLimit::HEADERS.commits(1)).await?;
        match page.commits.first().map(StoredCommit::hash) {
            Some(found) if found == hash => {
                state.remember(token.version, hash);
                Ok(())
            }
            Some(found) => Err(token.lost(found)),
            // It was trimmed, and with it all that would tell.
            None if page.boundary >= token.version => Ok(()),
            None => Err(self.not_there(token.version, page.boundary)),
        }
    }
}

impl Token {
    /// Whether a state has come by the token's commit, as far as it knows.
    pub(crate) fn seen_by(&self, state: &State) -> Seen {
        if state.version < self.version {
            return Seen::No;
        }
        match self.hash {
            None => Seen::Yes,
            Some(hash) => match state.hash_at(self.version) {
                None => Seen::Unsure(hash),
                Some(found) if found == hash => Seen::Yes,
                Some(found) => Seen::Another(found),
            },
        }
    }

    fn not_there(&self, found: Version) -> Error {
        Error::new(ErrorKind::Unavailable, "reading a log's state")
            .with("log", &self.log)
            .with("version", self.version)
            .with("found", found)
            .advise("What the token has seen is not here: it may come, or it was lost by a fail-over")
    }

    fn lost(&self, found: Hash) -> Error {
        Error::new(ErrorKind::Corrupt, "reading a log's state")
            .with("log", &self.log)
            .with("version", self.version)
            .with("expected", self.hash.unwrap_or_default())
            .with("found", found)
            .advise("The history that the token has seen was lost: another commit stands in its place")
    }

    /// # Errors
    /// [`ErrorKind::Invalid`] if it is of another log.
    pub(crate) fn check_log(&self, log: &LogId) -> Result<()> {
        if self.log == *log {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "reading a log's state")
            .with("log", log)
            .with("token", &self.log)
            .advise("The token is of another log"))
    }
}
