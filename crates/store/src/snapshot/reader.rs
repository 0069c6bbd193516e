//! Reading a snapshot: what its last part says, one key, one block.

use std::ops::{Bound, Range};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use icecore_log::{Backend, Error, ErrorKind, LogId, Result};

use super::cursor::Cursor;
use super::names::SnapshotInfo;
use super::record::{Block, Record, Span};
use super::table::{self, BlockEntry, Check, Damage, INDEX_BYTES_MAX, Meta, PartEntry, TRAILER};
use crate::Inner;

/// How much of the last part is read first: the index, or nearly.
const TAIL_BYTES: u64 = 64 << 10;

/// A snapshot that was opened. Cheap to clone; holds its indexes in memory as they are read, and the end of its last part.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    log: LogId,
    info: SnapshotInfo,
    meta: Meta,
    parts: Vec<Part>,
    /// The last bytes of the last part, from `tail_from` on.
    tail: Bytes,
    tail_from: u64,
}

#[derive(Debug)]
struct Part {
    /// The key of its first record; of a snapshot without records, none.
    first: Arc<str>,
    /// Where its blocks end and its index begins.
    blocks_end: u64,
    index_end: u64,
    check: Check,
    blocks: OnceLock<Arc<[BlockEntry]>>,
}

/// The index of a part, and where it is in the snapshot.
#[derive(Clone, Debug)]
pub(super) struct PartBlocks {
    pub blocks: Arc<[BlockEntry]>,
    pub part: usize,
}

impl Snapshot {
    /// Opens a snapshot; `None` if it is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if its last part is not what was written: go without it, and write another.
    pub async fn open(inner: &Inner, log: &LogId, info: SnapshotInfo) -> Result<Option<Self>> {
        Self::open_with(inner, log, info, TAIL_BYTES).await
    }

    /// As [`Snapshot::open`], and reads all of its last part at once.
    ///
    /// # Errors
    /// As there.
    pub async fn open_whole(inner: &Inner, log: &LogId, info: SnapshotInfo) -> Result<Option<Self>> {
        Self::open_with(inner, log, info, u64::MAX).await
    }

    async fn open_with(
        inner: &Inner,
        log: &LogId,
        info: SnapshotInfo,
        tail_bytes: u64,
    ) -> Result<Option<Self>> {
        let backend = &*inner.backend;
        let Some(last) = info.parts.len().checked_sub(1) else {
            return Ok(None);
        };
        let (blob, bytes) = (info.blob(log, last)?, info.parts[last]);
        let tail_from = bytes.saturating_sub(tail_bytes);
        let Some(tail) = backend.get_blob(&blob, Some(tail_from..bytes)).await? else {
            return Ok(None);
        };
        let damaged = |damage| damaged(log, &info, last, damage);
        let (index, check) = trailer_of(&tail, bytes - tail_from).map_err(damaged)?;
        let index_end = bytes - TRAILER;
        let Some(blocks_end) = index_end.checked_sub(u64::from(index)) else {
            return Err(damaged("an index that is longer than the part"));
        };
        let index = if blocks_end >= tail_from {
            tail.slice((blocks_end - tail_from) as usize..(index_end - tail_from) as usize)
        } else {
            if index as usize > INDEX_BYTES_MAX {
                return Err(damaged("an index that is too long"));
            }
            let Some(rest) = backend.get_blob(&blob, Some(blocks_end..tail_from)).await? else {
                return Ok(None);
            };
            let mut whole = BytesMut::from(&rest[..]);
            whole.extend_from_slice(&tail[..tail.len() - TRAILER as usize]);
            whole.freeze()
        };
        let (blocks, ending) = read_last(&index, check, blocks_end, &info).map_err(damaged)?;
        let mut parts: Vec<Part> = ending.before.iter().map(Part::before).collect();
        parts.push(Part {
            first: blocks.first().map_or_else(|| "".into(), |block| Arc::clone(&block.first)),
            blocks_end,
            index_end,
            check,
            blocks: OnceLock::from(Arc::from(blocks)),
        });
        let meta = ending.meta;
        Ok(Some(Self(Arc::new(Opened { log: log.clone(), info, meta, parts, tail, tail_from }))))
    }

    /// What its names say.
    pub fn info(&self) -> &SnapshotInfo {
        &self.0.info
    }

    /// What it says of itself.
    pub fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// What it says of a key; `None` if nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is damaged, [`ErrorKind::NotFound`] if it was deleted since it was opened: go without it.
    pub async fn get(&self, backend: &dyn Backend, key: &str) -> Result<Option<Record>> {
        let Some((of, number)) = self.seek(backend, key).await? else {
            return Ok(None);
        };
        let entry = &of.blocks[number];
        if &*entry.first > key {
            return Ok(None);
        }
        let stored = self.fetch(backend, of.part, entry.offset..entry.end()).await?;
        let mut block = self.block(&of, number, stored)?;
        while let Some(record) = block.next().map_err(|damage| self.damaged(of.part, damage))? {
            if &*record.key >= key {
                return Ok((&*record.key == key).then_some(record));
            }
        }
        Ok(None)
    }

    /// Reads all records from a key on, in order.
    pub fn cursor(&self, first: Bound<&str>) -> Cursor {
        Cursor::new(self.clone(), first)
    }

    /// The block that has this key, if one has: the last that does not begin behind it, else the first of all.
    pub(super) async fn seek(&self, backend: &dyn Backend, key: &str) -> Result<Option<(PartBlocks, usize)>> {
        let part = self.0.parts.partition_point(|part| &*part.first <= key).saturating_sub(1);
        let of = self.part(backend, part).await?;
        let number = of.blocks.partition_point(|block| &*block.first <= key).saturating_sub(1);
        // Only a snapshot without records has a part without blocks.
        Ok((!of.blocks.is_empty()).then_some((of, number)))
    }

