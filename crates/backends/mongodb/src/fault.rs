//! Errors of the driver and of the server into our kinds, without anything that they say about values.

use icecore_log::{Error, ErrorKind};
use mongodb::error::{ErrorKind as Kind, WriteFailure};

/// The code of a unique index whose key is taken.
pub(crate) const TAKEN: i32 = 11_000;
/// The code of a transaction, or of a write, that met another.
const WRITE_CONFLICT: i32 = 112;

/// What stops a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A finding of our own.
    Ours(Error),
    /// It was not sent.
    NotSent(Said),
    /// It was sent: whether it was carried out, or will be, is not known.
    Doubt(Said),
}

/// What is to be told of it.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    kind: ErrorKind,
    advice: &'static str,
    cause: String,
    pub code: Option<i32>,
    pub labels: Vec<String>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<mongodb::error::Error> for Fault {
    fn from(error: mongodb::error::Error) -> Self {
        let code = code(&error);
        let labels = error.labels().iter().cloned().collect();
        let said = |kind, advice, cause: String| Said { kind, advice, cause, code, labels };
        let network = "Look at the server, at the network between, and with TLS at its certificate";
        let what = |what: &str, code: i32| format!("{what} {code}");
        match &*error.kind {
            Kind::Authentication { .. } => Self::NotSent(said(
                ErrorKind::Refused,
                "The user, the password or authSource is missing or wrong",
                "the login was refused".to_owned(),
            )),
            Kind::ServerSelection { .. } => Self::NotSent(said(
                ErrorKind::Unavailable,
                "No server was found in time that takes it: look at the servers, at replicaSet, and at the network between",
                "no primary was found in time".to_owned(),
            )),
            Kind::InvalidTlsConfig { .. } => Self::NotSent(said(
                ErrorKind::Invalid,
                "tlsCAFile and tlsCertificateKeyFile name files in the PEM format: one of them cannot be read",
                "the TLS settings cannot be used".to_owned(),
            )),
            Kind::Command(command) if matches!(command.code, 13 | 18) => Self::Doubt(said(
                ErrorKind::Refused,
                "The user may not do what a store needs: docs/formats/mongodb.md has the rights",
                what(&command.code_name, command.code),
            )),
            Kind::Command(command) if command.code == WRITE_CONFLICT => Self::Doubt(said(
                ErrorKind::Unavailable,
                "Another transaction holds one of the logs, perhaps of a process that died: the server ends it, after a minute by default",
                what(&command.code_name, command.code),
            )),
            Kind::Command(command) => Self::Doubt(said(
                ErrorKind::Unavailable,
                "The server did not take it: look at its log",
                what(&command.code_name, command.code),
            )),
            Kind::Write(WriteFailure::WriteConcernError(failure)) => Self::Doubt(said(
                ErrorKind::Unavailable,
                "The primary has it, and a majority did not say in time that it has: look at the members",
                what(&failure.code_name, failure.code),
            )),
            Kind::InsertMany(failure) => {
                let concern = failure.write_concern_error.as_ref().map(|concern| concern.code);
                let first = failure.write_errors.iter().flatten().next().map(|first| first.code);
                Self::Doubt(said(
                    ErrorKind::Unavailable,
                    "The server did not take it, or a majority did not say in time that it has it",
                    what("an insert failed with code", concern.or(first).unwrap_or(0)),
                ))
            }
            Kind::Io(error) => Self::Doubt(said(ErrorKind::Unavailable, network, error.to_string())),
            _ => {
                let cause = code.map_or_else(
                    || "the driver gave up".to_owned(),
                    |code| what("the server answered with code", code),
                );
                Self::Doubt(said(ErrorKind::Unavailable, network, cause))
            }
        }
    }
}

/// The server's code, wherever the driver keeps it.
fn code(error: &mongodb::error::Error) -> Option<i32> {
    match &*error.kind {
        Kind::Command(command) => Some(command.code),
        Kind::Write(WriteFailure::WriteError(failure)) => Some(failure.code),
        Kind::Write(WriteFailure::WriteConcernError(failure)) => Some(failure.code),
        Kind::InsertMany(failure) => failure.write_errors.iter().flatten().next().map(|first| first.code),
        _ => None,
    }
}

impl Fault {
    /// The time is up, with a request on its way.
    pub fn late() -> Self {
        Self::Doubt(Said {
            kind: ErrorKind::Unavailable,
            advice: "It may be slow, stuck or cut off, or there is no majority",
            cause: "the server did not answer in time".to_owned(),
            code: None,
            labels: Vec::new(),
        })
    }

    fn said(&self) -> Option<&Said> {
        match self {
            Self::Ours(_) => None,
            Self::NotSent(said) | Self::Doubt(said) => Some(said),
        }
    }

    /// Whether the request may have been carried out, or may be yet.
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::Doubt(_))
    }

    /// As the last of several tries, of which an earlier one may have been carried out.
    pub fn in_doubt(self) -> Self {
        match self {
            Self::NotSent(said) => Self::Doubt(said),
            other => other,
        }
    }

    /// Whether asking again may help.
    pub fn is_passing(&self) -> bool {
        self.said().is_some_and(|said| said.kind == ErrorKind::Unavailable)
    }

    /// Whether the server gave this code.
    pub fn is_code(&self, code: i32) -> bool {
        self.said().is_some_and(|said| said.code == Some(code))
    }

    /// Whether a transaction met another writer: it was not carried out.
    pub fn is_conflict(&self) -> bool {
        self.is_code(TAKEN) || self.is_code(WRITE_CONFLICT)
    }

    /// Whether the driver or the server gave it this label.
    pub fn has_label(&self, label: &str) -> bool {
        self.said().is_some_and(|said| said.labels.iter().any(|found| found == label))
    }

    /// The error of a request that wrote nothing, or only read.
    pub fn reading(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::NotSent(said) | Self::Doubt(said) => {
                Error::new(said.kind, doing).with("because", said.cause).advise(said.advice)
            }
        }
    }

    /// The error of a request that writes. `in_doubt`: an earlier try of it may have been carried out.
    pub fn writing(self, doing: &'static str, in_doubt: bool) -> Error {
        if !in_doubt && !self.is_doubt() {
            return self.reading(doing);
        }
        let unknown = Error::new(ErrorKind::Unknown, doing)
            .advise("It may have been written: send the same again, or look");
        match self {
            Self::Ours(error) => unknown.because(error),
            Self::NotSent(said) | Self::Doubt(said) => unknown.with("because", said.cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_sent_is_not_in_doubt() {
        assert_eq!(Fault::late().writing("a", false).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::late().reading("a").kind(), ErrorKind::Unavailable);
        let ours = || Fault::Ours(Error::new(ErrorKind::Corrupt, "a"));
        assert_eq!(ours().writing("a", false).kind(), ErrorKind::Corrupt);
        assert_eq!(ours().writing("a", true).kind(), ErrorKind::Unknown);
    }
}
