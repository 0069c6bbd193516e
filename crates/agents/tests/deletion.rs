//! Deleting a session takes all of it and nothing of anybody else, whenever it is interrupted, and may be followed by another of its id.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "../../store/tests/support/mortal.rs"]
mod mortal;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use icecore_agents::artifacts::{Owner, What};
use icecore_agents::binding::Triple;
use icecore_agents::feed::{self, Query};
use icecore_agents::listing::Listed;
use icecore_agents::{Artifacts, Bindings, Deletion, Kind, Listing, Tenant, deletion, memory};
use icecore_embedded::Memory;
use icecore_log::{Backend, Entry, EntryId, ErrorKind, Event, LogId};
use icecore_store::retention::{Hold, On};
use icecore_store::state::Json;
use icecore_store::{Range, Store};
use mortal::Mortal;
use support::systems;

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn log(kind: Kind, id: &str) -> LogId {
    tenant().log(kind, id.as_bytes()).unwrap()
}

async fn say(store: &Store, kind: Kind, id: &str, data: String) {
    store.log(log(kind, id)).append(Event::new("said", data)).await.unwrap();
}

async fn put(store: &Store, kind: Kind, id: &str, key: &str, json: String) {
    store.log(log(kind, id)).put(key, Json::text(json).unwrap()).await.unwrap();
}

