//! The bytes of a slot's object: a run of commits. `docs/formats/object.md` is their specification.

use bytes::{BufMut, Bytes, BytesMut};
use icecore_log::{Hash, LogId, StoredCommit, Version};

/// What a slot's object begins with.
pub(crate) const MAGIC: [u8; 8] = *b"ICESLOT1";
/// Bytes before the table: magic, count, checksum, first version.
pub(crate) const PREFIX: usize = 24;
/// Bytes of one commit in the table.
pub(crate) const ROW: usize = 16;
/// No object has more: one commit of the largest size, or a run that is cut when it reaches enough, with its table.
pub(crate) const SIZE_MAX: u64 = (crate::COMMIT_BYTES_MAX + BYTES_ENOUGH + PREFIX + COMMITS_MAX * ROW) as u64;
/// In the place of a body's length: it was dropped.
const DROPPED: u32 = u32::MAX;
/// The most commits in one object.
pub(crate) const COMMITS_MAX: usize = 1_000;
/// An object ends with the commit that reaches so many bytes.
const BYTES_ENOUGH: usize = 8 << 20;

/// What a slot's object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Consecutive commits, at least one.
    Run(Vec<StoredCommit>),
    /// None: the log was closed up to this version before it had commits here.
    Void(Version),
}

/// Why bytes are no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// So many bytes, at least, are needed.
    Short(usize),
    /// They are damaged, or not ours; what is wrong with them.
    Damaged(&'static str),
    /// The body of this commit is damaged.
    Body(Version),
}

/// How many of these commits go into one object.
pub(crate) fn fit(commits: &[StoredCommit]) -> usize {
    let mut bytes = 0;
    let enough = commits.iter().take(COMMITS_MAX).position(|commit| {
        bytes += commit.len();
        bytes >= BYTES_ENOUGH
    });
    enough.map_or(commits.len().min(COMMITS_MAX), |last| last + 1)
}

pub(crate) fn encode(log: &LogId, commits: &[StoredCommit]) -> Bytes {
    let first = commits.first().map_or(Version::ZERO, |commit| commit.version);
    let rows = commits.iter().map(|commit| {
        let (length, crc) = match &commit.body {
            // A commit has at most 80 MiB.
            Some(body) => (body.len() as u32, crc32fast::hash(body)),
            None => (DROPPED, 0),
        };
        [commit.header.len() as u32, length, crc, 0]
    });
    let size: usize = commits.iter().map(|commit| commit.len() + ROW).sum();
    let mut bytes = begin(commits.len() as u32, first, size);
    rows.flatten().for_each(|number| bytes.put_u32_le(number));
    commits.iter().for_each(|commit| bytes.put_slice(&commit.header));
    sign(log, &mut bytes);
    commits.iter().filter_map(|commit| commit.body.as_ref()).for_each(|body| bytes.put_slice(body));
    bytes.freeze()
}

/// The object in the slot behind the boundary of a log without commits, which is closed up to `through`.
pub(crate) fn encode_void(log: &LogId, first: Version, through: Version) -> Bytes {
    let mut bytes = begin(0, first, 8);
    bytes.put_u64_le(through.0);
    sign(log, &mut bytes);
    bytes.freeze()
}

fn begin(count: u32, first: Version, size: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(PREFIX + size);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(count);
    bytes.put_u32_le(0);
    bytes.put_u64_le(first.0);
    bytes
}

