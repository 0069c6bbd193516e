//! Closing and sweeping logs, and dropping bodies.
//!
//! A put cannot look at a boundary. So what is closed is deleted only when it has been closed for a time of grace, by the service's own
//! clock, and a writer whose look is older than half of it looks at the boundary before it acknowledges.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::judge::head_stays;
use icecore_log::{Error, ErrorKind, LogId, Result, Swept, Timestamp, Version};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fault::Fault;
use crate::item::{self, Item};
use crate::query::{self, Query, sort};
use crate::read;
use crate::store::DynamoDb;

const CLOSING: &str = "closing a log";
const SWEEPING: &str = "sweeping a log";
const DROPPING: &str = "dropping bodies";
/// How many bodies are dropped at once.
const AT_ONCE: usize = 8;
/// Times are whole seconds: a moment may be later than it says.
const SECOND: Duration = Duration::from_secs(1);

/// A change of what a log says of itself, if a condition holds.
fn update(inner: &DynamoDb, log: &LogId, change: &str, condition: &str, values: Value) -> Value {
    json!({
        "TableName": inner.settings.table,
        "Key": item::key(&inner.keys.log(log), item::SELF),
        "UpdateExpression": change,
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
    })
}

/// Sends it; `false` if the condition does not hold.
async fn change(inner: &DynamoDb, request: &Value, doing: &'static str, deadline: Instant) -> Result<bool> {
    let sent = inner.api.send("UpdateItem", request, deadline).await;
    match sent.answer {
        Err(Fault::Condition) => Ok(false),
        _ => sent.written(doing).map(|_| true),
    }
}

pub(crate) async fn close(inner: &DynamoDb, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
    loop {
        let look = read::look(inner, log, CLOSING, deadline).await?;
        if through <= look.boundary {
            return stamp_first(inner, log, deadline).await;
        }
        // A log that has a commit keeps one. One that has none may be closed only as long as it has none.
        let condition = match &look.head {
            Some((head, ..)) if through >= *head => return Err(head_stays(log, through)),
            Some(_) => "(attribute_not_exists(c) OR c < :c)",
            None => "(attribute_not_exists(c) OR c < :c) AND attribute_not_exists(f)",
        };
        let request = update(inner, log, "SET c = :c", condition, json!({ ":c": item::number(through.0) }));
        // Whoever was first may have closed less, or begun the log.
        if change(inner, &request, CLOSING, deadline).await? {
            return stamp_first(inner, log, deadline).await;
        }
        if Instant::now() >= deadline {
            return Err(Fault::late().reading(CLOSING));
        }
    }
}

/// What a log says of when it was closed.
struct Closed {
    boundary: Version,
    /// A boundary that was there at this time, in seconds, and is not swept yet.
    due: Option<(Version, u64)>,
    /// The service's time now, in seconds.
    now: u64,
}

async fn closed(inner: &DynamoDb, log: &LogId, doing: &'static str, deadline: Instant) -> Result<Closed> {
    let key = item::key(&inner.keys.log(log), item::SELF);
    let (found, at) = query::get(inner, key, doing, deadline).await?;
    let at = at.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, doing)
            .advise("The answer has no date, so nobody knows what was closed for long enough")
    })?;
    let found = found.unwrap_or_default();
    let due = item::number_of(&found, "q").zip(item::number_of(&found, "t"));
    let now = at.since(Timestamp(0)).as_secs();
    Ok(Closed {
        boundary: read::boundary_of(&found),
        due: due.map(|(through, at)| (Version(through), at)),
        now,
    })
}

/// Notes since when it is closed, unless something else waits to be swept. The time is one at which the boundary was there for sure.
async fn stamp_first(inner: &DynamoDb, log: &LogId, deadline: Instant) -> Result<()> {
    let closed = closed(inner, log, CLOSING, deadline).await?;
    if closed.due.is_some() || closed.boundary == Version::ZERO {
        return Ok(());
    }
    stamp(inner, log, &closed, CLOSING, deadline).await
}

async fn stamp(
    inner: &DynamoDb,
    log: &LogId,
    closed: &Closed,
    doing: &'static str,
    deadline: Instant,
) -> Result<()> {
    let values = json!({ ":q": item::number(closed.boundary.0), ":t": item::number(closed.now) });
    let request = update(inner, log, "SET q = :q, t = :t", "attribute_not_exists(q)", values);
    change(inner, &request, doing, deadline).await.map(drop)
}

