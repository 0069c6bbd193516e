//! Reads, each one statement: one look at all that it asks for.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{BlobId, Cursor, Head, LogId, LogPage, LogPrefix, Page, PageLimit, Version};

use super::fault::Fault;
use super::pool::Session;
use super::rows::{self, PART_BYTES, Row};
use super::{Dialect, Done};

pub(crate) async fn page<D: Dialect>(
    session: &mut Session<D>,
    log: &LogId,
    from: Version,
    limit: PageLimit,
) -> Done<Page> {
    let from = from.max(Version::FIRST);
    // No commit is above the greatest that can be stored.
    let found = D::page(session, log, rows::signed(from).unwrap_or(i64::MAX), limit).await?;
    let mut page = Page::default();
    for row in &found {
        page.boundary = rows::boundary(row, 0, log)?;
        let commit = if limit.bodies { rows::commit(row, 2, log) } else { rows::header(row, 2, log) }?;
        // From a closed version on, nothing is read: what is above the boundary is not what was asked for.
        page.commits.extend(commit.filter(|_| from > page.boundary));
    }
    page.commits.sort_unstable_by_key(|commit| commit.version);
    for (commit, wanted) in page.commits.iter().zip(from.0..) {
        if commit.version.0 != wanted {
            return Err(rows::damaged("a commit is missing").with("log", log).with("version", wanted).into());
        }
    }
    Ok(page)
}

pub(crate) async fn heads<D: Dialect>(session: &mut Session<D>, logs: &[LogId]) -> Done<Vec<Option<Head>>> {
    let mut heads = HashMap::with_capacity(logs.len());
    for row in D::heads(session, logs).await? {
        heads.insert(row.bytes(0)?, row);
    }
    let head = |log: &LogId| {
        let Some(row) = heads.get(log.as_str().as_bytes()) else { return Ok(None) };
        let boundary = rows::boundary(row, 1, log)?;
        let found = rows::header(row, 3, log)?;
        Ok(found.map(|found| Head { version: found.version, header: found.header, boundary }))
    };
    logs.iter().map(head).collect()
}

pub(crate) async fn list<D: Dialect>(
    session: &mut Session<D>,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
) -> Done<LogPage> {
    let after = cursor.as_ref().map(Cursor::name).transpose()?;
    let limit = limit.max(1);
    let start = prefix.as_str().as_bytes();
    // Every byte of a name is below `DEL`, so what begins with a prefix stands below the prefix and that.
    let end = [start, b"\x7f"].concat();
    // One more than the page holds tells whether there is another page.
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let found = D::names(session, start..&end, after, most).await?;
    let mut logs = Vec::with_capacity(found.len());
    for row in &found {
        let name = String::from_utf8_lossy(&row.bytes(0)?).into_owned();
        let log = LogId::parse(&name);
        logs.push(log.map_err(|_| rows::damaged("a log has no valid name").with("log", &name))?);
    }
    let is_more = logs.len() > limit;
    logs.truncate(limit);
    let next =
        logs.last().filter(|_| is_more).map(|log| Cursor(Bytes::copy_from_slice(log.as_str().as_bytes())));
    Ok(LogPage { logs, next })
}

pub(crate) async fn blob<D: Dialect>(
    session: &mut Session<D>,
    blob: &BlobId,
    range: Option<Range<u64>>,
) -> Done<Option<Bytes>> {
    let part_bytes = PART_BYTES as u64;
    let range = range.unwrap_or(0..u64::MAX);
    let first = range.start / part_bytes;
    let last = range.end.saturating_sub(1).max(range.start) / part_bytes;
    let found = D::parts(session, blob, (first.cast_signed(), last.cast_signed())).await?;
    let Some(bytes) = found.first().map(|row| row.number(0)).transpose()?.map(i64::cast_unsigned) else {
        return Ok(None);
    };
    let end = range.end.min(bytes);
    let start = range.start.min(end);
    let damage = |part: u64| {
        rows::damaged("a part of a blob is missing or fails its check")
            .with("log", blob.log())
            .with("blob", blob.name())
            .with("part", part)
    };
    let mut parts = Vec::with_capacity(found.len());
    for row in &found {
        let Some(part) = row.number_if_any(1)?.map(i64::cast_unsigned) else { break };
        let content = row.bytes(3)?;
        if row.number(2)? != rows::part_crc(blob, part, bytes, &content) {
            return Err(damage(part).into());
        }
        parts.push((part, content));
    }
    parts.sort_unstable_by_key(|(part, _)| *part);
    let mut content = Vec::new();
    let mut wanted = first;
    for (part, found) in parts {
        if part != wanted {
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

pub(crate) async fn blobs<D: Dialect>(
    session: &mut Session<D>,
    log: &LogId,
    prefix: &str,
) -> Done<Vec<BlobInfo>> {
    let end = [prefix.as_bytes(), b"\x7f"].concat();
    let found = D::blobs(session, log, prefix.as_bytes()..&end).await?;
    let info = |row: &D::Row| {
        let name = String::from_utf8_lossy(&row.bytes(0)?).into_owned();
        Ok(BlobInfo { name, bytes: row.number(1)?.cast_unsigned() })
    };
    found.iter().map(info).collect()
}

/// Sizes; and of `Deep`, every row of every log is read and checked.
pub(crate) async fn examine<D: Dialect>(session: &mut Session<D>, depth: Depth) -> Done<Examination> {
    let mut examination = Examination::default();
    if let Some(row) = D::sizes(session).await?.first() {
        let facts = [
            (D::SYSTEM, row.text(3)?),
            ("logs", row.number(0)?.to_string()),
            ("commits", row.number(1)?.to_string()),
            ("database_bytes", row.number(2)?.to_string()),
        ];
        examination.facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }
    let followers = D::followers(session).await?.into_iter();
    examination.facts.extend(followers.map(|followers| ("standbys".to_owned(), followers)));
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

async fn examine_log<D: Dialect>(session: &mut Session<D>, log: &LogId) -> Done<u64> {
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
