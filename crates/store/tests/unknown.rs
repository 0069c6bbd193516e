//! Lost answers, lost requests, late landings: nothing is lost, nothing is doubled, nothing is guessed.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use icecore_embedded::Memory;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, Entry, EntryId, ErrorKind, LogId, Version};
use icecore_store::Resolved;
use std::sync::Arc;
use std::time::Duration;
use support::*;

#[tokio::test]
async fn a_lost_answer_and_a_lost_request_are_sent_again_byte_for_byte() {
    for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
        let backend = faulty();
        let store = store(&backend);
        backend.plan([fate, fate, fate]);

        let receipt = log(&store).append(event("one")).await.unwrap();

        assert_eq!(receipt.version, Version(1));
        let sent = backend.sent();
        assert_eq!(sent.len(), 4);
        assert!(sent.iter().all(|runs| *runs == sent[0]));
        assert_eq!(said(&log(&store)).await, ["one"]);
    }
}

/// The seed of this case: a group commit that was formed anew after a caller had left acknowledged one and committed the other.
#[tokio::test]
async fn a_commit_whose_callers_left_is_not_formed_anew_when_it_lands_late() {
    let backend = faulty();
    let store = store(&backend);
    let log = log(&store);
    log.append(event("zero")).await.unwrap();
    backend.plan([Fate::Delay, Fate::LoseRequest]);

    let first = log.append(event("first")).enqueue().await.unwrap();
    let second = log.append(event("second")).enqueue().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(first);
    backend.land().await;
    let receipt = second.receipt().await.unwrap();

    assert_eq!(said(&log).await, ["zero", "first", "second"]);
    assert_eq!(receipt.version, Version(2));
}

/// A commit whose standbys were away can be read, and is lost with the one server that has it. An entry that is found in it again was
/// acknowledged as if it were there for good.
#[tokio::test]
async fn what_was_only_read_is_sent_again_before_it_is_acknowledged() {
    let entry = |id: &str| Entry::new(event(id)).with_id(EntryId::new(id).unwrap());
    for fate in [Fate::Pass, Fate::LoseRequest, Fate::Refuse] {
        let backend = faulty();
        let first = store(&backend);
        let one = log(&first).append(entry("one")).await.unwrap();
        log(&first).append(event("two")).await.unwrap();
        let sent = backend.sent();

        // Somebody else finds both. The last is sent again for the first.
        let other = store(&backend);
        let log = log(&other);
        if fate != Fate::Pass {
            backend.plan([fate, fate]);
            let told = log.append(entry("one")).await.unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Unknown, "{told}");
            let told = log.resolve(&EntryId::new("one").unwrap()).await.unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Unknown, "{told}");
        }
        let again = log.append(entry("one")).await.unwrap();
        assert_eq!((again.version, again.repeated), (one.version, true));
        let confirmed = backend.sent().split_off(sent.len());
        assert_eq!(confirmed.len(), if fate == Fate::Pass { 1 } else { 3 });
        assert!(confirmed.iter().all(|runs| *runs == sent[1]));

        // Then it is known, and so is what this process itself appends.
        let sent = backend.sent().len();
        log.append(entry("three")).await.unwrap();
        for id in ["one", "three"] {
            assert!(log.append(entry(id)).await.unwrap().repeated);
        }
        assert_eq!(backend.sent().len(), sent + 1);
        assert_eq!(said(&log).await, ["one", "two", "three"]);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_entry_was_sent_takes_it_along() {
    let store = store(&faulty());
    let log = log(&store);

    // Nothing is sent before this task yields.
    drop(log.append(event("gone")).enqueue().await.unwrap());
    log.append(event("kept")).await.unwrap();

    assert_eq!(said(&log).await, ["kept"]);
}

#[tokio::test]
async fn a_refused_create_wrote_nothing_and_says_so() {
    let backend = faulty();
    let store = store(&backend);
    backend.plan([Fate::Refuse]);

    let refused = log(&store).append(event("one")).await.unwrap_err();
    log(&store).append(event("two")).await.unwrap();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(said(&log(&store)).await, ["two"]);
}

