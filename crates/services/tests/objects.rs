//! The servers of objects start, answer, create an object once, and are never left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use icecore_services::guard::is_running;
use icecore_services::{azurite, moto};

const ONCE: (&str, &str) = ("If-None-Match", "*");
const BLOB: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

/// Whether somebody listens where a URL says.
fn answers(url: &str) -> bool {
    let place = url.trim_start_matches("http://").split('/').next().unwrap();
    TcpStream::connect(place).is_ok()
}

#[test]
fn moto_creates_an_object_once() {
    let server = moto::Server::start().unwrap();
    let path = format!("/{}/some/object", moto::BUCKET);

    let first = server.send("PUT", &path, &[ONCE], b"ours").unwrap();
    let second = server.send("PUT", &path, &[ONCE], b"theirs").unwrap();

    assert_eq!((first.status, second.status), (200, 412));
    assert_eq!(server.send("GET", &path, &[], b"").unwrap().body, "ours");
}

#[test]
fn azurite_creates_an_object_once() {
    let server = azurite::Server::start().unwrap();
    let path = format!("/{}/some/object", azurite::CONTAINER);

    let first = server.send("PUT", &path, &[ONCE, BLOB], b"ours").unwrap();
    let second = server.send("PUT", &path, &[ONCE, BLOB], b"theirs").unwrap();

    assert_eq!((first.status, second.status), (201, 409));
    assert_eq!(server.send("GET", &path, &[], b"").unwrap().body, "ours");
}

#[test]
fn moto_ends_with_its_handle() {
    let server = moto::Server::start().unwrap();
    let (pid, url) = (server.pid(), server.url());
    assert!(is_running(pid) && answers(&url));

    drop(server);

    assert!(!is_running(pid) && !answers(&url));
}

#[test]
fn azurite_ends_with_its_handle() {
    let server = azurite::Server::start().unwrap();
    let (pid, url) = (server.pid(), server.url());
    assert!(is_running(pid) && answers(&url));

    drop(server);

    assert!(!is_running(pid) && !answers(&url));
}

/// Python and node are started through scripts: what must end is what they became.
#[test]
fn servers_of_objects_end_with_a_process_that_is_killed() {
    const IS_CHILD: &str = "ICECORE_TEST_STARTS_SERVERS";
    if std::env::var_os(IS_CHILD).is_some() {
        let servers = (moto::Server::start().unwrap(), azurite::Server::start().unwrap());
        println!("\nserver {}\nserver {}", servers.0.url(), servers.1.url());
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers_of_objects_end_with_a_process_that_is_killed", "--nocapture"])
        .env(IS_CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let urls = lines.filter_map(|line| Some(line.strip_prefix("server ")?.to_owned()));
    let urls: Vec<String> = urls.take(2).collect();
    assert!(urls.len() == 2 && urls.iter().all(|url| answers(url)));

    child.kill().unwrap();
    child.wait().unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    while urls.iter().any(|url| answers(url)) {
        assert!(Instant::now() < deadline, "a server outlives the process that started it");
        std::thread::sleep(Duration::from_millis(1));
    }
}
