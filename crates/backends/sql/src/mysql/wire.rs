//! The tables and the statements: of what MySQL 8 and MariaDB 10.11 both know. `docs/formats/mysql.md` is the specification.
//!
//! Lists of names and of rows are made as long as they are wanted, in few lengths, so that a connection prepares few statements. The
//! indexes are named, because of a new table the statistics say nothing.

/// The number of the format, kept in `icecore_store`.
pub(super) const FORMAT: i64 = 1;

/// The tables, in the order in which they are made. Names are compared as bytes, and to their last byte.
///
/// `touched` is changed by who has to commit something, so that all that was committed before it lasts.
pub(super) const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS icecore_store (
  id bigint NOT NULL PRIMARY KEY,
  format bigint NOT NULL,
  touched bigint NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
    "CREATE TABLE IF NOT EXISTS icecore_logs (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name varbinary(512) NOT NULL,
  boundary bigint NOT NULL,
  crc bigint NOT NULL,
  UNIQUE KEY name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
    "CREATE TABLE IF NOT EXISTS icecore_commits (
  log bigint NOT NULL,
  version bigint NOT NULL,
  header_crc bigint NOT NULL,
  body_crc bigint,
  bytes bigint NOT NULL,
  header longblob NOT NULL,
  body longblob,
  PRIMARY KEY (log, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
    "CREATE TABLE IF NOT EXISTS icecore_blobs (
  log bigint NOT NULL,
  name varbinary(128) NOT NULL,
  part bigint NOT NULL,
  bytes bigint NOT NULL,
  crc bigint NOT NULL,
  content longblob NOT NULL,
  PRIMARY KEY (log, name, part)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
];

/// The tables of ours that are there, and their engines.
pub(super) const FIND_TABLES: &str = "
SELECT CAST(table_name AS CHAR), CAST(engine AS CHAR) FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name IN ('icecore_store', 'icecore_logs', 'icecore_commits', 'icecore_blobs')";

pub(super) const GET_FORMAT: &str = "SELECT format FROM icecore_store WHERE id = 1";
pub(super) const SET_FORMAT: &str = "INSERT INTO icecore_store (id, format, touched) VALUES (1, 1, 0)";
pub(super) const TOUCH: &str = "UPDATE icecore_store SET touched = touched + 1 WHERE id = 1";

/// What a server says about itself. Some have only some of these.
pub(super) const VARIABLES: &str = "
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'read_only', 'super_read_only', 'innodb_read_only',
  'innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'innodb_flush_method', 'log_bin', 'sync_binlog', 'binlog_format',
  'max_allowed_packet', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_source_enabled', 'wsrep_on')";
pub(super) const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name = 'Innodb_redo_log_enabled'";

pub(super) const TLS: &str = "SHOW SESSION STATUS WHERE Variable_name = 'Ssl_version'";

/// The head of the log in `l`; `$LOCK` is nothing, or what locks it.
const HEAD: &str = "LEFT JOIN icecore_commits h ON h.log = l.id AND h.version = (
  SELECT c.version FROM icecore_commits c FORCE INDEX (PRIMARY) WHERE c.log = l.id ORDER BY c.version DESC LIMIT 1$LOCK)";

/// `?` for each, in one of few lengths: what is left over is bound to nothing, which no name is equal to.
pub(super) fn places(count: usize) -> usize {
    count.next_power_of_two()
}

fn questions(count: usize) -> String {
    vec!["?"; places(count)].join(", ")
}

fn ends(count: usize, lock: &str) -> String {
    format!(
        "SELECT l.name, l.boundary, l.crc, h.version, h.header_crc, h.header, l.id FROM icecore_logs l FORCE INDEX (name) {}
WHERE l.name IN ({}){lock}",
        HEAD.replace("$LOCK", lock),
        questions(count)
    )
}

/// `name, boundary, crc`, the head's `version, header_crc, header`, and the `id`, of so many logs.
pub(super) fn heads(count: usize) -> String {
    ends(count, "")
}

/// The same, as they are after everything that was committed until the locks were given. A boundary stays as it is while one has its lock,
/// and a head stays a predecessor.
pub(super) fn lock_heads(count: usize) -> String {
    ends(count, " LOCK IN SHARE MODE")
}

/// `name` and the head's version.
pub(super) fn versions(count: usize) -> String {
    format!(
        "SELECT l.name, (SELECT c.version FROM icecore_commits c FORCE INDEX (PRIMARY) WHERE c.log = l.id ORDER BY c.version DESC LIMIT 1)
FROM icecore_logs l FORCE INDEX (name) WHERE l.name IN ({})",
        questions(count)
    )
}

/// One log, with its head and those of its slots that are filled.
pub(super) fn slots() -> String {
    format!(
        "SELECT l.name, l.boundary, l.crc, h.version, h.header_crc, h.header, s.version, s.header_crc, s.header
FROM icecore_logs l FORCE INDEX (name) {}
LEFT JOIN icecore_commits s FORCE INDEX (PRIMARY) ON s.log = l.id AND s.version BETWEEN ? AND ?
WHERE l.name = ?",
        HEAD.replace("$LOCK", "")
    )
}

