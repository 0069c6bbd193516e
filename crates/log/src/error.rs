//! One error for the whole project: what to do next, what we were doing, and the facts.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do next. Detail for people goes in [`Error`], not in new kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request can never succeed as it is. Fix the caller.
    Invalid,
    /// A condition does not hold. Reload, decide again, retry.
    Conflict,
    /// There is no such log, session or document.
    NotFound,
    /// Nothing was written. Retry.
    Unavailable,
    /// It may have been written. Resolve by the entry's id, or send the same bytes again.
    Unknown,
    /// A hold, a quota, a scope, a closed log or a missing capability forbids it.
    Refused,
    /// Stored bytes fail their checks. Stop, and restore.
    Corrupt,
}

impl ErrorKind {
    /// Every kind, in the order of the table in `docs/guide/errors.md`.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::Conflict,
        Self::NotFound,
        Self::Unavailable,
        Self::Unknown,
        Self::Refused,
        Self::Corrupt,
    ];

    /// The kind's one name, the same in Rust, Python, HTTP and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
        }
    }

    /// The exit code of a program that ends with this error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::Conflict => 3,
            Self::NotFound => 4,
            Self::Unavailable | Self::Unknown => 5,
            Self::Refused => 6,
            Self::Corrupt => 20,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Invalid => "Invalid request",
            Self::Conflict => "Conflict",
            Self::NotFound => "Not found",
            Self::Unavailable => "Unavailable",
            Self::Unknown => "Outcome unknown",
            Self::Refused => "Refused",
            Self::Corrupt => "Damaged data",
        };
        f.write_str(words)
    }
}

/// A failure: its kind, what we were doing, named facts, a word on what to do, and the cause.
///
/// It prints as one sentence and never holds a secret or a stored value.
///
/// ```
/// use icecore_log::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Conflict, "appending").with("log", "acme/session/s-1").with("found", 3);
/// assert_eq!(error.to_string(), "Conflict while appending, log=acme/session/s-1, found=3");
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    doing: &'static str,
    facts: Vec<(&'static str, String)>,
    advice: Option<String>,
    cause: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Starts an error; `doing` completes "… while".
    pub fn new(kind: ErrorKind, doing: &'static str) -> Self {
        Self(Box::new(Inner { kind, doing, facts: Vec::new(), advice: None, cause: None }))
    }

    /// Adds a named fact. Never a secret, never a stored value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.facts.push((name, value.to_string()));
        self
    }

    /// Says what to do next, as a sentence without its full stop.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(std::sync::Arc::new(cause));
        self
    }

    /// What to do next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What we were doing.
    pub fn doing(&self) -> &'static str {
        self.0.doing
    }

    /// The named facts, in the order in which they were added.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.facts.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// One fact by its name.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// What to do next, for people.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} while {}", self.0.kind, self.0.doing)?;
        for (name, value) in &self.0.facts {
            // Names and paths come from outside: a control character must not reach a terminal.
            write!(
                f,
                ", {name}={}",
                value.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
            )?;
        }
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(advice) = &self.0.advice {
            write!(f, ". {advice}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_as_one_sentence_with_its_cause_and_advice() {
        let error = Error::new(ErrorKind::Unavailable, "opening a store")
            .with("path", "a\nb")
            .because(std::io::Error::other("no space"))
            .advise("Free some space");

        assert_eq!(
            error.to_string(),
            "Unavailable while opening a store, path=a\\nb: no space. Free some space"
        );
    }

    #[test]
    fn every_kind_has_a_name_and_an_exit_code_of_its_own_except_the_two_that_share_five() {
        let codes: Vec<u8> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();

        assert_eq!(codes, [2, 3, 4, 5, 5, 6, 20]);
    }
}
