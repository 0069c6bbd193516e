//! SQLite's errors into our kinds.

use icecore_log::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// What stops a piece of work: SQLite, or a finding of our own that leaves the transaction as it is.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Ours(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    /// The error, where nothing was written or all of it is rolled back.
    pub fn before_writing(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Sql(error) => before_writing(error, doing),
        }
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn before_writing(error: rusqlite::Error, doing: &'static str) -> Error {
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Unavailable, "Another process holds the database. Nothing was written: retry")
        }
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Unavailable, "Nothing was written: free some space, and retry")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Corrupt, "The database is damaged: restore it from a copy")
        }
        Some(ErrorCode::NotADatabase) => {
            (ErrorKind::Refused, "The file is no SQLite database: name another one")
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => (ErrorKind::Refused, "This user may not write the database, its folder, or the files beside it"),
        Some(ErrorCode::CannotOpen) => {
            (ErrorKind::Unavailable, "The file cannot be opened: look at its folder and its permissions")
        }
        _ => (ErrorKind::Unavailable, "Nothing was written"),
    };
    Error::new(kind, doing).because(error).advise(advice)
}

/// The error of a `COMMIT` that failed: what it wrote may be in the write-ahead log, and may be found there.
pub(super) fn at_commit(error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Unknown, "committing a transaction")
        .because(error)
        .advise("It may have been written: send the same again, or look")
}
