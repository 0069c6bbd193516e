//! Names of logs and blobs, and their one escaping.
//!
//! A log is `tenant/kind/key`. Each part is any non-empty text; in the escaped form every byte outside `A–Z a–z 0–9 _ . -`
//! stands as `=XX` (two upper-case hexadecimal digits), so that `/` only ever separates parts, and the same bytes
//! serve as a file name, an object's name and a key in a database. `%` was not chosen because object stores escape
//! it again. An escaped name has at most [`LogId::BYTES_MAX`] bytes.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a log: `tenant/kind/key`, escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(Arc<str>);

impl LogId {
    /// The longest escaped name, in bytes.
    pub const BYTES_MAX: usize = 512;

    /// Names a log by its three parts, each any non-empty text.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a part is empty, or the escaped name is longer than [`Self::BYTES_MAX`].
    pub fn new(tenant: &str, kind: &str, key: &str) -> Result<Self> {
        let mut name = String::with_capacity(tenant.len() + kind.len() + key.len() + 2);
        for (index, part) in [tenant, kind, key].into_iter().enumerate() {
            if part.is_empty() {
                return Err(invalid(&[tenant, kind, key].join("/"), "A part of the name is empty"));
            }
            if index > 0 {
                name.push('/');
            }
            escape(part, &mut name);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(invalid(
                &name,
                "It is longer than 512 bytes when escaped; hash the key, and keep it in the events",
            ));
        }
        Ok(Self(name.into()))
    }

    /// Reads the escaped form; there is exactly one for each name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not what [`Self::as_str`] of some log gives.
    pub fn parse(escaped: &str) -> Result<Self> {
        let mut parts = escaped.split('/');
        let (Some(tenant), Some(kind), Some(key), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid(escaped, "A log is named tenant/kind/key, such as acme/session/s-42"));
        };
        let id = Self::new(&unescape(escaped, tenant)?, &unescape(escaped, kind)?, &unescape(escaped, key)?)?;
        if id.as_str() == escaped {
            return Ok(id);
        }
        Err(invalid(escaped, "Other bytes than A-Z a-z 0-9 _ . - stand as =XX, such as =20 for a space")
            .with("escaped", id))
    }

    /// The escaped name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant, unescaped.
    pub fn tenant(&self) -> String {
        self.part(0)
    }

    /// The kind, unescaped.
    pub fn kind(&self) -> String {
        self.part(1)
    }

    /// The key, unescaped.
    pub fn key(&self) -> String {
        self.part(2)
    }

    fn part(&self, index: usize) -> String {
        self.0.split('/').nth(index).and_then(|part| unescape(&self.0, part).ok()).unwrap_or_default()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogId {
    type Err = Error;

    fn from_str(escaped: &str) -> Result<Self> {
        Self::parse(escaped)
    }
}

/// The beginning of log names: all, a tenant's, a kind's, or those whose escaped key begins so.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LogPrefix(Arc<str>);

impl LogPrefix {
    /// Every log.
    pub fn all() -> Self {
        Self::default()
    }

    /// One tenant's logs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the tenant is empty.
    pub fn tenant(tenant: &str) -> Result<Self> {
        Ok(Self(format!("{}/", escaped_part(tenant)?).into()))
    }

    /// One tenant's logs of one kind.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if either is empty.
    pub fn kind(tenant: &str, kind: &str) -> Result<Self> {
        Ok(Self(format!("{}/{}/", escaped_part(tenant)?, escaped_part(kind)?).into()))
    }

    /// Names that begin with these escaped bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if no name could begin so.
    pub fn parse(escaped: &str) -> Result<Self> {
        let allowed = |byte: u8| is_plain(byte) || byte == b'=' || byte == b'/';
        if escaped.len() > LogId::BYTES_MAX
            || !escaped.bytes().all(allowed)
            || escaped.matches('/').count() > 2
        {
            return Err(invalid(
                escaped,
                "A prefix is the beginning of an escaped name, such as acme/session/",
            ));
        }
        Ok(Self(escaped.into()))
    }

    /// The escaped bytes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a log's name begins so.
    pub fn matches(&self, log: &LogId) -> bool {
        log.as_str().starts_with(self.as_str())
    }
}

impl fmt::Display for LogPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.0)
    }
}

