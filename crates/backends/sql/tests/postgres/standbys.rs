//! Standbys that are away.

use std::sync::Arc;

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create, head, log, run};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, ErrorKind, LogId, Version};
use icecore_services::postgres::{Server, sql};
use icecore_sql::PostgresStore;

use crate::{cut_connections, store, until};

/// A server whose commits wait for a standby that is away, and a store in it.
async fn without_its_standby(timeout_ms: u64) -> (Server, PostgresStore, LogId) {
    let server = Server::start(&[]).unwrap();
    let log = log("s-1");
    let before = store(&server.url()).await.unwrap();
    append(&before, &log, 1..=1).await;
    assert_eq!(before.capabilities().durability, Durability::Disk);
    before.shut_down().await.unwrap();
    wait_for_standbys(&server, "away").await;
    let store = store(&format!("{}?timeout_ms={timeout_ms}", server.url())).await.unwrap();
    assert_eq!(store.capabilities().durability, Durability::Replicated);
    (server, store, log)
}

async fn wait_for_standbys(server: &Server, names: &str) {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
    // Not committed to any table, so it does not wait itself.
    sql(&server.url(), &[&set, "SELECT pg_reload_conf()"]).unwrap();
    until(&server.url(), "SHOW synchronous_standby_names", names).await;
}

/// Contracts 2 and 3. `statement_timeout` does not end such a wait; our own deadline does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_standbys_is_unknown_in_time() {
    let (server, store, log) = without_its_standby(500).await;

    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::failed(ErrorKind::Unknown));

    // Nobody sees it while it waits, so that it may still come.
    assert_eq!(head(&store, &log).await.unwrap().version, Version(1));
    wait_for_standbys(&server, "").await;
    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::done(1));
}

/// Contracts 2 and 3. The server answers as if all was well, and warns. The row can be seen, and is on one machine only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_wait_for_standbys_is_never_won() {
    let (server, store, log) = without_its_standby(60_000).await;
    let store = Arc::new(store);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=2, 0));
    let create_task = tokio::spawn(async move { create(&*sending, ours).await });

    // First what adds the commit, then what would make it durable.
    while !create_task.is_finished() {
        let cancel =
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        sql(&server.url(), &[cancel]).unwrap();
    }

    assert_eq!(create_task.await.unwrap(), Told::failed(ErrorKind::Unknown));
    assert_eq!(head(&*store, &log).await.unwrap().version, Version(2));
    wait_for_standbys(&server, "").await;
    assert_eq!(create(&*store, run(&log, 2..=2, 0)).await, Told::done(1));
}

/// Contract 3. As after a fail-over to a server that waits for nobody: what it acknowledges is declared as what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_declared_than_what_the_server_does_that_is_connected_to_now() {
    let (server, store, log) = without_its_standby(10_000).await;
    wait_for_standbys(&server, "").await;
    cut_connections(&server.url());

    append(&store, &log, 2..=2).await;

    assert_eq!(store.capabilities().durability, Durability::Disk);
    let facts = store.examine(Depth::Quick).await.unwrap().facts;
    let found = facts.iter().find(|(name, _)| name == "durability_found").unwrap();
    assert!(found.1.contains("synchronous_standby_names=''"), "{}", found.1);
    let followers = facts.iter().find(|(name, _)| name == "standbys").unwrap();
    assert_eq!(followers.1, "none");
    let timeline = facts.iter().find(|(name, _)| name == "timeline").unwrap();
    assert!(timeline.1.starts_with("1 of system "), "{}", timeline.1);
}
