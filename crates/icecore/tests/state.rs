//! Documents on every system: racing handles and racing processes lose no update, killed ones leave whole transactions, and one
//! sequence of operations comes to the same state everywhere.
//!
//! The writers are processes of this same program. `ICECORE_LONG=1` runs ten times as many transactions.
#![cfg(all(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "object",
    feature = "redis",
    feature = "dynamodb"
))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use icecore::retention::{Keep, Pace, Trim};
use icecore::{
    At, Changes, Condition, EntryId, Error, Event, Json, Log, LogId, LogPrefix, Merge, State, Store, Version,
};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

const TASKS: usize = 4;
const EACH: usize = 25;
/// How the names of the writers that are killed begin.
const KILLED: &str = "k";
/// What the names of those that merge have in them.
const MERGES: char = 'm';
const STORE: &str = "ICECORE_STATE_STORE";
const WRITER: &str = "ICECORE_STATE_WRITER";

fn log(store: &Store, key: &str) -> Log {
    store.log(LogId::new("acme", "state", key).unwrap())
}

fn text(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn read<T: serde::de::DeserializeOwned + Default>(state: &State, key: &str) -> icecore::Result<T> {
    state.get(key).map_or(Ok(T::default()), |document| document.read())
}

/// Adds one to a number and a name to a list, both read before; and the name to an object, which is patched unread.
async fn add(log: &Log, name: &str) -> icecore::Result<()> {
    let added = log.transact(|state| {
        let (count, mut names) = (read::<usize>(state, "count")? + 1, read::<Vec<String>>(state, "names")?);
        names.push(name.to_owned());
        let changes = Changes::new()
            .put("count", Json::of(&count)?)
            .put("names", Json::of(&names)?)
            .patch("members", Json::of(&json!({ name: count }))?);
        // What may be killed may be tried again, under the same id.
        Ok(if name.starts_with(KILLED) { changes.with_id(EntryId::new(name)?) } else { changes })
    });
    added.await.map(|receipt| drop(receipt.unwrap()))
}

/// As [`add`], and nothing is read before: a count, a sum of tenths, a list in which each name is once for each merge, and a set.
async fn merge(log: &Log, name: &str) -> icecore::Result<()> {
    let tenth = Merge::add(&text("0.1"))?.pointer("/usage/cost");
    let changes = Changes::new()
        .merge("merged", Merge::add(&1)?.pointer("/usage/count"))
        .merge("merged", tenth)
        .merge("merged", Merge::append(&[name])?.pointer("/names"))
        .merge("set", Merge::union(&[name, "all"])?);
    if !name.starts_with(KILLED) && !name.ends_with("-2") {
        return log.commit(changes).await.map(drop);
    }
    // What may be killed may be tried again, under the same id; and some are in any case.
    let changes = changes.with_id(EntryId::new(name)?);
    let first = log.commit(changes.clone()).await?;
    let again = log.commit(changes).await?;
    assert_eq!(first.map(|receipt| receipt.version), again.as_ref().map(|receipt| receipt.version));
    assert!(again.is_some_and(|receipt| receipt.repeated));
    Ok(())
}

async fn check_merged(
    state: &State,
    acknowledged: &BTreeSet<&String>,
    tried: &BTreeSet<&String>,
    what: &str,
) {
    let merged: Value = state.get("merged").map_or(json!({"names": []}), |merged| merged.value().unwrap());
    let names: Vec<String> = serde_json::from_value(merged["names"].clone()).unwrap();
    let all: BTreeSet<&String> = names.iter().collect();
    let set: Vec<String> = read(state, "set").unwrap();

    assert_eq!(all.len(), names.len(), "{what}: appended twice");
    assert!(acknowledged.is_subset(&all), "{what}: acknowledged, and not there");
    assert!(all.is_subset(tried), "{what}: there, and never tried");
    if !names.is_empty() {
        let tenths = format!("{}.{}", names.len() / 10, names.len() % 10);
        assert_eq!(merged["usage"]["count"], names.len(), "{what}");
        assert_eq!(merged["usage"]["cost"].to_string(), tenths, "{what}: tenths do not drift");
        assert_eq!(set.iter().filter(|name| *name != "all").collect::<BTreeSet<_>>(), all, "{what}");
        assert_eq!(set.len(), names.len() + 1, "{what}: a set has everything once");
    }
}

async fn check(store: &Store, acknowledged: &[String], tried: &[String], what: &str) {
    let shared = log(store, "shared");
    let state = shared.state().await.unwrap();
    assert!(shared.head().await.unwrap().unwrap().boundary > Version(0), "{what}: it was trimmed");
    assert!(shared.replay(|_| ()).await.unwrap().is_same, "{what}");
    let (count, names): (usize, Vec<String>) =
        (read(&state, "count").unwrap(), read(&state, "names").unwrap());
    let members: Map<String, Value> = read(&state, "members").unwrap();
    let places: Map<_, _> = names.iter().zip(1..).map(|(name, place)| (name.clone(), json!(place))).collect();
    let some = |names: &[String], merges: bool| {
        names.iter().filter(|name| name.contains(MERGES) == merges).cloned().collect::<BTreeSet<_>>()
    };
    let (merges_acknowledged, merges_tried) = (some(acknowledged, true), some(tried, true));
    check_merged(&state, &merges_acknowledged.iter().collect(), &merges_tried.iter().collect(), what).await;
    let (acknowledged, tried) = (some(acknowledged, false), some(tried, false));

    assert_eq!((count, count), (names.len(), places.len()), "{what}: a name is there twice, or not counted");
    assert_eq!(members, places, "{what}");
    assert!(acknowledged.is_subset(&some(&names, false)), "{what}: acknowledged, and not there");
    assert!(some(&names, false).is_subset(&tried), "{what}: there, and never tried");
    let damage = store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage;
    assert!(damage.is_empty(), "{what}: {damage:?}");
}

async fn change(log: &Log, name: &str) -> icecore::Result<()> {
    if name.contains(MERGES) { merge(log, name).await } else { add(log, name).await }
}

/// In the middle of it all what came before goes: nothing of what the documents are, and no id, depends on it.
async fn shorten(log: &Log) {
    let keep = Keep { commits: Some(10), ..Keep::default() };
    log.trim(&Trim { keep, ..Trim::default() }).await.unwrap();
    log.store().maintain_once(Pace::default(), |_| ()).await.unwrap();
}

/// Each store's tasks at once, each with its transactions one after the other.
async fn race(
    stores: &[Store],
    writer: &str,
    tasks: usize,
    each: usize,
    told: impl Fn(&str, &str) + Send + Copy + 'static,
) {
    let mut set = JoinSet::new();
    for (number, store) in stores.iter().enumerate() {
        for task in 0..tasks {
            let (log, name) = (log(store, "shared"), format!("{writer}{number}-{task}"));
            set.spawn(async move {
                for round in 0..each {
                    let name = format!("{name}-{round}");
                    told("try", &name);
                    change(&log, &name).await.unwrap();
                    told("ack", &name);
                    if round == each / 2 {
                        shorten(&log).await;
                    }
                }
            });
        }
    }
    set.join_all().await;
}

fn rounds(each: usize) -> usize {
    if std::env::var_os("ICECORE_LONG").is_some() { 10 * each } else { each }
}

async fn handles_race(stores: &[Store], tasks: usize, each: usize) {
    let each = rounds(each);
    let mut all = Vec::new();
    for writer in ["h", "hm"] {
        race(stores, writer, tasks, each, |_, _| ()).await;
        let names = (0..stores.len())
            .flat_map(|store| (0..tasks).map(move |task| (store, task)))
            .flat_map(|(store, task)| (0..each).map(move |round| format!("{writer}{store}-{task}-{round}")));
        all.extend(names);
    }
    check(&stores[0], &all, &all, "handles").await;
}

/// The role of a writer process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the writer that the tests of this file start and kill"]
async fn writer_process() {
    let (url, writer) = (std::env::var(STORE).unwrap(), std::env::var(WRITER).unwrap());
    let store = icecore::open(&url).await.unwrap();
    let print = |what: &str, name: &str| {
        // One write a line: a line that is cut short is not taken for another.
        std::io::stdout().lock().write_all(format!("{what} {name} .\n").as_bytes()).unwrap();
    };
    race(&[store], &writer, TASKS, rounds(EACH), print).await;
}

fn start(url: &str, writer: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--ignored", "--nocapture", "--quiet"])
        .env(STORE, url)
        .env(WRITER, writer)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a writer printed as acknowledged, and as tried; it is killed after so many of the first, if that is said.
fn follow(mut child: Child, killed_after: Option<usize>) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut tried) = (Vec::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ack", name, "."] => acknowledged.push(name.to_owned()),
            ["try", name, "."] => tried.push(name.to_owned()),
            _ => continue,
        }
        if Some(acknowledged.len()) == killed_after {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.success(), killed_after.is_none(), "{status}, {said}");
    (acknowledged, tried)
}

