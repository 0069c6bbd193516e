//! A base holds the whole state and changes nothing of it: whoever reads the log behind it sees what was there before, without what came
//! before.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::sync::Arc;

use documents::*;
use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, Event, LogPrefix, Version};
use icecore_store::state::{At, Changes, Condition};

fn memory() -> Arc<dyn Backend> {
    Arc::new(Memory::default())
}

#[tokio::test]
async fn a_base_changes_nothing_of_the_state() {
    for commits in [NEVER, 4] {
        let backend = memory();
        let log = open(&backend, by_count(commits));
        for number in 0..60 {
            work(&log, number).await;
        }
        let before = log.state().await.unwrap();

        let receipt = log.write_base().await.unwrap();

        assert_eq!(receipt.version, before.version.next());
        for reader in [log.clone(), open(&backend, by_count(NEVER)), open(&backend, by_count(4))] {
            let after = reader.state().await.unwrap();
            assert_eq!((after.version, after.len()), (receipt.version, before.len()));
            // With its version, its time and its place.
            assert_eq!(after.in_order(), before.in_order());
            assert_pages_same(&reader, &after, "behind the base").await;
            assert!(log.diff(At::Version(before.version), At::Head).await.unwrap().differences.is_empty());
        }
    }
}

#[tokio::test]
async fn behind_a_base_a_log_is_what_it_would_be_without_one() {
    for commits in [NEVER, 4] {
        let (with, without) = (memory(), memory());
        let (log, plain) = (open(&with, by_count(commits)), open(&without, by_count(commits)));
        for number in 0..240 {
            work(&log, number).await;
            work(&plain, number).await;
            if number % 37 == 5 {
                log.write_base().await.unwrap();
                let boundary = log.head().await.unwrap().unwrap().version.previous();
                with.close(&id(), boundary).await.unwrap();
                with.sweep(&id()).await.unwrap();
            }
            if number % 10 == 0 {
                land().await;
                let expected = plain.state().await.unwrap();
                for reader in [log.clone(), open(&with, by_count(4)), open(&with, |_| ())] {
                    let found = reader.state().await.unwrap();
                    let of = |state: &icecore_store::state::State| {
                        let all = state.in_order().into_iter();
                        all.map(|(key, document)| (key.to_owned(), document.json.clone())).collect::<Vec<_>>()
                    };
                    assert_eq!(of(&found), of(&expected), "behind {number}");
                    for (key, document) in expected.documents("") {
                        let one = reader.document(key).await.unwrap().unwrap();
                        assert_eq!(one.json, document.json, "{key} behind {number}");
                    }
                }
            }
        }
        assert!(log.replay(|_| ()).await.unwrap().is_same);
    }
}

#[tokio::test]
async fn what_was_trimmed_is_not_known_and_what_is_kept_is_read() {
    let backend = memory();
    let log = open(&backend, by_count(8));
    for number in 0..30 {
        work(&log, number).await;
    }
    let last = log.state().await.unwrap();
    let base = log.write_base().await.unwrap().version;
    for number in 30..40 {
        work(&log, number).await;
    }
    backend.close(&id(), Version(20)).await.unwrap();

    let reader = open(&backend, by_count(NEVER));
    for version in [1, 20, 21, base.0 - 1] {
        let error = reader.state_at(At::Version(Version(version))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{version}: {error}");
    }
    assert_eq!(reader.state_at(At::Version(base)).await.unwrap().in_order(), last.in_order());
    assert_eq!(reader.replay(|_| ()).await.unwrap().commits, 11);
    assert_eq!(reader.store().verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.len(), 0);
}

#[tokio::test]
async fn conditions_hold_across_a_base() {
    let backend = memory();
    let log = open(&backend, by_count(NEVER));
    let put = log.put("a", json("1")).await.unwrap();
    log.write_base().await.unwrap();

    let condition = Condition::Document { key: "a".to_owned(), version: put.version };
    let changed = log.commit(Changes::new().put("a", json("2")).only_if(condition)).await.unwrap();

    assert_eq!(changed.unwrap().version, Version(3));
}

#[tokio::test]
async fn bases_that_race_with_writers_lose_nothing() {
    let backend = memory();
    let stores: Vec<_> = (0..3).map(|_| open(&backend, by_count(4))).collect();
    let writers = stores.iter().enumerate().map(|(writer, log)| async move {
        for number in 0..50 {
            log.put(&format!("w{writer}-{number:03}"), json(number.to_string())).await.unwrap();
            if number % 7 == writer {
                log.write_base().await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;

    assert_eq!(open(&backend, by_count(NEVER)).state().await.unwrap().len(), 150);
}

#[tokio::test]
async fn a_log_without_a_commit_has_no_base() {
    let error = open(&memory(), by_count(NEVER)).write_base().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// What a document keeps in memory is its own value: not what else was in its commit, in a base, or in the block of a snapshot.
#[tokio::test]
async fn a_small_document_does_not_keep_in_memory_what_it_was_read_with() {
    let backend = memory();
    let writer = open(&backend, by_count(2));
    let beside = Event::new("said", noise(1, 200_000).bytes().clone());
    writer.commit(Changes::new().put("a", noise(2, 10)).event(beside)).await.unwrap();
    let taken = async |what: &str| {
        let reader = open(&backend, by_count(2));
        let head = reader.head().await.unwrap().unwrap().version;
        // Such a state is not kept.
        let state = reader.state_at(At::Version(head)).await.unwrap();
        let json = state.get("a").unwrap().json.clone();
        drop(state);
        // What nobody else has says how much memory there is to it.
        let room = json.try_into_mut().unwrap_or_else(|_| panic!("{what}: it is held elsewhere")).capacity();
        assert!(room < 100, "{what}: {room} bytes for 12");
    };
    taken("a commit").await;
    writer.commit(Changes::new().put("large", noise(3, 20_000))).await.unwrap();
    for number in 0..4 {
        writer.put("other", noise(number, 10)).await.unwrap();
        writer.state().await.unwrap();
        land().await;
    }
    taken("a snapshot").await;
    writer.write_base().await.unwrap();
    taken("a base").await;
}
