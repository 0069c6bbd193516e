//! What the service answers when it does not do what it was asked, as our kinds: one place that knows its words.

use std::fmt;

use icecore_log::{Error, ErrorKind};
use object_store::client::{HttpError, HttpErrorKind};
use serde_json::Value;

/// How a request ended that was not done.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A condition does not hold. Nothing was written.
    Condition,
    /// Nothing was written, and the same will be refused again.
    Refused(Said),
    /// Nothing was written; the same may be done a little later. `true` if there are too many requests.
    Again(Said, bool),
    /// It may have been done.
    Doubt(Said),
}

/// For people.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub kind: ErrorKind,
    /// The service's name for what is wrong.
    pub code: String,
    pub advice: &'static str,
}

/// The cause in an [`Error`]: a code and never the service's own words, which may quote what it was sent.
#[derive(Debug)]
struct Code(String);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Code {}

fn said(kind: ErrorKind, code: impl Into<String>, advice: &'static str) -> Said {
    Said { kind, code: code.into(), advice }
}

const THROTTLED: &str =
    "There are more requests than the table may take: nothing was written. Retry later, or raise its limits";

impl Fault {
    /// The time was up before an answer.
    pub fn late() -> Self {
        Self::Doubt(said(
            ErrorKind::Unavailable,
            "no answer in time",
            "Is the endpoint right, and reachable?",
        ))
    }

    /// There was no room to send it in time.
    pub fn busy() -> Self {
        let advice = "Too many requests are under way: raise connections_max, or ask for less at once";
        Self::Again(said(ErrorKind::Unavailable, "not sent in time", advice), false)
    }

    /// Something answered that the service would not.
    pub fn answer(status: u16) -> Self {
        let advice = "Something else than DynamoDB may answer: is the endpoint right?";
        Self::Doubt(said(
            ErrorKind::Unavailable,
            format!("an answer that is none, with status {status}"),
            advice,
        ))
    }

    /// There was nothing to sign with.
    pub fn credentials() -> Self {
        let advice = "No credentials were found, or they could not be fetched: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or use a role";
        Self::Again(said(ErrorKind::Refused, "no credentials", advice), false)
    }

    pub fn http(error: &HttpError) -> Self {
        match error.kind() {
            HttpErrorKind::Connect => Self::Again(
                said(
                    ErrorKind::Unavailable,
                    "no connection",
                    "Nothing was written: is the endpoint right, and reachable?",
                ),
                false,
            ),
            kind => Self::Doubt(said(
                ErrorKind::Unavailable,
                format!("the connection ended ({kind:?})"),
                "The network failed before an answer came",
            )),
        }
    }

    /// What an answer with a status of an error says.
    pub fn of(status: u16, body: &Value) -> Self {
        let code = body.get("__type").and_then(Value::as_str).unwrap_or_default();
        let code = code.rsplit('#').next().unwrap_or_default();
        let refused = |kind, advice| Self::Refused(said(kind, code, advice));
        match code {
            "ConditionalCheckFailedException" => Self::Condition,
            "TransactionCanceledException" => Self::cancelled(body),
            "TransactionConflictException" | "LimitExceededException" => Self::Again(
                said(
                    ErrorKind::Unavailable,
                    code,
                    "Another request was under way. Nothing was written: retry",
                ),
                false,
            ),
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestLimitExceeded" => Self::Again(said(ErrorKind::Unavailable, code, THROTTLED), true),
            "ResourceNotFoundException" => refused(
                ErrorKind::NotFound,
                "There is no such table: name another, or let it be made with create=true",
            ),
            "ResourceInUseException" => {
                refused(ErrorKind::Unavailable, "The table is being made, changed or deleted: retry")
            }
            "AccessDeniedException" => refused(
                ErrorKind::Refused,
                "The credentials may not do what a store needs: docs/formats/dynamodb.md has the actions",
            ),
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken"
            | "ExpiredTokenException" => refused(
                ErrorKind::Refused,
                "The credentials are wrong or have expired, or this machine's clock is wrong",
            ),
            _ if status >= 500 => Self::Doubt(said(
                ErrorKind::Unavailable,
                if code.is_empty() { format!("status {status}") } else { code.to_owned() },
                "The service failed before it was decided",
            )),
            "" => Self::answer(status),
            _ => refused(ErrorKind::Refused, "The service does not take what Icecore sends: what is it?"),
        }
    }

