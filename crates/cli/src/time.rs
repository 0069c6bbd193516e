//! Times as people write them.

use icecore::{Error, ErrorKind, Result, Timestamp};

/// RFC 3339, in UTC, with as many digits as there are.
pub fn show(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.0)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{} ns", at.0),
    }
}

/// RFC 3339, such as `2026-01-31T12:00:00Z`.
pub fn parse(text: &str) -> Result<Timestamp> {
    let invalid = || {
        Error::new(ErrorKind::Invalid, "reading a time")
            .with("time", text)
            .advise("A time looks like 2026-01-31T12:00:00Z, and is between the years 1678 and 2262")
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
    i64::try_from(time.as_nanosecond()).map(Timestamp).map_err(|_| invalid())
}
