//! The bytes of segments: headers, groups, frames, marks. `docs/formats/file.md` is their specification.
//!
//! ```text
//! segment  | "ICESEG01" | number u32 | salt u32 | base u64 | crc u32 | 0 u32 |  then groups
//! group    | frame of kind GROUP | the frames that it announces |
//! frame    | kind u8 | flags u8 | name length u16 | header length u32 | body length u32 | version u64 | header crc u32 | body crc u32 | name | crc of all before u32 | header | body |
//! mark     | "ICEMARK1" | sequence u64 | durable u64 | crc u32 |
//! ```
//! All numbers are little-endian; the checksum is CRC-32 (ISO-HDLC). A frame's head has a checksum of its own, so that a damaged
//! header or body can still be named, and header and body one each, so that a body can go while its header stays. The
//! checksum of a head begins with the store's salt, a random number: behind damage the next head is searched for, and
//! what a client put into an event must not be taken for one.

use icecore_log::{LogId, StoredCommit, Version};

pub(crate) const SEGMENT_HEAD: u64 = 32;
pub(crate) const MARK_BYTES: usize = 28;
/// Where the two copies of the mark are in their file.
pub(crate) const MARK_SLOTS: [u64; 2] = [0, 4_096];
/// Where a writer that ended well leaves a third one: through its LSN nothing is left to be done again.
pub(crate) const CLOSED_SLOT: u64 = 8_192;

const FIXED: usize = 28;
const HAS_BODY: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Announces `header length` bytes of frames; `version` is the LSN through which all was durable when it was written,
    /// which is its own: the group before is durable before the next is written.
    Group,
    Commit,
    /// `version` is the boundary.
    Close,
    /// The body of `version` is gone.
    Drop,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Group),
            2 => Some(Self::Commit),
            3 => Some(Self::Close),
            4 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// A frame's head, read.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub kind: Kind,
    pub log: Option<LogId>,
    pub version: u64,
    pub header_bytes: u32,
    pub body_bytes: u32,
    pub has_body: bool,
    header_crc: u32,
    body_crc: u32,
    /// Of the head, its own checksum included.
    pub bytes: usize,
}

impl Head {
    /// Bytes of the whole frame; a group's are those of its head alone.
    pub fn frame_bytes(&self) -> u64 {
        match self.kind {
            Kind::Group => self.bytes as u64,
            _ => self.bytes as u64 + u64::from(self.header_bytes) + u64::from(self.body_bytes),
        }
    }

    /// Reads the head at the start of these bytes; `None` if they are none.
    pub fn parse(bytes: &[u8], salt: u32) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let kind = Kind::of(fixed[0])?;
        let name_bytes = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
        let end = FIXED + name_bytes;
        if name_bytes > LogId::BYTES_MAX
            || fixed[1] > HAS_BODY
            || u32_at(bytes, end)? != salted_crc(&bytes[..end], salt)
        {
            return None;
        }
        let log = match kind {
            Kind::Group => None,
            _ => Some(LogId::parse(std::str::from_utf8(&bytes[FIXED..end]).ok()?).ok()?),
        };
        Some(Self {
            kind,
            log,
            version: u64::from_le_bytes(fixed[12..20].try_into().ok()?),
            header_bytes: u32_at(fixed, 4)?,
            body_bytes: u32_at(fixed, 8)?,
            has_body: fixed[1] & HAS_BODY != 0,
            header_crc: u32_at(fixed, 20)?,
            body_crc: u32_at(fixed, 24)?,
            bytes: end + 4,
        })
    }

    /// What a damaged head must have been if a single bit of it was flipped. Only ever used to name the damage and to go on behind it.
    pub fn repair(bytes: &[u8], salt: u32) -> Option<Self> {
        let mut copy = bytes[..bytes.len().min(FIXED + LogId::BYTES_MAX + 4)].to_vec();
        // Where the head ends if its name's length is right; if it is not, that is where the bit is.
        let name_bytes = usize::from(u16::from_le_bytes([*copy.get(2)?, *copy.get(3)?]));
        let end = (FIXED + name_bytes + 4).min(copy.len());
        (2 * 8..4 * 8).chain(0..end * 8).find_map(|bit| {
            copy[bit / 8] ^= 1 << (bit % 8);
            let found = Self::parse(&copy, salt);
            copy[bit / 8] ^= 1 << (bit % 8);
            found
        })
    }

    /// Whether this is the head of the group at an LSN.
    pub fn is_group_at(&self, lsn: u64) -> bool {
        self.kind == Kind::Group && self.version == lsn
    }

    pub fn header_is_whole(&self, header: &[u8]) -> bool {
        header.len() == self.header_bytes as usize && crc32fast::hash(header) == self.header_crc
    }

    pub fn body_is_whole(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes as usize && crc32fast::hash(body) == self.body_crc
    }
}

fn salted_crc(bytes: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

struct Fields<'a> {
    kind: u8,
    flags: u8,
    name: &'a [u8],
    header_bytes: usize,
    body_bytes: usize,
    version: u64,
    crcs: [u32; 2],
}

