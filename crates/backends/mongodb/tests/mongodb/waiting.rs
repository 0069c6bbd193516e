//! Waiters are told by a replica set, and seldom ask.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, log};
use icecore_log::{Backend, Version};
use icecore_mongodb::{Access, MongoDb, Settings};
use icecore_services::mongodb::Server;
use mongodb::bson::doc;
use tokio::time::{sleep, timeout};

use crate::{MINUTE, database, open_at, store};

/// Of what another process creates, while it waits; it would look again in an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_is_told_of_what_another_process_creates() {
    let database = database();
    let other = store(&database.url()).await.unwrap();
    let hour = |settings: &mut Settings| settings.look_every = Duration::from_secs(3_600);
    let waiter = open_at(database.url(), hour).await.unwrap();
    for version in 1..=20 {
        let seen = [(log("quiet"), Version(0)), (log("s-1"), Version(version - 1))];
        let sleeping = Arc::clone(&waiter);
        let waiting = tokio::spawn(async move { timeout(MINUTE, sleeping.wait(&seen, 2 * MINUTE)).await });
        append(&other, &log("another"), version..=version).await;
        sleep(Duration::from_millis(5 * version)).await;
        append(&other, &log("s-1"), version..=version).await;
        waiting.await.unwrap().expect("it was not told").unwrap();
    }
    waiter.shut_down().await.unwrap();
}

/// What the server is asked for while nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_wait_ask_seldom() {
    const WAITERS: usize = 40;
    let server = Server::start_set().unwrap();
    let admin = mongodb::Client::with_uri_str(server.url()).await.unwrap().database("admin");
    let asked = || async {
        let status = admin.run_command(doc! {"serverStatus": 1}).await.unwrap();
        let counters = status.get_document("opcounters").unwrap();
        counters.get_i64("query").or_else(|_| counters.get_i32("query").map(i64::from)).unwrap()
    };
    let waiter = Arc::new(store(&server.url()).await.unwrap());
    for number in 0..WAITERS {
        let (waiter, seen) = (Arc::clone(&waiter), [(log(&format!("s-{number}")), Version(0))]);
        tokio::spawn(async move { waiter.wait(&seen, MINUTE).await });
    }
    // Once the change stream is there. Without it their looks together every 20 ms would be 100 in two seconds.
    let quiet = async {
        loop {
            let before = asked().await;
            sleep(Duration::from_secs(2)).await;
            if asked().await - before <= 20 {
                return;
            }
        }
    };
    timeout(MINUTE / 2, quiet).await.expect("they go on asking");
    waiter.shut_down().await.unwrap();
}

/// One that may only read is told too, and a handle that nobody shuts down leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_told_too() {
    let database = database();
    let other = store(&database.url()).await.unwrap();
    let mut settings = Settings::parse(&database.url()).unwrap();
    settings.look_every = Duration::from_secs(3_600);
    let reader = Arc::new(MongoDb::open(settings, Access::ReadOnly).await.unwrap());
    let (sleeping, seen) = (Arc::clone(&reader), [(log("s-1"), Version(0))]);
    let waiting = tokio::spawn(async move { timeout(MINUTE, sleeping.wait(&seen, 2 * MINUTE)).await });
    sleep(Duration::from_millis(100)).await;
    append(&other, &log("s-1"), 1..=1).await;
    waiting.await.unwrap().expect("it was not told").unwrap();
}
