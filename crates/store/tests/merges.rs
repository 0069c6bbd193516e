//! Merges: what many make at once is all there, once; and what cannot be merged changes nothing, in every way that a state is read.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::future::IntoFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use icecore_embedded::Memory;
use icecore_layers::Fate;
use icecore_log::{Backend, EntryId, Error, ErrorKind, Event, LogPrefix, Version};
use icecore_store::state::{At, Changed, Changes, Condition, Document, Json, Merge, Reducers, Watched};
use icecore_store::{Log, Range, Store};
use serde_json::{Value, json};
use support::*;

fn text(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn new() -> (Store, Log) {
    let store = store(&faulty());
    let log = log(&store);
    (store, log)
}

/// As a process would that has not looked yet.
fn anew(store: &Store) -> Log {
    log(&Store::new(Arc::clone(store.backend())))
}

async fn value(log: &Log, key: &str) -> String {
    String::from_utf8(log.document(key).await.unwrap().unwrap().json.to_vec()).unwrap()
}

async fn history(log: &Log, key: &str) -> Vec<Changed> {
    let (mut history, mut found) = (log.history(key), Vec::new());
    loop {
        let page = history.next_page().await.unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// Golden: what is stored for each merge, and what it makes of what. `ICECORE_BLESS=1` writes it anew, which is allowed until 0.1.0 only.
#[tokio::test]
async fn merges_are_stored_and_done_as_the_golden_file_says() {
    let add = |number: &str| Merge::add(&text(number)).unwrap();
    let append = |items: &str| Merge::append(&text(items)).unwrap();
    let union = |items: &str| Merge::union(&text(items)).unwrap();
    let cases = [
        (None, add("5")),
        (Some("0.1"), add("0.2")),
        (Some("1"), add("1.0")),
        (Some("null"), add("-0")),
        (Some("9007199254740993"), add("1e2")),
        (Some(r#"{ "a" : { "b" : 1.50 } , "c" : 3.50 }"#), add("-1.5").pointer("/a/b")),
        (Some(r#"{"c":1}"#), add("1").pointer("/a~1b/~0")),
        (Some("\"5\""), add("5")),
        (Some("1e2000"), add("5")),
        (None, append(r#"[{"role":"user"}]"#).pointer("/messages")),
        (Some(r#"{"messages":[ 1 ],"n":1}"#), append("[ 2 , 3 ]").pointer("/messages")),
        (Some("[[1],[]]"), append("[2]").pointer("/1")),
        (Some("[]"), append("[]").pointer("/-")),
        (Some(r#"[1,{"a":1,"b":2}]"#), union(r#"[1.0,1,{"b":2,"a":1},3,3]"#)),
        (Some("{}"), union("[1]")),
    ];
    let mut lines = String::new();
    for (before, merge) in cases {
        let (_, log) = new();
        if let Some(before) = before {
            log.put("k", text(before)).await.unwrap();
        }
        let event = Changes::new().merge("k", merge).entry().events.remove(0);
        log.append(event.clone()).await.unwrap();
        let after = log.document("k").await.unwrap();
        let after = after.map(|document| String::from_utf8(document.json.to_vec()).unwrap());
        let Event { kind, meta, data, .. } = event;
        let data = String::from_utf8(data.to_vec()).unwrap();
        let applied = history(&log, "k").await[0].applied;
        let line = json!({"before": before, "kind": kind, "meta": meta, "data": data, "after": after, "applied": applied});
        lines += &format!("{line}\n");
    }

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/merges.ndjson");
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(path).unwrap());
}

/// Requests and answers are lost on the way, tries are repeated under their ids, and other tries of the same begin beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_merges_with_lost_answers_and_retries_are_each_there_once() {
    let backend = faulty();
    let stores = [(); 3]
        .map(|()| store_with(&backend, |settings| settings.append_timeout = Duration::from_millis(50)));
    backend.plan((0..120).map(|number| match number % 6 {
        0 => Fate::LoseAnswer,
        1 => Fate::LoseRequest,
        2 => Fate::Delay,
        _ => Fate::Pass,
    }));
    let (mut set, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for task in 0..6_usize {
        let logs = [log(&stores[task % 3]), log(&stores[(task + 1) % 3])];
        // Two tasks each say the same.
        let writer = task / 2;
        tasks.spawn(async move {
            let mut unknown = 0;
            for round in 0..20 {
                let name = format!("{writer}-{round}");
                let changes = Changes::new()
                    .merge("run", Merge::add(&text("0.1")).unwrap().pointer("/usage/cost"))
                    .merge("run", Merge::append(&[&name]).unwrap().pointer("/messages"))
                    .merge("names", Merge::union(&[&name, "all"]).unwrap())
                    .with_id(EntryId::new(name).unwrap());
                for attempt in 0.. {
                    assert!(attempt < 500, "never told");
                    match logs[attempt % 2].commit(changes.clone()).await {
                        Ok(_) => break,
                        Err(error) => {
                            unknown += usize::from(error.kind() == ErrorKind::Unknown);
                            assert!(
                                [ErrorKind::Unknown, ErrorKind::Unavailable].contains(&error.kind()),
                                "{error}"
                            );
                        }
                    }
                }
            }
            unknown
        });
    }
    for writer in 0..3 {
        set.extend((0..20).map(|round| format!("{writer}-{round}")));
    }
    let unknown: usize = tasks.join_all().await.into_iter().sum();
    backend.land().await;

    assert!(unknown > 0, "no outcome was unknown, which says nothing");
    let state = anew(&stores[0]).state().await.unwrap();
    let run = state.get("run").unwrap().value().unwrap();
    assert_eq!(run["usage"]["cost"].to_string(), "6.0");
    let mut messages: Vec<String> = serde_json::from_value(run["messages"].clone()).unwrap();
    let mut names: Vec<String> = state.get("names").unwrap().read().unwrap();
    names.retain(|name| name != "all");
    for all in [&mut messages, &mut names, &mut set] {
        all.sort();
    }
    assert_eq!((&messages, &names), (&set, &set));
    assert!(stores[0].verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
}

/// What transactions cannot do: those of one process share commits, and nobody looks at a state.
#[tokio::test]
async fn merges_that_are_made_at_once_share_commits_and_look_at_nothing() {
    let (store, log) = new();
    let add = || log.merge("n", Merge::add(&1).unwrap());

    let told = futures_util::future::join_all((0..200).map(|_| add())).await;

    assert!(told.iter().all(Result::is_ok));
    let (commits, looked) = (log.head().await.unwrap().unwrap().version.0, store.cached_states());
    assert!(commits <= 10, "{commits} commits");
    assert_eq!((looked.hits, looked.misses), (0, 0));
    assert_eq!(value(&log, "n").await, "200");
}

#[tokio::test]
async fn a_merge_in_vain_is_seen_in_the_history_and_nowhere_else() {
    let (store, log) = new();
    log.put("k", text(r#"{"n":"five"}"#)).await.unwrap();
    let add = || Merge::add(&5).unwrap().pointer("/n");
    let mut watch = log.watch("k");
    assert!(matches!(watch.next().await.unwrap(), Watched::Is(Version(1), Some(_))));

    // Nobody looked before.
    anew(&store).merge("k", add()).await.unwrap();
    log.put("other", text("1")).await.unwrap();
    log.put("k", text(r#"{"n":5}"#)).await.unwrap();
    anew(&store).merge("k", add()).await.unwrap();

    assert_eq!(log.state_at(At::Version(Version(3))).await.unwrap().get("k").unwrap().version, Version(1));
    assert_eq!(value(&log, "k").await, r#"{"n":10}"#);
    let told: Vec<_> = history(&log, "k").await;
    let told: Vec<_> =
        told.iter().map(|one| (one.version.0, one.change, &*one.pointer, one.applied)).collect();
    let wanted = [
        (5, "add", "/n", Some(true)),
        (4, "put", "", Some(true)),
        (2, "add", "/n", Some(false)),
        (1, "put", "", Some(true)),
    ];
    assert_eq!(told, wanted);
    for version in [4, 5] {
        loop {
            if let Watched::Is(found, Some(_)) = watch.next().await.unwrap() {
                break assert_eq!(found, Version(version), "what was in vain was told");
            }
        }
    }
}

fn failed(error: &Error) -> Vec<&str> {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    error.facts().filter(|(name, _)| ["failed", "found"].contains(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn what_is_seen_to_be_in_vain_is_refused_and_nothing_is_written() {
    let (store, log) = new();
    log.put("k", text(r#"{"list":[],"n":1}"#)).await.unwrap();
    let list = || Merge::append(&[1]).unwrap().pointer("/n");

    // A state is in memory, and says so.
    log.state().await.unwrap();
    let error = log.merge("k", list()).await.unwrap_err();
    assert_eq!(failed(&error), ["k append /n", "1"]);
    // None is, but it was asked for; or there is a condition, or a transaction.
    let changes = || Changes::new().merge("k", list()).merge("k", Merge::add(&1).unwrap().pointer("/list"));
    let wanted = ["k append /n", "1", "k add /list", "1"];
    assert_eq!(failed(&anew(&store).check_merges(&changes()).await.unwrap_err()), wanted);
    let exists = changes().only_if(Condition::Exists("k".into()));
    assert_eq!(failed(&anew(&store).commit(exists).await.unwrap_err()), wanted);
    assert_eq!(failed(&anew(&store).transact(|_| Ok(changes())).await.unwrap_err()), wanted);
    // A change before it in the same entry may make it fit, and another not.
    let fits = || Changes::new().put("k", text("[]")).merge("k", Merge::append(&[1]).unwrap());
    anew(&store).check_merges(&fits()).await.unwrap();
    let unfit = Changes::new().put("k", text("{}")).merge("k", Merge::append(&[1]).unwrap());
    assert_eq!(failed(&log.transact(|_| Ok(unfit.clone())).await.unwrap_err()), ["k append", "1"]);

    assert_eq!(log.head().await.unwrap().unwrap().version, Version(1));
    log.commit(fits()).await.unwrap();
    assert_eq!(value(&log, "k").await, "[1]");
    // What is no merge at all is told before anything else.
    for wrong in [Merge::add(&1).unwrap().pointer("k"), Merge::append(&[1]).unwrap().pointer("/~2")] {
        let changes = Changes::new().merge("k", wrong);
        let told =
            [log.check_merges(&changes).await.unwrap_err(), log.commit(changes.clone()).await.unwrap_err()];
        assert!(told.iter().all(|error| error.kind() == ErrorKind::Invalid), "{told:?}");
        assert_eq!(log.append(changes.entry()).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

/// A state in memory may be an old one: what others have changed since must not be refused by it.
#[tokio::test]
async fn an_old_state_in_memory_refuses_nothing_that_fits_now() {
    let (store, log) = new();
    log.put("k", text("\"five\"")).await.unwrap();
    log.state().await.unwrap();
    anew(&store).put("k", text("5")).await.unwrap();

    log.merge("k", Merge::add(&1).unwrap()).await.unwrap();

    assert_eq!(value(&log, "k").await, "6");
}

#[tokio::test]
async fn a_merge_that_was_done_is_known_by_its_id_whatever_is_there_now() {
    let (store, log) = new();
    let add = || Changes::new().merge("n", Merge::add(&5).unwrap()).with_id(EntryId::new("once").unwrap());
    let first = log.commit(add()).await.unwrap().unwrap();
    log.put("n", text("\"something else\"")).await.unwrap();
    log.state().await.unwrap();

    for log in [log.clone(), anew(&store)] {
        log.check_merges(&add()).await.unwrap();
        let again = log.commit(add()).await.unwrap().unwrap();
        assert_eq!((again.version, again.repeated), (first.version, true));
        let condition = add().only_if(Condition::Exists("n".into()));
        assert_eq!(log.commit(condition).await.unwrap().unwrap().version, first.version);
    }
    // Other content under that id is an error, and not silently the first.
    let other = Changes::new().merge("m", Merge::add(&6).unwrap()).with_id(EntryId::new("once").unwrap());
    assert_eq!(log.commit(other).await.unwrap_err().kind(), ErrorKind::Conflict);
}

/// A put behind merges is stored as what differs from what they came to, and merges go on behind it.
#[tokio::test]
async fn edits_and_merges_of_one_document_go_on_from_each_other() {
    let (store, log) = new();
    let turn =
        |number: usize| json!({"role": "user", "content": format!("{number} says something ").repeat(30)});
    let mut wanted = json!({"turns": [], "n": 0});
    log.put("run", Json::of(&wanted).unwrap()).await.unwrap();
    for number in 0..40 {
        if number % 5 == 4 {
            wanted["note"] = json!(number);
            log.put("run", Json::of(&wanted).unwrap()).await.unwrap();
        } else {
            let turns = wanted["turns"].as_array_mut().unwrap();
            turns.push(turn(number));
            wanted["n"] = json!(wanted["n"].as_u64().unwrap() + 1);
            let append = Merge::append(&[turn(number)]).unwrap().pointer("/turns");
            let add = Merge::add(&1).unwrap().pointer("/n");
            log.commit(Changes::new().merge("run", append).merge("run", add)).await.unwrap();
        }
        if number % 3 == 0 {
            assert_eq!(log.document("run").await.unwrap().unwrap().value().unwrap(), wanted);
        }
    }

    let mut edits = 0;
    let mut reader = log.read(Range::default());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        let events = page.into_iter().flat_map(|commit| commit.into_events());
        edits += events.filter(|event| event.event.kind == "icecore.document.edit").count();
    }
    assert!(edits >= 7, "{edits} edits");
    let again = anew(&store);
    assert_eq!(again.document("run").await.unwrap().unwrap().value().unwrap(), wanted);
    assert!(again.replay(|_| ()).await.unwrap().is_same);
    let told = history(&again, "run").await;
    assert!(
        told.iter().all(|one| one.applied == Some(true)) && told.len() == 1 + 8 + 2 * 32,
        "{}",
        told.len()
    );
    assert_eq!(told.iter().find(|one| one.change == "put").unwrap().value.as_ref().unwrap()["note"], 39);
}

/// A list of which nobody knows how it got so long is stored for what was appended each time.
async fn appended(count: usize) -> (Store, Duration, u64) {
    let memory: Arc<dyn Backend> = Arc::new(Memory::default());
    let writer = Store::new(Arc::clone(&memory));
    let own = log(&writer);
    own.put("run", text(r#"{"messages":[],"usage":{"tokens":0},"seen":[],"end":"of the text"}"#))
        .await
        .unwrap();
    let merges = (0..count).map(|number| {
        let message = json!({"n": number, "says": "something of no great length, and then some more"});
        Changes::new()
            .merge("run", Merge::append(&[message]).unwrap().pointer("/messages"))
            .merge("run", Merge::add(&7).unwrap().pointer("/usage/tokens"))
            .merge("run", Merge::union(&[number / 2]).unwrap().pointer("/seen"))
    });
    let appends = merges.map(|changes| own.append(changes.entry()).into_future());
    let told: Vec<_> = stream::iter(appends).buffer_unordered(500).collect().await;
    assert!(told.iter().all(Result::is_ok));
    let stored = own.size().await.unwrap().bodies;
    let reader = Store::new(memory);
    let begun = Instant::now();
    let replayed = log(&reader).replay(|_| ()).await.unwrap();
    assert!(replayed.is_same);
    (reader, begun.elapsed(), stored)
}

#[tokio::test]
async fn ten_thousand_appends_to_one_list_are_stored_and_folded_at_what_each_of_them_costs() {
    let (_, small_took, small_stored) = appended(1_000).await;
    let (store, took, stored) = appended(10_000).await;
    println!("1,000: {small_took:?}, {small_stored} bytes; 10,000: {took:?}, {stored} bytes");

    let run: Value = log(&store).document("run").await.unwrap().unwrap().value().unwrap();
    assert_eq!(run["messages"].as_array().unwrap().len(), 10_000);
    assert_eq!(run["usage"]["tokens"].to_string(), "70000");
    assert_eq!(run["seen"].as_array().unwrap().len(), 5_000);
    assert!(stored < 12 * small_stored, "{stored} bytes against {small_stored}");
    // If each had passed over the list there was, it would be a hundred times as long.
    assert!(took < 30 * small_took, "{took:?} against {small_took:?}");
}

#[tokio::test]
async fn a_reducer_of_ones_own_loses_no_update_and_what_it_made_is_read_without_it() {
    let backend = faulty();
    let newest = |now: Option<&Document>, operand: &Json| {
        let at = |value: &Value| value["at"].as_u64();
        let (now, new) = (now.map(Document::value).transpose()?, operand.read::<Value>()?);
        Json::of(&now.filter(|now| at(now) > at(&new)).unwrap_or(new))
    };
    let longest = |now: Option<&Document>, operand: &Json| {
        let mut all: Vec<String> = now.map_or(Ok(Vec::new()), Document::read)?;
        all.push(operand.read()?);
        Json::of(&all)
    };
    let reducers = Reducers::new().with("newest", newest).with("list", longest);
    let stores = [(); 3].map(|()| {
        let backend: Arc<dyn Backend> = Arc::clone(&backend) as _;
        Store::builder(backend).reducers(reducers.clone()).build()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for (number, store) in stores.iter().enumerate() {
        let log = log(store);
        tasks.spawn(async move {
            for round in 0..10 {
                let at = (number * 7 + round * 11) % 40;
                log.reduce("register", "newest", &Json::of(&json!({"at": at, "by": number})).unwrap())
                    .await
                    .unwrap();
                log.reduce("all", "list", &Json::of(&format!("{number}-{round}")).unwrap()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;

    let plain = log(&store(&backend));
    let most =
        (0..3).flat_map(|number| (0..10).map(move |round| (number * 7 + round * 11) % 40)).max().unwrap();
    assert_eq!(plain.document("register").await.unwrap().unwrap().value().unwrap()["at"], most);
    let mut all: Vec<String> = plain.document("all").await.unwrap().unwrap().read().unwrap();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 30);
    let error = plain.reduce("all", "list", &text("\"x\"")).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("reducer")), (ErrorKind::Invalid, Some("list")));
    let error = log(&stores[0]).reduce("all", "other", &text("1")).await.unwrap_err();
    assert_eq!(error.fact("registered"), Some(r#"{"list", "newest"}"#));
    // What it refuses is not written.
    let before = plain.head().await.unwrap().unwrap().version;
    assert_eq!(
        log(&stores[0]).reduce("all", "list", &text("1")).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(plain.head().await.unwrap().unwrap().version, before);
}
