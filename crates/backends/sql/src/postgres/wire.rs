//! The tables and the statements. `docs/formats/postgres.md` is the specification.

/// The number of the format, kept in `store`.
pub(super) const FORMAT: i64 = 1;

/// The tables. Bodies are compressed already, or noise; a sweep is the only thing that leaves dead rows, so what was only inserted is
/// vacuumed rarely.
pub(super) const SCHEMA: &str = "
CREATE TABLE store (format bigint NOT NULL);
CREATE TABLE logs (
  id bigint PRIMARY KEY,
  name bytea NOT NULL UNIQUE,
  boundary bigint NOT NULL,
  crc bigint NOT NULL
);
CREATE TABLE commits (
  log bigint NOT NULL,
  version bigint NOT NULL,
  header_crc bigint NOT NULL,
  body_crc bigint,
  header bytea NOT NULL,
  body bytea,
  PRIMARY KEY (log, version)
) WITH (fillfactor = 100, autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0.2);
ALTER TABLE commits ALTER COLUMN header SET STORAGE EXTERNAL, ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE blobs (
  log bigint NOT NULL,
  part bigint NOT NULL,
  name bytea NOT NULL,
  bytes bigint NOT NULL,
  crc bigint NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (log, part, name)
);
ALTER TABLE blobs ALTER COLUMN content SET STORAGE EXTERNAL;
INSERT INTO store (format) VALUES (1);
";

/// One process at a time looks for the tables and makes them. Held until the transaction ends.
pub(super) const LOCK_STORE: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('icecore store ' || $1, 0))";

/// One process at a time gives ids to new logs: not a sequence, which a copy of the tables does not take along.
pub(super) const LOCK_IDS: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('icecore ids ' || current_schema(), 0))";

/// What a server says about itself; in recovery it has no timeline of its own.
pub(super) const WHO: &str = "
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('fsync'),
  current_setting('full_page_writes'), current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
  (SELECT system_identifier::text FROM pg_control_system()),
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
  extract(epoch FROM pg_postmaster_start_time())::text,
  (SELECT sslversion FROM pg_stat_get_activity(pg_backend_pid()) WHERE ssl)";

/// As [`WHO`], of servers that do not know all of it.
pub(super) const WHO_ELSE: &str = "
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('fsync'),
  current_setting('full_page_writes'), current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
  NULL::text, NULL::text, NULL::text, NULL::text";

/// Who follows it, and whether a commit waits for them. Not of [`WHO`], which every connection asks: this takes twice as long as all of that.
pub(super) const WHO_FOLLOWS: &str = "
SELECT coalesce(string_agg(application_name || ' ' || coalesce(sync_state, '?'), ', ' ORDER BY application_name), 'none')
FROM pg_stat_replication";

/// Whether the schema is there, whether it holds a store, and how many tables it has.
pub(super) const TABLES: &str = "
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1), to_regclass($1 || '.store') IS NOT NULL,
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1)";

/// Commits something that says nothing, so that all that was committed before it is as durable as it is.
pub(super) const MAKE_DURABLE: &str = "SELECT pg_logical_emit_message(true, 'icecore', '')::text";

/// Adds the logs that are not there, in the order given. What is committed later makes it durable.
pub(super) const ADD_LOGS: &str = "
INSERT INTO logs (id, name, boundary, crc)
SELECT (SELECT coalesce(max(id), 0) FROM logs) + row_number() OVER (ORDER BY u.place), u.name, 0, u.crc
FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS u (name, crc, place)
WHERE NOT EXISTS (SELECT 1 FROM logs l WHERE l.name = u.name)";

