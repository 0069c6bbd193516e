//! What `object_store` says of a failure, into what may have become of the request, and a sentence without secrets.

use std::error::Error as StdError;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::bucket::{Fault, FaultKind};

/// What stands before the status in the text of an answer that is no success. Its type is not public.
const STATUS: &str = "status code: ";

/// S3's codes of a bad request that passes: slow bytes, and credentials that are renewed.
const PASSING: [&str; 2] = ["RequestTimeout", "ExpiredToken"];

pub(super) fn of(error: Error) -> Fault {
    let http = causes(&error).find_map(|cause| cause.downcast_ref::<HttpError>());
    if let Some(http) = http {
        // Other kinds may have arrived, whatever they are called: a connection that is cut before the answer is one.
        let kind = if http.kind() == HttpErrorKind::Connect { FaultKind::NotSent } else { FaultKind::Lost };
        return Fault::new(kind, innermost(http));
    }
    let text = error.to_string();
    let kind = match (&error, status(&error)) {
        (Error::NotFound { .. }, _) | (_, Some(404)) => FaultKind::Missing,
        (Error::Generic { .. }, Some(408 | 429 | 500..)) => FaultKind::Lost,
        // Nothing was done, and the next request may be.
        (Error::Generic { .. }, Some(400)) if PASSING.iter().any(|code| text.contains(code)) => {
            FaultKind::NotSent
        }
        (Error::Generic { .. }, Some(_)) => FaultKind::Refused,
        // Of a bucket in another region.
        (Error::Generic { .. }, None) if text.contains("redirect") => FaultKind::Refused,
        // Not an answer: credentials that were not to be had, or bytes that are no listing.
        (Error::Generic { .. } | Error::JoinError { .. }, None) => FaultKind::Lost,
        _ => FaultKind::Refused,
    };
    Fault::new(kind, answer(&text).map_or_else(|| innermost(&error), told))
}

/// The status of the answer, if there was one.
fn status(error: &Error) -> Option<u16> {
    answer(&error.to_string())?.get(..3)?.parse().ok()
}

fn answer(text: &str) -> Option<&str> {
    text.split_once(STATUS).map(|(_, answer)| answer)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The last cause: those before it repeat it, behind a URL.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    shortened(&causes(error).last().map_or_else(String::new, ToString::to_string))
}

/// The status, and of the body the code and the message: the rest may repeat what was signed.
fn told(answer: &str) -> String {
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    let inside = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        let (inside, _) = rest.split_once(&format!("</{tag}>"))?;
        inside.lines().next()
    };
    let parts = [Some(status), inside("Code"), inside("Message")];
    shortened(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_the_status_the_code_and_the_message_are_told() {
        let body = "403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><Message>It does not match\nmore</Message><StringToSign>SECRET</StringToSign></Error>";

        assert_eq!(told(body), "403 Forbidden, SignatureDoesNotMatch, It does not match");
        assert_eq!(told("503 Service Unavailable: "), "503 Service Unavailable");
    }
}
