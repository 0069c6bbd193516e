//! The tables, their statements, and the checksum of a row. `docs/formats/sqlite.md` is the specification.

use icecore_log::{BlobId, Error, ErrorKind, LogId, Version};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

/// The number of the format, kept as `user_version`.
pub(super) const FORMAT: i64 = 1;
/// `ICEC`, kept as `application_id`.
const APPLICATION: i64 = 0x4943_4543;
pub(super) const SYNCHRONOUS_FULL: i64 = 2;

/// Rows with an index beside them: with the rows in the index (`WITHOUT ROWID`), bodies of 1 KB took four times the space.
pub(super) const SCHEMA: &str = "
CREATE TABLE logs (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  boundary INTEGER NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE commits (
  log INTEGER NOT NULL,
  version INTEGER NOT NULL,
  header_crc INTEGER NOT NULL,
  body_crc INTEGER,
  header BLOB NOT NULL,
  body BLOB
) STRICT;
CREATE UNIQUE INDEX commits_by_version ON commits (log, version);
CREATE TABLE blobs (
  id INTEGER PRIMARY KEY,
  log INTEGER NOT NULL,
  name TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  UNIQUE (log, name)
) STRICT;
CREATE TABLE blob_parts (
  blob INTEGER NOT NULL,
  part INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX blob_parts_by_number ON blob_parts (blob, part);
PRAGMA application_id = 1229145411;
PRAGMA user_version = 1;
";

/// A blob is kept in parts of so many bytes, the last one shorter.
pub(super) const PART_BYTES: usize = 64 << 10;

/// The format of a database of ours; `None` if it is not ours.
pub(super) fn format(connection: &Connection) -> Result<Option<i64>> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(if pragma("application_id")? == APPLICATION { Some(pragma("user_version")?) } else { None })
}

/// Whether the database has no table at all.
pub(super) fn is_empty(connection: &Connection) -> Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// `journal_mode` and `synchronous`, as they are.
pub(super) fn durability(connection: &Connection) -> Result<(String, i64)> {
    let journal = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    Ok((journal, synchronous))
}

/// Brings as much of the write-ahead log into the database as nobody reads, and syncs both.
pub(super) fn checkpoint(connection: &Connection) -> Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Changes when another connection has committed.
pub(super) fn data_version(connection: &Connection) -> Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// A version as SQLite keeps it; `None` above 2^63-1, where no commit is.
pub(super) fn signed(version: Version) -> Option<i64> {
    i64::try_from(version.0).ok()
}

fn version(row: &Row<'_>, column: usize) -> Result<Version> {
    // A negative one fails its checksum.
    Ok(Version(row.get::<_, i64>(column)?.cast_unsigned()))
}

/// CRC-32 over numbers, little-endian, and bytes.
fn crc(numbers: &[u64], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    hasher.update(bytes);
    hasher.finalize()
}

pub(super) fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a store")
        .with("because", what)
        .advise("Run `icecore verify` to see how far the damage goes, and restore it from a copy")
}

/// A log's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogRow {
    pub id: i64,
    pub boundary: Version,
}

impl LogRow {
    fn crc(self, name: &str) -> u32 {
        crc(&[self.id.cast_unsigned(), self.boundary.0], name.as_bytes())
    }
}

type Checked<T> = std::result::Result<T, super::Fault>;

pub(super) fn find_log(connection: &Connection, log: &LogId) -> Checked<Option<LogRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, boundary, crc FROM logs INDEXED BY sqlite_autoindex_logs_1 WHERE name = ?1",
    )?;
    let found = statement
        .query_row([log.as_str()], |row| {
            Ok((LogRow { id: row.get(0)?, boundary: version(row, 1)? }, row.get::<_, i64>(2)?))
        })
        .optional()?;
    match found {
        Some((row, crc)) if i64::from(row.crc(log.as_str())) != crc => {
            Err(damaged("the row of the log fails its check").with("log", log).into())
        }
        found => Ok(found.map(|(row, _)| row)),
    }
}

pub(super) fn add_log(connection: &Connection, log: &LogId) -> Checked<LogRow> {
    let id: i64 = connection
        .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM logs")?
        .query_row([], |row| row.get(0))?;
    let row = LogRow { id, boundary: Version::ZERO };
    connection
        .prepare_cached("INSERT INTO logs (id, name, boundary, crc) VALUES (?1, ?2, 0, ?3)")?
        .execute(params![id, log.as_str(), row.crc(log.as_str())])?;
    Ok(row)
}

