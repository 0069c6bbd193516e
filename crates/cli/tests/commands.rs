//! Every command on every system: what it prints, and its exit code.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::{Value, json};
use support::*;

#[test]
fn append_prints_a_receipt_and_a_repeated_id_the_same_again() {
    for place in Place::each() {
        let first = place.append("m-1", r#"{"text":"hello"}"#).done().json();
        let again = place.append("m-1", r#"{"text":"hello"}"#).done().json();

        assert_eq!(
            (&first[0]["id"], &first[0]["log"], &first[0]["version"]),
            (&json!("m-1"), &json!(LOG), &json!(1))
        );
        assert_eq!((&again[0]["version"], &again[0]["repeated"]), (&json!(1), &json!(true)));
        let person = place.run(&["append", LOG, "--kind", "said", "--data", "2"]).done();
        assert_eq!((person.stdout.as_str(), person.stderr.as_str()), ("acme/session/s-1 at version 2\n", ""));
    }
}

#[test]
fn a_condition_that_does_not_hold_and_an_id_used_for_other_content_are_conflicts() {
    for place in Place::each() {
        place.fill(1);

        place.json(&["append", LOG, "--kind", "k", "--data", "2", "--expect", "1"]).done();
        let expected = place.json(&["append", LOG, "--kind", "k", "--data", "3", "--expect", "1"]);
        let reused = place.append("m-1", "\"other\"");

        for ran in [expected, reused] {
            ran.failed(3, "");
            assert_eq!(ran.error()["kind"], "conflict");
        }
    }
}

#[test]
fn read_prints_events_with_all_that_was_said_of_them() {
    for place in Place::each() {
        let given = [
            "append",
            LOG,
            "--kind",
            "said",
            "--data",
            "{\"n\":1.10}",
            "--id",
            "a",
            "--at",
            "2026-01-31T12:00:00Z",
            "--meta",
            "room=blue",
            "--actor",
            "Ada",
            "--trace",
            "t",
            "--node",
            "n",
        ];
        place.run(&given).done();

        let ran = place.json(&["read", LOG]).done();

        let event = &ran.json()[0];
        let expected = json!({"log": LOG, "version": 1, "index": 0, "id": "a", "kind": "said", "at": "2026-01-31T12:00:00Z"});
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&event[name], value);
        }
        assert_eq!((&event["actor"], &event["meta"]["room"]), (&json!("Ada"), &json!("blue")));
        assert!(ran.stdout.contains(r#""data":{"n":1.10}"#), "the data is kept to the byte: {ran:?}");
    }
}

fn versions(ran: &Ran) -> Vec<u64> {
    ran.json().iter().map(|event| event["version"].as_u64().unwrap()).collect()
}

#[test]
fn ranges_that_hold_nothing_are_empty_and_no_error() {
    for place in Place::each() {
        place.fill(4);
        let read = |arguments: &[&str]| versions(&place.json(&[&["read", LOG], arguments].concat()).done());

        assert_eq!(read(&[]), [1, 2, 3, 4]);
        assert_eq!(read(&["--reverse", "--limit", "2"]), [4, 3]);
        assert_eq!(read(&["--from", "2", "--to", "3"]), [2, 3]);
        assert_eq!(read(&["--from", "0", "--to", "9"]), [1, 2, 3, 4]);
        assert!(read(&["--limit", "0"]).is_empty());
        assert!(read(&["--from", "5"]).is_empty());
        assert!(read(&["--from", "3", "--to", "2"]).is_empty());
        assert!(read(&["--from", "3", "--to", "2", "--reverse"]).is_empty());
        assert_eq!(read(&["--from", "2000-01-01T00:00:00Z"]), [1, 2, 3, 4]);
        assert!(read(&["--to", "2000-01-01T00:00:00Z"]).is_empty());
        assert!(read(&["--from", "2200-01-01T00:00:00Z"]).is_empty());
        assert!(place.run(&["read", LOG, "--from", "5"]).done().stderr.contains("No events"));
    }
}

#[test]
fn a_log_or_a_store_that_is_not_there_is_not_found() {
    for place in Place::each() {
        for command in ["read", "tail", "verify", "logs", "doctor"] {
            let arguments =
                [&[command][..], if matches!(command, "read" | "tail") { &[LOG] } else { &[] }].concat();
            place.run(&arguments).failed(4, "There is no store");
        }
        place.fill(1);
        for limit in ["0", "1"] {
            let ran = place.json(&["read", "acme/session/other", "--limit", limit]);
            ran.failed(4, "");
            assert_eq!(ran.error()["kind"], "not_found");
        }
    }
}

#[test]
fn logs_lists_what_begins_so() {
    for place in Place::each() {
        place.fill(2);
        place.run(&["append", "acme/flow/f", "--kind", "k", "--data", "1"]).done();

        let listed = |arguments: &[&str]| place.json(&[&["logs"], arguments].concat()).done().json();

        assert_eq!(listed(&[]).len(), 2);
        assert_eq!(listed(&["--limit", "0"]).len(), 0);
        let one = listed(&["acme/session/"]);
        assert_eq!(
            (&one[0]["log"], &one[0]["version"], &one[0]["events"]),
            (&json!(LOG), &json!(2), &json!(2))
        );
        assert!(place.run(&["logs", "other/"]).done().stderr.contains("No logs"));
        assert!(place.run(&["logs"]).done().stdout.contains("VERSION"));
        place.run(&["logs", "a b"]).failed(2, "");
    }
}

#[test]
fn resolve_says_what_became_of_an_id() {
    for place in Place::each() {
        place.fill(2);

        let there = place.json(&["resolve", LOG, "m-1"]).done().json();
        let absent = place.json(&["resolve", LOG, "other"]).done().json();

        assert_eq!((&there[0]["id"], &there[0]["version"]), (&json!("m-1"), &json!(1)));
        assert_eq!(absent[0]["committed"], false);
        place.json(&["resolve", LOG, ""]).failed(2, "invalid");
    }
}

#[test]
fn tail_gives_what_is_there_and_ends_if_it_is_told_to() {
    for place in Place::each() {
        place.fill(3);

        let ran = place.json(&["tail", LOG, "--from", "2", "--until-caught-up"]).done();

        assert_eq!(versions(&ran), [2, 3]);
        assert!(place.json(&["tail", LOG, "--until-caught-up"]).done().json().is_empty());
    }
}

#[test]
fn copy_takes_everything_to_another_system_and_back() {
    let place = Place::file();
    place.fill(3);

    let there = place.json(&["copy", "file:store", "sqlite:copy.db"]).done().json();
    let again = place.json(&["copy", "file:store", "sqlite:copy.db"]).done().json();
    let back = place.json(&["copy", "sqlite:copy.db", "file:back", "acme/"]).done().json();

    let counts =
        |lines: &[Value]| ["logs", "unchanged", "commits"].map(|name| lines[0][name].as_u64().unwrap());
    assert_eq!([counts(&there), counts(&again), counts(&back)], [[1, 0, 3], [1, 1, 0], [1, 0, 3]]);
    let read = |url| place.json(&["--store", url, "read", LOG]).done().stdout;
    assert_eq!(read("file:store"), read("file:back"));
    assert_eq!(place.json(&["--store", "sqlite:copy.db", "verify"]).done().json()[0]["commits"], 3);
    place.json(&["copy", "file:nowhere", "file:made"]).failed(4, "not_found");
    assert!(!place.path("made").exists(), "nothing is made for a source that is not there");
}

#[test]
fn a_copy_with_a_log_that_fails_copies_the_others_and_names_it() {
    let place = Place::file();
    place.run(&["append", "acme/a/one", "--kind", "k", "--data", "\"some text\""]).done();
    place.run(&["append", "acme/b/two", "--kind", "k", "--data", "1"]).done();
    damage(&place.path("store"), "some text");

    let ran = place.json(&["copy", "file:store", "sqlite:copy.db"]);

    assert_eq!((ran.code, &ran.json()[0]["logs"]), (20, &json!(1)));
    let error = ran.error();
    assert_eq!((&error["failed_logs"], &error["failed"]), (&json!("1"), &json!("acme/a/one")));
    assert_eq!(place.json(&["--store", "sqlite:copy.db", "read", "acme/b/two"]).done().json().len(), 1);
}

#[test]
fn damage_is_exit_code_20_for_verify_read_and_doctor() {
    let place = Place::file();
    for text in ["first text", "second text", "third text"] {
        place.run(&["append", LOG, "--kind", "k", "--data", &format!("\"{text}\"")]).done();
    }
    damage(&place.path("store"), "second text");

    let verified = place.json(&["verify"]);
    let read = place.json(&["read", LOG]);

    assert_eq!((verified.code, read.code), (20, 20));
    let found = verified.json();
    assert_eq!(found.iter().find_map(|line| line.get("damage")).unwrap()["version"], "2");
    assert_eq!(found.last().unwrap()["damaged"], 1);
    assert_eq!((versions(&read), &read.error()["version"]), (vec![1], &json!("2")));
}

#[test]
fn damage_that_doctor_meets_is_listed_and_is_exit_code_20() {
    // It was a note on standard error, and the exit code was 0.
    let place = Place::file();
    place.append("m-1", "1").done();
    place.run(&["append", "acme/b/two", "--kind", "k", "--data", "1"]).done();
    place.append("m-3", "3").done();
    damage(&place.path("store"), "acme/b/two");

    let (machine, person) = (place.json(&["doctor"]), place.run(&["doctor", "--quiet"]));

    assert_eq!((machine.code, person.code), (20, 20));
    assert_eq!(
        (&machine.json()[0]["damaged"], &machine.json()[0]["damage"][0]["kind"]),
        (&json!(1), &json!("corrupt"))
    );
    assert!(person.stdout.contains("Damaged data"), "{person:?}");
}

#[test]
fn doctor_says_what_the_store_is_and_whether_conditional_writes_hold() {
    for place in Place::each() {
        place.fill(1);

        let found = place.json(&["doctor"]).done().json();

        assert_eq!((&found[0]["store"], &found[0]["damaged"]), (&json!(place.url), &json!(0)));
        assert!(found[0]["conditional_writes"].as_str().unwrap().starts_with("hold"));
        assert!(place.run(&["doctor"]).done().stdout.contains("conditional writes"));
    }
}

#[test]
fn doctor_of_a_store_that_is_not_there_says_what_would_be_made_and_makes_nothing() {
    for (place, made) in Place::each().into_iter().zip(["a directory", "a database file"]) {
        place.run(&["doctor"]).failed(4, made);

        assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 0);
    }
}

#[test]
fn memory_is_a_store_for_every_command_and_is_forgotten() {
    let place = Place::new("memory:");
    place.write("lines", lines(3));

    place.append("a", "1").done();
    assert_eq!(place.json(&["import", LOG, "lines"]).done().json()[0]["appended"], 3);
    assert!(place.json(&["logs"]).done().json().is_empty());
    assert_eq!(place.json(&["verify"]).done().json()[0]["logs"], 0);
    place.run(&["doctor"]).done();
    place.run(&["read", LOG]).failed(4, "");
    place.run(&["tail", LOG, "--until-caught-up"]).done();
    assert_eq!(place.json(&["resolve", LOG, "a"]).done().json()[0]["committed"], false);
    assert_eq!(place.json(&["copy", "memory:", "memory:"]).done().json()[0]["logs"], 0);
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::file();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.run(&["completions", shell]).done();

        assert!(ran.stdout.contains("until-caught-up"), "{shell}");
    }
}