/// Two that come to their end, and two of which one is killed half-way and the other a little later; first with transactions, then with merges, then
/// one of each.
async fn processes_race(url: &str) {
    let half = rounds(EACH) * TASKS / 2;
    let killed = [Some(half), Some(half + half / 2)];
    let races = [
        (["w", "w"], [None; 2]),
        (["k", "k"], killed),
        (["wm", "wm"], [None; 2]),
        (["km", "km"], killed),
        (["x", "xm"], [None; 2]),
    ];
    these_race(url, &races).await;
}

async fn these_race(url: &str, races: &[([&str; 2], [Option<usize>; 2])]) {
    let (mut acknowledged, mut tried) = (Vec::new(), Vec::new());
    for (kinds, kill) in races {
        let following: Vec<_> = kinds
            .iter()
            .zip(*kill)
            .enumerate()
            .map(|(number, (kind, killed_after))| {
                let child = start(url, &format!("{kind}{number}-"));
                std::thread::spawn(move || follow(child, killed_after))
            })
            .collect();
        for following in following {
            let (more, tries) = following.join().unwrap();
            acknowledged.extend(more);
            tried.extend(tries);
        }
        let store = icecore::open(url).await.unwrap();
        check(&store, &acknowledged, &tried, kinds[1]).await;
        // What was killed holds nothing; and what was left undecided is done once, whether it had been done or not.
        for name in tried.iter().filter(|name| name.starts_with(KILLED)) {
            if !acknowledged.contains(name) || name.ends_with("-3") {
                change(&log(&store, "shared"), name).await.unwrap();
            }
        }
        check(&store, &tried, &tried, kinds[1]).await;
        store.shut_down().await.unwrap();
    }
    assert!(
        acknowledged.len() >= rounds(EACH) * TASKS,
        "{} acknowledgements say nothing",
        acknowledged.len()
    );
}

