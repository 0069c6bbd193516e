//! Rows as a server gives them: their columns, and the checksums that are in them.

use icecore_log::judge::Ends;
use icecore_log::{BlobId, Error, ErrorKind, LogId, StoredCommit, Version};
use sqlx::{ColumnIndex, Database, Decode, Type};

use super::Done;
use super::fault::Fault;

/// A blob is kept in parts of so many bytes, the last one shorter.
pub(crate) const PART_BYTES: usize = 1 << 20;

/// The columns of a row by their places, or the error of a row that is not as its statement says.
pub(crate) trait Row {
    fn number(&self, column: usize) -> Done<i64>;
    fn number_if_any(&self, column: usize) -> Done<Option<i64>>;
    fn bytes(&self, column: usize) -> Done<Vec<u8>>;
    fn bytes_if_any(&self, column: usize) -> Done<Option<Vec<u8>>>;
    fn text(&self, column: usize) -> Done<String>;
}

impl<R: sqlx::Row> Row for R
where
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database<Row = R>,
{
    fn number(&self, column: usize) -> Done<i64> {
        self.try_get(column).map_err(|error| Fault::row(&error))
    }

    fn number_if_any(&self, column: usize) -> Done<Option<i64>> {
        self.try_get(column).map_err(|error| Fault::row(&error))
    }

    fn bytes(&self, column: usize) -> Done<Vec<u8>> {
        self.try_get(column).map_err(|error| Fault::row(&error))
    }

    fn bytes_if_any(&self, column: usize) -> Done<Option<Vec<u8>>> {
        self.try_get(column).map_err(|error| Fault::row(&error))
    }

    fn text(&self, column: usize) -> Done<String> {
        self.try_get(column).map_err(|error| Fault::row(&error))
    }
}

pub(crate) fn signed(version: Version) -> Option<i64> {
    i64::try_from(version.0).ok()
}

/// CRC-32 over names, each with its length, numbers, little-endian, and bytes.
fn crc(names: &[&str], numbers: &[u64], bytes: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for name in names {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    hasher.update(bytes);
    i64::from(hasher.finalize())
}

pub(crate) fn log_crc(log: &LogId, boundary: Version) -> i64 {
    crc(&[log.as_str()], &[boundary.0], &[])
}

pub(crate) fn commit_crc(log: &LogId, version: Version, bytes: &[u8]) -> i64 {
    crc(&[log.as_str()], &[version.0], bytes)
}

pub(crate) fn part_crc(blob: &BlobId, part: u64, bytes: u64, content: &[u8]) -> i64 {
    crc(&[blob.log().as_str(), blob.name()], &[part, bytes], content)
}

pub(crate) fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a store")
        .with("because", what)
        .advise("Run `icecore verify` to see how far the damage goes, and restore it from a copy")
}

fn version(row: &impl Row, column: usize) -> Done<Version> {
    // A negative one fails its checksum.
    Ok(Version(row.number(column)?.cast_unsigned()))
}

/// The columns `boundary, crc` of a log.
pub(crate) fn boundary(row: &impl Row, at: usize, log: &LogId) -> Done<Version> {
    let boundary = version(row, at)?;
    if row.number(at + 1)? != log_crc(log, boundary) {
        return Err(damaged("the row of the log fails its check").with("log", log).into());
    }
    Ok(boundary)
}

/// The columns `boundary, crc` of a log, and of its head `version, header_crc, header`.
pub(crate) fn ends(row: &impl Row, at: usize, log: &LogId) -> Done<Ends> {
    let boundary = boundary(row, at, log)?;
    let head = header(row, at + 2, log)?.map(|head| (head.version, head.hash()));
    Ok(Ends { boundary, head })
}

/// The columns `version, header_crc, header` of a commit, all of them null if there is none.
pub(crate) fn header(row: &impl Row, at: usize, log: &LogId) -> Done<Option<StoredCommit>> {
    if row.number_if_any(at)?.is_none() {
        return Ok(None);
    }
    let version = version(row, at)?;
    let header = row.bytes(at + 2)?;
    if row.number(at + 1)? != commit_crc(log, version, &header) {
        return Err(damaged_commit(log, version).into());
    }
    Ok(Some(StoredCommit { version, header: header.into(), body: None }))
}

/// The columns `version, header_crc, header, body_crc, body`.
pub(crate) fn commit(row: &impl Row, at: usize, log: &LogId) -> Done<Option<StoredCommit>> {
    let Some(commit) = header(row, at, log)? else { return Ok(None) };
    let body = row.bytes_if_any(at + 4)?;
    let expected = body.as_ref().map(|body| commit_crc(log, commit.version, body));
    if row.number_if_any(at + 3)? != expected {
        return Err(damaged_commit(log, commit.version).into());
    }
    Ok(Some(StoredCommit { body: body.map(Into::into), ..commit }))
}

fn damaged_commit(log: &LogId, version: Version) -> Error {
    damaged("the row of the commit fails its check").with("log", log).with("version", version)
}
