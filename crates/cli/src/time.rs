//! Times as people write them, and moments of a log: versions or times.

use std::str::FromStr;

use icecore::{At, Error, ErrorKind, Result, Timestamp, Version};

/// A moment of a log, as it is given on the command line.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    Version(Version),
    Time(Timestamp),
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(version) => Ok(Self::Version(Version(version))),
            Err(_) => parse(text).map(Self::Time),
        }
    }
}

impl From<Point> for At {
    fn from(point: Point) -> Self {
        match point {
            Point::Version(version) => Self::Version(version),
            Point::Time(time) => Self::Time(time),
        }
    }
}

/// The moment that was given, or now.
pub fn or_now(point: Option<Point>) -> At {
    point.map_or(At::Head, At::from)
}

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
