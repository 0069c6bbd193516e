//! HTTP/1.1, as far as one client that we know needs it: bodies with a length, and connections that are used again.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Somewhat more than a test would send.
const BODY_BYTES_MAX: usize = 128 << 20;
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// An answer up to here leaves in one packet or few, head and body together.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// What was asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// As it came, with its query: for people.
    pub(super) target: String,
    /// The first segment of the path, decoded.
    pub(super) bucket: String,
    /// All that follows, decoded; empty for the bucket itself.
    pub(super) object: String,
    pub(super) query: Vec<(String, String)>,
    /// The names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the next one; `None` if the client has ended.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if it is none that this server can read; any other if the connection broke.
    pub(super) fn read(reader: &mut BufReader<&TcpStream>) -> Result<Option<Self>> {
        let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
        let Some(first) = line(&mut head)? else { return Ok(None) };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next())
        else {
            return Err(invalid(&format!("not a request: {first}")));
        };
        let mut headers = Vec::new();
        loop {
            match line(&mut head)? {
                None => return Err(ErrorKind::UnexpectedEof.into()),
                Some(line) if line.is_empty() => break,
                Some(line) => {
                    let (name, value) =
                        line.split_once(':').ok_or_else(|| invalid(&format!("not a header: {line}")))?;
                    headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let undecodable = || invalid(&format!("not a target: {target}"));
        let path = path.strip_prefix('/').ok_or_else(undecodable)?;
        let (bucket, object) = path.split_once('/').unwrap_or((path, ""));
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            bucket: decode(bucket).ok_or_else(undecodable)?,
            object: decode(object).ok_or_else(undecodable)?,
            query: pairs(query).ok_or_else(undecodable)?,
            headers,
            body: Vec::new(),
        };
        request.read_body(reader)?;
        Ok(Some(request))
    }

    fn read_body(&mut self, reader: &mut BufReader<&TcpStream>) -> Result<()> {
        if self.header("transfer-encoding").is_some() {
            return Err(invalid("a body without its length"));
        }
        let length = match self.header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(length)) if length <= BODY_BYTES_MAX => length,
            Some(_) => return Err(invalid("a body too long, or of no length")),
        };
        if self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.body = vec![0; length];
        reader.read_exact(&mut self.body)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// The next line without its end; `None` if there is none.
fn line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let Some(text) = line.strip_suffix('\n') else { return Err(ErrorKind::UnexpectedEof.into()) };
    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

/// `%2F` is a slash like any other. A plus is a plus: only in a query is it a space.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let query = query.replace('+', " ");
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// The bytes that `range` is of. They are shared with the bucket: a large object is never copied.
    pub(super) content: Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Arc::default(), range: 0..0 }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn xml(status: u16, text: String) -> Self {
        let range = 0..text.len();
        let answer = Self { range, content: Arc::new(text.into_bytes()), ..Self::new(status) };
        answer.with("Content-Type", "application/xml; charset=UTF-8")
    }

    /// Writes it; without its body if the question was `HEAD`.
    pub(super) fn write(&self, is_head: bool, mut to: &TcpStream) -> Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // These two never have a body, and so no length.
        if !matches!(self.status, 204 | 304) {
            head += &format!("Content-Length: {}\r\n", self.range.len());
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        let has_body = !is_head && !matches!(self.status, 204 | 304);
        let body = if has_body { &self.content[self.range.clone()] } else { &[] };
        if body.len() <= COPIED_BYTES_MAX {
            bytes.extend_from_slice(body);
            return to.write_all(&bytes);
        }
        to.write_all(&bytes)?;
        to.write_all(body)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        416 => "Requested Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "As Told",
    }
}

/// A time since 1970 as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http_date(time: Duration) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = date(time);
    let weekday = WEEKDAYS[(time.as_secs() / 86_400 % 7) as usize];
    format!("{weekday}, {day:02} {} {year} {} GMT", MONTHS[month as usize - 1], clock(time))
}

/// A time since 1970 as ISO 8601 writes it: `1994-11-06T08:49:37.000Z`.
pub(super) fn iso_date(time: Duration) -> String {
    let (year, month, day) = date(time);
    format!("{year:04}-{month:02}-{day:02}T{}.{:03}Z", clock(time), time.subsec_millis())
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Year, month from 1, day from 1. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn date(time: Duration) -> (u64, u64, u64) {
    // Years begin in March here, so that the day that some lack is their last; 719,468 days before 1970 one began.
    let days = time.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_both_standards_say() {
        let time = Duration::from_millis(784_111_777_042);
        assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(iso_date(time), "1994-11-06T08:49:37.042Z");
        assert_eq!(iso_date(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(http_date(Duration::ZERO), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(iso_date(Duration::from_secs(1_709_164_800)), "2024-02-29T00:00:00.000Z");
        assert_eq!(iso_date(Duration::from_secs(1_709_251_199)), "2024-02-29T23:59:59.000Z");
        assert_eq!(iso_date(Duration::from_secs(1_735_689_600)), "2025-01-01T00:00:00.000Z");
    }

    #[test]
    fn names_are_decoded_once_and_only_a_query_has_a_plus_for_a_space() {
        assert_eq!(decode("a%2Fb%2520c+d").as_deref(), Some("a/b%20c+d"));
        assert_eq!(decode("%C3%A4").as_deref(), Some("ä"));
        assert_eq!(decode("%f"), None);
        assert_eq!(decode("%ff"), None);
        let (name, value) = ("prefix".to_owned(), "a b+".to_owned());
        assert_eq!(pairs("prefix=a+b%2B&"), Some(vec![(name, value)]));
    }
}