    /// A transaction that was not done: what one of its conditions decides, decides all.
    fn cancelled(body: &Value) -> Self {
        let reasons = body.get("CancellationReasons").and_then(Value::as_array);
        let codes = reasons.into_iter().flatten().filter_map(|reason| reason.get("Code")?.as_str());
        let codes: Vec<&str> = codes.filter(|code| *code != "None").collect();
        let is_throttled = |code: &&str| {
            matches!(*code, "ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded")
        };
        if codes.contains(&"ConditionalCheckFailed") {
            Self::Condition
        } else if codes.iter().all(|code| *code == "TransactionConflict" || is_throttled(code))
            && !codes.is_empty()
        {
            let throttled = codes.iter().any(is_throttled);
            let advice = if throttled {
                THROTTLED
            } else {
                "Another request was under way. Nothing was written: retry"
            };
            Self::Again(said(ErrorKind::Unavailable, codes.join(", "), advice), throttled)
        } else {
            let advice = "The service does not take what Icecore sends. Nothing was written";
            Self::Refused(said(ErrorKind::Refused, format!("cancelled: {}", codes.join(", ")), advice))
        }
    }

    /// Whether the service says so.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(said) | Self::Again(said, _) | Self::Doubt(said) if said.code == code)
    }

    fn said(self) -> Said {
        match self {
            Self::Condition => said(ErrorKind::Conflict, "a condition does not hold", "Look again"),
            Self::Refused(said) | Self::Again(said, _) | Self::Doubt(said) => said,
        }
    }

    /// The error of a request that wrote nothing, or only read.
    pub fn reading(self, doing: &'static str) -> Error {
        let Said { kind, code, advice } = self.said();
        Error::new(kind, doing).because(Code(code)).advise(advice)
    }

    /// The error of a request that writes. `in_doubt`: an earlier try of it may have been carried out.
    pub fn writing(self, doing: &'static str, in_doubt: bool) -> Error {
        if !in_doubt && !matches!(self, Self::Doubt(_)) {
            return self.reading(doing);
        }
        Error::new(ErrorKind::Unknown, doing)
            .because(Code(self.said().code))
            .advise("It may have been written: send the same again, or look")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cancelled(codes: &[&str]) -> Fault {
        let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code })).collect();
        let of = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        Fault::of(400, &json!({ "__type": of, "CancellationReasons": reasons }))
    }

    #[test]
    fn a_transaction_is_decided_by_a_condition_and_sent_again_without_one() {
        assert!(matches!(
            cancelled(&["None", "ConditionalCheckFailed", "TransactionConflict"]),
            Fault::Condition
        ));
        assert!(matches!(cancelled(&["None", "TransactionConflict"]), Fault::Again(_, false)));
        assert!(matches!(cancelled(&["ThrottlingError", "TransactionConflict"]), Fault::Again(_, true)));
        assert!(matches!(cancelled(&["ValidationError"]), Fault::Refused(_)));
        assert!(matches!(cancelled(&[]), Fault::Refused(_)));
    }

    #[test]
    fn an_error_after_a_try_in_doubt_is_unknown() {
        let throttled = || Fault::of(400, &json!({ "__type": "x#ThrottlingException" }));
        assert_eq!(throttled().writing("a", false).kind(), ErrorKind::Unavailable);
        assert_eq!(throttled().writing("a", true).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::late().writing("a", false).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::late().reading("a").kind(), ErrorKind::Unavailable);
        let internal = Fault::of(500, &json!({ "__type": "x#InternalServerError" }));
        assert_eq!(internal.writing("a", false).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of(403, &json!("html")).writing("a", false).kind(), ErrorKind::Unknown);
    }

    #[test]
    fn what_the_service_was_sent_is_not_shown() {
        let body = json!({ "__type": "x#ValidationException", "message": "item SECRET" });
        assert!(!Fault::of(400, &body).reading("a").to_string().contains("SECRET"));
    }
}
