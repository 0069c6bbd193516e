//! What was accepted is written in its order, once, whatever the system does meanwhile.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use icecore_agents::outbox::{Outbox, Settings};
use icecore_embedded::Memory;
use icecore_layers::{Fate, Fault};
use icecore_log::{Entry, EntryId, Error, ErrorKind, Event, LogId};
use icecore_store::{Log, Range, Store};
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_secs(20);

fn faulty() -> (Arc<Fault>, Store) {
    let fault = Arc::new(Fault::new(Arc::new(Memory::default())));
    let store = Store::new(Arc::clone(&fault) as Arc<dyn icecore_log::Backend>);
    (fault, store)
}

fn outbox(store: &Store, change: impl FnOnce(&mut Settings)) -> Outbox {
    let mut settings = Settings::default();
    change(&mut settings);
    let store = store.clone();
    Outbox::new(
        Box::new(move || {
            let store = store.clone();
            Box::pin(async move { Ok(store) })
        }),
        settings,
    )
}

fn log(name: &str) -> LogId {
    LogId::new("acme", "trace", name).unwrap()
}

fn accept(outbox: &Outbox, name: &str, id: usize, text: &str) -> icecore_log::Result<bool> {
    let (log, event) = (log(name), Event::new("told", text.to_owned()));
    let entry = Entry::new(event).with_id(EntryId::new(id.to_string()).unwrap());
    outbox.accept(&Handle::current(), text.len(), move || Ok((log, entry)))
}

async fn texts(log: &Log) -> Vec<String> {
    let mut reader = log.read(Range::default());
    let mut all = Vec::new();
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return all;
        }
        let events = page.into_iter().flat_map(|commit| commit.into_events());
        all.extend(events.map(|event| String::from_utf8(event.event.data.to_vec()).unwrap()));
    }
}

#[tokio::test]
async fn what_is_accepted_is_written_together_and_in_its_order() {
    let (fault, store) = faulty();
    let outbox = outbox(&store, |_| ());
    for n in 0..3_000 {
        assert!(accept(&outbox, if n % 3 == 0 { "a" } else { "b" }, n, &n.to_string()).unwrap());
    }
    assert_eq!(outbox.unsettled(), 3_000);
    outbox.flush(SOON).await.unwrap();
    assert_eq!(outbox.unsettled(), 0);
    let wanted = |is_of: fn(usize) -> bool| {
        (0..3_000).filter(|n| is_of(*n)).map(|n| n.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&store.log(log("a"))).await, wanted(|n| n % 3 == 0));
    assert_eq!(texts(&store.log(log("b"))).await, wanted(|n| n % 3 != 0));
    let commits: usize = fault.sent().iter().flatten().map(|run| run.commits.len()).sum();
    assert!(commits <= 4, "{commits} commits for 3,000 events");
}

#[tokio::test(start_paused = true)]
async fn while_the_system_is_away_it_is_tried_again_in_order_and_nothing_is_there_twice() {
    let (fault, store) = faulty();
    let outbox = outbox(&store, |_| ());
    fault.plan([Fate::Refuse, Fate::LoseRequest, Fate::Refuse, Fate::LoseAnswer, Fate::Refuse]);
    for n in 0..10 {
        accept(&outbox, "a", n, &n.to_string()).unwrap();
        if n % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
    outbox.flush(Duration::from_secs(120)).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_id_again_stays_what_it_was() {
    let (_, store) = faulty();
    let outbox = outbox(&store, |_| ());
    for text in ["first", "first", "other"] {
        accept(&outbox, "a", 1, text).unwrap();
        outbox.flush(SOON).await.unwrap();
    }
    accept(&outbox, "a", 2, "second").unwrap();
    accept(&outbox, "a", 2, "third").unwrap();
    outbox.flush(SOON).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await, ["first", "second"]);
}

#[tokio::test]
async fn what_can_never_be_written_is_told_and_holds_up_nothing() {
    let (_, store) = faulty();
    let outbox = outbox(&store, |_| ());
    accept(&outbox, "a", 1, "first").unwrap();
    outbox.accept(&Handle::current(), 0, || Err(Error::new(ErrorKind::Invalid, "naming a log"))).unwrap();
    outbox.accept(&Handle::current(), 0, || Ok((log("a"), Entry::default()))).unwrap();
    accept(&outbox, "a", 2, "second").unwrap();
    let error = outbox.flush(SOON).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("lost")), (ErrorKind::Invalid, Some("2")));
    outbox.flush(SOON).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await, ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_makes_callers_wait_and_refuses_only_far_beyond_while_the_system_is_away() {
    let (fault, store) = faulty();
    let outbox = outbox(&store, |settings| settings.bytes_max = 10_000);
    fault.plan([Fate::Refuse; 4]);
    let text = "x".repeat(744);
    let mut accepted = 0;
    while accept(&outbox, "a", accepted, &text).unwrap() {
        accepted += 1;
    }
    assert_eq!(accepted + 1, 11, "the one that fills it is kept as well");
    // The system is away: there is no room in time, and nothing is lost for that.
    let error = outbox.room(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut beyond = 11;
    let error = loop {
        match accept(&outbox, "a", beyond, &text) {
            Ok(has_room) => assert!(!has_room),
            Err(error) => break error,
        }
        beyond += 1;
    };
    assert_eq!((error.kind(), beyond), (ErrorKind::Unavailable, 21));
    outbox.room(SOON).await.unwrap();
    outbox.flush(SOON).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await.len(), beyond);
}

#[tokio::test]
async fn a_burst_of_callers_who_wait_for_room_is_accepted_whole() {
    let (_, store) = faulty();
    let outbox = outbox(&store, |settings| settings.bytes_max = 10_000);
    let text = "x".repeat(744);
    for id in 0..100 {
        assert_eq!(accept(&outbox, "a", id, &text).unwrap(), id < 10, "{id}");
    }
    outbox.room(SOON).await.unwrap();
    outbox.flush(SOON).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_opened_is_tried_again_until_the_outbox_is_closed() {
    let (_, store) = faulty();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let opening = |good_from: usize| {
        let (store, counted) = (store.clone(), Arc::clone(&counted));
        Outbox::new(
            Box::new(move || {
                let is_good = counted.fetch_add(1, Ordering::SeqCst) >= good_from;
                let store = store.clone();
                Box::pin(async move {
                    if is_good { Ok(store) } else { Err(Error::new(ErrorKind::Refused, "opening a store")) }
                })
            }),
            Settings::default(),
        )
    };
    let outbox = opening(3);
    accept(&outbox, "a", 1, "first").unwrap();
    let error = outbox.settle(Duration::from_millis(60)).await.unwrap_err();
    assert!(error.to_string().contains("opening a store"), "{error}");
    outbox.flush(SOON).await.unwrap();
    assert_eq!(texts(&store.log(log("a"))).await, ["first"]);

    let outbox = opening(usize::MAX);
    accept(&outbox, "a", 2, "second").unwrap();
    outbox.close();
    let error = outbox.flush(SOON).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("lost")), (ErrorKind::Refused, Some("1")));
    assert_eq!(accept(&outbox, "a", 3, "third").unwrap_err().kind(), ErrorKind::Refused);
}
