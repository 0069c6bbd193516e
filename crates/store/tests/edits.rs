//! Large puts that are stored as edits: what is acknowledged, repeated, raced for and read is what was put.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::sync::Arc;

use documents::*;
use icecore_embedded::Memory;
use icecore_log::{Backend, EntryId, ErrorKind, Event};
use icecore_store::state::{Changed, Changes, Json};
use icecore_store::{Log, Range};
use tokio::task::JoinSet;

const PUT: &str = "icecore.document.put";
const EDIT: &str = "icecore.document.edit";

fn memory() -> Arc<dyn Backend> {
    Arc::new(Memory::default())
}

/// The kinds of a log's events as they are stored, and as whoever asks for whole values sees them.
async fn kinds(backend: &Arc<dyn Backend>) -> (Vec<String>, Vec<String>) {
    let log = open(backend, |_| ());
    let of = |commits: Vec<icecore_store::RecordedCommit>| {
        commits.into_iter().flat_map(|commit| commit.into_events()).map(|event| event.event.kind).collect()
    };
    let stored = log.read(Range::default()).next_page().await.unwrap();
    let whole = log.read(Range::default()).whole().next_page().await.unwrap();
    (of(stored), of(whole))
}

fn changed(seed: u64, at: usize, to: &str) -> Json {
    let mut text = letters_of(seed, 6_000);
    text.replace_range(at..at + 3, to);
    json(format!("\"{text}\""))
}

