//! What grows, and whether snapshots say what the commits say.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::*;

/// JSON text that compresses to about half.
fn large(seed: u64) -> String {
    let mut noise = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut text = String::new();
    while text.len() < 200_000 {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        text += &format!("{noise:016x}");
    }
    format!("\"{text}\"")
}

/// The blobs of snapshots below a folder.
fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshots(&path));
        } else if path.to_string_lossy().contains("snap-") {
            found.push(path);
        }
    }
    found
}

#[test]
fn replay_compares_the_commits_with_each_snapshot_and_what_is_damaged_costs_only_time() {
    let place = Place::file();
    for seed in 1..=2 {
        place.write("large.json", large(seed));
        place.run(&["put", LOG, &format!("large-{seed}"), "@large.json"]).done();
    }
    let replayed = place.json(&["replay", LOG]).done().json()[0].clone();

    assert_eq!(
        (&replayed["version"], &replayed["documents"], &replayed["same"]),
        (&json!(2), &json!(2), &json!(true))
    );
    assert!(replayed["snapshots"].as_u64().unwrap() > 0, "{replayed}");
    let said = place.run(&["replay", LOG]).done().stdout;
    assert!(
        said.starts_with("version 2, commits 2, documents 2, snapshots ")
            && said.contains("all say the same"),
        "{said}"
    );
    let before = place.json(&["state", LOG]).done().stdout;

    for blob in snapshots(&place.path("store")) {
        let mut bytes = std::fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&blob, bytes).unwrap();
    }

    let damaged = place.json(&["replay", LOG]);
    assert_eq!(damaged.code, 20, "{damaged:?}");
    let damaged = damaged.json()[0].clone();
    assert_eq!(damaged["same"], json!(true), "what is read is right all the same");
    assert_eq!(
        damaged["damaged_snapshots"].as_array().unwrap().len() as u64,
        damaged["snapshots"].as_u64().unwrap()
    );
    assert_eq!(place.json(&["state", LOG]).done().stdout, before);
    let said = place.run(&["replay", LOG]);
    assert!(said.stdout.contains("damaged, which is passed over"), "{said:?}");
    place.run(&["replay", "acme/session/none"]).failed(4, "There is no such log");
}

#[test]
fn size_says_what_tenants_kinds_and_logs_take_largest_first_and_the_sum_of_all() {
    for place in Place::each() {
        place.write("large.json", large(3));
        place.run(&["put", "acme/session/s-1", "large", "@large.json"]).done();
        place.run(&["put", "acme/session/s-2", "small", "1"]).done();
        place.run(&["put", "other/flow/f-1", "small", "1"]).done();

        let by = |by: &str, of: &str| -> Vec<(String, u64, u64)> {
            let rows = place.json(&["size", "--by", by]).done().json();
            let row = |row: &Value| {
                let name = row[of].as_str().or(row["all"].as_str()).unwrap().to_owned();
                (name, row["logs"].as_u64().unwrap(), row["bytes"].as_u64().unwrap())
            };
            rows.iter().map(row).collect()
        };
        let logs = by("log", "log");
        let names: Vec<_> = logs.iter().map(|(name, ..)| &**name).collect();
        assert_eq!(names[0], "acme/session/s-1");
        assert_eq!(names.len(), 4);
        let sum: u64 = logs[..3].iter().map(|(_, _, bytes)| bytes).sum();
        assert_eq!(logs[3], (String::new(), 3, sum));
        assert!(logs[0].2 > 100_000 && logs[1].2 < 2_000, "{logs:?}");
        let kinds = by("kind", "kind");
        assert_eq!(
            (&*kinds[0].0, kinds[0].1, kinds[0].2),
            ("acme/session/", 2, logs[0].2 + small(&logs, "acme/session/s-2"))
        );
        assert_eq!(by("tenant", "tenant")[1], ("other/".to_owned(), 1, small(&logs, "other/flow/f-1")));
        let one = place.json(&["size", "other/"]).done().json();
        assert_eq!((one.len(), &one[1]["commits"]), (2, &json!(1)));

        let new = |within: &str| place.json(&["size", "--new", within]).done().json();
        let (none, all) = (new("0s"), new("1h"));
        assert_eq!((&none[3]["new_commits"], &none[3]["new_bytes"]), (&json!(0), &json!(0)));
        assert_eq!((&all[0]["log"], &all[3]["new_commits"]), (&json!("acme/session/s-1"), &json!(3)));
        assert_eq!(all[3]["new_bytes"].as_u64(), Some(sum_of(&all[3], &["headers", "bodies"])));
        assert!(place.run(&["size", "--new", "1h"]).done().stdout.contains("NEW BYTES"));

        let table = place.run(&["size", "--limit", "1"]).done().stdout;
        assert!(
            table.trim_start().starts_with("LOG ") && table.contains("all (2 more not shown)"),
            "{table}"
        );
    }
}

fn sum_of(row: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| row[name].as_u64().unwrap()).sum()
}

fn small(logs: &[(String, u64, u64)], name: &str) -> u64 {
    logs.iter().find(|(log, ..)| log == name).expect("it is listed").2
}

#[test]
fn reading_gives_the_put_that_an_edit_was_unless_what_is_stored_is_asked_for() {
    for place in Place::each() {
        let value = large(4);
        place.write("value.json", &value);
        place.run(&["put", LOG, "large", "@value.json"]).done();
        let changed = value.replacen(&value[100..110], "?", 1);
        place.write("value.json", &changed);
        place.run(&["put", LOG, "large", "@value.json"]).done();

        let read = place.json(&["read", LOG, "--from", "2"]).done().json();
        let stored = place.json(&["read", LOG, "--from", "2", "--stored"]).done().json();

        assert_eq!(read[0]["kind"], json!("icecore.document.put"));
        assert!(read[0].to_string().contains(&changed[..1_000][1..]), "the whole value");
        assert_eq!(stored[0]["kind"], json!("icecore.document.edit"));
        assert!(stored[0].to_string().len() < 2_000, "{}", stored[0]);
        let line = |ran: Ran| ran.done().stdout;
        let timeline = line(place.run(&["history", LOG, "large"]));
        assert!(timeline.contains("put"), "{timeline}");
    }
}
