//! What is too large for an item, in parts: written under a name of their own before the item that names them.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::{Error, Result};
use serde_json::json;
use tokio::time::Instant;

use crate::item::{self, Item, Place};
use crate::query;
use crate::store::DynamoDb;

/// Bytes of a part: with its keys, what an item may have is 400 KB.
pub(crate) const PART_BYTES: usize = 384 << 10;
/// The longest header, body or blob that is not in parts. A header and a body fit into an item together.
pub(crate) const INLINE_BYTES: usize = 128 << 10;
/// How many parts of one thing are sent, or asked for, at once.
const AT_ONCE: usize = 8;

/// Where parts are, and how long they are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub nonce: String,
    pub bytes: u64,
}

impl Parts {
    pub fn new(bytes: usize) -> Self {
        Self { nonce: item::nonce(), bytes: bytes as u64 }
    }

    /// What an item says of them.
    pub fn named(&self) -> String {
        format!("{}:{}", self.nonce, self.bytes)
    }

    /// The parts that an attribute names.
    pub fn of(item: &Item, name: &str) -> Option<Self> {
        let (nonce, bytes) = item::string_of(item, name)?.split_once(':')?;
        Some(Self { nonce: nonce.to_owned(), bytes: bytes.parse().ok()? })
    }

    fn count(&self) -> u64 {
        self.bytes.div_ceil(PART_BYTES as u64)
    }

    fn sort(&self, prefix: &str, number: u64) -> String {
        format!("{prefix}{}/{number:08x}", self.nonce)
    }

    /// The sort keys of all.
    pub fn sorts(&self, prefix: &str) -> Vec<String> {
        (0..self.count()).map(|number| self.sort(prefix, number)).collect()
    }

    /// Writes them, below a beginning of sort keys. Nothing has them yet: however it goes, nothing was written that is seen.
    pub async fn write(
        &self,
        inner: &DynamoDb,
        partition: &str,
        prefix: &str,
        bytes: &Bytes,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<()> {
        let put = |(number, part): (u64, &[u8])| -> BoxFuture<'_, Result<()>> {
            let mut item = item::key(partition, &self.sort(prefix, number));
            item.insert("d".to_owned(), Place::part(&self.nonce, number).value(part));
            let request = json!({ "TableName": inner.settings.table, "Item": item });
            async move { inner.api.read("PutItem", &request, doing, deadline).await.map(drop) }.boxed()
        };
        let puts: Vec<_> = (0..).zip(bytes.chunks(PART_BYTES)).map(put).collect();
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Reads the bytes of a range; `None` if a part is not there, or not any more.
    pub async fn read(
        &self,
        inner: &DynamoDb,
        partition: &str,
        prefix: &str,
        range: Option<Range<u64>>,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        let size = PART_BYTES as u64;
        let range = within(range, self.bytes);
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let (first, behind) = (range.start / size, range.end.div_ceil(size));
        let get = |number: u64| -> BoxFuture<'_, Result<Option<Bytes>>> {
            let key = item::key(partition, &self.sort(prefix, number));
            async move {
                let Some(item) = query::get(inner, key, doing, deadline).await?.0 else { return Ok(None) };
                let part = Place::part(&self.nonce, number).content(&item, "d");
                let expected = (self.bytes - number * size).min(size);
                let part = part.filter(|part| part.len() as u64 == expected);
                part.map(Some).ok_or_else(|| damaged(doing, number))
            }
            .boxed()
        };
        let gets: Vec<_> = (first..behind).map(get).collect();
        let mut parts = stream::iter(gets).buffered(AT_ONCE);
        let mut content = Vec::new();
        while let Some(part) = parts.try_next().await? {
            let Some(part) = part else { return Ok(None) };
            content.extend_from_slice(&part);
        }
        // What is wanted lies within what was read, which fits in memory.
        let offset = first * size;
        Ok(Some(Bytes::from(content).slice((range.start - offset) as usize..(range.end - offset) as usize)))
    }
}

/// What there is of a range.
pub(crate) fn within(range: Option<Range<u64>>, bytes: u64) -> Range<u64> {
    let range = range.unwrap_or(0..bytes);
    let end = range.end.min(bytes);
    range.start.min(end)..end
}

fn damaged(doing: &'static str, part: u64) -> Error {
    Error::new(icecore_log::ErrorKind::Corrupt, doing)
        .with("part", part)
        .advise("A part fails its check: restore it from a copy")
}