#[test]
fn every_help_fits_into_80_columns() {
    let place = Place::file();
    let commands = [
        "",
        "append",
        "import",
        "read",
        "logs",
        "tail",
        "timeline",
        "state",
        "put",
        "patch",
        "delete",
        "diff",
        "history",
        "rollback",
        "fork",
        "verify",
        "copy",
        "resolve",
        "doctor",
        "completions",
    ];
    for command in commands {
        let arguments: Vec<_> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let ran = Ran::of(place.command(&arguments).env_remove("COLUMNS").output().unwrap()).done();

        let long: Vec<_> = ran.stdout.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{command}: {long:?}");
        assert!(command.is_empty() || ran.stdout.contains("icecore"), "{command}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_a_store_is_made() {
    for place in Place::each() {
        place.run(&["append", LOG, "--kind", "k", "--data", "no JSON"]).failed(2, "not JSON");
        place.run(&["append", LOG, "--kind", "", "--data", "1"]).failed(2, "kind");
        place.run(&["append", LOG, "--kind", "k", "--data", "1", "--at", "noon"]).failed(2, "2026");
        place.run(&["append", LOG, "--kind", "k", "--data", "1", "--meta", "x"]).failed(2, "NAME=VALUE");
        place.run(&["append", LOG, "--kind", "k", "--data", "@nowhere"]).failed(4, "nowhere");
        place.run(&["import", LOG, "nowhere"]).failed(4, "nowhere");
        place.run(&["copy", "file:nowhere", &place.url, "a b"]).failed(2, "");

        assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 0);
    }
}

#[test]
fn a_command_line_that_is_wrong_is_invalid_also_as_json() {
    let place = Place::file();
    for arguments in [
        &["read"][..],
        &["read", "no-log"],
        &["read", LOG, "--limit", "-1"],
        &["read", LOG, "--from", "yesterday"],
        &["append", LOG, "--kind", "k"],
        &["timeline", "acme/flow/f"],
        &["timeline", "acme", "--trace", "t", "--session", "s"],
        &["nonsense"],
        &["--store", "nowhere", "logs"],
        &["--store", "ftp://ada:SECRET@host/x", "logs"],
    ] {
        let (person, machine) = (place.run(arguments), place.json(arguments));

        person.failed(2, "");
        assert_eq!((machine.code, &machine.error()["kind"]), (2, &json!("invalid")), "{arguments:?}");
        assert!(!person.stderr.contains("SECRET") && !machine.stderr.contains("SECRET"));
    }
}
