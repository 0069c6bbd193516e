//! Verifying: what is damaged is found, by name, and what is behind it is checked all the same.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;
#[path = "support/watched.rs"]
mod watched;

use std::sync::Arc;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{
    Backend, ErrorKind, Hash, Header, LogId, LogPrefix, Mode, PageLimit, Run, StoredCommit, Version,
};
use icecore_store::{Range, Store};
use support::*;
use watched::Watched;

async fn filled(count: u64) -> Store {
    let store = store(&faulty());
    for n in 1..=count {
        log(&store).append(event(&n.to_string())).await.unwrap();
    }
    store
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
        let log = log(&store);
        let mut reader = log.read(Range::default());
        assert_eq!(reader.next_page().await.unwrap().len(), 2, "what is good is read first");
        let error = reader.next_page().await.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("3")));
    }
}

/// A commit that is right in itself, with its own number, in its place: only the next one's hash tells that it is another one.
#[tokio::test]
async fn a_commit_that_was_replaced_by_another_is_damage_at_the_next_one() {
    let store = filled(6).await;
    let replaced = changed(&store, |commit| {
        if commit.version == Version(3) {
            let header = Header::decode(commit.header.clone()).unwrap();
            commit.header = Header { nonce: [7; 16], ..header }.encode();
        }
    })
    .await;

    let verified = replaced.verify(&LogPrefix::all(), |_| ()).await.unwrap();
    let log = log(&replaced);
    let mut reader = log.read(Range::default());
    let good = reader.next_page().await.unwrap().len();
    let error = reader.next_page().await.unwrap_err();

    assert_eq!(verified.damage.len(), 1, "{:?}", verified.damage);
    assert_eq!(verified.damage[0].fact("version"), Some("4"));
    assert_eq!((good, error.kind(), error.fact("version")), (3, ErrorKind::Corrupt, Some("4")));
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

/// A store whose commits were made anew with other headers, by somebody who made all the later hashes fit.
async fn forged(store: &Store, change: impl Fn(&mut Header)) -> Store {
    let previous = std::cell::Cell::new(Hash::ZERO);
    changed(store, |commit| {
        let mut header = Header::decode(commit.header.clone()).unwrap();
        header.previous = previous.get();
        change(&mut header);
        commit.header = header.encode();
        previous.set(commit.hash());
    })
    .await
}

async fn damaged_versions(store: &Store) -> Vec<String> {
    let verified = store.verify(&LogPrefix::all(), |_| ()).await.unwrap();
    verified.damage.iter().map(|error| error.fact("version").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_commit_that_cannot_be_read_is_recorded_and_what_is_behind_it_is_verified() {
    // One bad sector ended the whole verification as "unavailable", and the rest of the store stayed unseen.
    for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt] {
        let store = filled(300).await;
        let watched = Watched::new(Arc::clone(store.backend()));
        let spoiled = Store::new(Arc::clone(&watched) as Arc<dyn Backend>);
        watched.spoil(log(&store).id(), 77, kind);

        let verified = spoiled.verify(&LogPrefix::all(), |_| ()).await.unwrap();

        assert_eq!((verified.logs, verified.commits, verified.damage.len()), (1, 299, 1));
        assert_eq!((verified.damage[0].kind(), verified.damage[0].fact("version")), (kind, Some("77")));
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_an_error_of_verify_and_no_damage() {
    let backend = faulty();
    log(&store(&backend)).append(event("1")).await.unwrap();
    backend.refuse_reads(1);

    let error = store(&backend).verify(&LogPrefix::all(), |_| ()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_count_of_events_that_is_not_that_of_the_entry_is_damage() {
    // The body fitted its hash, so verify let it pass, and every read of it failed.
    let store = forged(&filled(6).await, |header| {
        if header.version == Version(6) {
            header.entries[0].events += 1;
        }
    })
    .await;

    assert_eq!(damaged_versions(&store).await, ["6"]);
}

#[tokio::test]
async fn a_commit_behind_a_seal_is_damage() {
    let store = forged(&filled(6).await, |header| header.flags.seal = header.version == Version(4)).await;

    assert_eq!(damaged_versions(&store).await, ["5"]);
    let log = log(&store);
    let mut reader = log.read(Range::default());
    assert_eq!(reader.next_page().await.unwrap().len(), 4);
    assert_eq!(reader.next_page().await.unwrap_err().fact("version"), Some("5"));
}

#[tokio::test]
async fn a_position_that_cannot_be_counted_on_is_damage_and_no_panic() {
    let store = forged(&filled(3).await, |header| {
        if header.version == Version(3) {
            header.position = u64::MAX;
        }
    })
    .await;

    assert_eq!(damaged_versions(&store).await, ["3"]);
    assert_eq!(log(&store).head().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn damage_where_a_logs_secret_is_kept_is_told_once() {
    let store = changed(&filled(3).await, |commit| {
        if commit.version == Version(1) {
            let mut body = commit.body.clone().unwrap().to_vec();
            body[30] ^= 1;
            commit.body = Some(body.into());
        }
    })
    .await;

    assert_eq!(damaged_versions(&store).await, ["1"]);
}

#[tokio::test]
async fn what_is_before_a_damaged_head_is_verified() {
    // A log whose last commit was damaged was not read at all.
    let store = filled(10).await;
    let watched = Watched::new(Arc::clone(store.backend()));
    watched.spoil(log(&store).id(), 10, ErrorKind::Corrupt);
    watched.spoil(log(&store).id(), 4, ErrorKind::Corrupt);

    let verified = Store::new(watched as Arc<dyn Backend>).verify(&LogPrefix::all(), |_| ()).await.unwrap();

    let versions: Vec<_> = verified.damage.iter().map(|error| error.fact("version").unwrap()).collect();
    assert_eq!((verified.logs, verified.commits, versions), (1, 8, vec!["10", "4"]));
}
