//! Transactions over several logs: all or none of them, whatever fails, whoever races.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/hooked.rs"]
mod hooked;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hooked::{Hooked, shared, store_over};
use icecore_embedded::Memory;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, EntryId, Error, ErrorKind, LogId, Result, Timestamp, Version};
use icecore_store::state::{Changes, Condition, Expiry, Json, Merge, States};
use icecore_store::{Receipt, Store};
use support::*;

fn id(key: &str) -> LogId {
    LogId::new("acme", "account", key).unwrap()
}

fn ids(keys: &str) -> Vec<LogId> {
    keys.split_whitespace().map(id).collect()
}

fn number(number: i64) -> Json {
    Json::of(&number).unwrap()
}

fn has(states: &States, key: &str) -> i64 {
    states.of(&id(key)).unwrap().get("credits").map_or(0, |document| document.read().unwrap())
}

async fn credits(store: &Store, key: &str) -> i64 {
    store.log(id(key)).document("credits").await.unwrap().map_or(0, |document| document.read().unwrap())
}

async fn version(store: &Store, key: &str) -> u64 {
    store.log(id(key)).head().await.unwrap().map_or(0, |head| head.version.0)
}

fn set(key: &str, credits: i64, entry: &str) -> (LogId, Changes) {
    let changes = Changes::new().put("credits", number(credits));
    (id(key), if entry.is_empty() { changes } else { changes.with_id(EntryId::new(entry).unwrap()) })
}

async fn moves(store: &Store, from: &str, to: &str, amount: i64) -> Result<Vec<Receipt>> {
    let logs = [id(from), id(to)];
    store
        .transact(&logs, |states| {
            let (has, gets) = (has(states, from), has(states, to));
            Ok(vec![set(from, has - amount, ""), set(to, gets + amount, "")])
        })
        .await
}

fn facts(error: &Error, wanted: &str) -> Vec<String> {
    error.facts().filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).collect()
}

#[tokio::test]
async fn changes_of_several_logs_are_committed_together_and_what_was_only_read_says_so() {
    let store = store(&faulty());
    store.log(id("a")).put("credits", number(10)).await.unwrap();
    let receipts = store
        .transact(&ids("c a b"), |states| {
            assert_eq!(states.of(&id("b")).unwrap().version, Version::ZERO);
            Ok(vec![set("b", has(states, "a") - 7, ""), set("a", 7, "")])
        })
        .await
        .unwrap();
    let told: Vec<_> = receipts.iter().map(|receipt| (receipt.log.key(), receipt.version.0)).collect();
    assert_eq!(told, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!((credits(&store, "a").await, credits(&store, "b").await), (7, 3));
    assert_eq!(version(&store, "c").await, 1, "it was read, and says that it ended there");
    assert!(store.log(id("c")).state().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_made_by_racing_transactions_beside_appends_and_every_look_is_of_one_moment() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend)];
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        stores[0].log(id(key)).put("credits", number(100)).await.unwrap();
    }
    let mut tasks = Vec::new();
    for task in 0..8_usize {
        let store = stores[task % 2].clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..12 {
                let (from, to) = (keys[(task + round) % 4], keys[(task + round + 1 + round % 3) % 4]);
                moves(&store, from, to, 1 + round as i64).await.unwrap();
                if task < 4 {
                    store.append(&id(from), event("beside")).await.unwrap();
                }
            }
        }));
    }
    let looking = {
        let store = stores[1].clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                let mut sum = 0;
                let receipts = store
                    .transact(&ids("a b c d"), |states| {
                        sum = keys.iter().map(|key| has(states, key)).sum();
                        Ok(Vec::new())
                    })
                    .await
                    .unwrap();
                assert_eq!((receipts, sum), (Vec::new(), 400));
            }
        })
    };
    for task in tasks {
        task.await.unwrap();
    }
    looking.await.unwrap();
    let mut sum = 0;
    for key in keys {
        sum += credits(&store(&backend), key).await;
    }
    assert_eq!(sum, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_each_rely_on_what_the_other_changes_one_decides_again() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend)];
    for round in 0..30 {
        let (ann, bob) = (format!("ann-{round}"), format!("bob-{round}"));
        let logs = [id(&ann), id(&bob)];
        store(&backend).commit(vec![set(&ann, 1, ""), set(&bob, 1, "")]).await.unwrap();
        let leave = |store: Store, own: String, other: String, logs: [LogId; 2]| async move {
            store
                .transact(&logs, |states| {
                    let may_go = has(states, &own) + has(states, &other) > 1;
                    Ok(if may_go { vec![set(&own, 0, "")] } else { Vec::new() })
                })
                .await
                .unwrap()
                .len()
        };
        let first = tokio::spawn(leave(stores[0].clone(), ann.clone(), bob.clone(), logs.clone()));
        let second = tokio::spawn(leave(stores[1].clone(), bob.clone(), ann.clone(), logs));
        assert_eq!(first.await.unwrap() + second.await.unwrap(), 1, "one of them stays");
    }
}

