//! A network that loses, delays and cuts, and a writer that stalls while its log is trimmed.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, create_in, ends, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::{Depth, Swept};
use icecore_log::{Backend, ErrorKind, LogId, Mode, Version};
use icecore_mongodb::{Access, MongoDb, MongoStore, Settings};
use icecore_services::mongodb::Database;
use icecore_services::proxy::{Flow, Proxy, Way};

use crate::{MINUTE, database, store};

/// A proxy in front of a database's server, and the URL through it.
pub(crate) fn behind_a_proxy(database: &Database) -> (Arc<Proxy>, String) {
    through_a_proxy(&database.url())
}

fn through_a_proxy(url: &str) -> (Arc<Proxy>, String) {
    let place = url.strip_prefix("mongodb://").unwrap();
    let server = place.split('/').next().and_then(|place| place.split('@').next_back()).unwrap();
    let proxy = Arc::new(Proxy::start(server).unwrap());
    let through = url.replace(server, &proxy.address().to_string());
    (proxy, through)
}

/// A store in which what is closed is kept so long.
pub(crate) async fn with_grace(url: &str, grace: Duration) -> Arc<MongoStore> {
    let mut settings = Settings::parse(url).unwrap();
    settings.grace = grace;
    Arc::new(MongoDb::open(settings, Access::ReadWrite).await.unwrap())
}

pub(crate) async fn wait_for(backend: &dyn Backend, log: &LogId, version: u64) {
    while head(backend, log).await.is_none_or(|head| head.version < Version(version)) {
        backend.wait(&[(log.clone(), Version(version - 1))], MINUTE).await.unwrap();
    }
}

pub(crate) async fn held(proxy: &Arc<Proxy>, way: Way) {
    let proxy = Arc::clone(proxy);
    tokio::task::spawn_blocking(move || proxy.wait_until_stopped(way)).await.unwrap();
}

/// What a request that creates holds, and no other.
pub(crate) const INSERT: &str = "\x02insert\0";

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_unknown_and_the_same_bytes_decide() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let direct = store(&database.url()).await.unwrap();
    let store = store(&format!("{through}&timeout_ms=2000")).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    proxy.set_from(INSERT, Way::Answers, Flow::Lose);
    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::failed(ErrorKind::Unknown));
    wait_for(&direct, &log, 3).await;

    proxy.set(Way::Answers, Flow::Pass);
    assert_eq!(decided(&store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::done(2));
}

/// Until the driver has found the server again.
async fn decided(store: &MongoStore, run: icecore_log::Run) -> Told {
    icecore_conformance::commits::decide(store, vec![run], Mode::Each).await.remove(0)
}

/// Contract 2. Where the server can be asked again in time, nobody has to be told that the outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_cut_after_the_request_is_found_out_by_sending_the_same_again() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (direct, store) = (store(&database.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    proxy.set_from(INSERT, Way::Answers, Flow::Lose);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=3, 0));
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    wait_for(&direct, &log, 3).await;
    // Others go on behind it, and what was ours is still ours.
    append(&direct, &log, 4..=4).await;
    proxy.set(Way::Answers, Flow::Pass);
    proxy.down();
    proxy.up();

    assert_eq!(task.await.unwrap(), Told::done(2));
    assert_eq!(page(&*store, &log, 1).await.commits, run(&log, 1..=4, 0).commits);
}

