//! What each call does, and how it is answered.

use std::fmt::Write;
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::bucket::{Listing, Object, Page, etag};
use super::http::{Answer, Request, http_date, iso_date};
use super::{BUCKET, State, TOKEN};

/// The service's own maximum, which is also what it takes where none is named.
const ENTRIES_MAX: usize = 1_000;
/// The headers that come back with an object, beside `x-goog-meta-`.
const KEPT: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type"];
const META: &str = "x-goog-meta-";
const GENERATION: &str = "x-goog-generation";
const GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Put,
    Get,
    Head,
    Delete,
    List,
    /// What the client that we stand here for never asks.
    Other,
}

impl Call {
    pub(super) fn of(request: &Request) -> Self {
        match (request.method.as_str(), request.object.is_empty()) {
            ("PUT", false) => Self::Put,
            ("GET", false) => Self::Get,
            ("HEAD", false) => Self::Head,
            ("DELETE", false) => Self::Delete,
            ("GET", true) => Self::List,
            _ => Self::Other,
        }
    }

    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::List)
    }

    /// The headers that change what it means, and its parameters: those that are carried out here.
    fn understood(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Put => (&[GENERATION_MATCH], &[]),
            Self::Get | Self::Head => (&["range", "if-match", "if-none-match"], &["generation"]),
            Self::List => {
                (&[], &["list-type", "prefix", "delimiter", "start-after", "continuation-token", "max-keys"])
            }
            Self::Delete | Self::Other => (&[], &[]),
        }
    }

    /// Whether nothing was asked that would be passed over in silence: a copy is a `PUT` too, and a part of an upload.
    fn is_understood(self, request: &Request) -> bool {
        let (headers, parameters) = self.understood();
        let is_kept = |name: &str| self == Self::Put && name.starts_with(META);
        self != Self::Other
            && (self != Self::List || request.parameter("list-type") == Some("2"))
            && request.query.iter().all(|(name, _)| parameters.contains(&name.as_str()))
            && request
                .headers
                .iter()
                .all(|(name, _)| !has_meaning(name) || is_kept(name) || headers.contains(&name.as_str()))
    }
}

/// Whether a header may change what a request means.
fn has_meaning(name: &str) -> bool {
    name.starts_with("x-goog-") || name.starts_with("if-") || matches!(name, "range" | "content-md5")
}

/// A request with its headers that mean something: for people.
pub(super) fn description(request: &Request) -> String {
    let names = request.headers.iter().map(|(name, _)| name.as_str()).filter(|name| has_meaning(name));
    [request.method.as_str(), request.target.as_str()].into_iter().chain(names).collect::<Vec<_>>().join(" ")
}

/// Carries a call out. Status 501 is for what was not expected.
pub(super) fn answer(state: &State, call: Call, request: &mut Request) -> Answer {
    if request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) != Some(TOKEN) {
        return error(401, "AuthenticationRequired", "Authentication required.");
    }
    if !call.is_understood(request) {
        return unexpected();
    }
    if request.bucket != BUCKET {
        return error(404, "NoSuchBucket", "The specified bucket does not exist.");
    }
    match call {
        Call::Put => put(state, request),
        Call::Get | Call::Head => get(state, request),
        Call::Delete => delete(state, request),
        Call::List => list(state, request),
        Call::Other => unexpected(),
    }
}

/// The body of an error, as the service has it.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::xml(
        status,
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        ),
    )
}

/// What a request that was told to fail says.
pub(super) fn failure(status: u16) -> Answer {
    let (code, message) = match status {
        429 => ("SlowDown", "Please reduce your request rate."),
        500 => ("InternalError", "We encountered an internal error. Please try again."),
        503 => ("ServiceUnavailable", "Service unavailable. Please try again."),
        _ => ("ToldToFail", "A test told this request to fail."),
    };
    error(status, code, message)
}

fn unexpected() -> Answer {
    error(
        501,
        "NotImplemented",
        "This server stands for the calls of one client only, and this is none of them.",
    )
}

fn precondition_failed() -> Answer {
    error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
}

fn no_such_key() -> Answer {
    error(404, "NoSuchKey", "The specified key does not exist.")
}

fn invalid_argument() -> Answer {
    error(400, "InvalidArgument", "Invalid argument.")
}

#[expect(
    clippy::disallowed_methods,
    reason = "this stands for a service, whose clock is not the one that a test drives"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn put(state: &State, request: &mut Request) -> Answer {
    let expected = match request.header(GENERATION_MATCH).map(str::parse::<u64>) {
        None => None,
        Some(Ok(generation)) => Some(generation),
        Some(Err(_)) => return invalid_argument(),
    };
    let kept = |(name, _): &(String, String)| KEPT.contains(&name.as_str()) || name.starts_with(META);
    let object = Object {
        etag: etag(&request.body),
        content: Arc::new(take(&mut request.body)),
        generation: 0,
        modified: now(),
        metadata: take(&mut request.headers).into_iter().filter(kept).collect(),
    };
    // Nobody comes between the question and the put.
    let mut inner = state.lock();
    let current = inner.bucket.generation(&request.object);
    if expected.is_some_and(|expected| expected != current) && !inner.ignores_preconditions {
        return precondition_failed();
    }
    let object = inner.bucket.put(&request.object, object);
    drop(inner);
    Answer::new(200).with("ETag", &*object.etag).with(GENERATION, object.generation.to_string())
}

