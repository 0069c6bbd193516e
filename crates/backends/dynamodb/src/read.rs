//! Reading: where logs end, pages of commits.

use bytes::Bytes;
use icecore_log::grace::Moment;
use icecore_log::{Error, ErrorKind, Hash, Head, LogId, Page, PageLimit, Result, StoredCommit, Version};
use tokio::time::Instant;

use crate::item::{self, Item, Place};
use crate::parts::Parts;
use crate::query::{self, Query, sort};
use crate::store::DynamoDb;

pub(crate) const READING: &str = "reading a log";
/// How often something is looked at anew because it was deleted meanwhile.
pub(crate) const ATTEMPTS: usize = 4;
/// No page asks for more items at once.
const ITEMS_MAX: usize = 4_096;

/// Where a log begins and ends.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Everything at or below it is closed.
    pub boundary: Version,
    /// The head: its number, header and hash.
    pub head: Option<(Version, Bytes, Hash)>,
    /// Before the request.
    pub begun: Moment,
}

impl Look {
    pub fn head(self) -> Option<Head> {
        let (version, header, _) = self.head?;
        Some(Head { version, header, boundary: self.boundary })
    }
}

pub(crate) fn damaged(log: &LogId, version: Version, doing: &'static str, advice: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, doing).with("log", log).with("version", version).advise(advice)
}

/// The last item but one of a log is its head, and the last says where it begins: one query from its end.
pub(crate) async fn look(
    inner: &DynamoDb,
    log: &LogId,
    doing: &'static str,
    deadline: Instant,
) -> Result<Look> {
    let query = Query { is_backwards: true, limit: 2, ..Query::beginning(inner.keys.log(log), "") };
    let query = Query { from: item::BEFORE_COMMITS.to_owned(), to: item::SELF.to_owned(), ..query };
    for _ in 0..ATTEMPTS {
        let begun = inner.settings.clocks.now();
        let (mut boundary, mut head) = (Version::ZERO, None);
        for found in query.all(inner, doing, deadline).await? {
            if sort(&found) == item::SELF {
                boundary = boundary_of(&found);
            } else if head.is_none() {
                head = item::version(sort(&found)).map(|version| (version, found));
            }
        }
        let Some((version, found)) = head else {
            return Ok(Look { boundary, head: None, begun });
        };
        // A header in parts that are gone: swept meanwhile, and no longer the head.
        if let Some(header) = header(inner, log, version, &found, doing, deadline).await? {
            let hash = Hash::of(&header);
            inner.saw(log, version, hash, begun);
            return Ok(Look { boundary, head: Some((version, header, hash)), begun });
        }
    }
    Err(Error::new(ErrorKind::Corrupt, doing)
        .with("log", log)
        .advise("The head cannot be read: restore it from a copy"))
}

pub(crate) fn boundary_of(item: &Item) -> Version {
    Version(item::number_of(item, "c").unwrap_or(0))
}

pub(crate) async fn boundary(
    inner: &DynamoDb,
    log: &LogId,
    doing: &'static str,
    deadline: Instant,
) -> Result<Version> {
    let key = item::key(&inner.keys.log(log), item::SELF);
    Ok(query::get(inner, key, doing, deadline).await?.0.map_or(Version::ZERO, |found| boundary_of(&found)))
}

/// The header of a commit's item; `None` if it is in parts that are not there.
async fn header(
    inner: &DynamoDb,
    log: &LogId,
    version: Version,
    found: &Item,
    doing: &'static str,
    deadline: Instant,
) -> Result<Option<Bytes>> {
    let header = match Parts::of(found, "hp") {
        Some(parts) => {
            let prefix = item::parts_of(version);
            let read = parts.read(inner, &inner.keys.log(log), &prefix, None, doing, deadline).await;
            let Some(header) = read.map_err(|error| named(error, log, version))? else { return Ok(None) };
            Some(header)
        }
        None => Place::header(log, version).content(found, "h"),
    };
    let header = header
        .ok_or_else(|| damaged(log, version, doing, "A header fails its check: restore it from a copy"))?;
    Ok(Some(header))
}

