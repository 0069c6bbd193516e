//! Writing a snapshot: records in the order of their keys, gathered to blocks, and blocks to parts.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use icecore_log::{Backend, Error, ErrorKind, Incarnation, LogId, Result, Version, clock};

use super::names::{PARTS_MAX, PartName, SnapshotInfo};
use super::record::{Record, Span};
use super::table::{self, BLOCK_BYTES_MAX, BlockEntry, Ending, INDEX_BYTES_MAX, Meta, PartEntry};
use crate::Inner;

/// A block has about this many plain bytes, unless one record has more.
const BLOCK_BYTES: usize = 64 << 10;
/// A part has about this many bytes, unless one block has more.
const PART_BYTES: usize = 8 << 20;
/// So that also the index of what compresses well stays small.
const PART_BLOCKS_MAX: usize = 1_024;
const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// A snapshot that is being written. Dropped before [`Writer::finish`], it leaves parts that count for nothing.
#[derive(Debug)]
pub(crate) struct Writer {
    backend: Arc<dyn Backend>,
    log: LogId,
    /// Its parts are those that were put.
    info: SnapshotInfo,
    block_bytes: usize,
    part_bytes: usize,
    /// The plain bytes of the block that is being gathered, and its first key.
    block: BytesMut,
    first: Arc<str>,
    last: Option<Arc<str>>,
    /// The part that is being gathered: its stored blocks, and what its index will say of them.
    part: BytesMut,
    blocks: Vec<BlockEntry>,
    before: Vec<PartEntry>,
    records: u64,
    /// A part was not put, or nobody waited until it was: without it the snapshot must never be whole.
    lacks_part: bool,
}

impl Writer {
    /// Begins a snapshot of what changed behind `from` and through `to`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no version between them.
    pub fn new(
        inner: &Inner,
        log: &LogId,
        incarnation: Incarnation,
        from: Version,
        to: Version,
        is_kept: bool,
    ) -> Result<Self> {
        let tag = clock::random(&*inner.entropy);
        let writer = Self {
            backend: Arc::clone(&inner.backend),
            log: log.clone(),
            info: SnapshotInfo { incarnation, from, to, is_kept, tag, parts: Vec::new() },
            block_bytes: BLOCK_BYTES,
            part_bytes: PART_BYTES,
            block: BytesMut::new(),
            first: "".into(),
            last: None,
            part: BytesMut::new(),
            blocks: Vec::new(),
            before: Vec::new(),
            records: 0,
            lacks_part: false,
        };
        if from >= to {
            return Err(writer.invalid().advise("A snapshot ends behind the version that it begins at"));
        }
        Ok(writer)
    }

    /// With other sizes, so that a few records fill many blocks and parts.
    #[cfg(test)]
    pub fn sizes(self, block_bytes: usize, part_bytes: usize) -> Self {
        Self { block_bytes, part_bytes, ..self }
    }

    /// Adds a record. Its key follows that of the record before, as bytes.
    ///
    /// A snapshot that begins at version 0 has nothing below it: a delete is left out there, and nothing is anew.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the record is out of order, too large, or not of these versions; and what the backend says.
    pub async fn push(&mut self, record: Record) -> Result<()> {
        let span = self.span();
        let record = if span.from == Version::ZERO { record.whole() } else { Some(record) };
        let Some(record) = record else {
            return Ok(());
        };
        let bytes = record.bytes();
        if record.key.len() > KEY_BYTES_MAX || bytes > BLOCK_BYTES_MAX {
            let sizes = self.invalid().with("bytes", bytes).with("bytes_max", BLOCK_BYTES_MAX);
            return Err(sizes.with("key_bytes", record.key.len()).with("key_bytes_max", KEY_BYTES_MAX));
        }
        if self.last.as_ref().is_some_and(|last| *last >= record.key) {
            return Err(self.invalid().advise("Records come in the order of their keys"));
        }
        if !span.allows(&record.content) {
            return Err(self.invalid().advise("A record is of another version than the snapshot"));
        }
        if !self.block.is_empty() && self.block.len() + bytes > self.block_bytes {
            self.end_block().await?;
        }
        if self.block.is_empty() {
            self.first = Arc::clone(&record.key);
        }
        record.put(&mut self.block);
        self.last = Some(record.key);
        self.records += 1;
        Ok(())
    }

    /// Writes the rest: only now the snapshot is whole. What `meta` says of the number of records is replaced by what was pushed.
    pub async fn finish(mut self, meta: Meta) -> Result<SnapshotInfo> {
        if !self.block.is_empty() {
            self.end_block().await?;
        }
        let (incarnation, span) = (self.info.incarnation, self.span());
        let before = std::mem::take(&mut self.before);
        let meta = Meta { records: self.records, ..meta };
        self.put_part(Some(Ending { incarnation, span, before, meta })).await?;
        Ok(self.info)
    }

    fn span(&self) -> Span {
        Span { from: self.info.from, to: self.info.to }
    }

    async fn end_block(&mut self) -> Result<()> {
        let plain = std::mem::take(&mut self.block);
        let (stored, is_packed) = table::seal(&plain);
        let is_full =
            self.part.len() + stored.len() > self.part_bytes || self.blocks.len() >= PART_BLOCKS_MAX;
        if is_full && !self.blocks.is_empty() {
            self.put_part(None).await?;
        }
        self.blocks.push(BlockEntry {
            first: Arc::clone(&self.first),
            offset: self.part.len() as u64,
            // Checked in `push`: at most 80 MiB.
            stored: stored.len() as u32,
            plain: plain.len() as u32,
            is_packed,
            check: table::check_of(&stored),
        });
        self.part.extend_from_slice(&stored);
        Ok(())
    }

    async fn put_part(&mut self, ending: Option<Ending>) -> Result<()> {
        if std::mem::replace(&mut self.lacks_part, true) {
            return Err(self.invalid().advise("A part of it was not written: begin it anew"));
        }
        let blocks = std::mem::take(&mut self.blocks);
        let index = table::encode_index(&blocks, ending.as_ref());
        if index.len() > INDEX_BYTES_MAX || self.info.parts.len() >= PARTS_MAX {
            return Err(self.invalid().advise("It is too large"));
        }
        let mut bytes = std::mem::take(&mut self.part);
        bytes.extend_from_slice(&index);
        table::put_trailer(&mut bytes, &index);
        let length = bytes.len() as u64;
        self.put(PartName::next(&self.info, ending.is_some(), length), bytes.freeze()).await?;
        self.lacks_part = false;
        self.info.parts.push(length);
        if let Some(block) = blocks.first() {
            let (first, check) = (Arc::clone(&block.first), table::check_of(&index));
            self.before.push(PartEntry { first, bytes: length, index: index.len() as u32, check });
        }
        Ok(())
    }

    async fn put(&self, name: PartName, bytes: Bytes) -> Result<()> {
        let blob = name.blob(&self.log)?;
        if self.backend.put_blob(&blob, bytes.clone()).await? {
            return Ok(());
        }
        // Ours, if the request was sent twice. Two writers of one tag are as good as impossible, but must not be mixed.
        if self.backend.get_blob(&blob, None).await?.is_some_and(|found| found == bytes) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "writing a snapshot")
            .with("log", &self.log)
            .with("blob", blob.name()))
    }

    fn invalid(&self) -> Error {
        Error::new(ErrorKind::Invalid, "writing a snapshot")
            .with("log", &self.log)
            .with("from", self.info.from)
            .with("to", self.info.to)
    }
}