fn get(state: &State, request: &Request) -> Answer {
    let object = state.lock().bucket.get(&request.object);
    let Some(object) = object else { return no_such_key() };
    if request.parameter("generation").is_some_and(|asked| asked != object.generation.to_string()) {
        return no_such_key();
    }
    let is_among =
        |tags: &str| tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == object.etag);
    if request.header("if-match").is_some_and(|tags| !is_among(tags)) {
        return precondition_failed();
    }
    if request.header("if-none-match").is_some_and(is_among) {
        return Answer::new(304).with("ETag", &*object.etag);
    }
    let size = object.content.len();
    let mut answer = match request.header("range").map(|text| part(text, size)) {
        None => Answer { range: 0..size, ..Answer::new(200) },
        Some(None) => return unexpected(),
        Some(Some(range)) if range.is_empty() => {
            return error(416, "InvalidRange", "The requested range cannot be satisfied.")
                .with("Content-Range", format!("bytes */{size}"));
        }
        Some(Some(range)) => {
            let header = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            Answer { range, ..Answer::new(206) }.with("Content-Range", header)
        }
    };
    answer.content = Arc::clone(&object.content);
    answer.headers.extend(object.metadata.iter().cloned());
    if !object.metadata.iter().any(|(name, _)| name == "content-type") {
        answer = answer.with("Content-Type", "application/octet-stream");
    }
    answer
        .with("ETag", &*object.etag)
        .with(GENERATION, object.generation.to_string())
        .with("Last-Modified", http_date(object.modified))
}

/// The bytes that a header `Range` asks for: none of them if it cannot be satisfied, `None` if it is not one range.
fn part(text: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some(size.saturating_sub(last.parse().ok()?)..size);
    }
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse().ok().filter(|last: &usize| *last >= first)?.saturating_add(1).min(size),
    };
    Some(first.min(end)..end)
}

fn delete(state: &State, request: &Request) -> Answer {
    if state.lock().bucket.delete(&request.object) { Answer::new(204) } else { no_such_key() }
}

fn list(state: &State, request: &Request) -> Answer {
    let parameter = |name| request.parameter(name).unwrap_or_default();
    let entries_max = match request.parameter("max-keys").map(str::parse::<usize>) {
        None => ENTRIES_MAX,
        Some(Ok(asked)) if asked > 0 => asked.min(ENTRIES_MAX),
        Some(_) => return invalid_argument(),
    };
    let Some(token) = open_token(parameter("continuation-token")) else { return invalid_argument() };
    let listing = Listing {
        prefix: parameter("prefix"),
        delimiter: request.parameter("delimiter").filter(|delimiter| !delimiter.is_empty()),
        start_after: parameter("start-after"),
        token: &token,
        entries_max,
    };
    let page = state.lock().bucket.list(&listing);
    Answer::xml(200, page_xml(&listing, &page))
}

fn page_xml(listing: &Listing<'_>, page: &Page) -> String {
    let mut xml = String::from(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>",
    );
    element(&mut xml, "Name", BUCKET);
    element(&mut xml, "Prefix", listing.prefix);
    if let Some(delimiter) = listing.delimiter {
        element(&mut xml, "Delimiter", delimiter);
    }
    if !listing.start_after.is_empty() {
        element(&mut xml, "StartAfter", listing.start_after);
    }
    element(&mut xml, "MaxKeys", &listing.entries_max.to_string());
    element(&mut xml, "KeyCount", &(page.objects.len() + page.prefixes.len()).to_string());
    element(&mut xml, "IsTruncated", &page.next.is_some().to_string());
    if let Some(next) = &page.next {
        element(&mut xml, "NextContinuationToken", &token(next));
    }
    for (name, object) in &page.objects {
        xml += "<Contents>";
        element(&mut xml, "Key", name);
        element(&mut xml, "Generation", &object.generation.to_string());
        element(&mut xml, "LastModified", &iso_date(object.modified));
        element(&mut xml, "ETag", &object.etag);
        element(&mut xml, "Size", &object.content.len().to_string());
        xml += "</Contents>";
    }
    for prefix in &page.prefixes {
        xml += "<CommonPrefixes>";
        element(&mut xml, "Prefix", prefix);
        xml += "</CommonPrefixes>";
    }
    xml += "</ListBucketResult>";
    xml
}

fn element(xml: &mut String, name: &str, text: &str) {
    // A `String` takes all that is written.
    let _ = write!(xml, "<{name}>");
    for character in text.chars() {
        match character {
            '&' => *xml += "&amp;",
            '<' => *xml += "&lt;",
            '>' => *xml += "&gt;",
            '"' => *xml += "&quot;",
            '\'' => *xml += "&apos;",
            // A reader would make others of them.
            '\t' | '\n' | '\r' => {
                let _ = write!(xml, "&#{};", u32::from(character));
            }
            _ => xml.push(character),
        }
    }
    let _ = write!(xml, "</{name}>");
}

/// An entry's name in hexadecimal digits: no client shall take a token for a name.
fn token(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn open_token(token: &str) -> Option<String> {
    let bytes = token.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}