/// Puts the checksum of all that is there into its place.
fn sign(log: &LogId, bytes: &mut [u8]) {
    let crc = checksum(log, bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Of the log's name, and everything but its own place: an object under the name of another log is noticed.
fn checksum(log: &LogId, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(log.as_str().as_bytes());
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads an object of `size` bytes, of which `bytes` is the beginning. With `bodies` all of it is needed, and every body is checked;
/// without, the bodies are left out.
pub(crate) fn decode(log: &LogId, bytes: &Bytes, size: u64, bodies: bool) -> Result<Slot, Wrong> {
    let need = |length: usize| if bytes.len() < length { Err(Wrong::Short(length)) } else { Ok(()) };
    if (bytes.len() as u64) < size.min(PREFIX as u64) {
        return Err(Wrong::Short(PREFIX));
    }
    if size < (PREFIX + 8) as u64 || !bytes.starts_with(&MAGIC) {
        return Err(Wrong::Damaged("it does not begin as a slot does"));
    }
    let (count, first) = (u32_at(bytes, 8), u64_at(bytes, 16));
    if count > COMMITS_MAX || first == 0 || first.checked_add(count as u64).is_none() {
        return Err(Wrong::Damaged("its commits cannot be so many, or have such numbers"));
    }
    let table = if count == 0 { 8 } else { count * ROW };
    if ((PREFIX + table) as u64) > size {
        return Err(Wrong::Damaged("it ends in its table"));
    }
    need(PREFIX + table)?;
    let rows: Vec<&[u8]> = bytes[PREFIX..PREFIX + count * ROW].chunks_exact(ROW).collect();
    let headers: usize = rows.iter().map(|row| u32_at(row, 0)).sum();
    let head = PREFIX + table + headers;
    let lengths = rows.iter().map(|row| u32_at(row, 4)).filter(|length| *length != DROPPED as usize);
    if (head + lengths.sum::<usize>()) as u64 != size {
        return Err(Wrong::Damaged("its length is not what its table says"));
    }
    need(head)?;
    if checksum(log, &bytes[..head]) as usize != u32_at(bytes, 12) {
        return Err(Wrong::Damaged(
            "the checksum of its table and headers is wrong, or it is of another log",
        ));
    }
    if count == 0 {
        return Ok(Slot::Void(Version(u64_at(bytes, PREFIX))));
    }
    if bodies {
        need(usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    let (mut header_at, mut body_at) = (PREFIX + table, head);
    let mut commits = Vec::with_capacity(count);
    for (row, version) in rows.into_iter().zip(first..) {
        let header = bytes.slice(header_at..header_at + u32_at(row, 0));
        header_at += header.len();
        let mut body = None;
        let length = u32_at(row, 4);
        if bodies && length != DROPPED as usize {
            let found = bytes.slice(body_at..body_at + length);
            if crc32fast::hash(&found) as usize != u32_at(row, 8) {
                return Err(Wrong::Body(Version(version)));
            }
            body_at += length;
            body = Some(found);
        }
        commits.push(StoredCommit { version: Version(version), header, body });
    }
    Ok(Slot::Run(commits))
}

/// Bytes of a void slot's object; one with a commit has more.
pub(crate) const VOID_SIZE: u64 = PREFIX as u64 + 8;

/// Bytes of headers and bodies in an object of so many bytes with so many commits.
pub(crate) fn content(size: u64, commits: u64) -> u64 {
    size.saturating_sub(PREFIX as u64 + commits * ROW as u64)
}

/// The last commit of a run, and its hash.
pub(crate) fn last(commits: &[StoredCommit]) -> Option<(Version, Hash)> {
    commits.last().map(|commit| (commit.version, commit.hash()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogId {
        LogId::new("acme", "session", "s-1").unwrap()
    }

    fn commit(version: u64, body: Option<&'static [u8]>) -> StoredCommit {
        let header = Bytes::from(format!("header {version}"));
        StoredCommit { version: Version(version), header, body: body.map(Bytes::from_static) }
    }

    fn golden(name: &str, made: &[u8]) -> Bytes {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("ICECORE_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, made).unwrap();
        }
        std::fs::read(path).unwrap().into()
    }

    /// `docs/formats/object.md`. `ICECORE_BLESS=1` writes the golden files anew, which is allowed until 0.1.0 only.
    #[test]
    fn slots_are_written_to_their_golden_bytes_and_read_from_them() {
        let run = vec![commit(7, Some(b"a body")), commit(8, None), commit(9, Some(b""))];
        let bytes = golden("run.bin", &encode(&log(), &run));
        assert_eq!(encode(&log(), &run), bytes);
        assert_eq!(decode(&log(), &bytes, bytes.len() as u64, true), Ok(Slot::Run(run)));

        let bytes = golden("void.bin", &encode_void(&log(), Version(1), Version(4)));
        assert_eq!(encode_void(&log(), Version(1), Version(4)), bytes);
        assert_eq!(bytes.len() as u64, VOID_SIZE);
        assert_eq!(decode(&log(), &bytes, bytes.len() as u64, true), Ok(Slot::Void(Version(4))));
    }

    #[test]
    fn headers_are_read_from_the_beginning_and_it_is_told_how_much_is_needed() {
        let whole = encode(&log(), &[commit(1, Some(b"one")), commit(2, Some(b"two"))]);
        let size = whole.len() as u64;
        let mut needed = 0;
        let slot = loop {
            match decode(&log(), &whole.slice(..needed), size, false) {
                Err(Wrong::Short(more)) => {
                    assert!(more > needed, "{more} after {needed}");
                    needed = more;
                }
                other => break other,
            }
        };

        assert_eq!(needed as u64, size - 6);
        assert_eq!(slot, Ok(Slot::Run(vec![commit(1, None), commit(2, None)])));
    }

    #[test]
    fn no_changed_or_cut_bytes_are_read_as_a_slot() {
        for whole in [
            encode(&log(), &[commit(1, Some(b"one")), commit(2, None)]),
            encode_void(&log(), Version(1), Version(9)),
        ] {
            for bit in 0..whole.len() * 8 {
                let mut changed = whole.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                let changed = Bytes::from(changed);
                let read = decode(&log(), &changed, changed.len() as u64, true);
                assert!(matches!(read, Err(Wrong::Damaged(_) | Wrong::Body(_))), "bit {bit}: {read:?}");
            }
            for length in 0..whole.len() {
                let read = decode(&log(), &whole.slice(..length), length as u64, true);
                assert!(matches!(read, Err(Wrong::Damaged(_))), "{length} bytes: {read:?}");
            }
        }
    }

    #[test]
    fn an_object_of_another_log_is_noticed() {
        let bytes = encode(&log(), &[commit(1, None)]);
        let other = LogId::new("acme", "session", "s-2").unwrap();

        assert!(matches!(decode(&other, &bytes, bytes.len() as u64, true), Err(Wrong::Damaged(_))));
    }

    #[test]
    fn a_run_is_cut_behind_the_commit_that_is_enough() {
        let large = StoredCommit { body: Some(Bytes::from(vec![0; 3 << 20])), ..commit(1, None) };

        assert_eq!(fit(&vec![large; 10]), 3);
        assert_eq!(fit(&vec![commit(1, None); 2_000]), COMMITS_MAX);
        assert_eq!(fit(&vec![commit(1, None); 5]), 5);
    }
}
