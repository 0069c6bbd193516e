//! Closing, sweeping and dropping bodies: the calls that make history shorter.
//!
//! A log's document has the boundary `b`; a part of it that waits for its time of grace, `p` since `t`; and `w`, through which may be deleted.
//! So it stays as small as it is, however often a log is closed: what is closed while another part waits, waits after it.

use futures_util::TryStreamExt;
use icecore_log::judge::head_stays;
use icecore_log::{LogId, Result, Swept, Version};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use tokio::time::Instant;

use crate::fault::{Fault, TAKEN};
use crate::look;
use crate::parts::Parts;
use crate::place::{Place, again, made, named};
use crate::slot::{self, digits};
use crate::store::MongoDb;

const CLOSING: &str = "closing a log";
const SWEEPING: &str = "sweeping a log";
const DROPPING: &str = "dropping bodies";

/// A number of a log's document.
fn number(field: &str) -> Bson {
    doc! {"$ifNull": [format!("${field}"), digits(Version::ZERO)]}.into()
}

/// What makes a log's document, and raises its boundary to this, if that is higher. The time is the server's.
pub(crate) fn raising(through: Version) -> Vec<Document> {
    let through = digits(through);
    let begins = doc! {"$and": [
        {"$lt": [number("b"), &through]},
        {"$eq": [number("p"), digits(Version::ZERO)]},
    ]};
    vec![doc! {"$set": {
        "b": {"$max": [number("b"), &through]},
        "p": {"$cond": [&begins, &through, number("p")]},
        "t": {"$cond": [&begins, "$$NOW", {"$ifNull": ["$t", Bson::Null]}]},
        "w": number("w"),
    }}]
}

/// What lets what was closed long enough be deleted.
fn releasing(grace_ms: i64) -> Vec<Document> {
    let zero = digits(Version::ZERO);
    let is_due = doc! {"$and": [
        {"$gt": [number("p"), &zero]},
        {"$gte": [{"$subtract": ["$$NOW", "$t"]}, grace_ms]},
    ]};
    let next = doc! {"$cond": [{"$gt": [number("b"), number("p")]}, number("b"), &zero]};
    vec![doc! {"$set": {
        "w": {"$cond": [&is_due, number("p"), number("w")]},
        "p": {"$cond": [&is_due, next, number("p")]},
        "t": {"$cond": [&is_due, "$$NOW", "$t"]},
    }}]
}

pub(crate) async fn raise(
    inner: &MongoDb,
    log: &LogId,
    through: Version,
    deadline: Instant,
) -> Result<(), Fault> {
    let raising = raising(through);
    // Where it changes nothing, it still waits until a majority has what it found.
    again(deadline, || async { inner.place.logs.update_one(named(log), raising.clone()).upsert(true).await })
        .await
        .map(drop)
}

pub(crate) async fn close(inner: &MongoDb, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
    let writing = |fault: Fault| fault.writing(CLOSING, false).with("log", log);
    loop {
        let look = look::look(inner, log, CLOSING, deadline).await?;
        if through <= look.boundary || look.tip.as_ref().is_some_and(|tip| through < tip.last) {
            // Also where it says so already: that may not have reached a majority.
            return raise(inner, log, through.max(look.boundary), deadline).await.map_err(writing);
        }
        if look.tip.is_some() {
            return Err(head_stays(log, through));
        }
        // There is no head that would stop a late first commit: so its slot is taken, by the one thing that decides.
        raise(inner, log, Version::ZERO, deadline).await.map_err(writing)?;
        let void = slot::encode_void(log, look.boundary.next(), through);
        again(deadline, || async { made(inner.place.commits.insert_one(&void).await, TAKEN) })
            .await
            .map_err(writing)?;
        // Looked at again: somebody else may have the slot.
    }
}

