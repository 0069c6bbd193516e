//! What has expired is not there, from the moment that it is due, however it is asked for; and is removed later by whoever maintains the store.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_log::{Backend, Clock, ErrorKind, Event, LogId, Timestamp, Version};
use icecore_store::retention::{Applied, Hold, Maintained, On, Pace};
use icecore_store::state::{At, Changes, Condition, Consistency, Expiry, Json, Merge, Watched};
use icecore_store::{Log, Settings, Store};
use support::ManualClock;

const MINUTE: i64 = 60_000_000_000;
const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

struct World {
    backend: Arc<dyn Backend>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set(1_000_000 * MINUTE);
        Self { backend: Arc::new(Memory::default()), clock }
    }

    fn store(&self) -> Store {
        self.store_with(|_| ())
    }

    fn store_with(&self, change: impl FnOnce(&mut Settings)) -> Store {
        let mut settings = Settings::default();
        change(&mut settings);
        let backend = Arc::clone(&self.backend);
        Store::builder(backend).clock(Arc::clone(&self.clock) as _).settings(settings).build()
    }

    fn pass(&self, minutes: i64) {
        self.clock.set(self.clock.now().0 + minutes * MINUTE);
    }

    fn inn(&self, minutes: i64) -> Expiry {
        Expiry::At(Timestamp(self.clock.now().0 + minutes * MINUTE))
    }
}

fn sliding(minutes: u64) -> Expiry {
    Expiry::Sliding(Duration::from_secs(60 * minutes))
}

fn id() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn put(key: &str, text: &str, expiry: impl Into<Option<Expiry>>) -> Changes {
    Changes::new().put(key, json(text)).expire(key, expiry)
}

async fn keys(log: &Log) -> Vec<String> {
    log.state().await.unwrap().documents("").map(|(key, _)| key.to_owned()).collect()
}

async fn maintained(store: &Store) -> Maintained {
    let done = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert!(done.first_error.is_none(), "{:?}", done.first_error);
    done
}

/// What maintenance would do, by the keys of logs.
async fn planned(store: &Store) -> BTreeMap<String, Applied> {
    let mut planned = BTreeMap::new();
    store.plan_maintenance(|id, applied| planned.extend([(id.key(), *applied)])).await.unwrap();
    planned
}

async fn names(store: &Store) -> Vec<String> {
    let notes = |number| store.log(LogId::new("_", "icecore", &format!("due-{number:x}")).unwrap());
    let mut names = Vec::new();
    for number in 0..16 {
        names.extend(keys(&notes(number)).await);
    }
    names
}

/// Stores that read in every way that there is: with the state in memory, from commits, from snapshots as a whole and in parts.
fn readers(world: &World) -> Vec<Store> {
    let small = |settings: &mut Settings| (settings.snapshot_commits, settings.snapshot_bytes) = (3, 1);
    vec![
        world.store(),
        world.store_with(|settings| settings.state_bytes_max = 0),
        world.store_with(small),
        world.store_with(|settings| {
            small(settings);
            settings.whole_state_bytes_max = 0;
        }),
    ]
}

