//! Other writers: stuck ones, stalled ones, and those that come from the other side.

use std::sync::Arc;

use icecore_conformance::commits::{
    append, create, create_each, ends, hash, head, log, numbered, one, page, read_all, run,
};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, ErrorKind, LogId, Mode, PageLimit, Run, StoredCommit, Version};
use icecore_services::mariadb::sql;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};

use crate::{database, patient_store, store, until};

/// Another writer that took a slot and has neither committed nor rolled back.
async fn rival(url: &str, log: &LogId, version: u64) -> MySqlConnection {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let take = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN;
         INSERT INTO icecore_commits (log, version, header_crc, bytes, header)
         SELECT id, {version}, 0, 0, '' FROM icecore_logs WHERE name = '{log}'"
    );
    sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut connection).await.unwrap();
    connection
}

async fn end(mut rival: MySqlConnection, how: &'static str) {
    sqlx::raw_sql(how).execute(&mut rival).await.unwrap();
}

/// How many statements in this database do not come to an end. What InnoDB itself says of waits is not renewed while it is asked often.
const STUCK: &str = "SELECT COUNT(*) FROM information_schema.processlist
  WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command IN ('Execute', 'Query') AND time_ms > 200";

/// Contract 5. Reproduced on MariaDB with the boundary looked at in the statement that inserts: it is stuck at the first log, the other log
/// is closed and swept meanwhile, and it goes on with what it saw before, creates slot 3 again below a boundary of 9, and acknowledges it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_batch_brings_nothing_back_that_was_trimmed_meanwhile() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, store(&url).await.unwrap());
    let (first, second) = (log("first"), log("second"));
    append(&other, &first, 1..=1).await;
    append(&other, &second, 1..=2).await;
    let rival = rival(&url, &first, 2).await;

    // Given a batch that is stuck behind the rival, and for which the second log ended at 2.
    let batch = vec![one(&first, numbered(2, 0)), one(&second, numbered(3, 7))];
    let create = tokio::spawn(async move { create_each(&*stalled, batch).await });
    until(&url, STUCK, "1").await;

    // When the second log goes on, and is trimmed.
    append(&other, &second, 3..=10).await;
    other.close(&second, Version(9)).await.unwrap();
    assert_eq!(other.sweep(&second).await.unwrap().commits, 9);
    end(rival, "ROLLBACK").await;

    // Then the batch has won nothing there.
    assert_eq!(create.await.unwrap(), [Told::done(1), Told::stopped(Ending::Closed(Version(9)))]);
    assert_eq!(ends(&other, &second).await, (10, 9));
    let rows = "SELECT GROUP_CONCAT(version) FROM icecore_commits c JOIN icecore_logs l ON l.id = c.log WHERE name LIKE '%second'";
    assert_eq!(sql(&url, &[rows]).unwrap(), "10");
}

/// Contract 5. The other order: the batch has the log's row when it is stuck, so that no boundary rises before it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_waits_for_a_batch_that_has_seen_the_log() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, patient_store(&url).await);
    let (first, second) = (log("first"), log("second"));
    append(&*other, &first, 1..=2).await;
    append(&*other, &second, 1..=1).await;
    let rival = rival(&url, &second, 2).await;
    let batch = vec![one(&first, numbered(3, 7)), one(&second, numbered(2, 0))];
    let create = tokio::spawn(async move { create_each(&*stalled, batch).await });
    until(&url, STUCK, "1").await;

    append(&*other, &first, 3..=10).await;
    let (closing, closed) = (Arc::clone(&other), first.clone());
    let close = tokio::spawn(async move { closing.close(&closed, Version(9)).await });
    until(&url, STUCK, "2").await;
    end(rival, "ROLLBACK").await;

    close.await.unwrap().unwrap();
    let told = create.await.unwrap();
    assert!(matches!(told[0].end, Ending::Taken | Ending::Closed(Version(9))), "{told:?}");
    assert_eq!(told[1], Told::done(1));
    assert_eq!(other.sweep(&first).await.unwrap().commits, 9);
    assert_eq!(ends(&*other, &first).await, (10, 9));
}

