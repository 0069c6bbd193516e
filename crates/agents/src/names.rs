//! Where a runtime's things are: a log for each, by tenant, kind and id.
//!
//! Ids come from clients and from models. Two that differ in one bit, are no UTF-8 or are a megabyte long never meet in one log.

use icecore_log::{Error, ErrorKind, Hash, LogId, LogPrefix, Result};

/// What a log of a runtime holds; its name's second part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The events of a run, by trace.
    Trace,
    /// The events of a planner's run, by trace.
    Planner,
    /// What tasks of a session told, by session.
    Updates,
    /// What a session was told, by session.
    Steering,
    /// A document for each task, by session.
    Tasks,
    /// A document: what is remembered, by a key of the runtime's own.
    Memory,
    /// A document: a planner that waits, by its token.
    Pause,
    /// A document for each session, by trace.
    Trajectory,
    /// Which traces a session has, in the order of their last saving.
    Traces,
    /// A document for each remote task, by trace.
    Binding,
    /// A document for each remote task, by session.
    Conversation,
    /// What is said of each artifact, by session, and their content.
    Artifacts,
    /// Which sessions have an artifact of some id, by the first byte of its hash.
    ArtifactIds,
    /// What the nodes of a flow were given and made, by trace.
    Flow,
    /// The messages of a queue, by its name.
    Queue,
}

impl Kind {
    /// The name's second part.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Planner => "planner",
            Self::Updates => "updates",
            Self::Steering => "steering",
            Self::Tasks => "tasks",
            Self::Memory => "memory",
            Self::Pause => "pause",
            Self::Trajectory => "trajectory",
            Self::Traces => "traces",
            Self::Binding => "binding",
            Self::Conversation => "conversation",
            Self::Artifacts => "artifacts",
            Self::ArtifactIds => "artifact-ids",
            Self::Flow => "flow",
            Self::Queue => "queue",
        }
    }
}

/// The longest tenant, in bytes of its escaped form: names have room for a kind and a key behind it.
pub const TENANT_BYTES_MAX: usize = 128;
/// The longest key that stands as it is, in bytes of its escaped form.
pub const KEY_BYTES_MAX: usize = 300;

/// A tenant: no call below it takes a bare id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(String);

impl Tenant {
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty, or longer than [`TENANT_BYTES_MAX`] when escaped.
    pub fn new(tenant: impl Into<String>) -> Result<Self> {
        let tenant = tenant.into();
        if tenant.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "naming a tenant")
                .advise("Say whose data it is: a tenant's name is not empty"));
        }
        let bytes = LogPrefix::tenant(&tenant)?.as_str().len() - 1;
        if bytes > TENANT_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "naming a tenant")
                .with("escaped_bytes", bytes)
                .with("escaped_bytes_max", TENANT_BYTES_MAX)
                .advise("Give the tenant a shorter name"));
        }
        Ok(Self(tenant))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The log of this kind for an id.
    ///
    /// # Errors
    /// None: each part fits.
    pub fn log(&self, kind: Kind, id: &[u8]) -> Result<LogId> {
        self.keyed(kind, &key(id))
    }

    /// The log of this kind for what [`key`] made of an id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is none.
    pub fn keyed(&self, kind: Kind, key: &str) -> Result<LogId> {
        LogId::new(&self.0, kind.name(), key)
    }
}

/// An id as a log's key: the id itself, or if that cannot be, `~` and its SHA-256 in hexadecimal digits.
///
/// It cannot be if it is empty, no UTF-8, begins with `~`, or is longer than [`KEY_BYTES_MAX`] when escaped.
pub fn key(id: &[u8]) -> String {
    match std::str::from_utf8(id) {
        Ok(text) if !text.is_empty() && !is_hashed(text) && escaped_len(id) <= KEY_BYTES_MAX => {
            text.to_owned()
        }
        _ => hashed(id),
    }
}

/// Several ids as a document's key, each of which may be absent: their JSON, or `~` and the SHA-256 of it if it is too long.
pub fn joined(ids: &[Option<&[u8]>]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.map(key)).collect();
    let text = serde_json::Value::from(ids).to_string();
    if text.len() <= KEY_BYTES_MAX { text } else { hashed(text.as_bytes()) }
}

/// What stands for an id that cannot be a key itself.
pub fn hashed(bytes: &[u8]) -> String {
    format!("~{}", Hash::of(bytes))
}

/// Whether it is what [`hashed`] gave: the id itself is not stored.
pub(crate) fn is_hashed(key: &str) -> bool {
    key.starts_with('~')
}

/// As `LogId` escapes it: `=XX` for all but these.
pub(crate) fn escaped_len(id: &[u8]) -> usize {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    id.iter().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn any_two_ids_have_two_logs() {
        let long = vec![b'a'; 100_000];
        let ids: Vec<&[u8]> = vec![
            b"",
            b"s",
            b"s ",
            b"S",
            b"s/",
            b"s=2F",
            b"~",
            b"~s",
            b"\0",
            b"\xff",
            b"\xed\xa0\x80",
            b"..",
            b".",
            &long,
            &long[1..],
            &long[..300],
            &long[..301],
            "é".as_bytes(),
            "e\u{301}".as_bytes(),
        ];
        let tenant = Tenant::new("acme").unwrap();
        let logs: HashSet<_> = ids.iter().map(|id| tenant.log(Kind::Trace, id).unwrap()).collect();
        assert_eq!(logs.len(), ids.len());
        // What stands for an id is no id itself.
        assert_ne!(key(hashed(b"").as_bytes()), key(b""));
    }

    #[test]
    fn the_longest_tenant_and_key_fit() {
        let tenant = Tenant::new("a".repeat(TENANT_BYTES_MAX)).unwrap();
        for id in [vec![b'k'; KEY_BYTES_MAX], vec![b' '; KEY_BYTES_MAX / 3], vec![b' '; 5_000]] {
            tenant.log(Kind::Conversation, &id).unwrap();
        }
        assert_eq!(Tenant::new("a".repeat(TENANT_BYTES_MAX + 1)).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Tenant::new("").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn ids_that_are_joined_are_not_mixed_up() {
        let all: HashSet<_> = [
            joined(&[None, Some(b"t")]),
            joined(&[Some(b""), Some(b"t")]),
            joined(&[Some(b"null"), Some(b"t")]),
            joined(&[Some(b"a\",\"b"), Some(b"c")]),
            joined(&[Some(b"a"), Some(b"b\",\"c")]),
            joined(&[Some(&[b'x'; 400]), Some(&[b'y'; 200])]),
            joined(&[Some(&[b'x'; 200]), Some(&[b'y'; 299])]),
        ]
        .into();
        assert_eq!(all.len(), 7);
        assert!(all.iter().all(|key| key.len() <= 1_024));
    }
}
