//! `icecore flow`: what is recorded of a flow, which here is written as `docs/formats/penguiflow.md` has it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::json;
use support::*;

const LOG: &str = "acme/flow/t-1";
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn put(place: &Place, key: &str, value: &str) {
    place.run(&["put", LOG, key, value]).done();
}

/// In its second life: a node that has run, one that was under way, and one that failed.
fn begun(place: &Place) {
    put(place, "flow", r#"{"format":1,"life":2,"by":"somewhere/7","at_ms":1769860800000}"#);
    put(place, "start", r#"{"key":"00","message":"hello"}"#);
    let run =
        |lives: &str, errors: &str| format!(r#"{{"attempts":[{lives}],"errors":[{errors}],"input":1.50}}"#);
    let (first, second) = (r#"{"life":1,"at_ms":1}"#, r#"{"life":2,"at_ms":2}"#);
    put(place, &format!("run/a/{KEY}/1"), &run(first, ""));
    put(place, &format!("out/a/{KEY}/1"), r#"{"life":1,"at_ms":3,"output":["made",2.50]}"#);
    put(place, &format!("run/b/{KEY}/1"), &run(first, ""));
    put(
        place,
        &format!("run/c/{KEY}/2"),
        &run(second, r#"{"attempt":1,"at_ms":4,"error":"\u001b[31mno\nluck"}"#),
    );
}

#[test]
fn a_flow_is_shown_with_what_its_nodes_were_given_and_made() {
    for place in Place::each() {
        begun(&place);

        let told = place.run(&["flow", "show", "--tenant", "acme", "t-1"]).done().stdout;
        for words in [
            &["a ", "01234567#1", "finished", "1.50", r#"["made",2.50]"#][..],
            &["b ", "interrupted"],
            &["c ", "01234567#2", "failed", "luck"],
            &["not finished; life 2, since 2026-01-31T12:00:00Z by somewhere/7"],
        ] {
            let is_there = told.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(is_there, "{words:?}: {told}");
        }
        assert!(!told.contains('\u{1b}'), "a terminal is not told what a node said: {told}");

        let shown = place.json(&["flow", "show", "--tenant", "acme", "t-1"]).done();
        assert!(shown.stdout.contains(r#"["made",2.50]"#), "to the byte: {}", shown.stdout);
        let flow = shown.json().remove(0);
        assert_eq!(
            [&flow["log"], &flow["trace"], &flow["state"], &flow["life"], &flow["start"]],
            [&json!(LOG), &json!("t-1"), &json!("running"), &json!(2), &json!("hello")]
        );
        let states: Vec<_> = flow["nodes"].as_array().unwrap().iter().map(|node| &node["state"]).collect();
        assert_eq!(states, ["finished", "interrupted", "failed"]);

        put(&place, "result", r#"{"life":2,"at_ms":5,"output":"42"}"#);
        let told = place.run(&["flow", "show", "--tenant", "acme", "t-1"]).done().stdout;
        assert!(told.contains(r#"finished: "42"; life 2"#), "{told}");
    }
}

#[test]
fn what_is_no_flow_is_not_found_or_told_as_damage() {
    for place in Place::each() {
        begun(&place);
        for wrong in [["other", "t-1"], ["acme", "t-2"]] {
            place.run(&["flow", "show", "--tenant", wrong[0], wrong[1]]).failed(4, "Nothing is recorded");
        }
        put(&place, "flow", "[]");
        place.run(&["flow", "show", "--tenant", "acme", "t-1"]).failed(20, "something else than a flow");
    }
}
