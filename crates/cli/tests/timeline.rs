//! `timeline`, of what Penguiflow's store writes and of what somebody hostile might have.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::{Value, json};
use support::*;

const RECORDED: &str = include_str!("../../../examples/recorded-flow.ndjson");

/// One line to import: an event of a flow, in milliseconds after noon.
fn event(ms: u64, kind: &str, node: &str, payload: Value) -> String {
    let at = format!("2026-01-31T12:00:00.{ms:03}Z");
    let data = json!({ "ts": 1.0, "node_id": format!("id-{node}"), "payload": payload });
    json!({ "kind": kind, "node": node, "at": at, "trace": "t-1", "data": data }).to_string()
}

impl Place {
    fn import(&self, log: &str, lines: &[String]) {
        self.run_with(&["import", log, "-"], lines.join("\n")).done();
    }
}

#[test]
fn a_recorded_trace_shows_its_runs_with_their_retry() {
    for place in Place::each() {
        let lines: Vec<_> =
            RECORDED.lines().filter(|line| line.contains("\"question-005")).map(str::to_owned).collect();
        place.import("acme/trace/question-005", &lines);

        let found = place.json(&["timeline", "acme/trace/question-005"]).done().json();
        let person = place.run(&["timeline", "acme/trace/question-005"]).done();

        let of = |line: &Value| {
            format!("{} {}", line["node"].as_str().unwrap(), line["outcome"].as_str().unwrap())
        };
        let outcomes: Vec<_> = found.iter().map(of).collect();
        let wanted = [
            "plan success",
            "calendar success",
            "weather error",
            "search success",
            "answer success",
            "answer success",
            "weather success",
            "answer success",
        ];
        assert_eq!(outcomes, wanted);
        assert_eq!((&found[2]["retry_after_ms"], &found[6]["attempt"]), (&json!(1.0), &json!(1)));
        assert!(
            person.stdout.contains("error, again after 1.0 ms: ConnectionError('the weather"),
            "{person:?}"
        );
        assert!(person.stderr.contains("8 runs of nodes, 1 tried again"), "{person:?}");
    }
}

#[test]
fn a_trace_shows_errors_time_outs_cancellations_and_what_it_does_not_know() {
    let place = Place::file();
    let error = json!({ "code": "NODE_EXCEPTION", "message": "Node 'a' raised OSError: no" });
    place.import(
        "acme/trace/t-1",
        &[
            event(0, "node_start", "a", json!({"attempt": 0})),
            event(
                1,
                "node_error",
                "a",
                json!({"attempt": 0, "latency_ms": 1.5, "exception": "OSError('no')"}),
            ),
            event(1, "node_failed", "a", json!({"attempt": 0, "flow_error": error})),
            event(2, "node_start", "b", json!({"attempt": 0})),
            event(
                3,
                "node_timeout",
                "b",
                json!({"attempt": 0, "latency_ms": 1.0, "exception": "TimeoutError()"}),
            ),
            event(4, "trace_cancel_start", "OpenSea", json!({"pending": 1})),
            event(5, "node_start", "c", json!({"attempt": 0})),
            event(9, "node_trace_cancelled", "c", json!({"attempt": 0})),
            event(9, "deadline_skip", "d", json!({"deadline_s": 5.0})),
            event(9, "remote_call_error", "d", json!({"latency_ms": 3.0, "remote_status": "failed"})),
            event(9, "never_seen", "d", json!({"what": {"deep": [1]}})),
        ],
    );

    let person = place.run(&["timeline", "acme/trace/t-1"]).done().stdout;
    let found = place.json(&["timeline", "acme/trace/t-1"]).done().json();

    let expected = [
        ("+0.0 ms", "1.5 ms", "failed: NODE_EXCEPTION Node 'a' raised OSError: no"),
        ("+2.0 ms", "1.0 ms", "timed out: TimeoutError()"),
        ("+4.0 ms", "", "trace_cancel_start pending=1"),
        ("+5.0 ms", "4.0 ms", "cancelled"),
        ("+9.0 ms", "", "deadline_skip deadline_s=5.0"),
        ("+9.0 ms", "3.0 ms", "remote_call_error remote_status=failed"),
        ("+9.0 ms", "", "never_seen what={\"deep\":[1]}"),
    ];
    for (line, (start, took, says)) in person.lines().skip(2).zip(expected) {
        assert!(line.contains(start) && line.contains(took) && line.trim_end().ends_with(says), "{line}");
    }
    assert_eq!(person.lines().count(), 2 + expected.len(), "{person}");
    assert_eq!(found[0]["error"], error);
    assert_eq!((&found[6]["type"], &found[6]["payload"]["what"]["deep"]), (&json!("event"), &json!([1])));
}

