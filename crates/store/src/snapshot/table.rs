//! The bytes of a snapshot's parts: blocks, the index behind them, and the trailer. `docs/formats/snapshot.md` specifies them.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use icecore_log::compression;
use icecore_log::{Hash, Incarnation, Timestamp, Version};

use super::record::{Block, Span};
use crate::state::expiry::{Expiry, Life};

const MAGIC: &[u8; 8] = b"ICESNAP1";
/// The index's length and hash, and the magic bytes.
pub(crate) const TRAILER: u64 = 4 + 8 + 8;
/// The most plain bytes of a block: what one record may take.
pub(crate) const BLOCK_BYTES_MAX: usize = 80 << 20;
/// The most bytes of an index.
pub(crate) const INDEX_BYTES_MAX: usize = 96 << 20;

/// What is wrong with bytes, for the error that names the blob.
pub(crate) type Damage = &'static str;
/// The first bytes of a SHA-256 digest.
pub(crate) type Check = [u8; 8];

const CUT_SHORT: Damage = "something that is cut short";

pub(crate) fn check_of(bytes: &[u8]) -> Check {
    let mut check = Check::default();
    check.copy_from_slice(&Hash::of(bytes).0[..8]);
    check
}

/// What a snapshot says of itself, in its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The hash of the commit `to`.
    pub hash: Hash,
    /// The hash of the commit `from`: what lies below must be of the same history; zeros if nothing does.
    pub previous: Hash,
    /// How many events the log has through that commit.
    pub position: u64,
    /// When that commit was made.
    pub at: Timestamp,
    pub name_tag: [u8; 16],
    /// How long the log is that the snapshot stands for, in bytes.
    pub log_bytes: u64,
    /// How many records the snapshot has: what is written is what was counted.
    pub records: u64,
    /// What the log's own expiry comes to at that commit.
    pub life: Life,
}

/// Where a block is in its part, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub first: Arc<str>,
    /// Where it begins. Not stored: it is where the one before ends.
    pub offset: u64,
    pub stored: u32,
    pub plain: u32,
    pub is_packed: bool,
    pub check: Check,
}

/// What the last part says of one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartEntry {
    pub first: Arc<str>,
    pub bytes: u64,
    pub index: u32,
    pub check: Check,
}

/// What only the last part's index says: what it is, the parts before, and of what commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub incarnation: Incarnation,
    pub span: Span,
    pub before: Vec<PartEntry>,
    pub meta: Meta,
}

/// A block as it is stored: compressed, if that saves anything.
pub(crate) fn seal(plain: &[u8]) -> (Cow<'_, [u8]>, bool) {
    match compression::compress(plain) {
        Some(packed) if packed.len() < plain.len() => (Cow::Owned(packed), true),
        _ => (Cow::Borrowed(plain), false),
    }
}

impl BlockEntry {
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.stored)
    }

    /// The block from what is stored. Its plain length was checked when the index was read.
    pub fn open(&self, stored: Bytes, below: Option<Arc<str>>, span: Span) -> Result<Block, Damage> {
        if stored.len() as u64 != u64::from(self.stored) || check_of(&stored) != self.check {
            return Err("a block that is not what the index says");
        }
        let plain = if self.is_packed {
            let plain = compression::decompress(&stored, self.plain as usize);
            plain.map_err(|_| "a block that does not decompress")?.into()
        } else {
            stored
        };
        if plain.len() as u64 != u64::from(self.plain) {
            return Err("a block that decompresses to another length");
        }
        Ok(Block::new(plain, Arc::clone(&self.first), below, span))
    }
}

/// Writes an index.
pub(crate) fn encode_index(blocks: &[BlockEntry], ending: Option<&Ending>) -> Bytes {
    let mut bytes = BytesMut::new();
    // A part has at most a thousand blocks, a snapshot at most 65,536 parts.
    bytes.put_u32(blocks.len() as u32);
    for block in blocks {
        put_key(&mut bytes, &block.first);
        bytes.put_u32(block.stored);
        bytes.put_u32(block.plain);
        bytes.put_u8(u8::from(block.is_packed));
        bytes.put_slice(&block.check);
    }
    if let Some(Ending { incarnation, span, before, meta }) = ending {
        bytes.put_slice(&incarnation.0);
        bytes.put_u64(span.from.0);
        bytes.put_u64(span.to.0);
        bytes.put_u32(before.len() as u32);
        for part in before {
            put_key(&mut bytes, &part.first);
            bytes.put_u64(part.bytes);
            bytes.put_u32(part.index);
            bytes.put_slice(&part.check);
        }
        bytes.put_slice(&meta.hash.0);
        bytes.put_slice(&meta.previous.0);
        bytes.put_u64(meta.position);
        bytes.put_i64(meta.at.0);
        bytes.put_slice(&meta.name_tag);
        bytes.put_u64(meta.log_bytes);
        bytes.put_u64(meta.records);
        if meta.life != Life::default() {
            let (kind, number) = meta.life.expiry.map_or((0, 0), Expiry::to_parts);
            bytes.put_u8(kind);
            bytes.put_i64(number);
            bytes.put_i64(meta.life.used.0);
            bytes.put_u64(meta.life.floor.0);
        }
    }
    bytes.freeze()
}

