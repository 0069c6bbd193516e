//! Every system beside its own client: the same number of rows with the same bytes, in requests as large as the store's were, and as
//! many of them at once, to the same server.
//!
//! How large a request is, and how many there are at once, is not chosen: it is the mean of what the store did in that round. Where there
//! is no server, one writes.

mod bare;
mod buckets;
mod embedded;
mod servers;

use icecore::{Error, ErrorKind, Meters, Open, Operation, Result};
use icecore_services::{
    self as services, buckets as shared, dynamodb::Table, mariadb, mongodb, postgres, redis,
};
use tempfile::TempDir;

use crate::file::{folder, write};
use crate::measure::{Report, Round, seconds, spread};
use crate::postgres::{BODY, HEADER, TASKS};

const TARGET: &str = "1.50x";

/// A system, how many appends a task makes in a round, and what it is measured beside.
struct System {
    name: &'static str,
    appends: usize,
    beside: &'static str,
    target: &'static str,
}

/// In the order of `docs/backends.md`. Emulators are slow, and get few.
const SYSTEMS: [System; 11] = [
    system("memory", 1_000, "a map in order, each body hashed", ""),
    system("file", 1_000, "a bare loop, zeros written ahead, a sync each", TARGET),
    system("sqlite", 500, "rusqlite, a transaction of rows", TARGET),
    system("postgres", 300, "sqlx, UNNEST", TARGET),
    system("mysql", 300, "sqlx, a multi-row INSERT", TARGET),
    system("mongodb", 100, "mongodb, insert_many unordered, majority and journal", TARGET),
    system("redis", 500, "redis, a pipeline of SET NX", TARGET),
    system("dynamodb", 10, "reqwest, conditional puts at once", TARGET),
    system("s3", 10, "object_store, puts if absent at once", TARGET),
    system("gcs", 30, "object_store, puts if absent at once", TARGET),
    system("azure", 10, "object_store, puts if absent at once", TARGET),
];

const fn system(name: &'static str, appends: usize, beside: &'static str, target: &'static str) -> System {
    System { name, appends, beside, target }
}

/// A place of a round's own, which goes with this.
enum Place {
    Memory,
    Folder(TempDir),
    Postgres(postgres::Database),
    Mysql(mariadb::Database),
    Mongodb(mongodb::Database),
    Redis(redis::Prefix),
    Dynamodb(Table),
    Bucket(String),
}

/// Adds a row for each system that is named; of all, if none is.
pub async fn beside_their_clients(report: &mut Report, chosen: &[&String]) -> Result<()> {
    if let Some(unknown) =
        chosen.iter().find(|name| SYSTEMS.iter().all(|system| system.name != name.as_str()))
    {
        let names = SYSTEMS.map(|system| system.name).join(", ");
        let error = Error::new(ErrorKind::Invalid, "choosing systems").with("name", unknown);
        return Err(error.advise(format!("They are {names}")));
    }
    for system in &SYSTEMS {
        if chosen.is_empty() || chosen.iter().any(|name| name.as_str() == system.name) {
            measure(report, system).await?;
        }
    }
    Ok(())
}

async fn measure(report: &mut Report, system: &System) -> Result<()> {
    let rows = TASKS * system.appends;
    let (mut rounds, mut batches, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..report.rounds() {
        let place = Place::new(system.name)?;
        let mut written = ours(&place.url(system.name), system.appends).await?;
        if matches!(place, Place::Memory | Place::Folder(_)) {
            // One writes, whoever waits.
            written.at_once = 1;
        }
        batches.push(written.batch as f64);
        at_once.push(written.at_once as f64);
        let yardstick = bare::rows(&place, system.name, rows, &written).await?;
        rounds.push(Round { ours: written.seconds, yardstick });
    }
    let (batch, ..) = spread(batches);
    let (at_once, ..) = spread(at_once);
    let beside = format!("{}: {batch:.0} rows a request, {at_once:.0} at once", system.beside);
    report.add(system.name, &rounds, rows as f64, "appends/s", &beside, system.target);
    Ok(())
}

/// What the store did in a round.
struct Written {
    seconds: f64,
    /// Commits of a create, on average.
    batch: usize,
    /// Creates that were under way at once, on average.
    at_once: usize,
}

async fn ours(url: &str, appends: usize) -> Result<Written> {
    let meters = Meters::default();
    let store = Open { metrics: Some(meters.clone()), ..Open::default() }.open(url).await?;
    // The first append of a log opens it, which is not what is measured.
    write(&store, TASKS, 1).await?;
    let before = creates(&meters);
    let seconds = seconds(write(&store, TASKS, appends)).await?;
    let after = creates(&meters);
    store.shut_down().await?;
    let count = (after.0 - before.0).max(1);
    Ok(Written {
        seconds,
        batch: (TASKS * appends).div_ceil(count as usize),
        at_once: (((after.1 - before.1) / seconds).round() as usize).max(1),
    })
}

/// How many there were, and how many seconds they took together.
fn creates(meters: &Meters) -> (u64, f64) {
    let found = meters.snapshot();
    let creates = found.backends.iter().flat_map(|backend| &backend.operations);
    creates
        .filter(|found| found.operation == Operation::Create)
        .map(|found| (found.answered(), found.time.as_secs_f64()))
        .fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

impl Place {
    fn new(system: &str) -> Result<Self> {
        Ok(match system {
            "memory" => Self::Memory,
            "file" | "sqlite" => Self::Folder(folder()?),
            "postgres" => {
                Self::Postgres(postgres::Database::create(&services::url("postgres")).map_err(said)?)
            }
            "mysql" => Self::Mysql(mariadb::Database::create(&services::url("mariadb")).map_err(said)?),
            "mongodb" => Self::Mongodb(mongodb::Database::new(&services::url("mongodb"))),
            "redis" => Self::Redis(redis::Prefix::new(&services::url("redis"))),
            "dynamodb" => Self::Dynamodb(Table::new()),
            "s3" => Self::Bucket(shared::s3()),
            "gcs" => Self::Bucket(shared::gcs()),
            _ => Self::Bucket(shared::azure()),
        })
    }

    fn url(&self, system: &str) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::Folder(folder) => format!("{system}:{}", folder.path().join("store").display()),
            Self::Postgres(database) => database.url(),
            Self::Mysql(database) => database.url(),
            Self::Mongodb(database) => database.url(),
            Self::Redis(prefix) => prefix.url(),
            Self::Dynamodb(table) => table.url(),
            Self::Bucket(url) => url.clone(),
        }
    }
}

fn said(error: String) -> Error {
    Error::new(ErrorKind::Unavailable, "a bare client").advise(error)
}

/// What a client of somebody else's could not do.
fn failed(error: impl std::fmt::Display) -> Error {
    said(error.to_string())
}
