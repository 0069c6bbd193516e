//! Logs that are copied from system to system, around all of them, come back byte for byte.
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
    reason = "a test says so by failing; the long ring says how far it is"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use icecore::log::{PageLimit, StoredCommit};
use icecore::{Entry, EntryId, Event, LogId, LogPrefix, Open, Store, Version, copy};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};
use tokio::task::JoinSet;

const FROM: &str = "ICECORE_RING_FROM";
const TO: &str = "ICECORE_RING_TO";
const ALL: &str = "acme";

/// `ICECORE_LONG=1` takes the ring that was promised; without it, one that fits into every run.
fn logs() -> u64 {
    if std::env::var_os("ICECORE_LONG").is_some() { 10_000 } else { 200 }
}

/// Logs of all kinds: one commit, many, with and without ids, large, with dropped bodies, and names that systems fold.
async fn fill(store: &Store) {
    let mut tasks = JoinSet::new();
    for number in 0..logs() {
        let store = store.clone();
        tasks.spawn(async move {
            let keys = ["s-", "S-", "s=", "s ", "\u{10FFFF}", "..", "#", "a/b"];
            let key = format!("{}{number}", keys[number as usize % keys.len()]);
            let log = store.log(LogId::new("acme", "session", &key).unwrap());
            for entry in 0..=number % 7 {
                let text = "x".repeat(if number == 20 { 300_000 } else { 10 * entry as usize });
                let event = Event::new("said", format!(r#"{{"n":{entry},"text":"{text}"}}"#));
                let id = (number % 3 > 0).then(|| EntryId::new(format!("m-{entry}")).unwrap());
                log.append(Entry { id, events: vec![event] }).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let dropped = LogId::new("acme", "session", "S-33").unwrap();
    store.backend().drop_bodies(&dropped, &[Version(2), Version(4)]).await.unwrap();
}

/// Every commit of every log, in the bytes that the system answered, and the boundary.
type Everything = BTreeMap<LogId, (Vec<StoredCommit>, Version)>;

async fn everything(store: &Store) -> Everything {
    let mut all = BTreeMap::new();
    for log in store.all_logs(&LogPrefix::all()).await.unwrap() {
        let (mut commits, mut from) = (Vec::new(), Version::FIRST);
        let boundary = loop {
            let page = store.backend().read(&log, from, PageLimit::WHOLE).await.unwrap();
            let Some(last) = page.commits.last() else {
                break page.boundary;
            };
            from = last.version.next();
            commits.extend(page.commits);
        };
        all.insert(log, (commits, boundary));
    }
    all
}

/// The role of a process that copies, and tells of each log; it is killed on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the process that the test of this file starts and kills"]
async fn copier_process() {
    let from = Open::read_only().open(&std::env::var(FROM).unwrap()).await.unwrap();
    let to = icecore::open(&std::env::var(TO).unwrap()).await.unwrap();
    let told = |copied: &icecore::store::copy::Copied| {
        std::io::stdout().lock().write_all(format!("copied {}\n", copied.logs).as_bytes()).unwrap();
    };
    copy(&from, &to, &LogPrefix::parse(ALL).unwrap(), told).await.unwrap();
    // Who kills it does so before it is done.
    std::future::pending::<()>().await;
}

/// Copies in a process of its own, which is killed when it says that half of the logs are there.
fn copy_and_kill(from: &str, to: &str) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["copier_process", "--exact", "--ignored", "--nocapture", "--quiet"])
        .env(FROM, from)
        .env(TO, to)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut copied = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        copied = line.strip_prefix("copied ").map_or(copied, |count| count.parse().unwrap());
        if copied >= logs() / 2 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    copied
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
    let mut urls: Vec<String> = [at("file"), at("sqlite")].into_iter().chain(servers).collect();
    // Back into memory: to where it began.
    urls.push("memory:".to_owned());
    let all = LogPrefix::parse(ALL).unwrap();
    let first = icecore::open("memory:").await.unwrap();
    fill(&first).await;
    let expected = everything(&first).await;
    assert_eq!(expected.len() as u64, logs());

    let mut from = first.clone();
    let mut from_url = "memory:";
    for url in &urls {
        let begun = Instant::now();
        let is_shared = from_url != "memory:" && url != "memory:";
        let there = if is_shared {
            // One process at a time writes a file: this one has let go of it.
            from.shut_down().await.unwrap();
            let there = copy_and_kill(from_url, url);
            from = Open::read_only().open(from_url).await.unwrap();
            there
        } else {
            0
        };
        let to = icecore::open(url).await.unwrap();
        let copied = copy(&from, &to, &all, |_| ()).await.unwrap();
        let again = copy(&from, &to, &all, |_| ()).await.unwrap();

        let shown = icecore::redact(url);
        assert!(!is_shared || (there >= logs() / 2 && copied.unchanged > 0), "{shown}: {there}, {copied:?}");
        assert_eq!((copied.logs, again.unchanged, again.commits), (logs(), logs(), 0), "{shown}");
        println!(
            "{} logs came to {} in {:.0} s",
            logs(),
            to.capabilities().system,
            begun.elapsed().as_secs_f64()
        );
        from.shut_down().await.unwrap();
        (from, from_url) = (to, url);
    }

    assert_eq!(everything(&from).await, expected);
    assert!(from.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
}
