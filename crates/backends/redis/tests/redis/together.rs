//! Commits of several logs that one script adds: each log fares as if it were alone.

use std::sync::Arc;

use icecore_conformance::commits::{append, create_each, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, ErrorKind, LogId, Run, Version};
use icecore_services::proxy::{Flow, Way};
use icecore_services::redis::Server;

use crate::faults::{behind_a_proxy, wait_for};
use crate::{prefix, store};

fn logs(count: u64) -> Vec<LogId> {
    (0..count).map(|number| log(&format!("s-{number:02}"))).collect()
}

fn next(logs: &[LogId], version: u64) -> Vec<Run> {
    logs.iter().map(|log| run(log, version..=version, 0)).collect()
}

/// How many scripts the server was asked for: `calls`, or of those that it did not take, `rejected_calls`.
fn scripts(server: &Server, which: &str) -> u64 {
    let said = server.ask(&["INFO", "commandstats"]).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap_or_default();
    let count = line.split(',').find_map(|count| count.strip_prefix(which)?.strip_prefix('='));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_commits_of_many_logs_are_one_script() {
    let server = Server::start(&[]).unwrap();
    let store = store(&server.url()).await.unwrap();
    let logs = logs(40);
    assert_eq!(create_each(&store, next(&logs, 1)).await, vec![Told::done(1); logs.len()]);
    assert_eq!(create_each(&store, next(&logs, 2)).await, vec![Told::done(1); logs.len()]);

    let before = scripts(&server, "calls");
    assert_eq!(create_each(&store, next(&logs, 3)).await, vec![Told::done(1); logs.len()]);
    assert_eq!(scripts(&server, "calls"), before + 1);
    for log in &logs {
        let versions: Vec<_> =
            page(&store, log, 1).await.commits.iter().map(|commit| commit.version).collect();
        assert_eq!(versions, [1, 2, 3].map(Version));
    }
}

/// Contract 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_one_log_is_nothing_to_those_beside_it() {
    let server = Server::start(&[]).unwrap();
    let store = store(&server.url()).await.unwrap();
    let logs = logs(6);
    for log in &logs {
        append(&store, log, 1..=3).await;
    }
    store.close(&logs[3], Version(2)).await.unwrap();
    let key = server.ask(&["KEYS", "*:c:*s-04*"]).unwrap();
    server.ask(&["SET", &key, "of another program"]).unwrap();

    let mut runs = next(&logs, 4);
    runs[1] = one(&logs[1], numbered(3, 1));
    runs[2] = one(&logs[2], numbered(6, 1));
    runs[3] = one(&logs[3], numbered(2, 1));
    let told = create_each(&store, runs).await;
    assert_eq!(
        told,
        [
            Told::done(1),
            Told::stopped(Ending::Taken),
            Told::stopped(Ending::Gap),
            Told::stopped(Ending::Closed(Version(2))),
            Told::failed(ErrorKind::Refused),
            Told::done(1),
        ]
    );
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_together_and_not_answered_is_sent_again_and_found() {
    let prefix = prefix();
    let (proxy, through) = behind_a_proxy(&prefix);
    let (direct, store) = (store(&prefix.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let logs = logs(3);
    create_each(&*store, next(&logs, 1)).await;
    // A server that does not have the script yet says so, and that would be what is lost.
    create_each(&*store, next(&logs, 2)).await;

    proxy.set(Way::Answers, Flow::Lose);
    let (sending, runs) = (Arc::clone(&store), next(&logs, 3));
    let create_task = tokio::spawn(async move { create_each(&*sending, runs).await });
    for log in &logs {
        wait_for(&direct, log, 3).await;
    }
    // What was there may have been trimmed since: then nobody knows any more.
    append(&direct, &logs[1], 4..=4).await;
    direct.close(&logs[1], Version(3)).await.unwrap();
    direct.sweep(&logs[1]).await.unwrap();
    proxy.set(Way::Answers, Flow::Pass);
    proxy.down();
    proxy.up();

    let told = create_task.await.unwrap();
    assert_eq!(told, [Told::done(1), Told::failed(ErrorKind::Unknown), Told::done(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_behind_one_address_is_given_keys_of_one_bucket() {
    let server = Server::start(&[["cluster-enabled", "yes"]]).unwrap();
    server.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    server.until(&["CLUSTER", "INFO"], "cluster_state:ok").unwrap();
    let store = store(&server.url()).await.unwrap();
    let logs = logs(20);

    for version in 1..=3 {
        assert_eq!(create_each(&store, next(&logs, version)).await, vec![Told::done(1); logs.len()]);
    }
    assert_eq!(scripts(&server, "rejected_calls"), 1, "it was not tried, or again and again");
}