/// A trace of a session's own: all that is kept by trace.
async fn trace(store: &Store, trace: &str, session: &str) {
    for kind in [Kind::Trace, Kind::Planner] {
        say(store, kind, trace, format!("{{\"of\":\"{session}\"}}")).await;
    }
    put(store, Kind::Flow, trace, "flow", "{}".to_owned()).await;
    put(store, Kind::Trajectory, trace, session, r#"{"query":"first"}"#.to_owned()).await;
    put(store, Kind::Trajectory, trace, session, r#"{"query":"why"}"#.to_owned()).await;
}

/// All that there may be of a session; each trace is named in one place only.
async fn fill(store: &Store, s: &str) {
    let named =
        |by: &str| format!("{{\"trace_id\":\"{s}-{by}\",\"payload\":{{\"trace_id\":\"elsewhere\"}}}}");
    say(store, Kind::Updates, s, named("update")).await;
    say(store, Kind::Steering, s, named("steering")).await;
    let saved = Event::new("trajectory.saved", format!("\"{s}-saved\""));
    store.log(log(Kind::Traces, s)).append(saved).await.unwrap();
    put(store, Kind::Tasks, s, "t-1", named("task")).await;
    let within = format!(r#"{{"trace_id":null,"context_snapshot":{}}}"#, named("snapshot"));
    put(store, Kind::Tasks, s, "t-2", within).await;
    let trace_id = format!("{s}-binding");
    let triple = Triple { trace: trace_id.clone().into(), context: None, task: b"r".to_vec() };
    let json = Json::text(format!(r#"{{"trace_id":"{trace_id}"}}"#)).unwrap();
    let opened = async { Ok(store.clone()) };
    Bindings::new(tenant()).save(opened, &triple, Some(s.as_bytes()), json).await.unwrap();
    let about = format!(r#"{{"scope":{{"trace_id":"{s}-artifact","user_id":"ann"}}}}"#);
    let what = What { namespace: None, trace: None, about: Json::text(about).unwrap() };
    let owner = Owner { tenant: None, user: Some(b"ann".to_vec()), session: s.into() };
    let owned = Artifacts::new(store.clone(), tenant()).of(&owner).unwrap();
    owned.put(what, Bytes::from_static(b"content")).await.unwrap();
    for by in ["update", "steering", "saved", "task", "snapshot", "binding", "artifact"] {
        trace(store, &format!("{s}-{by}"), s).await;
    }
    say(store, Kind::Trace, &format!("session:{s}"), "{}".to_owned()).await;
    for key in [format!("acme:ann:{s}"), format!("kv:v1:acme:ann:{s}:session:notes:cart")] {
        put(store, Kind::Memory, &key, memory::KEY, "{}".to_owned()).await;
    }
}

/// The events and documents of every log of the tenant that has any, but for where artifacts are looked for by their id.
async fn all(store: &Store) -> BTreeMap<String, (usize, usize)> {
    let mut found = BTreeMap::new();
    for id in store.all_logs(&icecore_log::LogPrefix::tenant("acme").unwrap()).await.unwrap() {
        let log = store.log(id.clone());
        let events = feed::list(&log, &Query::default()).await.unwrap();
        let events = events.iter().filter(|event| event.event.kind != "artifacts.begun").count();
        let documents = log.state().await.unwrap().documents("").count();
        if events + documents > 0 && id.kind() != Kind::ArtifactIds.name() {
            found.insert(id.as_str().to_owned(), (events, documents));
        }
    }
    found
}

/// What is left of a log's commits, but for its base.
async fn commits(store: &Store, id: &LogId) -> usize {
    let log = store.log(id.clone());
    let mut reader = log.read(Range::default());
    let page = reader.next_page().await.unwrap();
    page.into_iter()
        .flat_map(icecore_store::RecordedCommit::into_events)
        .filter(|event| !event.event.kind.starts_with("icecore.base"))
        .count()
}

async fn delete(store: &Store, session: &str) -> icecore_log::Result<deletion::Deleted> {
    Deletion::new(store.clone(), tenant()).delete(session.as_bytes()).await
}

/// Every session that is listed, in pages of so many.
async fn listed(store: &Store, limit: usize) -> Vec<Listed> {
    let listing = Listing::new(store.clone(), tenant());
    let (mut sessions, mut after) = (Vec::new(), None);
    loop {
        let page = listing.page(after.as_deref(), limit).await.unwrap();
        assert!(page.sessions.len() <= limit);
        sessions.extend(page.sessions);
        after = page.next;
        if after.is_none() {
            sessions.sort_by(|a: &Listed, b| a.key.cmp(&b.key));
            return sessions;
        }
    }
}

#[tokio::test]
async fn a_session_is_listed_once_as_long_as_something_of_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    for (name, stores) in systems(&folder).await {
        let [store, other] = [&stores[0], &stores[1]];
        assert_eq!(listed(store, 1).await, []);
        fill(store, "s-1").await;
        // Of some only this or that; names that are awkward; one of nobody, and of another tenant.
        say(store, Kind::Steering, "a/b:c", "{}".to_owned()).await;
        put(store, Kind::Tasks, "s-10", "t-1", "{}".to_owned()).await;
        put(store, Kind::Conversation, "\u{fffd}", "c", "{}".to_owned()).await;
        say(store, Kind::Updates, &"long".repeat(200), "{}".to_owned()).await;
        for owner in ["", "only artifacts"] {
            let owner = Owner { tenant: None, user: None, session: owner.into() };
            let what = What { namespace: None, trace: None, about: Json::text("{}").unwrap() };
            let owned = Artifacts::new(store.clone(), tenant()).of(&owner).unwrap();
            owned.put(what, Bytes::from_static(b"content")).await.unwrap();
        }
        let elsewhere = Tenant::new("acme2").unwrap().log(Kind::Updates, b"theirs").unwrap();
        store.log(elsewhere).append(Event::new("said", "{}")).await.unwrap();

        for limit in [1, 2, 1_000] {
            let found = listed(other, limit).await;
            let ids: Vec<_> = found.iter().map(Listed::id).collect();
            let named = [Some("a/b:c"), Some("only artifacts"), Some("s-1"), Some("s-10"), None];
            assert_eq!(ids[..5], named, "{name}, {limit}");
            assert_eq!((ids.len(), ids[5]), (6, Some("\u{fffd}")), "{name}, {limit}");
            let all = ["updates", "steering", "tasks", "traces", "conversation", "artifacts"];
            assert_eq!((&*found[2].kinds, &*found[0].kinds), (&all[..], &all[1..2]), "{name}, {limit}");
        }
        let before = listed(store, 2).await;
        say(store, Kind::Updates, "s-10", "{}".to_owned()).await;
        let after = listed(store, 2).await;
        assert!(after[3].active >= before[3].active && after[3].active > before[0].active, "{name}");
        assert_eq!(after[2], before[2], "{name}");

        for gone in ["s-1", "only artifacts"] {
            delete(store, gone).await.unwrap();
        }
        assert_eq!(listed(other, 2).await.len(), 4, "{name}");
        fill(store, "s-1").await;
        store.delete_log(&log(Kind::Steering, "a/b:c")).await.unwrap();
        assert_eq!(listed(other, 2).await.len(), 4, "{name}");
        for wrong in ["", "6.", "0.!", "x"] {
            let error = Listing::new(store.clone(), tenant()).page(Some(wrong), 1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {wrong}");
        }
    }
}

#[tokio::test]
async fn all_of_a_session_goes_nothing_of_another_and_there_may_be_one_of_its_id_again() {
    let folder = tempfile::tempdir().unwrap();
    for (name, stores) in systems(&folder).await {
        let [store, other] = [&stores[0], &stores[1]];
        fill(store, "s-2").await;
        let without = all(store).await;
        fill(store, "s-1").await;
        let with = all(store).await;
        let deletion = Deletion::new(other.clone(), tenant());
        let planned = deletion.plan(b"s-1").await.unwrap();
        assert_eq!(all(store).await, with, "{name}: a plan changes nothing");

        let deleted = deletion.delete(b"s-1").await.unwrap();

        assert_eq!(deleted, planned, "{name}");
        assert_eq!(all(store).await, without, "{name}");
        let of = |kind: Kind| deleted.logs.get(kind.name()).copied();
        assert_eq!((of(Kind::Trace), of(Kind::Flow), of(Kind::Trajectory)), (Some(8), Some(7), Some(7)));
        assert_eq!((of(Kind::Binding), of(Kind::Memory), of(Kind::Updates)), (Some(1), Some(2), Some(1)));
        assert_eq!((deleted.artifacts, deleted.artifact_bytes), (1, 7), "{name}");
        assert!(deleted.commits > 30 && deleted.bytes > 1_000, "{name}: {deleted:?}");
        assert!(deleted.shared_traces.is_empty() && deleted.unsure_memory.is_empty(), "{name}");
        // Nor is it in the past of any log.
        for id in store.all_logs(&icecore_log::LogPrefix::tenant("acme").unwrap()).await.unwrap() {
            if id.as_str().contains("s-1") {
                assert_eq!(commits(store, &id).await, 0, "{name}: {id}");
            }
        }
        assert_eq!(delete(store, "s-1").await.unwrap(), deletion::Deleted::default(), "{name}: twice");
        fill(store, "s-1").await;
        assert_eq!(all(store).await, with, "{name}: a session of this id again");
    }
}

#[tokio::test]
async fn killed_at_any_step_the_next_call_takes_the_rest() {
    let mut deaths = 0;
    for changes in (0..).step_by(7) {
        let backend: Arc<dyn Backend> = Arc::new(Memory::default());
        let first = Store::new(Arc::clone(&backend));
        fill(&first, "s-2").await;
        let without = all(&first).await;
        fill(&first, "s-1").await;
        let mortal = Mortal::new(&backend, changes, changes % 2 == 0);

        let done = delete(&Store::new(Arc::clone(&mortal) as Arc<dyn Backend>), "s-1").await;

        let store = Store::new(Arc::clone(&backend));
        delete(&store, "s-1").await.unwrap();
        assert_eq!(all(&store).await, without, "killed at change {changes}");
        if !mortal.is_dead() {
            done.unwrap();
            break;
        }
        deaths += 1;
        // Somebody who is told that it failed is told whether something went.
        let error = done.unwrap_err();
        assert!(changes < 20 || error.fact("logs_deleted").is_some(), "{changes}: {error}");
    }
    assert!(deaths > 20, "{deaths} deaths");
}

#[tokio::test]
async fn what_another_session_has_of_a_trace_stays() {
    let store = Store::new(Arc::new(Memory::default()));
    for session in ["s-1", "s-2"] {
        for (shared, by) in [("both", "trajectory"), ("talk", "binding")] {
            say(&store, Kind::Updates, session, format!(r#"{{"trace_id":"{shared}"}}"#)).await;
            if by == "trajectory" {
                trace(&store, shared, session).await;
                continue;
            }
            let task = session.as_bytes().to_vec();
            let triple = Triple { trace: shared.into(), context: None, task };
            let opened = async { Ok(store.clone()) };
            let json = Json::text(r#"{"trace_id":"talk"}"#).unwrap();
            Bindings::new(tenant()).save(opened, &triple, Some(session.as_bytes()), json).await.unwrap();
            say(&store, Kind::Trace, shared, "{}".to_owned()).await;
        }
    }
    // Hostile names: of all, of another session's own, of nobody.
    for named in ["__global__", "session:s-2"] {
        say(&store, Kind::Trace, named, "{}".to_owned()).await;
        say(&store, Kind::Updates, "s-1", format!(r#"{{"trace_id":"{named}"}}"#)).await;
    }
    let before = all(&store).await;

    let deleted = delete(&store, "s-1").await.unwrap();

    let shared: Vec<_> = deleted.shared_traces.iter().map(|trace| &**trace).collect();
    assert_eq!(shared, [&b"__global__"[..], b"both", b"session:s-2", b"talk"]);
    let after = all(&store).await;
    for kind in [Kind::Trace, Kind::Planner, Kind::Flow] {
        let id = log(kind, "both");
        assert_eq!(after[id.as_str()], before[id.as_str()], "{id}");
    }
    for (kind, id, own) in [(Kind::Trajectory, "both", "s-2"), (Kind::Binding, "talk", r#"[null,"s-2"]"#)] {
        let state = store.log(log(kind, id)).state().await.unwrap();
        assert_eq!(state.documents("").map(|(key, _)| key).collect::<Vec<_>>(), [own]);
        assert_eq!(commits(&store, &log(kind, id)).await, 0, "nor is it in the past");
    }
    assert!(after.contains_key(log(Kind::Trace, "__global__").as_str()));
    assert!(after.contains_key(log(Kind::Trace, "session:s-2").as_str()));
    assert!(!after.keys().any(|name| name.ends_with("/s-1")), "{after:?}");
    // Now that nobody else has them, the other takes all.
    delete(&store, "s-2").await.unwrap();
    let global = log(Kind::Trace, "__global__");
    assert_eq!(all(&store).await.into_keys().collect::<Vec<_>>(), [global.as_str()]);
}

#[tokio::test]
async fn memory_whose_key_may_be_another_s_stays_and_is_told() {
    let store = Store::new(Arc::new(Memory::default()));
    let long = format!("acme:{}:s-1", "u".repeat(400));
    for key in ["acme:ann:s-1", "acme:ann:s-2", "acme:a:b:s-1", &long] {
        put(&store, Kind::Memory, key, memory::KEY, "{}".to_owned()).await;
    }

    let deleted = delete(&store, "s-1").await.unwrap();

    assert_eq!(deleted.logs, BTreeMap::from([("memory", 1)]));
    assert_eq!((deleted.unsure_memory, deleted.hashed_memory), (vec!["acme:a:b:s-1".to_owned()], 1));
    assert_eq!(all(&store).await.len(), 3);
}

#[tokio::test]
async fn what_is_held_is_refused_with_the_reason_and_nothing_goes() {
    let store = Store::new(Arc::new(Memory::default()));
    fill(&store, "s-1").await;
    let before = all(&store).await;
    let retention = store.retention().unwrap();
    let held = [
        log(Kind::Updates, "s-1"),
        log(Kind::Artifacts, "s-1"),
        log(Kind::Trajectory, "s-1-task"),
        log(Kind::Memory, "acme:ann:s-1"),
    ];
    for id in held {
        let on = On::Log(id.clone());
        let hold = Hold { on, from: None, until: None, reason: "a dispute".to_owned() };
        retention.hold("dispute", &hold).await.unwrap();
        for done in [Deletion::new(store.clone(), tenant()).plan(b"s-1").await, delete(&store, "s-1").await] {
            let error = done.unwrap_err();
            assert_eq!((error.kind(), error.fact("hold")), (ErrorKind::Refused, Some("dispute")));
            assert_eq!((error.fact("log"), error.fact("logs_deleted")), (Some(id.as_str()), None));
        }
        assert_eq!(all(&store).await, before, "{id}");
        retention.release("dispute").await.unwrap();
    }
    delete(&store, "s-1").await.unwrap();
    assert!(all(&store).await.is_empty());
}

#[tokio::test]
async fn what_was_deleted_is_not_brought_back_by_whoever_repeats_it() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let [store, later] = [(); 2].map(|()| Store::new(Arc::clone(&backend)));
    let update = |id: &str| Entry::new(Event::new("said", "{}")).with_id(EntryId::new(id).unwrap());
    let updates = store.log(log(Kind::Updates, "s-1"));
    updates.append(update("u-1")).await.unwrap();
    delete(&store, "s-1").await.unwrap();

    // By another process, which has not seen it.
    let updates = later.log(log(Kind::Updates, "s-1"));
    assert!(updates.append(update("u-1")).await.unwrap().repeated);
    updates.append(update("u-2")).await.unwrap();

    assert_eq!(feed::list(&updates, &Query::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn ids_that_are_no_text_or_are_long_are_deleted_and_no_others() {
    let store = Store::new(Arc::new(Memory::default()));
    let long = vec![b'x'; 100_000];
    let ids: [&[u8]; 6] = [b"", b"\xed\xa0\x80", b"~", b"s/", b"session:", &long];
    let updates = |id: &[u8]| store.log(tenant().log(Kind::Updates, id).unwrap());
    for id in ids {
        // A trace whose name is half of a surrogate pair, as it is stored.
        updates(id).append(Event::new("said", r#"{"trace_id":{"$str":"7aCA"}}"#)).await.unwrap();
    }
    let odd = store.log(tenant().log(Kind::Trace, b"\xed\xa0\x80").unwrap());
    odd.append(Event::new("said", "{}")).await.unwrap();
    for (place, id) in ids.into_iter().enumerate() {
        Deletion::new(store.clone(), tenant()).delete(id).await.unwrap();

        for (other, id) in ids.into_iter().enumerate() {
            let left = feed::list(&updates(id), &Query::default()).await.unwrap().len();
            assert_eq!(left, usize::from(other > place));
        }
    }
    assert!(feed::list(&odd, &Query::default()).await.unwrap().is_empty());
}
