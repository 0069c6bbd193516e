//! A primary whose commits wait for one of two standbys: it is killed, replaced, cut off from them, and comes back as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use icecore_conformance::commits::{append, create, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, ErrorKind, LogId, PageLimit, Version};
use icecore_services::postgres::{Quorum, sql};
use icecore_services::proxy::{Flow, Proxy, Way};
use icecore_sql::PostgresStore;
use tokio::task::block_in_place;

use crate::crashes::{WRITERS, check, reach, write};
use crate::{store, until};

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn start() -> Quorum {
    block_in_place(|| Quorum::start().unwrap())
}

/// Contract 3. Each time the writers find the new primary themselves, among the servers that their URL names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_has_survives_the_death_of_the_primary() {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 10 } else { 2 };
    let mut set = start();
    let backend: Arc<dyn Backend> = Arc::new(store(&set.url()).await.unwrap());
    assert_eq!(backend.capabilities().durability, Durability::Replicated);
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let mut writers = tokio::task::JoinSet::new();
    for (writer, count) in (0..).zip(&counts) {
        writers.spawn(write(Arc::clone(&backend), writer, Arc::clone(count), Arc::clone(&stop)));
    }
    let counted = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();

    for round in 1..=rounds {
        reach(&counts, &counted().iter().map(|count| count + 10).collect::<Vec<_>>()).await;
        let killed = set.primary;
        block_in_place(|| {
            set.nodes[killed].kill();
            set.fail_over().unwrap();
        });
        let acknowledged = counted();
        check(&store(&set.url()).await.unwrap(), &acknowledged).await;
        reach(&counts, &acknowledged.iter().map(|count| count + 10).collect::<Vec<_>>()).await;
        if round < rounds {
            block_in_place(|| set.rejoin(killed).unwrap());
        }
    }

    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    check(&store(&set.url()).await.unwrap(), &counted()).await;
}

/// A create that waits for standbys that are dead, and its store and log; `other` sees the log from elsewhere.
async fn without_a_quorum(set: &mut Quorum) -> (Arc<PostgresStore>, PostgresStore, LogId) {
    let ours = Arc::new(store(&format!("{}?timeout_ms=60000", set.url())).await.unwrap());
    let other = store(&set.url()).await.unwrap();
    let log = log("s-1");
    append(&*ours, &log, 1..=1).await;
    block_in_place(|| set.standbys().into_iter().for_each(|node| set.nodes[node].kill()));
    let (sending, sent) = (Arc::clone(&ours), run(&log, 2..=2, 0));
    let waiting = tokio::spawn(async move { create(&*sending, sent).await });
    let primary = set.nodes[set.primary].url();

    // It is committed, and waits; to everybody else the slot is empty.
    until(&primary, WAITING, "1").await;
    assert_eq!(head(&other, &log).await.unwrap().version, Version(1));
    // First what added the commit is cancelled, then what would make it durable.
    while !waiting.is_finished() {
        let cancel = WAITING.replace("count(*)", "count(pg_cancel_backend(pid))");
        sql(&primary, &[&cancel]).unwrap();
    }
    assert_eq!(waiting.await.unwrap(), Told::failed(ErrorKind::Unknown));
    assert_eq!(head(&other, &log).await.unwrap().version, Version(2));
    (ours, other, log)
}

/// Contracts 2 and 3. What is only seen is won when a standby has it, and then it survives the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_standby_has_is_won_when_one_has_it() {
    let mut set = start();
    let (ours, other, log) = without_a_quorum(&mut set).await;

    block_in_place(|| {
        set.nodes[1].resume().unwrap();
        set.until_it_streams(1).unwrap();
    });
    assert_eq!(create(&*ours, run(&log, 2..=2, 0)).await, Told::done(1));

    block_in_place(|| {
        set.nodes[0].kill();
        set.promote(1).unwrap();
    });
    assert_eq!(page(&other, &log, 1).await.commits, run(&log, 1..=2, 0).commits);
}

/// Contracts 1 to 3. It was seen, nobody was told that it is there, and it is lost with the primary: the slot is free for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_standby_has_is_lost_with_the_primary_and_nobody_was_told_otherwise() {
    let mut set = start();
    let (ours, other, log) = without_a_quorum(&mut set).await;

    block_in_place(|| {
        set.nodes[0].kill();
        set.nodes[1].resume().unwrap();
        set.nodes[2].resume().unwrap();
        set.fail_over().unwrap();
    });

    assert_eq!(head(&other, &log).await.unwrap().version, Version(1));
    assert_eq!(create(&other, one(&log, numbered(2, 1))).await, Told::done(1));
    assert_eq!(create(&*ours, run(&log, 2..=2, 0)).await, Told::stopped(Ending::Taken));
}

