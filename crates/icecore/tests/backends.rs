//! `docs/backends.md` is what the backends of this build declare, and what the conformance kit asks of each of them.
//!
//! `ICECORE_BLESS=1 cargo test -p icecore --test backends` writes it anew.
//! It needs every backend, so it is here only with all features.
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
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use icecore::log::backend::Depth;
use icecore::{Capabilities, Durability, Open};
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};

/// The contract's numbers, as in the comment of `Backend`.
const CONTRACT: [&str; 9] = [
    "once",
    "unknown is an error of its own",
    "durable",
    "fresh and chained",
    "deletion is safe",
    "bytes in, bytes out",
    "neighbours stand alone",
    "names",
    "blobs",
];

/// A system and what cannot be asked of a program: whose version it is, and what to know.
const ABOUT: [(&str, &str, &str); 11] = [
    (
        "memory",
        "this build's own",
        "Forgotten with the process. The reference that the others are compared with.",
    ),
    (
        "file",
        "this build's own",
        "A directory on a local file system with `fallocate`, `fdatasync` and hard links; tried on ext4. One writing process. Swept commits give their space back as holes in the segments.",
    ),
    (
        "sqlite",
        "bundled",
        "A file on a local file system: SQLite's locks do not hold on network drives. Swept commits leave free pages, which later ones use.",
    ),
    (
        "postgres",
        "a real server, from Debian",
        "With the feature `postgres`. A schema of a database, on the primary of PostgreSQL 13 or later. What survives is what the server is set to: less is declared without `fsync` or `full_page_writes`, more where `synchronous_standby_names` is set. A URL may name several servers: the primary is found, and one that was replaced is not used. Works through pgbouncer in transaction mode.",
    ),
    (
        "mysql",
        "a real server, from Debian",
        "With the feature `mysql`. A database on the primary of MySQL 8.0 or MariaDB 10.11, or later. Tried on MariaDB; MySQL itself was never used, and gets no statement that MySQL 8 is not documented to know. What survives is what the server is set to: less is declared if `innodb_flush_log_at_trx_commit` or `sync_binlog` is not 1, or without `innodb_doublewrite`. Replicas that are waited for, and clusters of Galera, are not counted: `examine` shows them. A commit has at most 65 KiB less than `max_allowed_packet`, which is 64 MiB here and in MySQL, and 16 MiB in MariaDB unless it is set. TiDB is refused.",
    ),
    (
        "redis",
        "a real server, from Debian",
        "With the feature `redis`. Redis 6 or later, or Valkey; here with `appendonly yes` and `appendfsync always`, without which less is declared: with `everysec` nothing survives the death of the server for sure. Refused unless `maxmemory-policy` is `noeviction`. Replication is asynchronous: a fail-over can lose what was acknowledged, and what is built on it is then refused as a gap; `wait=N` acknowledges when N replicas have it, on their disks where the servers know `WAITAOF`. All cases also run on Valkey 9.1, a real server from a package of Python's, where that is tried; Sentinels and clusters are tried on Redis alone.",
    ),
    (
        "mongodb",
        "a real server, from a package of Python's",
        "With the feature `mongodb`. MongoDB 4.4 or later, one server or a replica set; tried on 6.0, here a set of one. Every write waits for a majority and its journals: a set in which two members or more may be the primary is declared `replicated`, and anything else `disk`. All or none only in a set: one server has no transactions. What is closed is kept for an hour. The router of a sharded cluster is refused.",
    ),
    (
        "s3",
        "moto, which stands for it",
        "With the feature `object`. Tried on moto, with a lock of ours around its puts (without it two racing creates of one slot were once both told that they had won), and it checks no signature; the service itself was never used. Directory buckets (S3 Express) are refused: they do not list in order. Declared is `replicated` for the service, and for an endpoint of your own `disk`, as here, unless the URL says otherwise.",
    ),
    (
        "gcs",
        "this repository's own server, which stands for it",
        "With the feature `object`. No emulator that can be had honours Google's preconditions, so a small server in `crates/services/src/gcs` stands for the service, written from its documentation; the service itself was never used.",
    ),
    (
        "azure",
        "Azurite, which stands for it",
        "With the feature `object`. Tried on Azurite, in memory; the service itself was never used. A listing that begins in the middle (`startFrom`) is one that Azurite does not know: there it reads all names of a log.",
    ),
    (
        "dynamodb",
        "moto, which stands for it",
        "With the feature `dynamodb`. An emulator only: tried on moto, with a lock of ours around each call, and it checks no signature and throttles nobody; the service itself was never used. Where dynoxide is installed (`cargo install dynoxide-rs --version 3.2.0 --locked --root target/tools`, some seven minutes), `cargo xtask test` runs this backend's tests on it too, without locks of ours: 102 of 103 passed, and the one that did not asks for point in time recovery, which it lacks. All or none takes what a transaction of the service takes: 100 items, of which a commit is one and a new log two more, and 4 MB. What is larger than 128 KiB is in parts, and the service writes 1 MB a second into one log. A table that deletes items by itself (time to live) by an attribute that commits have is refused. Declared is `replicated` for the service, and for an endpoint of your own `disk`, as here, unless the URL says otherwise.",
    ),
];

struct System {
    capabilities: Capabilities,
    version: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// How many cases ask for each number of the contract.
fn cases() -> BTreeMap<usize, usize> {
    let mut count = BTreeMap::new();
    for file in std::fs::read_dir(repository().join("crates/conformance/src")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let mut numbers = Vec::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("/// ") {
                numbers.extend(numbers_of(comment));
            } else if line.starts_with("pub async fn ") && line.ends_with("(fixture: &dyn Fixture) {") {
                numbers.drain(..).for_each(|number| *count.entry(number).or_default() += 1);
            } else {
                numbers.clear();
            }
        }
    }
    count
}

