//! A server starts, answers, recovers, and ends with its handle.

use icecore_services::guard::is_running;
use icecore_services::mariadb::{Database, Server, sql};

#[test]
fn a_server_starts_answers_and_ends_with_its_handle() {
    let server = Server::start(&["innodb-flush-log-at-trx-commit=2"]).unwrap();
    let pid = server.pid().unwrap();

    let settings = sql(&server.url(), &["SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit"]).unwrap();

    assert_eq!(settings, "1\t2");
    drop(server);
    assert!(!is_running(pid));
}

#[test]
fn a_server_that_was_killed_keeps_what_it_acknowledged() {
    let mut server = Server::start(&[]).unwrap();
    sql(&server.url(), &["CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"]).unwrap();

    server.kill();
    assert!(sql(&server.url(), &["SELECT 1"]).is_err());
    server.resume().unwrap();

    assert_eq!(sql(&server.url(), &["SELECT n FROM kept"]).unwrap(), "7");
}

#[test]
fn a_database_is_its_own_and_goes_with_its_handle() {
    let server = Server::start(&[]).unwrap();
    let (one, other) = (Database::create(&server.url()).unwrap(), Database::create(&server.url()).unwrap());
    sql(&one.url(), &["CREATE TABLE mine (n int)"]).unwrap();

    assert!(sql(&other.url(), &["SELECT n FROM mine"]).is_err());
    let name = one.name().to_owned();
    drop(one);

    let left = format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{name}'");
    assert_eq!(sql(&server.url(), &[&left]).unwrap(), "0");
}
