//! Large puts that are stored as edits: what is acknowledged, repeated, raced for and read is what was put.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::sync::Arc;

use documents::*;
use icecore_embedded::Memory;
use icecore_log::{Backend, EntryId, Error, ErrorKind, Event, Version};
use icecore_store::state::{At, Changed, Changes, Condition, Consistency, Json, State};
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

    let given = log.append(Event { at: None, ..edit.clone() }).await.unwrap_err();

    assert_eq!(given.kind(), ErrorKind::Invalid, "{given}");
    // Nor beside changes, nor with data that is JSON.
    for data in [edit.data.clone(), "1".into(), "\"text\"".into()] {
        let forged = Event { data, at: None, ..edit.clone() };
        let beside = Changes::new().put("other", noise(2, 900)).event(forged);
        assert_eq!(log.commit(beside).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(commits(&backend).await.len(), 2);
}

/// Of one entry: what is changed twice is put whole, what is new too; what was said beside an edit makes it shorter.
#[tokio::test]
async fn each_change_of_a_transaction_is_stored_as_fits_it() {
    let backend = memory();
    let log = open(&backend, |_| ());
    let first =
        ["a", "b", "c", "d"].iter().fold(Changes::new(), |changes, key| changes.put(*key, noise(1, 6_000)));
    log.commit(first).await.unwrap();
    let said = letters_of(9, 3_000);
    let with_said = json(format!("\"{}{said}\"", letters_of(1, 6_000)));
    let changes = Changes::new()
        .event(Event::new("said", format!("\"{said}\"")))
        .put("a", with_said.clone())
        .put("b", changed(1, 10, "new"))
        .put("c", changed(1, 20, "one"))
        .put("c", changed(1, 30, "two"))
        .delete("d")
        .put("e", changed(1, 40, "new"))
        .only_if(Condition::Document { key: "a".into(), version: Version(1) });
    log.commit(changes.clone()).await.unwrap();

    let (stored, whole) = kinds(&backend).await;
    assert_eq!(stored[4..], ["said", EDIT, EDIT, PUT, PUT, "icecore.document.delete", PUT]);
    assert_eq!(whole[4..], ["said", PUT, PUT, PUT, PUT, "icecore.document.delete", PUT]);
    let edit = log.read(Range::default()).next_page().await.unwrap().remove(1).into_events().nth(1).unwrap();
    assert!(edit.event.data.len() < 200, "what was said beside it is not stored twice");
    for log in [log.clone(), folded_from_commits(&backend).await] {
        let state = log.state().await.unwrap();
        let of = |key| state.get(key).map(|document| document.json.clone());
        assert_eq!(of("a").as_ref(), Some(with_said.bytes()));
        assert_eq!(of("b").as_ref(), Some(changed(1, 10, "new").bytes()));
        assert_eq!(of("c").as_ref(), Some(changed(1, 30, "two").bytes()));
        assert_eq!((of("d"), of("e")), (None, Some(changed(1, 40, "new").bytes().clone())));
        assert_eq!(state.in_order().iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a", "b", "c", "e"]);
    }
    assert_eq!(log.commit(changes).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_race_for_a_large_document_lose_no_change() {
    const COUNTS: usize = 40;
    let backend = memory();
    let counts = |state: &State| -> Result<Vec<String>, Error> {
        state.get("counts").map_or(Ok(vec!["000".into(); 1_000]), |document| document.read())
    };
    let mut writers = JoinSet::new();
    for writer in 0..3_usize {
        let log = open(&backend, by_count(4));
        // A handle that need not look does not make its transactions of what was.
        let log = if writer == 0 { log.with(Consistency::Eventual) } else { log };
        writers.spawn(async move {
            for round in 0..COUNTS {
                log.transact(|state| {
                    let mut counts = counts(state)?;
                    let at = (round * 7 + writer) % 1_000;
                    counts[at] = format!("{:03}", counts[at].parse::<u32>().unwrap_or_default() + 1);
                    Ok(Changes::new().put("counts", Json::of(&counts)?))
                })
                .await
                .unwrap();
                // And what is put beside, without a condition.
                log.put(&format!("own{writer}"), changed(5, round * 100 + 1, "own")).await.unwrap();
            }
        });
    }
    writers.join_all().await;

    let state = folded_from_commits(&backend).await.state().await.unwrap();
    let sum: u32 = counts(&state).unwrap().iter().map(|count| count.parse::<u32>().unwrap()).sum();
    assert_eq!(sum, 3 * 40);
    for writer in 0..3 {
        let own = &state.get(&format!("own{writer}")).unwrap().json;
        assert_eq!(own, changed(5, (COUNTS - 1) * 100 + 1, "own").bytes());
    }
    assert_same(&open(&backend, |_| ()).state().await.unwrap(), &state, "after a race");
    let stored = kinds(&backend).await.0.iter().filter(|kind| *kind == EDIT).count();
    assert!(stored > 100, "{stored} of 240 puts are stored as edits");
}

/// The snapshots that an overlay had open were merged and deleted by others, and from then on every put was stored whole.
#[tokio::test]
async fn puts_into_a_state_that_is_read_in_parts_stay_small_when_its_snapshots_are_gone() {
    for is_damaged in [false, true] {
        let (_, backend) = observed::Observed::memory();
        let other = open(&backend, by_count(4));
        let text = |key: u64, with: &str| {
            let mut text = letters_of(key, 5_000);
            text.replace_range(100..102, with);
            json(format!("\"{text}\""))
        };
        let fill = async |keys: std::ops::Range<u64>| {
            for key in keys {
                other.put(&format!("k{key}"), text(key, "..")).await.unwrap();
                land().await;
            }
        };
        fill(0..60).await;
        let log = open(&backend, by_count(256));
        log.documents("", None, 1).await.unwrap();
        let before = parts(&backend).await;
        if is_damaged {
            for part in &before {
                let bytes = backend.get_blob(&part.blob(), None).await.unwrap().unwrap();
                replace(&backend, &part.blob(), vec![0; bytes.len()]).await;
            }
        } else {
            fill(60..200).await;
            let now = parts(&backend).await;
            assert!(before.iter().all(|part| !now.contains(part)), "{now:?}");
        }

        for key in 0..40 {
            log.put(&format!("k{key}"), text(key, "!!")).await.unwrap();
        }

        let puts = commits(&backend).await.split_off(if is_damaged { 60 } else { 200 });
        let sizes: Vec<_> = puts.iter().map(|commit| commit.len()).collect();
        assert!(sizes.iter().all(|size| *size < 400), "damaged: {is_damaged}: {sizes:?}");
        assert_eq!(&log.document("k7").await.unwrap().unwrap().json, text(7, "!!").bytes());
    }
}

#[tokio::test]
async fn a_document_that_is_deleted_and_put_again_between_edits_is_what_was_put_last() {
    let backend = memory();
    let (log, other) = (open(&backend, by_count(2)), open(&backend, |_| ()));
    for round in 0..12 {
        // Whoever is next knows of the document what was before the other's delete.
        let (by, with) = if round % 2 == 0 { (&log, &other) } else { (&other, &log) };
        by.put("text", changed(1, round * 20 + 1, "by.")).await.unwrap();
        match round % 4 {
            0 => drop(with.delete("text").await.unwrap()),
            1 => drop(with.patch("text", json(r#"{"n":1}"#)).await.unwrap()),
            2 => {
                let again = Changes::new().delete("text").put("text", changed(2, 5, "two"));
                with.commit(again).await.unwrap();
            }
            _ => {}
        }
        with.put("text", changed(1, round * 20 + 9, "end")).await.unwrap();
        land().await;

        let expected = changed(1, round * 20 + 9, "end");
        let plain = folded_from_commits(&backend).await;
        for log in [&log, &other, &plain] {
            assert_eq!(&log.document("text").await.unwrap().unwrap().json, expected.bytes(), "round {round}");
        }
        assert_same(&log.state().await.unwrap(), &plain.state().await.unwrap(), "between");
    }
}

/// Else the document would be one that never was.
#[tokio::test]
async fn an_edit_whose_value_before_was_dropped_is_told_as_such() {
    let backend = memory();
    let log = open(&backend, |_| ());
    log.put("text", noise(1, 6_000)).await.unwrap();
    log.put("other", json("1")).await.unwrap();
    log.put("text", changed(1, 100, "abc")).await.unwrap();
    log.put("text", changed(1, 200, "abc")).await.unwrap();
    assert_eq!(kinds(&backend).await.0, [PUT, PUT, EDIT, EDIT]);
    backend.drop_bodies(log.id(), &[Version(3)]).await.unwrap();

    let fresh = || open(&backend, |_| ());
    let told = |error: Error| (error.kind(), error.fact("version").map(str::to_owned));
    let dropped = (ErrorKind::NotFound, Some("3".to_owned()));
    assert_eq!(told(fresh().state().await.unwrap_err()), dropped);
    assert_eq!(told(fresh().document("text").await.unwrap_err()), dropped);
    assert_eq!(told(fresh().documents("", None, 9).await.unwrap_err()), dropped);
    assert_eq!(told(fresh().state_at(At::Version(Version(4))).await.unwrap_err()), dropped);
    assert_eq!(fresh().state_at(At::Version(Version(2))).await.unwrap().len(), 2);
    // What came behind is given as it is stored, and then the gap is told.
    let log = fresh();
    let mut history = log.history("text");
    let last = history.next_page().await.unwrap();
    let seen: Vec<_> = last.iter().map(|one| (one.version.0, one.change, one.value.is_some())).collect();
    assert_eq!(seen, [(4, "put", false)]);
    assert_eq!(told(history.next_page().await.unwrap_err()), dropped);
    // A put does not need what was.
    fresh().put("text", changed(1, 300, "abc")).await.unwrap();
    assert_eq!(kinds(&backend).await.0, [PUT, PUT, EDIT, PUT]);
}
