//! What is opened, what is refused, and what is kept how.

use icecore_conformance::commits::{append, commit, create, create_in, log, noise, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::{Depth, Swept};
use icecore_log::{Backend, BlobId, ErrorKind, Mode, Version};
use icecore_mongodb::{Access, MongoDb, Settings};
use icecore_services::mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::options::Collation;

use crate::{database, store};

async fn raw(database: &Database) -> mongodb::Database {
    mongodb::Client::with_uri_str(database.url()).await.unwrap().database(database.name())
}

async fn refused(url: &str, access: Access) -> ErrorKind {
    MongoDb::open(Settings::parse(url).unwrap(), access).await.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_store_or_another_is_told() {
    let database = database();
    assert_eq!(refused(&database.url(), Access::ReadOnly).await, ErrorKind::NotFound);
    assert_eq!(raw(&database).await.list_collection_names().await.unwrap(), [""; 0], "nothing was made");
    assert_eq!(
        refused("mongodb://127.0.0.1:1/?timeout_ms=300", Access::ReadWrite).await,
        ErrorKind::Unavailable
    );

    store(&database.url()).await.unwrap().shut_down().await.unwrap();
    let reader = MongoDb::open(Settings::parse(&database.url()).unwrap(), Access::ReadOnly).await.unwrap();
    assert_eq!(create(&reader, run(&log("s-1"), 1..=1, 0)).await, Told::failed(ErrorKind::Refused));
    for format in ["icecore mongodb 2", "something"] {
        let stores = raw(&database).await.collection::<Document>("icecore_store");
        stores.update_one(doc! {}, doc! {"$set": {"format": format}}).await.unwrap();
        assert_eq!(refused(&database.url(), Access::ReadWrite).await, ErrorKind::Refused, "{format}");
    }
}

/// Whoever comes second finds what the first has made, and waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_made_once_by_many_who_open_it() {
    let database = database();
    let url = format!("{}&timeout_ms=5000", database.url());

    let opened = futures_util::future::join_all((0..4).map(|_| store(&url))).await;

    for (version, store) in (1..).zip(opened) {
        append(&store.unwrap(), &log("s-1"), version..=version).await;
    }
}

/// Contract 8. Two names that differ in a letter's case would be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_folds_names_is_refused() {
    let database = database();
    let folding = Collation::builder().locale("en").build();
    raw(&database).await.create_collection("icecore_commits").collation(folding).await.unwrap();

    assert_eq!(refused(&database.url(), Access::ReadWrite).await, ErrorKind::Refused);
}

/// Contract 6. Longer than a document can be; and nothing of it stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_many_megabytes_are_whole_and_go_with_their_commits() {
    let database = database();
    let store = store(&database.url()).await.unwrap();
    let log = log("s-1");
    let mut ours = run(&log, 1..=4, 0);
    let sizes = [8 << 20, (8 << 20) + 1, 40 << 20];
    for (number, size) in (0..).zip(sizes) {
        ours.commits[number] = commit(number as u64 + 1, 0, noise(size, number as u64));
    }
    let other = crate::store(&database.url()).await.unwrap();
    let (mut before, mut behind) = (ours.clone(), ours.clone());
    before.commits.truncate(2);
    behind.commits.drain(..2);
    behind.previous = before.commits[1].hash();
    assert_eq!(create(&other, before).await, Told::done(2));
    assert_eq!(create(&store, behind).await, Told::done(2));
    // That of one who saw the slot empty, and lost, leaves nothing either.
    let theirs = one(&log, commit(3, 9, noise(20 << 20, 9)));
    assert_eq!(create(&other, theirs).await, Told::stopped(Ending::Taken));

    for (number, expected) in (1..).zip(&ours.commits) {
        assert_eq!(page(&store, &log, number).await.commits.first(), Some(expected), "{number}");
    }
    let parts = raw(&database).await.collection::<Document>("icecore_parts");
    let left = || async { parts.count_documents(doc! {}).await.unwrap() };
    assert_eq!(left().await, 2 + 5);
    store.drop_bodies(&log, &[Version(2)]).await.unwrap();
    assert_eq!(left().await, 5);
    store.close(&log, Version(3)).await.unwrap();
    let mut settings = Settings::parse(&database.url()).unwrap();
    settings.grace = std::time::Duration::ZERO;
    let sweeper = MongoDb::open(settings, Access::ReadWrite).await.unwrap();
    let bytes =
        ours.commits.iter().take(3).map(|commit| commit.header.len()).sum::<usize>() + sizes[0] + sizes[2];
    assert_eq!(sweeper.sweep(&log).await.unwrap(), Swept { commits: 3, bytes: bytes as u64 });
    assert_eq!(left().await, 0);

    let blob = BlobId::new(log.clone(), "large").unwrap();
    let bytes = noise(20 << 20, 5);
    assert!(store.put_blob(&blob, bytes.clone()).await.unwrap());
    assert!(!store.put_blob(&blob, noise(20 << 20, 6)).await.unwrap());
    assert_eq!(left().await, 3);
    let range = (8 << 20) - 3..(16 << 20) + 3;
    let part = store.get_blob(&blob, Some(range.start as u64..range.end as u64)).await.unwrap();
    assert_eq!(part.unwrap(), bytes.slice(range));
    store.delete_blob(&blob).await.unwrap();
    assert_eq!(left().await, 0);
}

/// Contract 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_or_lost_below_is_told_by_its_version() {
    let database = database();
    let store = store(&database.url()).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=5).await;
    let commits = raw(&database).await.collection::<Document>("icecore_commits");
    let named = |version: u64| doc! {"_id": format!("{log}/{version:016x}")};
    commits.update_one(named(2), doc! {"$set": {"bc": 1_i64}}).await.unwrap();
    commits.delete_one(named(4)).await.unwrap();

    let damage = store.examine(Depth::Deep).await.unwrap().damage;
    let told: Vec<String> = damage
        .iter()
        .flat_map(|error| {
            error.facts().filter(|(name, _)| *name == "version").map(|(_, value)| value.to_string())
        })
        .collect();
    assert_eq!(told, ["2", "4"], "{damage:?}");
    assert_eq!(page(&store, &log, 1).await.commits.len(), 1, "what comes before it can be read");
    for version in [2, 4] {
        let error = store.read(&log, Version(version), icecore_log::PageLimit::WHOLE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

/// Contract 7. Transactions over the same logs in another order: each is won whole, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_transactions_are_all_or_none() {
    let database = database();
    let stores = [store(&database.url()).await.unwrap(), store(&database.url()).await.unwrap()];
    let (one, two) = (log("s-1"), log("s-2"));
    let mut last = 0;
    for version in 1..=20 {
        let runs = |seed: u64| {
            let behind = |log| icecore_log::Run {
                previous: icecore_conformance::commits::hash(version - 1, last),
                ..run(log, version..=version, seed)
            };
            [behind(&one), behind(&two)]
        };
        let ([a, b], [c, d]) = (runs(1), runs(2));
        let (first, second) = tokio::join!(
            create_in(&stores[0], vec![a, b], Mode::AllOrNone),
            create_in(&stores[1], vec![d, c], Mode::AllOrNone)
        );
        let won = [&first, &second].map(|told| *told == [Told::done(1); 2]);
        assert!(won[0] != won[1], "{version}: {first:?} {second:?}");
        last = if won[0] { 1 } else { 2 };
        for log in [&one, &two] {
            let found = page(&stores[0], log, version).await.commits;
            assert_eq!(found, run(log, version..=version, last).commits);
        }
    }
}
