//! Reads, each in a transaction of its own: one look at all that it asks for.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    BlobId, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Page, PageLimit, StoredCommit, Version,
};
use rusqlite::Connection;

use super::fault::Fault;
use super::wire::{self, PART_BYTES};

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn page(connection: &Connection, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
    let from = from.max(Version::FIRST);
    let Some(row) = wire::find_log(connection, log)? else {
        return Ok(Page::default());
    };
    let mut page = Page { commits: Vec::new(), boundary: row.boundary };
    if from <= row.boundary {
        return Ok(page);
    }
    let mut bytes = 0;
    wire::commits(connection, log, row.id, from, limit.bodies, |found| {
        let wanted = from.plus(page.commits.len() as u64);
        if found.version != wanted {
            return Err(wire::damaged("a commit is missing").with("log", log).with("version", wanted).into());
        }
        bytes += found.bytes();
        page.commits.push(StoredCommit {
            version: found.version,
            header: found.header.into(),
            body: found.body.map(Bytes::from),
        });
        Ok(bytes < limit.bytes && page.commits.len() < limit.commits)
    })?;
    Ok(page)
}

pub(super) fn head(connection: &Connection, log: &LogId) -> Result<Option<Head>> {
    let Some(row) = wire::find_log(connection, log)? else {
        return Ok(None);
    };
    let head = wire::head(connection, log, row.id)?;
    Ok(head.map(|head| Head { version: head.version, header: head.header.into(), boundary: row.boundary }))
}

pub(super) fn is_past(connection: &Connection, seen: &[(LogId, Version)]) -> Result<bool> {
    for (log, version) in seen {
        if head(connection, log)?.is_some_and(|head| head.version > *version) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn list(
    connection: &Connection,
    prefix: &LogPrefix,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<LogPage> {
    let after = cursor.as_ref().map(Cursor::name).transpose()?;
    let limit = limit.max(1);
    let prefix = prefix.as_str();
    // One more than the page holds tells whether there is another page.
    let mut names = match after {
        Some(after) if after >= prefix => {
            wire::names(connection, after, true, prefix, limit.saturating_add(1))
        }
        _ => wire::names(connection, prefix, false, prefix, limit.saturating_add(1)),
    }?;
    let is_more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| is_more).map(|name| Cursor(Bytes::copy_from_slice(name.as_bytes())));
    let mut logs = Vec::with_capacity(names.len());
    for name in names {
        logs.push(
            LogId::parse(&name).map_err(|_| wire::damaged("a log has no valid name").with("log", &name))?,
        );
    }
    Ok(LogPage { logs, next })
}

pub(super) fn blob(
    connection: &Connection,
    blob: &BlobId,
    range: Option<Range<u64>>,
) -> Result<Option<Bytes>> {
    let Some(log) = wire::find_log(connection, blob.log())? else {
        return Ok(None);
    };
    let Some(row) = wire::find_blob(connection, log.id, blob)? else {
        return Ok(None);
    };
    let range = range.unwrap_or(0..u64::MAX);
    let end = range.end.min(row.bytes);
    let start = range.start.min(end);
    if start == end {
        return Ok(Some(Bytes::new()));
    }
    let part = PART_BYTES as u64;
    let first = start / part;
    let content: Bytes = wire::blob_parts(connection, &row, first, (end - 1) / part)?.into();
    // Within what was read, which fits in memory.
    Ok(Some(content.slice((start - first * part) as usize..(end - first * part) as usize)))
}

pub(super) fn blobs(connection: &Connection, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
    let Some(row) = wire::find_log(connection, log)? else {
        return Ok(Vec::new());
    };
    let found = wire::blobs(connection, log, row.id, prefix)?;
    Ok(found.into_iter().map(|blob| BlobInfo { name: blob.name, bytes: blob.bytes }).collect())
}

pub(super) fn examine(connection: &Connection, path: &Path, depth: Depth) -> Result<Examination> {
    let mut examination = Examination::default();
    let (journal, _) = wire::durability(connection)?;
    let sizes = wire::sizes(connection)?;
    let facts = [
        ("path", path.display().to_string()),
        ("sqlite", rusqlite::version().to_owned()),
        ("durability_found", format!("journal_mode={journal}, and the writer sets synchronous=FULL")),
        ("conditional_writes", "hold: a transaction and a unique index decide".to_owned()),
        ("logs", sizes.logs.to_string()),
        ("commits", sizes.commits.to_string()),
        ("database_bytes", sizes.bytes.to_string()),
        ("free_bytes", sizes.free_bytes.to_string()),
    ];
    examination.facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if depth == Depth::Deep {
        let file = path.display().to_string();
        for said in wire::integrity(connection)? {
            let error = Error::new(ErrorKind::Corrupt, "examining a store").with("file", &file);
            examination.damage.push(error.with("sqlite", said).advise("Restore it from a copy"));
        }
        examination.bytes =
            wire::check_all(connection, |error| examination.damage.push(error.with("file", &file)))?;
    }
    Ok(examination)
}
