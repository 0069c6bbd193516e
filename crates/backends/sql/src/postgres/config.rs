//! A URL and options in, with the defaults stated; and what is looked at, set, made and refused when a store is opened.

use std::fmt;
use std::str::FromStr;

use icecore_log::{Access, Durability, Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Row};

use super::places::places;
use super::{Postgres, wire};
use crate::server::config::{self, Bounds, invalid};
use crate::server::fault::Fault;
use crate::server::pool::Session;
use crate::server::statement::query;
use crate::server::{Done, OPENING};

/// Where a store is, and its bounds.
#[derive(Clone)]
pub struct Settings {
    /// The servers, of which one is the primary.
    pub(super) connect: Vec<PgConnectOptions>,
    /// The schema that holds the store: `icecore`. URL: `schema`.
    pub schema: String,
    /// Whether a pooler in between gives each transaction another session, as pgbouncer does: found out if it refuses what a
    /// server takes. URL: `pgbouncer`.
    pub pgbouncer: bool,
    /// Times and connections.
    pub bounds: Bounds,
}

/// The password is in what connects, which is therefore never shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.hosts())
            .field("database", &self.database())
            .field("schema", &self.schema)
            .field("bounds", &self.bounds)
            .field("pgbouncer", &self.pgbouncer)
            .finish_non_exhaustive()
    }
}

/// The options of PostgreSQL's own that a URL may have. sqlx logs others, with their values.
const PASSED_ON: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

