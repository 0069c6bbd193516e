//! A network that loses answers, a service that fails, and one that has too many requests.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, create_in, head, log, noise, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Backend, BlobId, ErrorKind, LogId, Mode, StoredCommit, Version};
use icecore_services::dynamodb::Table;

use crate::front::{Front, Twist, keys};
use crate::store;

const FOR_EVER: usize = usize::MAX;

async fn fact(store: &dyn Backend, name: &str) -> u64 {
    let facts = store.examine(Depth::Quick).await.unwrap().facts;
    facts.iter().find(|(found, _)| found == name).unwrap().1.parse().unwrap()
}

async fn wait_for(backend: &dyn Backend, log: &LogId, version: u64) {
    while head(backend, log).await.is_none_or(|head| head.version < Version(version)) {
        backend.wait(&[(log.clone(), Version(version - 1))], Duration::from_secs(60)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_throttled_is_sent_again_and_counted() {
    let table = Table::new();
    let front = Front::new(&table.url());
    let store = store(&front.url()).await.unwrap();
    let log = log("s-1");
    assert_eq!(fact(&store, "requests_throttled").await, 0);

    for (number, action) in ["TransactWriteItems", "PutItem", "Query", "GetItem"].into_iter().enumerate() {
        front.plan(action, Twist::Throttle, 3);
        append(&store, &log, number as u64 + 1..=number as u64 + 1).await;
        assert_eq!(page(&store, &log, 1).await.commits.len(), number + 1);
        front.be_honest();
    }
    // The first put writes the tenant, and a page that ends with its log asks for no item: what is throttled later is throttled all the same.
    front.plan("GetItem", Twist::Throttle, 3);
    store.close(&log, Version(1)).await.unwrap();
    assert!(fact(&store, "requests_throttled").await >= 12);
    assert!(fact(&store, "requests_again").await >= 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_throttled_for_too_long_was_not_written() {
    let table = Table::new();
    let url = table.url();
    let front = Front::new(&url);
    let (direct, store) =
        (store(&url).await.unwrap(), store(&format!("{}&timeout_ms=500", front.url())).await.unwrap());
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    front.plan("PutItem", Twist::Throttle, FOR_EVER);
    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::failed(ErrorKind::Unavailable));
    front.plan("TransactWriteItems", Twist::Throttle, FOR_EVER);
    let both = || vec![run(&log, 2..=2, 0), run(&icecore_conformance::commits::log("s-2"), 1..=1, 0)];
    assert_eq!(create_in(&store, both(), Mode::AllOrNone).await, [Told::failed(ErrorKind::Unavailable); 2]);

    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));
    front.be_honest();
    assert_eq!(create_in(&store, both(), Mode::AllOrNone).await, [Told::done(1); 2]);
}

/// Contract 2. The same bytes are sent again, and what is in the slot says who won.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_sending_the_same_again() {
    let table = Table::new();
    let front = Front::new(&table.url());
    let store = store(&front.url()).await.unwrap();
    let (log, other) = (log("s-1"), log("s-2"));
    for twist in [Twist::Lose, Twist::FailAfter, Twist::Fail] {
        let next = head(&store, &log).await.map_or(0, |head| head.version.0);
        // A log's first commit and a run are transactions, one commit is a put.
        for action in ["TransactWriteItems", "PutItem"] {
            front.plan(action, twist, 1);
        }
        assert_eq!(create(&store, run(&log, next + 1..=next + 1, 0)).await, Told::done(1), "{twist:?}");
        front.plan("PutItem", twist, 1);
        assert_eq!(create(&store, run(&log, next + 2..=next + 2, 0)).await, Told::done(1), "{twist:?}");
        front.plan("TransactWriteItems", twist, 1);
        assert_eq!(create(&store, run(&log, next + 3..=next + 5, 0)).await, Told::done(3), "{twist:?}");
        front.plan("TransactWriteItems", twist, 1);
        let from = head(&store, &other).await.map_or(0, |head| head.version.0);
        let both = vec![run(&log, next + 6..=next + 6, 0), run(&other, from + 1..=from + 2, 0)];
        assert_eq!(
            create_in(&store, both, Mode::AllOrNone).await,
            [Told::done(1), Told::done(2)],
            "{twist:?}"
        );
        front.be_honest();
    }
    assert_eq!(page(&store, &log, 1).await.commits.len(), 18);
    assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_answered_in_time_is_unknown_and_the_same_bytes_decide() {
    let table = Table::new();
    let url = table.url();
    let front = Front::new(&url);
    let (direct, store) =
        (store(&url).await.unwrap(), store(&format!("{}&timeout_ms=500", front.url())).await.unwrap());
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    // The last try is refused: what became of the first is not known for that.
    front.plan("PutItem", Twist::Lose, 1);
    front.plan("PutItem", Twist::Throttle, FOR_EVER);
    assert_eq!(create(&store, run(&log, 2..=2, 0)).await, Told::failed(ErrorKind::Unknown));
    front.plan("Query", Twist::Throttle, FOR_EVER);
    assert_eq!(
        create(&store, run(&log, 3..=4, 0)).await,
        Told::failed(ErrorKind::Unavailable),
        "nothing was sent"
    );
    wait_for(&direct, &log, 2).await;
    front.be_honest();

    assert_eq!(create(&store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&store, run(&log, 2..=4, 0)).await, Told::done(3));
}

/// Contract 2. What was sent before may have been there, and have been trimmed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_before_its_answer_came_is_unknown() {
    let table = Table::new();
    let url = format!("{}&grace_s=0", table.url());
    let front = Front::new(&url);
    let (direct, store) = (store(&url).await.unwrap(), Arc::new(store(&front.url()).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    // The put is carried out; the answer is lost, and what is sent after it waits.
    front.plan("PutItem", Twist::Lose, 1);
    front.plan("PutItem", Twist::Hold, FOR_EVER);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=2, 0));
    let sent = tokio::spawn(async move { create(&*sending, ours).await });
    front.has_held().await;
    wait_for(&direct, &log, 2).await;
    append(&direct, &log, 3..=3).await;
    direct.close(&log, Version(2)).await.unwrap();
    assert_eq!(direct.sweep(&log).await.unwrap().commits, 2);
    front.be_honest();

    assert_eq!(sent.await.unwrap(), Told::failed(ErrorKind::Unknown));
    // Who was not in doubt is told.
    assert_eq!(create(&*store, run(&log, 2..=2, 0)).await, Told::stopped(Ending::Closed(Version(2))));
    assert_eq!(page(&direct, &log, 1).await.boundary, Version(2));
}

/// Contract 2. Absent decides nothing: the request was on its way, and nobody waited for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_is_whole_and_keeps_its_slot() {
    let table = Table::new();
    let url = table.url();
    let front = Front::new(&url);
    let (direct, store) = (store(&url).await.unwrap(), Arc::new(store(&front.url()).await.unwrap()));
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    front.plan("TransactWriteItems", Twist::Hold, FOR_EVER);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=4, 0));
    let caller = tokio::spawn(async move { sending.create(vec![ours], Mode::Each).await });
    front.has_held().await;
    caller.abort();
    assert!(caller.await.is_err());
    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));
    front.be_honest();
    wait_for(&direct, &log, 4).await;

    assert_eq!(create(&direct, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&direct, run(&log, 2..=4, 0)).await, Told::done(3));
}