pub(crate) async fn sweep(inner: &MongoDb, log: &LogId, deadline: Instant) -> Result<Swept> {
    let writing = |fault: Fault| fault.writing(SWEEPING, false).with("log", log);
    let Place { logs, commits, parts, .. } = &inner.place;
    let releasing = releasing(i64::try_from(inner.settings.grace.as_millis()).unwrap_or(i64::MAX));
    let released = again(deadline, || async {
        logs.find_one_and_update(named(log), releasing.clone()).return_document(ReturnDocument::After).await
    });
    let released = released.await.map_err(writing)?;
    let through = released.as_ref().and_then(|found| found.get_str("w").ok()).and_then(slot::version);
    let Some(through) = through.filter(|through| *through > Version::ZERO) else {
        return Ok(Swept::default());
    };
    // The newest slot stays, though it be closed: a late first commit must find it.
    let all = slot::range(log, Version::ZERO, Version(u64::MAX));
    let newest = again(deadline, || async {
        commits.find_one(all.clone()).sort(doc! {"_id": -1}).projection(doc! {"_id": 1}).await
    });
    let newest = newest.await.map_err(writing)?;
    let newest = newest.as_ref().and_then(|found| found.get_str("_id").ok()?.rsplit_once('/'));
    let Some(newest) = newest.and_then(|(_, digits)| slot::version(digits)) else {
        return Ok(Swept::default());
    };
    let last = through.min(Version(newest.0.saturating_sub(1)));
    let gone = slot::range(log, Version::ZERO, last);
    let swept = measure(inner, gone.clone(), deadline).await.map_err(writing)?;
    again(deadline, || async { commits.delete_many(gone.clone()).await }).await.map_err(writing)?;
    // What was written for a commit that never came about is named by its version too.
    let ends = doc! {"_id": {"$gte": slot::id(log, Version::ZERO), "$lt": slot::id(log, last.next())}};
    again(deadline, || async { parts.delete_many(ends.clone()).await }).await.map_err(writing)?;
    Ok(swept)
}

async fn measure(inner: &MongoDb, filter: Document, deadline: Instant) -> Result<Swept, Fault> {
    let count = doc! {"$sum": {"$cond": [{"$gt": ["$v", Bson::Null]}, 0_i64, 1_i64]}};
    let group = doc! {"$group": {"_id": Bson::Null, "commits": count, "bytes": {"$sum": "$s"}}};
    let pipeline = [doc! {"$match": filter}, group];
    let found = again(deadline, || async {
        inner.place.commits.aggregate(pipeline.clone()).await?.try_collect::<Vec<Document>>().await
    });
    let found = found.await?;
    let number = |field: &str| {
        found
            .first()
            .and_then(|found| found.get_i64(field).ok())
            .and_then(|number| u64::try_from(number).ok())
    };
    Ok(Swept { commits: number("commits").unwrap_or(0), bytes: number("bytes").unwrap_or(0) })
}

/// How many commits' bodies are dropped in a request.
const DROPPED: usize = 1_000;

pub(crate) async fn drop_bodies(
    inner: &MongoDb,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Result<()> {
    let writing = |fault: Fault| fault.writing(DROPPING, false).with("log", log);
    for versions in versions.chunks(DROPPED) {
        let ids: Vec<String> = versions.iter().map(|version| slot::id(log, *version)).collect();
        let large = doc! {"_id": {"$in": &ids}, "k": {"$exists": true}};
        let large = again(deadline, || async {
            let found = inner.place.commits.find(large.clone()).projection(doc! {"k": 1}).await?;
            found.try_collect::<Vec<Document>>().await
        });
        let large = large.await.map_err(writing)?;
        // A void slot has no header.
        let named = doc! {"_id": {"$in": &ids}, "h": {"$exists": true}};
        let less = vec![
            doc! {"$set": {"s": {"$toLong": {"$binarySize": "$h"}}}},
            doc! {"$unset": ["b", "bc", "n", "k"]},
        ];
        again(deadline, || async { inner.place.commits.update_many(named.clone(), less.clone()).await })
            .await
            .map_err(writing)?;
        for found in large {
            if let (Ok(owner), Ok(nonce)) = (found.get_str("_id"), found.get_str("k")) {
                Parts { place: &inner.place, owner, nonce }.delete(deadline).await.map_err(writing)?;
            }
        }
    }
    Ok(())
}
