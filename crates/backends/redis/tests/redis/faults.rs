//! A network that loses, delays and cuts; a server that forgets its scripts, and one that is full.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, head, log, noise, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, BlobId, ErrorKind, LogId, Mode, StoredCommit, Version};
use icecore_services::proxy::{Flow, Proxy, Way};
use icecore_services::redis::{Prefix, Server};

use crate::{MINUTE, prefix, store};

/// A proxy in front of a prefix's server, and the URL through it.
pub fn behind_a_proxy(prefix: &Prefix) -> (Proxy, String) {
    let url = prefix.url();
    let (server, options) = url.strip_prefix("redis://").unwrap().split_once('?').unwrap();
    let proxy = Proxy::start(server).unwrap();
    let through = format!("redis://{}?{options}", proxy.address());
    (proxy, through)
}

pub async fn wait_for(backend: &dyn Backend, log: &LogId, version: u64) {
    while head(backend, log).await.is_none_or(|head| head.version < Version(version)) {
        backend.wait(&[(log.clone(), Version(version - 1))], MINUTE).await.unwrap();
    }
}

async fn held(proxy: &Arc<Proxy>, way: Way) {
    let proxy = Arc::clone(proxy);
    tokio::task::spawn_blocking(move || proxy.wait_until_stopped(way)).await.unwrap();
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_unknown_and_the_same_bytes_decide() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let direct = store(&prefix.url()).await.unwrap();
    let store = store(&format!("{through}&timeout_ms=1000")).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    proxy.set(Way::Answers, Flow::Lose);
    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::failed(ErrorKind::Unknown));
    wait_for(&direct, &log, 3).await;

    proxy.set(Way::Answers, Flow::Pass);
    assert_eq!(create(&store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::done(2));
}

/// Contract 2. Where the server can be asked again in time, nobody has to be told that the outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_sending_the_same_again() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let (direct, store) = (store(&prefix.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    proxy.set(Way::Answers, Flow::Lose);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=3, 0));
    let create_task = tokio::spawn(async move { create(&*sending, ours).await });
    wait_for(&direct, &log, 3).await;
    proxy.set(Way::Answers, Flow::Pass);
    proxy.down();
    proxy.up();

    assert_eq!(create_task.await.unwrap(), Told::done(2));
}

/// Contract 2. What was sent before may have been there, and have been trimmed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_before_its_answer_came_is_unknown() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let (direct, store) = (store(&prefix.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    proxy.set(Way::Answers, Flow::Lose);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=2, 0));
    let create_task = tokio::spawn(async move { create(&*sending, ours).await });
    wait_for(&direct, &log, 2).await;
    append(&direct, &log, 3..=3).await;
    direct.close(&log, Version(2)).await.unwrap();
    direct.sweep(&log).await.unwrap();
    proxy.set(Way::Answers, Flow::Pass);
    proxy.down();
    proxy.up();

    assert_eq!(create_task.await.unwrap(), Told::failed(ErrorKind::Unknown));
    // Who was not in doubt is told.
    assert_eq!(create(&*store, run(&log, 2..=2, 0)).await, Told::stopped(Ending::Closed(Version(2))));
}

/// Contract 2. Absent decides nothing: the request was on its way, and nobody waited for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_is_whole_and_keeps_its_slot() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let proxy = Arc::new(proxy);
    let (direct, store) = (store(&prefix.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    proxy.set(Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=4, 0));
    let caller = tokio::spawn(async move { sending.create(vec![ours], Mode::Each).await });
    held(&proxy, Way::Requests).await;
    caller.abort();
    assert!(caller.await.is_err());
    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));
    proxy.set(Way::Requests, Flow::Pass);
    wait_for(&direct, &log, 4).await;

    assert_eq!(create(&direct, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&direct, run(&log, 2..=4, 0)).await, Told::done(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_were_cut_are_made_again() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let store = store(&through).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    proxy.down();
    proxy.up();
    assert_eq!(page(&store, &log, 1).await.commits.len(), 1);
    proxy.down();
    proxy.up();
    append(&store, &log, 2..=2).await;
}

/// A server that is away is told within the deadline, and nothing was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_in_time() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let store = store(&format!("{through}&timeout_ms=300")).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;
    proxy.down();
    // What was idle is cut, and thrown away by the first that meets it.
    let read = store.heads(std::slice::from_ref(&log)).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable);

    let begun = std::time::Instant::now();
    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::failed(ErrorKind::Unavailable));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_its_scripts_is_given_them_again() {
    let server = Server::start(&[]).unwrap();
    let store = store(&server.url()).await.unwrap();
    let (one, other) = (log("s-1"), log("s-2"));
    append(&store, &one, 1..=2).await;

    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    let told =
        icecore_conformance::commits::create_each(&store, vec![run(&one, 3..=3, 0), run(&other, 1..=2, 0)]);
    assert_eq!(told.await, [Told::done(1), Told::done(2)]);
    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(page(&store, &one, 1).await.commits.len(), 3);
    store.close(&one, Version(1)).await.unwrap();
    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(store.sweep(&one).await.unwrap().commits, 1);
    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(store.put_blob(&BlobId::new(one, "b").unwrap(), noise(2_000_000, 1)).await.unwrap());
}

