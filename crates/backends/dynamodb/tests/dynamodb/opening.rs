//! What a store is opened on, what is refused, and what is found damaged.

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create, log, noise, numbered, one, page};
use icecore_dynamodb::{Access, DynamoDb, DynamoStore, Settings};
use icecore_log::backend::Depth;
use icecore_log::{
    Backend, BlobId, Durability, Error, ErrorKind, LogPrefix, PageLimit, StoredCommit, Version,
};
use icecore_services::dynamodb::Table;
use serde_json::json;

use crate::front::{ask, keys};
use crate::store;

async fn refused(url: &str) -> Error {
    store(url).await.expect_err(url)
}

async fn read_only(url: &str) -> Result<DynamoStore, Error> {
    DynamoDb::open(Settings::parse(url).unwrap(), Access::ReadOnly).await
}

#[tokio::test]
async fn a_table_is_made_only_where_it_is_asked_for() {
    let table = Table::new();
    let url = table.url();
    let without = url.replace("create=true&", "");
    assert_eq!(refused(&without).await.kind(), ErrorKind::NotFound);
    assert_eq!(read_only(&url).await.unwrap_err().kind(), ErrorKind::NotFound, "looking makes nothing");

    let store = store(&url).await.unwrap();
    append(&store, &log("s-1"), 1..=1).await;
    let described = ask(&url, "DescribeTable", json!({}));
    assert_eq!(described["Table"]["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(page(&read_only(&without).await.unwrap(), &log("s-1"), 1).await.commits.len(), 1);
    let other = format!("{without}&prefix=other");
    assert_eq!(read_only(&other).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!keys(&url).iter().any(|key| key.starts_with("other")));
}

#[tokio::test]
async fn a_place_that_holds_something_else_is_refused() {
    let table = Table::new();
    let url = table.url();
    let attribute = |name: &str| json!({ "AttributeName": name, "AttributeType": "S" });
    let made = json!({
        "AttributeDefinitions": [attribute("pk"), attribute("other")],
        "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "other", "KeyType": "RANGE" }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    ask(&url, "CreateTable", made);
    let told = refused(&url).await;
    assert_eq!(told.kind(), ErrorKind::Refused);
    assert!(told.to_string().contains("not one of Icecore"), "{told}");

    let table = Table::new();
    let url = table.url();
    store(&url).await.unwrap();
    for (value, advice) in [("icecore dynamodb 2", "later version"), ("x", "another program")] {
        let item = json!({ "pk": { "S": "icecore/s" }, "sk": { "S": "s" }, "v": { "S": value } });
        ask(&url, "PutItem", json!({ "Item": item }));
        let told = refused(&url).await;
        assert_eq!(told.kind(), ErrorKind::Refused);
        assert!(told.to_string().contains(advice), "{told}");
    }
    store(&format!("{url}&prefix=other")).await.unwrap();
}

#[tokio::test]
async fn a_table_that_deletes_commits_by_itself_is_refused() {
    let table = Table::new();
    let url = table.url();
    store(&url).await.unwrap();
    let expire = |by: &str| {
        let set = json!({ "TimeToLiveSpecification": { "Enabled": true, "AttributeName": by } });
        ask(&url, "UpdateTimeToLive", set);
    };
    expire("n");
    let told = refused(&url).await;
    assert_eq!(told.kind(), ErrorKind::Refused);
    assert!(told.to_string().contains("time to live"), "{told}");

    let off = json!({ "TimeToLiveSpecification": { "Enabled": false, "AttributeName": "n" } });
    ask(&url, "UpdateTimeToLive", off);
    expire("expires");
    let facts = store(&url).await.unwrap().examine(Depth::Quick).await.unwrap().facts;
    assert!(
        facts.iter().any(|(name, value)| name == "time_to_live" && value.contains("expires")),
        "{facts:?}"
    );
}

/// What `icecore doctor` shows.
#[tokio::test]
async fn what_the_table_is_set_to_is_told() {
    let table = Table::new();
    let url = table.url();
    let store = store(&url).await.unwrap();
    let told = async || {
        let facts = store.examine(Depth::Quick).await.unwrap().facts;
        move |name: &str| facts.iter().find(|(fact, _)| fact == name).unwrap().1.clone()
    };
    let fact = told().await;
    assert_eq!(fact("table"), table.name());
    assert_eq!(fact("billing"), "PAY_PER_REQUEST");
    assert_eq!(fact("region"), "us-east-1");
    assert_eq!(fact("endpoint").trim_end_matches('/'), table.server().trim_end_matches('/'));
    assert!(fact("time_to_live").starts_with("off"));
    assert!(fact("point_in_time_recovery").starts_with("off"));

    let on = json!({ "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true } });
    ask(&url, "UpdateContinuousBackups", on);
    assert_eq!(told().await("point_in_time_recovery"), "on");
}

/// No attribute of ours is a number that is not among those that are looked for.
#[tokio::test]
async fn every_number_that_an_item_has_is_looked_for() {
    let table = Table::new();
    let url = format!("{}&grace_s=300", table.url());
    let store = store(&url).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;
    store.close(&log, Version(2)).await.unwrap();
    store.put_blob(&BlobId::new(log, "b").unwrap(), noise(10, 1)).await.unwrap();
    let found = ask(&url, "Scan", json!({}));
    let mut numbers: Vec<&str> = found["Items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|item| item.as_object().unwrap())
        .filter(|(_, value)| value.get("N").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, ["c", "f", "m", "n", "q", "t"]);
}

#[tokio::test]
async fn what_is_declared_is_what_the_url_says() {
    let table = Table::new();
    let url = table.url();
    assert_eq!(store(&url).await.unwrap().capabilities().durability, Durability::Disk);
    let said = store(&format!("{url}&durability=process")).await.unwrap();
    assert_eq!(said.capabilities().durability, Durability::Process);
}

/// A body of many megabytes, and a header of more than an item has room for, are whole, in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_an_item_is_whole() {
    let table = Table::new();
    let url = format!("{}&grace_s=0", table.url());
    let store = store(&url).await.unwrap();
    let (log, body, header) = (log("s-1"), noise(20 << 20, 7), noise(500_000, 8));
    let large = StoredCommit { version: Version(1), header: header.clone(), body: Some(body.clone()) };
    assert_eq!(create(&store, one(&log, large.clone())).await, Told::done(1));
    assert_eq!(create(&store, one(&log, large.clone())).await, Told::done(1), "won again");
    let next = numbered(2, 0);
    let run = icecore_log::Run { log: log.clone(), previous: large.hash(), commits: vec![next] };
    assert_eq!(create(&store, run).await, Told::done(1));

    let found = page(&store, &log, 1).await.commits;
    assert_eq!(found.len(), 1, "a page ends with the commit that reaches its bytes");
    assert!(found[0] == large, "the commit is another");
    store.drop_bodies(&log, &[Version(1)]).await.unwrap();
    let commits = store.read(&log, Version(1), PageLimit::WHOLE).await.unwrap().commits;
    assert_eq!((commits.len(), &commits[0].header, &commits[0].body), (2, &header, &None));
    let parts = || keys(&url).into_iter().filter(|key| key.contains(" b")).count();
    assert_eq!(parts(), 2, "those of the header");
    store.close(&log, Version(1)).await.unwrap();
    assert_eq!(store.sweep(&log).await.unwrap().bytes, 500_000);
    assert_eq!(parts(), 0);
}

/// Two handles of two large bodies for one slot: one is there, whole, and what the other left goes with a sweep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_large_bodies_have_one_winner() {
    let table = Table::new();
    let url = format!("{}&grace_s=0", table.url());
    let handles = [store(&url).await.unwrap(), store(&url).await.unwrap()];
    for round in 1..=5 {
        let log = log(&format!("race-{round}"));
        let commit =
            |seed| one(&log, StoredCommit { body: Some(noise(1_000_000, seed)), ..numbered(1, seed) });
        let (told, other) = tokio::join!(create(&handles[0], commit(0)), create(&handles[1], commit(1)));
        assert!(told.is_done() != other.is_done(), "{told:?} {other:?}");
        let winner = u64::from(other.is_done());
        let found = page(&handles[0], &log, 1).await.commits.remove(0);
        assert!(found.body == Some(noise(1_000_000, winner)), "the winner's body");

        let next =
            icecore_log::Run { log: log.clone(), previous: found.hash(), commits: vec![numbered(2, 0)] };
        assert_eq!(create(&handles[0], next).await, Told::done(1));
        handles[0].close(&log, Version(1)).await.unwrap();
        handles[0].sweep(&log).await.unwrap();
    }
    assert!(!keys(&url).iter().any(|key| key.contains(" b")), "no part is left");
}

/// Damage is named by log and version, and what is beside it is read.
#[tokio::test]
async fn damage_is_found_by_log_and_version() {
    let table = Table::new();
    let url = table.url();
    let store = store(&url).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=6).await;
    let large = StoredCommit { body: Some(noise(1_000_000, 1)), ..numbered(7, 0) };
    assert_eq!(create(&store, one(&log, large)).await, Told::done(1));
    let key = |sort: &str| json!({ "pk": { "S": format!("icecore/l/{log}") }, "sk": { "S": sort } });
    let set = |version: u64, name: &str| {
        ask(
            &url,
            "UpdateItem",
            json!({
                "Key": key(&format!("c{version:016x}")), "UpdateExpression": format!("SET {name} = :b"),
                "ExpressionAttributeValues": { ":b": { "B": "b3RoZXIgYnl0ZXM=" } },
            }),
        );
    };
    set(2, "b");
    set(4, "h");
    ask(&url, "DeleteItem", json!({ "Key": key("c0000000000000005") }));
    let part = keys(&url).into_iter().find(|key| key.contains(" b")).unwrap();
    ask(&url, "DeleteItem", json!({ "Key": key(part.split(' ').nth(1).unwrap()) }));

    for version in [2, 4, 5, 7] {
        let told = store.read(&log, Version(version), PageLimit::WHOLE).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Corrupt);
        assert_eq!(told.fact("version"), Some(&*version.to_string()), "{told}");
    }
    let damage = store.examine(Depth::Deep).await.unwrap().damage;
    let versions: Vec<_> = damage.iter().filter_map(|error| error.fact("version")).collect();
    assert_eq!(versions, ["2", "4", "5", "7"]);
}

/// All or none is one transaction of the service: what it does not take is refused before anything is sent, and says how much it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_or_none_ends_where_the_services_transactions_do() {
    use icecore_conformance::commits::{create_in, run};
    use icecore_log::Mode;
    let table = Table::new();
    let url = table.url();
    let store = store(&url).await.unwrap();
    // A new log takes three items: its commit, its name, and itself.
    let logs: Vec<_> = (0..34).map(|number| log(&format!("s-{number}"))).collect();
    let runs = |count: usize| logs[..count].iter().map(|log| run(log, 1..=1, 0)).collect::<Vec<_>>();
    let answers = store.create(runs(34), Mode::AllOrNone).await;
    let icecore_log::End::Failed(told) = &answers[0].end else { panic!("{answers:?}") };
    assert_eq!(
        (told.kind(), told.fact("items"), told.fact("items_max")),
        (ErrorKind::Refused, Some("102"), Some("100"))
    );
    assert!(store.logs(&LogPrefix::all(), None, 10).await.unwrap().logs.is_empty());
    assert_eq!(create_in(&store, runs(33), Mode::AllOrNone).await, [Told::done(1); 33]);
    // Many at once, each for itself, are as many as one likes.
    assert_eq!(create_in(&store, runs(34), Mode::Each).await, [Told::done(1); 34]);
}

/// Two stores race for the same logs, all or none: each round has one winner, which has them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transactions_for_the_same_logs_one_is_whole() {
    use icecore_conformance::commits::{create_in, run};
    use icecore_log::Mode;
    let table = Table::new();
    let url = table.url();
    let handles = [store(&url).await.unwrap(), store(&url).await.unwrap()];
    for round in 0..10 {
        let logs: Vec<_> = (0..3).map(|number| log(&format!("s-{round}-{number}"))).collect();
        let runs = |seed| logs.iter().map(|log| run(log, 1..=2, seed)).collect::<Vec<_>>();
        let (told, other) = tokio::join!(
            create_in(&handles[0], runs(0), Mode::AllOrNone),
            create_in(&handles[1], runs(1), Mode::AllOrNone)
        );
        assert!(told[0].is_done() != other[0].is_done(), "{told:?} {other:?}");
        let winner = u64::from(other[0].is_done());
        for log in &logs {
            assert_eq!(page(&handles[0], log, 1).await.commits, run(log, 1..=2, winner).commits);
        }
    }
}
