//! Entries that are appended together; an id that is looked for; one document at the end of a long log; documents in their order.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use icecore_layers::Fate;
use icecore_log::{Entry, EntryId, ErrorKind, Event, LogId, Version};
use icecore_store::state::{At, Json};
use icecore_store::{Log, Range};
use support::*;

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

async fn texts(log: &Log) -> Vec<String> {
    let page = log.read(Range::default()).next_page().await.unwrap();
    let events = page.into_iter().flat_map(|commit| commit.into_events());
    events.map(|event| String::from_utf8(event.event.data.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn what_is_appended_together_shares_a_commit_in_its_order() {
    let store = store(&faulty());
    let log = log(&store);
    log.append(event("first")).await.unwrap();
    let mut entries: Vec<_> = (0..100).map(|n| entry(&format!("id-{n}"), &n.to_string())).collect();
    entries.insert(50, Entry::default());
    entries.insert(60, entry("id-3", "3"));
    entries.insert(61, entry("id-4", "another"));
    let receipts = log.append_all(entries).await.unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = receipts.into_iter().partition(Result::is_ok);
    let kinds: Vec<_> = bad.into_iter().map(|bad| bad.unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Invalid, ErrorKind::Conflict]);
    assert!(good.iter().all(|receipt| receipt.as_ref().unwrap().version == Version(2)));
    assert_eq!(good.len(), 101, "the twin has the first one's receipt");
    let wanted: Vec<_> = (0..100).map(|n| format!("\"{n}\"")).collect();
    assert_eq!(texts(&log).await[1..], wanted);
}

#[tokio::test]
async fn if_the_system_fails_nothing_of_what_was_appended_together_overtakes() {
    let backend = faulty();
    let store = store_with(&backend, |settings| settings.merge_entries_max = 10);
    let log = log(&store);
    log.append(event("first")).await.unwrap();
    backend.plan([Fate::Refuse]);
    let entries: Vec<_> = (0..100).map(|n| entry(&format!("id-{n}"), &n.to_string())).collect();
    let receipts = log.append_all(entries.clone()).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.as_ref().unwrap_err().kind() == ErrorKind::Unavailable));
    assert_eq!(texts(&log).await, ["\"first\""]);
    let receipts = log.append_all(entries).await.unwrap();
    assert!(receipts.into_iter().all(|receipt| !receipt.unwrap().repeated));
    assert_eq!(log.head().await.unwrap().unwrap().version, Version(11), "ten in a commit");
}

#[tokio::test]
async fn more_than_there_is_room_for_is_appended_together_too() {
    let store = store_with(&faulty(), |settings| settings.pending_bytes_max = 5_000);
    let log = log(&store);
    for _ in 0..3 {
        let entries: Vec<_> = (0..20).map(|n| event(&n.to_string()).into()).collect();
        assert!(log.append_all(entries).await.unwrap().iter().all(Result::is_ok));
    }
    log.append(event("last")).await.unwrap();
    assert_eq!(texts(&log).await.len(), 61);
}

#[tokio::test]
async fn an_id_is_looked_for_without_taking_a_slot() {
    let backend = faulty();
    let writer = store(&backend);
    let id = EntryId::new("id-1").unwrap();
    assert_eq!(log(&writer).find(&id).await.unwrap(), None);
    log(&writer).append(event("before")).await.unwrap();
    assert_eq!(log(&writer).find(&id).await.unwrap(), None);
    let receipt = log(&writer).append(entry("id-1", "hello")).await.unwrap();
    for store in [writer, store(&backend)] {
        let found = log(&store).find(&id).await.unwrap().unwrap();
        assert_eq!((found.version, found.entry, found.repeated), (receipt.version, receipt.entry, true));
        assert_eq!(log(&store).head().await.unwrap().unwrap().version, Version(2));
    }
}

#[tokio::test]
async fn one_document_of_a_long_log_is_what_a_fold_says() {
    let backend = faulty();
    let writer = store(&backend);
    // As another process would see it, that has folded nothing.
    let seen = async |key: &str| log(&store(&backend)).document(key).await.unwrap();
    let writes = log(&writer);
    for n in 0..30 {
        writes.put("last", json(&n.to_string())).await.unwrap();
    }
    assert_eq!(seen("last").await.unwrap().json, "29");
    assert_eq!(seen("last").await.unwrap().version, Version(30));
    assert_eq!(seen("last").await, writes.state().await.unwrap().get("last").cloned());
    assert_eq!(seen("other").await, None);

    writes.patch("last", json("31")).await.unwrap();
    assert_eq!(seen("last").await.unwrap().json, "31");
    writes.delete("last").await.unwrap();
    assert_eq!(seen("last").await, None);
    writes.put("last", json("33")).await.unwrap();
    for n in 0..20 {
        writes.put("other", json(&n.to_string())).await.unwrap();
    }
    assert_eq!(seen("last").await.unwrap().json, "33", "too far back to be looked for");

    // A base holds all that there is.
    let fork = LogId::new("acme", "session", "fork").unwrap();
    writes.fork(&fork, At::Head).await.unwrap();
    let fork = writer.log(fork);
    for _ in 0..3 {
        fork.append(event("more")).await.unwrap();
    }
    let forked = store(&backend).log(fork.id().clone());
    assert_eq!(forked.document("last").await.unwrap().unwrap().json, "33");
    assert_eq!(forked.document("none").await.unwrap(), None);
}

#[tokio::test]
async fn documents_are_told_in_the_order_in_which_they_were_first_put() {
    let store = store(&faulty());
    let log = log(&store);
    for key in ["c", "a", "b", "d", "a", "c"] {
        log.put(key, json("1")).await.unwrap();
    }
    log.delete("a").await.unwrap();
    log.put("a", json("2")).await.unwrap();
    log.append(Event::new("said", "1")).await.unwrap();
    let in_order = async |log: &Log| {
        let state = log.state().await.unwrap();
        state.in_order().into_iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(in_order(&log).await, ["c", "b", "d", "a"]);
    let fork = LogId::new("acme", "session", "fork").unwrap();
    log.fork(&fork, At::Head).await.unwrap();
    assert_eq!(in_order(&store.log(fork)).await, ["c", "b", "d", "a"]);
}
