//! A document as it changes.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::time::Duration;

use icecore_log::{ErrorKind, Event, Version};
use icecore_store::Log;
use icecore_store::state::{At, Changes, Json, Watch, Watched};
use support::{append_base, event, faulty, log, store};

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

/// All that there is to say until nothing more comes: the versions and the values.
async fn told(watch: &mut Watch<'_>) -> Vec<(u64, Option<String>)> {
    let mut told = Vec::new();
    loop {
        match watch.next().await.unwrap() {
            Watched::Is(Version(version), document) => {
                told.push((
                    version,
                    document.map(|document| String::from_utf8(document.json.to_vec()).unwrap()),
                ));
            }
            Watched::CaughtUp(_) | Watched::Heartbeat => return told,
        }
    }
}

fn is(version: u64, value: &str) -> (u64, Option<String>) {
    (version, Some(value.to_owned()))
}

#[tokio::test]
async fn a_document_is_told_as_it_is_and_after_each_commit_that_changed_it() {
    let store = store(&faulty());
    let log = log(&store);
    log.put("cart", json("1")).await.unwrap();
    log.put("other", json("1")).await.unwrap();
    let mut watch = log.watch("cart");

    assert_eq!(told(&mut watch).await, [is(2, "1")]);

    log.put("other", json("2")).await.unwrap();
    log.append(Event::new("said", "{}")).await.unwrap();
    log.put("cart", json(r#"{"a":1.0}"#)).await.unwrap();
    log.patch("cart", json(r#"{"b":2}"#)).await.unwrap();
    let several = Changes::new().put("cart", json("3")).put("other", json("4")).put("cart", json("4"));
    log.commit(several).await.unwrap();
    log.delete("cart").await.unwrap();
    log.delete("cart").await.unwrap();
    log.rollback(At::Version(Version(2))).await.unwrap();

    let wanted = [is(5, r#"{"a":1.0}"#), is(6, r#"{"a":1.0,"b":2}"#), is(7, "4"), (8, None), is(10, "1")];
    assert_eq!(told(&mut watch).await, wanted);
    assert_eq!(told(&mut watch).await, []);
}

#[tokio::test]
async fn a_document_of_a_log_that_is_not_there_yet_is_told_when_it_comes() {
    let backend = faulty();
    let (ours, theirs) = (store(&backend), store(&backend));
    let log_here = log(&ours);
    let mut watch = log_here.watch("cart");
    assert_eq!(told(&mut watch).await, [(0, None)]);

    // Who does not wait any more has missed nothing.
    assert!(tokio::time::timeout(Duration::from_millis(20), watch.next()).await.is_err());
    log(&theirs).put("cart", json("1")).await.unwrap();

    assert_eq!(told(&mut watch).await, [is(1, "1")]);
}

#[tokio::test]
async fn of_many_writers_no_change_is_skipped() {
    let backend = faulty();
    let watching = store(&backend);
    let log_here = log(&watching);
    let mut watch = log_here.watch("count");
    assert_eq!(told(&mut watch).await, [(0, None)]);

    let writers = (0..4).map(|_| {
        let log = log(&store(&backend));
        tokio::spawn(async move { count_up(&log, 25).await })
    });
    futures_util::future::join_all(writers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);

    let values: Vec<_> = told(&mut watch).await.into_iter().map(|(_, value)| value.unwrap()).collect();
    assert_eq!(values, (1..=100).map(|number: u32| number.to_string()).collect::<Vec<_>>());
}

async fn count_up(log: &Log, times: u32) {
    for _ in 0..times {
        let decide = |state: &icecore_store::state::State| {
            let count = state.get("count").map_or(0, |document| document.read::<u32>().unwrap_or_default());
            Ok(Changes::new().put("count", Json::of(&(count + 1))?))
        };
        log.transact(decide).await.unwrap();
    }
}

/// A watch that was told of the first value, and not yet of the second.
async fn changed_since(log: &Log) -> Watch<'_> {
    log.put("cart", json("1")).await.unwrap();
    let mut watch = log.watch("cart");
    assert_eq!(told(&mut watch).await, [is(1, "1")]);
    log.put("cart", json("2")).await.unwrap();
    watch
}

/// A base by hand holds no document: behind it there is none.
#[tokio::test]
async fn what_a_trim_took_is_told_as_it_is_by_then() {
    let store = store(&faulty());
    let log = log(&store);
    let mut watch = changed_since(&log).await;

    let base = append_base(&log, store.backend()).await;
    store.backend().close(log.id(), Version(2)).await.unwrap();
    log.append(event("behind")).await.unwrap();

    assert_eq!(base, Version(3));
    assert_eq!(told(&mut watch).await, [(4, None)]);
}

/// Whoever drops bodies writes a base first: who watches and comes later goes on from that.
#[tokio::test]
async fn a_commit_whose_body_was_dropped_is_an_error_that_names_it_unless_a_base_is_behind() {
    let backend = faulty();
    let (ours, theirs) = (store(&backend), store(&backend));
    let (log, other) = (log(&ours), log(&theirs));
    log.put("cart", json("1")).await.unwrap();
    let mut watch = other.watch("cart");
    assert_eq!(told(&mut watch).await, [is(1, "1")]);
    log.put("cart", json("2")).await.unwrap();
    log.state().await.unwrap();

    ours.backend().drop_bodies(log.id(), &[Version(2)]).await.unwrap();

    let error = watch.next().await.unwrap_err();
    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::NotFound, Some("2")));
    log.write_base().await.unwrap();
    assert_eq!(told(&mut watch).await, [is(3, "2")]);
}
