//! What a session's own log says of it: documents, which are the session.

use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result, Timestamp};
use icecore_store::state::{Json, State};
use serde::{Deserialize, Serialize};

use super::directory;
use super::{Session, Status};
use crate::scope::SessionScope;

/// The document that says that there is a session, and which. It is put once.
pub(super) const SESSION: &str = "session";
/// The document that is put whenever the session is touched.
pub(super) const TOUCHED: &str = "touched";
/// The document that says that it was ended.
pub(super) const ENDED: &str = "ended";

/// As it is stored.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub user: String,
    pub session: String,
    pub created_at_ns: i64,
    /// Tells it from what others tried to make under the same id: 16 hexadecimal digits.
    pub nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ns: Option<i64>,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended {
    pub because: String,
}

/// Why a session ended that is being purged: whoever finds it so goes on.
pub(super) const PURGED: &str = "purged";

impl Record {
    /// What a log says, if it is of a session.
    pub fn of(state: &State) -> Result<Option<Self>> {
        state.get(SESSION).map(|document| document.read()).transpose().map_err(|error| {
            Error::new(ErrorKind::Corrupt, "reading a session")
                .because(error)
                .advise("Its record is something else than a session")
        })
    }

    /// The session that a log says that there is, as it is at a time. What is stored of another scope, or cannot be read, is none.
    pub fn session(state: &State, scope: &SessionScope, now: Timestamp) -> Option<Session> {
        let record = Self::of(state).ok()??;
        // What stands in the log's name may be a hash: here is the whole id.
        if record.user != scope.user().id() || record.session != scope.id() {
            return None;
        }
        let written = [SESSION, TOUCHED, ENDED].into_iter().filter_map(|key| state.get(key));
        let touched_at = written.map(|document| document.at).max()?;
        Some(record.at(scope.clone(), touched_at).judged(state.get(ENDED).is_some(), now))
    }

    /// The session, with when it was touched last; not yet judged.
    pub fn at(&self, scope: SessionScope, touched_at: Timestamp) -> Session {
        Session {
            scope,
            created_at: Timestamp(self.created_at_ns),
            touched_at,
            idle: self.idle_ms.map(Duration::from_millis),
            expires_at: self.expires_at_ns.map(Timestamp),
            status: Status::Live,
        }
    }

    /// The key of its entries in directories.
    pub fn key(&self) -> String {
        directory::key(Timestamp(self.created_at_ns), &self.nonce)
    }

    /// Whether it ended because it is being purged.
    pub fn is_being_purged(state: &State) -> bool {
        let ended = state.get(ENDED).and_then(|document| document.read::<Ended>().ok());
        ended.is_some_and(|ended| ended.because == PURGED)
    }
}

/// What is put where only the time counts.
pub(super) fn nothing() -> Result<Json> {
    Json::text("null")
}
