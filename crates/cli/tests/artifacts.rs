//! `icecore artifact`: files in and out, whole or not at all.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::Value;
use support::*;

/// Stores a file, and says under which id.
fn put(place: &Place, file: &str, session: &str) -> Value {
    let ran = place
        .json(&["artifact", "put", "--tenant", "acme", file, "--session", session, "--mime-type", "x/y"])
        .done();
    ran.json().remove(0)
}

#[test]
fn what_is_put_is_listed_and_comes_back() {
    for place in Place::each() {
        let content: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
        place.write("a.bin", &content);
        let stored = put(&place, "a.bin", "s-1");
        let id = stored["id"].as_str().unwrap();
        assert_eq!(
            place
                .run(&["artifact", "put", "--tenant", "acme", "a.bin", "--session", "s-1"])
                .done()
                .stdout
                .trim(),
            id
        );
        place
            .run_with(
                &["artifact", "put", "--tenant", "acme", "-", "--session", "s-2", "--namespace", "a.b"],
                "text",
            )
            .done();

        let listed = place.json(&["artifact", "list", "--tenant", "acme"]).done().json();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0], stored);
        assert_eq!((&stored["filename"], &stored["mime_type"]), (&"a.bin".into(), &"x/y".into()));
        assert_eq!((&stored["bytes"], &stored["expires_at"]), (&9_000_000.into(), &Value::Null));
        assert_eq!(
            place.json(&["artifact", "list", "--tenant", "acme", "--session", "s-2"]).done().json(),
            listed[1..]
        );
        let table = place.run(&["artifact", "list", "--tenant", "acme"]).done().stdout;
        assert!(table.contains(id) && table.contains("a.bin") && table.contains("never"), "{table}");
        assert_eq!(place.json(&["artifact", "show", "--tenant", "acme", id]).done().json()[0], stored);

        let text = listed[1]["id"].as_str().unwrap();
        assert!(text.starts_with("a_b_"), "{text}");
        assert_eq!(place.run(&["artifact", "get", "--tenant", "acme", text]).done().stdout, "text");
        place.run(&["artifact", "get", "--tenant", "acme", id, "--to", "b.bin"]).done();
        assert_eq!(std::fs::read(place.path("b.bin")).unwrap(), content);
        let told = place.json(&["artifact", "get", "--tenant", "acme", id, "--to", "b.bin"]).done().json();
        assert_eq!(told[0], stored);

        place
            .run(&["artifact", "get", "--tenant", "acme", id, "--session", "s-2"])
            .failed(4, "There is none");
        place.run(&["artifact", "get", "--tenant", "other", id]).failed(4, "There is none");
        place.run(&["artifact", "delete", "--tenant", "acme", id]).done();
        place.run(&["artifact", "delete", "--tenant", "acme", id]).failed(4, "There is none");
        assert_eq!(place.json(&["artifact", "list", "--tenant", "acme"]).done().json().len(), 1);
        place
            .run(&["artifact", "put", "--tenant", "acme", "nowhere", "--session", "s-1"])
            .failed(4, "nowhere");
    }
}

#[test]
fn what_is_damaged_stands_nowhere_and_a_copy_brings_it_back() {
    let place = Place::file();
    place.write("a.bin", vec![7; 5_000_000]);
    let stored = put(&place, "a.bin", "s-1");
    let id = stored["id"].as_str().unwrap();
    place.run(&["copy", "file:store", "sqlite:copy.db"]).done();

    let folder = std::fs::read_dir(place.path("store/blobs")).unwrap().next().unwrap().unwrap().path();
    let mut parts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.retain(|part| part.file_name().unwrap().to_string_lossy().starts_with("content-"));
    parts.sort();
    assert_eq!(parts.len(), 2);
    std::fs::remove_file(&parts[1]).unwrap();

    place.write("b.bin", "before");
    place
        .run(&["artifact", "get", "--tenant", "acme", id, "--to", "b.bin"])
        .failed(20, "A part of its content is missing");
    assert_eq!(place.read("b.bin"), "before");
    let left = std::fs::read_dir(place.path(".")).unwrap().count();
    assert_eq!(left, 4, "the store, the copy, and two files");

    place
        .run(&["--store", "sqlite:copy.db", "artifact", "get", "--tenant", "acme", id, "--to", "b.bin"])
        .done();
    assert_eq!(std::fs::read(place.path("b.bin")).unwrap(), vec![7; 5_000_000]);
}

#[test]
fn what_has_expired_is_absent_and_maintenance_deletes_it() {
    let place = Place::file();
    place.write("a.bin", "a");
    let put = ["artifact", "put", "--tenant", "acme", "a.bin", "--session", "s-1", "--ttl"];
    place.run(&[&put[..], &["1d", "--namespace", "stays"]].concat()).done();
    let id = place.run(&[&put[..], &["0s"]].concat()).done().stdout;
    std::thread::sleep(std::time::Duration::from_millis(2));

    place.run(&["artifact", "get", "--tenant", "acme", id.trim()]).failed(4, "There is none");
    let done = place.json(&["maintain", "--once"]).done().json();
    assert_eq!((&done[0]["artifacts"]["expired"], &done[0]["artifacts"]["bytes"]), (&1.into(), &1.into()));
    let swept = place.json(&["artifact", "sweep"]).done().json();
    assert_eq!((&swept[0]["sessions"], &swept[0]["expired"]), (&1.into(), &0.into()));
    assert!(
        place
            .run(&["artifact", "sweep", "--tenant", "acme"])
            .done()
            .stdout
            .starts_with("sessions 1: 0 artifacts")
    );
    assert_eq!(place.json(&["artifact", "list", "--tenant", "acme"]).done().json().len(), 1);
}
