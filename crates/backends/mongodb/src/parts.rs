//! Large bodies and blobs, in parts under a name of their own, which are written before what names them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use icecore_log::{Error, ErrorKind, Result, SystemEntropy, clock};
use mongodb::bson::{Binary, Bson, Document, doc};
use tokio::time::Instant;

use crate::fault::{Fault, TAKEN};
use crate::place::{Place, again, below, made};
use crate::slot::{PART_BYTES, binary, crc};

/// A name that nobody else gives.
pub(crate) fn nonce() -> String {
    format!("{:032x}", u128::from_le_bytes(clock::random(&SystemEntropy)))
}

/// The parts of a body or a blob: `owner` is the commit's or the blob's own name.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub place: &'a Place,
    pub owner: &'a str,
    pub nonce: &'a str,
}

impl Parts<'_> {
    fn prefix(&self) -> String {
        format!("{}/{}", self.owner, self.nonce)
    }

    fn id(&self, number: u64) -> String {
        format!("{}/{number:08x}", self.prefix())
    }

    fn check(&self, number: u64, bytes: &[u8]) -> i64 {
        crc(&[self.nonce.as_bytes(), &number.to_le_bytes(), bytes])
    }

    pub async fn write(&self, bytes: &[u8], deadline: Instant) -> Result<(), Fault> {
        for (number, part) in (0..).zip(bytes.chunks(PART_BYTES)) {
            let document = doc! {"_id": self.id(number), "d": binary(part), "c": self.check(number, part)};
            // If it is there, it is of an earlier try: nobody else gives this name.
            again(deadline, || async { made(self.place.parts.insert_one(&document).await, TAKEN) }).await?;
        }
        Ok(())
    }

    /// These bytes of `total`; `None` if a part of them is not there.
    pub async fn read(
        &self,
        total: u64,
        range: Range<u64>,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        let (start, end) = (range.start.min(total), range.end.min(total));
        if start >= end {
            return Ok(Some(Bytes::new()));
        }
        let part_bytes = PART_BYTES as u64;
        let (first, last) = (start / part_bytes, (end - 1) / part_bytes);
        let filter = doc! {"_id": {"$gte": self.id(first), "$lte": self.id(last)}};
        let found = again(deadline, || async {
            let cursor = self.place.parts.find(filter.clone()).sort(doc! {"_id": 1}).batch_size(2).await?;
            cursor.try_collect::<Vec<Document>>().await
        });
        let found = found.await.map_err(|fault| fault.reading(doing))?;
        if found.len() as u64 != last - first + 1 {
            return Ok(None);
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(end - first * part_bytes).unwrap_or(0));
        for (number, mut part) in (first..).zip(found) {
            let wrong = || {
                Error::new(ErrorKind::Corrupt, doing)
                    .with("part", self.id(number))
                    .advise("A part fails its check: restore it from a copy")
            };
            let content = match part.remove("d") {
                Some(Bson::Binary(Binary { bytes, .. })) => bytes,
                _ => return Err(wrong()),
            };
            let whole = part_bytes.min(total - number * part_bytes);
            if part.get_i64("c").ok() != Some(self.check(number, &content)) || content.len() as u64 != whole {
                return Err(wrong());
            }
            bytes.extend_from_slice(&content);
        }
        let offset = |at: u64| usize::try_from(at - first * part_bytes).unwrap_or(usize::MAX);
        Ok(Some(bytes.freeze().slice(offset(start)..offset(end))))
    }

    pub async fn delete(&self, deadline: Instant) -> Result<(), Fault> {
        let filter = below(&self.prefix());
        again(deadline, || async { self.place.parts.delete_many(filter.clone()).await }).await.map(drop)
    }
}
