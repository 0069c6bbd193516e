//! Times as people write them, and moments of a log: versions or times.

use std::str::FromStr;
use std::time::Duration;

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

/// A length of time, such as `30d`, `12h`, `15m` or `45s`.
pub fn length(text: &str) -> Result<Duration> {
    let invalid = || {
        Error::new(ErrorKind::Invalid, "reading a length of time")
            .with("length", text)
            .advise("A length is a whole number with its unit: s, m, h, d or w, such as 30d")
    };
    let seconds_of = |unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        'w' => Some(7 * 86_400),
        _ => None,
    };
    let unit = text.chars().last().and_then(seconds_of).ok_or_else(invalid)?;
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| invalid())?;
    count.checked_mul(unit).map(Duration::from_secs).ok_or_else(invalid)
}

/// As [`length`] reads it, in the largest unit that gives a whole number.
pub fn show_length(length: Duration) -> String {
    let seconds = length.as_secs();
    let (count, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')]
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit))
        .map_or((seconds, 's'), |(unit, name)| (seconds / unit, name));
    format!("{count}{unit}")
}

/// A number of bytes, such as `4096`, `64KiB`, `10MB` or `2GiB`.
pub fn bytes(text: &str) -> Result<u64> {
    let invalid = || {
        Error::new(ErrorKind::Invalid, "reading a number of bytes")
            .with("bytes", text)
            .advise("It is a whole number, alone or with KB, MB, GB, KiB, MiB or GiB, such as 64KiB")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(invalid()),
    };
    count.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_bytes_are_read_as_they_are_shown() {
        for (text, seconds) in [("0s", 0), ("45s", 45), ("15m", 900), ("36h", 129_600), ("30d", 2_592_000)] {
            assert_eq!(length(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(length("2w").unwrap(), length("14d").unwrap());
        assert_eq!(show_length(Duration::from_secs(129_600)), "36h");
        assert_eq!(show_length(Duration::from_secs(86_400)), "1d");
        for text in
            ["", "d", "30", "30 d", "-1d", "1.5h", "1y", "99999999999999999999d", "日", "9999999999999999w"]
        {
            assert_eq!(length(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
        for (text, count) in
            [("0", 0), ("4096", 4_096), ("64KiB", 65_536), ("10 MB", 10_000_000), ("2GiB", 2 << 30)]
        {
            assert_eq!(bytes(text).unwrap(), count, "{text}");
        }
        for text in ["", "KiB", "1.5MB", "-1", "1TB", "1kb", "99999999999999999999", "99999999999999999 GiB"]
        {
            assert_eq!(bytes(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
