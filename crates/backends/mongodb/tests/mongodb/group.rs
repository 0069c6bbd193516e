//! Single commits of several logs, which go in one insert.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, create_each, decide, ends, log, numbered, one, page};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, ErrorKind, LogId, Mode, Run, Version};
use icecore_services::proxy::{Flow, Way};

use crate::faults::{INSERT, behind_a_proxy, held, wait_for, with_grace};
use crate::{database, store};

fn logs() -> [LogId; 4] {
    ["s-1", "s-2", "s-3", "s-4"].map(log)
}

/// The second commit of each.
fn seconds(logs: &[LogId]) -> Vec<Run> {
    logs.iter().map(|log| one(log, numbered(2, 0))).collect()
}

/// Contracts 1 and 4. What this handle knows of a log may be old, and of a log unknown to it it knows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_of_a_group_is_decided_as_if_it_came_alone() {
    let database = database();
    let (ours, other) = (store(&database.url()).await.unwrap(), store(&database.url()).await.unwrap());
    let logs = logs();
    for log in &logs {
        append(&ours, log, 1..=1).await;
    }
    // Another's commit, our own by another handle, and one that is built on.
    create(&other, one(&logs[1], numbered(2, 1))).await;
    create(&other, one(&logs[2], numbered(2, 0))).await;
    append(&other, &logs[3], 2..=3).await;

    let mut runs = seconds(&logs);
    // Behind a hole.
    runs.push(one(&log("s-5"), numbered(2, 0)));

    let told = create_each(&ours, runs).await;
    let taken = Told::stopped(Ending::Taken);
    assert_eq!(told[..4], [Told::done(1), taken, Told::done(1), Told::done(1)]);
    assert_eq!(told[4], Told::stopped(Ending::Gap));
    let found = [ends(&ours, &logs[0]).await, ends(&ours, &logs[1]).await, ends(&ours, &log("s-5")).await];
    assert_eq!(found, [(2, 0), (2, 0), (0, 0)]);
    assert_eq!(page(&ours, &logs[1], 2).await.commits, [numbered(2, 1)]);
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_makes_every_commit_of_its_group_unknown_and_the_same_bytes_decide() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let direct = store(&database.url()).await.unwrap();
    let store = store(&format!("{through}&timeout_ms=2000")).await.unwrap();
    let logs = logs();
    for log in &logs {
        append(&store, log, 1..=1).await;
    }

    proxy.set_from(INSERT, Way::Answers, Flow::Lose);
    let told = create_each(&store, seconds(&logs)).await;
    assert!(told.iter().all(|told| *told == Told::failed(ErrorKind::Unknown)), "{told:?}");
    for log in &logs {
        wait_for(&direct, log, 2).await;
    }
    proxy.set(Way::Answers, Flow::Pass);

    let told = decide(&store, seconds(&logs), Mode::Each).await;
    assert!(told.iter().all(|told| *told == Told::done(1)), "{told:?}");
}

/// Contracts 2 and 5. The commit of the log that was trimmed lands where nobody reads; its neighbours' are commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_stalled_while_one_of_its_slots_was_closed_and_swept_wins_only_the_others() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let grace = Duration::from_millis(1_000);
    let (writer, other) = (with_grace(&through, grace).await, with_grace(&database.url(), grace).await);
    let logs = logs();
    for log in &logs {
        append(&*writer, log, 1..=1).await;
    }

    proxy.set_from(INSERT, Way::Requests, Flow::Hold);
    let (sending, runs) = (Arc::clone(&writer), seconds(&logs));
    let task = tokio::spawn(async move { create_each(&*sending, runs).await });
    held(&proxy, Way::Requests).await;
    append(&*other, &logs[0], 2..=5).await;
    other.close(&logs[0], Version(4)).await.unwrap();
    other.sweep(&logs[0]).await.unwrap();
    tokio::time::sleep(grace).await;
    assert_eq!(other.sweep(&logs[0]).await.unwrap().commits, 4);
    proxy.set(Way::Requests, Flow::Pass);

    let told = task.await.unwrap();
    assert_eq!(told[0], Told::failed(ErrorKind::Unknown));
    assert!(told[1..].iter().all(|told| *told == Told::done(1)), "{told:?}");
    assert_eq!(ends(&*writer, &logs[0]).await, (5, 4));
}
