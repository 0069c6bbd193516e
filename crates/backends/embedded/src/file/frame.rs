//! The bytes of segments: headers, groups, frames, marks. `docs/formats/file.md` is their specification.
//!
//! ```text
//! segment  | "ICESEG01" | number u32 | 0 u32 | base u64 | crc u32 | 0 u32 |  then groups
//! group    | frame of kind GROUP | the frames that it announces |
//! frame    | kind u8 | flags u8 | name length u16 | header length u32 | body length u32 | version u64 | header crc u32 | body crc u32 | name | crc of all before u32 | header | body |
//! mark     | "ICEMARK1" | sequence u64 | durable u64 | crc u32 |
//! ```
//! All numbers are little-endian; the checksum is CRC-32 (ISO-HDLC). A frame's head has a checksum of its own, so that a damaged
//! header or body can still be named, and header and body one each, so that a body can go while its header stays.

use icecore_log::{LogId, StoredCommit, Version};

pub(crate) const SEGMENT_HEAD: u64 = 32;
pub(crate) const MARK_BYTES: usize = 28;
/// Where the two copies of the mark are in their file.
pub(crate) const MARK_SLOTS: [u64; 2] = [0, 4_096];

const FIXED: usize = 28;
const HAS_BODY: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Announces `header length` bytes of frames; `version` is the LSN through which all was durable when it was written.
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
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let kind = Kind::of(fixed[0])?;
        let name_bytes = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
        let end = FIXED + name_bytes;
        if name_bytes > LogId::BYTES_MAX
            || fixed[1] > HAS_BODY
            || u32_at(bytes, end)? != crc32fast::hash(&bytes[..end])
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
    pub fn repair(bytes: &[u8]) -> Option<Self> {
        let mut copy = bytes[..bytes.len().min(FIXED + LogId::BYTES_MAX + 4)].to_vec();
        (0..copy.len() * 8).find_map(|bit| {
            copy[bit / 8] ^= 1 << (bit % 8);
            let found = Self::parse(&copy);
            copy[bit / 8] ^= 1 << (bit % 8);
            found
        })
    }

    pub fn header_is_whole(&self, header: &[u8]) -> bool {
        header.len() == self.header_bytes as usize && crc32fast::hash(header) == self.header_crc
    }

    pub fn body_is_whole(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes as usize && crc32fast::hash(body) == self.body_crc
    }
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

fn put_head(into: &mut Vec<u8>, fields: &Fields<'_>) {
    let start = into.len();
    into.extend([fields.kind, fields.flags]);
    // A name has at most 512 bytes, a commit at most 80 MiB, a group at most that and a little.
    into.extend((fields.name.len() as u16).to_le_bytes());
    into.extend((fields.header_bytes as u32).to_le_bytes());
    into.extend((fields.body_bytes as u32).to_le_bytes());
    into.extend(fields.version.to_le_bytes());
    into.extend(fields.crcs[0].to_le_bytes());
    into.extend(fields.crcs[1].to_le_bytes());
    into.extend(fields.name);
    let crc = crc32fast::hash(&into[start..]);
    into.extend(crc.to_le_bytes());
}

pub(crate) const GROUP_HEAD: usize = FIXED + 4;

/// The head of a group of `bytes` bytes.
pub(crate) fn group_head(bytes: usize, frames: u32, durable: u64) -> Vec<u8> {
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
    put_head(&mut head, &fields);
    head
}

pub(crate) fn put_commit(into: &mut Vec<u8>, log: &LogId, commit: &StoredCommit) {
    let body = commit.body.as_deref().unwrap_or_default();
    let fields = Fields {
        kind: 2,
        flags: u8::from(commit.body.is_some()),
        name: log.as_str().as_bytes(),
        header_bytes: commit.header.len(),
        body_bytes: body.len(),
        version: commit.version.0,
        crcs: [crc32fast::hash(&commit.header), crc32fast::hash(body)],
    };
    put_head(into, &fields);
    into.extend_from_slice(&commit.header);
    into.extend_from_slice(body);
}

pub(crate) fn put_close(into: &mut Vec<u8>, log: &LogId, boundary: Version) {
    put_note(into, 3, log, boundary);
}

pub(crate) fn put_drop(into: &mut Vec<u8>, log: &LogId, version: Version) {
    put_note(into, 4, log, version);
}

fn put_note(into: &mut Vec<u8>, kind: u8, log: &LogId, version: Version) {
    let name = log.as_str().as_bytes();
    let fields =
        Fields { kind, flags: 0, name, header_bytes: 0, body_bytes: 0, version: version.0, crcs: [0; 2] };
    put_head(into, &fields);
}

pub(crate) fn segment_head(number: u32, base: u64) -> [u8; SEGMENT_HEAD as usize] {
    let mut head = [0; SEGMENT_HEAD as usize];
    head[..8].copy_from_slice(b"ICESEG01");
    head[8..12].copy_from_slice(&number.to_le_bytes());
    head[16..24].copy_from_slice(&base.to_le_bytes());
    let crc = crc32fast::hash(&head[..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

/// A segment's base; `None` if these bytes are not this segment's head.
pub(crate) fn segment_base(head: &[u8], number: u32) -> Option<u64> {
    let base = u64_at(head, 16)?;
    (head.get(..SEGMENT_HEAD as usize)? == segment_head(number, base)).then_some(base)
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
