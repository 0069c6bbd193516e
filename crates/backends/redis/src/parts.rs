//! Large bodies and blobs, in parts: kept under a name of their own first, and given their place by the script that decides.

use std::ops::Range;

use bytes::Bytes;
use icecore_log::{BlobId, Error, ErrorKind, SystemEntropy, clock};
use redis::Value;
use tokio::time::Instant;

use crate::answer;
use crate::call::Call;
use crate::fault::Fault;
use crate::keys::{self, Bucket};
use crate::script;
use crate::store::Redis;

/// Bytes of a part; and the longest body that is not in parts.
pub(crate) const PART_BYTES: usize = 512 << 10;
/// How many parts are sent, or asked for, at once.
const AT_ONCE: usize = 8;
/// How long parts that nobody has claimed are kept, in seconds.
const KEPT_S: u32 = 3_600;
/// The fields beside the parts: the length, and the name.
const OTHER_FIELDS: usize = 2;

/// A name that nobody else gives.
pub(crate) fn nonce() -> String {
    format!("{:032x}", u128::from_le_bytes(clock::random(&SystemEntropy)))
}

/// How many fields the parts of so many bytes have.
pub(crate) fn fields(bytes: usize) -> usize {
    bytes.div_ceil(PART_BYTES) + OTHER_FIELDS
}

fn digits(number: impl ToString) -> Bytes {
    number.to_string().into()
}

/// Keeps the parts of this under a name, without a place yet.
pub(crate) async fn stage(
    inner: &Redis,
    bucket: Bucket,
    nonce: &str,
    bytes: &Bytes,
    doing: &'static str,
    deadline: Instant,
) -> Result<(), Error> {
    let call = |fields: Vec<Bytes>| {
        let arguments = [vec![digits(KEPT_S)], fields].concat();
        Call::script(bucket, &script::STAGE, [inner.keys.staged(bucket, nonce)], arguments)
    };
    let named =
        [Bytes::from("n"), digits(bytes.len()), Bytes::from("i"), Bytes::copy_from_slice(nonce.as_bytes())];
    let mut calls = vec![call(named.to_vec())];
    let parts: Vec<&[u8]> = bytes.chunks(PART_BYTES).collect();
    for (first, group) in (0_u64..).step_by(AT_ONCE).zip(parts.chunks(AT_ONCE)) {
        let part =
            |(number, bytes): (u64, &&[u8])| call(vec![digits(number), keys::part(nonce, number, bytes)]);
        calls.extend((first..).zip(group).map(part));
        send(inner, &std::mem::take(&mut calls), doing, deadline).await?;
    }
    if calls.is_empty() { Ok(()) } else { send(inner, &calls, doing, deadline).await }
}

async fn send(inner: &Redis, calls: &[Call], doing: &'static str, deadline: Instant) -> Result<(), Error> {
    for answer in inner.write_unconfirmed(calls, deadline).await {
        // Nothing of it has a place: however it went, nothing was written.
        answer.value.map_err(|fault| fault.reading(doing))?;
    }
    Ok(())
}

/// Where parts are: of a body or of a blob.
pub(crate) struct Parts {
    pub bucket: Bucket,
    pub key: Bytes,
    pub what: String,
}

impl Parts {
    pub fn of_blob(inner: &Redis, blob: &BlobId) -> Self {
        Self { bucket: Bucket::of(blob.log()), key: inner.keys.blob(blob), what: blob.to_string() }
    }

    fn damaged(&self, doing: &'static str) -> Error {
        Error::new(ErrorKind::Corrupt, doing)
            .with("parts_of", &self.what)
            .advise("A part is missing or fails its check: restore it from a copy")
    }

    async fn get(
        &self,
        inner: &Redis,
        fields: impl Iterator<Item = Bytes>,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let arguments: Vec<Bytes> = std::iter::once(self.key.clone()).chain(fields).collect();
        let call = Call::command(self.bucket, "HMGET", arguments);
        let value = inner.read_one(call, doing, deadline).await?;
        let values = answer::list(value).ok_or_else(|| Fault::answer().reading(doing))?;
        Ok(values.into_iter().map(answer::bytes).collect())
    }

    /// Reads the part of a range that there is; `None` if there are no parts, or none any more.
    pub async fn read(
        &self,
        inner: &Redis,
        range: Option<Range<u64>>,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Error> {
        let named =
            self.get(inner, [Bytes::from("n"), Bytes::from("i")].into_iter(), doing, deadline).await?;
        let Ok([Some(length), Some(name)]) = <[_; 2]>::try_from(named) else { return Ok(None) };
        let length = answer::number(Value::BulkString(length)).ok_or_else(|| self.damaged(doing))?;
        let nonce = String::from_utf8(name).map_err(|_| self.damaged(doing))?;
        let range = range.unwrap_or(0..length);
        let end = range.end.min(length);
        let start = range.start.min(end);
        if start == end {
            return Ok(Some(Bytes::new()));
        }
        let part_bytes = PART_BYTES as u64;
        let (mut content, first, behind) = (Vec::new(), start / part_bytes, end.div_ceil(part_bytes));
        let mut at = first;
        while at < behind {
            let until = behind.min(at + AT_ONCE as u64);
            let wanted = std::iter::once(Bytes::from("i")).chain((at..until).map(digits));
            let mut found = self.get(inner, wanted, doing, deadline).await?.into_iter();
            // Deleted meanwhile; what has its place now is another.
            if found.next().flatten().as_deref() != Some(nonce.as_bytes()) {
                return Ok(None);
            }
            for (number, part) in (at..until).zip(found) {
                let part = part.and_then(|part| keys::part_content(&nonce, number, part));
                let part = part.ok_or_else(|| self.damaged(doing))?;
                let expected = (length - number * part_bytes).min(part_bytes);
                if part.len() as u64 != expected {
                    return Err(self.damaged(doing));
                }
                content.extend_from_slice(&part);
            }
            at = until;
        }
        // What is wanted lies within what was read, which fits in memory.
        let offset = first * part_bytes;
        Ok(Some(Bytes::from(content).slice((start - offset) as usize..(end - offset) as usize)))
    }
}
