//! Blobs: an item each that is put if it is absent, with their bytes or the name of their parts.

use std::ops::Range;

use bytes::Bytes;
use icecore_log::backend::BlobInfo;
use icecore_log::{BlobId, Error, ErrorKind, LogId, Result};
use serde_json::json;
use tokio::time::Instant;

use crate::api::unreadable;
use crate::fault::Fault;
use crate::item::{self, Item, Place};
use crate::parts::{INLINE_BYTES, Parts, within};
use crate::query::{self, Query, sort};
use crate::read::ATTEMPTS;
use crate::store::DynamoDb;

const PUTTING: &str = "writing a blob";
const GETTING: &str = "reading a blob";
const DELETING: &str = "deleting a blob";
/// What the sort keys of parts begin with.
const PARTS: &str = "p";
/// What the sort keys of blobs begin with.
const BLOBS: &str = "n";

/// Whether it is being deleted: nobody sees it any more.
fn is_gone(item: &Item) -> bool {
    item.contains_key("g")
}

fn key(inner: &DynamoDb, blob: &BlobId) -> Item {
    item::key(&inner.keys.blobs(blob.log()), &item::blob(blob))
}

pub(crate) async fn put(inner: &DynamoDb, blob: &BlobId, bytes: &Bytes, deadline: Instant) -> Result<bool> {
    let partition = inner.keys.blobs(blob.log());
    let parts = Parts::new(bytes.len());
    let mut item = key(inner, blob);
    item.insert("u".to_owned(), item::string(parts.named()));
    if bytes.len() > INLINE_BYTES {
        parts.write(inner, &partition, PARTS, bytes, PUTTING, deadline).await?;
    } else {
        item.insert("d".to_owned(), Place::blob(blob).value(bytes));
    }
    let request = json!({
        "TableName": inner.settings.table,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk)",
    });
    for _ in 0..ATTEMPTS {
        let sent = inner.api.send("PutItem", &request, deadline).await;
        if !matches!(sent.answer, Err(Fault::Condition)) {
            return sent.written(PUTTING).map(|_| true);
        }
        let Some(found) = query::get(inner, key(inner, blob), PUTTING, deadline).await?.0 else { continue };
        if Parts::of(&found, "u").as_ref() == Some(&parts) {
            // Ours, of a try whose answer was lost.
            return Ok(true);
        }
        if is_gone(&found) {
            finish(inner, blob, &found, deadline).await?;
            continue;
        }
        if bytes.len() > INLINE_BYTES {
            query::delete(inner, &partition, &parts.sorts(PARTS), PUTTING, deadline).await?;
        }
        return Ok(false);
    }
    Err(Error::new(ErrorKind::Unavailable, PUTTING)
        .with("log", blob.log())
        .with("blob", blob.name())
        .advise("Others make and delete it again and again. Nothing was written: retry"))
}

/// Reads it, or the part of a range that it has. What names parts that are gone was deleted meanwhile, and is looked at again.
pub(crate) async fn get(
    inner: &DynamoDb,
    blob: &BlobId,
    range: Option<Range<u64>>,
    deadline: Instant,
) -> Result<Option<Bytes>> {
    let damaged = || {
        Error::new(ErrorKind::Corrupt, GETTING)
            .with("log", blob.log())
            .with("blob", blob.name())
            .advise("It fails its check, or a part of it is missing: restore it from a copy")
    };
    for _ in 0..ATTEMPTS {
        let found = query::get(inner, key(inner, blob), GETTING, deadline).await?.0;
        let Some(found) = found.filter(|found| !is_gone(found)) else { return Ok(None) };
        if found.contains_key("d") {
            let bytes = Place::blob(blob).content(&found, "d").ok_or_else(damaged)?;
            let range = within(range, bytes.len() as u64);
            // It lies within bytes that are in memory.
            return Ok(Some(bytes.slice(range.start as usize..range.end as usize)));
        }
        let parts = Parts::of(&found, "u").ok_or_else(damaged)?;
        let partition = inner.keys.blobs(blob.log());
        let read = parts.read(inner, &partition, PARTS, range.clone(), GETTING, deadline).await;
        let read = read.map_err(|error| error.with("log", blob.log()).with("blob", blob.name()))?;
        if read.is_some() {
            return Ok(read);
        }
    }
    Err(damaged())
}

pub(crate) async fn list(
    inner: &DynamoDb,
    log: &LogId,
    prefix: &str,
    deadline: Instant,
) -> Result<Vec<BlobInfo>> {
    const LISTING: &str = "listing blobs";
    let names = format!("{BLOBS}{prefix}");
    let query = Query { only: "sk, u, g", ..Query::beginning(inner.keys.blobs(log), &names) };
    let found = query.all(inner, LISTING, deadline).await?;
    let info = |found: &Item| {
        let name = sort(found).strip_prefix(BLOBS)?.to_owned();
        Some(BlobInfo { name, bytes: Parts::of(found, "u")?.bytes })
    };
    let seen = found.iter().filter(|found| !is_gone(found));
    seen.map(|found| info(found).ok_or_else(|| unreadable(LISTING))).collect()
}

/// Marks it first, so that nobody reads it while its parts go; whoever finds the mark goes on.
pub(crate) async fn delete(inner: &DynamoDb, blob: &BlobId, deadline: Instant) -> Result<()> {
    let Some(found) = query::get(inner, key(inner, blob), DELETING, deadline).await?.0 else { return Ok(()) };
    let request = json!({
        "TableName": inner.settings.table,
        "Key": key(inner, blob),
        "UpdateExpression": "SET g = :g",
        "ConditionExpression": "u = :u",
        "ExpressionAttributeValues": { ":g": item::number(1), ":u": found.get("u") },
    });
    let sent = inner.api.send("UpdateItem", &request, deadline).await;
    match sent.answer {
        // It is another by now, which came after the one that was to be deleted.
        Err(Fault::Condition) => Ok(()),
        _ => {
            sent.written(DELETING)?;
            finish(inner, blob, &found, deadline).await
        }
    }
}

/// Deletes what is marked: its parts, and then itself.
async fn finish(inner: &DynamoDb, blob: &BlobId, found: &Item, deadline: Instant) -> Result<()> {
    let partition = inner.keys.blobs(blob.log());
    if let Some(parts) = Parts::of(found, "u").filter(|_| !found.contains_key("d")) {
        query::delete(inner, &partition, &parts.sorts(PARTS), DELETING, deadline).await?;
    }
    let request = json!({
        "TableName": inner.settings.table,
        "Key": key(inner, blob),
        "ConditionExpression": "u = :u",
        "ExpressionAttributeValues": { ":u": found.get("u") },
    });
    let sent = inner.api.send("DeleteItem", &request, deadline).await;
    match sent.answer {
        Err(Fault::Condition) => Ok(()),
        _ => sent.written(DELETING).map(drop),
    }
}