#[tokio::test]
async fn what_is_due_is_absent_in_every_read_path() {
    let world = World::new();
    let readers = readers(&world);
    let log = readers[3].log(id());
    log.commit(put("at", r#"{"n":1}"#, world.inn(10))).await.unwrap();
    log.commit(put("slides", "1", sliding(10))).await.unwrap();
    log.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
    for number in 0..12 {
        log.put("stays", Json::of(&number).unwrap()).await.unwrap();
        tokio::task::yield_now().await;
    }
    for reader in &readers {
        assert_eq!(keys(&reader.log(id())).await, ["at", "pinned", "slides", "stays"]);
    }

    // The last moment, and the moment.
    world.clock.set(world.clock.now().0 + 10 * MINUTE - 1);
    for reader in &readers {
        assert!(reader.log(id()).document("at").await.unwrap().is_some());
    }
    world.clock.set(world.clock.now().0 + 1);

    for (number, reader) in readers.iter().chain(&[world.store()]).enumerate() {
        let log = reader.log(id());
        assert_eq!(keys(&log).await, ["pinned", "stays"], "{number}");
        assert_eq!(keys(&log.with(Consistency::Eventual)).await, ["pinned", "stays"], "{number}");
        for key in ["at", "slides"] {
            assert_eq!(log.document(key).await.unwrap(), None, "{number}");
            assert_eq!(log.with(Consistency::Eventual).document(key).await.unwrap(), None, "{number}");
            let state = log.state().await.unwrap();
            assert!(state.get(key).is_none() && state.len() == 2 && state.in_order().len() == 2);
        }
        let page = log.documents("", None, 10).await.unwrap();
        assert_eq!(page.documents.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["pinned", "stays"]);
        let page = log.documents("", None, 1).await.unwrap();
        assert!(page.has_more && page.documents[0].0 == "pinned", "{number}");
        let failed = |condition| log.commit(Changes::new().only_if(condition).put("x", json("1")));
        let error = failed(Condition::Exists("at".to_owned())).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("found")), (ErrorKind::Conflict, Some("0")));
        let there = Condition::Document { key: "at".to_owned(), version: Version(1) };
        assert_eq!(failed(there).await.unwrap_err().kind(), ErrorKind::Conflict);
        let absent = Condition::Absent("at".to_owned());
        log.commit(Changes::new().only_if(absent).put("y", json("1")).delete("y")).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_of_what_has_expired_begins_from_nothing_also_in_parts() {
    for (number, changes) in [
        Changes::new().merge("k", Merge::add(&1).unwrap()),
        Changes::new().patch("k", json("1")),
        Changes::new().put("k", json("1")),
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::new();
        let readers = readers(&world);
        let log = readers[3].log(id());
        log.commit(put("k", "41", world.inn(10))).await.unwrap();
        for number in 0..8 {
            log.put("other", Json::of(&number).unwrap()).await.unwrap();
            tokio::task::yield_now().await;
        }
        world.pass(10);

        log.commit(changes).await.unwrap();

        for reader in readers.iter().chain(&[world.store()]) {
            let found = reader.log(id()).document("k").await.unwrap().unwrap();
            assert_eq!((&found.json[..], found.expiry), (&b"1"[..], None), "{number}");
            let state = reader.log(id()).state().await.unwrap();
            // It is put anew, behind what was there.
            let order: Vec<_> = state.in_order().into_iter().map(|(key, _)| key.to_owned()).collect();
            assert_eq!(order, ["other", "k"], "{number}");
            assert!(reader.log(id()).replay(|_| ()).await.unwrap().is_same);
        }
    }
}

#[tokio::test]
async fn a_sliding_expiry_is_renewed_by_changes_and_by_a_touch_and_by_nothing_else() {
    let world = World::new();
    let (log, reader) = (world.store().log(id()), world.store().log(id()));
    log.commit(put("k", "1", sliding(10))).await.unwrap();
    log.commit(put("fixed", "1", world.inn(25))).await.unwrap();

    world.pass(9);
    log.put("k", json("2")).await.unwrap();
    world.pass(9);
    let touched = log.touch("k").await.unwrap().unwrap();
    log.touch("fixed").await.unwrap();
    let found = reader.document("k").await.unwrap().unwrap();
    assert_eq!((&found.json[..], found.version), (&b"2"[..], touched.version));
    assert_eq!(found.due(), Some(world.clock.now().after(Duration::from_secs(600))));
    world.pass(9);
    // That one of the others was changed renews nothing.
    log.put("beside", json("1")).await.unwrap();
    assert_eq!(keys(&reader).await, ["beside", "k"]);
    world.pass(1);
    assert_eq!(keys(&reader).await, ["beside"]);
    let error = log.touch("k").await.unwrap_err();
    assert_eq!((error.kind(), error.fact("failed")), (ErrorKind::Conflict, Some("k exists")));

    let mut changes = Vec::new();
    let mut history = reader.history("k");
    loop {
        let page = history.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        changes.extend(page.into_iter().map(|one| (one.change, one.applied)));
    }
    assert_eq!(
        changes,
        [("touch", Some(true)), ("put", Some(true)), ("expire", Some(true)), ("put", Some(true))]
    );
}

#[tokio::test]
async fn what_is_said_of_expiry_is_taken_back_and_counts_no_more_once_it_is_deleted() {
    let world = World::new();
    let log = world.store().log(id());
    log.commit(put("k", "1", world.inn(10))).await.unwrap();
    log.commit(put("gone", "1", world.inn(10))).await.unwrap();
    log.expire("k", None).await.unwrap();
    log.commit(Changes::new().delete("gone").put("gone", json("2"))).await.unwrap();
    world.pass(10);

    assert_eq!(keys(&log).await, ["gone", "k"]);
    let error = log.expire("none", sliding(1)).await.unwrap_err();
    assert_eq!(error.fact("failed"), Some("none exists"));
    for bad in [Expiry::Sliding(Duration::ZERO), Expiry::Sliding(Duration::from_secs(u64::MAX))] {
        assert_eq!(log.expire("k", bad).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(log.expire_log(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(log.expire_log(Expiry::Pinned).await.unwrap_err().kind(), ErrorKind::Invalid);
    let own = world.store().log(LogId::new("_", "icecore", "retention").unwrap());
    assert_eq!(own.expire_log(sliding(1)).await.unwrap_err().kind(), ErrorKind::Refused);
    let by_hand = Event {
        meta: [("key".to_owned(), "k".to_owned())].into(),
        ..Event::new("icecore.document.expire", "null")
    };
    let error = log.append(by_hand).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "it was not noted: {error}");
}

/// A value that is stored as what differs from one that expires just then is never without that one.
#[tokio::test]
async fn a_transaction_never_commits_on_what_expired_before_its_commit() {
    let world = World::new();
    let log = world.store().log(id());
    let long = |n: u32| Json::of(&format!("{n}{}", "x".repeat(5_000))).unwrap();
    log.commit(Changes::new().put("k", long(1)).expire("k", world.inn(10))).await.unwrap();
    world.clock.set(world.clock.now().0 + 10 * MINUTE - 1);

    let mut seen = Vec::new();
    log.transact(|state| {
        seen.push(state.get("k").is_some());
        // It takes its time to decide.
        world.clock.set(world.clock.now().0 + 1);
        Ok(Changes::new().put("k", long(2)).put("was", Json::of(&state.get("k").is_some())?))
    })
    .await
    .unwrap();

    assert_eq!(seen, [true, false], "it decided again");
    let state = world.store().log(id()).state().await.unwrap();
    assert_eq!((&state.get("was").unwrap().json[..], state.get("k").unwrap().expiry), (&b"false"[..], None));
    // And what was seen as gone is gone for the commit, also if the clock goes back meanwhile.
    log.commit(put("n", "5", world.inn(10))).await.unwrap();
    world.pass(10);
    log.transact(|state| {
        assert!(state.get("n").is_none());
        world.pass(-5);
        Ok(Changes::new().merge("n", Merge::add(&1)?))
    })
    .await
    .unwrap();
    assert_eq!(&log.document("n").await.unwrap().unwrap().json[..], b"1");
}

#[tokio::test]
async fn the_past_is_shown_as_it_was_and_a_rollback_brings_nothing_back_that_is_due() {
    let world = World::new();
    let (log, began) = (world.store().log(id()), world.clock.now());
    log.commit(put("at", "1", world.inn(10))).await.unwrap();
    log.commit(put("slides", "1", sliding(10))).await.unwrap();
    world.pass(20);
    log.put("late", json("1")).await.unwrap();

    let shown = async |at| {
        let state = log.state_at(at).await.unwrap();
        state.documents("").map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(At::Version(Version(2))).await, ["at", "slides"]);
    assert_eq!(shown(At::Time(began.after(Duration::from_secs(599)))).await, ["at", "slides"]);
    assert_eq!(shown(At::Time(began.after(Duration::from_secs(600)))).await, Vec::<String>::new());
    assert_eq!(shown(At::Version(Version(3))).await, ["late"]);
    assert_eq!(shown(At::Head).await, ["late"]);
    let diff = log.diff(At::Version(Version(2)), At::Head).await.unwrap();
    assert_eq!(diff.differences.len(), 3);

    let fork = LogId::new("acme", "session", "s-2").unwrap();
    log.fork(&fork, At::Version(Version(2))).await.unwrap();
    let fork = world.store().log(fork);
    assert_eq!(keys(&fork).await, ["slides"]);
    log.rollback(At::Version(Version(2))).await.unwrap().unwrap();
    assert_eq!(keys(&log).await, ["slides"]);
    for log in [log, fork] {
        assert_eq!(log.document("slides").await.unwrap().unwrap().expiry, Some(sliding(10)));
    }
    world.pass(10);
    let mut removed = maintained(&world.store()).await.expired_documents;
    world.pass(20);
    removed += maintained(&world.store()).await.expired_documents;
    assert_eq!(removed, 3, "both were noted; and what was not brought back was still stored");
}

#[tokio::test]
async fn a_base_and_a_trim_keep_when_documents_and_the_log_expire() {
    let world = World::new();
    let log = world.store().log(id());
    log.expire_log(sliding(60)).await.unwrap();
    log.commit(put("at", "1", world.inn(10))).await.unwrap();
    log.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
    log.put("plain", json("1")).await.unwrap();
    world.pass(5);
    // That is no use of the log.
    log.write_base().await.unwrap();

    for store in [world.store(), world.store_with(|settings| settings.snapshot_commits = 1)] {
        let state = store.log(id()).state().await.unwrap();
        assert_eq!(state.expiry(), Some(sliding(60)));
        assert_eq!(state.get("pinned").unwrap().expiry, Some(Expiry::Pinned));
        assert!(store.log(id()).replay(|_| ()).await.unwrap().is_same);
    }
    world.pass(5);
    assert_eq!(keys(&world.store().log(id())).await, ["pinned", "plain"]);
    world.pass(50);
    assert_eq!(keys(&world.store().log(id())).await, ["pinned"]);
}

#[tokio::test]
async fn a_watch_tells_that_a_document_has_expired() {
    let world = World::new();
    let log = world.store().log(id());
    log.commit(put("k", "1", world.inn(10))).await.unwrap();
    let mut watch = log.watch("k");
    assert!(matches!(watch.next().await.unwrap(), Watched::Is(_, Some(_))));
    assert!(matches!(watch.next().await.unwrap(), Watched::CaughtUp(_)));

    world.pass(10);

    assert_eq!(watch.next().await.unwrap(), Watched::Is(Version(1), None));
    assert!(!matches!(watch.next().await.unwrap(), Watched::Is(..)), "once");
    log.put("k", json("2")).await.unwrap();
    loop {
        if let Watched::Is(version, found) = watch.next().await.unwrap() {
            assert_eq!((version, found.unwrap().expiry), (Version(2), None));
            break;
        }
    }
}

#[tokio::test]
async fn a_log_that_has_expired_is_gone_and_begins_anew_if_it_is_used_before_it_is_ended() {
    let world = World::new();
    for (expiry, left) in [(world.inn(10), None), (sliding(10), Some(sliding(10)))] {
        let world = World::new();
        let readers = readers(&world);
        let log = readers[3].log(id());
        log.expire_log(expiry).await.unwrap();
        log.put("k", json("1")).await.unwrap();
        log.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
        for number in 0..8 {
            log.put("other", Json::of(&number).unwrap()).await.unwrap();
            tokio::task::yield_now().await;
        }
        world.pass(10);
        for reader in readers.iter().chain(&[world.store()]) {
            assert_eq!(keys(&reader.log(id())).await, ["pinned"], "{expiry:?}");
            assert_eq!(reader.log(id()).document("k").await.unwrap(), None);
            assert_eq!(reader.log(id()).documents("", None, 9).await.unwrap().documents.len(), 1);
        }

        log.merge("k", Merge::add(&1).unwrap()).await.unwrap();

        for reader in readers.iter().chain(&[world.store()]) {
            let log = reader.log(id());
            assert_eq!(keys(&log).await, ["k", "pinned"], "{expiry:?}");
            assert_eq!(&log.document("k").await.unwrap().unwrap().json[..], b"1");
            assert_eq!(log.document("other").await.unwrap(), None);
            assert_eq!(log.state().await.unwrap().expiry(), left);
            assert!(log.replay(|_| ()).await.unwrap().is_same);
        }
    }
}

/// It used to be taken for one into nothing, as what expired with the log is.
#[tokio::test]
async fn in_a_log_that_has_expired_a_merge_into_what_its_own_transaction_puts_is_judged_as_anywhere() {
    let world = World::new();
    let log = world.store().log(id());
    log.expire_log(sliding(10)).await.unwrap();
    world.pass(10);
    let put = Changes::new().put("k", json("1"));
    let append = Merge::append(&["x"]).unwrap();
    let refused = log.transact(|_| Ok(put.clone().merge("k", append.clone()))).await.unwrap_err();
    assert_eq!((refused.kind(), refused.fact("failed")), (ErrorKind::Conflict, Some("k append")));
    log.transact(|_| Ok(put.clone().merge("k", Merge::add(&1)?))).await.unwrap();
    assert_eq!(&log.document("k").await.unwrap().unwrap().json[..], b"2");
}

/// It used to be judged as if it were not due yet where nothing else of the log expires.
#[tokio::test]
async fn a_merge_behind_an_expiry_of_its_own_transaction_that_is_over_is_one_into_nothing() {
    let world = World::new();
    let log = world.store().log(id());
    log.put("k", json("\"text\"")).await.unwrap();
    let over = Changes::new().expire("k", world.inn(0)).merge("k", Merge::add(&1).unwrap());
    log.transact(|_| Ok(over.clone())).await.unwrap();
    assert_eq!(&log.document("k").await.unwrap().unwrap().json[..], b"1");
}

#[tokio::test]
async fn maintenance_removes_what_is_due_ends_logs_that_are_and_forgets_the_notes() {
    let world = World::new();
    let store = world.store();
    let log = |name: &str| store.log(LogId::new("acme", "session", name).unwrap());
    log("docs").commit(put("at", "1", world.inn(10))).await.unwrap();
    log("docs").commit(put("slides", "1", sliding(10))).await.unwrap();
    log("docs").put("stays", json("1")).await.unwrap();
    log("ends").put("k", json("1")).await.unwrap();
    log("ends").expire_log(sliding(10)).await.unwrap();
    log("pinned")
        .commit(put("p", "1", Expiry::Pinned).put("k", json("1")).expire_log(world.inn(10)))
        .await
        .unwrap();
    log("held").put("k", json("1")).await.unwrap();
    log("held").expire_log(world.inn(10)).await.unwrap();
    let hold = Hold { on: On::Log(log("held").id().clone()), from: None, until: None, reason: String::new() };
    store.retention().unwrap().hold("h", &hold).await.unwrap();
    assert_eq!(names(&store).await.len(), 4);

    world.pass(8);
    log("docs").touch("slides").await.unwrap();
    assert_eq!((maintained(&store).await.expired_documents, names(&store).await.len()), (0, 4));
    // Through the end of the ten minutes in which it is due.
    world.pass(12);
    log("docs").touch("slides").await.unwrap_err();
    let told_before = planned(&store).await;
    assert_eq!(told_before, planned(&store).await, "nothing was removed");
    let done = maintained(&store).await;

    // What is held is not told of.
    let told = [("docs", Applied::DocumentsExpired(2)), ("ends", Applied::LogExpired)];
    let of_pinned = ("pinned", Applied::DocumentsExpired(1));
    let told = told.into_iter().chain([of_pinned]);
    assert_eq!(told_before, told.map(|(key, applied)| (key.to_owned(), applied)).collect());
    assert_eq!((done.expired_documents, done.expired_logs, done.held), (3, 1, 1));
    assert_eq!(keys(&log("docs")).await, ["stays"]);
    let removed = log("docs").head().await.unwrap().unwrap().version;
    assert_eq!(log("docs").state_at(At::Version(Version(removed.0 - 1))).await.unwrap().len(), 3);
    assert_eq!(log("ends").state().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(keys(&log("pinned")).await, ["p"]);
    assert_eq!(names(&store).await.len(), 2, "of what is pinned, and of what is held");
    let done = maintained(&store).await;
    assert_eq!((done.expired_documents, done.expired_logs, done.held), (0, 0, 0), "once");
    store.retention().unwrap().release("h").await.unwrap();
    world.pass(80);
    assert_eq!(maintained(&store).await.expired_logs, 1);
    assert_eq!(names(&store).await.len(), 1);
}

/// It was told once for each note of it.
#[tokio::test]
async fn a_log_of_which_much_has_expired_at_different_times_is_told_of_once_by_a_dry_run() {
    let world = World::new();
    let log = world.store().log(id());
    for (key, minutes) in [("a", 10), ("b", 40), ("c", 70)] {
        log.commit(put(key, "1", world.inn(minutes))).await.unwrap();
    }
    log.put("stays", json("1")).await.unwrap();
    world.pass(120);

    let mut told = Vec::new();
    let store = world.store();
    store.plan_maintenance(|id, applied| told.push((id.clone(), *applied))).await.unwrap();

    assert_eq!(told, [(id(), Applied::DocumentsExpired(3))]);
}

#[tokio::test]
async fn what_was_renewed_is_looked_at_again_when_it_is_due() {
    let world = World::new();
    let (store, log) = (world.store(), world.store().log(id()));
    log.commit(put("k", "1", sliding(30))).await.unwrap();
    log.expire_log(sliding(60)).await.unwrap();
    for _ in 0..6 {
        world.pass(25);
        log.touch("k").await.unwrap();
        assert_eq!(maintained(&store).await.expired_documents, 0);
        assert!(!names(&store).await.is_empty());
    }
    world.pass(40);
    assert_eq!(maintained(&store).await.expired_documents, 1);
    // That was no use of the log.
    assert_eq!(log.state().await.unwrap().len(), 0);
    world.pass(30);
    assert_eq!(maintained(&store).await.expired_logs, 1);
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_is_noted_where_it_is_copied_to() {
    let (from, to) = (World::new(), World::new());
    from.store().log(id()).commit(put("k", "1", from.inn(10))).await.unwrap();
    let all = icecore_log::LogPrefix::all();
    icecore_store::copy::copy(&from.store(), &to.store(), &all, |_| ()).await.unwrap();

    for _ in 0..4 {
        to.pass(10);
        maintained(&to.store()).await;
    }

    let version = to.store().log(id()).head().await.unwrap().unwrap().version;
    assert_eq!(version, Version(2), "it was removed there");
}
