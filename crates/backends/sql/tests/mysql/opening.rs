//! What is found, refused and declared when a store is opened; and that no secret is shown by it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use icecore_conformance::commits::{append, commit, create, log, noise, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, Error, ErrorKind, LogId, Mode, PageLimit, Version};
use icecore_services::mariadb::{Server, encoded, sql};
use icecore_sql::MySql;
use icecore_sql::mysql::{Access, Settings};

use crate::{database, store};

async fn refusal(url: &str) -> Error {
    let started = Instant::now();
    let error = store(url).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    error
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let database = database();
    let right = store(&database.url()).await.unwrap();
    assert!(!format!("{right:?}").contains("correct"), "{right:?}");
    let (_, place) = database.url().rsplit_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();

    let error = refusal(&format!("mysql://root:SECRET@{place}")).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string().matches("1045").count(), 1, "{error}");
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn a_mariadb_is_named_by_either_scheme() {
    let database = database();
    let log = log("s-1");
    append(&store(&database.url()).await.unwrap(), &log, 1..=1).await;

    let other = store(&database.url().replace("mysql://", "mariadb://")).await.unwrap();

    assert_eq!(page(&other, &log, 1).await.commits.len(), 1);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_as_the_reason() {
    let url = format!("{}_gone", database().url());

    let error = refusal(&url).await;

    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("_gone"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // A port that nobody listens on, as long as we hold it without listening.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("mysql://root:SECRET@127.0.0.1:{}/agents", held.local_addr().unwrap().port());

    let error = refusal(&url).await;

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();

    let error = refusal(&format!("mysql://root:SECRET@127.0.0.1:{port}/agents?timeout_ms=100")).await;

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in time"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_make_the_store_at_once() {
    let database = database();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = database.url();
        opening.spawn(async move { store(&url).await.map(drop) });
    }

    while let Some(opened) = opening.join_next().await {
        opened.unwrap().unwrap();
    }

    assert_eq!(sql(&database.url(), &["SELECT format FROM icecore_store"]).unwrap(), "1");
}

/// Whoever made the tables was killed before it said that they are whole.
#[tokio::test]
async fn a_store_that_was_made_in_part_is_made_whole() {
    let database = database();
    drop(store(&database.url()).await.unwrap());
    sql(&database.url(), &["DELETE FROM icecore_store", "DROP TABLE icecore_blobs"]).unwrap();
    let read = Settings::parse(&database.url()).unwrap();
    assert_eq!(MySql::open(read, Access::ReadOnly).await.unwrap_err().kind(), ErrorKind::NotFound);

    let store = store(&database.url()).await.unwrap();

    append(&store, &log("s-1"), 1..=1).await;
    assert_eq!(sql(&database.url(), &["SELECT COUNT(*) FROM icecore_blobs"]).unwrap(), "0");
}

#[tokio::test]
async fn the_tables_of_another_program_are_left_alone() {
    let database = database();
    sql(&database.url(), &["CREATE TABLE icecore_commits (n int)"]).unwrap();

    assert_eq!(refusal(&database.url()).await.kind(), ErrorKind::Refused);

    assert_eq!(sql(&database.url(), &["SHOW TABLES"]).unwrap(), "icecore_commits");
}

#[tokio::test]
async fn tables_of_another_engine_are_refused() {
    let database = database();
    drop(store(&database.url()).await.unwrap());
    sql(&database.url(), &["ALTER TABLE icecore_blobs ENGINE = MyISAM"]).unwrap();

    let error = refusal(&database.url()).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("InnoDB"), "{error}");
}

#[tokio::test]
async fn a_later_format_is_refused() {
    let database = database();
    drop(store(&database.url()).await.unwrap());
    sql(&database.url(), &["UPDATE icecore_store SET format = 2"]).unwrap();

    let error = refusal(&database.url()).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("later version"), "{error}");
}

#[tokio::test]
async fn a_store_to_be_read_is_not_made_and_is_not_written() {
    let database = database();
    let open = || MySql::open(Settings::parse(&database.url()).unwrap(), Access::ReadOnly);
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sql(&database.url(), &["SHOW TABLES"]).unwrap(), "");

    let log = log("s-1");
    append(&store(&database.url()).await.unwrap(), &log, 1..=3).await;
    let reader = open().await.unwrap();

    assert_eq!(page(&reader, &log, 1).await.commits.len(), 3);
    assert_eq!(reader.close(&log, Version(1)).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_to_grant() {
    let database = database();
    let user = format!("u_{}", database.name());
    let grant = format!("GRANT SELECT ON {}.* TO {user}@'127.0.0.1' IDENTIFIED BY 'p'", database.name());
    sql(&database.url(), &[&grant]).unwrap();
    let (_, place) = database.url().rsplit_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();

    let error = refusal(&format!("mysql://{user}:{}@{place}", encoded("p"))).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("Grant"), "{error}");
    drop(store(&database.url()).await.unwrap());
    // To read it is enough.
    let read = Settings::parse(&format!("mysql://{user}:p@{place}")).unwrap();
    MySql::open(read, Access::ReadOnly).await.unwrap();
    sql(&database.url(), &[&format!("DROP USER {user}@'127.0.0.1'")]).unwrap();
}

