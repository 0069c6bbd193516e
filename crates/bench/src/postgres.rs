//! PostgreSQL: a store in a schema, against statements written by hand in the same server.

use std::ops::Range;
use std::time::Instant;

use icecore::{Error, ErrorKind, Result};
use icecore_services::postgres::{Database, Server, sql};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::file::write;
use crate::measure::{Report, Round, seconds, text};
use crate::memory::all;

pub const TASKS: usize = 64;
const APPENDS: usize = 300;
const ROWS: usize = TASKS * APPENDS;
/// Bytes of a header and of a body, as the store writes them for an event of 1 KiB.
pub const HEADER: usize = 260;
pub const BODY: usize = 1_080;
/// Connections that the store writes through.
const WRITERS: usize = 2;

pub async fn appends(report: &mut Report) -> Result<()> {
    let server = Server::start(&[]).map_err(said)?;
    let (mut unnest, mut one, mut sixteen) = (Vec::new(), Vec::new(), Vec::new());
    let mut batches = Vec::new();
    for _ in 0..report.rounds() {
        let database = Database::create(&server.url()).map_err(said)?;
        let store = icecore::open(&database.url()).await?;
        // The first append of a log opens it, which is not what is measured.
        write(&store, TASKS, 1).await?;
        let before = transactions(&database)?;
        let ours = seconds(write(&store, TASKS, APPENDS)).await?;
        // One that writes is one create; the question itself is another.
        let creates = (transactions(&database)? - before - 1).max(1);
        store.shut_down().await?;
        let batch = ROWS.div_ceil(creates);
        batches.push(batch);
        let round = |yardstick| Round { ours, yardstick };
        unnest.push(round(rows(&database, batch, WRITERS).await?));
        one.push(round(rows(&database, 1, 1).await?));
        sixteen.push(round(rows(&database, 1, 16).await?));
    }
    batches.sort_unstable();
    let batch = batches[batches.len() / 2];
    for (rounds, yardstick, target) in [
        (&unnest, format!("UNNEST by hand, {batch} rows a statement, {WRITERS} connections"), "1.20x"),
        (&one, "rows one by one, 1 connection".to_owned(), "0.13x (8 times as fast)"),
        (&sixteen, "rows one by one, 16 connections".to_owned(), "0.45x (2.2 times as fast)"),
    ] {
        let what = "PostgreSQL, 64 tasks, events of 1 KiB, a log each";
        report.add(what, rounds, ROWS as f64, "appends/s", &yardstick, target);
    }
    Ok(())
}

pub fn said(error: String) -> Error {
    Error::new(ErrorKind::Unavailable, "PostgreSQL").advise(error)
}

fn failed(error: sqlx::Error) -> Error {
    said(error.to_string())
}

/// How many transactions have written so far.
fn transactions(database: &Database) -> Result<usize> {
    let count = sql(&database.url(), &["SELECT txid_current()"]).map_err(said)?;
    count.parse().map_err(|_| said(format!("txid_current is {count}")))
}

/// Seconds for the same rows in a table of their own, so many a statement, on so many connections at once.
async fn rows(database: &Database, batch: usize, connections: usize) -> Result<f64> {
    let make = "DROP TABLE IF EXISTS bare; CREATE TABLE bare (log bigint, version bigint, header bytea, body bytea, PRIMARY KEY (log, version));
        ALTER TABLE bare ALTER body SET STORAGE EXTERNAL";
    let mut statements: Vec<&str> = make.split(';').collect();
    statements.push("CHECKPOINT");
    sql(&database.url(), &statements).map_err(said)?;
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(PgConnection::connect(&database.url()).await.map_err(failed)?);
    }
    let share = ROWS / connections;
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (number, connection) in open.into_iter().enumerate() {
        running.spawn(insert_all(connection, number * share, share, batch));
    }
    all(&mut running).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn insert_all(mut connection: PgConnection, first: usize, count: usize, batch: usize) -> Result<()> {
    let (header, body) = (text(HEADER, first as u64), text(BODY, first as u64));
    for from in (first..first + count).step_by(batch) {
        insert(&mut connection, from..(from + batch).min(first + count), &header, &body).await?;
    }
    Ok(())
}

/// Rows of one statement, into the table `bare`.
pub async fn insert(
    connection: &mut PgConnection,
    rows: Range<usize>,
    header: &[u8],
    body: &[u8],
) -> Result<()> {
    let count = rows.len();
    let statement = "INSERT INTO bare SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) ON CONFLICT DO NOTHING RETURNING log";
    sqlx::query(statement)
        .bind(rows.map(|number| number as i64).collect::<Vec<_>>())
        .bind(vec![1_i64; count])
        .bind(vec![header; count])
        .bind(vec![body; count])
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    Ok(())
}