/// Adds runs, all their commits or none; answers with the places of those that were added.
///
/// The first commits stand in the arrays $1 to $7, one a run, and the others in $8 to $13. A first commit is added above the boundary
/// and behind its predecessor; whoever holds its slot keeps it. The others follow only a first one of this same statement, and
/// nobody else can have built on that before it is committed, so their slots are free. A log that is not there adds nothing.
///
/// Every statement takes its slots in the same order, or two of them could wait for each other.
pub(super) const CREATE: &str = "
WITH wanted AS MATERIALIZED (
  SELECT u.run, l.id, u.version, u.header_crc, u.body_crc, u.header, u.body
  FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[])
    WITH ORDINALITY AS u (name, previous, version, header_crc, body_crc, header, body, run)
  JOIN logs l ON l.name = u.name
  WHERE u.version > l.boundary AND CASE
    WHEN u.version = l.boundary + 1 AND NOT EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id) THEN true
    ELSE EXISTS (
      SELECT 1 FROM commits p
      WHERE p.log = l.id AND p.version = u.version - 1 AND sha256(p.header) = u.previous)
  END
), firsts AS (
  INSERT INTO commits (log, version, header_crc, body_crc, header, body)
  SELECT id, version, header_crc, body_crc, header, body FROM wanted ORDER BY id
  ON CONFLICT (log, version) DO NOTHING
  RETURNING log
), others AS (
  INSERT INTO commits (log, version, header_crc, body_crc, header, body)
  SELECT w.id, c.version, c.header_crc, c.body_crc, c.header, c.body
  FROM unnest($8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bytea[])
    AS c (run, version, header_crc, body_crc, header, body)
  JOIN wanted w ON w.run = c.run
  JOIN firsts f ON f.log = w.id
  ORDER BY w.id, c.version
)
SELECT run FROM wanted WHERE id IN (SELECT log FROM firsts)";

/// For each run a row of its log with the head, once for each of its slots that is filled.
pub(super) const SLOTS: &str = "
SELECT l.name, l.boundary, l.crc, h.version, h.header_crc, h.header, s.version, s.header_crc, s.header
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS u (name, first, last)
JOIN logs l ON l.name = u.name
LEFT JOIN LATERAL (
  SELECT version, header_crc, header FROM commits WHERE log = l.id ORDER BY version DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (
  SELECT version, header_crc, header FROM commits WHERE log = l.id AND version BETWEEN u.first AND u.last) s ON true";

pub(super) const HEADS: &str = "
SELECT l.name, l.boundary, l.crc, h.version, h.header_crc, h.header
FROM unnest($1::bytea[]) AS u (name)
JOIN logs l ON l.name = u.name
LEFT JOIN LATERAL (
  SELECT version, header_crc, header FROM commits WHERE log = l.id ORDER BY version DESC LIMIT 1) h ON true";

pub(super) const IS_PAST: &str = "
SELECT l.id FROM unnest($1::bytea[], $2::bigint[]) AS u (name, seen)
JOIN logs l ON l.name = u.name
WHERE EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id AND c.version > u.seen)
LIMIT 1";

/// A page: the log's row, and beside it commits until their bytes reach the limit. The length of a body is known without reading it.
pub(super) const PAGE: &str = "
SELECT l.boundary, l.crc, c.version, c.header_crc, c.header, c.body_crc, c.body
FROM logs l
LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT version, header_crc, header, body_crc, body,
      sum(octet_length(header) + coalesce(octet_length(body), 0))
        OVER (ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM commits WHERE log = l.id AND version >= $2 AND version > l.boundary ORDER BY version LIMIT $3) p
  WHERE coalesce(p.bytes_before, 0) < $4) c ON true
WHERE l.name = $1
ORDER BY c.version";

/// The same without bodies.
pub(super) const PAGE_OF_HEADERS: &str = "
SELECT l.boundary, l.crc, c.version, c.header_crc, c.header
FROM logs l
LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT version, header_crc, header,
      sum(octet_length(header)) OVER (ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM commits WHERE log = l.id AND version >= $2 AND version > l.boundary ORDER BY version LIMIT $3) p
  WHERE coalesce(p.bytes_before, 0) < $4) c ON true
WHERE l.name = $1
ORDER BY c.version";

/// Names from a listing's place on: in order, only of logs that have a commit.
pub(super) const NAMES: &str = "
SELECT name FROM logs l
WHERE name >= $1 AND name < $2 AND ($3::bytea IS NULL OR name > $3)
  AND EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id)
ORDER BY name LIMIT $4";

