//! A network that loses, delays and cuts, and connections that are ended: the same of every server.

use std::sync::Arc;

use icecore_conformance::commits::{append, create, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, ErrorKind, LogId, Mode, PageLimit, Version};
use icecore_services::proxy::{Flow, Proxy, Way};

use crate::{Database, MINUTE, Store, at_the_commit, cut_connections, database, store, store_with};

/// A proxy in front of a database's server, and the URL through it.
pub(crate) fn behind_a_proxy(database: &Database) -> (Proxy, String) {
    let url = database.url();
    let (before, after) = url.split_once('@').unwrap();
    let (server, name) = after.split_once('/').unwrap();
    let proxy = Proxy::start(server).unwrap();
    let through = format!("{before}@{}/{name}", proxy.address());
    (proxy, through)
}

/// One that takes a connection as it is, without asking first whether it lives: what is sent next is the statement itself.
async fn trusting_store(url: &str) -> Arc<Store> {
    store_with(url, |settings| {
        settings.bounds.ask_after = MINUTE;
        settings.bounds.timeout = MINUTE;
    })
    .await
}

async fn wait_for(backend: &dyn Backend, log: &LogId, version: u64) {
    while head(backend, log).await.is_none_or(|head| head.version < Version(version)) {
        backend.wait(&[(log.clone(), Version(version - 1))], MINUTE).await.unwrap();
    }
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_unknown_and_the_same_bytes_decide() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (store, direct) = (trusting_store(&through).await, store(&database.url()).await.unwrap());
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    // Given a server that has committed, and an answer that is lost with every way to ask.
    at_the_commit(&proxy, Way::Answers, Flow::Lose);
    proxy.refuse();
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=3, 0));
    let create_task = tokio::spawn(async move { create(&*sending, ours).await });
    wait_for(&direct, &log, 3).await;
    proxy.down();

    assert_eq!(create_task.await.unwrap(), Told::failed(ErrorKind::Unknown));

    proxy.set(Way::Answers, Flow::Pass);
    proxy.up();
    assert_eq!(create(&*store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&*store, run(&log, 2..=3, 0)).await, Told::done(2));
}

/// Contract 2. Where the server can be asked, nobody has to be told that the outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_looking() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (store, direct) = (trusting_store(&through).await, store(&database.url()).await.unwrap());
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    for (mode, version) in [(Mode::Each, 2), (Mode::AllOrNone, 4)] {
        proxy.set(Way::Answers, Flow::Pass);
        let both = version..=version + 1;
        let (sending, ours) = (Arc::clone(&store), run(&log, both, 0));
        // Only the answer to what commits is lost.
        if mode == Mode::Each || !crate::IS_ONE_STATEMENT {
            at_the_commit(&proxy, Way::Answers, Flow::Lose);
        }
        let create_task = tokio::spawn(async move { sending.create(vec![ours], mode).await });
        wait_for(&direct, &log, version + 1).await;
        proxy.set(Way::Answers, Flow::Pass);
        proxy.down();
        proxy.up();

        let answer = create_task.await.unwrap();
        assert_eq!(Told::from(&answer[0]), Told::done(2));
    }
}

/// Contract 2. Absent decides nothing: the request was on its way, and nobody waited for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_is_whole_and_keeps_its_slot() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (store, direct) = (trusting_store(&through).await, store(&database.url()).await.unwrap());
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    // Given a request under way whose caller has gone, and its store too.
    at_the_commit(&proxy, Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=4, 0));
    let caller = tokio::spawn(async move { sending.create(vec![ours], Mode::Each).await });
    proxy_has_held(&proxy).await;
    caller.abort();
    assert!(caller.await.is_err());
    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));

    // When it arrives after all.
    proxy.set(Way::Requests, Flow::Pass);
    wait_for(&direct, &log, 4).await;

    assert_eq!(create(&direct, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&direct, run(&log, 2..=4, 0)).await, Told::done(3));
}

/// Contract 1. The other order: the slot was decided before the late request came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_too_late_changes_nothing() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (store, direct) = (trusting_store(&through).await, store(&database.url()).await.unwrap());
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    proxy.set(Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=4, 7));
    let late = icecore_log::Run { previous: icecore_conformance::commits::hash(1, 0), ..ours };
    let late = tokio::spawn(async move { create(&*sending, late).await });
    proxy_has_held(&proxy).await;

    append(&direct, &log, 2..=2).await;
    proxy.set(Way::Requests, Flow::Pass);

    assert_eq!(late.await.unwrap(), Told::stopped(Ending::Taken));
    assert_eq!(page(&direct, &log, 2).await.commits, [numbered(2, 0)]);
}

async fn proxy_has_held(proxy: &Proxy) {
    tokio::task::block_in_place(|| proxy.wait_until_stopped(Way::Requests));
}

/// A server, a pooler or a firewall ends what is idle; nobody has to notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_were_cut_are_made_again() {
    let database = database();
    let url = database.url();
    let store = trusting_store(&url).await;
    let log = log("s-1");
    for version in [1, 3, 5] {
        append(&*store, &log, version..=version).await;
        let (one_page, other_page) = tokio::join!(
            store.read(&log, Version(1), PageLimit::WHOLE),
            store.read(&log, Version(1), PageLimit::HEADERS)
        );
        assert_eq!(one_page.unwrap().commits.len(), other_page.unwrap().commits.len());
        cut_connections(&url);
        if version == 3 {
            assert_eq!(page(&*store, &log, 1).await.commits.len(), 3);
        }

        append(&*store, &log, version + 1..=version + 1).await;

        assert_eq!(page(&*store, &log, 1).await.commits.len() as u64, version + 1);
    }
}
