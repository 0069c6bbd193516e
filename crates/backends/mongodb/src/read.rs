//! Pages, heads and listings.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::{
    Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Page, PageLimit, Result, StoredCommit, Version,
};
use mongodb::bson::{Document, doc};
use tokio::time::{Instant, timeout_at};

use crate::fault::Fault;
use crate::look::{self, ATTEMPTS};
use crate::parts::Parts;
use crate::place::{again, named};
use crate::slot::{self, Body, Slot};
use crate::store::MongoDb;

pub(crate) const READING: &str = "reading a log";
const LISTING: &str = "listing logs";
/// Requests of one call that are under way at once.
pub(crate) const AT_ONCE: usize = 16;
/// How many logs are asked about in one request.
const ASKED: usize = 100;

pub(crate) async fn page(
    inner: &MongoDb,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<Page> {
    let from = from.max(Version::FIRST);
    for _ in 0..ATTEMPTS {
        // The boundary last: what is missing from the page was closed if it says so, and was not there if it does not.
        let (commits, stopped) = commits(inner, log, from, limit, deadline).await?;
        let marked = again(deadline, || async { inner.place.logs.find_one(named(log)).await }).await;
        let marked = look::boundary(marked.map_err(|fault| fault.reading(READING))?.as_ref());
        let boundary = marked.unwrap_or(Version::ZERO);
        if from <= boundary {
            return Ok(Page { commits: Vec::new(), boundary });
        }
        match stopped {
            _ if !commits.is_empty() => return Ok(Page { commits, boundary }),
            Stopped::End => return Ok(Page { commits, boundary }),
            Stopped::Void(through) => return Ok(Page { commits, boundary: boundary.max(through) }),
            Stopped::Damaged(error) => return Err(error),
            Stopped::Hole => {}
        }
    }
    Err(slot::missing(log, from, READING))
}

/// Why a page has no more commits.
enum Stopped {
    /// The log or the limit ends.
    End,
    Void(Version),
    Damaged(Error),
    /// A commit or its parts are not there: deleted since, or lost.
    Hole,
}

async fn commits(
    inner: &MongoDb,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<(Vec<StoredCommit>, Stopped)> {
    let most = limit.commits.max(1);
    let filter = slot::range(log, from, Version(u64::MAX));
    let without = if limit.bodies { Document::new() } else { look::without_bodies() };
    let opened = again(deadline, || async {
        let found = inner.place.commits.find(filter.clone()).sort(doc! {"_id": 1});
        found.projection(without.clone()).limit(i64::try_from(most).unwrap_or(i64::MAX)).await
    });
    let mut cursor = opened.await.map_err(|fault| fault.reading(READING))?;
    let (mut commits, mut bytes, mut next) = (Vec::new(), 0, from);
    while commits.len() < most && bytes < limit.bytes.max(1) {
        let found = match timeout_at(deadline, cursor.try_next()).await {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => break,
            // What was read is a page.
            Ok(Err(_)) | Err(_) if !commits.is_empty() => break,
            Ok(Err(error)) => return Err(Fault::from(error).reading(READING)),
            Err(_) => return Err(Fault::late().reading(READING)),
        };
        let (version, header, body) = match slot::decode(log, found, READING) {
            Ok(Slot::Commit { version, header, body }) => (version, header, body),
            Ok(Slot::Void { through, .. }) => return Ok((commits, Stopped::Void(through))),
            Err(error) => return Ok((commits, Stopped::Damaged(error))),
        };
        if version != next {
            return Ok((commits, Stopped::Hole));
        }
        let body = match body {
            Body::Parts { nonce, bytes } if limit.bodies => {
                let id = slot::id(log, version);
                let parts = Parts { place: &inner.place, owner: &id, nonce: &nonce };
                match parts.read(bytes, 0..bytes, READING, deadline).await {
                    Ok(Some(body)) => Some(body),
                    Ok(None) => return Ok((commits, Stopped::Hole)),
                    Err(error) => return Ok((commits, Stopped::Damaged(error))),
                }
            }
            Body::Here(body) => Some(body),
            Body::Parts { .. } | Body::None => None,
        };
        let commit = StoredCommit { version, header, body };
        bytes += commit.len();
        next = version.next();
        commits.push(commit);
    }
    Ok((commits, Stopped::End))
}

pub(crate) async fn heads(inner: &MongoDb, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
    let looks: Vec<BoxFuture<'_, Result<Option<Head>>>> =
        logs.iter().map(|log| head(inner, log, deadline).boxed()).collect();
    stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

async fn head(inner: &MongoDb, log: &LogId, deadline: Instant) -> Result<Option<Head>> {
    let look = look::look(inner, log, "reading heads", deadline).await?;
    let boundary = look.boundary;
    Ok(look.tip.map(|tip| Head { version: tip.last, header: tip.header, boundary }))
}

/// Whether one of these logs has a commit past the version.
pub(crate) async fn is_past(inner: &MongoDb, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
    for asked in seen.chunks(ASKED) {
        let ranges = asked.iter().filter(|(_, version)| version.0 < u64::MAX);
        let past = |(log, version): &(LogId, Version)| {
            let mut range = slot::range(log, version.next(), Version(u64::MAX));
            // A void slot is no commit.
            range.insert("h", doc! {"$exists": true});
            range
        };
        let any: Vec<Document> = ranges.map(past).collect();
        if any.is_empty() {
            continue;
        }
        let found = again(deadline, || async {
            inner.place.commits.find_one(doc! {"$or": &any}).projection(doc! {"_id": 1}).await
        });
        if found.await.map_err(|fault| fault.reading("waiting"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// In order of the names: the last one says where a listing goes on.
pub(crate) async fn list(
    inner: &MongoDb,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
    deadline: Instant,
) -> Result<LogPage> {
    let limit = limit.clamp(1, 100_000);
    let start = prefix.as_str();
    // Every byte of a name is below `DEL`.
    let mut names = doc! {"$gte": start, "$lt": format!("{start}\x7f")};
    if let Some(cursor) = &cursor {
        let after = LogId::parse(cursor.name()?).map_err(|_| Cursor::foreign())?;
        names.insert("$gt", after.as_str());
    }
    // One more than the page holds tells whether there is another page.
    let found = again(deadline, || async {
        let found = inner.place.logs.find(doc! {"_id": &names}).sort(doc! {"_id": 1});
        let cursor = found.projection(doc! {"_id": 1}).limit(limit as i64 + 1).await?;
        cursor.try_collect::<Vec<Document>>().await
    });
    let found = found.await.map_err(|fault| fault.reading(LISTING))?;
    let log = |document: &Document| {
        let name = document.get_str("_id").unwrap_or_default();
        LogId::parse(name).map_err(|_| {
            Error::new(ErrorKind::Corrupt, LISTING).with("log", name).advise("A log has no valid name")
        })
    };
    let mut logs = found.iter().map(log).collect::<Result<Vec<_>>>()?;
    let is_more = logs.len() > limit;
    logs.truncate(limit);
    let next = logs.last().filter(|_| is_more).map(|log| Cursor(log.as_str().to_owned().into()));
    Ok(LogPage { logs, next })
}