/// Runs what another process does, to its end, in the middle of a closure.
fn meanwhile<T: Send>(other: impl Future<Output = Result<T>> + Send) {
    std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        scope.spawn(move || drop(runtime().block_on(other).unwrap()));
    });
}

#[tokio::test]
async fn what_was_only_read_must_still_be_so_as_it_is_committed() {
    let backend = faulty();
    let ours = store(&backend);
    // By this process or by another.
    for other in [ours.clone(), store(&backend)] {
        ours.commit(vec![set("a", 1, ""), set("b", 1, "")]).await.unwrap();
        let (mut seen, other) = (Vec::new(), other.log(id("b")));
        ours.transact(&ids("a b"), |states| {
            seen.push(has(states, "b"));
            if seen.len() == 1 {
                meanwhile(other.put("credits", number(5)));
            }
            Ok(vec![set("a", has(states, "b"), "")])
        })
        .await
        .unwrap();
        assert_eq!((seen, credits(&ours, "a").await), (vec![1, 5], 5));
    }
}

#[tokio::test]
async fn what_was_decided_apart_is_committed_only_behind_what_was_seen() {
    let store = store(&faulty());
    store.log(id("a")).put("credits", number(10)).await.unwrap();
    let states = store.states(&ids("b a")).await.unwrap();
    let seen: Vec<_> = states.iter().map(|(log, state)| (log.key(), state.version.0)).collect();
    assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 0)]);
    // The other one, which was only looked at, goes on meanwhile.
    store.log(id("a")).put("credits", number(11)).await.unwrap();
    assert_eq!(store.commit_behind(&states, vec![set("b", 1, "")]).await.unwrap(), None);
    assert_eq!((version(&store, "a").await, version(&store, "b").await), (2, 0));

    let states = store.states(&ids("b a")).await.unwrap();
    let receipts = store.commit_behind(&states, vec![set("b", has(&states, "a"), "once")]).await.unwrap();
    assert_eq!(receipts.map(|receipts| receipts.len()), Some(1));
    assert_eq!((credits(&store, "b").await, version(&store, "a").await), (11, 3));
    // Again, on what is there now: it was done.
    let states = store.states(&ids("b a")).await.unwrap();
    let again = store.commit_behind(&states, vec![set("b", 11, "once")]).await.unwrap().unwrap();
    assert!(again.iter().all(|receipt| receipt.repeated && receipt.version == Version(1)));
    let error = store.commit_behind(&states, vec![set("c", 1, "")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = store.commit_behind(&states, vec![set("b", 1, ""), set("b", 2, "")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn every_condition_of_every_log_is_told() {
    let store = store(&faulty());
    store.commit(vec![set("a", 1, ""), set("b", 2, "")]).await.unwrap();
    let only_if = |key: &str, condition| (id(key), Changes::new().only_if(condition).put("x", number(1)));
    let text = (id("c"), Changes::new().put("credits", Json::text("\"text\"").unwrap()));
    store.commit(vec![text, set("d", 1, "")]).await.unwrap();
    let error = store
        .commit(vec![
            only_if("a", Condition::Log(Version(7))),
            only_if("b", Condition::Absent("credits".into())),
            (id("c"), Changes::new().merge("credits", Merge::add(&1).unwrap())),
            only_if("d", Condition::Exists("credits".into())),
        ])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(facts(&error, "log"), ids("a b c").iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(facts(&error, "failed").len(), 3, "{error}");
    assert_eq!(facts(&error, "found"), ["1", "1", "1"]);
    // One that commits nothing itself still has its say.
    let error = store
        .commit(vec![set("a", 5, ""), (id("b"), Changes::new().only_if(Condition::Exists("x".into())))])
        .await
        .unwrap_err();
    assert_eq!(facts(&error, "failed"), ["x exists"]);
    assert_eq!(credits(&store, "a").await, 1);
}

#[tokio::test]
async fn what_cannot_be_is_said_before_anything_is_read() {
    let backend = faulty();
    let store = store(&backend);
    let globex = LogId::new("globex", "account", "a").unwrap();
    let set_b_with_id = set("b", 1, "id-1");
    for (logs, changes, told) in [
        (ids("a b a"), vec![], "Name each log once"),
        (vec![id("a"), globex], vec![], "of one tenant"),
        (ids("a"), vec![set("b", 1, "")], "Name it among"),
        (ids("a b"), vec![set("a", 1, ""), set("b", 1, ""), set("a", 2, "")], "of a log together"),
        (ids("a b"), vec![set("a", 1, ""), set_b_with_id], "or to none"),
        ((0..1_001).map(|n| id(&n.to_string())).collect(), vec![], "fewer logs"),
    ] {
        let error = store.transact(&logs, |_| Ok(changes.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    assert_eq!(store.transact(&[], |_| Ok(Vec::new())).await.unwrap(), []);
    let error = store.transact(&ids("a b"), |states| states.of(&id("c")).map(|_| Vec::new())).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(backend.sent().len(), 0);
}

/// Whatever becomes of one try, with ids a retry says what was done.
#[tokio::test]
async fn with_ids_a_retry_does_it_once_whatever_was_lost() {
    for fates in [
        vec![Fate::LoseAnswer],
        vec![Fate::LoseRequest],
        vec![Fate::Refuse],
        vec![Fate::RefuseFirst],
        vec![Fate::Delay],
        vec![Fate::LoseRequest, Fate::LoseAnswer, Fate::LoseRequest],
    ] {
        let backend = faulty();
        let store = store(&backend);
        store.log(id("a")).put("credits", number(1)).await.unwrap();
        backend.plan(fates.clone());
        let add = |key: &str| {
            let changes = Changes::new().merge("credits", Merge::add(&1).unwrap());
            (id(key), changes.with_id(EntryId::new("id-1").unwrap()))
        };
        let both = || vec![add("a"), add("b")];
        let first = store.commit(both()).await;
        backend.land().await;
        let again = store.commit(both()).await.unwrap();
        match first {
            Ok(first) => {
                let places = |receipts: &[Receipt]| {
                    let places = receipts.iter().map(|receipt| (receipt.log.clone(), receipt.version));
                    places.collect::<Vec<_>>()
                };
                assert_eq!(places(&first), places(&again), "{fates:?}");
                assert!(again.iter().all(|receipt| receipt.repeated), "{fates:?}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{fates:?}: {error}"),
        }
        assert_eq!((credits(&store, "a").await, credits(&store, "b").await), (2, 1), "{fates:?}");
        assert_eq!((version(&store, "a").await, version(&store, "b").await), (2, 1), "{fates:?}");
    }
}

fn hasty(backend: &Arc<Fault>) -> Store {
    store_with(backend, |settings| settings.append_timeout = Duration::from_millis(60))
}

#[tokio::test]
async fn what_is_not_known_in_time_holds_nobody_up_and_lands_whole_or_not_at_all() {
    for is_overtaken in [false, true] {
        let backend = faulty();
        let store = hasty(&backend);
        store.log(id("b")).put("credits", number(5)).await.unwrap();
        backend.plan([Fate::Delay; 64]);
        let error = store.commit(vec![set("a", 1, "id-1"), set("b", 6, "id-1")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
        backend.forget_plan();
        if is_overtaken {
            store.append(&id("b"), event("first")).await.unwrap();
        }
        backend.land().await;
        let landed = (credits(&store, "a").await, credits(&store, "b").await);
        assert_eq!(landed, if is_overtaken { (0, 5) } else { (1, 6) });
        store.append(&id("a"), event("goes on")).await.unwrap();
        let receipts = store.commit(vec![set("a", 1, "id-1"), set("b", 6, "id-1")]).await.unwrap();
        assert!(receipts.iter().all(|receipt| receipt.repeated != is_overtaken));
        assert_eq!((credits(&store, "a").await, credits(&store, "b").await), (1, 6));
    }
}

#[tokio::test]
async fn an_id_that_is_in_some_of_the_logs_or_was_of_other_changes_is_refused() {
    let store = store(&faulty());
    store.log(id("a")).append(entry("id-1", "alone")).await.unwrap();
    let error = store.commit(vec![set("a", 1, "id-1"), set("b", 1, "id-1")]).await.unwrap_err();
    assert_eq!((error.kind(), version(&store, "b").await), (ErrorKind::Conflict, 0), "{error}");
    assert!(error.to_string().contains("use a new id"), "{error}");
    store.commit(vec![set("a", 1, "id-2"), set("b", 1, "id-2")]).await.unwrap();
    let error = store.commit(vec![set("a", 1, "id-2"), set("b", 9, "id-2")]).await.unwrap_err();
    assert_eq!((error.kind(), credits(&store, "b").await), (ErrorKind::Conflict, 1), "{error}");
    // Whatever the conditions say of what it has made itself.
    let once = |key: &str| {
        let (log, changes) = set(key, 3, "id-3");
        (log, changes.only_if(Condition::Log(Version(if key == "a" { 2 } else { 1 }))))
    };
    for is_again in [false, true] {
        let receipts = store.commit(vec![once("a"), once("b")]).await.unwrap();
        assert!(receipts.iter().all(|receipt| receipt.repeated == is_again));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_leaves_all_or_none_and_the_logs_go_on() {
    for is_hanging in [false, true] {
        let (hooked, backend) = shared(Hooked::default());
        let store = store_over(&backend, |settings| settings.append_timeout = Duration::from_millis(300));
        hooked.hangs.store(is_hanging, Ordering::SeqCst);
        for round in 0..50 {
            let both = vec![set("a", round, ""), set("b", round, "")];
            let going = store.commit(both);
            let _ = tokio::time::timeout(Duration::from_micros(round as u64 * 10), going).await;
            if is_hanging {
                break;
            }
        }
        if is_hanging {
            let error = store.commit(vec![set("a", 1, ""), set("b", 1, "")]).await.unwrap_err();
            assert!([ErrorKind::Unavailable, ErrorKind::Unknown].contains(&error.kind()), "{error}");
            continue;
        }
        store.append(&id("a"), event("goes on")).await.unwrap();
        store.append(&id("b"), event("goes on")).await.unwrap();
        assert_eq!(credits(&store, "a").await, credits(&store, "b").await);
        assert_eq!(version(&store, "a").await, version(&store, "b").await);
    }
}

#[tokio::test]
async fn after_a_panic_below_the_outcome_is_unknown_and_the_logs_go_on() {
    for was_carried_out in [true, false] {
        let (hooked, backend) = shared(Hooked::default());
        let store = store_over(&backend, |_| ());
        store.log(id("a")).put("credits", number(1)).await.unwrap();
        let panics = if was_carried_out { &hooked.panics } else { &hooked.panics_before };
        panics.store(true, Ordering::SeqCst);
        let both = || vec![set("a", 2, "id-1"), set("b", 2, "id-1")];
        assert_eq!(store.commit(both()).await.unwrap_err().kind(), ErrorKind::Unknown);
        store.append(&id("a"), event("goes on")).await.unwrap();
        store.append(&id("b"), event("goes on")).await.unwrap();
        let found = (credits(&store, "a").await, credits(&store, "b").await);
        assert_eq!(found, if was_carried_out { (2, 2) } else { (1, 0) });
        let receipts = store.commit(both()).await.unwrap();
        assert!(receipts.iter().all(|receipt| receipt.repeated == was_carried_out));
    }
}

#[tokio::test]
async fn it_gets_its_turn_beside_others_that_never_stop_appending() {
    let (hooked, backend) = shared(Hooked::default());
    let store = store_over(&backend, |_| ());
    let running: Vec<_> = (0..16)
        .map(|task| {
            let (store, log) = (store.clone(), id(if task % 2 == 0 { "a" } else { "b" }));
            tokio::spawn(async move {
                loop {
                    store.append(&log, event("busy")).await.unwrap();
                }
            })
        })
        .collect();
    // And other processes are first for some rounds.
    hooked.rivals.store(5, Ordering::SeqCst);
    for _ in 0..20 {
        moves(&store, "a", "b", 1).await.unwrap();
    }
    running.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!((credits(&store, "a").await, credits(&store, "b").await), (-20, 20));
}

#[tokio::test]
async fn what_expires_before_the_commit_is_not_what_it_was_decided_on() {
    let memory: Arc<dyn Backend> = Arc::new(Memory::default());
    let clock = Arc::new(ManualClock::default());
    let store = Store::builder(memory).clock(Arc::clone(&clock) as _).build();
    let until = |at| Changes::new().put("credits", number(9)).expire("credits", Expiry::At(Timestamp(at)));
    store.commit(vec![(id("a"), until(1_000)), set("b", 1, "")]).await.unwrap();
    let mut seen = Vec::new();
    store
        .transact(&ids("a b"), |states| {
            seen.push(has(states, "a"));
            // Time goes on while it is decided.
            clock.set(2_000);
            Ok(vec![set("b", has(states, "a"), "")])
        })
        .await
        .unwrap();
    assert_eq!((seen, credits(&store, "b").await), (vec![9, 0], 0));
}

#[tokio::test]
async fn an_error_of_the_closure_ends_it_unless_it_was_shown_different_moments() {
    let backend = faulty();
    let (ours, other) = (store(&backend), store(&backend));
    ours.commit(vec![set("a", 1, ""), set("b", 1, "")]).await.unwrap();
    let mut seen = Vec::new();
    let error = ours
        .transact(&ids("a b"), |states| {
            seen.push((has(states, "a"), has(states, "b")));
            if seen.len() == 1 {
                // As if after the one was read and before the other was, as far as this can tell.
                meanwhile(other.commit(vec![set("a", 2, ""), set("b", 2, "")]));
            }
            Err(Error::new(ErrorKind::Invalid, "deciding").advise("No"))
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(seen, [(1, 1), (2, 2)]);
}

#[tokio::test]
async fn a_log_that_was_deleted_says_so_and_nothing_is_written() {
    let backend = faulty();
    let store = store(&backend);
    store.commit(vec![set("a", 1, ""), set("b", 1, "")]).await.unwrap();
    store.delete_log(&id("b")).await.unwrap();
    let error = store.commit(vec![set("a", 2, ""), set("b", 2, "")]).await.unwrap_err();
    assert_eq!((error.kind(), credits(&store, "a").await), (ErrorKind::NotFound, 1), "{error}");
}

/// Against a model, with faults by chance.
#[tokio::test]
async fn whatever_fails_a_log_has_what_its_neighbours_have() {
    let backend = faulty();
    let store = hasty(&backend);
    let mut chance = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |bound: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % bound
    };
    let mut committed: BTreeMap<String, bool> = BTreeMap::new();
    for round in 0..150 {
        let fates = [Fate::Pass, Fate::LoseAnswer, Fate::LoseRequest, Fate::Refuse, Fate::Delay];
        let count = if next(4) == 0 { 64 } else { next(4) };
        backend.plan((0..count).map(|_| fates[next(5) as usize]).collect::<Vec<_>>());
        let name = format!("id-{round}");
        let of = |key: &str| {
            let changes = Changes::new().put(name.clone(), number(round));
            (id(key), changes.with_id(EntryId::new(&name).unwrap()))
        };
        let mut keys = vec!["a", "b", "c"];
        keys.rotate_left(next(3) as usize);
        keys.truncate(2);
        let told = store.commit(keys.iter().map(|key| of(key)).collect()).await;
        backend.forget_plan();
        // Another process may be first in one of them.
        if next(2) == 0 {
            support::store(&backend).append(&id(keys[0]), event("first")).await.unwrap();
        }
        if next(2) == 0 {
            backend.land().await;
        }
        let is_known = told.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::Unknown);
        let mut there = Vec::new();
        for key in &keys {
            // A fresh process.
            let log = support::store(&backend).log(id(key));
            there.push(log.document(&name).await.unwrap().is_some());
        }
        assert_eq!(there[0], there[1], "round {round}: {told:?}");
        assert!(!is_known || there[0] == told.is_ok(), "round {round}: {told:?}");
        committed.insert(name, there[0]);
    }
    assert!(committed.values().filter(|is_there| **is_there).count() > 50);
}
