//! A URL and options in, with the defaults stated; and what is looked at, set, made and refused when a store is opened.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use icecore_log::{Access, Durability, Error, ErrorKind, Result};
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;

use super::{MySql, wire};
use crate::server::config::{self, Bounds, invalid};
use crate::server::fault::{Fault, Stage};
use crate::server::pool::Session;
use crate::server::rows::{PART_BYTES, Row};
use crate::server::statement::query;
use crate::server::{Done, OPENING};

/// Where a store is, and its bounds.
#[derive(Clone)]
pub struct Settings {
    pub(super) connect: MySqlConnectOptions,
    /// Times and connections. The server counts [`Bounds::lock_timeout`] in whole seconds.
    pub bounds: Bounds,
}

/// The password is in what connects, which is therefore never shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.connect.get_host())
            .field("port", &self.connect.get_port())
            .field("database", &self.connect.get_database())
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// The options of the driver's own that a URL may have.
const PASSED_ON: &[&str] = &["socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode"];
/// Holds the password where a URL has none.
const PASSWORD: &str = "MYSQL_PWD";

impl Settings {
    /// Reads a URL: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, or `mariadb://…`, which is the same. Where it has no password, that comes from
    /// the file that `password_file=PATH` names, or from `MYSQL_PWD`. `ssl-mode` is `DISABLED`, `PREFERRED` (the default: TLS if the server has
    /// it, whoever that is), `REQUIRED`, `VERIFY_CA` or `VERIFY_IDENTITY`, with the authority's certificate in `ssl-ca=PATH`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be read; the error shows nothing of it.
    pub fn parse(url: &str) -> Result<Self> {
        let rest = ["mysql:", "mariadb:"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let named = || invalid("A MySQL or MariaDB store is named mysql://USER@HOST/DATABASE");
        let rest = rest.and_then(|rest| rest.strip_prefix("//")).ok_or_else(named)?;
        let (theirs, ours) = config::options(rest, PASSED_ON)?;
        let place = theirs.split('?').next().unwrap_or_default();
        let user = place.rsplit_once('@').map_or("", |(user, _)| user);
        if user.split(':').next().is_none_or(str::is_empty) || !place.contains('/') {
            return Err(named());
        }
        let connect =
            MySqlConnectOptions::from_str(&format!("mysql://{theirs}")).map_err(|_| config::unreadable())?;
        if connect.get_database().is_none_or(str::is_empty) {
            return Err(named());
        }
        // What of a session is to be set is set by us, all of it. What is sent is nobody's to log.
        let connect = connect
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging();
        // A wait is counted in seconds here.
        let bounds = Bounds { lock_timeout: std::time::Duration::from_secs(1), ..Bounds::default() };
        let mut settings = Self { connect, bounds };
        let mut has_password = user.contains(':');
        for (name, value) in ours {
            if settings.bounds.set(name, &value)? {
                continue;
            }
            if name != "password_file" {
                return Err(invalid(format!(
                    "A MySQL URL has no other options than timeout_ms, connections_max, password_file, {}",
                    PASSED_ON.join(", ")
                )));
            }
            settings.connect = settings.connect.password(&config::password(&value)?);
            has_password = true;
        }
        if !has_password && let Ok(password) = std::env::var(PASSWORD) {
            settings.connect = settings.connect.password(&password);
        }
        Ok(settings)
    }

    /// What every session is given, whatever the server and the user's own settings say.
    pub(super) fn session(&self, access: Access) -> String {
        let seconds = |duration: std::time::Duration| duration.as_millis().div_ceil(1_000).max(1);
        let mode = if access == Access::ReadOnly { "READ ONLY" } else { "READ WRITE" };
        // Whoever is cut off in the middle of something holds its locks for a minute, and not for eight hours.
        let idle = seconds(self.bounds.timeout) + 60;
        format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 0, unique_checks = 1,
  sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0,
  innodb_lock_wait_timeout = {}, lock_wait_timeout = {}, wait_timeout = {idle};
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, {mode}",
            seconds(self.bounds.lock_timeout),
            seconds(self.bounds.timeout),
        )
    }
}

/// The smallest `max_allowed_packet` that takes a part of a blob, and what is beside it.
const PACKET_MIN: usize = 2 * PART_BYTES;
/// What of the session's status is not about the server.
const TLS: &str = "Ssl_version";
/// What of a packet is not for a commit's bytes.
const PACKET_REST: usize = 64 << 10;

/// What the server says about itself.
#[derive(Debug, Clone)]
pub(super) struct Found {
    said: HashMap<String, String>,
}

impl Found {
    fn get(&self, name: &str) -> &str {
        self.said.get(name).map_or("", |value| value)
    }

    fn is_on(&self, name: &str) -> bool {
        ["ON", "1", "YES"].iter().any(|on| self.get(name).eq_ignore_ascii_case(on))
    }

