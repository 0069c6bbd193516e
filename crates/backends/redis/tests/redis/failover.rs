//! Replicas: what an asynchronous fail-over loses and how that is told, and what waiting for replicas keeps.

use std::sync::Arc;

use icecore_conformance::commits::{append, create, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, Durability, ErrorKind, Version};
use icecore_services::proxy::Proxy;
use icecore_services::redis::{PRIMARY, Server};
use tokio::time::{Duration, Instant, sleep};

use crate::{MINUTE, store};

/// The replica takes over without the last commits, which were acknowledged. What is built on them is a gap, and not a hole that nobody sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fail_over_lost_is_a_gap_and_no_slot_is_won_twice_on_one_history() {
    let mut primary = Server::start(&[]).unwrap();
    let replica = primary.replica(&[]).unwrap();
    let name = Proxy::start(&primary.address()).unwrap();
    let store = store(&format!("redis://{}", name.address())).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;
    replica.until(&["INFO", "replication"], &format!("slave_repl_offset:{}", offset(&primary))).unwrap();

    // Given commits that the replica has not, because it was cut off.
    replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    append(&store, &log, 4..=6).await;
    tokio::task::block_in_place(|| primary.kill());
    name.lead_to(&replica.address());

    // The log ends earlier, and says so.
    assert_eq!(head(&store, &log).await.unwrap().version, Version(3));
    assert_eq!(page(&store, &log, 4).await.commits, []);
    // What follows a lost commit is refused, whatever it says.
    assert_eq!(create(&store, run(&log, 7..=7, 0)).await, Told::stopped(Ending::Gap));
    assert_eq!(head(&store, &log).await.unwrap().version, Version(3));
    // Another history begins behind what is left; and of the lost one nothing fits behind it.
    assert_eq!(create(&store, one(&log, numbered(4, 9))).await, Told::done(1));
    assert_eq!(create(&store, run(&log, 4..=6, 0)).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&store, run(&log, 5..=6, 0)).await, Told::stopped(Ending::Gap));
    assert_eq!(create(&store, run(&log, 7..=7, 0)).await, Told::stopped(Ending::Gap));
}

fn offset(server: &Server) -> String {
    let said = server.ask(&["INFO", "replication"]).unwrap();
    said.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap().trim().to_owned()
}

/// A primary that was made a replica keeps its connections: it is neither read, which might show what is old, nor written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_demoted_is_neither_read_nor_written() {
    let (server, other) = (Server::start(&[]).unwrap(), Server::start(&[]).unwrap());
    let store = store(&format!("{}?timeout_ms=300", server.url())).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=2).await;
    let (host, port) =
        other.address().split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    server.ask(&["REPLICAOF", &host, &port]).unwrap();

    assert_eq!(store.heads(std::slice::from_ref(&log)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(create(&store, run(&log, 3..=3, 0)).await, Told::failed(ErrorKind::Unavailable));

    server.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let told = create(&store, run(&log, 1..=1, 0)).await;
    // What it followed had nothing, or it had not begun to follow.
    assert!(told.is_done(), "{told:?}");
}

/// The third commit of a log, while the one replica that is waited for is dead, and when it is back.
pub(crate) async fn win_by_the_same_bytes(store: &dyn Backend, replica: &mut Server) {
    let log = log("s-1");
    append(store, &log, 1..=2).await;

    tokio::task::block_in_place(|| replica.kill());
    assert_eq!(create(store, run(&log, 3..=3, 0)).await, Told::failed(ErrorKind::Unknown));
    // It is there, and only seen: no more acknowledged than before.
    assert_eq!(head(store, &log).await.unwrap().version, Version(3));
    assert_eq!(create(store, run(&log, 3..=3, 0)).await, Told::failed(ErrorKind::Unknown));

    tokio::task::block_in_place(|| replica.resume().unwrap());
    replica.until(&["INFO", "replication"], "master_link_status:up").unwrap();
    assert_eq!(create(store, run(&log, 3..=3, 0)).await, Told::done(1));
}

/// Contract 2. With `wait`, what replicas did not acknowledge is unknown, and won by the same bytes once they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_replicas_is_won_when_they_have_it() {
    let primary = Server::start(&[]).unwrap();
    let url = format!("{}?timeout_ms=3000&wait=1", primary.url());
    // Nobody could ever acknowledge anything.
    assert_eq!(store(&url).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let mut replica = primary.replica(&[]).unwrap();
    let store = store(&url).await.unwrap();
    // Redis 7.0 does not say whether a replica has it on its disk.
    assert_eq!(store.capabilities().durability, Durability::Disk);
    win_by_the_same_bytes(&store, &mut replica).await;
    replica.until(&["HGET", &replica.ask(&["KEYS", "*:c:*"]).unwrap(), "v"], "3").unwrap();
}

/// Three Sentinels, a primary that is killed, and a writer that goes on with the replica: with `wait=1` nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_the_primary_and_what_replicas_acknowledged_survives() {
    let mut primary = Server::start(&[]).unwrap();
    let _replica = primary.replica(&[]).unwrap();
    let sentinels = [(); 3].map(|()| primary.sentinel(2).unwrap());
    for sentinel in &sentinels {
        sentinel.until(&["SENTINEL", "MASTER", PRIMARY], "num-other-sentinels\n2").unwrap();
        sentinel.until(&["SENTINEL", "MASTER", PRIMARY], "num-slaves\n1").unwrap();
    }
    let hosts = sentinels.each_ref().map(Server::address).join(",");
    let store =
        Arc::new(store(&format!("redis+sentinel://{hosts}/{PRIMARY}?wait=1&timeout_ms=5000")).await.unwrap());
    let log = log("s-1");
    append(&*store, &log, 1..=20).await;

    tokio::task::block_in_place(|| primary.kill());
    // Nobody is left to acknowledge the replica's own commits: the fail-over is seen by reading.
    let deadline = Instant::now() + MINUTE;
    let found = loop {
        match store.heads(std::slice::from_ref(&log)).await {
            Ok(heads) => break heads,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found[0].as_ref().unwrap().version, Version(20));
    assert_eq!(create(&*store, run(&log, 21..=21, 0)).await, Told::failed(ErrorKind::Unknown));
    // Once the old primary follows the new one, the same bytes are won.
    tokio::task::block_in_place(|| primary.resume().unwrap());
    let deadline = Instant::now() + MINUTE;
    while !create(&*store, run(&log, 21..=21, 0)).await.is_done() {
        assert!(Instant::now() < deadline, "nobody acknowledges it");
    }
    assert_eq!(page(&*store, &log, 1).await.commits.len(), 21);
}