/// The numbers in `Contract 1.` and in `Contracts 1 and 4.`
fn numbers_of(comment: &str) -> Vec<usize> {
    let named = comment.strip_prefix("Contract ").or_else(|| comment.strip_prefix("Contracts "));
    let sentence = named.and_then(|named| named.split('.').next()).unwrap_or_default();
    sentence.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

async fn declared(system: &str, whose: &str) -> System {
    let folder = tempfile::tempdir().unwrap();
    // Held until the store is closed.
    let database = (system == "postgres").then(|| Database::create(&services::url("postgres")).unwrap());
    let mysql = (system == "mysql").then(|| mariadb::Database::create(&services::url("mariadb")).unwrap());
    let prefix = (system == "redis").then(|| Prefix::new(&services::url("redis")));
    let mongodb = (system == "mongodb").then(|| mongodb::Database::new(&services::url("mongodb")));
    let table = (system == "dynamodb").then(Table::new);
    let url = match system {
        "memory" => "memory:".to_owned(),
        "postgres" => database.as_ref().unwrap().url(),
        "mysql" => mysql.as_ref().unwrap().url(),
        "redis" => prefix.as_ref().unwrap().url(),
        "mongodb" => mongodb.as_ref().unwrap().url(),
        "s3" => buckets::s3(),
        "gcs" => buckets::gcs(),
        "azure" => buckets::azure(),
        "dynamodb" => table.as_ref().unwrap().url(),
        system => format!("{system}:{}", folder.path().join("store").display()),
    };
    let store = Open::default().open(&url).await.unwrap();
    let facts = store.backend().examine(Depth::Quick).await.unwrap().facts;
    let found = facts.into_iter().find(|(name, _)| name == system).map(|(_, version)| version);
    // Of a server its first number: the others are those of the machine that the tests run on.
    let found = found.map(|found| match system {
        "postgres" | "redis" => found.split('.').next().unwrap_or_default().to_owned(),
        "mongodb" => found.split('.').take(2).collect::<Vec<_>>().join("."),
        "mysql" => format!("MariaDB {}", found.split('.').take(2).collect::<Vec<_>>().join(".")),
        _ => found,
    });
    let version = found.map_or_else(|| whose.to_owned(), |found| format!("{found}, {whose}"));
    let capabilities = store.capabilities();
    store.shut_down().await.unwrap();
    assert_eq!(capabilities.system, system);
    System { capabilities, version }
}

async fn page() -> String {
    let mut systems = Vec::new();
    for (system, whose, _) in ABOUT {
        systems.push(declared(system, whose).await);
    }
    let each = |cell: &dyn Fn(&System) -> String| systems.iter().map(cell).collect::<Vec<_>>();
    let yes = |test: fn(&Capabilities) -> bool| {
        each(&|system| if test(&system.capabilities) { "yes" } else { "no" }.to_owned())
    };
    let names = each(&|system| system.capabilities.system.to_owned());
    let declared = [
        ("version".to_owned(), each(&|system| system.version.clone())),
        (
            "an acknowledged commit survives the loss of".to_owned(),
            each(&|system| survives(&system.capabilities).to_owned()),
        ),
        ("several processes write".to_owned(), yes(|found| found.many_writers)),
        ("all or none across logs".to_owned(), yes(|found| found.atomic_create)),
        ("refuses a closed slot in the same step".to_owned(), yes(|found| found.native_close)),
        ("refuses a commit behind another predecessor".to_owned(), yes(|found| found.checks_predecessor)),
        (
            "bytes of a commit, at most".to_owned(),
            each(&|system| system.capabilities.commit_bytes_max.to_string()),
        ),
    ];
    let cases = cases();
    let asked: Vec<_> = (1..)
        .zip(CONTRACT)
        .map(|(number, name)| {
            let count = cases.get(&number).copied().unwrap_or(0);
            (format!("{number} {name}"), each(&|_| count.to_string()))
        })
        .collect();
    let mut page = String::from(
        "# Backends\n\nWritten by a test, `crates/icecore/tests/backends.rs`, from what each backend of the build declares when it is opened. CI fails if this page says anything else.\n",
    );
    page += &table("What each declares", &names, &declared);
    page += &table("Cases of the conformance kit, by number of the contract", &names, &asked);
    page += "\nAll cases run on each system, in every run of the tests. A case may ask for several numbers, and some ask for what belongs to none.\n\n## What to know\n\n";
    ABOUT.iter().for_each(|(system, _, about)| writeln!(page, "- **{system}.** {about}").unwrap());
    page
}

fn table(title: &str, names: &[String], rows: &[(String, Vec<String>)]) -> String {
    let mut table =
        format!("\n## {title}\n\n| | {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len() + 1));
    rows.iter().for_each(|(name, cells)| writeln!(table, "| {name} | {} |", cells.join(" | ")).unwrap());
    table
}

fn survives(capabilities: &Capabilities) -> &'static str {
    match capabilities.durability {
        Durability::Process => "nothing",
        Durability::Machine => "every process",
        Durability::Disk => "power",
        Durability::Replicated => "a machine",
    }
}

#[tokio::test]
async fn the_page_of_the_backends_says_what_they_declare() {
    let path = repository().join("docs/backends.md");
    let page = page().await;
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }

    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "ICECORE_BLESS=1 writes it anew");
}

#[test]
fn every_number_of_the_contract_has_a_case() {
    let cases = cases();

    let missing: Vec<_> = (1..=CONTRACT.len()).filter(|number| !cases.contains_key(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