/// A script is not undone where it stops: what a full server refuses, it refuses before anything is written. Trimming goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_before_anything_is_written_and_is_trimmed() {
    let server = Server::start(&[["maxmemory-policy", "noeviction"]]).unwrap();
    let store = store(&format!("{}?timeout_ms=2000", server.url())).await.unwrap();
    let (old, new) = (log("old"), log("new"));
    append(&store, &old, 1..=5).await;
    let large = |version| StoredCommit { body: Some(noise(900_000, version)), ..numbered(version, 0) };
    assert_eq!(create(&store, one(&old, large(6))).await, Told::done(1));
    append(&store, &old, 7..=7).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();

    for run in [run(&old, 8..=9, 0), one(&old, large(8)), run(&new, 1..=2, 0)] {
        assert_eq!(create(&store, run).await, Told::failed(ErrorKind::Unavailable));
    }
    assert_eq!(head(&store, &old).await.unwrap().version, Version(7));
    assert_eq!(head(&store, &new).await, None);
    assert!(server.ask(&["KEYS", "*c:acme/session/new"]).unwrap().is_empty());
    // What is there is won again, as the contract has it.
    assert_eq!(create(&store, run(&old, 7..=7, 0)).await, Told::done(1));
    store.drop_bodies(&old, &[Version(7)]).await.unwrap();
    store.close(&old, Version(6)).await.unwrap();
    assert_eq!(store.sweep(&old).await.unwrap().commits, 6);
    assert!(server.ask(&["KEYS", "*:l:*"]).unwrap().is_empty(), "the large body is gone");

    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    append(&store, &old, 8..=9).await;
}

/// Parts that arrive after the commit that claimed them must not put a term on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_committed_expires() {
    let server = Server::start(&[]).unwrap();
    let store = store(&server.url()).await.unwrap();
    let log = log("s-1");
    let body = noise(3_000_000, 1);
    assert_eq!(
        create(&store, one(&log, StoredCommit { body: Some(body.clone()), ..numbered(1, 0) })).await,
        Told::done(1)
    );
    assert!(store.put_blob(&BlobId::new(log.clone(), "b").unwrap(), body.clone()).await.unwrap());
    // Another, of the same name: its parts are of no use.
    assert!(!store.put_blob(&BlobId::new(log.clone(), "b").unwrap(), body).await.unwrap());

    let keys = server.ask(&["KEYS", "*"]).unwrap();
    assert_eq!(keys.lines().count(), 6, "{keys}");
    for key in keys.lines() {
        assert_eq!(server.ask(&["TTL", key]).unwrap(), "-1", "{key}");
    }
}

/// Two handles of two large bodies for one slot: one is there, whole, and the other is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_large_bodies_have_one_winner() {
    let prefix = prefix();
    let handles =
        [Arc::new(store(&prefix.url()).await.unwrap()), Arc::new(store(&prefix.url()).await.unwrap())];
    for round in 1..=5 {
        let log = log(&format!("race-{round}"));
        let racing = handles.iter().zip(0..).map(|(handle, seed)| {
            let (handle, log) = (Arc::clone(handle), log.clone());
            let commit = StoredCommit { body: Some(noise(5_000_000, seed)), ..numbered(1, seed) };
            tokio::spawn(async move { create(&*handle, one(&log, commit)).await })
        });
        let racing: Vec<_> = racing.collect();
        let mut told = Vec::new();
        for task in racing {
            told.push(task.await.unwrap());
        }

        let winner = told.iter().position(|told| told.is_done()).unwrap();
        assert_eq!(told[1 - winner], Told::stopped(Ending::Taken));
        let found = page(&*handles[0], &log, 1).await.commits.remove(0);
        assert!(found.body == Some(noise(5_000_000, winner as u64)), "the winner's body");
    }
}
