//! Tokens: secrets that open exactly one session.
//!
//! A token is given once, and only its SHA-256 is kept. That is enough for a secret of 256 random bits: nobody can try them all, however
//! quick a try is, so there is nothing that a slow hash would protect. A token says where its session is listed, and no id of anybody.

use std::fmt;
use std::time::Duration;

use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp};
use icecore_store::state::{Changes, Condition, Document, Json, State};
use serde::{Deserialize, Serialize};

use super::directory::{self, Directory, SHARDS};
use super::record::{Record, TOUCHED};
use super::{Session, Sessions, Status};
use crate::scope::SessionScope;

const PREFIX: &str = "ics1_";
const TOKENS: &str = "token/";
/// A shard, the key of an entry, the token's own id, the secret.
const BYTES: usize = 1 + 16 + 8 + SECRET_BYTES;
const SECRET_BYTES: usize = 32;
/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// A token as it was given: shown by [`Issued::reveal`], and by nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its id, by which it is listed and revoked.
    pub id: String,
    text: String,
}

impl Issued {
    /// The token itself. It cannot be had again.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is known of a token that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it was said to be for.
    pub label: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// When it opens nothing any more; else it does for as long as the session is live.
    pub expires_at: Option<Timestamp>,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    sha256: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ns: Option<i64>,
}

impl Sessions {
    /// Gives a token for a live session, which is touched.
    ///
    /// # Errors
    /// As [`Sessions::touch`]; [`Invalid`](ErrorKind::Invalid) if the label is longer than [`LABEL_BYTES_MAX`].
    pub async fn issue_token(
        &self,
        scope: &SessionScope,
        label: &str,
        ttl: Option<Duration>,
    ) -> Result<Issued> {
        const DOING: &str = "giving a token";
        if label.len() > LABEL_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, DOING)
                .with("label_bytes", label.len())
                .with("label_bytes_max", LABEL_BYTES_MAX));
        }
        let (id, secret) = (hex(&self.store.random::<8>()), hex(&self.store.random::<SECRET_BYTES>()));
        let expires_at = ttl.map(|ttl| self.store.now().after(ttl));
        let stored = Stored {
            sha256: Hash::of(secret.as_bytes()).to_string(),
            label: label.to_owned(),
            expires_at_ns: expires_at.map(|at| at.0),
        };
        let json = Json::of(&stored)?;
        let mut key = String::new();
        let put = |state: &State| {
            key = Record::of(state)?.map(|record| record.key()).unwrap_or_default();
            Ok(Changes::new().put(format!("{TOKENS}{id}"), json.clone()))
        };
        self.change(scope, DOING, put).await?;
        let shard = directory::shard(scope)?;
        let text = format!("{PREFIX}{shard:02x}{key}{id}{secret}");
        Ok(Issued { id, text })
    }

    /// The session that a token opens.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it opens none: it is no token of this tenant, was revoked or has expired, or its session has
    /// ended. Which of these is not told. Else as reading a log.
    pub async fn open_token(&self, token: &str) -> Result<Session> {
        let Some(parts) = Parts::of(token) else { return Err(opens_nothing()) };
        let directory = Directory::of_tenant(&self.store, &self.tenant, parts.shard)?;
        let entry = directory.entry(parts.key).await?;
        let Some(stored) = entry.and_then(|entry| entry.stored) else { return Err(opens_nothing()) };
        let scope = stored.scope(&self.tenant)?;
        let Some(state) = self.state(&scope).await? else { return Err(opens_nothing()) };
        let now = self.store.now();
        let is_of = Record::of(&state)?.is_some_and(|record| record.key() == parts.key);
        let kept = state.get(&format!("{TOKENS}{}", parts.id)).map(Document::read::<Stored>).transpose()?;
        let opens = kept.is_some_and(|kept| {
            are_equal(kept.sha256.as_bytes(), Hash::of(parts.secret.as_bytes()).to_string().as_bytes())
                && kept.expires_at_ns.is_none_or(|end| now.0 < end)
        });
        let session = Record::session(&state, &scope, now).filter(|session| session.status == Status::Live);
        match session {
            Some(session) if is_of && opens => Ok(session),
            _ => Err(opens_nothing()),
        }
    }

    /// The tokens of a session that were given and not revoked, in the order in which they were given; without their secrets.
    ///
    /// # Errors
    /// As [`Sessions::get`].
    pub async fn tokens(&self, scope: &SessionScope) -> Result<Vec<Token>> {
        const DOING: &str = "listing tokens";
        let Some(state) = self.state(scope).await? else { return Err(super::none(scope, DOING)) };
        if Record::session(&state, scope, self.store.now()).is_none() {
            return Err(super::none(scope, DOING));
        }
        let all = state.in_order().into_iter().filter_map(|(key, document)| {
            let id = key.strip_prefix(TOKENS)?.to_owned();
            Some(document.read::<Stored>().map(|stored| Token {
                id,
                label: stored.label,
                issued_at: document.at,
                expires_at: stored.expires_at_ns.map(Timestamp),
            }))
        });
        all.collect()
    }

    /// Revokes a token by its id: from when this answers it opens nothing. The session is not touched by it if it has ended.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such session or token; else as
    /// [`Log::transact`](icecore_store::Log::transact).
    pub async fn revoke_token(&self, scope: &SessionScope, id: &str) -> Result<()> {
        const DOING: &str = "revoking a token";
        self.owns(scope)?;
        let key = format!("{TOKENS}{id}");
        let none = || {
            scope
                .error(ErrorKind::NotFound, DOING)
                .with("token", crate::scope::told(id))
                .advise("The session has no such token: list its tokens")
        };
        let revoke = |state: &State| {
            let session = Record::session(state, scope, self.store.now());
            let is_live = session.ok_or_else(none)?.status == Status::Live;
            let changes = Changes::new().delete(&key).only_if(Condition::Exists(key.clone()));
            Ok(if is_live { changes.put(TOUCHED, super::record::nothing()?) } else { changes })
        };
        match self.record(scope)?.transact(revoke).await {
            Err(error) if error.kind() == ErrorKind::Conflict || super::is_purged(&error) => Err(none()),
            done => done.map(drop),
        }
    }
}

/// What a token says.
struct Parts<'a> {
    shard: u8,
    key: &'a str,
    id: &'a str,
    secret: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let digits = token.strip_prefix(PREFIX)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 2 * BYTES || !digits.bytes().all(is_digit) {
            return None;
        }
        let (shard, rest) = digits.split_at(2);
        let (key, rest) = rest.split_at(32);
        let (id, secret) = rest.split_at(16);
        let shard = u8::from_str_radix(shard, 16).ok().filter(|shard| *shard < SHARDS)?;
        Some(Self { shard, key, id, secret })
    }
}

fn opens_nothing() -> Error {
    Error::new(ErrorKind::NotFound, "opening a session").advise("The token opens no session")
}

/// Whether two texts are equal, in a time that does not tell where they differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differs) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