/// Raises the boundary of a log that has a commit above it. What is seen to be above it stays above it.
pub(super) const CLOSE: &str = "
UPDATE logs l SET boundary = $2, crc = $3
WHERE name = $1 AND boundary < $2 AND EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id AND c.version > $2)
RETURNING id";

/// Keeps every create out until the transaction ends, and waits for those that run.
pub(super) const LOCK_COMMITS: &str = "LOCK TABLE commits IN SHARE ROW EXCLUSIVE MODE";

/// Raises the boundary of a log without commits, under [`LOCK_COMMITS`].
pub(super) const CLOSE_EMPTY: &str = "
UPDATE logs l SET boundary = $2, crc = $3
WHERE name = $1 AND boundary < $2 AND NOT EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id)
RETURNING id";

/// The log's id and boundary, and whether there is anything at or below it.
pub(super) const CLOSED: &str = "
SELECT l.id, l.boundary, l.crc, EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id AND c.version <= l.boundary)::int::bigint
FROM logs l WHERE l.name = $1";

/// The transactions that write commits now. A statement locks its table before it takes its snapshot, and lets go when it has
/// committed: one that may not have seen a boundary that we see is in here.
pub(super) const WRITERS: &str = "
SELECT k.virtualtransaction FROM pg_locks k
WHERE k.locktype = 'relation' AND k.relation = 'commits'::regclass AND k.mode = 'RowExclusiveLock' AND k.granted
  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND k.pid IS DISTINCT FROM pg_backend_pid()";

/// Deletes some of the commits through a boundary; how many, and their bytes.
pub(super) const SWEEP: &str = "
WITH doomed AS (
  SELECT version FROM commits WHERE log = $1 AND version <= $2 ORDER BY version LIMIT 5000
), gone AS (
  DELETE FROM commits c USING doomed d WHERE c.log = $1 AND c.version = d.version
  RETURNING octet_length(c.header) + coalesce(octet_length(c.body), 0) AS bytes
)
SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone";

pub(super) const DROP_BODIES: &str = "
UPDATE commits c SET body = NULL, body_crc = NULL FROM logs l
WHERE l.name = $1 AND c.log = l.id AND c.version = ANY ($2)";

/// The first part of a blob, if none of its name is there. Its log is.
pub(super) const PUT_BLOB: &str = "
INSERT INTO blobs (log, part, name, bytes, crc, content)
SELECT l.id, 0, $2, $3, $4, $5 FROM logs l WHERE l.name = $1
ON CONFLICT (log, part, name) DO NOTHING
RETURNING log";

pub(super) const PUT_PART: &str =
    "INSERT INTO blobs (log, part, name, bytes, crc, content) VALUES ($1, $2, $3, $4, $5, $6)";

/// Some parts of a blob; with each the length of the whole. Without the first part there is no blob.
pub(super) const GET_PARTS: &str = "
SELECT f.bytes, b.part, b.crc, b.content
FROM logs l
JOIN blobs f ON f.log = l.id AND f.part = 0 AND f.name = $2
LEFT JOIN blobs b ON b.log = l.id AND b.name = $2 AND b.part BETWEEN $3 AND $4
WHERE l.name = $1
ORDER BY b.part";

pub(super) const LIST_BLOBS: &str = "
SELECT b.name, b.bytes FROM logs l JOIN blobs b ON b.log = l.id AND b.part = 0
WHERE l.name = $1 AND b.name >= $2 AND b.name < $3
ORDER BY b.name";

pub(super) const DELETE_BLOB: &str = "
DELETE FROM blobs b
USING logs l JOIN blobs f ON f.log = l.id AND f.part = 0 AND f.name = $2,
  LATERAL generate_series(0, f.bytes / $3) AS p (part)
WHERE l.name = $1 AND b.log = l.id AND b.part = p.part AND b.name = $2";

pub(super) const SIZES: &str = "
SELECT (SELECT count(*) FROM logs l WHERE EXISTS (SELECT 1 FROM commits c WHERE c.log = l.id)), (SELECT count(*) FROM commits),
  (pg_total_relation_size('logs') + pg_total_relation_size('commits') + pg_total_relation_size('blobs'))::bigint,
  current_setting('server_version')";