impl Settings {
    /// Reads a URL: `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?schema=…`; what it leaves out comes from `PGHOST`, `PGPORT`,
    /// `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE` and `~/.pgpass`. `password_file=PATH` names a file that holds the password. Of
    /// several hosts the primary is found out, now and after a fail-over.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be read; the error shows nothing of it.
    pub fn parse(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(invalid("A PostgreSQL store is named postgres://USER@HOST/DATABASE"));
        }
        let (theirs, ours) = config::options(url, PASSED_ON)?;
        let connect = places(&theirs)?.iter().map(|url| options(url)).collect::<Result<_>>()?;
        let mut settings =
            Self { connect, schema: "icecore".to_owned(), pgbouncer: false, bounds: Bounds::default() };
        for (name, value) in ours {
            settings.set(name, &value)?;
        }
        Ok(settings)
    }

    /// `HOST:PORT`, one after the other.
    pub(super) fn hosts(&self) -> String {
        let hosts = self.connect.iter().map(|server| format!("{}:{}", server.get_host(), server.get_port()));
        hosts.collect::<Vec<_>>().join(",")
    }

    pub(super) fn database(&self) -> &str {
        self.connect.first().and_then(PgConnectOptions::get_database).unwrap_or_default()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if self.bounds.set(name, value)? {
            return Ok(());
        }
        match name {
            "schema" => {
                if !is_schema(value) {
                    return Err(invalid(
                        "A schema is named by at most 63 of a-z, 0-9 and _, and begins with a letter or _",
                    ));
                }
                value.clone_into(&mut self.schema);
            }
            "pgbouncer" => {
                self.pgbouncer = value.parse().map_err(|_| invalid("pgbouncer is true or false"))?;
            }
            "password_file" => {
                let password = config::password(value)?;
                self.connect = self.connect.drain(..).map(|server| server.password(&password)).collect();
            }
            // What drivers ask for to be led to the primary. There is no other choice here, also where it is not asked for.
            "target_session_attrs" if ["primary", "read-write"].contains(&value) => {}
            "target_session_attrs" => {
                return Err(invalid(
                    "target_session_attrs is read-write or primary: a standby does not have what was just acknowledged",
                ));
            }
            _ => {
                return Err(invalid(format!(
                    "A PostgreSQL URL has no other options than schema, timeout_ms, connections_max, pgbouncer, password_file, target_session_attrs, {}",
                    PASSED_ON.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// One server's, of a URL that names one.
fn options(url: &str) -> Result<PgConnectOptions> {
    let connect = PgConnectOptions::from_str(url).map_err(|_| config::unreadable())?;
    // Nothing here needs it, and poolers refuse it. What is sent is nobody's to log.
    let connect = connect.extra_float_digits(None).disable_statement_logging();
    Ok(if connect.get_application_name().is_none() { connect.application_name("icecore") } else { connect })
}

/// Nothing that would have to be quoted anywhere.
fn is_schema(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 63
        && name.bytes().all(is_plain)
        && name.starts_with(|first: char| !first.is_ascii_digit())
        && !name.is_empty()
        && !name.starts_with("pg_")
}

/// The oldest server whose functions suffice: 13.
const VERSION_MIN: i32 = 130_000;

/// What the server says about itself.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub version: i32,
    pub is_standby: bool,
    pub fsync: String,
    pub full_page_writes: String,
    pub synchronous_commit: String,
    pub synchronous_standby_names: String,
    /// What it shares with its copies.
    pub system: Option<String>,
    /// How often a copy of it was promoted, and one more; none in recovery, and where nobody tells.
    pub timeline: Option<u32>,
    /// When it was started.
    pub started: Option<String>,
    /// The protocol by which the connection is encrypted, if it is; of a pooler's own, where one is in between.
    pub tls: Option<String>,
}

impl Found {
    /// The answer to [`wire::WHO`].
    pub fn of(row: &PgRow) -> Done<Self> {
        let timeline: Option<String> = get(row, 7)?;
        Ok(Self {
            version: get(row, 0)?,
            is_standby: get(row, 1)?,
            fsync: get(row, 2)?,
            full_page_writes: get(row, 3)?,
            synchronous_commit: get(row, 4)?,
            synchronous_standby_names: get(row, 5)?,
            system: get(row, 6)?,
            timeline: timeline.and_then(|digits| u32::from_str_radix(&digits, 16).ok()),
            started: get(row, 8)?,
            tls: get(row, 9)?,
        })
    }

    /// Which history of which system it goes on with.
    pub fn history(&self) -> String {
        let timeline = self.timeline.map_or_else(|| "not told".to_owned(), |timeline| timeline.to_string());
        format!("{timeline} of system {}", self.system.as_deref().unwrap_or("not told"))
    }

    /// Refuses a server on which nothing could be promised.
    pub fn check(&self) -> Result<()> {
        let refused = |advice: &str| {
            Err(Error::new(ErrorKind::Refused, OPENING).with("server_version", self.version).advise(advice))
        };
        if self.version < VERSION_MIN {
            return refused("It is older than PostgreSQL 13");
        }
        if self.is_standby {
            return refused(
                "It is a standby, which does not have what was just acknowledged: name the primary",
            );
        }
        Ok(())
    }

    /// What our sessions set: never less than a local sync.
    pub fn synchronous_commit(&self) -> &str {
        if self.synchronous_commit == "off" { "on" } else { &self.synchronous_commit }
    }

    /// What an acknowledged commit survives, with that.
    pub fn durability(&self) -> Durability {
        if self.fsync != "on" || self.full_page_writes != "on" {
            return Durability::Machine;
        }
        // `remote_write` is in the memory of another machine, and `local` waits for none.
        let waits = matches!(self.synchronous_commit(), "on" | "remote_apply");
        if waits && !self.synchronous_standby_names.trim().is_empty() {
            Durability::Replicated
        } else {
            Durability::Disk
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fsync={} full_page_writes={} synchronous_commit={} (sessions set {}) synchronous_standby_names='{}'",
            self.fsync,
            self.full_page_writes,
            self.synchronous_commit,
            self.synchronous_commit(),
            self.synchronous_standby_names,
        )
    }
}

/// A column of what is asked for when opening and connecting.
fn get<'r, T>(row: &'r PgRow, column: usize) -> Done<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(|error| Fault::row(&error))
}

/// Looks for the store's tables; to write, makes them if nothing is there.
pub(super) async fn make_tables(
    session: &mut Session<Postgres>,
    settings: &Settings,
    access: Access,
) -> Done<()> {
    let schema = &settings.schema;
    // Most stores are there: one look, without a lock.
    match session.look(query(FORMAT)).await {
        Ok(rows) => return check_format(&rows),
        Err(fault) if session.is_busy() => return Err(fault),
        // Whatever the server has against it is found out by what follows.
        Err(_) => {}
    }
    session.begin().await?;
    if access == Access::ReadWrite {
        session.within(query(wire::LOCK_STORE).bind(schema)).await?;
    }
    let rows = session.within(query(wire::TABLES).bind(schema)).await?;
    let (is_schema, is_store, tables): (bool, bool, i64) = match rows.first() {
        Some(row) => (get(row, 0)?, get(row, 1)?, get(row, 2)?),
        None => (false, false, 0),
    };
    if is_store {
        let rows = session.within(query(FORMAT)).await?;
        session.roll_back().await;
        return check_format(&rows);
    }
    if tables > 0 {
        session.roll_back().await;
        return Err(refused("The schema holds the tables of another program: name another with schema="));
    }
    if access == Access::ReadOnly {
        session.roll_back().await;
        let missing = Error::new(ErrorKind::NotFound, OPENING);
        return Err(missing.advise("There is no store: append something to make one").into());
    }
    if !is_schema {
        session.execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    session.execute(wire::SCHEMA).await?;
    session.commit().await
}

const FORMAT: &str = "SELECT format FROM store";

fn check_format(rows: &[PgRow]) -> Done<()> {
    match rows.first().map(|row| get::<i64>(row, 0)).transpose()? {
        Some(wire::FORMAT) => Ok(()),
        Some(later) if later > wire::FORMAT => Err(crate::later_format(later, wire::FORMAT).into()),
        _ => Err(refused("The schema has an impossible format: restore it from a copy")),
    }
}

fn refused(advice: &str) -> Fault {
    Fault::Ours(Error::new(ErrorKind::Refused, OPENING).advise(advice))
}

#[cfg(test)]
impl Found {
    /// A primary that syncs, and waits for nobody.
    pub fn example() -> Self {
        Self {
            version: 150_000,
            is_standby: false,
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: String::new(),
            system: None,
            timeline: None,
            started: None,
            tls: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_url_is_read() {
        for (url, host, port, database) in [
            ("postgres://ada:s@db:5433/agents", "db", 5433, Some("agents")),
            ("postgresql://ada@db/agents?schema=one", "db", 5432, Some("agents")),
            ("postgres://[::1]:6000/agents", "[::1]", 6000, Some("agents")),
            ("postgres://ada@db/a%20b?sslmode=disable&timeout_ms=50", "db", 5432, Some("a b")),
            ("postgres:///agents?host=db&port=7&user=ada&password=s", "db", 7, Some("agents")),
        ] {
            let settings = Settings::parse(url).unwrap();
            assert_eq!(settings.hosts(), format!("{host}:{port}"), "{url}");
            assert_eq!(settings.connect[0].get_database(), database, "{url}");
        }
        let socket = Settings::parse("postgres:///agents?host=/run/postgresql").unwrap();
        assert_eq!(socket.connect[0].get_socket().unwrap().to_str(), Some("/run/postgresql"));
        let settings =
            Settings::parse("postgres://db/a?schema=s_1&timeout_ms=70&connections_max=3&pgbouncer=true")
                .unwrap();
        assert_eq!((settings.schema.as_str(), settings.bounds.timeout.as_millis()), ("s_1", 70));
        assert_eq!((settings.bounds.connections_max, settings.pgbouncer), (3, true));
    }

    #[test]
    fn a_url_may_name_several_servers() {
        for (url, hosts) in [
            ("postgres://ada:s@a:1,b,[::1]:3/agents?target_session_attrs=read-write", "a:1,b:5432,[::1]:3"),
            ("postgres://a,b:6/agents?target_session_attrs=primary&schema=one", "a:5432,b:6"),
            ("postgres://ada:s%2C1@a,b/agents", "a:5432,b:5432"),
        ] {
            let settings = Settings::parse(url).unwrap();
            assert_eq!((settings.hosts().as_str(), settings.database()), (hosts, "agents"), "{url}");
            assert_eq!(settings.connect[0].get_username(), settings.connect[1].get_username());
        }
    }

    #[test]
    fn a_password_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SECRET\n").unwrap();

        let settings =
            Settings::parse(&format!("postgres://ada@db/a?password_file={}", file.path().display())).unwrap();

        assert!(!format!("{settings:?}").contains("SECRET"));
        assert!(settings.connect[0].to_url_lossy().as_str().contains("SECRET"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_showing_it() {
        for url in [
            "postgres://ada:SEC?RET@db/agents",
            "postgres://ada:SECRET@db/agents?SECRET",
            "postgres://ada:SECRET@db/agents?secret=SECRET",
            "postgres://ada:SECRET@db:port/agents",
            "postgres://ada:SECRET@db/agents?sslmode=SECRET",
            "postgres://ada:SECRET@db/agents?port=SECRET",
            "postgres://ada:SECRET@db/agents?schema=SECRET",
            "postgres://ada:SECRET@db/agents?schema=pg_catalog",
            "postgres://ada:SECRET@db/agents?schema=",
            "postgres://ada:SECRET@db/agents?timeout_ms=SECRET",
            "postgres://ada:SECRET@db/agents?timeout_ms=0",
            "postgres://ada:SECRET@db/agents?connections_max=1",
            "postgres://ada:SECRET@db/agents?pgbouncer=SECRET",
            "postgres://ada:SECRET@db/agents?target_session_attrs=any",
            "postgres://ada:SECRET@a,b:port/agents",
            "postgres://ada:SECRET@a,,b/agents",
            "postgres://ada:SECRET@a,b/agents?host=c",
            "postgres://ada:SECRET@/agents?host=a,b",
            "postgres://ada:SECRET@a/agents?port=1,2",
            "postgres://ada:SECRET@db/agents?password_file=%2",
            "postgres://ada:SECRET@db/agents?password_file=%ff",
            "mysql://ada:SECRET@db/agents",
        ] {
            let error = Settings::parse(url).unwrap_err();

            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(!format!("{error} {error:?}").contains("SEC"), "{error:?}");
        }
    }

    #[test]
    fn no_more_is_declared_than_the_server_does() {
        let found = |fsync: &str, full: &str, commit: &str, standbys: &str| Found {
            fsync: fsync.to_owned(),
            full_page_writes: full.to_owned(),
            synchronous_commit: commit.to_owned(),
            synchronous_standby_names: standbys.to_owned(),
            ..Found::example()
        };
        for (settings, durability) in [
            (found("on", "on", "on", ""), Durability::Disk),
            (found("on", "on", "off", ""), Durability::Disk),
            (found("on", "on", "on", "ANY 1 (a, b)"), Durability::Replicated),
            (found("on", "on", "remote_apply", "a"), Durability::Replicated),
            (found("on", "on", "remote_write", "a"), Durability::Disk),
            (found("on", "on", "local", "a"), Durability::Disk),
            (found("off", "on", "on", "a"), Durability::Machine),
            (found("on", "off", "on", ""), Durability::Machine),
        ] {
            assert_eq!(settings.durability(), durability, "{settings:?}");
            assert_ne!(settings.synchronous_commit(), "off");
        }
        assert!(Found { is_standby: true, ..found("on", "on", "on", "") }.check().is_err());
        assert!(Found { version: 120_022, ..found("on", "on", "on", "") }.check().is_err());
    }
}
