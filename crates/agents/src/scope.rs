//! Whose something is: tenant, user, session, as types. What has a session's handle cannot name what is another's.
//!
//! The logs of a session are `tenant/sessions/USER/SESSION/PART`, where the last three are one key. So the names of all that a session
//! has begin alike, and so do those of a user.

use std::sync::Arc;

use icecore_log::{Error, ErrorKind, LogId, LogPrefix, Result};

use crate::names::{self, Tenant};

/// The longest id of a user or a session, in bytes.
pub const ID_BYTES_MAX: usize = 1_024;
/// The longest name of a part, in bytes of its escaped form.
pub const PART_BYTES_MAX: usize = 128;
/// The longest id that stands in a log's name as it is, in bytes of its escaped form.
const STANDING_BYTES_MAX: usize = 100;
/// The second part of the logs' names.
const KIND: &str = "sessions";
/// The part that says what the session is. It is nobody's but ours.
const RECORD: &str = "record";

/// A user of a tenant. Made by [`Tenant::user`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserScope {
    tenant: Tenant,
    user: Arc<str>,
}

/// A session of a user. Made by [`UserScope::session`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionScope {
    user: UserScope,
    session: Arc<str>,
}

impl Tenant {
    /// A user of this tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the id is empty, or longer than [`ID_BYTES_MAX`], or the tenant is `_`, which is Icecore's own.
    pub fn user(&self, user: impl Into<Arc<str>>) -> Result<UserScope> {
        let user = user.into();
        if self.as_str() == "_" {
            return Err(Error::new(ErrorKind::Invalid, "naming a user")
                .with("tenant", "_")
                .advise("It is Icecore's own: choose another tenant"));
        }
        check("naming a user", &user, "Say whose session it is: a user's id is not empty")?;
        Ok(UserScope { tenant: self.clone(), user })
    }

    /// The beginning of the names of all that this tenant's sessions have.
    pub(crate) fn sessions_prefix(&self) -> Result<LogPrefix> {
        LogPrefix::kind(self.as_str(), KIND)
    }
}

impl UserScope {
    /// A session of this user. It need not be there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the id is empty, or longer than [`ID_BYTES_MAX`].
    pub fn session(&self, session: impl Into<Arc<str>>) -> Result<SessionScope> {
        let session = session.into();
        check("naming a session", &session, "Say which session: its id is not empty")?;
        Ok(SessionScope { user: self.clone(), session })
    }

    /// The tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The id, as it was given.
    pub fn id(&self) -> &str {
        &self.user
    }

    /// What stands for the user in the names of logs.
    pub(crate) fn key(&self) -> String {
        standing(&self.user)
    }

    /// The beginning of the names of all that this user's sessions have.
    pub(crate) fn prefix(&self) -> Result<LogPrefix> {
        prefix(&self.tenant, &format!("{}/", self.key()))
    }
}

impl SessionScope {
    /// A log of this session's own: what a runtime keeps of it under this name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the name is empty, longer than [`PART_BYTES_MAX`] when escaped, or `record`, which is what says that the
    /// session is there.
    pub fn log(&self, part: &str) -> Result<LogId> {
        let invalid = || Error::new(ErrorKind::Invalid, "naming a log of a session");
        if part == RECORD {
            return Err(invalid()
                .with("part", part)
                .advise("The session itself is in it: choose another name"));
        }
        let bytes = names::escaped_len(part.as_bytes());
        if part.is_empty() || bytes > PART_BYTES_MAX {
            return Err(invalid().with("escaped_bytes", bytes).with("escaped_bytes_max", PART_BYTES_MAX));
        }
        self.named(part)
    }

    /// The log that says what the session is.
    pub(crate) fn record(&self) -> Result<LogId> {
        self.named(RECORD)
    }

    fn named(&self, part: &str) -> Result<LogId> {
        LogId::new(self.tenant().as_str(), KIND, &format!("{}/{part}", self.key()))
    }

    /// The beginning of the names of all that this session has.
    pub(crate) fn prefix(&self) -> Result<LogPrefix> {
        prefix(self.tenant(), &format!("{}/", self.key()))
    }

    fn key(&self) -> String {
        format!("{}/{}", self.user.key(), standing(&self.session))
    }

    /// The tenant.
    pub fn tenant(&self) -> &Tenant {
        self.user.tenant()
    }

