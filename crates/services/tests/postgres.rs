//! A server starts, answers, recovers, and is never left behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use icecore_services::guard::is_running;
use icecore_services::postgres::{Database, Quorum, Server, sql};

#[test]
fn a_server_starts_answers_and_ends_with_its_handle() {
    let server = Server::start(&[]).unwrap();
    let pid = server.pid().unwrap();

    let settings = sql(&server.url(), &["SHOW fsync", "SHOW synchronous_commit"]).unwrap();

    assert_eq!(settings, "on\non");
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

    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(sql(&server.url(), &[&left]).unwrap(), "0");
}

/// The parent-death signal was tried first: it fires when the thread ends that started the server.
#[test]
fn a_server_ends_with_a_process_that_is_killed() {
    const IS_CHILD: &str = "ICECORE_TEST_STARTS_A_SERVER";
    if std::env::var_os(IS_CHILD).is_some() {
        // Started by a thread that ends, to be held by another.
        let server = std::thread::spawn(|| Server::start(&[]).unwrap()).join().unwrap();
        println!("\nserver {}", server.pid().unwrap());
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_ends_with_a_process_that_is_killed", "--nocapture"])
        .env(IS_CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("server ")?.parse::<u32>().ok());
    let pid = pid.unwrap();
    assert!(is_running(pid));

    child.kill().unwrap();
    child.wait().unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    while is_running(pid) {
        assert!(Instant::now() < deadline, "the server outlives the process that started it");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn of_three_servers_any_may_be_killed_and_what_two_have_is_kept() {
    let mut set = Quorum::start().unwrap();
    let keep = |set: &Quorum, number: u32| {
        sql(&set.nodes[set.primary].url(), &[&format!("INSERT INTO kept VALUES ({number})")]).unwrap();
    };
    sql(&set.nodes[0].url(), &["CREATE TABLE kept (n int)"]).unwrap();
    set.nodes[1].kill();
    keep(&set, 1);
    set.nodes[1].resume().unwrap();
    set.until_it_streams(1).unwrap();

    set.nodes[0].kill();
    assert_ne!(set.fail_over().unwrap(), 0);
    keep(&set, 2);
    set.rejoin(0).unwrap();
    keep(&set, 3);
    let second = set.primary;
    set.nodes[second].kill();
    set.fail_over().unwrap();

    let kept = sql(&set.nodes[set.primary].url(), &["SELECT n FROM kept ORDER BY n"]).unwrap();
    assert_eq!(kept, "1\n2\n3");
}
