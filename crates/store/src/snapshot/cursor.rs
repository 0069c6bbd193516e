//! Reading the records of a snapshot in order, a block at a time.

use std::ops::Bound;

use bytes::Bytes;
use icecore_log::{Backend, Result};

use super::reader::{PartBlocks, Snapshot};
use super::record::{Block, Record};

/// The most bytes that are read in one request, unless one block has more.
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// The second request of a cursor reads so much; the first only the block that is needed.
const AHEAD_BYTES: u64 = 128 << 10;

/// Records from a key on. Keeps one block in memory, and what was read ahead of it.
#[derive(Debug)]
pub(crate) struct Cursor {
    snapshot: Snapshot,
    first: Bound<Box<str>>,
    /// The part that is being read; `None` before the first look.
    of: Option<PartBlocks>,
    /// The next block to read.
    number: usize,
    block: Option<Block>,
    /// Stored bytes of the part, from `ahead_from` on.
    ahead: Bytes,
    ahead_from: u64,
    /// How much the next request reads, if there is so much.
    ahead_bytes: u64,
}

impl Cursor {
    pub(super) fn new(snapshot: Snapshot, first: Bound<&str>) -> Self {
        Self {
            snapshot,
            first: first.map(Box::from),
            of: None,
            number: 0,
            block: None,
            ahead: Bytes::new(),
            ahead_from: 0,
            ahead_bytes: 0,
        }
    }

    /// Reads much at once from the first request on: for who reads to the end.
    #[must_use]
    pub fn reading_to_the_end(self) -> Self {
        Self { ahead_bytes: AHEAD_BYTES_MAX, ..self }
    }

    /// The snapshot that it reads.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The next record; `None` behind the last.
    ///
    /// # Errors
    /// [`Corrupt`](icecore_log::ErrorKind::Corrupt) if the snapshot is damaged, [`NotFound`](icecore_log::ErrorKind::NotFound) if
    /// it was deleted meanwhile. What came before was right, but what comes next is not known.
    pub async fn next(&mut self, backend: &dyn Backend) -> Result<Option<Record>> {
        loop {
            while let (Some(block), Some(of)) = (&mut self.block, &self.of) {
                match block.next().map_err(|damage| self.snapshot.damaged(of.part, damage))? {
                    Some(record) if is_before(&record.key, &self.first) => {}
                    Some(record) => return Ok(Some(record)),
                    None => self.block = None,
                }
            }
            if !self.load(backend).await? {
                return Ok(None);
            }
        }
    }

    /// Reads all that is left, to see whether it is whole.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn pass_over(mut self, backend: &dyn Backend) -> Result<()> {
        while self.next(backend).await?.is_some() {}
        Ok(())
    }

    /// Reads the next block; `false` behind the last.
    async fn load(&mut self, backend: &dyn Backend) -> Result<bool> {
        let mut of = match self.of.take() {
            Some(of) => of,
            None => {
                let (Bound::Included(key) | Bound::Excluded(key)) = &self.first else {
                    return self.enter(backend, "").await;
                };
                let key = key.clone();
                return self.enter(backend, &key).await;
            }
        };
        if self.number == of.blocks.len() {
            if of.part + 1 == self.snapshot.parts() {
                self.of = Some(of);
                return Ok(false);
            }
            self.of = Some(of.clone());
            of = self.snapshot.part(backend, of.part + 1).await?;
            (self.number, self.ahead, self.ahead_from) = (0, Bytes::new(), 0);
        }
        self.of = Some(of.clone());
        self.read(backend, &of).await?;
        Ok(true)
    }

    /// Finds the block where the reading begins, and reads it.
    async fn enter(&mut self, backend: &dyn Backend, key: &str) -> Result<bool> {
        let Some((of, number)) = self.snapshot.seek(backend, key).await? else {
            return Ok(false);
        };
        self.number = number;
        self.of = Some(of.clone());
        self.read(backend, &of).await?;
        Ok(true)
    }

    async fn read(&mut self, backend: &dyn Backend, of: &PartBlocks) -> Result<()> {
        let entry = &of.blocks[self.number];
        if entry.end() > self.ahead_from + self.ahead.len() as u64 {
            // What is in memory anyway is not read again.
            let tail_from = self.snapshot.tail_from(of.part);
            let wanted = of.blocks[self.number + 1..]
                .iter()
                .take_while(|next| {
                    next.end() - entry.offset <= self.ahead_bytes
                        && (next.offset < tail_from || entry.offset >= tail_from)
                })
                .last();
            let end = wanted.unwrap_or(entry).end();
            // What was read ahead before is let go first.
            self.ahead = Bytes::new();
            self.ahead = self.snapshot.fetch(backend, of.part, entry.offset..end).await?;
            self.ahead_from = entry.offset;
            let twice = self.ahead.len() as u64 * 2;
            self.ahead_bytes = self.ahead_bytes.max(twice.clamp(AHEAD_BYTES, AHEAD_BYTES_MAX));
        }
        let start = (entry.offset - self.ahead_from) as usize;
        let stored = self.ahead.slice(start..start + entry.stored as usize);
        self.block = Some(self.snapshot.block(of, self.number, stored)?);
        self.number += 1;
        Ok(())
    }
}

fn is_before(key: &str, first: &Bound<Box<str>>) -> bool {
    match first {
        Bound::Included(first) => key < &**first,
        Bound::Excluded(first) => key <= &**first,
        Bound::Unbounded => false,
    }
}