    /// The user.
    pub fn user(&self) -> &UserScope {
        &self.user
    }

    /// The id, as it was given.
    pub fn id(&self) -> &str {
        &self.session
    }

    /// An error that names it.
    pub(crate) fn error(&self, kind: ErrorKind, doing: &'static str) -> Error {
        Error::new(kind, doing)
            .with("tenant", told(self.tenant().as_str()))
            .with("user", told(self.user.id()))
            .with("session", told(&self.session))
    }
}

/// An id as an error may show it: ids come from anywhere.
pub(crate) fn told(id: &str) -> String {
    let shown: String = id.chars().take(80).flat_map(char::escape_debug).collect();
    if id.chars().nth(80).is_some() { format!("{shown}… ({} bytes)", id.len()) } else { shown }
}

pub(crate) fn check(doing: &'static str, id: &str, advice: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, doing).advise(advice));
    }
    if id.len() > ID_BYTES_MAX {
        return Err(Error::new(ErrorKind::Invalid, doing)
            .with("bytes", id.len())
            .with("bytes_max", ID_BYTES_MAX)
            .advise("Give it a shorter id, such as a hash of this one"));
    }
    Ok(())
}

/// An id within a log's key: itself, or `~` and its SHA-256 if it could be taken for something else, or is long.
fn standing(id: &str) -> String {
    let is_plain =
        !names::is_hashed(id) && !id.contains('/') && names::escaped_len(id.as_bytes()) <= STANDING_BYTES_MAX;
    if is_plain { id.to_owned() } else { names::hashed(id.as_bytes()) }
}

fn prefix(tenant: &Tenant, key: &str) -> Result<LogPrefix> {
    LogPrefix::parse(LogId::new(tenant.as_str(), KIND, key)?.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_sessions_share_a_log_or_the_beginning_of_its_name() {
        let tenant = Tenant::new("acme").unwrap();
        let long = "é".repeat(ID_BYTES_MAX / 2);
        let hashed_long = names::hashed(long.as_bytes());
        let ids = [
            "a",
            "A",
            "a ",
            " a",
            "a/",
            "/a",
            "a/b",
            "a=2Fb",
            "a\0",
            "\0",
            ".",
            "..",
            "~",
            "~a",
            "a/record",
            "record",
            "é",
            "e\u{301}",
            "ⅰ",
            "i",
            "\u{202e}a",
            "a\n",
            "..=2F..",
            &long,
            &long[2..],
            &hashed_long,
        ];
        let mut logs: HashSet<LogId> = HashSet::new();
        let mut all = Vec::new();
        for user in ids {
            for session in ids {
                let scope = tenant.user(user).unwrap().session(session).unwrap();
                for log in [scope.record().unwrap(), scope.log("memory").unwrap(), scope.log("a/b").unwrap()]
                {
                    all.push((scope.clone(), log.clone()));
                    assert!(logs.insert(log));
                }
            }
        }
        for user in ids {
            for session in ids {
                let scope = tenant.user(user).unwrap().session(session).unwrap();
                let (of_session, of_user) = (scope.prefix().unwrap(), scope.user().prefix().unwrap());
                for (other, log) in &all {
                    assert_eq!(of_session.matches(log), *other == scope, "{log}");
                    assert_eq!(of_user.matches(log), other.user() == scope.user(), "{log}");
                }
            }
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let tenant = Tenant::new("acme").unwrap();
        let user = tenant.user("ann").unwrap();
        let too_long = "x".repeat(ID_BYTES_MAX + 1);
        for error in [
            Tenant::new("").unwrap_err(),
            Tenant::new("_").unwrap().user("ann").unwrap_err(),
            tenant.user("").unwrap_err(),
            tenant.user(&*too_long).unwrap_err(),
            user.session("").unwrap_err(),
            user.session(&*too_long).unwrap_err(),
            user.session("s").unwrap().log("").unwrap_err(),
            user.session("s").unwrap().log("record").unwrap_err(),
            user.session("s").unwrap().log(&"/".repeat(100)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let tenant = Tenant::new("t".repeat(names::TENANT_BYTES_MAX)).unwrap();
        for id in ["i".repeat(STANDING_BYTES_MAX), "i".repeat(ID_BYTES_MAX)] {
            let scope = tenant.user(&*id).unwrap().session(&*id).unwrap();
            scope.log(&"p".repeat(PART_BYTES_MAX)).unwrap();
        }
    }
}