/// The name of a blob: its owner, and a name within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId {
    log: LogId,
    name: Arc<str>,
}

impl BlobId {
    /// The longest name within a log, in bytes.
    pub const NAME_BYTES_MAX: usize = 128;

    /// Names a blob of a log. The name has 1 to 128 bytes of `A–Z a–z 0–9 _ . -` and is not made of dots alone.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the name has other bytes or another length.
    pub fn new(log: LogId, name: &str) -> Result<Self> {
        let fits = (1..=Self::NAME_BYTES_MAX).contains(&name.len());
        if !fits || !name.bytes().all(is_plain) || name.bytes().all(|byte| byte == b'.') {
            return Err(invalid(name, "A blob's name has 1 to 128 of A-Z a-z 0-9 _ . -"));
        }
        Ok(Self { log, name: name.into() })
    }

    /// The log that owns it.
    pub fn log(&self) -> &LogId {
        &self.log
    }

    /// The name within the log.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.name)
    }
}

fn invalid(name: &str, advice: &str) -> Error {
    Error::new(ErrorKind::Invalid, "naming a log").with("name", shortened(name)).advise(advice)
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((cut, _)) => format!("{}… ({} bytes)", &name[..cut], name.len()),
        None => name.to_owned(),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn escaped_part(part: &str) -> Result<String> {
    if part.is_empty() {
        return Err(invalid(part, "A part of the name is empty"));
    }
    let mut escaped = String::with_capacity(part.len());
    escape(part, &mut escaped);
    Ok(escaped)
}

fn escape(part: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // A part of dots alone would be a path's `.` or `..`, so its first dot is escaped as well.
    let dots = part.bytes().all(|byte| byte == b'.');
    for (index, byte) in part.bytes().enumerate() {
        if is_plain(byte) && !(dots && index == 0) {
            into.push(char::from(byte));
        } else {
            into.push('=');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

fn unescape(name: &str, part: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'=' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digit = |index: usize| after.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(invalid(name, "The sign = is followed by two hexadecimal digits"));
        };
        // Two digits below 16 make a byte.
        bytes.push((high * 16 + low) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid(name, "The escaped bytes are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn look_alikes_have_different_names() {
        let keys =
            ["s", "s ", "S", " s", "s/", "s\0", "s=20", ".", "..", "...", "#", "\u{10FFFF}", "é", "e\u{301}"];

        let names: std::collections::BTreeSet<_> =
            keys.iter().map(|key| LogId::new("acme", "session", key).unwrap().as_str().to_owned()).collect();

        assert_eq!(names.len(), keys.len());
    }

    #[test]
    fn a_name_of_512_bytes_fits_and_one_more_is_refused() {
        let fits = "k".repeat(512 - "t/k/".len());

        assert_eq!(LogId::new("t", "k", &fits).unwrap().as_str().len(), 512);
        assert_eq!(LogId::new("t", "k", &format!("{fits}k")).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn only_the_one_escaped_form_is_read() {
        for wrong in [
            "", "a", "a/b", "a/b/", "/b/c", "a/b/c/d", "a/b/c d", "a/b/=2", "a/b/=2f", "a/b/=41", "a/b/=FF",
            "a/b/.",
        ] {
            assert_eq!(LogId::parse(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_reads_back(tenant in ".{1,20}", kind in ".{1,20}", key in ".{1,20}") {
            let id = LogId::new(&tenant, &kind, &key).unwrap();

            prop_assert_eq!((id.tenant(), id.kind(), id.key()), (tenant, kind, key));
            prop_assert_eq!(LogId::parse(id.as_str()).unwrap(), id);
        }
    }
}