fn named(error: Error, log: &LogId, version: Version) -> Error {
    error.with("log", log).with("version", version)
}

/// The body of a commit's item, if it has one; `None` if it is in parts that are not there.
async fn body(
    inner: &DynamoDb,
    log: &LogId,
    version: Version,
    found: &Item,
    deadline: Instant,
) -> Result<Option<Option<Bytes>>> {
    if let Some(parts) = Parts::of(found, "bp") {
        let prefix = item::parts_of(version);
        let read = parts.read(inner, &inner.keys.log(log), &prefix, None, READING, deadline).await;
        return Ok(read.map_err(|error| named(error, log, version))?.map(Some));
    }
    if !found.contains_key("b") && !found.contains_key("bp") {
        return Ok(Some(None));
    }
    let body = Place::body(log, version).content(found, "b");
    let body =
        body.ok_or_else(|| damaged(log, version, READING, "A body fails its check: restore it from a copy"))?;
    Ok(Some(Some(body)))
}

/// Reads a page. What names parts that are gone was dropped or swept meanwhile, and is read again.
pub(crate) async fn page(
    inner: &DynamoDb,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<Page> {
    for _ in 0..ATTEMPTS {
        if let Some(page) = attempt(inner, log, from, limit, deadline).await? {
            return Ok(page);
        }
    }
    Err(damaged(log, from, READING, "A part is missing: restore it from a copy"))
}

async fn attempt(
    inner: &DynamoDb,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<Option<Page>> {
    let query = Query {
        only: if limit.bodies { "" } else { "sk, h, hp, c" },
        ..Query::beginning(inner.keys.log(log), "")
    };
    let query = Query { from: item::slot(from), to: item::SELF.to_owned(), ..query };
    let (mut commits, mut bytes, mut start, mut boundary) = (Vec::<StoredCommit>::new(), 0, None, None);
    let (mut hole, wanted) = (None, limit.commits.max(1));
    'reading: loop {
        // One more: the item behind the last commit, if this is the end.
        let ask = (wanted - commits.len()).saturating_add(1).min(ITEMS_MAX);
        let found = query.page(inner, start.as_ref(), ask, READING, deadline).await?;
        for found in found.items {
            if sort(&found) == item::SELF {
                boundary = Some(boundary_of(&found));
                break 'reading;
            }
            let version = item::version(sort(&found)).ok_or_else(|| crate::api::unreadable(READING))?;
            if version != from.plus(commits.len() as u64) {
                hole = Some(from.plus(commits.len() as u64));
                break 'reading;
            }
            if commits.len() == wanted || bytes >= limit.bytes.max(1) {
                break 'reading;
            }
            let Some(header) = header(inner, log, version, &found, READING, deadline).await? else {
                return Ok(None);
            };
            let body = match limit.bodies {
                false => None,
                true => match body(inner, log, version, &found, deadline).await? {
                    Some(body) => body,
                    None => return Ok(None),
                },
            };
            let commit = StoredCommit { version, header, body };
            bytes += commit.len();
            commits.push(commit);
        }
        start = found.next;
        if start.is_none() {
            break;
        }
    }
    // Looked at after the commits: whatever was deleted before they were read had been closed before.
    let boundary = match boundary {
        Some(boundary) => boundary,
        None => self::boundary(inner, log, READING, deadline).await?,
    };
    if boundary >= from {
        return Ok(Some(Page { commits: Vec::new(), boundary }));
    }
    match hole {
        Some(version) if commits.is_empty() => {
            Err(damaged(log, version, READING, "The commit is missing: restore it from a copy"))
        }
        _ => Ok(Some(Page { commits, boundary })),
    }
}

/// Whether there is a commit past a version.
pub(crate) async fn is_past(
    inner: &DynamoDb,
    log: &LogId,
    version: Version,
    deadline: Instant,
) -> Result<bool> {
    let query = Query { limit: 1, only: "sk", ..Query::beginning(inner.keys.log(log), "") };
    let query = Query { from: item::slot(version.next()), to: item::slot(Version(u64::MAX)), ..query };
    Ok(!query.all(inner, "waiting", deadline).await?.is_empty())
}
