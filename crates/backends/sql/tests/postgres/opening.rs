//! What is found, refused and declared when a store is opened; and that no secret is shown by it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use icecore_conformance::commits::{append, log, page};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, Error, ErrorKind, Version};
use icecore_services::postgres::{Database, PASSWORD, SECURED, Server, sql};
use icecore_sql::Postgres;
use icecore_sql::postgres::{Access, Settings};

use crate::{database, store};

/// As a role with a password that is asked for.
fn secured(database: &Database, password: &str) -> String {
    let make = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{SECURED}') THEN CREATE ROLE {SECURED} LOGIN PASSWORD '{PASSWORD}'; END IF;
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    let grant = format!("GRANT CREATE ON DATABASE {} TO {SECURED}", database.name());
    sql(&database.url(), &[&make, &grant]).unwrap();
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    database.url().replace("postgres@", &format!("{SECURED}:{encoded}@"))
}

async fn refusal(url: &str) -> Error {
    let started = Instant::now();
    let error = store(url).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    error
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let database = database();
    let right = store(&secured(&database, PASSWORD)).await.unwrap();
    assert!(!format!("{right:?}").contains("correct"), "{right:?}");

    let error = refusal(&secured(&database, "SECRET")).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string().matches("28P01").count(), 1, "{error}");
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
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
    let url = format!("postgres://postgres:SECRET@127.0.0.1:{}/agents", held.local_addr().unwrap().port());

    let error = refusal(&url).await;

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();

    let error = refusal(&format!("postgres://postgres:SECRET@127.0.0.1:{port}/agents?timeout_ms=100")).await;

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in time"), "{error}");
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn the_tables_of_another_program_are_left_alone() {
    let database = database();
    sql(&database.url(), &["CREATE SCHEMA icecore CREATE TABLE commits (n int)"]).unwrap();

    assert_eq!(refusal(&database.url()).await.kind(), ErrorKind::Refused);
    store(&format!("{}?schema=another", database.url())).await.unwrap();

    assert_eq!(sql(&database.url(), &["SELECT count(*) FROM icecore.commits"]).unwrap(), "0");
}

#[tokio::test]
async fn a_later_format_is_refused() {
    let database = database();
    store(&database.url()).await.unwrap();
    sql(&database.url(), &["UPDATE icecore.store SET format = 2"]).unwrap();

    let error = refusal(&database.url()).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("later version"), "{error}");
}

#[tokio::test]
async fn a_store_to_be_read_is_not_made_and_is_not_written() {
    let database = database();
    let open = || Postgres::open(Settings::parse(&database.url()).unwrap(), Access::ReadOnly);
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        sql(&database.url(), &["SELECT count(*) FROM pg_namespace WHERE nspname = 'icecore'"]).unwrap(),
        "0"
    );

    let log = log("s-1");
    append(&store(&database.url()).await.unwrap(), &log, 1..=3).await;
    let reader = open().await.unwrap();

    assert_eq!(page(&reader, &log, 1).await.commits.len(), 3);
    assert_eq!(reader.close(&log, Version(1)).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_to_grant() {
    let database = database();
    let url = secured(&database, PASSWORD);
    sql(&database.url(), &[&format!("REVOKE CREATE ON DATABASE {} FROM {SECURED}", database.name())])
        .unwrap();

    let error = refusal(&url).await;

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("Grant"), "{error}");
}