fn put_head(into: &mut Vec<u8>, fields: &Fields<'_>, salt: u32) {
    let start = into.len();
    into.extend([fields.kind, fields.flags]);
    // A name has at most 512 bytes, a commit at most 80 MiB, a group at most `REQUEST_BYTES_MAX` and a little.
    into.extend((fields.name.len() as u16).to_le_bytes());
    into.extend((fields.header_bytes as u32).to_le_bytes());
    into.extend((fields.body_bytes as u32).to_le_bytes());
    into.extend(fields.version.to_le_bytes());
    into.extend(fields.crcs[0].to_le_bytes());
    into.extend(fields.crcs[1].to_le_bytes());
    into.extend(fields.name);
    let crc = salted_crc(&into[start..], salt);
    into.extend(crc.to_le_bytes());
}

pub(crate) const GROUP_HEAD: usize = FIXED + 4;

/// The head of a group of `bytes` bytes.
pub(crate) fn group_head(bytes: usize, frames: u32, durable: u64, salt: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(GROUP_HEAD);
    let fields = Fields {
        kind: 1,
        flags: 0,
        name: &[],
        header_bytes: bytes,
        body_bytes: 0,
        version: durable,
        crcs: [0, frames],
    };
    put_head(&mut head, &fields, salt);
    head
}

/// Adds a commit's frame; its head.
pub(crate) fn put_commit(into: &mut Vec<u8>, log: &LogId, commit: &StoredCommit, salt: u32) -> Head {
    let body = commit.body.as_deref().unwrap_or_default();
    let crcs = [crc32fast::hash(&commit.header), crc32fast::hash(body)];
    let fields = Fields {
        kind: 2,
        flags: u8::from(commit.body.is_some()),
        name: log.as_str().as_bytes(),
        header_bytes: commit.header.len(),
        body_bytes: body.len(),
        version: commit.version.0,
        crcs,
    };
    let start = into.len();
    put_head(into, &fields, salt);
    let bytes = into.len() - start;
    into.extend_from_slice(&commit.header);
    into.extend_from_slice(body);
    Head {
        kind: Kind::Commit,
        log: Some(log.clone()),
        version: commit.version.0,
        // A commit has at most 80 MiB.
        header_bytes: commit.header.len() as u32,
        body_bytes: body.len() as u32,
        has_body: commit.body.is_some(),
        header_crc: crcs[0],
        body_crc: crcs[1],
        bytes,
    }
}

pub(crate) fn put_close(into: &mut Vec<u8>, log: &LogId, boundary: Version, salt: u32) {
    put_note(into, 3, log, boundary, salt);
}

pub(crate) fn put_drop(into: &mut Vec<u8>, log: &LogId, version: Version, salt: u32) {
    put_note(into, 4, log, version, salt);
}

fn put_note(into: &mut Vec<u8>, kind: u8, log: &LogId, version: Version, salt: u32) {
    let name = log.as_str().as_bytes();
    let fields =
        Fields { kind, flags: 0, name, header_bytes: 0, body_bytes: 0, version: version.0, crcs: [0; 2] };
    put_head(into, &fields, salt);
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub number: u32,
    /// The same in all segments of a store.
    pub salt: u32,
    /// The LSN of its first group.
    pub base: u64,
}

