//! Killed with -9 at a random moment, again and again: what was acknowledged is there, once, and each log is a dense prefix of
//! what was sent to it.
//!
//! The writers are processes of this same program. 20 rounds a system (10 in a bucket, 4 in a table); `ICECORE_LONG=1` runs ten times as many. The seed is printed, and
//! `ICECORE_SEED` runs it again; what the kernel does in between is its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says so by failing; a writer prints what was acknowledged"
)]

#[path = "support/killed.rs"]
mod killed;

use std::collections::BTreeMap;

use icecore::{Entry, EntryId, Event, Log, LogId, LogPrefix, Range, Store};
use killed::Chance;
use tokio::task::JoinSet;

const TASKS: usize = 8;

fn log(name: &str) -> LogId {
    LogId::new("acme", "crash", name).unwrap()
}

/// The role of a writer process, which ends only by being killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the writer that the tests of this file start and kill"]
async fn writer_process() {
    let (url, writer) = killed::role();
    let store = icecore::open(&url).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        // Every other task appends to a log that all writers share.
        let name = if task % 2 == 0 { format!("{writer}-{task}") } else { "shared".to_owned() };
        tasks.spawn(append_for_ever(store.log(log(&name)), format!("{writer}-{task}")));
    }
    tasks.join_all().await;
}

async fn append_for_ever(log: Log, name: String) {
    let first = events(&log)
        .await
        .keys()
        .filter(|id| id.rsplit_once('-').is_some_and(|(task, _)| task == name))
        .count();
    for number in first.. {
        let id = format!("{name}-{number}");
        let event =
            Event::new("said", format!(r#"{{"number":{number},"padding":"{}"}}"#, "x".repeat(number % 700)));
        let receipt = log.append(Entry::new(event).with_id(EntryId::new(&*id).unwrap())).await.unwrap();
        killed::acknowledge(&format!("{} {} {id}", log.id(), receipt.version));
    }
}

/// The version of every entry, by its id.
async fn events(log: &Log) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    if log.head().await.unwrap().is_none() {
        return found;
    }
    let mut reader = log.read(Range::default());
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return found;
        }
        for event in page.into_iter().flat_map(|commit| commit.into_events()) {
            let id = event.id.unwrap().as_str().to_owned();
            assert_eq!(found.insert(id.clone(), event.version.0), None, "{id} is there twice");
        }
    }
}

/// What a line says: the log, the version, the entry's id.
fn parse(line: &str) -> Option<(LogId, u64, String)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [log, version, id] = fields[..] else { return None };
    Some((LogId::parse(log).ok()?, version.parse().ok()?, id.to_owned()))
}

async fn check(store: &Store, acknowledged: &[(LogId, u64, String)], what: &str) {
    let mut found = BTreeMap::new();
    for id in store.all_logs(&LogPrefix::all()).await.unwrap() {
        let events = events(&store.log(id.clone())).await;
        let mut next: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ordered: Vec<_> = events.iter().collect();
        ordered.sort_by_key(|(id, version)| {
            (**version, id.rsplit_once('-').map(|(_, number)| number.parse::<usize>().unwrap()))
        });
        for (id, _) in ordered {
            let (task, number) = id.rsplit_once('-').unwrap();
            let wanted = next.entry(task).or_default();
            assert_eq!(
                number.parse::<usize>().unwrap(),
                *wanted,
                "{what}: {task} has a hole or another order"
            );
            *wanted += 1;
        }
        found.insert(id, events);
    }
    for (log, version, id) in acknowledged {
        let at = found.get(log).and_then(|events| events.get(id));
        assert_eq!(at, Some(version), "{what}: {id} was acknowledged at version {version} of {log}");
    }
    let damage = store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage;
    assert!(damage.is_empty(), "{what}: {damage:?}");
}

async fn killed_again_and_again(url: &str, writers: usize) {
    let short = match url.split(':').next() {
        Some("gs") => 10,
        // What stands for the service is slow.
        Some("dynamodb") => 4,
        _ => 20,
    };
    let (rounds, mut chance) = (killed::rounds(short), Chance::new());
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        // Now and then while it opens the store, or has just begun.
        let count = || if chance.below(4) == 0 { chance.below(3) } else { chance.below(400) };
        let told = killed::kill_all("writer_process", url, writers, count);
        acknowledged.extend(told.iter().filter_map(|line| parse(line)));
        let store = icecore::open(url).await.unwrap();
        check(&store, &acknowledged, &format!("round {round}")).await;
        store.shut_down().await.unwrap();
    }
    assert!(acknowledged.len() > rounds, "{} acknowledgements say nothing", acknowledged.len());
    println!("{} acknowledged, all there", acknowledged.len());
}

#[tokio::test]
async fn what_was_acknowledged_on_file_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(&format!("file:{}", folder.path().join("store").display()), 1).await;
}

#[tokio::test]
async fn what_was_acknowledged_on_sqlite_survives_kill_9_of_two_writers() {
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(&format!("sqlite:{}", folder.path().join("store.db").display()), 2).await;
}

/// The writers are killed in the middle of transactions, which the server ends.
#[cfg(feature = "mysql")]
#[tokio::test]
async fn what_was_acknowledged_on_mysql_survives_kill_9_of_two_writers() {
    use icecore_services::mariadb::Database;
    let database = Database::create(&icecore_services::url("mariadb")).unwrap();
    killed_again_and_again(&database.url(), 2).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_was_acknowledged_on_redis_survives_kill_9_of_two_writers() {
    let prefix = icecore_services::redis::Prefix::new(&icecore_services::url("redis"));
    killed_again_and_again(&prefix.url(), 2).await;
}

#[cfg(feature = "mongodb")]
#[tokio::test]
async fn what_was_acknowledged_on_mongodb_survives_kill_9_of_two_writers() {
    let database = icecore_services::mongodb::Database::new(&icecore_services::url("mongodb"));
    killed_again_and_again(&database.url(), 2).await;
}

/// The writers are killed in the middle of requests, which land all the same or do not; the server goes on.
#[cfg(feature = "object")]
#[tokio::test]
async fn what_was_acknowledged_in_a_bucket_survives_kill_9_of_two_writers() {
    killed_again_and_again(&icecore_services::buckets::gcs(), 2).await;
}

#[cfg(feature = "dynamodb")]
#[tokio::test]
async fn what_was_acknowledged_in_a_table_survives_kill_9_of_two_writers() {
    let table = icecore_services::dynamodb::Table::new();
    killed_again_and_again(&table.url(), 2).await;
}
