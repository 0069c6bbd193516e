//! PostgreSQL's errors into our kinds, without anything that it says about values.

use std::fmt;

use icecore_log::{Error, ErrorKind};

/// What stops a piece of work.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A finding of our own.
    Ours(Error),
    /// A lock was not to be had, or two waited for each other: nothing was written.
    Stuck(Said),
    /// Nothing was written.
    Before(Said),
    /// It may have been written, now or later.
    Doubt(Said),
}

/// What the server or the connection said, and what it means.
#[derive(Debug, Clone)]
pub(super) struct Said {
    kind: ErrorKind,
    advice: &'static str,
    cause: Cause,
}

/// An error as it may be shown: its message and its SQLSTATE. The detail beside them may hold stored values.
#[derive(Debug, Clone)]
struct Cause {
    message: String,
    state: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Some(state) => write!(f, "{} ({state})", self.message),
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
pub(super) enum Stage {
    /// Before anything could be committed: while connecting, in a transaction, or reading.
    Before,
    /// With a statement or a `COMMIT` that makes something durable.
    Committing,
}

impl Fault {
    pub fn new(error: &sqlx::Error, stage: Stage) -> Self {
        let cause = cause(error);
        let (meaning, kind, advice) = meaning(error, cause.state.as_deref());
        let said = Said { kind, advice, cause };
        match (meaning, stage) {
            (Meaning::Stuck, _) => Self::Stuck(said),
            (Meaning::Ended, Stage::Committing) => Self::Doubt(said),
            (Meaning::Ended | Meaning::Refused, _) => Self::Before(said),
        }
    }

    /// The time is up.
    pub fn late(stage: Stage) -> Self {
        let said = Said {
            kind: ErrorKind::Unavailable,
            advice: "It may be slow, stuck, or cut off",
            cause: Cause { message: "the server did not answer in time".to_owned(), state: None },
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
            cause: Cause { message: "the server warned".to_owned(), state: None },
        })
    }

    /// The error of a call that is told whether it may have written.
    pub fn told(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Stuck(said) | Self::Before(said) => {
                Error::new(said.kind, doing).because(said.cause).advise(said.advice)
            }
            Self::Doubt(said) => unknown(doing, Some(said)),
        }
    }

    /// The error of a call of which another attempt may have written.
    pub fn in_doubt(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => unknown(doing, None).because(error),
            Self::Stuck(said) | Self::Before(said) | Self::Doubt(said) => unknown(doing, Some(said)),
        }
    }

    /// The SQLSTATE that came with it.
    pub fn state(&self) -> Option<&str> {
        match self {
            Self::Ours(_) => None,
            Self::Stuck(said) | Self::Before(said) | Self::Doubt(said) => said.cause.state.as_deref(),
        }
    }

    /// Whether a pooler in between refused what a server itself takes.
    pub fn is_of_a_pooler(&self) -> bool {
        match self {
            Self::Before(said) => {
                said.cause.state.as_deref() == Some("08P01")
                    && said.cause.message.contains("startup parameter")
            }
            _ => false,
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

fn cause(error: &sqlx::Error) -> Cause {
    match error.as_database_error() {
        Some(said) => {
            Cause { message: said.message().to_owned(), state: said.code().map(std::borrow::Cow::into_owned) }
        }
        None => Cause { message: error.to_string(), state: None },
    }
}

/// What an error says about the statement that it answers.
enum Meaning {
    /// Rolled back because of another writer.
    Stuck,
    /// Rolled back.
    Refused,
    /// The connection, the session or the server ended, or was told to stop: before or after the commit.
    Ended,
}

fn meaning(error: &sqlx::Error, state: Option<&str>) -> (Meaning, ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Refused, Unavailable};
    let Some(state) = state else {
        let advice = match error {
            sqlx::Error::Tls(_) => "Look at the server's certificate, and at sslmode and sslrootcert",
            _ => "Look at the server, and at the network between",
        };
        return (Meaning::Ended, Unavailable, advice);
    };
    match state {
        "55P03" | "40P01" => {
            (Meaning::Stuck, Unavailable, "Another writer holds it. Nothing was written: retry")
        }
        "40001" => (Meaning::Refused, Unavailable, "Nothing was written: retry"),
        "28P01" | "28000" => (
            Meaning::Refused,
            Refused,
            "The user name or the password is wrong, or pg_hba.conf lets nobody in from here",
        ),
        "3D000" => (Meaning::Refused, ErrorKind::NotFound, "Make the database, or name another"),
        "42501" => (
            Meaning::Refused,
            Refused,
            "Grant this role what it needs: to make a schema in the database, or to use the one that is there",
        ),
        "25006" => {
            (Meaning::Refused, Unavailable, "The server only reads, as a standby does: name the primary")
        }
        "42P01" | "3F000" => {
            (Meaning::Refused, Refused, "The store's tables are gone: open it again, or restore them")
        }
        "XX001" | "XX002" => (Meaning::Refused, Corrupt, "The database is damaged: restore it from a copy"),
        _ => match &state[..state.len().min(2)] {
            // Full disks, full memory, too many connections.
            "53" => (
                Meaning::Refused,
                Unavailable,
                "The server lacks disk, memory or connections. Nothing was written",
            ),
            "08" | "57" | "58" | "XX" => {
                (Meaning::Ended, Unavailable, "The server ended it, is starting, or is shutting down: retry")
            }
            _ => (Meaning::Refused, Unavailable, "Nothing was written"),
        },
    }
}
