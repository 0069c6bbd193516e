//! `commit`, as users change several logs at once: what is printed, the exit code, and what is there afterwards.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::json;
use support::*;

const ANN: &str = "acme/account/ann";
const BOB: &str = "acme/account/bob";

impl Place {
    /// Writes these lines, and commits them.
    fn commit(&self, lines: &[serde_json::Value], more: &[&str]) -> Ran {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.write("lines", lines);
        self.json(&[&["commit", "lines"], more].concat())
    }

    fn document(&self, log: &str, key: &str) -> String {
        self.run(&["state", log, key]).done().stdout
    }
}

fn begin(place: &Place) {
    let begun = place.commit(
        &[
            json!({"log": ANN, "put": "credits", "value": 10}),
            json!({"log": BOB, "put": "credits", "value": 0}),
        ],
        &[],
    );
    assert_eq!(begun.done().json().len(), 2);
}

#[test]
fn what_lines_say_of_several_logs_is_committed_together_and_once() {
    for place in Place::each() {
        begin(&place);
        let lines = [
            json!({"log": BOB, "document": "credits", "version": 1}),
            json!({"log": ANN, "expect": 1}),
            json!({"log": ANN, "exists": "credits"}),
            json!({"log": BOB, "document": "gone", "version": 0}),
            json!({"log": "acme/rule/limit", "expect": 0}),
            json!({"log": ANN, "add": "credits", "value": -4}),
            json!({"log": BOB, "add": "credits", "value": 4}),
            json!({"log": BOB, "append": "run", "value": ["a"], "pointer": "/messages"}),
            json!({"log": BOB, "union": "run", "value": ["tea"], "pointer": "/tags"}),
            json!({"log": BOB, "patch": "run", "value": {"note": "x"}}),
            json!({"log": BOB, "put": "old", "value": 1}),
            json!({"log": BOB, "delete": "old"}),
            json!({"log": BOB, "kind": "moved", "data": {"from": "ann"}, "node": "bank", "meta": {"k": "v"}, "at": "2026-01-31T12:00:00Z"}),
        ];
        let how = ["--id", "move-1", "--actor", "bot", "--trace", "t-1"];
        let ran = place.commit(&lines, &how).done();
        let receipt = |log: &str, repeated: bool| json!({"id": "move-1", "log": log, "version": 2, "entry": 0, "repeated": repeated});
        assert_eq!(ran.json(), [receipt(ANN, false), receipt(BOB, false)]);
        assert_eq!(place.commit(&lines, &how).done().json(), [receipt(ANN, true), receipt(BOB, true)]);
        assert_eq!(
            (place.document(ANN, "credits").as_str(), place.document(BOB, "credits").as_str()),
            ("6", "4")
        );
        assert_eq!(place.document(BOB, "run"), r#"{"messages":["a"],"tags":["tea"],"note":"x"}"#);
        place.run(&["state", BOB, "old"]).failed(4, "no such document");
        let events = place.json(&["read", BOB, "--from", "2"]).done().json();
        let last = events.last().unwrap();
        assert_eq!(
            (&last["kind"], &last["actor"], &last["trace"]),
            (&json!("moved"), &json!("bot"), &json!("t-1"))
        );
        assert_eq!((&last["node"], &last["meta"]["k"]), (&json!("bank"), &json!("v")));
        assert!(
            place.run(&["logs", "acme/rule"]).done().stdout.contains("limit"),
            "it says that it ended there"
        );
        // Other changes under the id are not the ones that were committed.
        place
            .commit(&[json!({"log": ANN, "put": "credits", "value": 1}), lines[6].clone()], &how)
            .failed(3, "");
    }
}

#[test]
fn every_condition_of_every_log_that_does_not_hold_is_told_and_nothing_is_written() {
    for place in Place::each() {
        begin(&place);
        let ran = place.commit(
            &[
                json!({"log": ANN, "document": "credits", "version": 7}),
                json!({"log": ANN, "put": "credits", "value": 1}),
                json!({"log": BOB, "exists": "nothing"}),
                json!({"log": BOB, "put": "credits", "value": 1}),
            ],
            &[],
        );
        ran.failed(3, "");
        let error = ran.error();
        assert_eq!(error["failed"], json!(["credits at 7", "nothing exists"]));
        assert_eq!((&error["log"], &error["found"]), (&json!([ANN, BOB]), &json!(["1", "0"])));
        assert_eq!(
            (place.document(ANN, "credits").as_str(), place.document(BOB, "credits").as_str()),
            ("10", "0")
        );
    }
}

#[test]
fn numbers_are_kept_as_they_are_written() {
    let place = Place::file();
    place.write(
        "lines",
        format!("{{\"log\":\"{ANN}\",\"put\":\"n\",\"value\":123456789012345678901.50}}\r\n\n"),
    );
    place.run(&["commit", "lines"]).done();
    assert_eq!(place.document(ANN, "n"), "123456789012345678901.50");
}

#[test]
fn a_bad_line_is_named_and_no_store_is_made() {
    let good = format!("{{\"log\":\"{ANN}\",\"put\":\"x\",\"value\":1}}\n");
    let cases: &[(&[u8], &str)] = &[
        (b"{", "EOF"),
        (b"\xff", "expected value"),
        (br#"{"put":"x","value":1}"#, "missing field `log`"),
        (br#"{"log":"acme/account","put":"x","value":1}"#, "tenant/kind/key"),
        (br#"{"log":"a/b/c"}"#, "one thing a line"),
        (br#"{"log":"a/b/c","put":"x","value":1,"delete":"y"}"#, "one thing a line"),
        (br#"{"log":"a/b/c","put":"x"}"#, "member=value"),
        (br#"{"log":"a/b/c","put":"","value":1}"#, "A key is some text"),
        (br#"{"log":"a/b/c","put":"x","value":1,"version":2}"#, "member=version"),
        (br#"{"log":"a/b/c","document":"x"}"#, "member=version"),
        (br#"{"log":"a/b/c","kind":"","data":1}"#, "A kind is not empty"),
        (br#"{"log":"a/b/c","kind":"k"}"#, "member=data"),
        (br#"{"log":"a/b/c","delete":"x","actor":"me"}"#, "member=actor"),
        (br#"{"log":"a/b/c","add":"x","value":"one"}"#, "number"),
        (br#"{"log":"a/b/c","put":"x","value":1,"put":"y"}"#, "duplicate"),
        (br#"{"log":"a/b/c","puts":"x"}"#, "unknown field"),
    ];
    for (line, told) in cases {
        let place = Place::file();
        place.write("lines", [good.as_bytes(), line, b"\n"].concat());
        place.run(&["commit", "lines"]).failed(2, told);
        place.run(&["commit", "lines"]).failed(2, "line=2");
        place.run(&["logs"]).failed(4, "There is no store");
    }
    let place = Place::file();
    place.run(&["commit", "nowhere"]).failed(4, "nowhere");
    place.write("lines", good.replace("acme/", "other/") + &good);
    place.run(&["commit", "lines"]).failed(2, "one tenant");
    place.write("lines", "\n");
    let nothing = place.run(&["commit", "lines"]).done();
    assert_eq!(nothing.stdout, "There was nothing to change: nothing was written\n");
}
