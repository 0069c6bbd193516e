//! Reads: of a log, each one script, which is one look at all that it asks for.

use bytes::Bytes;
use icecore_log::backend::BlobInfo;
use icecore_log::{
    Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Page, PageLimit, Result, StoredCommit, Version,
};
use redis::Value;
use tokio::time::Instant;

use crate::answer;
use crate::call::{Answer, Call};
use crate::fault::Fault;
use crate::keys::{self, BUCKETS, Bucket, Content, VERSION_MAX};
use crate::parts::Parts;
use crate::script;
use crate::store::Redis;

/// What each read is told as.
pub(crate) const READING: &str = "reading a log";
const LISTING: &str = "listing logs";
/// How often a page is read again of which a large body went away meanwhile.
const LOOKS_MAX: usize = 4;

fn damaged(log: &LogId, version: Version, why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, READING).with("log", log).with("version", version).advise(why)
}

fn unreadable(doing: &'static str) -> Error {
    Fault::answer().reading(doing)
}

pub(crate) async fn page(
    inner: &Redis,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<Page> {
    let from = from.max(Version::FIRST);
    for _ in 0..LOOKS_MAX {
        if let Some(page) = look(inner, log, from, limit, deadline).await? {
            return Ok(page);
        }
    }
    Err(damaged(log, from, "A large body is named and not there: restore it from a copy"))
}

/// One look; `None` if a large body was dropped or swept since.
async fn look(
    inner: &Redis,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    deadline: Instant,
) -> Result<Option<Page>> {
    let bucket = Bucket::of(log);
    let arguments = [
        from.0.min(VERSION_MAX).to_string(),
        limit.commits.max(1).to_string(),
        limit.bytes.max(1).to_string(),
        u8::from(limit.bodies).to_string(),
    ];
    let arguments = arguments.map(Bytes::from);
    let call = Call::script(bucket, &script::PAGE, [inner.keys.log(log)], arguments);
    let value = inner.read_one(call, READING, deadline).await?;
    let mut values = answer::list(value).ok_or_else(|| unreadable(READING))?.into_iter();
    let mut number = || values.next().and_then(answer::number).ok_or_else(|| unreadable(READING));
    let (boundary, head) = (Version(number()?), Version(number()?));
    let mut page = Page { commits: Vec::new(), boundary };
    while let (Some(header), Some(body), Some(parts)) = (values.next(), values.next(), values.next()) {
        let version = from.plus(page.commits.len() as u64);
        let value = |value: Value| answer::bytes(value).ok_or_else(|| unreadable(READING));
        let header = keys::content(Content::Header, log, version, value(header)?)
            .ok_or_else(|| damaged(log, version, "A header fails its check: restore it from a copy"))?;
        let (body, parts) = (value(body)?, value(parts)?);
        let body = if !parts.is_empty() {
            match large(inner, log, version, &parts, deadline).await? {
                Some(body) => Some(body),
                None => return Ok(None),
            }
        } else if body.is_empty() {
            None
        } else {
            let body = keys::content(Content::Body, log, version, body);
            Some(body.ok_or_else(|| damaged(log, version, "A body fails its check: restore it from a copy"))?)
        };
        page.commits.push(StoredCommit { version, header, body });
    }
    if page.commits.is_empty() && from > boundary && from <= head {
        return Err(damaged(log, from, "The commit is missing: restore it from a copy"));
    }
    Ok(Some(page))
}

async fn large(
    inner: &Redis,
    log: &LogId,
    version: Version,
    named: &[u8],
    deadline: Instant,
) -> Result<Option<Bytes>> {
    let name = std::str::from_utf8(named).ok().and_then(|named| named.split(':').next());
    let name = name.ok_or_else(|| damaged(log, version, "The name of a body's parts cannot be read"))?;
    let bucket = Bucket::of(log);
    let what = format!("{log} {version}");
    Parts { bucket, key: inner.keys.large(bucket, name), what }.read(inner, None, READING, deadline).await
}

pub(crate) async fn heads(inner: &Redis, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
    const DOING: &str = "reading heads";
    let call = |log: &LogId| Call::script(Bucket::of(log), &script::HEAD, [inner.keys.log(log)], []);
    let calls: Vec<Call> = logs.iter().map(call).collect();
    let answers = inner.read(&calls, deadline).await;
    let head = |(log, answer): (&LogId, Answer)| {
        let value = answer.value.map_err(|fault| fault.reading(DOING))?;
        let parts = answer::list(value).and_then(|parts| <[Value; 3]>::try_from(parts).ok());
        let [boundary, version, header] = parts.ok_or_else(|| unreadable(DOING))?;
        let number = |value| answer::number(value).map(Version).ok_or_else(|| unreadable(DOING));
        let (boundary, version) = (number(boundary)?, number(version)?);
        if version == Version::ZERO {
            return Ok(None);
        }
        let header =
            answer::bytes(header).and_then(|header| keys::content(Content::Header, log, version, header));
        let header = header.ok_or_else(|| damaged(log, version, "The head is missing or fails its check"))?;
        Ok(Some(Head { version, header, boundary }))
    };
    logs.iter().zip(answers).map(head).collect()
}

pub(crate) async fn is_past(inner: &Redis, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
    let call = |(log, _): &(LogId, Version)| {
        Call::command(Bucket::of(log), "HGET", [inner.keys.log(log), Bytes::from("v")])
    };
    let calls: Vec<Call> = seen.iter().map(call).collect();
    for ((_, version), answer) in seen.iter().zip(inner.read(&calls, deadline).await) {
        let value = answer.value.map_err(|fault| fault.reading("waiting"))?;
        if answer::number(value).ok_or_else(|| unreadable("waiting"))? > version.0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The logs of one bucket after the other, each in order of the names: a bucket's number and a name say where a listing goes on.
pub(crate) async fn list(
    inner: &Redis,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
    deadline: Instant,
) -> Result<LogPage> {
    let limit = limit.max(1);
    let (first, after) = match &cursor {
        Some(cursor) => place(cursor)?,
        None => (0, None),
    };
    let start = prefix.as_str();
    let from = |bucket: u16| match (&after, start) {
        (Some(after), _) if bucket == first => format!("({after}"),
        (_, "") => "-".to_owned(),
        _ => format!("[{start}"),
    };
    // Every byte of a name is below `DEL`, so what begins with a prefix stands below the prefix and that.
    let call = |bucket: u16, name: &'static str, more: &[&str]| {
        let mut arguments = vec![inner.keys.names(Bucket(bucket)), from(bucket).into()];
        arguments.push(format!("({start}\x7f").into());
        arguments.extend(more.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())));
        Call::command(Bucket(bucket), name, arguments)
    };
    // Most buckets of a small store, or of a prefix, are empty: first how many there are, and then only those of a page.
    let counted: Vec<Call> = (first..BUCKETS).map(|bucket| call(bucket, "ZLEXCOUNT", &[])).collect();
    let (mut wanted, mut total) = (Vec::new(), 0);
    for (bucket, answer) in (first..).zip(inner.read(&counted, deadline).await) {
        let count = answer::number(answer.value.map_err(|fault| fault.reading(LISTING))?);
        let count = usize::try_from(count.ok_or_else(|| unreadable(LISTING))?).unwrap_or(usize::MAX);
        if count > 0 && total <= limit {
            total = total.saturating_add(count);
            wanted.push(bucket);
        }
    }
    // One more than the page holds tells whether there is another page.
    let most = limit.saturating_add(1).to_string();
    let named: Vec<Call> =
        wanted.iter().map(|bucket| call(*bucket, "ZRANGEBYLEX", &["LIMIT", "0", &most])).collect();
    let mut logs = Vec::new();
    for (bucket, answer) in wanted.iter().zip(inner.read(&named, deadline).await) {
        let names = answer::list(answer.value.map_err(|fault| fault.reading(LISTING))?);
        for name in names.ok_or_else(|| unreadable(LISTING))? {
            let name = answer::text(name).ok_or_else(|| unreadable(LISTING))?;
            let log = LogId::parse(&name).map_err(|_| {
                Error::new(ErrorKind::Corrupt, LISTING).with("log", &name).advise("A log has no valid name")
            })?;
            // A cursor of another listing may begin before the prefix.
            if prefix.matches(&log) {
                logs.push((*bucket, log));
            }
        }
    }
    let is_more = logs.len() > limit;
    logs.truncate(limit);
    let next = logs.last().filter(|_| is_more).map(|(bucket, log)| Cursor(format!("{bucket}:{log}").into()));
    Ok(LogPage { logs: logs.into_iter().map(|(_, log)| log).collect(), next })
}

