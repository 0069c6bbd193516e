//! A cluster of three: cases of the contract on it, a store that sees all of it, and slots that move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use icecore_conformance::commits::{
    append, create, create_each, ends, list_sorted, log, page, read_all, run,
};
use icecore_conformance::{Fixture, Place, Told, cases};
use icecore_log::backend::Depth;
use icecore_log::{Backend, LogPrefix, PageLimit, Version};
use icecore_services::redis::{Cluster, Server};

use crate::{MINUTE, open_at, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_spread_over_a_cluster_and_found_again() {
    let cluster = Cluster::start().unwrap();
    let url = format!("redis+cluster://{}", cluster.addresses());
    let (store, other) = (store(&url).await.unwrap(), store(&url).await.unwrap());
    let logs: Vec<_> = (0..60).map(|number| log(&format!("s-{number:02}"))).collect();

    let runs = logs.iter().map(|log| run(log, 1..=3, 0)).collect();
    assert_eq!(create_each(&store, runs).await, vec![Told::done(3); logs.len()]);
    assert_eq!(list_sorted(&other, &LogPrefix::all()).await, logs);
    let heads = other.heads(&logs).await.unwrap();
    assert!(heads.iter().all(|head| head.as_ref().is_some_and(|head| head.version == Version(3))));
    for node in &cluster.nodes {
        let keys = node.ask(&["DBSIZE"]).unwrap();
        assert!(keys.parse::<u64>().unwrap() > 5, "{keys} keys on a node");
    }
    other.close(&logs[0], Version(2)).await.unwrap();
    assert_eq!(other.sweep(&logs[0]).await.unwrap().commits, 2);
    assert_eq!(ends(&store, &logs[0]).await, (3, 2));
    let examination = store.examine(Depth::Deep).await.unwrap();
    assert!(examination.damage.is_empty());
    assert!(examination.facts.iter().any(|(name, _)| name == "node_3_redis"));
}

/// The cases in which a call is about many logs, or a log about many keys; one after the other, on one cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_contract_asks_holds_on_a_cluster() {
    let cluster = Cluster::start().unwrap();
    let mut count = 0;
    let mut fixture = async || {
        count += 1;
        let url = format!("redis+cluster://{}?prefix=case-{count}", cluster.addresses());
        let open = |url: &String| open_at(url.clone());
        let place: Box<dyn Fixture> = Box::new(Place::open(url, open).await.with_others(open));
        place
    };
    cases::racing_appenders_build_one_chain(&*fixture().await).await;
    cases::a_run_of_a_thousand_commits_is_applied_in_order(&*fixture().await).await;
    cases::heads_of_two_thousand_logs_are_one_call(&*fixture().await).await;
    cases::bodies_of_every_size_are_kept_to_the_byte(&*fixture().await).await;
    cases::one_logs_outcome_says_nothing_of_its_neighbours(&*fixture().await).await;
    cases::a_listing_has_every_log_once_in_pages_of_any_size(&*fixture().await).await;
    cases::a_listing_beside_a_writer_misses_nothing(&*fixture().await).await;
    cases::names_made_to_collide_are_logs_of_their_own(&*fixture().await).await;
    cases::a_stalled_writer_brings_nothing_back(&*fixture().await).await;
    cases::blobs_are_kept_to_the_byte_and_read_by_ranges(&*fixture().await).await;
    cases::generated_sequences_answer_as_the_model_does(&*fixture().await).await;
}

/// The keys of logs that a node has.
fn keys(node: &Server) -> String {
    node.ask(&["KEYS", "*:c:*"]).unwrap()
}

/// Who has the one log that there is, and another.
fn ends_of_a_move(cluster: &Cluster) -> (&Server, &Server) {
    let from = cluster.nodes.iter().find(|node| !keys(node).is_empty()).unwrap();
    let to = cluster.nodes.iter().find(|node| node.address() != from.address()).unwrap();
    (from, to)
}

/// Gives a slot to another node, key by key; and does something before each step.
fn move_slot(slot: &str, from: &Server, to: &Server, between: impl Fn()) {
    let [from_id, to_id] = [from, to].map(|node| node.ask(&["CLUSTER", "MYID"]).unwrap());
    to.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]).unwrap();
    from.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]).unwrap();
    let (host, port) =
        to.address().split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    for key in from.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "1000"]).unwrap().lines() {
        between();
        from.ask(&["MIGRATE", &host, &port, key, "0", "5000"]).unwrap();
    }
    between();
    for node in [to, from] {
        node.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]).unwrap();
    }
}

/// Contracts 1 to 3, with a writer running: the log's keys are on two nodes for a while, and each sends the writer to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_a_slot_moves_is_there_when_it_has_moved() {
    let cluster = Cluster::start().unwrap();
    let url = format!("redis+cluster://{}", cluster.addresses());
    let writer = store(&url).await.unwrap();
    let log = log("s-1");
    append(&writer, &log, 1..=1).await;
    let (won, is_over) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let (counted, ended, written) = (Arc::clone(&won), Arc::clone(&is_over), log.clone());
    let writing = tokio::spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            let next = counted.load(Ordering::Relaxed) + 1;
            let told = create(&writer, run(&written, next..=next, 0)).await;
            assert!(told.is_done() || !told.is_decided(), "{told:?} at {next}, which nobody else writes");
            counted.fetch_add(u64::from(told.is_done()), Ordering::Relaxed);
        }
    });

    let redirected = || {
        let said = cluster.nodes.iter().map(|node| node.ask(&["INFO", "errorstats"]).unwrap());
        let said = said.collect::<String>();
        ["errorstat_ASK", "errorstat_TRYAGAIN"].map(|error| said.contains(error))
    };
    tokio::task::block_in_place(|| {
        let until = |is_so: &dyn Fn() -> bool| {
            let deadline = std::time::Instant::now() + MINUTE;
            while !is_so() {
                assert!(std::time::Instant::now() < deadline, "the writer does not come to it");
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let goes_on = || {
            let before = won.load(Ordering::Relaxed);
            until(&|| won.load(Ordering::Relaxed) >= before + 20);
        };
        for _ in 0..3 {
            goes_on();
            let (from, to) = ends_of_a_move(&cluster);
            let slot = from.ask(&["CLUSTER", "KEYSLOT", &keys(from)]).unwrap();
            // Long enough that the writer meets what is half moved.
            move_slot(&slot, from, to, || std::thread::sleep(Duration::from_millis(100)));
        }
        goes_on();
    });
    is_over.store(true, Ordering::Relaxed);
    writing.await.unwrap();

    assert_eq!(redirected(), [true; 2], "ASK, and TRYAGAIN");
    let fresh = store(&url).await.unwrap();
    let found = read_all(&fresh, &log, 1, PageLimit::WHOLE).await;
    assert_eq!(found, run(&log, 1..=won.load(Ordering::Relaxed), 0).commits);
}

/// The slot that holds a log is given to another node; who does not know it yet is told where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_slot_has_moved_is_found_and_written_where_it_is() {
    let cluster = Cluster::start().unwrap();
    let store = store(&format!("redis+cluster://{}", cluster.addresses())).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;
    let (from, to) = ends_of_a_move(&cluster);
    let slot = from.ask(&["CLUSTER", "KEYSLOT", &keys(from)]).unwrap();

    move_slot(&slot, from, to, || {});

    assert_eq!(create(&store, run(&log, 4..=4, 0)).await, Told::done(1));
    assert_eq!(page(&store, &log, 1).await.commits.len(), 4);
    assert!(keys(from).is_empty());
}
