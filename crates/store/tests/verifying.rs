//! Verifying: what is damaged is found, by name, and what is behind it is checked all the same.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, Hash, LogId, LogPrefix, Mode, PageLimit, Run, StoredCommit, Version};
use icecore_store::{Range, Store};
use support::*;

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