/// Keys were checked to be shorter than 2^16 bytes when they were pushed.
fn put_key(bytes: &mut BytesMut, key: &str) {
    bytes.put_u16(key.len() as u16);
    bytes.put_slice(key.as_bytes());
}

/// Writes the trailer of an index.
pub(crate) fn put_trailer(bytes: &mut BytesMut, index: &[u8]) {
    bytes.put_u32(index.len() as u32);
    bytes.put_slice(&check_of(index));
    bytes.put_slice(MAGIC);
}

/// Reads a trailer: the index's length and hash.
pub(crate) fn decode_trailer(bytes: &[u8]) -> Result<(u32, Check), Damage> {
    let mut input = Input(bytes);
    let (index, check, magic) = (input.u32()?, input.array()?, input.array::<8>()?);
    if !input.0.is_empty() || magic != *MAGIC {
        return Err("no trailer");
    }
    Ok((index, check))
}

/// Reads a part's index, whose hash was checked, and what is behind it: the ending, in the last part.
///
/// `bytes` is where the blocks end. Each of them is checked to be where it can be, and none to be larger than it may be.
pub(crate) fn decode_index<'a>(index: &'a [u8], bytes: u64) -> Result<(Vec<BlockEntry>, Input<'a>), Damage> {
    let mut input = Input(index);
    let mut blocks: Vec<BlockEntry> = Vec::new();
    let mut offset = 0_u64;
    for _ in 0..input.u32()? {
        let first: Arc<str> = input.key()?.into();
        let (stored, plain) = (input.u32()?, input.u32()?);
        let is_packed = match input.u8()? {
            0 if stored == plain => false,
            1 if stored < plain => true,
            _ => return Err("a block with an unknown codec"),
        };
        if stored == 0 || plain as usize > BLOCK_BYTES_MAX {
            return Err("a block with an impossible length");
        }
        if blocks.last().is_some_and(|last| last.first >= first) {
            return Err("blocks that are out of order");
        }
        blocks.push(BlockEntry { first, offset, stored, plain, is_packed, check: input.array()? });
        offset += u64::from(stored);
    }
    if offset != bytes {
        return Err("blocks of another length than the part's");
    }
    Ok((blocks, input))
}

/// Reads what is behind the blocks of the last part's index.
pub(crate) fn decode_ending(mut input: Input<'_>) -> Result<Ending, Damage> {
    let incarnation = Incarnation(input.array()?);
    let span = Span { from: Version(input.u64()?), to: Version(input.u64()?) };
    let mut before: Vec<PartEntry> = Vec::new();
    for _ in 0..input.u32()? {
        let first: Arc<str> = input.key()?.into();
        let (bytes, index, check) = (input.u64()?, input.u32()?, input.array()?);
        if u64::from(index) + TRAILER > bytes || index as usize > INDEX_BYTES_MAX {
            return Err("a part with an impossible length");
        }
        if before.last().is_some_and(|last| last.first >= first) {
            return Err("parts that are out of order");
        }
        before.push(PartEntry { first, bytes, index, check });
    }
    let meta = Meta {
        hash: Hash(input.array()?),
        previous: Hash(input.array()?),
        position: input.u64()?,
        at: Timestamp(input.u64()? as i64),
        name_tag: input.array()?,
        log_bytes: input.u64()?,
        records: input.u64()?,
        // Most logs have none, and then nothing is said of it.
        life: if input.0.is_empty() { Life::default() } else { input.life()? },
    };
    if !input.0.is_empty() {
        return Err("bytes behind the index");
    }
    Ok(Ending { incarnation, span, before, meta })
}

/// Bytes that are read from the front, and may end at any point.
#[derive(Debug)]
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        self.take(N)?.try_into().map_err(|_| CUT_SHORT)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Damage> {
        self.array().map(u64::from_be_bytes)
    }

    /// When something is gone by itself.
    pub fn expiry(&mut self) -> Result<Expiry, Damage> {
        let (kind, number) = (self.u8()?, self.u64()? as i64);
        Expiry::of_parts(kind, number).ok_or("an expiry that is none")
    }

    /// What a log's own expiry comes to.
    fn life(&mut self) -> Result<Life, Damage> {
        let expiry = match self.0.first() {
            Some(0) => self.take(9).map(|_| None)?,
            _ => Some(self.expiry()?),
        };
        Ok(Life { expiry, used: Timestamp(self.u64()? as i64), floor: Version(self.u64()?) })
    }

    /// A key, with its length before it.
    pub fn key(&mut self) -> Result<&'a str, Damage> {
        let length = self.array().map(u16::from_be_bytes)?;
        std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| "a key that is no text")
    }
}