#[test]
fn a_planner_stands_between_the_runs_and_its_clock_is_set_by_when_it_saved() {
    let place = Place::file();
    place.import("acme/trace/t-1", &[event(0, "node_start", "agent", json!({}))]);
    let planned = |kind: &str, ts: f64| {
        let data = json!({"event_type": kind, "ts": ts, "trajectory_step": 1, "node_name": "search", "latency_ms": 7.0, "error": "no"});
        json!({ "kind": kind, "data": data }).to_string()
    };
    place.import("acme/planner/t-1", &[planned("step_start", 100.0), planned("finish", 160.0)]);

    let found = place.json(&["timeline", "acme/planner/t-1"]).done().json();

    let at = |line: &Value| line["at"].as_str().unwrap().to_owned();
    assert_eq!(
        found.iter().map(|line| line["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["run", "planner", "planner"]
    );
    assert_eq!(found[1]["at_estimated"], true);
    assert!(at(&found[1]) < at(&found[2]), "a minute lies between them: {found:?}");
    let person = place.run(&["timeline", "acme/trace/t-1"]).done().stdout;
    assert!(person.contains("step 1 step_start: search error=no"), "{person}");
}

#[test]
fn a_session_shows_tasks_updates_steering_and_traces_by_time() {
    for place in Place::each() {
        let task =
            |status: &str| json!({"status": status, "task_type": "FOREGROUND", "description": "a walk"});
        for status in ["PENDING", "RUNNING"] {
            place.run(&["put", "acme/tasks/s-1", "task-1", &task(status).to_string()]).done();
        }
        place.run(&["patch", "acme/tasks/s-1", "task-1", r#"{"status":"FAILED","error":"rain"}"#]).done();
        let early = "2026-01-31T12:00:00.5Z";
        let update = json!({"update_type": "PROGRESS", "task_id": "task-1", "content": {"text": "half"}, "step_index": 0, "total_steps": 2, "created_at": early});
        place.import("acme/updates/s-1", &[json!({"kind": "PROGRESS", "data": update}).to_string()]);
        let steering = json!({"event_type": "CANCEL", "task_id": "task-1", "source": "user", "payload": {"reason": "wet"}, "created_at": "2026-01-31T12:00:01Z"});
        place.import("acme/steering/s-1", &[json!({"kind": "CANCEL", "data": steering}).to_string()]);
        let saved = [
            "append",
            "acme/traces/s-1",
            "--kind",
            "trajectory.saved",
            "--trace",
            "t-1",
            "--data",
            "\"t-1\"",
        ];
        place.run(&saved).done();

        let person = place.run(&["timeline", "acme/session/s-1"]).done();
        let found = place.json(&["timeline", "acme", "--session", "s-1"]).done().json();

        let says = [
            "2026-01-31T12:00:00.500Z  task-1  PROGRESS 1/2: text=half",
            "2026-01-31T12:00:01.000Z  task-1  steering CANCEL by user: reason=wet",
            "task-1  task PENDING (foreground): a walk",
            "task-1  task PENDING -> RUNNING (foreground): a walk",
            "task-1  task RUNNING -> FAILED (foreground): rain",
            "trajectory saved: of trace t-1",
        ];
        for (line, says) in person.stdout.lines().skip(2).zip(says) {
            assert!(line.contains(says), "{line}");
        }
        assert_eq!(person.stdout.lines().count(), 2 + says.len(), "{person:?}");
        assert_eq!(person.stderr, "1 task, 1 update, 1 steering event, 1 trace\n");
        let types: Vec<_> = found.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["update", "steering", "task", "task", "task", "trace"]);
        assert_eq!((&found[4]["status"], &found[0]["task"]), (&json!("FAILED"), &json!("task-1")));
    }
}

#[test]
fn what_is_stored_cannot_control_a_terminal_or_break_a_line() {
    let place = Place::file();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\r\nnode_success\u{0}";
    place.import(
        "acme/trace/t-1",
        &[
            event(0, evil, evil, json!({ evil: evil })),
            event(1, "node_start", evil, json!({})),
            event(
                2,
                "node_error",
                evil,
                json!({"exception": evil, "flow_error": {"code": evil, "message": [evil]}}),
            ),
            event(3, "node_success", "a", json!({"attempt": 1e300, "latency_ms": "NaN"})),
            json!({"kind": "node_start", "data": "no object"}).to_string(),
            json!({"kind": "node_start", "data": [[[1]]]}).to_string(),
        ],
    );
    place.import(
        "acme/updates/s-1",
        &[json!({"kind": evil, "data": {"content": [evil], "task_id": evil, "created_at": evil}})
            .to_string()],
    );

    for name in ["acme/trace/t-1", "acme/updates/s-1"] {
        let person = place.run(&["timeline", name]).done().stdout;
        let machine = place.json(&["timeline", name]).done();

        assert!(!person.chars().any(|c| c.is_control() && c != '\n'), "{person:?}");
        assert_eq!(person.lines().count(), 2 + machine.json().len(), "{person:?}");
    }
}

#[test]
fn an_id_is_given_as_it_is_and_only_the_last_lines_are_shown() {
    let place = Place::file();
    let id = "ada@example.org/1";
    let lines: Vec<_> = (0..4).map(|n| event(n, "x", "a", json!({"n": n}))).collect();
    place.import("acme/trace/ada=40example.org=2F1", &lines);

    let found = place.json(&["timeline", "acme", "--trace", id, "--limit", "2"]).done().json();

    assert_eq!(found.iter().map(|line| &line["payload"]["n"]).collect::<Vec<_>>(), [2, 3]);
    let person = place.run(&["timeline", "acme", "--trace", id, "--limit", "2"]).done().stdout;
    assert!(person.starts_with("Trace ada@example.org/1, ") && !person.contains("n=1"), "{person}");
    assert!(place.json(&["timeline", "acme", "--trace", id, "--limit", "0"]).done().json().is_empty());
}

#[test]
fn an_unknown_trace_is_not_found_and_damage_is_told_behind_what_is_good() {
    let place = Place::file();
    place.run(&["timeline", "acme/trace/t-1"]).failed(4, "There is no store");
    for n in 0..3 {
        place.import("acme/trace/t-1", &[event(n, "x", "a", json!({ "text": format!("some text {n}") }))]);
    }
    let missing = place.json(&["timeline", "acme/session/t-1"]);
    missing.failed(4, "Nothing is recorded of this session");
    damage(&place.path("store"), "some text 1");

    let ran = place.json(&["timeline", "acme/trace/t-1"]);

    assert_eq!((ran.code, ran.json().len()), (20, 1));
    assert_eq!((&ran.error()["kind"], &ran.error()["version"]), (&json!("corrupt"), &json!("2")));
}
