//! Transactions over several logs on every system that has them: racing handles, and processes that are killed with -9, move amounts between logs, and
//! none is lost or made.
#![cfg(all(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "object",
    feature = "redis",
    feature = "dynamodb"
))]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says so by failing; a process prints what was acknowledged"
)]

#[path = "support/killed.rs"]
mod killed;

use std::collections::{BTreeMap, BTreeSet};

use icecore::{Changes, EntryId, ErrorKind, Event, Json, LogId, LogPrefix, Range, Result, States, Store};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};
use killed::Chance;
use tokio::task::JoinSet;

const LOGS: usize = 4;
const TASKS: usize = 3;
const EACH: usize = 8;

fn id(number: usize) -> LogId {
    LogId::new("acme", "account", &format!("{number}")).unwrap()
}

fn all() -> Vec<LogId> {
    (0..LOGS).map(id).collect()
}

fn credits(states: &States, number: usize) -> Result<i64> {
    states.of(&id(number))?.get("credits").map_or(Ok(0), |document| document.read())
}

fn set(number: usize, credits: i64) -> Result<(LogId, Changes)> {
    Ok((id(number), Changes::new().put("credits", Json::of(&credits)?)))
}

async fn sum(store: &Store) -> i64 {
    let (mut sum, all) = (0, all());
    let look = store.transact(&all, |states| {
        sum = (0..LOGS).map(|number| credits(states, number)).sum::<Result<i64>>()?;
        Ok(Vec::new())
    });
    look.await.unwrap();
    sum
}

