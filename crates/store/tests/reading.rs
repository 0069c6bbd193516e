//! Reading and tailing.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/hooked.rs"]
mod hooked;
mod support;
#[path = "support/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;

use hooked::Hooked;
use icecore_log::{Backend, Entry, ErrorKind, Event, LogId, LogPrefix, Timestamp, Version};
use icecore_store::{Range, RecordedCommit, Store, Tailed};
use support::*;
use watched::Watched;

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
async fn what_is_new_since_a_time_is_told_beside_what_there_is() {
    let (clock, backend) = (Arc::new(ManualClock::default()), faulty());
    let store = Store::builder(backend).clock(Arc::clone(&clock) as _).build();
    for time in [10, 20, 30] {
        clock.set(time);
        log(&store).append(event("x")).await.unwrap();
    }
    let other = store.log(LogId::new("acme", "session", "other").unwrap());
    other.append(event("x")).await.unwrap();

    let log = log(&store);
    let since = async |time| log.growth(Timestamp(time)).await.unwrap();
    let (all, some, none) = (since(10).await, since(11).await, since(31).await);
    assert_eq!((all.size, some.size, none.size), (log.size().await.unwrap(), all.size, all.size));
    assert_eq!((all.new_commits, all.new_bytes), (3, all.size.headers + all.size.bodies));
    assert_eq!((some.new_commits, none.new_commits, none.new_bytes), (2, 0, 0));
    assert!(some.new_bytes > 0 && some.new_bytes < all.new_bytes);

    let mut found = BTreeMap::new();
    let prefix = LogPrefix::tenant("acme").unwrap();
    store.each_growth(&prefix, Timestamp(11), |id, growth| found.extend([(id, growth)])).await.unwrap();
    assert_eq!(found.remove(log.id()), Some(some));
    assert_eq!(found.remove(other.id()).map(|growth| growth.new_commits), Some(1));
    assert!(found.is_empty());
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

/// A store whose reads a test spoils, over one with so many commits.
async fn watched(count: u64) -> (Store, Arc<Watched>) {
    let watched = Watched::new(Arc::clone(filled(count).await.backend()));
    (Store::new(Arc::clone(&watched) as Arc<dyn Backend>), watched)
}

/// The versions of every page until the first error, and the error.
async fn until_damage(store: &Store, range: Range) -> (Vec<u64>, icecore_log::Error) {
    let log = log(store);
    let (mut reader, mut versions) = (log.read(range), Vec::new());
    loop {
        match reader.next_page().await {
            Ok(page) => {
                assert!(!page.is_empty(), "it ended without an error");
                versions.extend(page.iter().map(|commit| commit.version.0));
            }
            Err(error) => {
                let again = reader.next_page().await.unwrap_err();
                assert_eq!(again.to_string(), error.to_string(), "a damaged commit is never passed over");
                return (versions, error);
            }
        }
    }
}

#[tokio::test]
async fn what_is_good_before_a_damaged_commit_is_read_first_in_both_directions() {
    // The whole page was an error, so that 41 good commits could not be read by any means.
    for kind in [ErrorKind::Corrupt, ErrorKind::Unavailable] {
        let (store, watched) = watched(100).await;
        watched.spoil(log(&store).id(), 42, kind);

        let (forward, error) = until_damage(&store, Range::default()).await;
        let (backward, error_backward) =
            until_damage(&store, Range { reverse: true, ..Range::default() }).await;

        assert_eq!(forward, (1..42).collect::<Vec<_>>());
        assert_eq!(backward, (43..=100).rev().collect::<Vec<_>>());
        for error in [error, error_backward] {
            assert_eq!((error.kind(), error.fact("version")), (kind, Some("42")));
        }
    }
}

#[tokio::test]
async fn a_tail_gives_what_is_good_before_a_damaged_commit() {
    let (store, watched) = watched(10).await;
    watched.spoil(log(&store).id(), 4, ErrorKind::Corrupt);
    let log = log(&store);
    let mut tail = log.tail(Version(1));

    for version in 1..4 {
        let next = tail.next().await.unwrap();
        assert!(matches!(next, Tailed::Commit(commit) if commit.version == Version(version)));
    }

    for _ in 0..2 {
        assert_eq!(tail.next().await.unwrap_err().fact("version"), Some("4"));
    }
}

fn data_bytes(page: &[RecordedCommit]) -> usize {
    let entries = page.iter().flat_map(|commit| commit.entries.iter().flatten());
    entries.flat_map(|entry| &entry.events).map(|event| event.data.len()).sum()
}

#[tokio::test]
async fn a_page_holds_few_bytes_however_large_the_commits_become_when_they_are_opened() {
    // 256 commits were opened at once, whatever their size: with entries of 64 MiB that are 16 GiB for the last event.
    let store = store(&faulty());
    let one_mib = vec![b' '; 1 << 20];
    for _ in 0..40 {
        log(&store).append(Entry::new(Event::new("large", one_mib.clone()))).await.unwrap();
    }

    for reverse in [false, true] {
        let log = log(&store);
        let mut reader = log.read(Range { reverse, ..Range::default() });
        let (mut pages, mut commits) = (0, 0);
        loop {
            let page = reader.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(data_bytes(&page) <= 8 << 20, "{} bytes in one page", data_bytes(&page));
            assert!(!reverse || pages > 0 || page.len() == 1, "the newest event costs one commit");
            (pages, commits) = (pages + 1, commits + page.len());
        }
        assert_eq!(commits, 40);
    }
}

#[tokio::test]
async fn a_step_backward_grows_over_small_commits_and_shrinks_before_large_ones() {
    let store = store(&faulty());
    for _ in 0..3 {
        log(&store).append(Event::new("large", vec![b' '; 6 << 20])).await.unwrap();
    }
    for n in 0..300 {
        log(&store).append(event(&n.to_string())).await.unwrap();
    }

    let log = log(&store);
    let mut reader = log.read(Range { reverse: true, ..Range::default() });
    let (mut lengths, mut commits) = (Vec::new(), Vec::new());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        lengths.push(page.len());
        assert!(data_bytes(&page) <= 10 << 20);
        commits.extend(page.iter().map(|commit| commit.version.0));
    }

    assert_eq!(lengths[..4], [1, 2, 4, 8]);
    assert_eq!(commits, (1..=303).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_trim_that_passes_a_search_by_time_leaves_an_answer() {
    // The version that was probed had just been trimmed, and the search ended as "not found".
    let (clock, backend) = (Arc::new(ManualClock::default()), faulty());
    let filled = Store::builder(backend).clock(Arc::clone(&clock) as _).build();
    for time in 1..=8 {
        clock.set(time * 10);
        log(&filled).append(event("x")).await.unwrap();
    }
    append_base(&log(&filled), filled.backend()).await;
    let watched = Watched::new(Arc::clone(filled.backend()));
    let store = Store::new(Arc::clone(&watched) as Arc<dyn Backend>);

    // The first version that is probed of nine is 5.
    watched.close_before(5, 6);
    let later = log(&store).version_at(Timestamp(75)).await.unwrap();
    let gone = log(&store).version_at(Timestamp(55)).await.unwrap();

    assert_eq!((later, gone), (Some(Version(7)), None));
}

/// Who reads one page pays for one; who goes on has the next one while it is busy with the last.
#[tokio::test]
async fn a_page_is_read_ahead_once_a_second_one_was_asked_for() {
    let hooked = Arc::new(Hooked::default());
    let store = Store::new(Arc::clone(&hooked) as Arc<dyn Backend>);
    let log = log(&store);
    // Two a page.
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from(state >> 60).unwrap())
    };
    for _ in 1..=10 {
        let text: String = (0..5_000_000).map(|_| letter()).collect();
        log.append(event(&text)).await.unwrap();
    }
    let pages = || hooked.reads.load(std::sync::atomic::Ordering::SeqCst);
    let mut reader = log.read(Range::default());
    let (mut seen, mut read) = (Vec::new(), Vec::new());
    loop {
        let before = pages();
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|commit| commit.version.0));
        // What was begun is carried out.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        read.push(pages() - before);
    }

    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    // With the first comes the log's secret; of each that is stored together, the reader gives one at a time.
    assert_eq!(read, [2, 0, 2, 0, 1, 0, 1, 0, 0, 0]);
}
