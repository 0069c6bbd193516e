//! What the URLs of servers have in common: options of ours beside the server's own, and bounds.

use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result};

use super::OPENING;

/// The bounds of a store in a server.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How long a call may take in all: 10 s. URL: `timeout_ms`.
    pub timeout: Duration,
    /// How many connections there are at the most, half of them to write: 8. URL: `connections_max`.
    pub connections_max: usize,
    /// How long a create waits for another writer before its logs are sent one by one: 250 ms, or a second where a server knows no less.
    pub lock_timeout: Duration,
    /// A connection that was idle for longer is asked first whether it still lives: 500 ms.
    pub ask_after: Duration,
    /// How often a waiter looks for what other processes committed: 20 ms.
    pub look_every: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connections_max: 8,
            lock_timeout: Duration::from_millis(250),
            ask_after: Duration::from_millis(500),
            look_every: Duration::from_millis(20),
        }
    }
}

impl Bounds {
    /// Who is connected and how, for people. `tls`: the protocol, if there is one.
    pub(crate) fn facts(&self, user: &str, tls: Option<&str>) -> Vec<(&'static str, String)> {
        icecore_remote::connection_facts(user, tls.unwrap_or("no"), self.connections_max, self.timeout)
    }

    /// Takes over an option of a URL; `false` if it is none of these.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "timeout_ms" => {
                let timeout = value.parse().ok().filter(|ms| (1..=3_600_000).contains(ms));
                self.timeout = timeout
                    .map(Duration::from_millis)
                    .ok_or_else(|| invalid("timeout_ms is between 1 and 3,600,000"))?;
            }
            "connections_max" => {
                let most = value.parse().ok().filter(|most| (2..=1_000).contains(most));
                self.connections_max =
                    most.ok_or_else(|| invalid("connections_max is between 2 and 1,000"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(crate) fn invalid(advice: impl Into<String>) -> Error {
    // Nothing of the URL itself: where it cannot be read, nobody knows which part is secret.
    Error::new(ErrorKind::Invalid, OPENING).advise(advice)
}

/// A URL with those of its options that the driver may have, and the others with their values.
pub(crate) fn options<'a>(url: &'a str, passed_on: &[&str]) -> Result<(String, Vec<(&'a str, String)>)> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if passed_on.contains(&name) {
            theirs.push(option);
        } else {
            ours.push((name, decoded(value)?));
        }
    }
    let rest = if theirs.is_empty() { String::new() } else { format!("?{}", theirs.join("&")) };
    Ok((format!("{place}{rest}"), ours))
}

/// The error of a URL that the driver cannot read.
pub(crate) fn unreadable() -> Error {
    invalid(
        "The URL cannot be read: in a user name, a password or a path, every byte but letters, digits and _ . - stands as %XX",
    )
}

/// The password in the file that `password_file` names.
pub(crate) fn password(path: &str) -> Result<String> {
    let content = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Refused, OPENING)
            .because(error)
            .advise("The file that password_file names cannot be read")
    })?;
    Ok(content.trim_end_matches(['\r', '\n']).to_owned())
}

fn decoded(value: &str) -> Result<String> {
    let unreadable = || invalid("In an option's value, % is followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or(0), rest.next().unwrap_or(0)];
            let digits = std::str::from_utf8(&digits).map_err(|_| unreadable())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| unreadable())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| unreadable())
}
