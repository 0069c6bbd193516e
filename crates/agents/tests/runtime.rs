//! What an agent runtime keeps: pauses that are taken once, feeds with cursors, bindings.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::sync::Arc;
use std::time::Duration;

use icecore_agents::binding::{Bindings, Triple};
use icecore_agents::feed::{self, Query};
use icecore_agents::{Kind, Pause, Tenant};
use icecore_embedded::Memory;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, Clock, Entry, EntryId, ErrorKind, Event, Timestamp};
use icecore_store::retention::{Keep, Trim};
use icecore_store::state::Json;
use icecore_store::{Log, Settings, Store};

fn faulty() -> Arc<Fault> {
    Arc::new(Fault::new(Arc::new(Memory::default())))
}

fn store(fault: &Arc<Fault>) -> Store {
    Store::new(Arc::clone(fault) as Arc<dyn Backend>)
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn pause(store: &Store, token: &str) -> Pause {
    Pause::new(store.log(tenant().log(Kind::Pause, token.as_bytes()).unwrap()))
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

async fn taken(pause: &Pause) -> Option<String> {
    let taken = pause.take().await.unwrap()?;
    Some(String::from_utf8(taken.keep().to_vec()).unwrap())
}

#[tokio::test]
async fn of_all_that_take_a_value_one_gets_it() {
    let fault = faulty();
    for round in 0..20 {
        let token = format!("token-{round}");
        pause(&store(&fault), &token).save(json(r#"{"a":1.50}"#), None).await.unwrap();
        let takers: Vec<_> = (0..16)
            .map(|_| {
                // Each as a process of its own would have it.
                let pause = pause(&store(&fault), &token);
                tokio::spawn(async move { taken(&pause).await })
            })
            .collect();
        let mut got = Vec::new();
        for taker in takers {
            got.extend(taker.await.unwrap());
        }
        assert_eq!(got, [r#"{"a":1.50}"#]);
        assert_eq!(taken(&pause(&store(&fault), &token)).await, None);
    }
}

#[tokio::test]
async fn a_value_that_reached_nobody_is_put_back() {
    let fault = faulty();
    let store = store(&fault);
    let pause = pause(&store, "token");
    assert_eq!(taken(&pause).await, None);
    pause.save(json("1"), None).await.unwrap();
    let again = async || {
        for _ in 0..100 {
            if let Some(found) = taken(&pause).await {
                return Some(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    };
    // Its taker has it in its hands, and lets it fall.
    drop(pause.take().await.unwrap().unwrap());
    assert_eq!(again().await.as_deref(), Some("1"));
    // Its taker does not wait.
    pause.save(json("2"), None).await.unwrap();
    for steps in 0..6 {
        let mut taking = Box::pin(pause.take());
        for _ in 0..steps {
            let waker = std::task::Waker::noop();
            if taking.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(taking);
        assert_eq!(again().await.as_deref(), Some("2"), "after {steps} steps");
        pause.save(json("2"), None).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_taking_whose_outcome_is_unknown_leaves_the_value_there() {
    for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
        let fault = faulty();
        let mut settings = Settings::default();
        settings.append_timeout = Duration::from_secs(1);
        let store = Store::builder(Arc::clone(&fault) as Arc<dyn Backend>).settings(settings).build();
        let pause = pause(&store, "token");
        pause.save(json("1"), None).await.unwrap();
        fault.plan([fate; 12]);
        let error = pause.take().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(taken(&pause).await.as_deref(), Some("1"));
    }
}

#[derive(Debug, Default)]
struct ManualClock(std::sync::atomic::AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[tokio::test]
async fn what_has_expired_is_not_taken_and_what_is_saved_anew_is() {
    let clock = Arc::new(ManualClock::default());
    let store =
        Store::builder(Arc::new(Memory::default())).clock(Arc::clone(&clock) as Arc<dyn Clock>).build();
    let set = |seconds: i64| clock.0.store(seconds * 1_000_000_000, std::sync::atomic::Ordering::SeqCst);
    let pause = pause(&store, "token");
    set(100);
    pause.save(json("1"), Some(Duration::from_secs(10))).await.unwrap();
    set(110);
    assert_eq!(taken(&pause).await, None);
    pause.save(json("2"), Some(Duration::from_secs(10))).await.unwrap();
    set(119);
    assert_eq!(taken(&pause).await.as_deref(), Some("2"));
    pause.save(json("3"), Some(Duration::MAX)).await.unwrap();
    set(1_000_000_000);
    assert!(pause.discard().await.unwrap());
    assert!(!pause.discard().await.unwrap());
    assert_eq!(taken(&pause).await, None);
}

async fn ids(log: &Log, query: Query) -> Vec<String> {
    let events = feed::list(log, &query).await.unwrap();
    events.into_iter().map(|event| event.id.unwrap().as_str().to_owned()).collect()
}

/// Every combination of a cursor, a task and a limit, against what the whole log says.
#[tokio::test]
async fn a_feed_is_what_is_behind_the_cursor_and_the_newest_of_that() {
    let fault = faulty();
    let store = store(&fault);
    let log = store.log(tenant().log(Kind::Updates, b"s").unwrap());
    assert!(ids(&log, Query::default()).await.is_empty());
    let mut all = Vec::new();
    let mut number = 0;
    for together in [1, 5, 1, 1, 17, 2, 40, 1] {
        let entries: Vec<_> = (0..together)
            .map(|_| {
                let (id, task) = (number.to_string(), if number % 4 == 0 { "a" } else { "b" });
                number += 1;
                all.push((id.clone(), task));
                let event = Event { correlation: task.to_owned(), ..Event::new("told", "1") };
                Entry::new(event).with_id(EntryId::new(id).unwrap())
            })
            .collect();
        log.append_all(entries).await.unwrap();
    }
    for after in (0..all.len()).step_by(3).map(Some).chain([None]) {
        for task in [None, Some("a"), Some("b"), Some("c")] {
            for limit in [None, Some(0), Some(1), Some(7), Some(500)] {
                let behind = &all[after.map_or(0, |after| after + 1)..];
                let of_task: Vec<_> =
                    behind.iter().filter(|(_, own)| task.is_none_or(|task| task == *own)).collect();
                let newest = &of_task[of_task.len() - limit.unwrap_or(usize::MAX).min(of_task.len())..];
                let wanted: Vec<_> = newest.iter().map(|(id, _)| id.clone()).collect();
                let query = Query {
                    correlation: task.map(str::to_owned),
                    after: after.map(|after| EntryId::new(after.to_string()).unwrap()),
                    limit,
                };
                assert_eq!(ids(&log, query.clone()).await, wanted, "{query:?}");
            }
        }
    }
    let unknown = Query { after: Some(EntryId::new("none").unwrap()), ..Query::default() };
    assert_eq!(ids(&log, unknown).await.len(), all.len());
}

#[tokio::test]
async fn a_feed_of_a_log_that_was_trimmed_is_what_is_left_of_what_was_told() {
    let fault = faulty();
    let store = store(&fault);
    let log = store.log(tenant().log(Kind::Updates, b"s").unwrap());
    for number in 0..20 {
        let entry = Entry::new(Event::new("told", "1")).with_id(EntryId::new(number.to_string()).unwrap());
        log.append(entry).await.unwrap();
    }
    let keep = Keep { commits: Some(5), ..Keep::default() };
    log.trim(&Trim { keep, ..Trim::default() }).await.unwrap();

    let left: Vec<_> = (15..20).map(|number| number.to_string()).collect();
    let after = |id: &str| Query { after: Some(EntryId::new(id).unwrap()), ..Query::default() };
    assert_eq!(ids(&log, Query::default()).await, left);
    assert_eq!(ids(&log, Query { limit: Some(2), ..Query::default() }).await, left[3..]);
    assert_eq!(ids(&log, after("17")).await, left[3..]);
    // Its place is gone, but that it was there is known: what is left came behind it.
    assert_eq!(ids(&log, after("3")).await, left);
    assert!(
        log.append(Entry::new(Event::new("told", "1")).with_id(EntryId::new("3").unwrap()))
            .await
            .unwrap()
            .repeated
    );
}

/// A store, as one that is opened when it is first used.
fn open(store: &Store) -> impl Future<Output = icecore_log::Result<Store>> + use<> {
    std::future::ready(Ok(store.clone()))
}

#[tokio::test]
async fn pages_give_each_event_once_and_tell_what_was_trimmed() {
    let store = Store::new(Arc::new(Memory::default()));
    let log = store.log(Tenant::new("acme").unwrap().log(Kind::Updates, b"s").unwrap());
    let nothing = feed::page(&log, None, 5).await.unwrap();
    assert!(nothing.events.is_empty());
    for number in 0..10 {
        // Commits of several events, which a page may end within.
        let events = (0..3).map(|part| Event::new("said", format!("{}", number * 3 + part)));
        log.append(Entry { events: events.collect(), ..Entry::default() }).await.unwrap();
    }
    for limit in 1..=31 {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = feed::page(&log, from, limit).await.unwrap();
            assert!(page.events.len() <= limit);
            if page.events.is_empty() {
                assert_eq!(Some(page.next), from);
                break;
            }
            found.extend(
                page.events.iter().map(|event| String::from_utf8_lossy(&event.event.data).into_owned()),
            );
            assert_eq!(page.next.to_string().parse::<feed::Place>().unwrap(), page.next);
            from = Some(page.next);
        }
        assert_eq!(found, (0..30).map(|number| number.to_string()).collect::<Vec<_>>(), "{limit}");
    }
    let within = feed::page(&log, None, 4).await.unwrap().next;
    let end = feed::page(&log, Some(nothing.next), 100).await.unwrap().next;
    log.trim_to_state().await.unwrap();
    let trimmed = feed::page(&log, Some(within), 4).await.unwrap_err();
    assert_eq!(trimmed.kind(), ErrorKind::NotFound);
    log.append(Event::new("said", "30")).await.unwrap();
    for from in [None, Some(end)] {
        assert_eq!(feed::page(&log, from, 4).await.unwrap().events.len(), 1);
    }
}

#[tokio::test]
async fn bindings_are_listed_by_session_as_they_first_came_and_end_once() {
    let fault = faulty();
    let (store, other) = (store(&fault), store(&fault));
    let bindings = Bindings::new(tenant());
    let triple = |context: Option<&[u8]>, task: &[u8]| Triple {
        trace: b"t".to_vec(),
        context: context.map(<[u8]>::to_vec),
        task: task.to_vec(),
    };
    let list = async |session: &[u8]| {
        let found = Bindings::new(tenant()).list(&other, session).await.unwrap();
        found.iter().map(|json| String::from_utf8(json.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    bindings.save(open(&store), &triple(None, b"1"), Some(b"s"), json(r#"{"n":1}"#)).await.unwrap();
    bindings.save(open(&store), &triple(Some(b""), b"1"), Some(b"s"), json(r#"{"n":2}"#)).await.unwrap();
    bindings.save(open(&store), &triple(None, b"2"), None, json(r#"{"n":3}"#)).await.unwrap();
    bindings.save(open(&store), &triple(None, b"1"), Some(b"s"), json(r#"{"n":4}"#)).await.unwrap();
    assert_eq!(list(b"s").await, [r#"{"n":4}"#, r#"{"n":2}"#]);
    assert!(list(b"none").await.is_empty());

    bindings.end(open(&other), &triple(None, b"1")).await.unwrap();
    bindings.end(open(&other), &triple(None, b"2")).await.unwrap();
    bindings.end(open(&other), &triple(Some(b"x"), b"1")).await.unwrap();
    assert_eq!(list(b"s").await, [r#"{"n":4,"is_terminal":true}"#, r#"{"n":2}"#]);

    // It goes to another session: the first has it no more.
    bindings.save(open(&store), &triple(None, b"1"), Some(b"\xff"), json(r#"{"n":5}"#)).await.unwrap();
    assert_eq!(list(b"s").await, [r#"{"n":2}"#]);
    assert_eq!(list(b"\xff").await, [r#"{"n":5}"#]);
    bindings.end(open(&store), &triple(None, b"1")).await.unwrap();
    assert_eq!(list(b"\xff").await, [r#"{"n":5,"is_terminal":true}"#]);
}