/// A server's own settings would cut what is too long, leave transactions open, wait for a minute, and end listings early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_of_a_server_change_nothing() {
    let server = Server::start(&[
        "sql-mode=",
        "autocommit=0",
        "transaction-isolation=SERIALIZABLE",
        "completion-type=CHAIN",
        "character-set-server=latin1",
        "innodb-lock-wait-timeout=50",
    ])
    .unwrap();
    sql(&server.url(), &["SET GLOBAL sql_select_limit = 2", "SET GLOBAL unique_checks = 0"]).unwrap();
    let (one_store, other) = (store(&server.url()).await.unwrap(), store(&server.url()).await.unwrap());
    let log = log("s-1");

    for version in 1..=20 {
        let run = run(&log, version..=version, 0);
        let (first, second) = tokio::join!(
            one_store.create(vec![run.clone()], Mode::Each),
            other.create(vec![run], Mode::Each)
        );
        assert!(first[0].is_done() && second[0].is_done(), "{first:?} {second:?}");
    }

    assert_eq!(page(&other, &log, 1).await.commits.len(), 20);
    assert_eq!(one_store.capabilities().durability, Durability::Disk);
}

#[tokio::test]
async fn what_is_declared_is_what_the_server_is_set_to() {
    for (setting, durability) in [
        ("innodb-flush-log-at-trx-commit=2", Durability::Machine),
        ("innodb-flush-log-at-trx-commit=0", Durability::Process),
        ("sync-binlog=0", Durability::Machine),
        ("skip-innodb-doublewrite", Durability::Machine),
        ("skip-log-bin", Durability::Disk),
    ] {
        let server = Server::start(&[setting]).unwrap();

        let store = store(&server.url()).await.unwrap();

        assert_eq!(store.capabilities().durability, durability, "{setting}");
        let facts = store.examine(Depth::Quick).await.unwrap().facts;
        let found = facts.iter().find(|(name, _)| name == "durability_found").unwrap();
        assert!(found.1.contains("innodb_flush_log_at_trx_commit="), "{}", found.1);
    }
}

#[tokio::test]
async fn a_server_that_only_reads_or_logs_only_statements_is_refused() {
    for (setting, said) in [("read-only", "primary"), ("binlog-format=STATEMENT", "binlog_format")] {
        let server = Server::start(&[setting]).unwrap();

        let error = refusal(&server.url()).await;

        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// What the server takes in a packet bounds a commit, to the byte; and what is smaller goes in as many statements as it needs.
#[tokio::test]
async fn a_commit_is_as_large_as_a_packet_takes_and_no_larger() {
    let server = Server::start(&["max-allowed-packet=4M"]).unwrap();
    let store = store(&format!("{}?timeout_ms=60000", server.url())).await.unwrap();
    let most = store.capabilities().commit_bytes_max;
    assert!((3 << 20..4 << 20).contains(&most), "{most}");
    let of_bytes = |bytes: usize| {
        let small = commit(1, 0, noise(1, 1));
        commit(1, 0, noise(bytes - small.header.len(), 1))
    };

    let (fits, large) = (log("fits"), log("large"));
    assert_eq!(create(&store, one(&fits, of_bytes(most))).await, Told::done(1));
    let told = store.create(vec![one(&large, of_bytes(most + 1))], Mode::Each).await;

    assert_eq!(Told::from(&told[0]).end, Ending::Failed(ErrorKind::Invalid));
    let icecore_log::End::Failed(error) = &told[0].end else { panic!("{told:?}") };
    assert_eq!(error.fact("bytes_max"), Some(most.to_string().as_str()));
    assert_eq!(page(&store, &fits, 1).await.commits, [of_bytes(most)]);
    let logs: Vec<LogId> = (0..6).map(|number| log(&format!("s-{number}"))).collect();
    let runs = logs.iter().map(|log| one(log, of_bytes(1 << 20))).collect();
    let told = store.create(runs, Mode::AllOrNone).await;
    assert!(told.iter().all(icecore_log::Created::is_done), "{told:?}");
    let long = log("long");
    let commits = (1..=30).map(|version| commit(version, 0, noise(1 << 20, version))).collect();
    let run = icecore_log::Run { log: long.clone(), previous: icecore_log::Hash::ZERO, commits };
    assert_eq!(create(&store, run).await, Told::done(30));
    assert_eq!(icecore_conformance::commits::ends(&store, &long).await, (30, 0));
}

/// Not found by the server itself, whose checksums are those of its pages.
#[tokio::test]
async fn a_changed_byte_is_found_by_a_read_and_by_a_deep_look() {
    let database = database();
    let store = store(&database.url()).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;

    sql(
        &database.url(),
        &["UPDATE icecore_commits SET body = CONCAT(CHAR(ASCII(body) ^ 1), SUBSTRING(body, 2)) WHERE version = 2"],
    )
    .unwrap();

    let error = store.read(&log, Version(1), PageLimit::WHOLE).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("2")));
    let examination = store.examine(Depth::Deep).await.unwrap();
    assert_eq!(examination.damage.len(), 1);
    assert_eq!(examination.damage[0].fact("log"), Some(log.as_str()));
}

/// Trap: in MySQL's own comparison of text, a space at the end and a case are nothing.
#[tokio::test]
async fn names_that_differ_by_a_byte_are_logs_of_their_own() {
    let database = database();
    let store = store(&database.url()).await.unwrap();
    let names = ["s", "s ", "S", "s\u{0}", "ß", "ss", "é", "e", "s%", "s_", "'", "\\"];
    for (seed, name) in (0..).zip(names) {
        assert_eq!(
            create(&store, one(&log(name), icecore_conformance::commits::numbered(1, seed))).await,
            Told::done(1)
        );
    }

    for (seed, name) in (0..).zip(names) {
        let found = page(&store, &log(name), 1).await.commits;
        assert_eq!(found, [icecore_conformance::commits::numbered(1, seed)], "{name:?}");
    }
    assert_eq!(
        sql(&database.url(), &["SELECT COUNT(*) FROM icecore_logs"]).unwrap(),
        names.len().to_string()
    );
}