    /// Refuses a server on which nothing could be promised.
    pub fn check(&self, access: Access) -> Result<()> {
        let version = self.get("version");
        let refused = |advice: &str| {
            Err(Error::new(ErrorKind::Refused, OPENING).with("server_version", version).advise(advice))
        };
        if version.contains("TiDB") {
            return refused(
                "It is TiDB, whose shared locks keep nobody out: a boundary would not hold there",
            );
        }
        let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if number < if version.contains("MariaDB") { (10, 11) } else { (8, 0) } {
            return refused("It is older than MySQL 8.0 or MariaDB 10.11");
        }
        if ["read_only", "super_read_only", "innodb_read_only"].iter().any(|name| self.is_on(name)) {
            return refused(
                "It only reads, as a replica does, which may not have what was just acknowledged: name the primary",
            );
        }
        if access == Access::ReadWrite && self.is_on("log_bin") && self.get("binlog_format") == "STATEMENT" {
            return refused("Its binary log takes statements only: set binlog_format to ROW or MIXED");
        }
        if self.packet() < PACKET_MIN {
            return refused("Set max_allowed_packet to 16M: it is less than 2M");
        }
        Ok(())
    }

    /// What an acknowledged commit survives. Replicas are shown and not counted: a wait for them ends with its time-out, without a word.
    pub fn durability(&self) -> Durability {
        let is_redone = self.get("Innodb_redo_log_enabled") != "OFF";
        match self.get("innodb_flush_log_at_trx_commit") {
            "1" | "3" if is_redone => {}
            "2" if is_redone => return Durability::Machine,
            _ => return Durability::Process,
        }
        // After a loss of power, what the binary log does not have is rolled back.
        let is_logged = !self.is_on("log_bin") || self.get("sync_binlog") == "1";
        let is_whole =
            self.is_on("innodb_doublewrite") || self.get("innodb_doublewrite") == "DETECT_AND_RECOVER";
        if is_logged && is_whole && self.get("innodb_flush_method") != "nosync" {
            Durability::Disk
        } else {
            Durability::Machine
        }
    }

    /// The protocol by which the connection is encrypted, if it is.
    pub fn tls(&self) -> Option<&str> {
        Some(self.get(TLS)).filter(|version| !version.is_empty())
    }

    fn packet(&self) -> usize {
        self.get("max_allowed_packet").parse().unwrap_or(0)
    }

    /// How many bytes of commits go into a statement, of which a commit is one.
    pub fn statement_bytes(&self) -> usize {
        self.packet().saturating_sub(PACKET_REST)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<_> =
            self.said.iter().filter(|(name, _)| !name.starts_with("version") && *name != TLS).collect();
        said.sort_unstable();
        let said: Vec<String> = said.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&said.join(" "))
    }
}

pub(super) async fn probe(session: &mut Session<MySql>) -> Done<Found> {
    let mut said = HashMap::new();
    for sql in [wire::VARIABLES, wire::STATUS, wire::TLS] {
        for row in session.look(query(sql)).await? {
            said.insert(row.text(0)?, row.text(1)?);
        }
    }
    Ok(Found { said })
}

/// Looks for the store's tables; to write, makes them if nothing is there. Several may do so at once.
pub(super) async fn make_tables(session: &mut Session<MySql>, access: Access) -> Done<()> {
    if let Some(format) = find_tables(session).await? {
        return check_format(format);
    }
    if access == Access::ReadOnly {
        let missing = Error::new(ErrorKind::NotFound, OPENING);
        return Err(missing.advise("There is no store: append something to make one").into());
    }
    for sql in wire::TABLES {
        session.control(sql, Stage::Before).await?;
    }
    // The format comes last, so that what has one is whole.
    match session.control(wire::SET_FORMAT, Stage::Before).await {
        Ok(_) | Err(Fault::Raced(_)) => {}
        Err(fault) => return Err(fault),
    }
    match find_tables(session).await? {
        Some(format) => check_format(format),
        None => Err(refused("The store's tables were taken away while they were made").into()),
    }
}

fn refused(advice: &str) -> Error {
    Error::new(ErrorKind::Refused, OPENING).advise(advice)
}

/// The format of a store whose tables are all there.
async fn find_tables(session: &mut Session<MySql>) -> Done<Option<i64>> {
    let mut found = Vec::new();
    for row in session.look(query(wire::FIND_TABLES)).await? {
        if row.text(1)? != "InnoDB" {
            return Err(refused("A table of the store is not kept by InnoDB: restore it from a copy").into());
        }
        found.push(row.text(0)?);
    }
    if found.is_empty() {
        return Ok(None);
    }
    if !found.iter().any(|name| name == "icecore_store") {
        return Err(refused("The database holds the tables of another program: name another database").into());
    }
    let format = session.look(query(wire::GET_FORMAT)).await?;
    let format = format.first().map(|row| row.number(0)).transpose()?;
    if format.is_some() && found.len() < wire::TABLES.len() {
        return Err(refused("A table of the store is gone: restore it from a copy").into());
    }
    Ok(format)
}

