//! Opening connections: what is set, what is read back, and what is refused.

use std::path::Path;
use std::time::{Duration, Instant};

use icecore_log::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::{Fault, is_busy};
use super::wire;

/// Bounds of a SQLite store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a call waits for another process that holds the database: 10 s.
    pub busy_timeout: Duration,
    /// How many connections may read at a time: 4.
    pub readers_max: usize,
    /// How many jobs may wait for the writer; more wait before it: 1,024.
    pub jobs_max: usize,
    /// A transaction ends with the job that reaches so many bytes: 4 MiB.
    pub transaction_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(10),
            readers_max: 4,
            jobs_max: 1_024,
            transaction_bytes_max: 4 << 20,
        }
    }
}

const OPENING: &str = "opening a store";
/// So much of the database the writer keeps in memory, in KiB.
const CACHE_KIB: i64 = 16 << 10;
/// What the write-ahead log is cut to after it was brought into the database, in bytes.
const JOURNAL_BYTES_MAX: i64 = 64 << 20;

pub(super) fn open_to_write(path: &Path, settings: &Settings) -> Result<Connection> {
    make_folder(path)?;
    // Never a URI: a path may hold any character.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let deadline = Instant::now() + settings.busy_timeout;
    patiently(deadline, || {
        let mut connection = connect(path, flags)?;
        // The writer waits by itself, for a short time each: SQLite's own pauses grow to a tenth of a second.
        connection.busy_timeout(Duration::ZERO)?;
        check_owner_in_one_look(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_MAX)?;
        check_durability(&connection)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        check_owner(&transaction)?;
        if wire::format(&transaction)?.is_none() {
            transaction.execute_batch(wire::SCHEMA)?;
        }
        transaction.commit()?;
        wire::checkpoint(&connection)?;
        Ok(connection)
    })
    .map_err(|fault| fault.before_writing(OPENING))
}

/// A connection that reads; the database is there, and ours.
pub(super) fn open_to_read(path: &Path, settings: &Settings) -> Result<Connection> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(path, flags)?;
        connection.busy_timeout(settings.busy_timeout)?;
        Ok(connection)
    };
    open().map_err(|fault: Fault| fault.before_writing(OPENING))
}

/// Whether there is a store of ours to read.
pub(super) fn check_readable(path: &Path, settings: &Settings) -> Result<()> {
    let missing =
        || Error::new(ErrorKind::NotFound, OPENING).advise("There is no store: append something to make one");
    if !path.exists() {
        return Err(missing());
    }
    let connection = open_to_read(path, settings)?;
    match check_owner_in_one_look(&connection).and_then(|()| Ok(wire::format(&connection)?)) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(missing()),
        Err(fault) => Err(fault.before_writing(OPENING)),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, flags)?;
    // A database of somebody else's making must not run anything, and no statement may spoil the file itself.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Outside of a transaction: another process may make the tables between one look and the next.
fn check_owner_in_one_look(connection: &Connection) -> Result<(), Fault> {
    check_owner(&*connection.unchecked_transaction()?)
}

/// Refuses a database of another program, and one of a later version.
fn check_owner(connection: &Connection) -> Result<(), Fault> {
    let refused = |advice: &str| Fault::Ours(Error::new(ErrorKind::Refused, OPENING).advise(advice));
    match wire::format(connection)? {
        Some(wire::FORMAT) => Ok(()),
        Some(later) if later > wire::FORMAT => Err(crate::later_format(later, wire::FORMAT).into()),
        Some(_) => Err(refused("The database has an impossible format: restore it from a copy")),
        None if wire::is_empty(connection)? => Ok(()),
        None => Err(refused("The database holds the tables of another program: name another file")),
    }
}

/// Declared, never assumed: some file systems cannot do what was asked for.
fn check_durability(connection: &Connection) -> Result<(), Fault> {
    let (journal, synchronous) = wire::durability(connection)?;
    if journal == "wal" && synchronous == wire::SYNCHRONOUS_FULL {
        return Ok(());
    }
    Err(Fault::Ours(
        Error::new(ErrorKind::Refused, OPENING)
            .with("journal_mode", journal)
            .with("synchronous", synchronous)
            .advise("The database does not take journal_mode=wal and synchronous=2 here, so nothing could be promised: use another file system"),
    ))
}

fn make_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    let make = || {
        std::fs::create_dir_all(folder)?;
        // SQLite makes the name of its file durable, and not that of the folder.
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
        std::fs::File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    make().map_err(|error| Error::new(ErrorKind::Unavailable, "making a store's folder").because(error))
}

/// Tries again while another process holds the database. Short pauses: whoever holds it lets go after a few milliseconds, and
/// takes it again at once if it has more to write.
pub(super) fn patiently<T>(
    deadline: Instant,
    mut step: impl FnMut() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut pause = Duration::from_micros(50);
    loop {
        match step() {
            Err(Fault::Sql(error)) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(pause);
                // Different steps, so that two that wait do not keep time with a third that writes.
                pause = (pause * 5 / 4).min(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}