pub(super) fn set_boundary(connection: &Connection, log: &LogId, row: LogRow) -> Result<()> {
    connection.prepare_cached("UPDATE logs SET boundary = ?2, crc = ?3 WHERE id = ?1")?.execute(params![
        row.id,
        row.boundary.0.cast_signed(),
        row.crc(log.as_str())
    ])?;
    Ok(())
}

/// A commit's row: what it is found by, and what it holds.
#[derive(Debug)]
pub(super) struct CommitRow {
    pub version: Version,
    pub header: Vec<u8>,
    /// `None` if it was dropped, or not asked for.
    pub body: Option<Vec<u8>>,
    is_whole: bool,
}

impl CommitRow {
    /// The columns `version, header_crc, header` and, if bodies are wanted, `body_crc, body`.
    fn from_row(row: &Row<'_>, id: i64, bodies: bool) -> Result<Self> {
        let version = version(row, 0)?;
        let numbers = [id.cast_unsigned(), version.0];
        let header: Vec<u8> = row.get(2)?;
        let body: Option<Vec<u8>> = if bodies { row.get(4)? } else { None };
        let body_crc: Option<i64> = if bodies { row.get(3)? } else { None };
        let is_whole = row.get::<_, i64>(1)? == i64::from(crc(&numbers, &header))
            && body.as_ref().map(|body| i64::from(crc(&numbers, body))) == body_crc;
        Ok(Self { version, header, body, is_whole })
    }

    fn checked(self, log: &LogId) -> Checked<Self> {
        if self.is_whole {
            return Ok(self);
        }
        Err(damaged("the row of the commit fails its check")
            .with("log", log)
            .with("version", self.version)
            .into())
    }

    pub fn bytes(&self) -> usize {
        self.header.len() + self.body.as_ref().map_or(0, Vec::len)
    }
}

/// The last commit's row, without its body.
pub(super) fn head(connection: &Connection, log: &LogId, id: i64) -> Checked<Option<CommitRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, header_crc, header FROM commits WHERE log = ?1 ORDER BY version DESC LIMIT 1",
    )?;
    let found = statement.query_row([id], |row| CommitRow::from_row(row, id, false)).optional()?;
    found.map(|row| row.checked(log)).transpose()
}

/// One commit's row, without its body.
pub(super) fn header(
    connection: &Connection,
    log: &LogId,
    id: i64,
    version: Version,
) -> Checked<Option<CommitRow>> {
    let Some(version) = signed(version) else {
        return Ok(None);
    };
    let mut statement = connection
        .prepare_cached("SELECT version, header_crc, header FROM commits WHERE log = ?1 AND version = ?2")?;
    let found = statement.query_row([id, version], |row| CommitRow::from_row(row, id, false)).optional()?;
    found.map(|row| row.checked(log)).transpose()
}

/// Commits from a version on, in order, while `take` says so.
pub(super) fn commits(
    connection: &Connection,
    log: &LogId,
    id: i64,
    from: Version,
    bodies: bool,
    mut take: impl FnMut(CommitRow) -> Checked<bool>,
) -> Checked<()> {
    let Some(from) = signed(from) else {
        return Ok(());
    };
    let sql = if bodies {
        "SELECT version, header_crc, header, body_crc, body FROM commits WHERE log = ?1 AND version >= ?2 ORDER BY version"
    } else {
        "SELECT version, header_crc, header FROM commits WHERE log = ?1 AND version >= ?2 ORDER BY version"
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id, from])?;
    while let Some(row) = rows.next()? {
        if !take(CommitRow::from_row(row, id, bodies)?.checked(log)?)? {
            break;
        }
    }
    Ok(())
}

pub(super) fn add_commit(connection: &Connection, id: i64, commit: &icecore_log::StoredCommit) -> Result<()> {
    let numbers = [id.cast_unsigned(), commit.version.0];
    connection
        .prepare_cached(
            "INSERT INTO commits (log, version, header_crc, body_crc, header, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id,
            commit.version.0.cast_signed(),
            crc(&numbers, &commit.header),
            commit.body.as_ref().map(|body| crc(&numbers, body)),
            &commit.header[..],
            commit.body.as_deref(),
        ])?;
    Ok(())
}

pub(super) fn drop_body(connection: &Connection, id: i64, version: i64) -> Result<()> {
    connection
        .prepare_cached("UPDATE commits SET body = NULL, body_crc = NULL WHERE log = ?1 AND version = ?2")?
        .execute([id, version])?;
    Ok(())
}

/// How many rows a step of a sweep deletes at the most.
const SWEPT_ROWS_MAX: i64 = 5_000;

