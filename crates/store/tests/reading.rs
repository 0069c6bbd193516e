//! Reading and tailing.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;

use icecore_log::{ErrorKind, LogId, Timestamp, Version};
use icecore_store::{Range, Store, Tailed};
use support::*;

async fn filled(count: u64) -> Store {
    let store = store(&faulty());
    for n in 1..=count {
        log(&store).append(event(&n.to_string())).await.unwrap();
    }
    store
}

async fn versions(store: &Store, range: Range) -> Vec<u64> {
    let log = log(store);
    let mut reader = log.read(range);
    let mut versions = Vec::new();
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return versions;
        }
        versions.extend(page.iter().map(|commit| commit.version.0));
    }
}

#[tokio::test]
async fn both_directions_give_the_same_commits() {
    let store = filled(700).await;

    let forward =
        versions(&store, Range { from: Some(Version(3)), to: Some(Version(650)), reverse: false }).await;
    let mut backward =
        versions(&store, Range { from: Some(Version(3)), to: Some(Version(650)), reverse: true }).await;
    backward.reverse();

    assert_eq!(forward, (3..=650).collect::<Vec<_>>());
    assert_eq!(backward, forward);
}

#[tokio::test]
async fn a_range_past_the_end_is_empty_and_a_log_that_is_not_there_is_not_found() {
    let store = filled(3).await;

    assert!(versions(&store, Range { from: Some(Version(4)), ..Range::default() }).await.is_empty());
    let other = store.log(LogId::new("acme", "session", "other").unwrap());
    assert_eq!(other.read(Range::default()).next_page().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn commit_times_never_go_back_and_find_their_version() {
    let (clock, backend) = (Arc::new(ManualClock::default()), faulty());
    let store = Store::builder(backend).clock(Arc::clone(&clock) as _).build();
    for time in [10, 20, 5, 30] {
        clock.set(time);
        log(&store).append(event("x")).await.unwrap();
    }

    let at = |time| {
        let log = log(&store);
        async move { log.version_at(Timestamp(time)).await.unwrap().map(|version| version.0) }
    };

    assert_eq!([at(9).await, at(10).await, at(25).await, at(99).await], [None, Some(1), Some(3), Some(4)]);
}

#[tokio::test]
async fn a_tail_gives_what_is_there_then_what_comes() {
    let store = filled(2).await;
    let log = log(&store);
    let mut tail = log.tail(Version(2));

    assert!(matches!(tail.next().await.unwrap(), Tailed::Commit(commit) if commit.version == Version(2)));
    assert_eq!(tail.next().await.unwrap(), Tailed::CaughtUp(Version(2)));
    let writer = log.clone();
    tokio::spawn(async move { writer.append(event("3")).await });
    loop {
        match tail.next().await.unwrap() {
            Tailed::Heartbeat => {}
            Tailed::Commit(commit) => break assert_eq!(commit.version, Version(3)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_tail_that_a_trim_overtook_says_so_and_goes_on() {
    let store = filled(5).await;
    let log = log(&store);
    let base = append_base(&log, store.backend()).await;
    log.append(event("behind the base")).await.unwrap();
    store.backend().close(log.id(), Version(3)).await.unwrap();

    let mut tail = log.tail(Version(1));

    assert_eq!(base, Version(6));
    assert_eq!(tail.next().await.unwrap(), Tailed::Trimmed(Version(3)));
    assert!(matches!(tail.next().await.unwrap(), Tailed::Commit(commit) if commit.version == Version(4)));
}

#[tokio::test]
async fn a_tail_waits_for_a_log_that_is_not_there_yet() {
    let store = store(&faulty());
    let log = log(&store);
    let mut tail = log.tail(Version(1));

    assert_eq!(tail.next().await.unwrap(), Tailed::CaughtUp(Version(0)));
    log.append(event("1")).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), Tailed::Commit(_)));
}
