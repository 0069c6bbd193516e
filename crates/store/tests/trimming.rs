//! A trim takes what is not to be kept, and nothing else: not the state, not what is known of ids, not what is held or still being read.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/mortal.rs"]
mod mortal;
#[path = "support/observed.rs"]
mod observed;

use std::sync::Arc;
use std::time::Duration;

use documents::*;
use icecore_embedded::Memory;
use icecore_log::{Backend, Entry, EntryId, ErrorKind, Event, LogId, LogPrefix, Timestamp, Version};
use icecore_store::retention::{Hold, Keep, On, Pace, Trim, Trimmed};
use icecore_store::state::At;
use icecore_store::{Log, Range, Store};
use mortal::Mortal;

fn memory() -> Arc<dyn Backend> {
    Arc::new(Memory::default())
}

/// A log of 40 commits, ten of which have an id each.
async fn forty(backend: &Arc<dyn Backend>) -> Log {
    let log = open(backend, by_count(8));
    for number in 0..40 {
        if number % 4 == 3 {
            log.append(with_id(number)).await.unwrap();
        } else {
            work(&log, number).await;
        }
    }
    log
}

fn with_id(number: u64) -> Entry {
    Entry::new(Event::new("said", number.to_string())).with_id(EntryId::new(format!("id-{number}")).unwrap())
}

fn keep(commits: u64) -> Trim {
    Trim { keep: Keep { commits: Some(commits), ..Keep::default() }, ..Trim::default() }
}

async fn versions(log: &Log) -> Vec<u64> {
    let (mut reader, mut versions) = (log.read(Range::default()), Vec::new());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return versions;
        }
        versions.extend(page.iter().map(|commit| commit.version.0));
    }
}

/// The documents and their order, and that every id is known again.
async fn assert_whole(log: &Log, expected: &Log, when: &str) {
    let (found, wanted) = (log.state().await.unwrap(), expected.state().await.unwrap());
    assert!(found.in_order() == wanted.in_order(), "{when}");
    assert_pages_same(log, &found, when).await;
    for number in (3..40).step_by(4) {
        let receipt = log.append(with_id(number)).await.unwrap();
        assert!(receipt.repeated && receipt.version == Version(number + 1), "{when}: {receipt:?}");
    }
    assert!(log.replay(|_| ()).await.unwrap().is_same, "{when}");
}

