//! Other writers: stuck ones, stalled ones, and those that come from the other side.

use std::sync::Arc;

use icecore_conformance::commits::{append, create, create_each, ends, hash, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, ErrorKind, LogId, Mode, Run, Version};
use icecore_services::postgres::sql;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{database, patient_store, store, until};

/// Another writer that took a slot and has neither committed nor rolled back.
async fn rival(url: &str, log: &LogId, version: u64) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let take = format!(
        "BEGIN; INSERT INTO icecore.commits (log, version, header_crc, header)
         SELECT id, {version}, 0, '' FROM icecore.logs WHERE name = '{log}'"
    );
    sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut connection).await.unwrap();
    connection
}

async fn roll_back(mut rival: PgConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut rival).await.unwrap();
}

const STUCK: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Contract 5. Reproduced on PostgreSQL with the boundary looked at in the statement, as it is here, and nothing more: the
/// statement is stuck at the first log, the other log is closed and swept meanwhile, and the statement goes on with what it
/// saw before: it created slot 3 again, below a boundary of 9, and acknowledged it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_batch_brings_nothing_back_that_was_trimmed_meanwhile() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, store(&url).await.unwrap());
    let (first, second) = (log("first"), log("second"));
    append(&other, &first, 1..=1).await;
    append(&other, &second, 1..=2).await;
    let rival = rival(&url, &first, 2).await;

    // Given a batch that is stuck behind the rival, and has seen the second log end at 2.
    let batch = vec![one(&first, numbered(2, 0)), one(&second, numbered(3, 7))];
    let create = tokio::spawn(async move { create_each(&*stalled, batch).await });
    until(&url, STUCK, "1").await;

    // When the second log goes on, and is trimmed.
    append(&other, &second, 3..=10).await;
    other.close(&second, Version(9)).await.unwrap();
    let hasty = store(&format!("{url}?timeout_ms=1000")).await.unwrap();
    let swept = hasty.sweep(&second).await;
    roll_back(rival).await;
    let told = create.await.unwrap();

    // Then the sweep has waited, and the batch has won nothing there.
    assert_eq!(told[0], Told::done(1));
    assert_eq!(told[1], Told::stopped(Ending::Closed(Version(9))));
    assert_eq!(swept.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(other.sweep(&second).await.unwrap().commits, 9);
    assert_eq!(ends(&other, &second).await, (10, 9));
    let rows = "SELECT string_agg(version::text, ',') FROM icecore.commits c JOIN icecore.logs l ON l.id = c.log WHERE name LIKE '%second'";
    assert_eq!(sql(&url, &[rows]).unwrap(), "10");
}

/// Contract 5. The other half of it: a batch that begins while the sweep deletes, when that no longer waits for anybody. It sees the
/// predecessor still, and finds the slot free: only the boundary stops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_stalls_while_a_sweep_deletes_brings_nothing_back() {
    let database = database();
    let url = database.url();
    let (stalled, sweeping) = (patient_store(&url).await, patient_store(&url).await);
    let (first, second) = (log("first"), log("second"));
    append(&*sweeping, &first, 1..=1).await;
    append(&*sweeping, &second, 1..=10).await;
    sweeping.close(&second, Version(9)).await.unwrap();

    // Given a sweep that has looked who writes, and now waits for one of the rows that it deletes.
    let mut reader = PgConnection::connect(&url).await.unwrap();
    let hold = format!(
        "BEGIN; SELECT 1 FROM icecore.commits WHERE version = 5 AND log = (SELECT id FROM icecore.logs WHERE name = '{second}') FOR UPDATE"
    );
    sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut reader).await.unwrap();
    let (sweeper, swept_log) = (Arc::clone(&sweeping), second.clone());
    let sweep = tokio::spawn(async move { sweeper.sweep(&swept_log).await });
    until(&url, STUCK, "1").await;
    let rival = rival(&url, &first, 2).await;
    let batch = vec![one(&first, numbered(2, 0)), one(&second, numbered(3, 7))];
    let create = tokio::spawn(async move { create_each(&*stalled, batch).await });
    until(&url, STUCK, "2").await;

    roll_back(reader).await;
    assert_eq!(sweep.await.unwrap().unwrap().commits, 9);
    roll_back(rival).await;

    assert_eq!(create.await.unwrap(), [Told::done(1), Told::stopped(Ending::Closed(Version(9)))]);
    assert_eq!(ends(&*sweeping, &second).await, (10, 9));
    let rows = "SELECT count(*) FROM icecore.commits c JOIN icecore.logs l ON l.id = c.log WHERE name LIKE '%second'";
    assert_eq!(sql(&url, &[rows]).unwrap(), "1");
}