impl SegmentHead {
    pub fn encode(self) -> [u8; SEGMENT_HEAD as usize] {
        let mut head = [0; SEGMENT_HEAD as usize];
        head[..8].copy_from_slice(b"ICESEG01");
        head[8..12].copy_from_slice(&self.number.to_le_bytes());
        head[12..16].copy_from_slice(&self.salt.to_le_bytes());
        head[16..24].copy_from_slice(&self.base.to_le_bytes());
        let crc = crc32fast::hash(&head[..24]);
        head[24..28].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// `None` if these bytes are not the head of the segment of this number.
    pub fn parse(bytes: &[u8], number: u32) -> Option<Self> {
        let head = Self { number, salt: u32_at(bytes, 12)?, base: u64_at(bytes, 16)? };
        (bytes.get(..SEGMENT_HEAD as usize)? == head.encode()).then_some(head)
    }

    /// What a damaged head must have been if a single bit of it was flipped.
    pub fn repair(bytes: &[u8], number: u32) -> Option<Self> {
        let mut copy = bytes.to_vec();
        (0..copy.len() * 8).find_map(|bit| {
            copy[bit / 8] ^= 1 << (bit % 8);
            let found = Self::parse(&copy, number);
            copy[bit / 8] ^= 1 << (bit % 8);
            found
        })
    }
}

/// Where the next head that can be read begins, at or behind a position; `base` is the LSN of the first byte. Used only behind damage.
pub(crate) fn find_head(bytes: &[u8], from: usize, base: u64, salt: u32, only_groups: bool) -> Option<usize> {
    let mut position = from;
    while let Some(skipped) = bytes.get(position..)?.iter().position(|byte| Kind::of(*byte).is_some()) {
        position += skipped;
        let lsn = base + position as u64;
        let may_be_group = u64_at(bytes, position + 12) == Some(lsn);
        if may_be_group || !only_groups {
            let head = Head::parse(&bytes[position..], salt);
            if head.is_some_and(|head| head.is_group_at(lsn) || (!only_groups && head.kind != Kind::Group)) {
                return Some(position);
            }
        }
        position += 1;
    }
    None
}

pub(crate) fn mark(sequence: u64, durable: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(b"ICEMARK1");
    mark[8..16].copy_from_slice(&sequence.to_le_bytes());
    mark[16..24].copy_from_slice(&durable.to_le_bytes());
    let crc = crc32fast::hash(&mark[..24]);
    mark[24..].copy_from_slice(&crc.to_le_bytes());
    mark
}

/// A mark's sequence and durable LSN.
pub(crate) fn parse_mark(bytes: &[u8]) -> Option<(u64, u64)> {
    let (sequence, durable) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
    (bytes.get(..MARK_BYTES)? == mark(sequence, durable)).then_some((sequence, durable))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event may hold any bytes, those of a whole frame among them. Behind damage, only heads with the store's salt are found.
    #[test]
    fn what_a_client_wrote_is_not_taken_for_a_head() {
        let log = LogId::new("acme", "session", "forged").unwrap();
        let mut bytes = vec![0; 100];
        bytes.extend(group_head(0, 0, 1_100, 7));
        put_close(&mut bytes, &log, Version(9), 7);
        let behind = bytes.len();
        bytes.extend(group_head(0, 0, 1_000 + behind as u64, 8));

        for only_groups in [true, false] {
            assert_eq!(find_head(&bytes, 1, 1_000, 8, only_groups), Some(behind));
        }
    }

    /// A group's head that was moved, as by a block of an older file, is not one here.
    #[test]
    fn a_group_is_found_only_at_its_own_place() {
        let mut bytes = vec![0; 50];
        bytes.extend(group_head(0, 0, 9_999, 7));

        assert_eq!(find_head(&bytes, 0, 1_000, 7, true), None);
        assert_eq!(find_head(&bytes, 0, 9_999 - 50, 7, true), Some(50));
    }

    #[test]
    fn one_flipped_bit_of_a_head_is_repaired_and_two_are_not() {
        let mut bytes = Vec::new();
        put_close(&mut bytes, &LogId::new("acme", "session", "s-1").unwrap(), Version(9), 7);
        bytes[20] ^= 4;
        let repaired = Head::repair(&bytes, 7).unwrap();
        bytes[21] ^= 4;

        assert_eq!((repaired.version, repaired.kind), (9, Kind::Close));
        assert!(Head::parse(&bytes, 7).is_none() && Head::repair(&bytes, 7).is_none());
    }

    /// `docs/formats/file.md`. `ICECORE_BLESS=1` writes the golden files anew, which is allowed until 0.1.0 only.
    #[tokio::test]
    async fn a_segment_is_written_to_its_golden_bytes_and_read_from_them() {
        let log = LogId::new("acme", "session", "s 42").unwrap();
        let commit = |version: u64, body: Option<&'static [u8]>| StoredCommit {
            version: Version(version),
            header: format!("header {version}").into(),
            body: body.map(bytes::Bytes::from_static),
        };
        let commits = [commit(1, Some(b"one")), commit(2, Some(b"two")), commit(3, None)];
        let mut frames = Vec::new();
        commits.iter().for_each(|commit| drop(put_commit(&mut frames, &log, commit, 0x1CE)));
        let mut notes = Vec::new();
        put_close(&mut notes, &log, Version(1), 0x1CE);
        put_drop(&mut notes, &log, Version(2), 0x1CE);
        let mut segment = SegmentHead { number: 1, salt: 0x1CE, base: 0 }.encode().to_vec();
        for (content, count) in [(frames, 3), (notes, 2), (Vec::new(), 0)] {
            let lsn = segment.len() as u64 - SEGMENT_HEAD;
            segment.extend(group_head(content.len(), count, lsn, 0x1CE));
            segment.extend(content);
        }
        let mut marks = vec![0; MARK_SLOTS[1] as usize + MARK_BYTES];
        let durable = segment.len() as u64 - SEGMENT_HEAD;
        marks[4_096..].copy_from_slice(&mark(3, durable));

        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/file");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("LOCK"), "").unwrap();
        for (name, made) in [("00000001.seg", &segment), ("MARK", &marks)] {
            if std::env::var_os("ICECORE_BLESS").is_some() {
                std::fs::create_dir_all(&golden).unwrap();
                std::fs::write(golden.join(name), made).unwrap();
            }
            assert!(std::fs::read(golden.join(name)).unwrap() == *made, "{name}");
            std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        }

        use crate::file::{Access, FileStore, Settings};
        use icecore_log::{Backend, PageLimit};
        let store = FileStore::open(folder.path(), Access::ReadOnly, Settings::default()).unwrap();
        let page = store.read(&log, Version(2), PageLimit::WHOLE).await.unwrap();
        let expected = [StoredCommit { body: None, ..commits[1].clone() }, commits[2].clone()];
        assert_eq!((page.boundary, page.commits), (Version(1), expected.to_vec()));
    }
}