/// Deletes some of the commits through a boundary; how many, and their bytes.
pub(super) fn sweep(connection: &Connection, row: LogRow) -> Result<(u64, u64)> {
    let Some(boundary) = signed(row.boundary) else {
        return Ok((0, 0));
    };
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(version) FROM (SELECT version FROM commits WHERE log = ?1 AND version <= ?2 ORDER BY version LIMIT ?3)")?
        .query_row([row.id, boundary, SWEPT_ROWS_MAX], |found| found.get(0))?;
    let Some(last) = last else {
        return Ok((0, 0));
    };
    let (count, bytes): (i64, i64) = connection
        .prepare_cached("SELECT count(*), sum(length(header) + coalesce(length(body), 0)) FROM commits WHERE log = ?1 AND version <= ?2")?
        .query_row([row.id, last], |found| Ok((found.get(0)?, found.get(1)?)))?;
    connection
        .prepare_cached("DELETE FROM commits WHERE log = ?1 AND version <= ?2")?
        .execute([row.id, last])?;
    Ok((count.cast_unsigned(), bytes.cast_unsigned()))
}

/// Names from a listing's place on: in order, only of logs that have a commit.
pub(super) fn names(
    connection: &Connection,
    after: &str,
    is_after: bool,
    prefix: &str,
    limit: usize,
) -> Result<Vec<String>> {
    // Every byte of a name is below `DEL`, so what begins with a prefix stands below the prefix and that.
    let end = format!("{prefix}\u{7f}");
    let sql = if is_after {
        "SELECT name FROM logs WHERE name > ?1 AND name < ?2 AND EXISTS (SELECT 1 FROM commits WHERE log = logs.id) ORDER BY name LIMIT ?3"
    } else {
        "SELECT name FROM logs WHERE name >= ?1 AND name < ?2 AND EXISTS (SELECT 1 FROM commits WHERE log = logs.id) ORDER BY name LIMIT ?3"
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, end, limit], |row| row.get(0))?;
    rows.collect()
}

/// A blob's row.
#[derive(Debug, Clone)]
pub(super) struct BlobRow {
    pub id: i64,
    pub name: String,
    pub bytes: u64,
    is_whole: bool,
}

fn blob_crc(log: i64, id: i64, bytes: u64, name: &str) -> u32 {
    crc(&[log.cast_unsigned(), id.cast_unsigned(), bytes], name.as_bytes())
}

impl BlobRow {
    /// The columns `id, name, bytes, crc`.
    fn from_row(row: &Row<'_>, log: i64) -> Result<Self> {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let bytes = row.get::<_, i64>(2)?.cast_unsigned();
        let is_whole = row.get::<_, i64>(3)? == i64::from(blob_crc(log, id, bytes, &name));
        Ok(Self { id, name, bytes, is_whole })
    }

    fn checked(self, log: &LogId) -> Checked<Self> {
        if self.is_whole {
            return Ok(self);
        }
        Err(damaged("the row of a blob fails its check").with("log", log).with("blob", &self.name).into())
    }
}

pub(super) fn find_blob(connection: &Connection, log: i64, blob: &BlobId) -> Checked<Option<BlobRow>> {
    let found = connection
        .prepare_cached("SELECT id, name, bytes, crc FROM blobs WHERE log = ?1 AND name = ?2")?
        .query_row(params![log, blob.name()], |row| BlobRow::from_row(row, log))
        .optional()?;
    found.map(|row| row.checked(blob.log())).transpose()
}

/// The blobs of a log whose names begin so, in order.
pub(super) fn blobs(connection: &Connection, log: &LogId, id: i64, prefix: &str) -> Checked<Vec<BlobRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, bytes, crc FROM blobs WHERE log = ?1 AND name >= ?2 AND name < ?3 ORDER BY name",
    )?;
    let rows = statement
        .query_map(params![id, prefix, format!("{prefix}\u{7f}")], |row| BlobRow::from_row(row, id))?;
    rows.map(|row| row?.checked(log)).collect()
}