fn check_format(format: i64) -> Done<()> {
    match format {
        wire::FORMAT => Ok(()),
        later if later > wire::FORMAT => Err(crate::later_format(later, wire::FORMAT).into()),
        _ => Err(refused("The store has an impossible format: restore it from a copy").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_url_is_read() {
        for (url, host, port, database) in [
            ("mysql://ada:s@db:5433/agents", "db", 5433, "agents"),
            ("mariadb://ada@db/agents?timeout_ms=50", "db", 3306, "agents"),
            ("mysql://ada@db/a%20b?ssl-mode=DISABLED&connections_max=3", "db", 3306, "a b"),
            ("mysql://ada@localhost/agents?socket=/run/mysqld/mysqld.sock", "localhost", 3306, "agents"),
        ] {
            let settings = Settings::parse(url).unwrap();
            assert_eq!(settings.connect.get_host(), host, "{url}");
            assert_eq!(settings.connect.get_port(), port, "{url}");
            assert_eq!(settings.connect.get_database(), Some(database), "{url}");
        }
        let settings = Settings::parse("mysql://ada@db/a?timeout_ms=70&connections_max=3").unwrap();
        assert_eq!((settings.bounds.timeout.as_millis(), settings.bounds.connections_max), (70, 3));
    }

    #[test]
    fn a_password_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SECRET\n").unwrap();

        let settings =
            Settings::parse(&format!("mysql://ada@db/a?password_file={}", file.path().display())).unwrap();

        assert!(!format!("{settings:?}").contains("SECRET"));
        assert!(settings.connect.to_url_lossy().as_str().contains("SECRET"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_showing_it() {
        for url in [
            "mysql://ada:SEC?RET@db/agents",
            "mysql://ada:SECRET@db/agents?SECRET",
            "mysql://ada:SECRET@db/agents?secret=SECRET",
            "mysql://ada:SECRET@db:port/agents",
            "mysql://ada:SECRET@db/agents?ssl-mode=SECRET",
            "mysql://ada:SECRET@db/agents?timeout_ms=0",
            "mysql://ada:SECRET@db/agents?connections_max=1",
            "mysql://ada:SECRET@db/agents?password_file=%2",
            "mysql://ada:SECRET@db",
            "mysql://ada:SECRET@db/",
            "mysql://:SECRET@db/agents",
            "mysql://db/agents",
            "mysql:ada:SECRET@db/agents",
            "postgres://ada:SECRET@db/agents",
        ] {
            let error = Settings::parse(url).unwrap_err();

            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(!format!("{error} {error:?}").contains("SEC"), "{error:?}");
        }
    }

    fn found(said: &[(&str, &str)]) -> Found {
        let usual = [
            ("version", "8.0.36"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("innodb_doublewrite", "ON"),
            ("innodb_flush_method", "fsync"),
            ("log_bin", "ON"),
            ("sync_binlog", "1"),
            ("binlog_format", "ROW"),
            ("max_allowed_packet", "16777216"),
        ];
        let all = usual.iter().chain(said).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Found { said: all.collect() }
    }

    #[test]
    fn no_more_is_declared_than_the_server_does() {
        for (said, durability) in [
            (&[][..], Durability::Disk),
            (&[("innodb_flush_log_at_trx_commit", "3")][..], Durability::Disk),
            (&[("innodb_flush_log_at_trx_commit", "2")][..], Durability::Machine),
            (&[("innodb_flush_log_at_trx_commit", "0")][..], Durability::Process),
            (&[("innodb_flush_log_at_trx_commit", "")][..], Durability::Process),
            (&[("sync_binlog", "0")][..], Durability::Machine),
            (&[("sync_binlog", "100")][..], Durability::Machine),
            (&[("sync_binlog", "0"), ("log_bin", "OFF")][..], Durability::Disk),
            (&[("innodb_doublewrite", "OFF")][..], Durability::Machine),
            (&[("innodb_doublewrite", "DETECT_ONLY")][..], Durability::Machine),
            (&[("innodb_doublewrite", "DETECT_AND_RECOVER")][..], Durability::Disk),
            (&[("innodb_flush_method", "nosync")][..], Durability::Machine),
            (&[("Innodb_redo_log_enabled", "OFF")][..], Durability::Process),
            (&[("Innodb_redo_log_enabled", "ON")][..], Durability::Disk),
            (&[("rpl_semi_sync_master_enabled", "ON")][..], Durability::Disk),
        ] {
            assert_eq!(found(said).durability(), durability, "{said:?}");
        }
    }

    #[test]
    fn a_server_on_which_nothing_could_be_promised_is_refused() {
        for said in [
            ("version", "5.7.44-log"),
            ("version", "10.6.16-MariaDB"),
            ("version", "8.0.11-TiDB-v7.5.0"),
            ("read_only", "ON"),
            ("super_read_only", "1"),
            ("binlog_format", "STATEMENT"),
            ("max_allowed_packet", "1048576"),
        ] {
            assert!(found(&[said]).check(Access::ReadWrite).is_err(), "{said:?}");
        }
        for version in ["8.0.36", "8.4.0-log", "9.1.0", "10.11.6-MariaDB-0+deb12u1-log", "11.4.2-MariaDB"] {
            assert!(found(&[("version", version)]).check(Access::ReadWrite).is_ok(), "{version}");
        }
    }
}
