//! Reads, each one statement: one look at all that it asks for.

use std::ops::Range;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{BlobId, Cursor, Head, LogId, LogPage, LogPrefix, Page, PageLimit, Version};
use sqlx::query;

use super::fault::Fault;
use super::pool::Session;
use super::wire::{self, PART_BYTES};

type Result<T> = std::result::Result<T, Fault>;

pub(super) async fn page(
    session: &mut Session,
    log: &LogId,
    from: Version,
    limit: PageLimit,
) -> Result<Page> {
    let from = from.max(Version::FIRST);
    // No commit is above this one.
    let first = wire::signed(from).unwrap_or(i64::MAX);
    let most = i64::try_from(limit.commits.max(1)).unwrap_or(i64::MAX);
    let bytes = i64::try_from(limit.bytes.max(1)).unwrap_or(i64::MAX);
    let sql = if limit.bodies { wire::PAGE } else { wire::PAGE_OF_HEADERS };
    let rows =
        session.look(query(sql).bind(log.as_str().as_bytes()).bind(first).bind(most).bind(bytes)).await?;
    let mut page = Page::default();
    for row in &rows {
        page.boundary = wire::boundary(row, 0, log)?;
        let found = if limit.bodies { wire::commit(row, 2, log) } else { wire::header(row, 2, log) }?;
        // From a closed version on, nothing is read: what is above the boundary is not what was asked for.
        let Some(commit) = found.filter(|_| from > page.boundary) else { break };
        let wanted = from.plus(page.commits.len() as u64);
        if commit.version != wanted {
            return Err(wire::damaged("a commit is missing").with("log", log).with("version", wanted).into());
        }
        page.commits.push(commit);
    }
    Ok(page)
}

pub(super) async fn heads(session: &mut Session, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
    let names: Vec<&[u8]> = logs.iter().map(|log| log.as_str().as_bytes()).collect();
    let mut heads = vec![None; logs.len()];
    for row in session.look(query(wire::HEADS).bind(names)).await? {
        let place = usize::try_from(wire::get::<i64>(&row, 0)? - 1).unwrap_or(usize::MAX);
        let (Some(log), Some(head)) = (logs.get(place), heads.get_mut(place)) else { continue };
        let boundary = wire::boundary(&row, 1, log)?;
        let found = wire::header(&row, 3, log)?;
        *head = found.map(|found| Head { version: found.version, header: found.header, boundary });
    }
    Ok(heads)
}

pub(super) async fn is_past(session: &mut Session, seen: &[(LogId, Version)]) -> Result<bool> {
    let names: Vec<&[u8]> = seen.iter().map(|(log, _)| log.as_str().as_bytes()).collect();
    let versions: Vec<i64> =
        seen.iter().map(|(_, version)| wire::signed(*version).unwrap_or(i64::MAX)).collect();
    let rows = session.look(query(wire::IS_PAST).bind(names).bind(versions)).await?;
    rows.first().map_or(Ok(false), |row| wire::get(row, 0))
}

