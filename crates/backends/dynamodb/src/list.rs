//! Listing logs: tenants one after the other, and of each the names in order, out of its buckets.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt, stream};
use icecore_log::{Cursor, Error, ErrorKind, LogId, LogPage, LogPrefix, Result};
use tokio::time::Instant;

use crate::item::{self, BUCKETS};
use crate::query::{Query, after_all, sort};
use crate::store::DynamoDb;

const LISTING: &str = "listing logs";
/// The most names of a page.
pub(crate) const NAMES_MAX: usize = 1_000;

pub(crate) async fn logs(
    inner: &DynamoDb,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
    deadline: Instant,
) -> Result<LogPage> {
    let limit = limit.clamp(1, NAMES_MAX);
    let after =
        cursor.map(|cursor| LogId::parse(cursor.name()?).map_err(|_| Cursor::foreign())).transpose()?;
    let mut logs = Vec::new();
    for tenant in tenants(inner, prefix, after.as_ref(), deadline).await? {
        // One more than the page holds tells whether there is another page.
        let left = limit + 1 - logs.len();
        if left == 0 {
            break;
        }
        let mut found = names(inner, &tenant, prefix, after.as_ref(), left, deadline).await?;
        found.sort_unstable();
        logs.extend(found.into_iter().take(left));
    }
    let is_more = logs.len() > limit;
    logs.truncate(limit);
    let next = logs.last().filter(|_| is_more).map(|log| Cursor(log.as_str().to_owned().into()));
    Ok(LogPage { logs, next })
}

/// The tenants that have such logs, from that of the cursor on.
async fn tenants(
    inner: &DynamoDb,
    prefix: &LogPrefix,
    after: Option<&LogId>,
    deadline: Instant,
) -> Result<Vec<String>> {
    let start = prefix.as_str();
    if start.contains('/') {
        return Ok(vec![item::tenant(start).to_owned()]);
    }
    let from = after.map_or(start, |after| item::tenant(after.as_str())).max(start);
    // A sort key is never empty: a space stands before all names.
    let from = if from.is_empty() { " " } else { from };
    let query = Query { only: "sk", ..Query::beginning(inner.keys.tenants(), start) };
    let query = Query { from: from.to_owned(), ..query };
    let found = query.all(inner, LISTING, deadline).await?;
    Ok(found.iter().map(|item| sort(item).to_owned()).collect())
}

/// The first names of a tenant, so many out of each bucket.
async fn names(
    inner: &DynamoDb,
    tenant: &str,
    prefix: &LogPrefix,
    after: Option<&LogId>,
    limit: usize,
    deadline: Instant,
) -> Result<Vec<LogId>> {
    let start = match prefix.as_str() {
        start if start.contains('/') => start.to_owned(),
        _ => format!("{tenant}/"),
    };
    // A space stands before everything that may follow a name in a longer one.
    let from = after
        .map(|after| format!("{after} "))
        .filter(|after| *after > start)
        .unwrap_or_else(|| start.clone());
    let bucket = |bucket: u32| -> BoxFuture<'_, Result<Vec<LogId>>> {
        let query = Query { limit, only: "sk", ..Query::beginning(inner.keys.names(tenant, bucket), &start) };
        let query = Query { from: from.clone(), to: after_all(&start), ..query };
        async move {
            let found = query.all(inner, LISTING, deadline).await?;
            let name = |name: &str| {
                let invalid = Error::new(ErrorKind::Corrupt, LISTING).with("log", name);
                LogId::parse(name).map_err(|_| invalid.advise("A log has no valid name"))
            };
            found.iter().map(|item| name(sort(item))).collect()
        }
        .boxed()
    };
    let buckets: Vec<_> = (0..BUCKETS).map(bucket).collect();
    let found: Vec<Vec<LogId>> =
        stream::iter(buckets).buffer_unordered(BUCKETS as usize).try_collect().await?;
    Ok(found.concat())
}