/// Contract 5. A log without commits has no head that would stop a create which has not seen the boundary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_first_commit_is_not_created_below_a_boundary() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, store(&url).await.unwrap());
    let (first, empty) = (log("first"), log("second"));
    append(&other, &first, 1..=1).await;
    // The log's row is there.
    other.put_blob(&icecore_log::BlobId::new(empty.clone(), "b").unwrap(), "x".into()).await.unwrap();
    let rival = rival(&url, &first, 2).await;
    let batch = vec![one(&first, numbered(2, 0)), Run::one(empty.clone(), hash(4, 0), numbered(5, 0))];
    let late = vec![one(&first, numbered(2, 0)), one(&empty, numbered(1, 0))];
    let create =
        tokio::spawn(
            async move { (create_each(&*stalled, batch).await, create_each(&*stalled, late).await) },
        );
    until(&url, STUCK, "1").await;

    other.close(&empty, Version(8)).await.unwrap();
    end(rival, "ROLLBACK").await;

    let (told, late) = create.await.unwrap();
    assert_eq!(told, [Told::done(1), Told::stopped(Ending::Closed(Version(8)))]);
    assert_eq!(late[1], Told::stopped(Ending::Closed(Version(8))));
    assert!(head(&other, &empty).await.is_none());
}

/// Contract 5. The other order: whose first commit is under way is not closed as if it had none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_of_an_empty_log_waits_for_its_first_commit() {
    let database = database();
    let url = database.url();
    let (stalled, other) = (patient_store(&url).await, patient_store(&url).await);
    let (empty, second) = (log("first"), log("second"));
    append(&*other, &second, 1..=1).await;
    other.put_blob(&icecore_log::BlobId::new(empty.clone(), "b").unwrap(), "x".into()).await.unwrap();
    // A batch that takes its log for new is told otherwise, and looks.
    let rival = rival(&url, &second, 2).await;
    let batch = vec![one(&empty, numbered(1, 0)), one(&second, numbered(2, 0))];
    let create = tokio::spawn(async move { stalled.create(batch, Mode::AllOrNone).await });
    until(&url, STUCK, "1").await;

    let (closing, closed) = (Arc::clone(&other), empty.clone());
    let close = tokio::spawn(async move { closing.close(&closed, Version(8)).await });
    until(&url, STUCK, "2").await;
    end(rival, "ROLLBACK").await;

    assert!(create.await.unwrap().iter().all(icecore_log::Created::is_done));
    assert_eq!(close.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(ends(&*other, &empty).await, (1, 0));
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
    end(rival, "ROLLBACK").await;
    assert_eq!(create(&store, run(&logs[1], 2..=3, 0)).await, Told::done(2));
}

/// Contract 7. Nobody is told of a deadlock: whose transaction the server ended sends the same again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_ended_for_a_deadlock_goes_on() {
    let database = database();
    let url = database.url();
    let store = patient_store(&url).await;
    // Ids rise in this order, and slots are taken in it.
    let (first, second) = (log("first"), log("second"));
    append(&*store, &first, 1..=1).await;
    append(&*store, &second, 1..=1).await;
    let before = sql(&url, &[DEADLOCKS]).unwrap();

    // Given another program that has the second slot, and wants the row of the first log, which our batch has.
    let mut rival = rival(&url, &second, 2).await;
    // What has changed more rows is not the one that is ended.
    let heavy = "INSERT INTO icecore_blobs (log, name, part, bytes, crc, content) SELECT 999, seq, 0, 0, 0, '' FROM seq_1_to_500";
    sqlx::raw_sql(heavy).execute(&mut rival).await.unwrap();
    let batch = vec![run(&first, 2..=3, 0), run(&second, 2..=3, 0)];
    let create = tokio::spawn(async move { create_each(&*store, batch).await });
    until(&url, STUCK, "1").await;
    let want = format!("SELECT 1 FROM icecore_logs WHERE name = '{first}' FOR UPDATE");
    sqlx::raw_sql(AssertSqlSafe(want)).execute(&mut rival).await.unwrap();
    end(rival, "ROLLBACK").await;

    assert_eq!(create.await.unwrap(), [Told::done(2), Told::done(2)]);
    assert_ne!(sql(&url, &[DEADLOCKS]).unwrap(), before);
}

