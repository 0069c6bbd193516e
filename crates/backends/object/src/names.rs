//! The names of objects; `docs/formats/object.md` is their specification.
//!
//! Below the folder of a log, names hold inverse numbers, so that the first page of a listing begins with the newest: the boundary, then the head.

use icecore_log::{BlobId, LogId, LogPrefix, Version};

/// The object that says that this is a store, and of which format.
pub(crate) const STORE: &str = "store";
/// The folder of objects that are made to see how the store behaves, and deleted again.
pub(crate) const PROBE: &str = "probe/";
const LOGS: &str = "logs/";
const BLOBS: &str = "blobs/";

/// A log's name in one segment, so that one listing by folders is a listing of logs. `!` is in no escaped name.
fn folded(name: &str) -> String {
    name.replace('/', "!")
}

/// The folder of a log's commits and boundaries, with the `/` at its end.
pub(crate) fn log(log: &LogId) -> String {
    format!("{LOGS}{}/", folded(log.as_str()))
}

/// What the folders of all logs with this prefix begin with.
pub(crate) fn logs(prefix: &LogPrefix) -> String {
    format!("{LOGS}{}", folded(prefix.as_str()))
}

/// The log of a folder; `None` if it is not ours.
pub(crate) fn log_of(folder: &str) -> Option<LogId> {
    let name = folder.strip_prefix(LOGS)?;
    LogId::parse(&name.replace('!', "/")).ok().filter(|log| folded(log.as_str()) == name)
}

/// The object that holds commits from this version on.
pub(crate) fn slot(of: &LogId, first: Version) -> String {
    format!("{}c{}", log(of), inverse(first))
}

/// What the names of a log's slots begin with.
pub(crate) fn slots(of: &LogId) -> String {
    format!("{}c", log(of))
}

/// What the names of a log's boundaries begin with.
pub(crate) fn boundaries(of: &LogId) -> String {
    format!("{}b", log(of))
}

/// The object that says that everything up to this version is closed.
pub(crate) fn boundary(of: &LogId, through: Version) -> String {
    format!("{}b{}", log(of), inverse(through))
}

/// A blob.
pub(crate) fn blob(blob: &BlobId) -> String {
    format!("{}{}", blobs(blob.log()), blob.name())
}

/// The folder of a log's blobs, with the `/` at its end.
pub(crate) fn blobs(of: &LogId) -> String {
    format!("{BLOBS}{}/", folded(of.as_str()))
}

fn inverse(version: Version) -> String {
    format!("{:016x}", u64::MAX - version.0)
}

/// What an object in a log's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Slot(Version),
    Boundary(Version),
}

/// What the object of this whole name in a log's folder is; `None` if it is not ours.
pub(crate) fn parse(name: &str) -> Option<Named> {
    let (_, name) = name.rsplit_once('/')?;
    let digits = name.get(1..)?;
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(plain) {
        return None;
    }
    let version = Version(u64::MAX - u64::from_str_radix(digits, 16).ok()?);
    match name.as_bytes()[0] {
        b'c' => Some(Named::Slot(version)),
        b'b' => Some(Named::Boundary(version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first_and_the_boundary_before_all_commits() {
        let log = LogId::new("acme", "session", "s-1").unwrap();
        let mut names = [
            slot(&log, Version(1)),
            slot(&log, Version(255)),
            slot(&log, Version(256)),
            boundary(&log, Version(9)),
            boundary(&log, Version(10)),
        ];
        names.sort();

        let read: Vec<_> = names.iter().filter_map(|name| parse(name)).collect();
        assert_eq!(
            read,
            [
                Named::Boundary(Version(10)),
                Named::Boundary(Version(9)),
                Named::Slot(Version(256)),
                Named::Slot(Version(255)),
                Named::Slot(Version(1))
            ]
        );
    }

    #[test]
    fn a_folder_is_read_back_and_what_is_not_ours_is_none() {
        let id = LogId::new("acme", "se!/ssion", "..").unwrap();
        assert_eq!(log_of(log(&id).trim_end_matches('/')), Some(id));
        for other in ["logs/a", "logs/a!b", "logs/a!b!c!d", "logs/a!b!=20x=2", "other/a!b!c", "logs/"] {
            assert_eq!(log_of(other), None, "{other}");
        }
        for other in ["logs/a!b!c/c", "logs/a!b!c/cFFFFFFFFFFFFFFFF", "logs/a!b!c/x0000000000000000", "x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