/// Contracts 2 and 5. The insert succeeds, since the slot was deleted: it is never acknowledged and never read, and the next sweep deletes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stalled_while_its_slot_was_closed_and_swept_wins_nothing() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let grace = Duration::from_millis(1_000);
    let (writer, other) = (with_grace(&through, grace).await, with_grace(&database.url(), grace).await);
    let log = log("s-1");
    append(&*writer, &log, 1..=5).await;

    proxy.set_from(INSERT, Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&writer), one(&log, numbered(6, 1)));
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    held(&proxy, Way::Requests).await;
    append(&*other, &log, 6..=10).await;
    other.close(&log, Version(9)).await.unwrap();
    assert_eq!(other.sweep(&log).await.unwrap(), Swept::default(), "the time of grace has begun");
    tokio::time::sleep(grace).await;
    assert_eq!(other.sweep(&log).await.unwrap().commits, 9);
    proxy.set(Way::Requests, Flow::Pass);

    assert_eq!(task.await.unwrap(), Told::failed(ErrorKind::Unknown));
    for store in [&writer, &other] {
        assert_eq!(ends(&**store, &log).await, (10, 9));
        assert_eq!(page(&**store, &log, 6).await.commits, []);
        assert_eq!(page(&**store, &log, 10).await.commits, [numbered(10, 0)]);
        assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
    }
    assert_eq!(create(&*writer, one(&log, numbered(6, 1))).await, Told::stopped(Ending::Closed(Version(9))));
    assert_eq!(other.sweep(&log).await.unwrap().commits, 1, "it had landed");
}

/// Contract 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_transaction_is_seen_before_all_of_it_is() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (direct, store) = (store(&database.url()).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let logs = [log("s-1"), log("s-2")];
    append(&direct, &logs[0], 1..=1).await;

    proxy.set_from("commitTransaction\0", Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&store), vec![run(&logs[0], 2..=3, 0), run(&logs[1], 1..=1, 0)]);
    let task = tokio::spawn(async move { create_in(&*sending, ours, Mode::AllOrNone).await });
    held(&proxy, Way::Requests).await;
    assert_eq!((ends(&direct, &logs[0]).await, ends(&direct, &logs[1]).await), ((1, 0), (0, 0)));
    proxy.set(Way::Requests, Flow::Pass);

    assert_eq!(task.await.unwrap(), [Told::done(2), Told::done(1)]);
    assert_eq!((ends(&direct, &logs[0]).await, ends(&direct, &logs[1]).await), ((3, 0), (1, 0)));
}

/// A process that died between the last write of a transaction and its commit is, for the server, one that may go on: it would keep these
/// logs from everybody else for a minute. One that does go on begins again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_a_transaction_that_nobody_goes_on_with_are_free_again_in_seconds() {
    are_free_again(&database().url()).await;
}

/// Two stores at this URL, one of them slow. The server would end a transaction after a minute.
pub(crate) async fn are_free_again(url: &str) {
    let url = &format!("{url}&timeout_ms=30000");
    let (proxy, through) = through_a_proxy(url);
    let (direct, store) = (store(url).await.unwrap(), Arc::new(store(&through).await.unwrap()));
    let logs = [log("s-1"), log("s-2"), log("s-3")];
    for log in &logs {
        append(&direct, log, 1..=1).await;
    }
    for (version, mode) in [(2, Mode::Each), (3, Mode::AllOrNone)] {
        let next = |log| run(log, version..=version, 0);
        proxy.set_from("commitTransaction\0", Way::Requests, Flow::Hold);
        let (sending, ours) = (Arc::clone(&store), [&logs[0], &logs[1]].map(next).to_vec());
        let stopped = tokio::spawn(async move { create_in(&*sending, ours, Mode::AllOrNone).await });
        held(&proxy, Way::Requests).await;

        let theirs = [&logs[0], &logs[2]].map(next).to_vec();
        assert_eq!(create_in(&direct, theirs, mode).await, [Told::done(1), Told::done(1)]);
        assert_eq!(ends(&direct, &logs[1]).await, (version - 1, 0));
        proxy.set(Way::Requests, Flow::Pass);
        assert_eq!(stopped.await.unwrap(), [Told::done(1), Told::done(1)]);
    }
}

/// Contract 2. Absent decides nothing: nobody waited for the request any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_keeps_its_slot() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let direct = store(&database.url()).await.unwrap();
    let store = store(&format!("{through}&timeout_ms=1000")).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    proxy.set_from(INSERT, Way::Requests, Flow::Hold);
    assert_eq!(create(&store, run(&log, 2..=4, 0)).await, Told::failed(ErrorKind::Unknown));
    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));
    proxy.set(Way::Requests, Flow::Pass);
    wait_for(&direct, &log, 4).await;

    assert_eq!(create(&direct, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&direct, run(&log, 2..=4, 0)).await, Told::done(3));
}
