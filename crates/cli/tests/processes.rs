//! Several processes at one store, and a process that is killed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::collections::HashMap;
use std::io::Write;

use serde_json::Value;
use support::*;

/// Each receipt's id and version.
fn receipts<'a>(lines: impl Iterator<Item = &'a str>) -> HashMap<String, u64> {
    let receipt = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["id"].as_str().unwrap().to_owned(), line["version"].as_u64().unwrap())
    };
    lines.map(receipt).collect()
}

#[test]
fn a_killed_import_keeps_what_it_promised_and_the_next_one_goes_on() {
    for place in Place::each() {
        let mut child = place.spawn(&["import", LOG, "-", "--receipts"]);
        let mut stdin = child.stdin.take().unwrap();
        // The pipe stays open, so it is under way when it dies.
        let feed = std::thread::spawn(move || {
            let _ = stdin.write_all(lines(700).as_bytes());
            stdin
        });
        let seen = first_lines(child.stdout.take().unwrap(), 500);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(feed.join());
        let promised = receipts(seen.iter().map(String::as_str));

        place.write("lines", lines(1_000));
        let again = place.run(&["import", LOG, "lines", "--receipts"]).done();

        let now = receipts(again.stdout.lines());
        assert_eq!((promised.len(), now.len()), (500, 1_000));
        assert!(promised.iter().all(|(id, version)| now.get(id) == Some(version)));
        assert_eq!(place.data(LOG), (1..=1_000).map(|n| n.to_string()).collect::<Vec<_>>());
        place.run(&["verify"]).done();
    }
}

#[test]
fn two_processes_write_one_log_of_a_sqlite_store() {
    let place = Place::sqlite();
    let named = |name: &str| lines(400).replace("\"e-", &format!("\"{name}-"));
    place.write("left", named("left"));
    place.write("right", named("right"));

    let children = ["left", "right"].map(|file| place.spawn(&["import", LOG, file, "--receipts"]));
    let ran = children.map(|child| Ran::of(child.wait_with_output().unwrap()).done());

    let mut at: HashMap<(String, u64), u64> = HashMap::new();
    let read = place.json(&["read", LOG]).done();
    for event in read.json() {
        let place = (event["id"].as_str().unwrap().to_owned(), event["version"].as_u64().unwrap());
        *at.entry(place).or_default() += 1;
    }
    assert_eq!(at.len(), 800, "each entry is there once");
    let promised = ran.iter().flat_map(|ran| receipts(ran.stdout.lines()));
    assert!(promised.into_iter().all(|receipt| at.get(&receipt) == Some(&1)));
    place.run(&["verify"]).done();
}

#[test]
fn a_second_writer_of_a_file_store_is_told_what_takes_several() {
    let place = Place::file();
    let mut writer = place.spawn(&["import", LOG, "-", "--receipts"]);
    let mut stdin = writer.stdin.take().unwrap();
    stdin.write_all(lines(1).as_bytes()).unwrap();
    let stdout = writer.stdout.take().unwrap();
    assert_eq!(first_lines(stdout, 1).len(), 1);

    let second = place.append("m-1", "1");

    second.failed(6, "sqlite:");
    assert!(second.stderr.contains("postgres:"), "{second:?}");
    assert_eq!(second.error()["kind"], "refused");
    drop(stdin);
    assert_eq!(writer.wait_with_output().unwrap().status.code(), Some(0));
    place.append("m-1", "1").done();
}

#[test]
fn readers_look_at_a_store_while_it_is_written() {
    for place in Place::each() {
        let mut writer = place.spawn(&["import", LOG, "-", "--receipts"]);
        let mut stdin = writer.stdin.take().unwrap();
        stdin.write_all(lines(5).as_bytes()).unwrap();
        let mut receipts = std::io::BufReader::new(writer.stdout.take().unwrap());
        for _ in 0..5 {
            std::io::BufRead::read_line(&mut receipts, &mut String::new()).unwrap();
        }

        assert_eq!(place.data(LOG), ["1", "2", "3", "4", "5"]);
        let mut tail = place.spawn(&["--output", "json", "tail", LOG, "--from", "1"]);
        let looks: [&[&str]; 4] = [&["logs"], &["verify"], &["doctor"], &["copy", &place.url, "file:copy"]];
        for look in looks {
            place.run(look).done();
        }
        stdin.write_all(b"{\"kind\":\"k\",\"data\":\"new\"}\n").unwrap();
        let followed = first_lines(tail.stdout.take().unwrap(), 6);

        assert!(followed[5].contains("\"new\""), "{followed:?}");
        drop(stdin);
        assert_eq!(writer.wait_with_output().unwrap().status.code(), Some(0));
        assert_eq!(tail.wait_with_output().unwrap().status.code(), Some(0));
    }
}
