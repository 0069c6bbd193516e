//! Documents: what is put, patched and deleted, under conditions, and as it was.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use icecore_log::{EntryId, ErrorKind, Event, LogId, Timestamp, Version};
use icecore_store::state::{At, Changes, Condition, Json};
use icecore_store::{Log, Store};
use serde_json::json;
use support::*;

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

async fn text(log: &Log, key: &str) -> Option<String> {
    log.document(key).await.unwrap().map(|document| String::from_utf8(document.json.to_vec()).unwrap())
}

fn new() -> (Store, Log) {
    let store = store(&faulty());
    let log = log(&store);
    (store, log)
}

#[tokio::test]
async fn a_document_is_put_patched_and_deleted() {
    let (_, log) = new();
    assert_eq!(text(&log, "cart").await, None);

    log.put("cart", json(r#"{"items":["tea"],"total":3.50}"#)).await.unwrap();
    log.patch("cart", json(r#"{"total":4.0,"note":"gift"}"#)).await.unwrap();
    log.patch("new", json(r#"{"a":null,"b":1}"#)).await.unwrap();
    assert_eq!(text(&log, "cart").await.unwrap(), r#"{"items":["tea"],"total":4.0,"note":"gift"}"#);
    assert_eq!(text(&log, "new").await.unwrap(), r#"{"b":1}"#);
    assert_eq!(log.document("cart").await.unwrap().unwrap().version, Version(2));

    log.delete("cart").await.unwrap();
    log.delete("cart").await.unwrap();
    assert_eq!(text(&log, "cart").await, None);
    assert_eq!(log.state().await.unwrap().len(), 1);
}

/// Numbers that no machine has, strings that look like others, members in their order, and spaces.
#[tokio::test]
async fn values_are_kept_to_the_byte() {
    let (_, log) = new();
    let values = [
        "1",
        "1.0",
        "1e400",
        "123456789012345678901234567890",
        "-0.0",
        r#""\u0000 é \ud83d\ude00""#,
        r#"{ "z": 1, "a": [ 1, 2.50 ] }"#,
        "null",
        "\"\"",
    ];
    for (number, value) in values.iter().enumerate() {
        log.put(&format!("k-{number}"), json(value)).await.unwrap();
    }
    for key in ["é", "e\u{301}", " ", "a/b", "\u{10FFFF}", "\0"] {
        log.put(key, json("true")).await.unwrap();
    }

    for (number, value) in values.iter().enumerate() {
        assert_eq!(text(&log, &format!("k-{number}")).await.unwrap(), *value);
    }
    assert_eq!(log.state().await.unwrap().len(), values.len() + 6);
    log.patch("k-6", json(r#"{"z":null}"#)).await.unwrap();
    assert_eq!(text(&log, "k-6").await.unwrap(), r#"{"a":[1,2.50]}"#);
    log.put("k-6", json(values[6])).await.unwrap();
    log.patch("k-6", json(r#"{"b":0.10,"a":12345678901234567890123}"#)).await.unwrap();
    assert_eq!(text(&log, "k-6").await.unwrap(), r#"{"z":1,"a":12345678901234567890123,"b":0.10}"#);
}

#[tokio::test]
async fn what_is_no_document_is_refused_and_nothing_is_written() {
    let (_, log) = new();
    for wrong in [
        "",
        "{",
        "tea",
        "1 2",
        "{\"a\":}",
        "NaN",
        "\"\\ud800\"",
        &"[".repeat(1_000),
        "\u{feff}1",
        r#"{"$serde_json::private::Number":"1"}"#,
    ] {
        assert_eq!(Json::text(wrong.to_owned()).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(Json::text(deep).unwrap_err().to_string().contains("127 deep"));
    for key in ["", &"k".repeat(1_025)] {
        assert_eq!(log.put(key, json("1")).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    for kind in ["icecore.document.put", "icecore.document.other", "icecore."] {
        let error = log.append(Event::new(kind, "1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{kind}");
    }

    assert!(log.head().await.unwrap().is_none());
}

#[tokio::test]
async fn documents_are_listed_by_prefix_in_pages() {
    let (_, log) = new();
    for key in ["a", "b/1", "b/10", "b/2", "b0", "c"] {
        log.put(key, json("1")).await.unwrap();
    }
    let state = log.state().await.unwrap();

    let keys = |prefix, after| state.after(prefix, after).map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys("", None).len(), 6);
    assert_eq!(keys("b/", None), ["b/1", "b/10", "b/2"]);
    assert_eq!(keys("b/", Some("b/10")), ["b/2"]);
    assert_eq!(keys("b/", Some("z")), Vec::<&str>::new());
    assert_eq!(keys("b/", Some("a")), ["b/1", "b/10", "b/2"]);
}

#[tokio::test]
async fn changes_are_made_together_or_not_at_all_and_every_failed_condition_is_named() {
    let (_, log) = new();
    let both = Changes::new()
        .put("a", json("1"))
        .put("b", json("2"))
        .event(event("together"))
        .by("ada")
        .only_if(Condition::Absent("a".into()))
        .only_if_new();
    let receipt = log.commit(both.clone()).await.unwrap().unwrap();
    assert_eq!(receipt.version, Version(1));
    assert_eq!(log.state().await.unwrap().len(), 2);

    let error = log
        .commit(
            both.only_if(Condition::Exists("c".into()))
                .only_if(Condition::Document { key: "b".into(), version: Version(1) })
                .only_if(Condition::Document { key: "c".into(), version: Version(0) }),
        )
        .await
        .unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Conflict);
    let failed: Vec<_> = error.facts().filter(|(name, _)| *name != "log").map(|(_, value)| value).collect();
    assert_eq!(failed, ["a absent", "1", "log at 0", "1", "c exists", "0", "c at 0", "0"]);
    assert_eq!(log.head().await.unwrap().unwrap().version, Version(1));
}

/// What others append is no conflict: only a condition is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_transactions_lose_no_update() {
    let backend = faulty();
    let stores = [store(&backend), store(&backend), store(&backend)];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12 {
        let log = log(&stores[task % 3]);
        tasks.spawn(async move {
            for n in 0..10 {
                log.append(event("beside")).await.unwrap();
                log.transact(|state| {
                    let count: u64 = state.get("count").map_or(Ok(0), |document| document.read())?;
                    Ok(Changes::new()
                        .put("count", Json::of(&(count + 1))?)
                        .put(format!("{task}/{n}"), json("1")))
                })
                .await
                .unwrap();
            }
        });
    }
    tasks.join_all().await;

    let state = log(&stores[0]).state().await.unwrap();
    assert_eq!(state.get("count").unwrap().read::<u64>().unwrap(), 120);
    assert_eq!(state.len(), 121);
    assert!(state.version <= Version(240));
}

#[tokio::test]
async fn a_transaction_with_an_id_is_committed_once_whatever_the_state_is_then() {
    let (_, log) = new();
    let id = EntryId::new("t-1").unwrap();
    let run = async || {
        log.transact(|state| {
            let count: u64 = state.get("count").map_or(Ok(0), |document| document.read())?;
            Ok(Changes::new().put("count", Json::of(&(count + 1))?).with_id(id.clone()))
        })
        .await
        .unwrap()
        .unwrap()
    };
    let first = run().await;
    log.put("other", json("1")).await.unwrap();

    let second = run().await;

    assert_eq!((first.version, first.repeated), (second.version, false));
    assert!(second.repeated);
    assert_eq!(text(&log, "count").await.unwrap(), "1");
    // Also where the conditions held only the first time. Other changes under the same id are a conflict.
    let once = Changes::new().put("x", json("1")).only_if(Condition::Absent("x".into()));
    let once = once.with_id(EntryId::new("t-2").unwrap());
    let first = log.commit(once.clone()).await.unwrap().unwrap();
    assert_eq!(log.commit(once).await.unwrap().unwrap().version, first.version);
    let other = Changes::new().put("x", json("2")).only_if(Condition::Exists("x".into()));
    let other = log.commit(other.with_id(EntryId::new("t-2").unwrap())).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    // As they are, not in the order of a map.
    log.put("m", json(r#"{"a":1,"b":2,"c":3}"#)).await.unwrap();
    log.patch("m", json(r#"{"a":null,"d":4}"#)).await.unwrap();
    assert_eq!(text(&log, "m").await.unwrap(), r#"{"b":2,"c":3,"d":4}"#);
}

#[tokio::test]
async fn a_closure_that_fails_changes_nothing_and_one_without_changes_commits_nothing() {
    let (_, log) = new();
    let refused = || icecore_log::Error::new(ErrorKind::Refused, "deciding");

    assert_eq!(log.transact(|_| Err(refused())).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(log.transact(|_| Ok(Changes::new())).await.unwrap(), None);
    let asked = Changes::new().only_if(Condition::Exists("a".into()));
    assert_eq!(log.commit(asked).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(log.head().await.unwrap().is_none());
}

#[tokio::test]
async fn a_state_is_read_as_it_was_by_version_and_by_time() {
    let backend = faulty();
    let clock = std::sync::Arc::new(ManualClock::default());
    let store = Store::builder(backend.clone()).clock(clock.clone()).build();
    let log = log(&store);
    for n in 1..=5 {
        clock.set(n * 1_000);
        log.put("n", Json::of(&n).unwrap()).await.unwrap();
    }
    let at = async |at| {
        let state = log.state_at(at).await.unwrap();
        (state.version.0, state.get("n").map(|document| document.read::<i64>().unwrap()))
    };

    assert_eq!(at(At::Head).await, (5, Some(5)));
    for n in 1..=5 {
        assert_eq!(at(At::Version(Version(n))).await, (n, Some(i64::try_from(n).unwrap())));
    }
    assert_eq!(at(At::Version(Version(0))).await, (0, None));
    assert_eq!(at(At::Time(Timestamp(3_500))).await, (3, Some(3)));
    assert_eq!(at(At::Time(Timestamp(1))).await, (0, None));
    assert_eq!(at(At::Time(Timestamp(i64::MAX))).await, (5, Some(5)));
    let late = log.state_at(At::Version(Version(6))).await.unwrap_err();
    assert_eq!((late.kind(), late.fact("found")), (ErrorKind::NotFound, Some("5")));
    let nowhere = store.log(LogId::new("acme", "session", "none").unwrap());
    assert_eq!(nowhere.state_at(At::Version(Version(1))).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(nowhere.state().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_difference_is_told_and_its_json_patch_makes_one_of_the_other() {
    let (_, log) = new();
    let first = Changes::new()
        .put("same", json("1"))
        .put("gone", json("[1]"))
        .put("a/b~c", json(r#"{"list":[1,2,3],"big":123456789012345678901234567890}"#));
    log.commit(first).await.unwrap();
    let second = Changes::new()
        .delete("gone")
        .put("new", json("{}"))
        .put("same", json(" 1 "))
        .put("a/b~c", json(r#"{"list":[1,3],"big":123456789012345678901234567891}"#));
    log.commit(second).await.unwrap();

    let diff = log.diff(At::Version(Version(1)), At::Head).await.unwrap();

    let keys: Vec<_> = diff.differences.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["a/b~c", "gone", "new"]);
    let object = |state: &icecore_store::state::State| {
        let members = state.documents("").map(|(key, document)| (key.to_owned(), document.value().unwrap()));
        serde_json::Value::Object(members.collect())
    };
    let mut patched = object(&log.state_at(At::Version(Version(1))).await.unwrap());
    for operation in diff.json_patch().as_array().unwrap() {
        apply_json_patch(&mut patched, operation);
    }
    // A document that says the same in other words is no difference.
    assert_eq!(patched, object(&log.state().await.unwrap()));
    assert!(log.diff(At::Head, At::Head).await.unwrap().differences.is_empty());
}

#[tokio::test]
async fn a_rollback_is_a_new_commit_and_can_be_taken_back() {
    let (_, log) = new();
    log.commit(Changes::new().put("a", json("1")).put("b", json("1"))).await.unwrap();
    log.commit(Changes::new().put("a", json("2")).delete("b").put("c", json("3"))).await.unwrap();

    let receipt = log.rollback(At::Version(Version(1))).await.unwrap().unwrap();

    assert_eq!(receipt.version, Version(3));
    assert_eq!((text(&log, "a").await, text(&log, "b").await), (Some("1".into()), Some("1".into())));
    assert_eq!(text(&log, "c").await, None);
    assert_eq!(log.rollback(At::Version(Version(1))).await.unwrap(), None);
    log.rollback(At::Version(Version(2))).await.unwrap().unwrap();
    assert_eq!(text(&log, "c").await.unwrap(), "3");
    assert!(log.diff(At::Version(Version(2)), At::Head).await.unwrap().differences.is_empty());
}

#[tokio::test]
async fn a_fork_begins_with_the_state_and_goes_its_own_way() {
    let (store, origin) = new();
    origin.commit(Changes::new().put("a", json("1")).put("b", json("1"))).await.unwrap();
    origin.put("a", json("2")).await.unwrap();
    let name = LogId::new("acme", "session", "fork").unwrap();

    origin.fork(&name, At::Version(Version(1))).await.unwrap();

    let fork = store.log(name.clone());
    assert_eq!(text(&fork, "a").await.unwrap(), "1");
    fork.put("a", json("3")).await.unwrap();
    assert_eq!(text(&origin, "a").await.unwrap(), "2");
    let page = fork.read(icecore_store::Range::default()).next_page().await.unwrap();
    assert!(page[0].header.flags.base);
    let said: serde_json::Value =
        serde_json::from_slice(&page[0].entries.as_ref().unwrap()[0].events[0].data).unwrap();
    let hash = origin.read(icecore_store::Range::default()).next_page().await.unwrap()[0].hash;
    assert_eq!(said, json!({"log": "acme/session/s-1", "version": 1, "hash": hash.to_string()}));
    assert_eq!(origin.fork(&name, At::Head).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(origin.fork(origin.id(), At::Head).await.unwrap_err().kind(), ErrorKind::Invalid);
    let verified = store.verify(&icecore_log::LogPrefix::all(), |_| ()).await.unwrap();
    assert!(verified.damage.is_empty());
    // Of a log without a commit it is an empty one, with its origin.
    let empty = LogId::new("acme", "session", "empty").unwrap();
    store.log(LogId::new("acme", "session", "none").unwrap()).fork(&empty, At::Head).await.unwrap();
    assert!(store.log(empty).state().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_history_says_who_changed_a_document_and_when() {
    let (_, log) = new();
    let changed = Changes::new().put("a", json("1")).put("b", json("1")).by("ada").in_trace("t-1");
    log.commit(changed.with_id(EntryId::new("e-1").unwrap())).await.unwrap();
    log.append(event("between")).await.unwrap();
    log.commit(Changes::new().patch("a", json(r#"{"x":1}"#)).delete("a").by("bob")).await.unwrap();

    let (mut history, mut page) = (log.history("a"), Vec::new());
    loop {
        let more = history.next_page().await.unwrap();
        if more.is_empty() {
            break;
        }
        page.extend(more);
    }

    let seen: Vec<_> = page.iter().map(|one| (one.version.0, one.change, one.actor.as_str())).collect();
    assert_eq!(seen, [(3, "delete", "bob"), (3, "patch", "bob"), (1, "put", "ada")]);
    assert_eq!((page[2].trace.as_str(), page[2].id.as_ref().unwrap().as_str()), ("t-1", "e-1"));
    assert_eq!(page[1].value, Some(json!({"x": 1})));
}

/// Else the state would be one that never was.
#[tokio::test]
async fn a_state_behind_a_dropped_body_is_refused() {
    let (store, log) = new();
    log.put("a", json("1")).await.unwrap();
    log.put("a", json("2")).await.unwrap();
    log.put("a", json("3")).await.unwrap();
    store.backend().drop_bodies(log.id(), &[Version(2)]).await.unwrap();

    let error = log.state().await.unwrap_err();

    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::NotFound, Some("2")));
    assert_eq!(log.state_at(At::Version(Version(1))).await.unwrap().len(), 1);
}
