//! Appending to logs that end in an unusual way.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_layers::Fault;
use icecore_log::{Backend, EntryId, ErrorKind, Flags, Hash, Header, Mode, Run, StoredCommit, Version};
use icecore_store::{Log, Resolved};
use support::{entry, event, faulty, log, store, store_with};

/// A log with one commit behind a first one, made by hand.
async fn with_last_commit(change: impl FnOnce(Header) -> Header) -> (Arc<Fault>, Log) {
    let memory: Arc<dyn Backend> = Arc::new(Memory::default());
    let backend = Arc::new(Fault::new(Arc::clone(&memory)));
    let log = log(&store(&backend));
    log.append(entry("a", "one")).await.unwrap();
    let head = memory.heads(std::slice::from_ref(log.id())).await.unwrap().remove(0).unwrap();
    let first = Header::decode(head.header.clone()).unwrap();

    let next = Header {
        version: Version(2),
        position: 1,
        previous: Hash::of(&head.header),
        preamble: None,
        entries: Vec::new(),
        ..first
    };
    let commit = StoredCommit { version: Version(2), header: change(next).encode(), body: Some("".into()) };
    let created = memory.create(vec![Run::one(log.id().clone(), head.hash(), commit)], Mode::Each).await;
    assert!(created[0].is_done());
    (backend, log)
}

#[tokio::test]
async fn resolve_tells_of_a_sealed_log_what_is_in_it() {
    let sealed = |header| Header { flags: Flags { seal: true, ..Flags::default() }, ..header };
    let (_, log) = with_last_commit(sealed).await;

    assert_eq!(log.append(event("two")).await.unwrap_err().kind(), ErrorKind::Refused);
    let absent = log.resolve(&EntryId::new("b").unwrap()).await.unwrap();
    let found = log.resolve(&EntryId::new("a").unwrap()).await.unwrap();

    assert_eq!(absent, Resolved::NotCommitted);
    assert!(matches!(found, Resolved::Committed(receipt) if receipt.version == Version(1)));
}

/// Adding to the count of a hostile header overflowed.
#[tokio::test]
async fn a_head_that_counts_more_events_than_there_can_be_is_damage() {
    for position in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1] {
        let (backend, log1) = with_last_commit(|header| Header { position, ..header }).await;

        for log in [log1, log(&store(&backend))] {
            let error = log.append(event("two")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

/// It was called damaged.
#[tokio::test]
async fn a_closed_log_without_a_commit_refuses_appends() {
    let backend = faulty();
    let store = store(&backend);
    let log = log(&store);
    store.backend().close(log.id(), Version(5)).await.unwrap();

    let error = log.append(event("one")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn a_time_out_may_be_as_long_as_can_be_written() {
    let store = store_with(&faulty(), |settings| settings.append_timeout = Duration::MAX);

    assert_eq!(log(&store).append(event("one")).await.unwrap().version, Version(1));
}