pub(super) fn add_blob(connection: &Connection, log: i64, name: &str, content: &[u8]) -> Result<()> {
    let id: i64 = connection
        .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM blobs")?
        .query_row([], |row| row.get(0))?;
    let bytes = content.len() as u64;
    connection
        .prepare_cached("INSERT INTO blobs (id, log, name, bytes, crc) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![id, log, name, bytes.cast_signed(), blob_crc(log, id, bytes, name)])?;
    let mut add = connection
        .prepare_cached("INSERT INTO blob_parts (blob, part, crc, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    for (number, part) in (0_u64..).zip(content.chunks(PART_BYTES)) {
        add.execute(params![id, number.cast_signed(), crc(&[id.cast_unsigned(), number], part), part])?;
    }
    Ok(())
}

pub(super) fn delete_blob(connection: &Connection, id: i64) -> Result<()> {
    connection.prepare_cached("DELETE FROM blob_parts WHERE blob = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// The parts `first..=last` of a blob, one after the other, checked.
pub(super) fn blob_parts(connection: &Connection, row: &BlobRow, first: u64, last: u64) -> Checked<Vec<u8>> {
    let mut statement = connection.prepare_cached(
        "SELECT part, crc, bytes FROM blob_parts WHERE blob = ?1 AND part BETWEEN ?2 AND ?3 ORDER BY part",
    )?;
    let mut rows = statement.query([row.id, first.cast_signed(), last.cast_signed()])?;
    let mut content = Vec::new();
    let mut wanted = first;
    while let Some(found) = rows.next()? {
        let (number, bytes): (i64, Vec<u8>) = (found.get(0)?, found.get(2)?);
        let is_whole = found.get::<_, i64>(1)? == i64::from(crc(&[row.id.cast_unsigned(), wanted], &bytes));
        if number.cast_unsigned() != wanted || !is_whole {
            break;
        }
        content.extend_from_slice(&bytes);
        wanted += 1;
    }
    let expected = row.bytes.min((last + 1) * PART_BYTES as u64) - first * PART_BYTES as u64;
    if content.len() as u64 != expected {
        return Err(damaged("a part of a blob is missing or fails its check")
            .with("blob", &row.name)
            .with("part", wanted)
            .into());
    }
    Ok(content)
}

/// How much there is.
pub(super) struct Sizes {
    pub logs: i64,
    pub commits: i64,
    pub bytes: i64,
    /// Of `bytes`, those that the next commits use first.
    pub free_bytes: i64,
}

pub(super) fn sizes(connection: &Connection) -> Result<Sizes> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let page = number("PRAGMA page_size")?;
    Ok(Sizes {
        logs: number("SELECT count(*) FROM logs WHERE EXISTS (SELECT 1 FROM commits WHERE log = logs.id)")?,
        commits: number("SELECT count(*) FROM commits")?,
        bytes: number("PRAGMA page_count")? * page,
        free_bytes: number("PRAGMA freelist_count")? * page,
    })
}

/// What SQLite finds wrong in the structure of its file.
pub(super) fn integrity(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let said = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(said.collect::<Result<Vec<_>>>()?.into_iter().filter(|said| said != "ok").collect())
}

/// Checks the checksum of every row; the bytes that were read.
pub(super) fn check_all(connection: &Connection, mut found: impl FnMut(Error)) -> Checked<u64> {
    let mut bytes = 0;
    let mut statement = connection.prepare("SELECT name FROM logs ORDER BY id")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>>>()?;
    for name in names {
        let Ok(log) = LogId::parse(&name) else {
            found(damaged("a log has no valid name").with("log", &name));
            continue;
        };
        match check_log(connection, &log, &mut found) {
            Ok(count) => bytes += count,
            // The row of the log itself, or pages that SQLite cannot read: the others may be whole.
            Err(super::Fault::Ours(error)) => found(error),
            Err(super::Fault::Sql(error))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) =>
            {
                found(damaged("the database is damaged here").with("log", &log).because(error));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(bytes)
}

fn check_log(connection: &Connection, log: &LogId, found: &mut impl FnMut(Error)) -> Checked<u64> {
    let Some(row) = find_log(connection, log)? else {
        return Err(damaged("the log is not found by its name").with("log", log).into());
    };
    let mut bytes = 0;
    let mut statement = connection.prepare_cached(
        "SELECT version, header_crc, header, body_crc, body FROM commits WHERE log = ?1 AND version > ?2 ORDER BY version",
    )?;
    let mut rows = statement.query(params![row.id, row.boundary.0.cast_signed()])?;
    while let Some(commit) = rows.next()? {
        let commit = CommitRow::from_row(commit, row.id, true)?;
        bytes += commit.bytes() as u64;
        if let Err(super::Fault::Ours(error)) = commit.checked(log) {
            found(error);
        }
    }
    for blob in blobs(connection, log, row.id, "")? {
        let last = blob.bytes.saturating_sub(1) / PART_BYTES as u64;
        match blob_parts(connection, &blob, 0, last) {
            Ok(content) => bytes += content.len() as u64,
            Err(super::Fault::Ours(error)) => found(error.with("log", log)),
            Err(fault) => return Err(fault),
        }
    }
    Ok(bytes)
}