    /// How many parts it has.
    pub(super) fn parts(&self) -> usize {
        self.0.parts.len()
    }

    /// The blocks of a part, read once.
    pub(super) async fn part(&self, backend: &dyn Backend, number: usize) -> Result<PartBlocks> {
        let part = &self.0.parts[number];
        if let Some(blocks) = part.blocks.get() {
            return Ok(PartBlocks { blocks: Arc::clone(blocks), part: number });
        }
        let index = self.fetch(backend, number, part.blocks_end..part.index_end).await?;
        let blocks =
            part.read(&index, self.first_behind(number)).map_err(|damage| self.damaged(number, damage))?;
        Ok(PartBlocks { blocks: Arc::clone(part.blocks.get_or_init(|| blocks.into())), part: number })
    }

    /// The part's first key that is behind this one.
    fn first_behind(&self, part: usize) -> Option<&Arc<str>> {
        self.0.parts.get(part + 1).map(|next| &next.first)
    }

    /// A block, checked, from what is stored of it.
    pub(super) fn block(&self, of: &PartBlocks, number: usize, stored: Bytes) -> Result<Block> {
        let behind = of.blocks.get(number + 1).map(|next| &next.first);
        let below = behind.or_else(|| self.first_behind(of.part)).cloned();
        let block = of.blocks[number].open(stored, below, span_of(&self.0.info));
        block.map_err(|damage| self.damaged(of.part, damage))
    }

    /// Some bytes of a part, from memory if they are of its end. They are as many as were asked for.
    pub(super) async fn fetch(&self, backend: &dyn Backend, part: usize, range: Range<u64>) -> Result<Bytes> {
        let Opened { log, info, tail, tail_from, .. } = &*self.0;
        if part + 1 == self.parts() && range.start >= *tail_from {
            return Ok(tail.slice((range.start - tail_from) as usize..(range.end - tail_from) as usize));
        }
        let blob = info.blob(log, part)?;
        let length = range.end - range.start;
        match backend.get_blob(&blob, Some(range)).await? {
            Some(bytes) if bytes.len() as u64 == length => Ok(bytes),
            Some(_) => Err(self.damaged(part, "a part that is cut short")),
            None => Err(Error::new(ErrorKind::NotFound, "reading a snapshot")
                .with("log", log)
                .with("blob", blob.name())
                .advise("It was deleted meanwhile: list the snapshots again")),
        }
    }

    /// Where the bytes begin that are in memory, if this is the last part.
    pub(super) fn tail_from(&self, part: usize) -> u64 {
        if part + 1 == self.parts() { self.0.tail_from } else { u64::MAX }
    }

    pub(super) fn damaged(&self, part: usize, damage: Damage) -> Error {
        damaged(&self.0.log, &self.0.info, part, damage)
    }
}

impl Part {
    fn before(entry: &PartEntry) -> Self {
        // Checked when it was read: a part is longer than its index and its trailer.
        let index_end = entry.bytes - TRAILER;
        Self {
            first: Arc::clone(&entry.first),
            blocks_end: index_end - u64::from(entry.index),
            index_end,
            check: entry.check,
            blocks: OnceLock::new(),
        }
    }

    fn read(&self, index: &[u8], behind: Option<&Arc<str>>) -> Result<Vec<BlockEntry>, Damage> {
        if table::check_of(index) != self.check {
            return Err("an index that is not what the last part says");
        }
        let (blocks, rest) = table::decode_index(index, self.blocks_end)?;
        let follows = blocks.first().is_some_and(|block| block.first == self.first)
            && blocks.last().is_some_and(|block| behind.is_none_or(|behind| block.first < *behind));
        if follows && rest.0.is_empty() { Ok(blocks) } else { Err("an index of another part") }
    }
}

fn span_of(info: &SnapshotInfo) -> Span {
    Span { from: info.from, to: info.to }
}

fn trailer_of(tail: &[u8], length: u64) -> Result<(u32, Check), Damage> {
    let trailer = tail.len().checked_sub(TRAILER as usize).filter(|_| tail.len() as u64 == length);
    table::decode_trailer(&tail[trailer.ok_or("a part that is cut short")?..])
}

/// The last part's index, and that it is of this snapshot.
fn read_last(
    index: &[u8],
    check: Check,
    blocks_end: u64,
    info: &SnapshotInfo,
) -> Result<(Vec<BlockEntry>, table::Ending), Damage> {
    if table::check_of(index) != check {
        return Err("an index that is not what the trailer says");
    }
    let (blocks, rest) = table::decode_index(index, blocks_end)?;
    let ending = table::decode_ending(rest)?;
    let last = ending.before.last();
    let follows = last.is_none_or(|last| blocks.first().is_some_and(|block| block.first > last.first));
    let is_of_it = ending.incarnation == info.incarnation
        && ending.span == span_of(info)
        && ending.before.len() + 1 == info.parts.len()
        && ending.before.iter().zip(&info.parts).all(|(part, bytes)| part.bytes == *bytes);
    if follows && is_of_it { Ok((blocks, ending)) } else { Err("another snapshot") }
}

fn damaged(log: &LogId, info: &SnapshotInfo, part: usize, damage: Damage) -> Error {
    let error = Error::new(ErrorKind::Corrupt, "reading a snapshot").with("log", log);
    let error = match info.blob(log, part) {
        Ok(blob) => error.with("blob", blob.name()),
        Err(_) => error,
    };
    error.with("found", damage).advise("It is damaged. Delete that blob: all that it says is in the commits")
}