/// Newest first.
async fn history(log: &Log) -> Vec<Changed> {
    let (mut pages, mut all) = (log.history("text"), Vec::new());
    loop {
        let page = pages.next_page().await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn value(json: &Json) -> serde_json::Value {
    serde_json::from_slice(json.bytes()).unwrap()
}

#[tokio::test]
async fn a_large_put_that_changes_a_little_is_stored_small_and_read_as_the_put_that_it_was() {
    let backend = memory();
    let log = open(&backend, |_| ());
    log.put("text", noise(1, 6_000)).await.unwrap();
    log.put("text", changed(1, 3_000, "?!?")).await.unwrap();
    // What another process puts finds the value first.
    open(&backend, |_| ()).put("text", changed(1, 4_000, "?!?")).await.unwrap();

    let sizes: Vec<_> = commits(&backend).await.iter().map(|commit| commit.len()).collect();
    assert!(sizes[1] < 400 && sizes[2] < 400, "{sizes:?}");
    let (stored, whole) = kinds(&backend).await;
    assert_eq!(
        (stored, whole),
        ([PUT, EDIT, EDIT].map(str::to_owned).to_vec(), [PUT; 3].map(str::to_owned).to_vec())
    );
    let history = history(&log).await;
    let values: Vec<_> = history.into_iter().map(|change| change.value.unwrap()).collect();
    let expected = [changed(1, 4_000, "?!?"), changed(1, 3_000, "?!?"), noise(1, 6_000)];
    assert_eq!(values, expected.map(|json| value(&json)));
}

#[tokio::test]
async fn a_put_with_an_id_is_known_again_however_it_was_stored() {
    let backend = memory();
    let put = |json: Json, id: &str| Changes::new().put("text", json).with_id(EntryId::new(id).unwrap());
    let log = open(&backend, |_| ());
    log.put("text", noise(1, 6_000)).await.unwrap();
    let first = log.commit(put(changed(1, 100, "abc"), "p-1")).await.unwrap().unwrap();
    assert_eq!(kinds(&backend).await.0, [PUT, EDIT]);
    log.put("text", noise(2, 6_000)).await.unwrap();

    for log in [log.clone(), open(&backend, |_| ()), open(&backend, by_count(1))] {
        let again = log.commit(put(changed(1, 100, "abc"), "p-1")).await.unwrap().unwrap();
        assert_eq!((again.version, again.repeated), (first.version, true));
        let other = log.commit(put(changed(1, 100, "xyz"), "p-1")).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Conflict, "{other}");
        log.state().await.unwrap();
        let again = log.commit(put(changed(1, 100, "abc"), "p-1")).await.unwrap().unwrap();
        assert_eq!((again.version, again.repeated), (first.version, true));
    }
    assert_eq!(commits(&backend).await.len(), 3);
    assert_eq!(&log.document("text").await.unwrap().unwrap().json, noise(2, 6_000).bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_race_for_a_large_document_lose_no_put_and_leave_a_log_that_can_be_read() {
    for round in 0..8_u64 {
        let backend = memory();
        let mut writers = JoinSet::new();
        for writer in 0..4_u64 {
            let log = open(&backend, by_count(3 + round));
            writers.spawn(async move {
                let mut done = Vec::new();
                for put in 0..12_u64 {
                    let at = usize::try_from(put * 400 + writer * 90).unwrap();
                    let value = changed(round, at, &format!("{put:03}"));
                    let receipt = log.put("text", value.clone()).await.unwrap();
                    done.push((receipt.version, value));
                }
                done
            });
        }
        let mut done: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
        done.sort_by_key(|(version, _)| *version);

        let log = folded_from_commits(&backend).await;
        let history = history(&log).await;
        let found: Vec<_> =
            history.into_iter().rev().map(|change| (change.version, change.value.unwrap())).collect();
        let put: Vec<_> = done.into_iter().map(|(version, json)| (version, value(&json))).collect();
        assert_eq!(found.last(), put.last());
        let lost: Vec<_> =
            put.iter().filter(|one| !found.contains(*one)).map(|(version, _)| version).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert_same(
            &open(&backend, |_| ()).state().await.unwrap(),
            &log.state().await.unwrap(),
            "after a race",
        );
    }
}

#[tokio::test]
async fn values_at_every_edge_come_back_to_the_byte() {
    let backend = memory();
    let log = open(&backend, by_count(2));
    let text = |letters: usize, at: usize, with: &str| {
        let mut text = letters_of(3, letters);
        text.insert_str(at, with);
        json(format!("\"{text}\""))
    };
    let values = [
        // 511, 512 and 513 bytes with their quotes.
        text(508, 200, "x"),
        text(509, 200, "y"),
        text(510, 200, "z"),
        // The same letters but for one byte within a character.
        text(2_000, 999, "\u{e9}"),
        text(2_000, 999, "\u{e8}"),
        text(2_000, 999, "\u{1f9ca}"),
        text(2_000, 999, "\u{1f9cb}"),
        json("\"\""),
        text(2_000, 0, ""),
        text(2_000, 2_000, "end"),
        text(2_000, 0, "begin"),
        json(format!("[{}]", vec!["null"; 400].join(","))),
        json(format!("[{}]", vec!["null"; 401].join(","))),
    ];
    for (number, value) in values.iter().enumerate() {
        let key = "k".repeat(1_024);
        log.put(&key, value.clone()).await.unwrap();
        log.state().await.unwrap();
        if number == 9 {
            log.delete(&key).await.unwrap();
            assert_eq!(log.document(&key).await.unwrap(), None);
            continue;
        }

        for log in [log.clone(), folded_from_commits(&backend).await, open(&backend, by_count(2))] {
            assert_eq!(&log.document(&key).await.unwrap().unwrap().json, value.bytes(), "value {number}");
        }
        land().await;
    }
}

#[tokio::test]
async fn an_edit_is_made_by_the_store_alone() {
    let backend = memory();
    let log = open(&backend, |_| ());
    log.put("text", noise(1, 6_000)).await.unwrap();
    log.put("text", changed(1, 3_000, "?!?")).await.unwrap();
    let events = log.read(Range::default()).next_page().await.unwrap();
    let edit = events.into_iter().flat_map(|commit| commit.into_events()).last().unwrap().event;
    assert_eq!(edit.kind, EDIT);

    let given = log.append(Event { at: None, ..edit }).await.unwrap_err();

    assert_eq!(given.kind(), ErrorKind::Invalid, "{given}");
    assert_eq!(commits(&backend).await.len(), 2);
}
