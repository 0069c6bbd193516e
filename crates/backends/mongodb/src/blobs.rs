//! Blobs: a document a blob, which holds it or names its parts.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt;
use icecore_log::backend::BlobInfo;
use icecore_log::{BlobId, Error, ErrorKind, LogId, Result};
use mongodb::bson::{Binary, Bson, Document, doc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::fault::{Fault, TAKEN};
use crate::look::ATTEMPTS;
use crate::parts::{self, Parts};
use crate::place::{PAUSE_FIRST, PAUSE_LAST, again};
use crate::slot::{PART_BYTES, binary, crc};
use crate::store::MongoDb;

const WRITING: &str = "writing a blob";
const READING: &str = "reading a blob";

fn id(blob: &BlobId) -> String {
    format!("{}/{}", blob.log(), blob.name())
}

/// What its parts are named by: no version has an empty name.
fn owner(blob: &BlobId) -> String {
    format!("{}//{}", blob.log(), blob.name())
}

fn check(id: &str, bytes: &[u8]) -> i64 {
    crc(&[id.as_bytes(), bytes])
}

pub(crate) async fn put(inner: &MongoDb, blob: &BlobId, bytes: &Bytes, deadline: Instant) -> Result<bool> {
    let (nonce, id, owner) = (parts::nonce(), id(blob), owner(blob));
    let parts = Parts { place: &inner.place, owner: &owner, nonce: &nonce };
    let mut document = doc! {"_id": &id, "n": bytes.len() as i64, "k": &nonce};
    if bytes.len() > PART_BYTES {
        parts.write(bytes, deadline).await.map_err(|fault| fault.writing(WRITING, false))?;
    } else {
        document.extend(doc! {"b": binary(bytes), "bc": check(&id, bytes)});
    }
    let (mut pause, mut in_doubt) = (PAUSE_FIRST, false);
    loop {
        let fault = match timeout_at(deadline, inner.place.blobs.insert_one(&document)).await {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => Fault::late(),
        };
        if fault.is_code(TAKEN) {
            let found = inner.place.settled(&inner.place.blobs, doc! {"_id": &id}, doc! {"b": 0}, deadline);
            let found = found.await.map_err(|fault| fault.writing(WRITING, in_doubt))?;
            // Gone again: it was deleted, or never reached a majority.
            if let Some(found) = found.first() {
                let is_ours = in_doubt && found.get_str("k").is_ok_and(|found| found == nonce);
                if !is_ours && bytes.len() > PART_BYTES {
                    parts.delete(deadline).await.map_err(|fault| fault.reading(WRITING))?;
                }
                return Ok(is_ours);
            }
        } else {
            in_doubt |= fault.is_doubt();
            if !fault.is_passing() || Instant::now() + pause >= deadline {
                return Err(fault.writing(WRITING, in_doubt).with("blob", blob));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

pub(crate) async fn get(
    inner: &MongoDb,
    blob: &BlobId,
    range: Option<Range<u64>>,
    deadline: Instant,
) -> Result<Option<Bytes>> {
    let (id, owner) = (id(blob), owner(blob));
    let wrong = || {
        let error = Error::new(ErrorKind::Corrupt, READING).with("blob", blob);
        error.advise("The blob fails its check or lacks a part: restore it from a copy")
    };
    for _ in 0..ATTEMPTS {
        let found = again(deadline, || async { inner.place.blobs.find_one(doc! {"_id": &id}).await }).await;
        let Some(mut found) = found.map_err(|fault| fault.reading(READING))? else {
            return Ok(None);
        };
        let total = found.get_i64("n").ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(wrong)?;
        let range = range.clone().unwrap_or(0..total);
        match found.remove("b") {
            Some(Bson::Binary(Binary { bytes, .. })) => {
                let is_whole =
                    bytes.len() as u64 == total && found.get_i64("bc").ok() == Some(check(&id, &bytes));
                if !is_whole {
                    return Err(wrong());
                }
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let (start, end) = (at(range.start), at(range.end));
                return Ok(Some(Bytes::copy_from_slice(bytes.get(start..end).unwrap_or_default())));
            }
            Some(_) => return Err(wrong()),
            None => {}
        }
        let nonce = found.get_str("k").map_err(|_| wrong())?;
        let parts = Parts { place: &inner.place, owner: &owner, nonce };
        if let Some(bytes) = parts.read(total, range, READING, deadline).await? {
            return Ok(Some(bytes));
        }
        // It may have been deleted since.
    }
    Err(wrong())
}

pub(crate) async fn list(
    inner: &MongoDb,
    log: &LogId,
    prefix: &str,
    deadline: Instant,
) -> Result<Vec<BlobInfo>> {
    const DOING: &str = "listing blobs";
    let filter = doc! {"_id": {"$gte": format!("{log}/{prefix}"), "$lt": format!("{log}/{prefix}\x7f")}};
    let found = again(deadline, || async {
        let found = inner.place.blobs.find(filter.clone()).sort(doc! {"_id": 1});
        found.projection(doc! {"n": 1}).await?.try_collect::<Vec<Document>>().await
    });
    let info = |found: Document| {
        let name = found.get_str("_id").ok()?.rsplit('/').next()?.to_owned();
        Some(BlobInfo { name, bytes: u64::try_from(found.get_i64("n").ok()?).ok()? })
    };
    let found = found.await.map_err(|fault| fault.reading(DOING))?;
    let wrong = || Error::new(ErrorKind::Corrupt, DOING).with("log", log).advise("A blob has no length");
    found.into_iter().map(|found| info(found).ok_or_else(wrong)).collect()
}

pub(crate) async fn delete(inner: &MongoDb, blob: &BlobId, deadline: Instant) -> Result<()> {
    let (id, owner) = (id(blob), owner(blob));
    let writing = |fault: Fault| fault.writing("deleting a blob", false);
    let named = doc! {"_id": &id};
    let found = again(deadline, || async {
        inner.place.blobs.find_one(named.clone()).projection(doc! {"k": 1}).await
    });
    let found = found.await.map_err(writing)?;
    let nonce = found.as_ref().and_then(|found| found.get_str("k").ok()).unwrap_or_default();
    // That one and no other: somebody may have put one of the same name meanwhile.
    let that = doc! {"_id": &id, "k": nonce};
    again(deadline, || async { inner.place.blobs.delete_one(that.clone()).await }).await.map_err(writing)?;
    if nonce.is_empty() {
        return Ok(());
    }
    Parts { place: &inner.place, owner: &owner, nonce }.delete(deadline).await.map_err(writing)
}