/// Nobody keeps the old primary from going on. Who knows the new one does not go back, and on the old one nothing is won.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_and_comes_back_as_it_was_wins_nothing() {
    let mut set = start();
    let name = Proxy::start(&set.nodes[0].address()).unwrap();
    let through = format!("postgres://postgres@{}/postgres?timeout_ms=1500", name.address());
    let (everywhere, named) = (store(&set.url()).await.unwrap(), store(&through).await.unwrap());
    let log = log("s-1");
    append(&everywhere, &log, 1..=2).await;
    let facts = everywhere.examine(Depth::Quick).await.unwrap().facts;
    let followers = facts.iter().find(|(name, _)| name == "standbys").unwrap();
    assert_eq!(followers.1.matches(" quorum").count(), 2, "{}", followers.1);
    block_in_place(|| {
        set.nodes[0].kill();
        set.fail_over().unwrap();
        set.nodes[0].resume().unwrap();
    });

    // Among several, whoever is on the latest timeline is the primary: also for who did not see the fail-over.
    append(&everywhere, &log, 3..=3).await;
    append(&store(&set.url()).await.unwrap(), &log, 4..=4).await;
    name.lead_to(&set.nodes[set.primary].address());
    append(&named, &log, 5..=5).await;

    // Back at the old one: what has seen the new one is told, and writes and reads nothing there.
    name.lead_to(&set.nodes[0].address());
    let error = named.read(&log, Version(1), PageLimit::WHOLE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("earlier timeline"), "{error}");
    assert_eq!(create(&named, run(&log, 6..=6, 0)).await, Told::failed(ErrorKind::Unavailable));

    // Who has not seen it finds a log that ends earlier; what follows the rest is a gap, and what follows that end is not won.
    let fresh = store(&through).await.unwrap();
    assert_eq!(head(&fresh, &log).await.unwrap().version, Version(2));
    assert_eq!(create(&fresh, run(&log, 6..=6, 0)).await, Told::stopped(Ending::Gap));
    assert_eq!(create(&fresh, one(&log, numbered(3, 9))).await, Told::failed(ErrorKind::Unknown));

    // As a standby of the new one it has its history, and is refused by name.
    block_in_place(|| set.rejoin(0).unwrap());
    assert_eq!(store(&through).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(page(&everywhere, &log, 1).await.commits, run(&log, 1..=5, 0).commits);
}

/// A machine that is gone does not close its connections. What is idle is asked for a second, and so is the server before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_does_not_answer_any_more_is_left_for_the_one_that_replaced_it() {
    let mut set = start();
    let silent = Proxy::start(&set.nodes[0].address()).unwrap();
    let hosts = [silent.address(), set.nodes[1].address(), set.nodes[2].address()].join(",");
    let store = store(&format!("postgres://postgres@{hosts}/postgres")).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;
    silent.set(Way::Requests, Flow::Lose);
    silent.set(Way::Answers, Flow::Lose);
    block_in_place(|| set.fail_over().unwrap());
    // Longer than a connection is trusted.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;

    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::done(1));
}

/// A standby is promoted that was away: what only the others have, which was acknowledged, is lost. That is told as a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_promoted_laggard_lost_is_a_gap_and_no_slot_is_won_twice_on_one_history() {
    let mut set = start();
    let store = store(&set.url()).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;
    let has_all = "SELECT count(*) FROM icecore.commits";
    until(&set.nodes[2].url(), has_all, "3").await;
    block_in_place(|| set.nodes[2].kill());
    append(&store, &log, 4..=6).await;
    block_in_place(|| {
        set.nodes[0].kill();
        set.nodes[1].kill();
        set.nodes[2].resume().unwrap();
        set.promote(2).unwrap();
        set.rejoin(1).unwrap();
    });

    assert_eq!(head(&store, &log).await.unwrap().version, Version(3));
    assert_eq!(create(&store, run(&log, 7..=7, 0)).await, Told::stopped(Ending::Gap));
    assert_eq!(create(&store, one(&log, numbered(4, 9))).await, Told::done(1));
    assert_eq!(create(&store, run(&log, 4..=6, 0)).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&store, run(&log, 5..=6, 0)).await, Told::stopped(Ending::Gap));
}
