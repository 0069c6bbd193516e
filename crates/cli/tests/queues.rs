//! `icecore queue`: messages put once, leased, done, given back, dead.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::json;
use support::*;

/// A call of `icecore queue` on the queue `jobs`.
fn on<'a>(command: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["queue", command, "--tenant", "acme", "jobs"], rest].concat()
}

#[test]
fn a_message_goes_through_a_queue() {
    for place in Place::each() {
        let payload = r#"{"n":1.50,"big":123456789012345678901234567890}"#;
        let put = place.json(&on("put", &[payload, "--id", "a", "--attempts", "1"])).done().json().remove(0);
        assert_eq!(put, json!({ "id": "a", "number": 1, "repeated": false }));
        let again = place.json(&on("put", &[payload, "--id", "a"])).done().json().remove(0);
        assert_eq!(again["repeated"], true);
        place.run(&on("put", &["2", "--delay", "1h"])).done();

        let leased = place.json(&on("lease", &["--limit", "9", "--for", "1h"])).done();
        // To the digit.
        assert!(leased.stdout.contains(&format!(r#""payload":{payload}"#)), "{}", leased.stdout);
        let leased = leased.json();
        assert_eq!((leased.len(), &leased[0]["fence"], &leased[0]["attempts"]), (1, &json!(1), &json!(1)));
        assert_eq!(place.json(&on("lease", &[])).done().stdout, "");

        place.run(&on("extend", &["a", "--fence", "1", "--for", "2h"])).done();
        let given = place.json(&on("nack", &["a", "--fence", "1", "--because", "no\u{1b}[31m"])).done();
        assert_eq!(given.json()[0]["is"], "dead");
        assert_eq!(place.run(&on("ack", &["a", "--fence", "1"])).code, 3);
        assert_eq!(place.run(&on("ack", &["nobody", "--fence", "1"])).code, 4);
        assert_eq!(place.json(&on("dead", &[])).done().json()[0]["reason"], "no\u{1b}[31m");
        assert!(!place.run(&on("dead", &[])).done().stdout.contains('\u{1b}'));

        let stats = place.json(&on("stats", &[])).done().json().remove(0);
        assert_eq!([&stats["ready"], &stats["delayed"], &stats["leased"], &stats["dead"]], [0, 1, 0, 1]);
        let would = place.json(&on("purge", &["--all", "--dry-run"])).done().json().remove(0);
        assert_eq!((&would["messages"], &would["dry_run"]), (&json!(2), &json!(true)));
        assert_eq!(place.json(&on("replay", &["a"])).done().json()[0]["replayed"], 1);
        place.run(&on("lease", &[])).done();
        place.run(&on("ack", &["a", "--fence", "2"])).done();
        assert_eq!(place.json(&on("purge", &["--all"])).done().json()[0]["messages"], 1);
    }
}

#[test]
fn what_cannot_be_is_refused_and_makes_no_store() {
    let place = Place::file();
    assert_eq!(place.run(&on("put", &["no JSON"])).code, 2);
    assert_eq!(place.run(&on("lease", &[])).code, 4);
    assert_eq!(place.run(&on("purge", &[])).code, 2);
    assert_eq!(place.run(&on("replay", &[])).code, 2);
    place.run(&on("put", &["1"])).done();
    assert_eq!(place.run(&on("lease", &["--limit", "0"])).code, 2);
    assert_eq!(place.run(&on("lease", &["--limit", "1001"])).code, 2);
    assert_eq!(place.run(&on("put", &["1", "--attempts", "0"])).code, 2);
    assert_eq!(place.run(&["queue", "stats", "--tenant", "", "jobs"]).code, 2);
}
