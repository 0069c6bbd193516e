//! Appending: order, conditions, group commit, ids.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use icecore_log::{Entry, ErrorKind, Event, Version};
use icecore_store::Settings;
use support::*;

#[tokio::test]
async fn an_append_is_read_back_with_all_that_it_says() {
    let store = store(&faulty());
    let log = log(&store);
    let mut full = event("hello");
    full.actor = "ada".into();
    full.meta.insert("k".into(), "v".into());

    let receipt = log.append(Entry::new(full.clone())).await.unwrap();

    let page = log.read(Default::default()).next_page().await.unwrap();
    let read: Vec<_> = page.into_iter().flat_map(|commit| commit.into_events()).collect();
    assert_eq!((receipt.version, read[0].version, read[0].index), (Version(1), Version(1), 0));
    assert_eq!(read[0].event, full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_committed_in_the_order_in_which_they_were_enqueued() {
    let store = store_with(&faulty(), |settings| settings.id_run_ids = 16);
    let log = log(&store);

    let mut enqueued = Vec::new();
    for n in 0..2_000 {
        let entry =
            if n % 3 == 0 { entry(&format!("id-{n}"), &n.to_string()) } else { event(&n.to_string()).into() };
        enqueued.push(log.append(entry).enqueue().await.unwrap());
    }
    for one in enqueued {
        one.receipt().await.unwrap();
    }

    let expected: Vec<_> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(said(&log).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_turn_shares_a_commit() {
    let backend = faulty();
    let store = store(&backend);
    let log = log(&store);

    let mut enqueued = Vec::new();
    for n in 0..5_000 {
        enqueued.push(log.append(event(&n.to_string())).enqueue().await.unwrap());
    }
    for one in enqueued {
        one.receipt().await.unwrap();
    }

    assert!(log.head().await.unwrap().unwrap().version.0 < 2_500);
    assert_eq!(said(&log).await.len(), 5_000);
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_a_conflict_that_says_what_was_found() {
    let store = store(&faulty());
    let log = log(&store);
    log.append(event("one")).expect(Version(0)).await.unwrap();
    log.append(event("two")).expect(Version(1)).await.unwrap();

    let conflict = log.append(event("three")).expect(Version(1)).await.unwrap_err();

    assert_eq!(conflict.kind(), ErrorKind::Conflict);
    assert_eq!((conflict.fact("expected"), conflict.fact("found")), (Some("1"), Some("2")));
    assert_eq!(said(&log).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_expect_one_version_exactly_one_is_appended() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend), store(&backend)];

    for version in 0..50 {
        let racing: Vec<_> = (0..12)
            .map(|n| {
                let log = log(&stores[n % 3]);
                tokio::spawn(async move { log.append(event("x")).expect(Version(version)).await })
            })
            .collect();
        let mut won = 0;
        for one in racing {
            match one.await.unwrap() {
                Ok(receipt) => won += u64::from(receipt.version == Version(version + 1)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
        assert_eq!(won, 1, "at version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_race_on_one_log_lose_nothing_and_double_nothing() {
    let backend = faulty();

    let racing: Vec<_> = (0..4)
        .map(|writer| {
            let store = store(&backend);
            tokio::spawn(async move {
                for n in 0..200 {
                    log(&store).append(event(&format!("{writer}-{n}"))).await.unwrap();
                }
            })
        })
        .collect();
    for one in racing {
        one.await.unwrap();
    }

    let said = said(&log(&store(&backend))).await;
    for writer in 0..4 {
        let own: Vec<_> =
            said.iter().filter(|text| text.starts_with(&format!("{writer}-"))).cloned().collect();
        let expected: Vec<_> = (0..200).map(|n| format!("{writer}-{n}")).collect();
        assert_eq!(own, expected);
    }
}

#[tokio::test]
async fn a_repeated_id_gives_the_first_receipt_and_other_content_is_a_conflict() {
    let backend = faulty();
    let store1 = store(&backend);
    let first = log(&store1).append(entry("a", "one")).await.unwrap();
    log(&store1).append(event("between")).await.unwrap();

    for store in [store1, store(&backend)] {
        let again = log(&store).append(entry("a", "one")).await.unwrap();
        assert_eq!((again.version, again.entry, again.repeated), (first.version, first.entry, true));
        let other = log(&store).append(entry("a", "two")).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Conflict);
    }
    assert_eq!(said(&log(&store(&backend))).await, ["one", "between"]);
}

#[tokio::test]
async fn the_same_id_twice_in_one_commit_is_one_entry() {
    let store = store(&faulty());
    let log = log(&store);

    let twice = [
        log.append(entry("a", "one")).enqueue().await.unwrap(),
        log.append(entry("a", "one")).enqueue().await.unwrap(),
    ];
    let other = log.append(entry("a", "two")).enqueue().await.unwrap();

    let mut versions = Vec::new();
    for one in twice {
        versions.push(one.receipt().await.unwrap().version);
    }
    assert_eq!(versions, [Version(1), Version(1)]);
    let other = other.receipt().await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    // It was told that the first content is in the log, while that was not decided yet.
    assert!(other.advice().unwrap().contains("at the same time"));
    assert_eq!(said(&log).await, ["one"]);
}

/// The promise is a million; the runs' tiers are the same at 3,000 with smaller runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_from_long_ago_is_found_by_a_new_process_in_its_id_runs() {
    let backend = faulty();
    let small = |settings: &mut Settings| {
        (settings.id_run_ids, settings.id_run_merge, settings.merge_entries_max) = (16, 4, 1);
    };
    let writer = store_with(&backend, small);
    for n in 0..3_000 {
        log(&writer).append(entry(&format!("id-{n}"), &n.to_string())).await.unwrap();
    }

    let runs = writer.backend().list_blobs(log(&writer).id(), "ids-").await.unwrap();
    assert!((2..=14).contains(&runs.len()), "{runs:?}");
    let reader = store_with(&backend, small);
    for n in (0..3_000).step_by(7) {
        let again = log(&reader).append(entry(&format!("id-{n}"), &n.to_string())).await.unwrap();
        assert_eq!((again.version, again.repeated), (Version(n + 1), true));
    }
    assert_eq!(said(&log(&reader)).await.len(), 3_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_id_runs_are_made_again() {
    let backend = faulty();
    let small = |settings: &mut Settings| (settings.id_run_ids, settings.merge_entries_max) = (8, 1);
    let writer = store_with(&backend, small);
    for n in 0..200 {
        log(&writer).append(entry(&format!("id-{n}"), &n.to_string())).await.unwrap();
    }
    let id = log(&writer).id().clone();
    for blob in writer.backend().list_blobs(&id, "ids-").await.unwrap() {
        let blob = icecore_log::BlobId::new(id.clone(), &blob.name).unwrap();
        writer.backend().delete_blob(&blob).await.unwrap();
    }

    for reader in [store_with(&backend, small), writer] {
        for n in [0, 7, 100, 199] {
            let again = log(&reader).append(entry(&format!("id-{n}"), &n.to_string())).await.unwrap();
            assert_eq!((again.version, again.repeated), (Version(n + 1), true), "id-{n}");
        }
    }
}

#[tokio::test]
async fn bad_entries_are_refused_and_nothing_is_written() {
    let store = store(&faulty());
    let log = log(&store);

    for bad in
        [Entry::default(), Entry::new(Event::new("", "{}")), Entry::new(Event::new("k", vec![0; 65 << 20]))]
    {
        assert_eq!(log.append(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }

    assert_eq!(log.head().await.unwrap(), None);
}

/// The version that it names was seen by another reader of this process; the appender's own head was older, for ever.
#[tokio::test]
async fn a_condition_ahead_of_a_head_that_is_kept_in_memory_is_checked_against_the_log() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend)];
    let [first, second] = [log(&stores[0]), log(&stores[1])];
    first.append(event("one")).await.unwrap();
    second.append(event("two")).await.unwrap();

    let receipt = first.append(event("three")).expect(Version(2)).await.unwrap();
    let too_far = first.append(event("four")).expect(Version(9)).await.unwrap_err();

    assert_eq!(receipt.version, Version(3));
    assert_eq!((too_far.kind(), too_far.fact("found")), (ErrorKind::Conflict, Some("3")));
}

#[tokio::test]
async fn a_condition_ahead_of_a_log_that_did_not_exist_is_checked_against_the_log() {
    let backend = faulty();
    let (one, two) = (store(&backend), store(&backend));
    let conflict = log(&one).append(event("none")).expect(Version(1)).await.unwrap_err();
    log(&two).append(event("one")).await.unwrap();

    let receipt = log(&one).append(event("two")).expect(Version(1)).await.unwrap();

    assert_eq!((conflict.kind(), receipt.version), (ErrorKind::Conflict, Version(2)));
}

/// Room was given back when the caller awaited its receipt: who enqueued much before awaiting any waited for itself.
#[tokio::test]
async fn more_than_may_be_pending_is_enqueued_before_any_receipt_is_awaited() {
    let store = store_with(&faulty(), |settings| settings.pending_bytes_max = 10 << 10);
    let log = log(&store);

    let mut enqueued = Vec::new();
    for n in 0..20 {
        enqueued.push(log.append(event(&n.to_string())).enqueue().await.unwrap());
    }
    for one in enqueued {
        one.receipt().await.unwrap();
    }

    assert_eq!(said(&log).await.len(), 20);
}

/// They shared one condition: with the slot lost, one's conflict became the other's.
#[tokio::test]
async fn the_same_id_twice_in_a_commit_that_lost_its_slot_is_judged_one_by_one() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend)];
    let log1 = log(&stores[0]);
    log1.append(event("one")).await.unwrap();
    log(&stores[1]).append(event("two")).await.unwrap();

    let first = log1.append(entry("a", "three")).expect(Version(1)).enqueue().await.unwrap();
    let second = log1.append(entry("a", "three")).enqueue().await.unwrap();

    assert_eq!(first.receipt().await.unwrap_err().kind(), ErrorKind::Conflict);
    let second = second.receipt().await.unwrap();
    assert_eq!((second.version, second.repeated), (Version(3), false));
}

#[tokio::test]
async fn more_open_logs_than_the_limit_are_written_all_the_same() {
    let store = store_with(&faulty(), |settings| settings.open_logs_max = 10);

    for round in 0..3 {
        for n in 0..100 {
            let log = store.log(icecore_log::LogId::new("acme", "session", &format!("s-{n}")).unwrap());
            assert_eq!(log.append(event("x")).await.unwrap().version, Version(round + 1));
        }
    }
}