fn place(cursor: &Cursor) -> Result<(u16, Option<String>)> {
    let (bucket, name) = cursor.name()?.split_once(':').ok_or_else(Cursor::foreign)?;
    let bucket = bucket.parse().ok().filter(|bucket| *bucket < BUCKETS).ok_or_else(Cursor::foreign)?;
    let log = LogId::parse(name).map_err(|_| Cursor::foreign())?;
    Ok((bucket, Some(log.as_str().to_owned())))
}

pub(crate) async fn blobs(
    inner: &Redis,
    log: &LogId,
    prefix: &str,
    deadline: Instant,
) -> Result<Vec<BlobInfo>> {
    const DOING: &str = "listing blobs";
    let call = Call::command(Bucket::of(log), "HGETALL", [inner.keys.blobs(log)]);
    let values =
        answer::list(inner.read_one(call, DOING, deadline).await?).ok_or_else(|| unreadable(DOING))?;
    let mut blobs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(name), Some(bytes)) = (values.next(), values.next()) {
        let info = answer::text(name).zip(answer::number(bytes));
        let (name, bytes) = info.ok_or_else(|| unreadable(DOING))?;
        blobs.push(BlobInfo { name, bytes });
    }
    blobs.retain(|blob| blob.name.starts_with(prefix));
    blobs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(blobs)
}
