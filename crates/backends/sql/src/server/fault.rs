//! What stops a piece of work, and what it says about what was written; nothing of the values that a server names in its errors.

use std::fmt;

use icecore_log::{Error, ErrorKind};

/// What stops a piece of work.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A finding of our own.
    Ours(Error),
    /// A lock was not to be had: nothing was written.
    Stuck(Said),
    /// Another writer was faster, or two waited for each other and one was ended: nothing was written, and the next attempt may do.
    Raced(Said),
    /// Nothing was written.
    Before(Said),
    /// It may have been written, now or later.
    Doubt(Said),
}

/// What the server or the connection said, and what it means.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    kind: ErrorKind,
    advice: &'static str,
    cause: Cause,
}

/// An error as it may be shown: its message and its code. The detail beside them may hold stored values.
#[derive(Debug, Clone)]
struct Cause {
    message: String,
    code: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Cause {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// When an error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before anything could be committed: while connecting, in a transaction, or reading.
    Before,
    /// With a statement or a `COMMIT` that makes something durable.
    Committing,
}

impl Fault {
    /// What the server answered, its code, or what became of the connection.
    pub fn new(
        (meaning, kind, advice): (Meaning, ErrorKind, &'static str),
        message: String,
        code: Option<String>,
        stage: Stage,
    ) -> Self {
        let said = Said { kind, advice, cause: Cause { message, code } };
        match (meaning, stage) {
            (Meaning::Stuck, _) => Self::Stuck(said),
            (Meaning::Raced, _) => Self::Raced(said),
            (Meaning::Ended, Stage::Committing) => Self::Doubt(said),
            (Meaning::Ended | Meaning::Refused, _) => Self::Before(said),
        }
    }

    /// A row that is not as its statement says.
    pub fn row(error: &sqlx::Error) -> Self {
        Self::new(
            (Meaning::Refused, ErrorKind::Unavailable, "The server answers otherwise than it was asked"),
            error.to_string(),
            None,
            Stage::Before,
        )
    }

    /// The time is up.
    pub fn late(stage: Stage) -> Self {
        let said = Said {
            kind: ErrorKind::Unavailable,
            advice: "It may be slow, stuck, or cut off",
            cause: Cause { message: "the server did not answer in time".to_owned(), code: None },
        };
        match stage {
            Stage::Before => Self::Before(said),
            Stage::Committing => Self::Doubt(said),
        }
    }

    /// The server acknowledged it with a warning, as it does when the wait for its standbys was cancelled.
    pub fn warned() -> Self {
        Self::Doubt(Said {
            kind: ErrorKind::Unavailable,
            advice: "The server committed with a warning, so its standbys may not have it",
            cause: Cause { message: "the server warned".to_owned(), code: None },
        })
    }

    /// The error of a call that is told whether it may have written.
    pub fn told(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Stuck(said) | Self::Raced(said) | Self::Before(said) => {
                Error::new(said.kind, doing).because(said.cause).advise(said.advice)
            }
            Self::Doubt(said) => unknown(doing, Some(said)),
        }
    }

    /// The error of a call of which another attempt may have written.
    pub fn in_doubt(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => unknown(doing, None).because(error),
            Self::Stuck(said) | Self::Raced(said) | Self::Before(said) | Self::Doubt(said) => {
                unknown(doing, Some(said))
            }
        }
    }

    /// The server's code that came with it.
    pub fn code(&self) -> Option<&str> {
        self.said()?.cause.code.as_deref()
    }

    /// What the server said.
    pub fn message(&self) -> &str {
        self.said().map_or("", |said| &said.cause.message)
    }

    fn said(&self) -> Option<&Said> {
        match self {
            Self::Ours(_) => None,
            Self::Stuck(said) | Self::Raced(said) | Self::Before(said) | Self::Doubt(said) => Some(said),
        }
    }
}

fn unknown(doing: &'static str, said: Option<Said>) -> Error {
    let error = Error::new(ErrorKind::Unknown, doing)
        .advise("It may have been written: send the same again, or look");
    match said {
        Some(said) => error.because(said.cause),
        None => error,
    }
}

/// What an error says about the statement that it answers.
pub(crate) enum Meaning {
    /// Rolled back because another writer holds what it needs.
    Stuck,
    /// Rolled back because another writer was faster.
    Raced,
    /// Rolled back.
    Refused,
    /// The connection, the session or the server ended, or was told to stop: before or after the commit.
    Ended,
}