async fn two(url: &str) -> [Store; 2] {
    [icecore::open(url).await.unwrap(), icecore::open(url).await.unwrap()]
}

async fn all_race(url: &str) {
    handles_race(&two(url).await, TASKS, EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_file_lose_no_update() {
    let folder = tempfile::tempdir().unwrap();
    // One process writes there, through one store.
    let store = icecore::open(&format!("file:{}", folder.path().join("store").display())).await.unwrap();
    handles_race(&[store.clone(), store], TASKS, EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_sqlite_lose_no_update() {
    let folder = tempfile::tempdir().unwrap();
    all_race(&format!("sqlite:{}", folder.path().join("store.db").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_postgres_lose_no_update() {
    let database = Database::create(&services::url("postgres")).unwrap();
    all_race(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_mysql_lose_no_update() {
    let database = mariadb::Database::create(&services::url("mariadb")).unwrap();
    all_race(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_redis_lose_no_update() {
    let prefix = Prefix::new(&services::url("redis"));
    all_race(&prefix.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_mongodb_lose_no_update() {
    let database = mongodb::Database::new(&services::url("mongodb"));
    all_race(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_gcs_lose_no_update() {
    all_race(&buckets::gcs()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_s3_lose_no_update() {
    handles_race(&two(&buckets::s3()).await, 2, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_azure_lose_no_update() {
    handles_race(&two(&buckets::azure()).await, 2, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_on_dynamodb_lose_no_update() {
    let table = Table::new();
    handles_race(&two(&table.url()).await, 2, 5).await;
}

#[tokio::test]
async fn racing_processes_on_sqlite_lose_no_update_and_may_be_killed() {
    let folder = tempfile::tempdir().unwrap();
    processes_race(&format!("sqlite:{}", folder.path().join("store.db").display())).await;
}

#[tokio::test]
async fn racing_processes_on_postgres_lose_no_update_and_may_be_killed() {
    let database = Database::create(&services::url("postgres")).unwrap();
    processes_race(&database.url()).await;
}

#[tokio::test]
async fn racing_processes_on_mysql_lose_no_update_and_may_be_killed() {
    let database = mariadb::Database::create(&services::url("mariadb")).unwrap();
    processes_race(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_processes_on_redis_lose_no_update_and_may_be_killed() {
    let prefix = Prefix::new(&services::url("redis"));
    processes_race(&prefix.url()).await;
}

#[tokio::test]
async fn racing_processes_on_mongodb_lose_no_update_and_may_be_killed() {
    let database = mongodb::Database::new(&services::url("mongodb"));
    processes_race(&database.url()).await;
}

#[tokio::test]
async fn racing_processes_on_gcs_lose_no_update_and_may_be_killed() {
    processes_race(&buckets::gcs()).await;
}

/// Merges alone: transactions that race for one slot after the other would take minutes with the server that stands for S3 and DynamoDB.
async fn processes_merge(url: &str) {
    let half = rounds(EACH) * TASKS / 2;
    let races = [(["wm", "wm"], [None; 2]), (["km", "km"], [Some(half), Some(half + half / 2)])];
    these_race(url, &races).await;
}

#[tokio::test]
async fn racing_processes_on_s3_merge_without_a_loss() {
    processes_merge(&buckets::s3()).await;
}

#[tokio::test]
async fn racing_processes_on_dynamodb_merge_without_a_loss() {
    let table = Table::new();
    processes_merge(&table.url()).await;
}

/// An error as far as it is the same everywhere.
fn told(error: &Error) -> Value {
    let facts: Vec<_> = error.facts().map(|(name, value)| format!("{name}={value}")).collect();
    json!({"error": error.kind().name(), "facts": facts})
}

fn shown(state: &State) -> Value {
    let documents = state.documents("").map(|(key, document)| {
        let json = String::from_utf8(document.json.to_vec()).unwrap();
        json!([key, document.version.0, json])
    });
    json!({"version": state.version.0, "documents": documents.collect::<Vec<_>>()})
}

/// Sixty operations, from two handles in turns; all that is the same everywhere of their answers, and of what there is then.
async fn sequence(stores: &[Store; 2]) -> Value {
    let keys = ["a", "a/b", "\u{10FFFF}", "é ", "..", "#\u{0}"];
    let mut answers = Vec::new();
    for number in 0..60_usize {
        let (log, key) = (log(&stores[number % 2], "sequence"), keys[number * 7 % keys.len()]);
        let id = |name: &str| EntryId::new(format!("{name}-{}", number / 20)).unwrap();
        // The last of ten a merge, of which every other one finds what it cannot be merged into; none of the two handles looks before.
        if number % 10 == 9 {
            let merge = Merge::append(&[json!({"n": number})]).unwrap().pointer("/deep/list");
            let merge =
                if number % 20 == 9 { merge } else { Merge::add(&text("0.10")).unwrap().pointer("/n") };
            let entry = Changes::new()
                .merge(keys[number % 3], merge)
                .merge("total", Merge::add(&number).unwrap())
                .entry();
            log.append(entry).await.unwrap();
        }
        let answer = match number % 10 {
            0 => log
                .put(key, text(&format!(r#"{{"n":{number}.50,"list":[1,null,"\u0000"]}}"#)))
                .await
                .map(Some),
            1 => log
                .patch(key, text(&format!(r#"{{"n":null,"m":{{"x":null,"y":1e{number}}}}}"#)))
                .await
                .map(Some),
            2 => log.append(Event::new("said", "\"beside\"")).await.map(Some),
            3 => {
                let changes = Changes::new().put("once", text("1")).put(key, text(&number.to_string()));
                log.commit(changes.only_if(Condition::Absent("once".to_owned())).with_id(id("three"))).await
            }
            4 => {
                let wrong = Condition::Document { key: key.to_owned(), version: Version(1) };
                let changes = Changes::new().delete("once").only_if(Condition::Exists("once".to_owned()));
                log.commit(changes.only_if(wrong).only_if_new()).await
            }
            5 => {
                let count = log.transact(|state| {
                    let count = read::<u64>(state, "count")? + 1;
                    Ok(Changes::new().put("count", Json::of(&count)?).by("ada").in_trace("t"))
                });
                count.await
            }
            6 => log
                .patch(
                    key,
                    text(&format!(r#"{{"n":{number},"deep":{{"{key}":[{number}]}}}}"#).replace('\0', "")),
                )
                .await
                .map(Some),
            7 => log.delete(key).await.map(Some),
            8 if number % 20 == 8 => log.rollback(At::Version(Version(number as u64 / 2))).await,
            8 => {
                log.commit((0..20).fold(Changes::new(), |changes, n| {
                    changes.put(format!("many/{n}"), text(&(n * number).to_string()))
                }))
                .await
            }
            _ => log
                .fork(
                    &LogId::new("acme", "fork", &number.to_string()).unwrap(),
                    At::Version(Version(number as u64 / 3)),
                )
                .await
                .map(Some),
        };
        answers.push(match answer {
            Ok(receipt) => json!(receipt.map(|receipt| (receipt.version.0, receipt.entry, receipt.repeated))),
            Err(error) => told(&error),
        });
    }
    let log = log(&stores[1], "sequence");
    let head = log.head().await.unwrap().unwrap();
    let mut states = Vec::new();
    for version in (0..=head.version.0 + 1).step_by(7).chain([head.version.0]) {
        states.push(
            log.state_at(At::Version(Version(version)))
                .await
                .map_or_else(|error| told(&error), |state| shown(&state)),
        );
    }
    let mut forks = Vec::new();
    // The order of a listing is the system's own.
    let mut named = stores[0].all_logs(&LogPrefix::parse("acme/fork").unwrap()).await.unwrap();
    named.sort();
    for fork in named {
        forks.push((fork.to_string(), shown(&stores[0].log(fork).state().await.unwrap())));
    }
    let mut histories = Vec::new();
    for key in keys {
        let mut history = log.history(key);
        loop {
            let page = history.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            histories.extend(page.into_iter().map(|one| {
                json!([key, one.version.0, one.change, one.pointer, one.applied, one.actor, one.value])
            }));
        }
    }
    let diff = log.diff(At::Version(Version(10)), At::Head).await.unwrap();
    json!({
        "answers": answers,
        "events": head.events,
        "states": states,
        "forks": forks,
        "histories": histories,
        "diff": diff.json_patch(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sequence_comes_to_the_same_state_on_every_system() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&services::url("postgres")).unwrap();
    let mysql = mariadb::Database::create(&services::url("mariadb")).unwrap();
    let at = |name: &str| format!("{name}:{}", folder.path().join(name).display());
    let memory = icecore::open("memory:").await.unwrap();
    let expected = sequence(&[memory.clone(), memory]).await;
    let answers = expected["answers"].as_array().unwrap();
    assert!(answers.iter().filter(|answer| answer.is_array()).count() > 40, "{answers:?}");
    let last = expected["states"].as_array().unwrap().last().unwrap();
    assert!(last["documents"].as_array().unwrap().len() > 20, "{last}");

    let prefix = Prefix::new(&services::url("redis"));
    let mongodb = mongodb::Database::new(&services::url("mongodb"));
    let table = Table::new();
    let servers = [
        database.url(),
        mysql.url(),
        prefix.url(),
        buckets::s3(),
        buckets::gcs(),
        buckets::azure(),
        mongodb.url(),
        table.url(),
    ];
    for url in [at("file"), at("sqlite")].into_iter().chain(servers) {
        let store = icecore::open(&url).await.unwrap();
        // The directory is written through one store.
        let other = if url.starts_with("file:") { store.clone() } else { icecore::open(&url).await.unwrap() };
        let found = sequence(&[store.clone(), other]).await;
        for (name, value) in found.as_object().unwrap() {
            assert_eq!(*value, expected[name], "{name} of {}", icecore::redact(&url));
        }
        store.shut_down().await.unwrap();
    }
}