async fn moves(stores: [Store; 2]) {
    assert!(stores.iter().all(|store| store.capabilities().atomic_create));
    stores[0].commit((0..LOGS).map(|number| set(number, 100).unwrap()).collect()).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..2 * TASKS {
        let store = stores[task % 2].clone();
        tasks.spawn(async move {
            for round in 0..EACH {
                let (from, to) = ((task + round) % LOGS, (task + 2 * round + 1) % LOGS);
                if from == to {
                    assert_eq!(sum(&store).await, 400);
                    continue;
                }
                let both = [id(to), id(from)];
                let moved = store.transact(&both, |states| {
                    let (has, gets) = (credits(states, from)?, credits(states, to)?);
                    Ok(vec![set(from, has - 1)?, set(to, gets + 1)?])
                });
                assert_eq!(moved.await.unwrap().len(), 2);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(sum(&stores[1]).await, 400);
    let damage = stores[0].verify(&LogPrefix::all(), |_| ()).await.unwrap().damage;
    assert!(damage.is_empty(), "{damage:?}");
}

async fn two(url: &str) -> [Store; 2] {
    [icecore::open(url).await.unwrap(), icecore::open(url).await.unwrap()]
}

/// Moves one credit, once under its id; both logs say so.
async fn moves_one(store: &Store, from: usize, to: usize, entry: &str) {
    let moved = |(log, changes): (LogId, Changes), amount: i64| {
        let event = Event::new("moved", amount.to_string());
        (log, changes.event(event).with_id(EntryId::new(entry).unwrap()))
    };
    let decide = |states: &States| {
        let (has, gets) = (credits(states, from)?, credits(states, to)?);
        Ok(vec![moved(set(from, has - 1)?, -1), moved(set(to, gets + 1)?, 1)])
    };
    store.transact(&[id(from), id(to)], decide).await.unwrap();
}

/// The role of a process that moves credits, which ends only by being killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: what the tests of this file start and kill"]
async fn mover_process() {
    let (url, mover) = killed::role();
    let store = icecore::open(&url).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (store, name) = (store.clone(), format!("{mover}-{}-{task}", std::process::id()));
        tasks.spawn(async move {
            for number in 0.. {
                let from = (task + number) % LOGS;
                let entry = format!("{name}-{number}");
                moves_one(&store, from, (from + 1 + number % (LOGS - 1)) % LOGS, &entry).await;
                killed::acknowledge(&entry);
            }
        });
    }
    tasks.join_all().await;
}

/// Every move is in two logs, or in none, and once; what a log has is what its moves say.
async fn check(store: &Store, acknowledged: &BTreeSet<String>, what: &str) {
    let states = store.states(&all()).await.unwrap();
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for number in 0..LOGS {
        let log = store.log(id(number));
        let (mut reader, mut has) = (log.read(Range::default()), 100);
        loop {
            let page = reader.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            let events = page.into_iter().flat_map(|commit| commit.into_events());
            for event in events.filter(|event| event.event.kind == "moved") {
                let amount = serde_json::from_slice(&event.event.data).unwrap();
                has += amount;
                found.entry(event.id.unwrap().as_str().to_owned()).or_default().push(amount);
            }
        }
        assert_eq!(credits(&states, number).unwrap(), has, "{what}: log {number}");
    }
    for (entry, mut amounts) in found.clone() {
        amounts.sort_unstable();
        assert_eq!(amounts, [-1, 1], "{what}: {entry} is in some of its logs");
    }
    for entry in acknowledged {
        assert!(found.contains_key(entry), "{what}: {entry} was acknowledged");
    }
    let damage = store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage;
    assert!(damage.is_empty(), "{what}: {damage:?}");
}

async fn killed_again_and_again(url: &str, movers: usize, rounds: usize, most: u64) {
    let store = icecore::open(url).await.unwrap();
    store.commit((0..LOGS).map(|number| set(number, 100).unwrap()).collect()).await.unwrap();
    store.shut_down().await.unwrap();
    let (rounds, mut chance) = (killed::rounds(rounds), Chance::new());
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let count = || chance.below(most);
        acknowledged.extend(killed::kill_all("mover_process", url, movers, count));
        let store = icecore::open(url).await.unwrap();
        check(&store, &acknowledged, &format!("round {round}")).await;
        store.shut_down().await.unwrap();
    }
    assert!(acknowledged.len() > rounds, "{} acknowledgements say nothing", acknowledged.len());
    println!("{} acknowledged, all there, all whole", acknowledged.len());
}

#[tokio::test]
async fn movers_that_are_killed_leave_all_or_none_on_file() {
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(&format!("file:{}", folder.path().join("store").display()), 1, 6, 200).await;
}

#[tokio::test]
async fn two_movers_that_are_killed_leave_all_or_none_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(&format!("sqlite:{}", folder.path().join("store.db").display()), 2, 6, 100).await;
}

#[tokio::test]
async fn two_movers_that_are_killed_leave_all_or_none_on_postgres() {
    let database = Database::create(&services::url("postgres")).unwrap();
    killed_again_and_again(&database.url(), 2, 6, 60).await;
}

#[tokio::test]
async fn two_movers_that_are_killed_leave_all_or_none_on_mysql() {
    let database = mariadb::Database::create(&services::url("mariadb")).unwrap();
    killed_again_and_again(&database.url(), 2, 6, 60).await;
}

#[tokio::test]
async fn two_movers_that_are_killed_leave_all_or_none_on_mongodb() {
    let database = mongodb::Database::new(&services::url("mongodb"));
    killed_again_and_again(&database.url(), 2, 6, 60).await;
}

#[tokio::test]
async fn two_movers_that_are_killed_leave_all_or_none_on_dynamodb() {
    let table = Table::new();
    // What stands for the service is slow.
    killed_again_and_again(&table.url(), 2, 2, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = icecore::open(&format!("file:{}", folder.path().join("store").display())).await.unwrap();
    moves([store.clone(), store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    moves(two(&format!("sqlite:{}", folder.path().join("store.db").display())).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_postgres() {
    let database = Database::create(&services::url("postgres")).unwrap();
    moves(two(&database.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_mysql() {
    let database = mariadb::Database::create(&services::url("mariadb")).unwrap();
    moves(two(&database.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_mongodb() {
    let database = mongodb::Database::new(&services::url("mongodb"));
    moves(two(&database.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_move_between_logs_add_up_on_dynamodb() {
    let table = Table::new();
    moves(two(&table.url()).await).await;
    // More than one transaction of the system takes.
    let store = icecore::open(&table.url()).await.unwrap();
    let error = store.commit((0..101).map(|number| set(number, 1).unwrap()).collect()).await.unwrap_err();
    assert!([ErrorKind::Refused, ErrorKind::Invalid].contains(&error.kind()), "{error}");
    assert_eq!(sum(&store).await, 400);
}

#[tokio::test]
async fn systems_that_cannot_say_so_and_write_nothing() {
    let prefix = Prefix::new(&services::url("redis"));
    for url in [prefix.url(), buckets::s3(), buckets::gcs(), buckets::azure()] {
        let store = icecore::open(&url).await.unwrap();
        let error = store.commit(vec![set(0, 1).unwrap(), set(1, 1).unwrap()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("one log"), "{error}");
        assert_eq!(store.log(id(0)).head().await.unwrap(), None);
        // One alone is no transaction over several.
        assert_eq!(store.commit(vec![set(0, 1).unwrap()]).await.unwrap().len(), 1);
        // And they can be looked at.
        let states = store.states(&[id(1), id(0)]).await.unwrap();
        assert_eq!((credits(&states, 0).unwrap(), credits(&states, 1).unwrap()), (1, 0));
    }
}