const DEADLOCKS: &str =
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Innodb_deadlocks'";

/// Contract 7. Batches that overlap and come from two sides, new logs and old: all are won, and nobody is told of a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_in_opposite_order_do_not_fail() {
    let database = database();
    let url = database.url();
    let (one_side, other_side) = (store(&url).await.unwrap(), store(&url).await.unwrap());
    let logs: Vec<LogId> = (0..100).map(|number| log(&format!("s-{number}"))).collect();
    for version in 1..=8 {
        let batch = || -> Vec<Run> {
            let previous = hash(version - 1, 0);
            logs.iter().map(|log| Run::one(log.clone(), previous, numbered(version, 0))).collect()
        };
        let (forward, mut backward) = (batch(), batch());
        backward.reverse();

        let (first, second) =
            tokio::join!(one_side.create(forward, Mode::Each), other_side.create(backward, Mode::Each));

        let failed: Vec<_> = first.iter().chain(&second).filter(|created| !created.is_done()).collect();
        assert!(failed.is_empty(), "version {version}: {failed:?}");
    }
}

/// Contracts 2 and 3. Who put it there may not have been told yet that it lasts.
#[tokio::test]
async fn what_was_only_seen_is_followed_by_a_commit_before_it_is_won() {
    let database = database();
    let url = database.url();
    let (one_store, other) = (store(&url).await.unwrap(), store(&url).await.unwrap());
    let log = log("s-1");
    append(&one_store, &log, 1..=2).await;
    let touched = || sql(&url, &["SELECT touched FROM icecore_store"]).unwrap().parse::<u64>().unwrap();
    assert_eq!(touched(), 0);

    assert_eq!(create(&other, run(&log, 1..=2, 0)).await, Told::done(2));
    assert_eq!(touched(), 1);
    one_store.close(&log, Version(1)).await.unwrap();
    assert_eq!(touched(), 1);
    other.close(&log, Version(1)).await.unwrap();

    assert_eq!(touched(), 2);
}

/// Contract 1. Two stores race for every slot with bytes of their own: each slot has one winner, and the loser is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_that_race_build_one_chain() {
    let database = database();
    let url = database.url();
    let log = log("s-1");
    let stores = [store(&url).await.unwrap(), store(&url).await.unwrap()].map(Arc::new);
    let mut previous = icecore_log::Hash::ZERO;
    for version in 1..=60 {
        let mine: [StoredCommit; 2] = [numbered(version, 1), numbered(version, 2)];
        let ours = |seed: usize| {
            let (store, log, commit) = (Arc::clone(&stores[seed]), log.clone(), mine[seed].clone());
            tokio::spawn(async move { store.create(vec![Run::one(log, previous, commit)], Mode::Each).await })
        };
        let (one, other) = (ours(0), ours(1));
        let told = [one.await.unwrap(), other.await.unwrap()].map(|told| Told::from(&told[0]));

        let winner = told.iter().position(|told| told.is_done()).expect("somebody wins");
        assert_eq!(told[1 - winner], Told::stopped(Ending::Taken), "version {version}");
        previous = mine[winner].hash();
        assert_eq!(page(&*stores[1 - winner], &log, version).await.commits, [mine[winner].clone()]);
    }
    assert_eq!(read_all(&*stores[0], &log, 1, PageLimit::WHOLE).await.len(), 60);
}

/// Contract 1. A run whose first slot is lost while it waits must not leave its other commits behind another's.
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

    // The rival's slot is as it should be when it commits.
    let theirs = numbered(2, 9);
    let take =
        "UPDATE icecore_commits SET header = ?, header_crc = ?, body = ?, body_crc = ? WHERE version = 2";
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
    end(rival, "COMMIT").await;

    assert_eq!(create.await.unwrap(), Told::stopped(Ending::Taken));
    assert_eq!(page(&other, &log, 2).await.commits, [theirs]);
}