pub(super) async fn list(
    session: &mut Session,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<LogPage> {
    let after = cursor.as_ref().map(Cursor::name).transpose()?;
    let limit = limit.max(1);
    let start = prefix.as_str().as_bytes();
    // Every byte of a name is below `DEL`, so what begins with a prefix stands below the prefix and that.
    let end = [start, b"\x7f"].concat();
    // One more than the page holds tells whether there is another page.
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let statement = query(wire::NAMES).bind(start).bind(end).bind(after.map(str::as_bytes)).bind(most);
    let rows = session.look(statement).await?;
    let mut logs = Vec::with_capacity(rows.len());
    for row in &rows {
        let name = String::from_utf8_lossy(wire::get(row, 0)?).into_owned();
        let log = LogId::parse(&name);
        logs.push(log.map_err(|_| wire::damaged("a log has no valid name").with("log", &name))?);
    }
    let is_more = logs.len() > limit;
    logs.truncate(limit);
    let next =
        logs.last().filter(|_| is_more).map(|log| Cursor(Bytes::copy_from_slice(log.as_str().as_bytes())));
    Ok(LogPage { logs, next })
}

pub(super) async fn blob(
    session: &mut Session,
    blob: &BlobId,
    range: Option<Range<u64>>,
) -> Result<Option<Bytes>> {
    let part_bytes = PART_BYTES as u64;
    let range = range.unwrap_or(0..u64::MAX);
    let first = range.start / part_bytes;
    let last = range.end.saturating_sub(1).max(range.start) / part_bytes;
    let statement = query(wire::GET_PARTS)
        .bind(blob.log().as_str().as_bytes())
        .bind(blob.name().as_bytes())
        .bind(first.cast_signed())
        .bind(last.cast_signed());
    let rows = session.look(statement).await?;
    let Some(bytes) = rows.first().map(|row| wire::get::<i64>(row, 0)).transpose()?.map(i64::cast_unsigned)
    else {
        return Ok(None);
    };
    let end = range.end.min(bytes);
    let start = range.start.min(end);
    let damage = |part: u64| {
        wire::damaged("a part of a blob is missing or fails its check")
            .with("log", blob.log())
            .with("blob", blob.name())
            .with("part", part)
    };
    let mut content = Vec::new();
    let mut wanted = first;
    for row in &rows {
        let Some(part) = wire::get::<Option<i64>>(row, 1)?.map(i64::cast_unsigned) else { break };
        let found: Vec<u8> = wire::get(row, 3)?;
        if part != wanted || wire::get::<i64>(row, 2)? != wire::part_crc(blob, part, bytes, &found) {
            return Err(damage(wanted).into());
        }
        content.extend_from_slice(&found);
        wanted += 1;
    }
    if start == end {
        return Ok(Some(Bytes::new()));
    }
    // What is wanted lies within what was read, which fits in memory.
    let offset = first * part_bytes;
    if content.len() as u64 != bytes.min((last + 1).saturating_mul(part_bytes)) - offset {
        return Err(damage(wanted).into());
    }
    Ok(Some(Bytes::from(content).slice((start - offset) as usize..(end - offset) as usize)))
}

pub(super) async fn blobs(session: &mut Session, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
    let statement = query(wire::LIST_BLOBS)
        .bind(log.as_str().as_bytes())
        .bind(prefix.as_bytes())
        .bind([prefix.as_bytes(), b"\x7f"].concat());
    let rows = session.look(statement).await?;
    let info = |row| {
        let name = String::from_utf8_lossy(wire::get(row, 0)?).into_owned();
        Ok(BlobInfo { name, bytes: wire::get::<i64>(row, 1)?.cast_unsigned() })
    };
    rows.iter().map(info).collect()
}

/// Sizes; and of `Deep`, every row of every log is read and checked.
pub(super) async fn examine(session: &mut Session, depth: Depth) -> Result<Examination> {
    let mut examination = Examination::default();
    let rows = session.look(query(wire::SIZES)).await?;
    if let Some(row) = rows.first() {
        let facts = [
            ("postgres", wire::get::<String>(row, 3)?),
            ("logs", wire::get::<i64>(row, 0)?.to_string()),
            ("commits", wire::get::<i64>(row, 1)?.to_string()),
            ("database_bytes", wire::get::<i64>(row, 2)?.to_string()),
        ];
        examination.facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }
    if depth == Depth::Quick {
        return Ok(examination);
    }
    let mut cursor = None;
    loop {
        let listed = list(session, &LogPrefix::all(), cursor, 1_000).await?;
        for log in &listed.logs {
            match examine_log(session, log).await {
                Ok(bytes) => examination.bytes += bytes,
                Err(Fault::Ours(error)) => examination.damage.push(error),
                Err(fault) => return Err(fault),
            }
        }
        cursor = listed.next;
        if cursor.is_none() {
            return Ok(examination);
        }
    }
}

async fn examine_log(session: &mut Session, log: &LogId) -> Result<u64> {
    let mut bytes = 0;
    let mut from = Version::FIRST;
    loop {
        session.renew();
        let page = page(session, log, from, PageLimit::WHOLE).await?;
        if page.boundary >= from {
            from = page.boundary.next();
            continue;
        }
        let Some(last) = page.commits.last() else { break };
        from = last.version.next();
        bytes += page.commits.iter().map(|commit| commit.len() as u64).sum::<u64>();
    }
    for found in blobs(session, log, "").await? {
        let name = BlobId::new(log.clone(), &found.name)?;
        let mut start = 0;
        while start < found.bytes {
            session.renew();
            let end = found.bytes.min(start + 16 * PART_BYTES as u64);
            bytes += blob(session, &name, Some(start..end)).await?.map_or(0, |bytes| bytes.len() as u64);
            start = end;
        }
    }
    Ok(bytes)
}
