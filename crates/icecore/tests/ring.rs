//! Logs that are copied from system to system, around all of them, come back byte for byte.
#![cfg(all(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "object",
    feature = "redis",
    feature = "dynamodb"
))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::BTreeMap;

use icecore::log::backend::Page;
use icecore::log::{Backend, PageLimit};
use icecore::{Entry, EntryId, Event, LogId, LogPrefix, Store, Version, copy};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};

/// Logs of all kinds: one commit, many, with and without ids, large, with dropped bodies, and names that systems fold.
async fn fill(store: &Store) {
    for number in 0..40 {
        let keys = ["s-", "S-", "s=", "s ", "\u{10FFFF}", "..", "#", "a/b"];
        let key = format!("{}{number}", keys[number % keys.len()]);
        let log = store.log(LogId::new("acme", "session", &key).unwrap());
        for entry in 0..=number % 7 {
            let text = "x".repeat(if number == 20 { 300_000 } else { 10 * entry });
            let event = Event::new("said", format!(r#"{{"n":{entry},"text":"{text}"}}"#));
            let entry = Entry::new(event).with_id(EntryId::new(format!("m-{entry}")).unwrap());
            log.append(entry).await.unwrap();
        }
    }
    let dropped = LogId::new("acme", "session", "S-33").unwrap();
    store.backend().drop_bodies(&dropped, &[Version(2), Version(4)]).await.unwrap();
}

async fn everything(store: &Store) -> BTreeMap<LogId, Vec<Page>> {
    let mut all = BTreeMap::new();
    for log in store.all_logs(&LogPrefix::all()).await.unwrap() {
        all.insert(log.clone(), pages(&**store.backend(), &log).await);
    }
    all
}

async fn pages(backend: &dyn Backend, log: &LogId) -> Vec<Page> {
    let (mut pages, mut from) = (Vec::new(), Version::FIRST);
    loop {
        // A commit a page: pages of many are cut where it suits the system.
        let page = backend.read(log, from, PageLimit::WHOLE.commits(1)).await.unwrap();
        let Some(last) = page.commits.last() else {
            return pages;
        };
        from = last.version.next();
        pages.push(page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_back_byte_for_byte_around_all_systems() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&services::url("postgres")).unwrap();
    let at = |name: &str| format!("{name}:{}", folder.path().join(name).display());
    let mysql = mariadb::Database::create(&services::url("mariadb")).unwrap();
    let prefix = Prefix::new(&services::url("redis"));
    let mongodb = mongodb::Database::new(&services::url("mongodb"));
    let table = Table::new();
    let servers = [
        database.url(),
        mysql.url(),
        buckets::s3(),
        prefix.url(),
        buckets::gcs(),
        table.url(),
        buckets::azure(),
        mongodb.url(),
    ];
    let urls: Vec<String> = [at("file"), at("sqlite")].into_iter().chain(servers).collect();
    let first = icecore::open("memory:").await.unwrap();
    fill(&first).await;
    let expected = everything(&first).await;
    assert_eq!(expected.len(), 40);

    let mut from = first.clone();
    for url in &urls {
        let to = icecore::open(url).await.unwrap();
        // Stopped half-way, and begun again.
        copy(&from, &to, &LogPrefix::parse("acme/session/s").unwrap(), |_| ()).await.unwrap();
        let copied = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
        let again = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

        assert_eq!((copied.logs, again.unchanged, again.commits), (40, 40, 0), "{}", icecore::redact(url));
        from.shut_down().await.unwrap();
        from = to;
    }

    assert_eq!(everything(&from).await, expected);
    assert!(from.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
}
