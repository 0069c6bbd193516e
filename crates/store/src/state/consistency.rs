//! How fresh a state must be that is read.

use icecore_log::{Error, ErrorKind, Hash, LogId, Result, Version};

use crate::Log;
use crate::append::Receipt;
use crate::state::document::State;

/// How fresh a state must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consistency {
    /// All that was acknowledged before the read began is in it: the log's end is looked at.
    #[default]
    Strong,
    /// All that the token has seen is in it. If the state in memory has come that far, nothing is looked at.
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
    /// The hash of its commit, if it is known: then a history that lost that commit is noticed.
    pub hash: Option<Hash>,
}

impl Receipt {
    /// For reads that must see this append.
    pub fn token(&self) -> Token {
        Token { log: self.log.clone(), version: self.version, hash: None }
    }
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
}

impl Token {
    /// Whether a state has come as far; in the same history, as far as it shows.
    pub(crate) fn is_seen_by(&self, state: &State) -> bool {
        let is_same = |hash| state.version != self.version || hash == state.hash;
        state.version >= self.version && self.hash.is_none_or(is_same)
    }

    /// # Errors
    /// [`ErrorKind::Unavailable`] if it has not come as far; [`ErrorKind::Corrupt`] if another commit stands there.
    pub(crate) fn must_be_seen_by(&self, state: &State) -> Result<()> {
        match self.is_seen_by(state) {
            true => Ok(()),
            false if state.version < self.version => Err(self.not_there(state.version)),
            false => Err(self.lost(state.hash)),
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
