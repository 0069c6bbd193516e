//! Transactions over several logs on every system that has them: racing handles move amounts between logs, and none is lost or made.
#![cfg(all(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "object",
    feature = "redis",
    feature = "dynamodb"
))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use icecore::{Changes, ErrorKind, Json, LogId, LogPrefix, Result, States, Store};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};
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