/// The entry behind it was committed, and the retry of the first came after it.
#[tokio::test]
async fn what_is_pending_behind_a_refused_create_is_refused_too() {
    let backend = faulty();
    let store = store_with(&backend, |settings| settings.merge_entries_max = 1);
    let log = log(&store);
    backend.plan([Fate::Refuse]);

    let first = log.append(event("one")).enqueue().await.unwrap();
    let second = log.append(event("two")).enqueue().await.unwrap();

    for refused in [first, second] {
        assert_eq!(refused.receipt().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    log.append(event("three")).await.unwrap();
    assert_eq!(said(&log).await, ["three"]);
}

/// Entries that nobody waited for any more stayed pending, with their bytes, and kept a commit in doubt on its way for ever.
#[tokio::test]
async fn a_dead_backend_is_left_alone_once_every_caller_has_gone() {
    let backend = faulty();
    let store = store_with(&backend, |settings| settings.append_timeout = Duration::from_millis(100));
    let log = log(&store);
    backend.plan([Fate::LoseRequest; 1_000]);

    let first = log.append(event("one")).enqueue().await.unwrap();
    while backend.sent().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = log.append(event("two")).enqueue().await.unwrap();
    assert_eq!(first.receipt().await.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(second.receipt().await.unwrap_err().kind(), ErrorKind::Unavailable);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let sent = backend.sent().len();
    tokio::time::sleep(Duration::from_millis(700)).await;

    assert_eq!(backend.sent().len(), sent);
}

#[tokio::test]
async fn a_commit_in_doubt_that_nobody_waits_for_is_sent_again_when_others_need_its_room() {
    let backend = faulty();
    let store = store_with(&backend, |settings| settings.pending_bytes_max = 1 << 10);
    let log = log(&store);
    backend.plan([Fate::LoseRequest, Fate::LoseRequest]);
    let left = log.append(event("left")).enqueue().await.unwrap();
    while backend.sent().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(left);

    let other = store.log(LogId::new("acme", "session", "s-2").unwrap());
    other.append(event("other")).await.unwrap();

    assert_eq!(said(&log).await, ["left"]);
}

#[tokio::test]
async fn refused_after_unknown_stays_unknown_and_the_same_bytes_go_first_later() {
    let backend = faulty();
    let store = store_with(&backend, |settings| settings.append_timeout = Duration::from_millis(200));
    backend.plan([Fate::LoseAnswer].into_iter().chain([Fate::Refuse; 8]));

    let unknown = log(&store).append(event("one")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unknown);
    let mut tries = 0;
    while log(&store).append(event("two")).await.is_err() {
        tries += 1;
        assert!(tries < 50);
    }

    assert_eq!(said(&log(&store)).await.first().map(String::as_str), Some("one"));
}

#[tokio::test]
async fn an_unreachable_backend_at_opening_is_unavailable_and_the_next_append_opens_again() {
    let backend = faulty();
    let store = store(&backend);
    backend.refuse_reads(1);

    let refused = log(&store).append(event("one")).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(log(&store).append(event("two")).await.unwrap().version, Version(1));
}

#[tokio::test]
async fn resolve_says_no_only_when_nothing_can_land_any_more() {
    let backend = faulty();
    let first = store_with(&backend, |settings| settings.append_timeout = Duration::from_millis(50));
    log(&first).append(event("zero")).await.unwrap();
    backend.plan([Fate::Delay].into_iter().chain([Fate::Refuse; 20]));
    let unknown = log(&first).append(entry("a", "one")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unknown);
    backend.plan([]);

    let other = store(&backend);
    let mut outcome = log(&other).resolve(&EntryId::new("a").unwrap()).await;
    while outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
        outcome = log(&other).resolve(&EntryId::new("a").unwrap()).await;
    }
    assert_eq!(outcome.unwrap(), Resolved::NotCommitted);
    let landed = backend.land().await;

    assert!(!landed[0][0].is_done(), "a late request landed after it was said not to: {landed:?}");
    assert_eq!(said(&log(&other)).await, ["zero"]);
}

/// The commit landed, its answer was lost, and another process trimmed it away before it was sent again: it was appended twice.
#[tokio::test]
async fn a_commit_in_doubt_whose_slot_was_closed_is_unknown_and_not_appended_again() {
    let memory: Arc<dyn Backend> = Arc::new(Memory::default());
    let backend = Arc::new(Fault::new(Arc::clone(&memory)));
    let first = store(&backend);
    log(&first).append(event("zero")).await.unwrap();
    backend.plan([Fate::LoseAnswer]);

    let enqueued = log(&first).append(entry("a", "one")).enqueue().await.unwrap();
    while backend.sent().len() < 2 {
        tokio::task::yield_now().await;
    }
    append_base(&log(&first), &memory).await;
    memory.close(log(&first).id(), Version(2)).await.unwrap();
    let behind = log(&first).append(event("behind")).await.unwrap();

    assert_eq!(enqueued.receipt().await.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(behind.version, Version(4));
    assert_eq!(said(&log(&first)).await, ["behind"]);
}

#[tokio::test]
async fn resolve_finds_what_was_committed() {
    let backend = faulty();
    let store = store(&backend);
    let receipt = log(&store).append(entry("a", "one")).await.unwrap();

    let Resolved::Committed(found) = log(&store).resolve(&EntryId::new("a").unwrap()).await.unwrap() else {
        panic!("it was committed");
    };

    assert_eq!((found.version, found.entry), (receipt.version, receipt.entry));
}
