//! Reading, tailing, verifying, copying.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{
    Backend, ErrorKind, Hash, LogId, LogPrefix, Mode, PageLimit, Run, StoredCommit, Timestamp, Version,
};
use icecore_store::{Range, Store, Tailed, copy::copy};
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

#[tokio::test]
async fn verify_counts_what_it_checked() {
    let store = filled(10).await;

    let verified = store.verify(&LogPrefix::all(), |_| ()).await.unwrap();

    assert_eq!((verified.logs, verified.commits, verified.events), (1, 10, 10));
    assert!(verified.damage.is_empty());
}

/// Copies a log's commits into a new memory, changed on the way.
async fn changed(store: &Store, change: impl Fn(&mut StoredCommit)) -> Store {
    let id = log(store).id().clone();
    let page = store.backend().read(&id, Version(1), PageLimit::WHOLE).await.unwrap();
    let target = Memory::default();
    let (mut previous, mut commits) = (Hash::ZERO, page.commits);
    for commit in &mut commits {
        change(commit);
        let run = Run::one(id.clone(), previous, commit.clone());
        assert!(target.create(vec![run], Mode::Each).await[0].is_done());
        previous = commit.hash();
    }
    Store::new(Arc::new(target))
}

#[tokio::test]
async fn a_changed_header_body_or_order_is_damage_at_its_version_for_verify_and_read() {
    let store = filled(6).await;
    let flip = |bytes: &Bytes, at: usize| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        Bytes::from(changed)
    };
    let header = changed(&store, |commit| {
        if commit.version == Version(3) {
            commit.header = flip(&commit.header, commit.header.len() - 1);
        }
    });
    let body = changed(&store, |commit| {
        if commit.version == Version(3) {
            commit.body = commit.body.as_ref().map(|body| flip(body, 30));
        }
    });

    for store in [header.await, body.await] {
        let verified = store.verify(&LogPrefix::all(), |_| ()).await.unwrap();
        assert!(!verified.damage.is_empty());
        assert!(verified.damage.iter().all(|error| error.kind() == ErrorKind::Corrupt));
        assert_eq!(verified.damage[0].fact("version"), Some("3"), "{}", verified.damage[0]);
        assert_eq!(verified.damage[0].fact("log"), Some("acme/session/s-1"));
        let error = log(&store).read(Range::default()).next_page().await.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("3")));
    }
}

#[tokio::test]
async fn one_logs_commits_under_anothers_name_are_damage() {
    let store = filled(3).await;
    let page = store.backend().read(log(&store).id(), Version(1), PageLimit::WHOLE).await.unwrap();
    let other = LogId::new("acme", "session", "other").unwrap();
    let run = Run { log: other.clone(), previous: Hash::ZERO, commits: page.commits };
    store.backend().create(vec![run], Mode::Each).await;

    let read = store.log(other.clone()).read(Range::default()).next_page().await.unwrap_err();
    let append = store.log(other).append(event("x")).await.unwrap_err();

    assert_eq!((read.kind(), append.kind()), (ErrorKind::Corrupt, ErrorKind::Corrupt));
}

#[tokio::test]
async fn a_copy_is_byte_for_byte_incremental_and_refuses_to_mix_histories() {
    let (from, to) = (filled(20).await, store(&faulty()));

    let first = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    log(&from).append(event("21")).await.unwrap();
    let second = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    let third = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    assert_eq!([first.commits, second.commits, third.commits], [20, 1, 0]);
    let id = log(&from).id().clone();
    let all = |store: &Store| {
        let (backend, id) = (Arc::clone(store.backend()), id.clone());
        async move { backend.read(&id, Version(1), PageLimit::WHOLE).await.unwrap() }
    };
    assert_eq!(all(&from).await, all(&to).await);
    log(&to).append(event("elsewhere")).await.unwrap();
    log(&from).append(event("here")).await.unwrap();
    let mixed = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap_err();
    assert_eq!(mixed.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_trimmed_log_is_read_appended_to_and_copied_from_its_boundary_on() {
    let from = filled(5).await;
    let id = log(&from).id().clone();
    append_base(&log(&from), from.backend()).await;
    log(&from).append(entry("a", "seven")).await.unwrap();
    from.backend().close(&id, Version(5)).await.unwrap();
    from.backend().sweep(&id).await.unwrap();
    let to = store(&faulty());

    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    for store in [&from, &to] {
        assert_eq!(versions(store, Range::default()).await, [6, 7]);
        let early = log(store)
            .read(Range { from: Some(Version(2)), ..Range::default() })
            .next_page()
            .await
            .unwrap_err();
        assert_eq!((early.kind(), early.fact("trimmed_through")), (ErrorKind::NotFound, Some("5")));
        assert!(store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
        assert!(log(store).append(entry("a", "seven")).await.unwrap().repeated);
        assert_eq!(log(store).append(event("eight")).await.unwrap().version, Version(8));
    }
}

#[tokio::test]
async fn a_log_with_dropped_bodies_is_copied_as_it_is() {
    let from = filled(10).await;
    let id = log(&from).id().clone();
    from.backend().drop_bodies(&id, &[Version(4), Version(5)]).await.unwrap();
    let to = store(&faulty());

    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    let verified = to.verify(&LogPrefix::all(), |_| ()).await.unwrap();
    assert_eq!((verified.commits, verified.dropped, verified.damage.len()), (10, 2, 0));
    tokio::time::timeout(Duration::from_secs(5), log(&to).append(event("11"))).await.unwrap().unwrap();
}