fn rows(into: &str, row: &str, count: usize) -> String {
    format!("INSERT INTO {into} VALUES {}", vec![row; count].join(", "))
}

pub(super) fn add_logs(count: usize) -> String {
    rows("icecore_logs (name, boundary, crc)", "(?, 0, ?)", count)
}

/// One row, all rows, or an error: nothing is passed over, and nothing is cut to fit.
pub(super) fn add_commits(count: usize) -> String {
    rows(
        "icecore_commits (log, version, header_crc, body_crc, bytes, header, body)",
        "(?, ?, ?, ?, ?, ?, ?)",
        count,
    )
}

pub(super) const PUT_PART: &str =
    "INSERT INTO icecore_blobs (log, name, part, bytes, crc, content) VALUES (?, ?, ?, ?, ?, ?)";

/// A page: the log's row, and beside it commits until their bytes reach the limit. Their lengths stand beside them, because this server
/// would read a body to know how long it is.
pub(super) fn page(with_bodies: bool) -> String {
    let (bytes, columns) = if with_bodies {
        ("bytes", "c.version, c.header_crc, c.header, c.body_crc, c.body")
    } else {
        ("OCTET_LENGTH(header)", "c.version, c.header_crc, c.header")
    };
    format!(
        "SELECT l.boundary, l.crc, {columns}
FROM icecore_logs l FORCE INDEX (name)
LEFT JOIN (
  SELECT w.version, SUM(w.bytes) OVER (ORDER BY w.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (
    SELECT version, {bytes} AS bytes FROM icecore_commits FORCE INDEX (PRIMARY)
    WHERE log = (SELECT id FROM icecore_logs WHERE name = ?) AND version >= ? ORDER BY version LIMIT ?
  ) w
) p ON COALESCE(p.bytes_before, 0) < ?
LEFT JOIN icecore_commits c FORCE INDEX (PRIMARY) ON c.log = l.id AND c.version = p.version
WHERE l.name = ?"
    )
}

/// Names from a listing's place on: in order, only of logs that have a commit.
pub(super) const NAMES: &str = "
SELECT l.name FROM icecore_logs l FORCE INDEX (name)
WHERE l.name >= ? AND l.name < ? AND l.name > ?
  AND (SELECT c.log FROM icecore_commits c FORCE INDEX (PRIMARY) WHERE c.log = l.id LIMIT 1) IS NOT NULL
ORDER BY l.name LIMIT ?";

/// Some parts of a blob; with each the length of the whole. Without the first part there is no blob.
pub(super) const GET_PARTS: &str = "
SELECT f.bytes, b.part, b.crc, b.content
FROM icecore_logs l FORCE INDEX (name)
JOIN icecore_blobs f FORCE INDEX (PRIMARY) ON f.log = l.id AND f.name = ? AND f.part = 0
LEFT JOIN icecore_blobs b FORCE INDEX (PRIMARY) ON b.log = l.id AND b.name = ? AND b.part BETWEEN ? AND ?
WHERE l.name = ?";

pub(super) const LIST_BLOBS: &str = "
SELECT b.name, b.bytes FROM icecore_logs l FORCE INDEX (name) JOIN icecore_blobs b FORCE INDEX (PRIMARY) ON b.log = l.id
WHERE l.name = ? AND b.name >= ? AND b.name < ? AND b.part = 0
ORDER BY b.name";

pub(super) const DELETE_BLOB: &str = "
DELETE FROM icecore_blobs WHERE log = (SELECT id FROM icecore_logs WHERE name = ?) AND name = ?";

pub(super) const SIZES: &str = "
SELECT (SELECT COUNT(*) FROM icecore_logs l WHERE (SELECT c.log FROM icecore_commits c WHERE c.log = l.id LIMIT 1) IS NOT NULL),
  (SELECT COUNT(*) FROM icecore_commits),
  (SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name IN ('icecore_logs', 'icecore_commits', 'icecore_blobs')),
  CAST(VERSION() AS CHAR)";

/// The log's id and boundary, and whether there is anything at or below it.
pub(super) const CLOSED: &str = "
SELECT l.id, l.boundary, l.crc, EXISTS (SELECT 1 FROM icecore_commits c WHERE c.log = l.id AND c.version <= l.boundary)
FROM icecore_logs l FORCE INDEX (name) WHERE l.name = ?";

/// The log's row; nobody can create in the log until the transaction ends, and nobody is creating.
pub(super) const LOCK_LOG: &str =
    "SELECT id, boundary, crc FROM icecore_logs FORCE INDEX (name) WHERE name = ? FOR UPDATE";
pub(super) const GET_HEAD: &str = "
SELECT version, header_crc, header FROM icecore_commits FORCE INDEX (PRIMARY) WHERE log = ? ORDER BY version DESC LIMIT 1";

/// Some of the commits through a boundary, to be deleted.
pub(super) const LOCK_CLOSED: &str = "
SELECT version, bytes FROM icecore_commits FORCE INDEX (PRIMARY) WHERE log = ? AND version <= ?
ORDER BY version LIMIT 2000 FOR UPDATE";