#[tokio::test]
async fn what_is_kept_is_kept_and_the_rest_is_gone() {
    let backend = memory();
    let log = forty(&backend).await;
    let plain = open(&copy_of(&backend).await, by_count(8));
    let planned = log.plan_trim(&keep(10)).await.unwrap();

    let trimmed = log.trim(&keep(10)).await.unwrap();

    let Trimmed { through, commits, bytes, states_from, writes_base, .. } = planned;
    assert_eq!((trimmed.through, trimmed.commits, trimmed.bytes), (through, commits, bytes));
    assert_eq!((trimmed.states_from, trimmed.writes_base), (states_from, writes_base));
    assert_eq!((trimmed.through, trimmed.commits, trimmed.states_from), (Version(30), 30, Version(41)));
    assert_eq!((trimmed.swept.commits, trimmed.swept.bytes), (30, trimmed.bytes));
    for log in [log, open(&backend, by_count(8))] {
        assert_eq!(versions(&log).await, (31..=41).collect::<Vec<_>>());
        assert_whole(&log, &plain, "trimmed").await;
        assert_eq!(log.state_at(At::Version(Version(35))).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_second_trim_needs_a_base_only_once_it_comes_to_the_first() {
    let backend = memory();
    let log = forty(&backend).await;
    log.trim(&keep(10)).await.unwrap();
    for number in 40..46 {
        work(&log, number).await;
    }

    let again = log.trim(&keep(10)).await.unwrap();
    assert_eq!((again.through, again.writes_base, again.states_from), (Version(37), false, Version(41)));
    let third = log.trim(&keep(3)).await.unwrap();
    assert_eq!((third.through, third.writes_base, third.states_from), (Version(44), true, Version(48)));
    let nothing = log.trim(&keep(50)).await.unwrap();
    assert_eq!((nothing.commits, nothing.through, nothing.writes_base), (0, Version(44), false));
}

#[tokio::test]
async fn it_is_trimmed_by_version_age_and_size_and_the_widest_counts() {
    let backend = memory();
    let log = forty(&backend).await;
    let sizes: Vec<u64> = commits(&backend).await.iter().map(|commit| commit.len() as u64).collect();
    let last_ten: u64 = sizes[30..].iter().sum();
    let at = log.read(Range { from: Some(Version(21)), ..Range::default() }).next_page().await.unwrap()[0]
        .header
        .at;
    let through =
        async |keep: Keep| log.plan_trim(&Trim { keep, ..Trim::default() }).await.unwrap().through.0;

    assert_eq!(through(Keep { from: Some(Version(21)), ..Keep::default() }).await, 20);
    assert_eq!(through(Keep { since: Some(at), ..Keep::default() }).await, 20);
    assert_eq!(through(Keep { since: Some(Timestamp(i64::MAX)), ..Keep::default() }).await, 39);
    assert_eq!(through(Keep { since: Some(Timestamp(0)), ..Keep::default() }).await, 0);
    assert_eq!(through(Keep { bytes: Some(last_ten), ..Keep::default() }).await, 30);
    assert_eq!(through(Keep { bytes: Some(last_ten - 1), ..Keep::default() }).await, 31);
    assert_eq!(through(Keep { bytes: Some(0), ..Keep::default() }).await, 39);
    assert_eq!(through(Keep { bytes: Some(u64::MAX), ..Keep::default() }).await, 0);
    assert_eq!(log.trim(&Trim::default()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(through(Keep { commits: Some(0), ..Keep::default() }).await, 39);
    let widest = Keep { from: Some(Version(30)), since: Some(at), commits: Some(5), bytes: Some(0) };
    assert_eq!(through(widest).await, 20);
}

fn hold(on: On, from: u64) -> Hold {
    Hold { on, from: Some(Version(from)), until: None, reason: "a dispute".to_owned() }
}

#[tokio::test]
async fn what_is_held_is_not_trimmed_until_it_is_let_go() {
    let backend = memory();
    let log = forty(&backend).await;
    let retention = log.store().retention().unwrap();
    for on in [On::Log(id()), On::Prefix(LogPrefix::tenant(&id().tenant()).unwrap())] {
        retention.hold("a", &hold(on, 20)).await.unwrap();

        let error = log.trim(&keep(10)).await.unwrap_err();

        assert_eq!((error.kind(), error.fact("hold")), (ErrorKind::Refused, Some("a")), "{error}");
        let head = log.head().await.unwrap().unwrap();
        assert_eq!((head.version, head.boundary), (Version(40), Version(0)), "not even a base was written");
        let error = log.store().delete_log(&id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    let trim = |from| Trim { keep: Keep { from: Some(Version(from)), ..Keep::default() }, ..Trim::default() };
    assert_eq!(log.trim(&trim(20)).await.unwrap().through, Version(19));
    let until = Some(Timestamp(1));
    retention.hold("a", &Hold { until, ..hold(On::Log(id()), 20) }).await.unwrap();
    assert_eq!(log.trim(&trim(25)).await.unwrap().through, Version(24), "its time is over");
    retention.hold("a", &hold(On::Log(id()), 25)).await.unwrap();
    retention
        .hold("of another", &hold(On::Log(LogId::new("acme", "session", "s").unwrap()), 1))
        .await
        .unwrap();
    assert_eq!(log.trim(&trim(26)).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(retention.holds().await.unwrap().len(), 2);
    assert!(retention.release("a").await.unwrap());
    assert!(!retention.release("a").await.unwrap());
    assert_eq!(log.trim(&trim(26)).await.unwrap().through, Version(25));
}

#[tokio::test]
async fn what_is_gone_is_not_held_but_what_is_left_is() {
    let backend = memory();
    let log = forty(&backend).await;
    log.trim(&keep(10)).await.unwrap();
    let retention = log.store().retention().unwrap();

    let error = retention.hold("late", &hold(On::Log(id()), 20)).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("trimmed_through")), (ErrorKind::Refused, Some("30")));
    assert_eq!(retention.holds().await.unwrap()[0].1.from, Some(Version(31)));
    assert_eq!(log.trim(&keep(1)).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_reader_that_is_on_its_way_is_waited_for() {
    let backend = memory();
    forty(&backend).await;
    let log = open(&backend, |settings| settings.readers_patience = Duration::from_millis(100));
    // What one page holds is more than the whole log: so it is opened, and not read to its end.
    let mut reader = log.read(Range { to: Some(Version(40)), reverse: true, ..Range::default() });
    reader.next_page().await.unwrap();

    let error = log.trim(&keep(10)).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("needed_from")), (ErrorKind::Refused, Some("1")));
    let trim = async { log.trim(&keep(10)).await.unwrap().through };
    let end = async {
        tokio::task::yield_now().await;
        drop(reader);
    };
    assert_eq!(futures_util::future::join(trim, end).await.0, Version(30));
}

#[tokio::test]
async fn a_trim_that_is_interrupted_anywhere_loses_nothing_and_goes_on() {
    let original = memory();
    let expected = forty(&original).await;
    land().await;
    let (mut deaths, mut changes) = (0, 0);
    for is_last_done in [false, true] {
        changes = 0;
        loop {
            let backend = copy_of(&original).await;
            let mortal = Mortal::new(&backend, changes, is_last_done);
            let store = Store::new(Arc::clone(&mortal) as Arc<dyn Backend>);
            let done = store.log(id()).trim(&keep(10)).await;
            land().await;
            let when = format!("killed at change {changes}, done: {is_last_done}");

            let log = open(&backend, by_count(8));
            assert_whole(&log, &expected, &when).await;
            // A hold that comes then is either against nothing, or told what is gone; and what it was told stays true.
            let held = log.store().retention().unwrap().hold("h", &hold(On::Log(id()), 20)).await;
            let boundary = log.head().await.unwrap().unwrap().boundary;
            assert_eq!(held.is_ok(), boundary < Version(20), "{when}: {held:?}");
            assert_eq!(log.trim(&keep(1)).await.unwrap_err().kind(), ErrorKind::Refused, "{when}");
            // Whoever finishes what was left takes nothing of it either.
            log.store().maintain_once(Pace::default(), |_| ()).await.unwrap().unwrap();
            let later = log.head().await.unwrap().unwrap().boundary;
            assert_eq!(held.is_ok(), later < Version(20), "{when}: it was trimmed behind the hold's back");
            log.store().retention().unwrap().release("h").await.unwrap();
            assert_eq!(
                log.trim(&keep(10)).await.unwrap().through.0.max(30),
                log.head().await.unwrap().unwrap().boundary.0
            );
            assert_whole(&log, &expected, &when).await;
            if !mortal.is_dead() {
                done.unwrap();
                break;
            }
            deaths += 1;
            changes += 1;
        }
    }
    assert!(deaths >= 12 && changes >= 6, "{deaths} deaths, {changes} changes");
}

#[tokio::test]
async fn bodies_of_some_kinds_go_and_nothing_else() {
    let backend = memory();
    let log = open(&backend, by_count(8));
    for number in 0..20_u64 {
        log.append(Event::new(if number % 2 == 0 { "chatter" } else { "said" }, number.to_string()))
            .await
            .unwrap();
        log.put("n", json(number.to_string())).await.unwrap();
    }
    let kinds = [String::from("chatter")].into();
    let trim = Trim { kinds, keep: Keep { commits: Some(10), ..Keep::default() } };
    let planned = log.plan_trim(&trim).await.unwrap();

    let trimmed = log.trim(&trim).await.unwrap();

    assert_eq!((trimmed.commits, trimmed.through, trimmed.writes_base), (planned.commits, Version(0), true));
    assert_eq!(trimmed.swept.bytes, planned.bytes);
    let reader = open(&backend, by_count(8));
    assert_eq!(reader.document("n").await.unwrap().unwrap().json, "19");
    let left = commits(&backend).await;
    let dropped: Vec<_> =
        left.iter().filter(|commit| commit.body.is_none()).map(|commit| commit.version.0).collect();
    // The first holds the log's name; what is newest is kept.
    assert_eq!(dropped, [5, 9, 13, 17, 21, 25, 29]);
    let verified = reader.store().verify(&LogPrefix::all(), |_| ()).await.unwrap();
    assert_eq!((verified.damage.len(), verified.dropped), (0, 7));
    assert_eq!(log.plan_trim(&trim).await.unwrap().commits, 0);
    // Behind a base that is there already, too, states of before it are not known.
    let more = Trim { kinds: [String::from("said")].into(), ..trim };
    let planned = log.plan_trim(&more).await.unwrap();
    assert_eq!((planned.commits, planned.writes_base, planned.states_from), (8, false, Version(41)));
}

#[tokio::test]
async fn a_log_that_was_deleted_is_gone_for_everybody() {
    let backend = memory();
    let log = forty(&backend).await;
    let slow = open(&backend, by_count(8));
    slow.append(Event::new("said", "1")).await.unwrap();
    let mut watch = slow.watch("large");
    watch.next().await.unwrap();

    let deleted = log.store().delete_log(&id()).await.unwrap();

    assert_eq!((deleted.seal, deleted.repeated), (Version(42), false));
    assert!(log.store().delete_log(&id()).await.unwrap().repeated);
    for log in [log, slow.clone(), open(&backend, by_count(8))] {
        assert_eq!(log.state().await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(log.document("large").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(log.documents("", None, 5).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(log.state_at(At::Version(Version(20))).await.unwrap_err().kind(), ErrorKind::NotFound);
        let error = log.append(Event::new("said", "2")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "never acknowledged: {error}");
        assert_eq!(log.put("a", json("1")).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(versions(&log).await, [42]);
        assert!(log.head().await.unwrap().unwrap().sealed);
        assert_eq!(log.trim(&keep(1)).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(backend.list_blobs(&id(), "").await.unwrap().is_empty());
    let verified = slow.store().verify(&LogPrefix::all(), |_| ()).await.unwrap();
    assert!(verified.damage.is_empty(), "{:?}", verified.damage);
    let copy = Store::new(memory());
    icecore_store::copy::copy(slow.store(), &copy, &LogPrefix::all(), |_| ()).await.unwrap();
    assert_eq!(copy.log(id()).state().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_delete_that_is_interrupted_anywhere_goes_on() {
    for is_last_done in [false, true] {
        for changes in 0.. {
            let backend = memory();
            forty(&backend).await;
            land().await;
            let mortal = Mortal::new(&backend, changes, is_last_done);
            let done = Store::new(Arc::clone(&mortal) as Arc<dyn Backend>).delete_log(&id()).await;
            let log = open(&backend, by_count(8));
            // Whoever sets a hold then finds it whole, or not at all.
            let _ = log.store().retention().unwrap().hold("h", &hold(On::Log(id()), 5)).await;
            match log.state().await {
                Ok(state) => assert!(!state.is_empty()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            }
            log.store().retention().unwrap().release("h").await.unwrap();
            log.store().delete_log(&id()).await.unwrap();
            assert_eq!(versions(&log).await.len(), 1);
            assert!(backend.list_blobs(&id(), "").await.unwrap().is_empty(), "{changes}");
            if !mortal.is_dead() {
                done.unwrap();
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_history_of_a_document_ends_with_what_was_kept_of_it() {
    let backend = memory();
    let log = open(&backend, by_count(8));
    for number in 0..10 {
        log.put("old", json("1")).await.unwrap();
        log.put("new", json(number.to_string())).await.unwrap();
    }
    log.put("gone", json("1")).await.unwrap();
    log.delete("gone").await.unwrap();
    log.trim(&keep(4)).await.unwrap();
    log.put("new", json("10")).await.unwrap();
    let history = async |key: &str| {
        let (mut history, mut found) = (log.history(key), Vec::new());
        loop {
            let page = history.next_page().await.unwrap();
            if page.is_empty() {
                return found;
            }
            found.extend(page.into_iter().map(|changed| (changed.change, changed.version.0)));
        }
    };

    assert_eq!(history("new").await, [("put", 24), ("put", 20)]);
    assert_eq!(history("old").await, [("put", 19)]);
    for _ in 0..2 {
        // What is kept first is the put; then the base behind it.
        log.trim(&keep(1)).await.unwrap();
    }
    assert_eq!(history("new").await, [("kept", 24)]);
    assert_eq!(history("old").await, [("kept", 19)]);
    assert_eq!(history("gone").await, []);
}

#[tokio::test]
async fn a_log_is_trimmed_to_what_it_is_and_goes_on_under_its_name() {
    let original = memory();
    let expected = forty(&original).await;
    land().await;
    let mut deaths = 0;
    for is_last_done in [false, true] {
        for changes in 0.. {
            let backend = copy_of(&original).await;
            let mortal = Mortal::new(&backend, changes, is_last_done);
            let store = Store::new(Arc::clone(&mortal) as Arc<dyn Backend>);
            let done = store.log(id()).trim_to_state().await;
            land().await;
            let when = format!("killed at change {changes}, done: {is_last_done}");

            let log = open(&backend, by_count(8));
            let planned = log.plan_trim_to_state().await.unwrap();
            let trimmed = log.trim_to_state().await.unwrap();

            assert_eq!((trimmed.commits, trimmed.bytes), (planned.commits, planned.bytes), "{when}");
            assert_eq!(versions(&log).await.len(), 1, "{when}: a base");
            assert_eq!(log.trim_to_state().await.unwrap().commits, 0, "{when}");
            assert_eq!(versions(&log).await.len(), 1, "{when}: nothing is written for nothing");
            assert_whole(&log, &expected, &when).await;
            work(&log, 50).await;
            assert_eq!(versions(&log).await.len(), 2, "{when}");
            if !mortal.is_dead() {
                assert!(done.unwrap().commits == 40 && trimmed.commits == 0, "{when}");
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths >= 10, "{deaths} deaths");
}

#[tokio::test]
async fn what_is_held_is_not_trimmed_to_what_it_is() {
    let backend = memory();
    let log = forty(&backend).await;
    let retention = log.store().retention().unwrap();
    retention.hold("a", &hold(On::Log(id()), 40)).await.unwrap();

    for error in [log.plan_trim_to_state().await.unwrap_err(), log.trim_to_state().await.unwrap_err()] {
        assert_eq!((error.kind(), error.fact("hold")), (ErrorKind::Refused, Some("a")), "{error}");
    }
    assert_eq!(log.head().await.unwrap().unwrap().version, Version(40), "not even a base was written");
    retention.release("a").await.unwrap();
    assert_eq!(log.trim_to_state().await.unwrap().through, Version(40));
}