/// What was said to be gone is gone, whatever became of the answers: the bytes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_leaves_no_part_of_what_was_dropped() {
    let table = Table::new();
    let url = table.url();
    let front = Front::new(&url);
    let store = store(&front.url()).await.unwrap();
    let log = log("s-1");
    let large = StoredCommit { body: Some(noise(1_000_000, 1)), ..numbered(1, 0) };
    assert_eq!(create(&store, one(&log, large)).await, Told::done(1));
    let blob = BlobId::new(log.clone(), "b").unwrap();
    front.plan("PutItem", Twist::Lose, 1);
    assert!(store.put_blob(&blob, noise(1_000_000, 2)).await.unwrap());
    let parts = || keys(&url).into_iter().filter(|key| key.contains(" b") || key.contains(" p")).count();
    assert_eq!(parts(), 6);

    for action in ["UpdateItem", "BatchWriteItem"] {
        front.plan(action, Twist::Lose, 1);
    }
    store.drop_bodies(&log, &[Version(1)]).await.unwrap();
    assert_eq!(parts(), 3);
    for action in ["UpdateItem", "BatchWriteItem", "DeleteItem"] {
        front.plan(action, Twist::Lose, 1);
    }
    store.delete_blob(&blob).await.unwrap();
    assert_eq!(parts(), 0);
    assert_eq!(store.get_blob(&blob, None).await.unwrap(), None);
}