/// A role's own settings would turn races into errors (40001), and acknowledge before anything is synced.
#[tokio::test]
async fn the_settings_of_a_role_change_nothing() {
    let database = database();
    let url = database.url();
    for setting in [
        "default_transaction_isolation = serializable",
        "synchronous_commit = off",
        "search_path = pg_catalog",
        "default_transaction_read_only = on",
    ] {
        sql(&url, &[&format!("ALTER DATABASE {} SET {setting}", database.name())]).unwrap();
    }
    for url in [url.clone(), format!("{url}?pgbouncer=true&schema=shared")] {
        let (one, other) = (store(&url).await.unwrap(), store(&url).await.unwrap());
        let log = log("s-1");

        for version in 1..=20 {
            let run = icecore_conformance::commits::run(&log, version..=version, 0);
            let (first, second) = tokio::join!(
                one.create(vec![run.clone()], icecore_log::Mode::Each),
                other.create(vec![run], icecore_log::Mode::Each)
            );
            assert!(first[0].is_done() && second[0].is_done(), "{first:?} {second:?}");
        }

        assert_eq!(one.capabilities().durability, Durability::Disk);
        let examination = one.examine(Depth::Quick).await.unwrap();
        let found = examination.facts.iter().find(|(name, _)| name == "durability_found").unwrap();
        assert!(found.1.contains("synchronous_commit=off (sessions set on)"), "{}", found.1);
    }
}

#[tokio::test]
async fn a_store_is_opened_with_one_connection() {
    let database = database();
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for place in ["new", "there already"] {
        let store = store(&database.url()).await.unwrap();
        assert_eq!(sql(&database.url(), &[connections]).unwrap(), "1", "{place}");
        store.shut_down().await.unwrap();
    }
}

/// The first connection was there before it was known what to set.
#[tokio::test]
async fn what_the_server_is_set_to_later_does_not_weaken_the_first_connection() {
    let server = Server::start(&["wal_writer_delay=10s"]).unwrap();
    let store = store(&server.url()).await.unwrap();
    append(&store, &log("s-1"), 1..=1).await;
    sql(&server.url(), &["ALTER SYSTEM SET synchronous_commit = off"]).unwrap();
    sql(&server.url(), &["SELECT pg_reload_conf()"]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while sql(&server.url(), &["SHOW synchronous_commit"]).unwrap() != "off" {
        assert!(Instant::now() < deadline, "the server does not take the setting up");
    }
    let before = sql(&server.url(), &["SELECT pg_current_wal_insert_lsn()"]).unwrap();

    append(&store, &log("s-1"), 2..=2).await;

    let is_synced = format!("SELECT sign(pg_current_wal_flush_lsn() - '{before}'::pg_lsn)");
    assert_eq!(sql(&server.url(), &[&is_synced]).unwrap(), "1", "acknowledged, and not on the disk");
}

/// As what only speaks as PostgreSQL does, or lets nobody ask.
#[tokio::test]
async fn a_server_that_tells_no_timeline_is_used_all_the_same() {
    let database = database();
    let url = secured(&database, PASSWORD);
    sql(&database.url(), &["REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC"]).unwrap();

    let store = store(&url).await.unwrap();

    append(&store, &log("s-1"), 1..=2).await;
    assert_eq!(store.capabilities().durability, Durability::Disk);
    let facts = store.examine(Depth::Quick).await.unwrap().facts;
    let timeline = facts.iter().find(|(name, _)| name == "timeline").unwrap();
    assert_eq!(timeline.1, "not told of system not told");
}

#[tokio::test]
async fn what_is_declared_is_what_the_server_is_set_to() {
    for (settings, durability) in
        [(["fsync=off"], Durability::Machine), (["full_page_writes=off"], Durability::Machine)]
    {
        let server = Server::start(&settings).unwrap();

        let store = store(&server.url()).await.unwrap();

        assert_eq!(store.capabilities().durability, durability, "{settings:?}");
    }
}

/// Not found by PostgreSQL itself, whose page checksums are off unless asked for.
#[tokio::test]
async fn a_changed_byte_is_found_by_a_read_and_by_a_deep_look() {
    let database = database();
    let store = store(&database.url()).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=3).await;

    sql(&database.url(), &["UPDATE icecore.commits SET body = set_byte(body, 0, 0) WHERE version = 2"])
        .unwrap();

    let error = store.read(&log, Version(1), icecore_log::PageLimit::WHOLE).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("2")));
    let examination = store.examine(Depth::Deep).await.unwrap();
    assert_eq!(examination.damage.len(), 1);
    assert_eq!(examination.damage[0].fact("log"), Some(log.as_str()));
}