/// Contract 5. A log without commits has no slot that would stop a create which has not seen the boundary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_first_commit_is_not_created_below_a_boundary() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, store(&url).await.unwrap());
    let (first, empty) = (log("first"), log("second"));
    append(&other, &first, 1..=1).await;
    // The log's row is there, as after a create that lost its race.
    assert_eq!(
        create(&other, Run::one(empty.clone(), hash(4, 0), numbered(5, 0))).await,
        Told::stopped(Ending::Gap)
    );
    let rival = rival(&url, &first, 2).await;
    let batch = vec![one(&first, numbered(2, 0)), one(&empty, numbered(1, 0))];
    let create = tokio::spawn(async move { create_each(&*stalled, batch).await });
    until(&url, STUCK, "1").await;

    let other = Arc::new(other);
    let (closing, closed) = (Arc::clone(&other), empty.clone());
    let close = tokio::spawn(async move { closing.close(&closed, Version(8)).await });
    until(
        &url,
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'icecore.commits'::regclass",
        "1",
    )
    .await;
    roll_back(rival).await;

    // One of the two comes first; what was acknowledged stays.
    let told = create.await.unwrap();
    match close.await.unwrap() {
        Ok(()) => assert_eq!(told[1], Told::stopped(Ending::Closed(Version(8)))),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert_eq!(told[1], Told::done(1));
            assert_eq!(ends(&*other, &empty).await, (1, 0));
        }
    }
}

/// Contract 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_neighbour_delays_only_itself() {
    let database = database();
    let url = database.url();
    let store = store(&url).await.unwrap();
    let logs = ["a", "b", "c", "d"].map(log);
    for log in &logs {
        append(&store, log, 1..=1).await;
    }
    let rival = rival(&url, &logs[1], 2).await;

    let told = create_each(&store, logs.iter().map(|log| run(log, 2..=3, 0)).collect()).await;

    let stuck = Told::failed(ErrorKind::Unavailable);
    assert_eq!(told, [Told::done(2), stuck, Told::done(2), Told::done(2)]);
    roll_back(rival).await;
    assert_eq!(create(&store, run(&logs[1], 2..=3, 0)).await, Told::done(2));
}

/// Contract 7. Two statements that took their slots in the order in which they were named waited for each other, and the server
/// ended one of them after a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_in_opposite_order_do_not_wait_for_each_other() {
    let database = database();
    let url = database.url();
    let (one_side, other_side) = (patient_store(&url).await, patient_store(&url).await);
    let logs: Vec<LogId> = (0..300).map(|number| log(&format!("s-{number}"))).collect();
    for version in 1..=8 {
        let batch = |seed: u64| -> Vec<Run> {
            let previous = hash(version - 1, 0);
            logs.iter().map(|log| Run::one(log.clone(), previous, numbered(version, seed))).collect()
        };
        // The first round makes the logs. Later, each side may win some: the next round builds on the same bytes.
        let (forward, mut backward) = (batch(0), batch(0));
        backward.reverse();

        let (first, second) =
            tokio::join!(one_side.create(forward, Mode::Each), other_side.create(backward, Mode::Each));

        assert!(first.iter().chain(&second).all(icecore_log::Created::is_done));
    }
    one_side.shut_down().await.unwrap();
    other_side.shut_down().await.unwrap();

    // Sessions report what they counted when they end.
    until(&url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()", "0").await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(sql(&url, &[deadlocks]).unwrap(), "0");
}

/// Contract 1. A run whose first slot is lost while the statement waits must not leave its other commits behind another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_loses_its_first_slot_while_it_waits_adds_nothing() {
    let database = database();
    let url = database.url();
    let (waiting, other) = (patient_store(&url).await, store(&url).await.unwrap());
    let log = log("s-1");
    append(&other, &log, 1..=1).await;
    let mut rival = rival(&url, &log, 2).await;
    let behind = run(&log, 2..=5, 0);
    let create = tokio::spawn(async move { create(&*waiting, behind).await });
    until(&url, STUCK, "1").await;

    // The rival gives up, and somebody else is faster: here, by having the lock handed over inside the rival's own commit.
    let theirs = numbered(2, 9);
    let take =
        "UPDATE icecore.commits SET header = $1, header_crc = $2, body = $3, body_crc = $4 WHERE version = 2";
    let crc = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&(log.as_str().len() as u64).to_le_bytes());
        hasher.update(log.as_str().as_bytes());
        hasher.update(&2_u64.to_le_bytes());
        hasher.update(bytes);
        i64::from(hasher.finalize())
    };
    let body = theirs.body.clone().unwrap();
    let statement = sqlx::query(take).bind(&theirs.header[..]).bind(crc(&theirs.header));
    statement.bind(&body[..]).bind(crc(&body)).execute(&mut rival).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut rival).await.unwrap();

    assert_eq!(create.await.unwrap(), Told::stopped(Ending::Taken));
    assert_eq!(page(&other, &log, 2).await.commits, [theirs]);
}