/// Deletes what has been closed for a time of grace. Interrupted anywhere, the next sweep goes on.
pub(crate) async fn sweep(inner: &DynamoDb, log: &LogId) -> Result<Swept> {
    let closed = closed(inner, log, SWEEPING, inner.deadline()).await?;
    let Some((through, at)) = closed.due else {
        if closed.boundary > Version::ZERO {
            stamp(inner, log, &closed, SWEEPING, inner.deadline()).await?;
        }
        return Ok(Swept::default());
    };
    let grace = inner.settings.grace;
    let needed = if grace.is_zero() { grace } else { grace + SECOND };
    if Duration::from_secs(closed.now.saturating_sub(at)) < needed {
        return Ok(Swept::default());
    }
    let mut swept = Swept::default();
    let commits = Query { only: "sk, n, m", ..Query::beginning(inner.keys.log(log), "") };
    let commits = Query { from: item::BEFORE_COMMITS.to_owned(), to: item::slot(through), ..commits };
    delete(inner, &commits, |found| {
        swept.commits += 1;
        swept.bytes += item::number_of(found, "n").unwrap_or(0) + item::number_of(found, "m").unwrap_or(0);
    })
    .await?;
    // Those of these commits, and those of writers that were stopped, or came second.
    let parts = Query { only: "sk", ..Query::beginning(inner.keys.log(log), "b") };
    let parts = Query { to: query::after_all(&item::parts_of(through)), ..parts };
    delete(inner, &parts, |_| ()).await?;
    let values = json!({ ":q": item::number(through.0) });
    let request = update(inner, log, "REMOVE q, t", "q = :q", values);
    change(inner, &request, SWEEPING, inner.deadline()).await?;
    if closed.boundary > through {
        stamp(inner, log, &closed, SWEEPING, inner.deadline()).await?;
    }
    Ok(swept)
}

/// Deletes everything in a range, page by page: each has as much time as a call of its own.
async fn delete(inner: &DynamoDb, range: &Query, mut gone: impl FnMut(&Item)) -> Result<()> {
    if range.from > range.to {
        return Ok(());
    }
    let mut start = None;
    loop {
        let deadline = inner.deadline();
        let found = range.page(inner, start.as_ref(), usize::MAX, SWEEPING, deadline).await?;
        let sorts: Vec<String> = found.items.iter().map(|item| sort(item).to_owned()).collect();
        query::delete(inner, &range.partition, &sorts, SWEEPING, deadline).await?;
        found.items.iter().for_each(&mut gone);
        start = found.next;
        if start.is_none() {
            return Ok(());
        }
    }
}

pub(crate) async fn drop_bodies(
    inner: &DynamoDb,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Result<()> {
    let each: Vec<BoxFuture<'_, Result<()>>> =
        versions.iter().map(|version| drop_body(inner, log, *version, deadline).boxed()).collect();
    stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
}

/// The commit forgets its body first, so that nobody who reads it looks for parts that are gone; then whatever parts there are but
/// those of the header are deleted, those of an earlier try of this too.
async fn drop_body(inner: &DynamoDb, log: &LogId, version: Version, deadline: Instant) -> Result<()> {
    let (partition, doing) = (inner.keys.log(log), DROPPING);
    let request = json!({
        "TableName": inner.settings.table,
        "Key": item::key(&partition, &item::slot(version)),
        "UpdateExpression": "REMOVE b, bp, m",
        "ConditionExpression": "attribute_exists(n)",
        "ReturnValues": "ALL_NEW",
    });
    let sent = inner.api.send("UpdateItem", &request, deadline).await;
    if matches!(sent.answer, Err(Fault::Condition)) {
        return Ok(());
    }
    let answer = sent.written(doing)?;
    let prefix = item::parts_of(version);
    let header = answer.value["Attributes"]["hp"]["S"].as_str().and_then(|named| named.split(':').next());
    let kept = header.map(|nonce| format!("{prefix}{nonce}/"));
    let query = Query { only: "sk", ..Query::beginning(partition.clone(), &prefix) };
    let found = query.all(inner, doing, deadline).await?;
    let is_kept = |sort: &str| kept.as_ref().is_some_and(|kept| sort.starts_with(kept));
    let sorts: Vec<String> =
        found.iter().map(sort).filter(|sort| !is_kept(sort)).map(str::to_owned).collect();
    query::delete(inner, &partition, &sorts, doing, deadline).await
}
