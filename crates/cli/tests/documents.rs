//! Documents, as users change them and see them as they were: what is printed, and the exit code.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::{Value, json};
use support::*;

/// Numbers that no machine has, members in an order of their own, and spaces.
const EXACT: &str = r#"{"z": 123456789012345678901234567890, "a":3.50,  "e":1E400,"minus":-0.0}"#;

impl Place {
    fn put(&self, key: &str, json: &str) -> u64 {
        version(&self.json(&["put", LOG, key, json]))
    }

    /// The documents that programs get, as text.
    fn state(&self, arguments: &[&str]) -> String {
        self.json(&[&["state", LOG], arguments].concat()).done().stdout
    }

    fn alone(&self, key: &str) -> String {
        self.run(&["state", LOG, key]).done().stdout
    }
}

/// The version of a receipt.
fn version(ran: &Ran) -> u64 {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()[0]["version"].as_u64().expect("a receipt has a version")
}

#[test]
fn a_document_is_put_patched_shown_and_deleted_with_receipts_as_of_an_append() {
    for place in Place::each() {
        let put = place.run(&["put", LOG, "cart", r#"{"items":["tea"],"note":"x"}"#]).done();
        let patched =
            place.json(&["patch", LOG, "cart", r#"{"note":null,"total":4.75}"#, "--id", "p-1"]).done();

        assert_eq!((put.stdout.as_str(), put.stderr.as_str()), ("acme/session/s-1 at version 1\n", ""));
        let receipt = json!({"id": "p-1", "log": LOG, "version": 2, "entry": 0, "repeated": false});
        assert_eq!(patched.json(), [receipt]);
        assert_eq!(place.alone("cart"), r#"{"items":["tea"],"total":4.75}"#);
        assert_eq!(
            place.state(&[]),
            "{\"log\":\"acme/session/s-1\",\"version\":2,\"documents\":{\"cart\":{\"items\":[\"tea\"],\"total\":4.75}}}\n"
        );
        place.run(&["delete", LOG, "cart"]).done();
        place.run(&["state", LOG, "cart"]).failed(4, "no such document");
        assert_eq!(place.state(&["cart", "--at", "1"]).matches("tea").count(), 1);
        let empty = place.run(&["state", LOG]).done();
        assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "No documents at version 3\n"));
    }
}

#[test]
fn values_come_back_to_the_byte_from_a_file_from_standard_input_and_from_the_command_line() {
    for place in Place::each() {
        place.write("given.json", format!("{EXACT}\n"));
        place.run(&["put", LOG, "file", "@given.json"]).done();
        place.run_with(&["put", LOG, "stdin", "-"], EXACT).done();
        place.put("word", EXACT);
        place.put("negative", "-5");

        assert_eq!(place.alone("file"), format!("{EXACT}\n"));
        assert_eq!((place.alone("stdin"), place.alone("word")), (EXACT.to_owned(), EXACT.to_owned()));
        assert_eq!(place.alone("negative"), "-5");
        // In a line of JSON too: nothing is read as a number of the machine's.
        assert!(place.state(&["word"]).ends_with(&format!("\"documents\":{{\"word\":{EXACT}}}}}\n")));
        assert!(place.run(&["state", LOG]).done().stdout.contains(EXACT));
        let diff = place.json(&["diff", LOG, "0"]).done().stdout;
        let history = place.json(&["history", LOG, "word"]).done().stdout;
        for text in ["123456789012345678901234567890", "3.50", "-0.0"] {
            assert!(diff.contains(text) && history.contains(text), "{text}: {diff} {history}");
        }
    }
}

#[test]
fn a_value_of_several_lines_is_one_line_for_programs_and_itself_alone() {
    let place = Place::file();
    let value = "{\n  \"a\": \"\\n\",\r\n  \"b\": 1\n}";
    place.put("k", value);

    assert_eq!(place.alone("k"), value);
    let lines = place.json(&["state", LOG]).done().json();
    assert_eq!(lines[0]["documents"]["k"], json!({"a": "\n", "b": 1}));
    assert_eq!(place.run(&["state", LOG]).done().stdout.lines().count(), 2);
}

#[test]
fn documents_are_listed_by_prefix_and_page() {
    for place in Place::each() {
        for key in ["a", "b/1", "b/10", "b/2", "b0", "c"] {
            place.put(key, "1");
        }
        let keys = |arguments: &[&str]| {
            let value: Value = serde_json::from_str(&place.state(arguments)).unwrap();
            value["documents"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };

        assert_eq!(keys(&["--prefix", "b/"]), ["b/1", "b/10", "b/2"]);
        assert_eq!(keys(&["--prefix", "b/", "--after", "b/10"]), ["b/2"]);
        assert_eq!(keys(&["--limit", "2"]), ["a", "b/1"]);
        assert_eq!(keys(&["--limit", "0"]), Vec::<String>::new());
        assert_eq!(keys(&["--after", "c"]), Vec::<String>::new());
        assert_eq!(keys(&["--at", "2"]), ["a", "b/1"]);
        let page = place.run(&["state", LOG, "--limit", "1"]).done();
        assert_eq!(page.stderr, "1 document at version 6; more behind the key a\n");
        assert!(page.stdout.starts_with(" KEY  VERSION  VALUE\n"), "{page:?}");
        place.run(&["state", LOG, "a", "--limit", "1"]).failed(2, "--limit");
    }
}

#[test]
fn what_is_no_document_is_refused_before_a_store_is_made() {
    for place in Place::each() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for command in ["put", "patch"] {
            for wrong in ["", "{", "tea", "1 2", "NaN", "Infinity", "'x'", "{\"a\":}", "\u{feff}1"] {
                place.run(&[command, LOG, "k", wrong]).failed(2, "not JSON");
            }
            place.run(&[command, LOG, "k", &deep]).failed(2, "127 deep");
            place.run(&[command, LOG, "k", "@nowhere"]).failed(4, "nowhere");
            place.run(&[command, LOG, "k", "1", "--id", ""]).failed(2, "");
            place.run(&[command, LOG, "", "1"]).failed(2, "key_bytes=0");
            place.run(&[command, LOG, &"k".repeat(1_025), "1"]).failed(2, "key_bytes_max=1024");
        }
        place.write("binary", b"\"\xff\"");
        place.run(&["put", LOG, "k", "@binary"]).failed(2, "not JSON");
        place.run(&["delete", LOG, &"é".repeat(513)]).failed(2, "key_bytes=1026");

        let left: Vec<_> =
            std::fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["binary"]);
        place.put(&"k".repeat(1_024), "1");
        place.run(&["state", LOG, ""]).failed(2, "key_bytes=0");
        place.run(&["history", LOG, &"k".repeat(1_025)]).failed(2, "key_bytes=1025");
    }
}

#[test]
fn keys_and_values_reach_no_terminal_with_their_control_characters() {
    let place = Place::file();
    let (key, value) = ("evil\n\u{1b}[31m\u{9b}2J\u{7f}key", "\"\u{9b}2J\u{7f}\"");
    place.put(key, value);
    place.put("plain", "1");
    place.run(&["put", LOG, key, "2", "--actor", "\u{1b}]0;x\u{7}"]).done();

    for arguments in [
        &["state", LOG][..],
        &["state", LOG, "--limit", "1"],
        &["state", LOG, "--at", "1"],
        &["diff", LOG, "0"],
        &["diff", LOG, "1"],
        &["history", LOG, key],
        &["rollback", LOG, "--to", "0", "--dry-run"],
        &["state", LOG, "other\u{1b}[31m"],
        &["put", LOG, key, "1", "--expect-document", "9"],
        &["delete", LOG, "other\u{1b}[31m"],
    ] {
        let ran = place.run(arguments);

        let shown = ran.stdout + &ran.stderr;
        let raw: Vec<_> = shown.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(raw.is_empty() && !shown.is_empty(), "{arguments:?}: {shown:?}");
    }
    assert_eq!(place.run(&["state", LOG]).done().stdout.lines().count(), 3);
    assert_eq!(place.run(&["state", LOG, key, "--at", "1"]).done().stdout, value);
    let lines = place.json(&["history", LOG, key]).done().json();
    assert_eq!((lines.len(), &lines[0]["key"]), (2, &json!(key)));
}

#[test]
fn a_moment_is_a_version_or_a_time_and_one_that_never_was_is_not_found() {
    for place in Place::each() {
        place.put("n", "1");
        place.put("n", "2");

        assert!(place.state(&["--at", "1"]).contains("\"version\":1,\"documents\":{\"n\":1}"));
        assert!(place.state(&["--at", "0"]).contains("\"version\":0,\"documents\":{}"));
        assert!(place.state(&["--at", "2000-01-01T00:00:00Z"]).contains("\"version\":0,\"documents\":{}"));
        // Nothing later is known yet.
        assert!(
            place.state(&["--at", "2200-01-01T00:00:00Z"]).contains("\"version\":2,\"documents\":{\"n\":2}")
        );
        let at = place.json(&["history", LOG, "n", "--limit", "2"]).done().json()[1]["at"].clone();
        assert!(place.state(&["--at", at.as_str().unwrap()]).contains("\"n\":1"));
        for arguments in [
            &["state", LOG, "--at", "3"][..],
            &["diff", LOG, "1", "3"],
            &["diff", LOG, "3"],
            &["rollback", LOG, "--to", "3"],
            &["rollback", LOG, "--to", "3", "--dry-run"],
            &["fork", LOG, "acme/session/f", "--at", "3"],
        ] {
            place.run(arguments).failed(4, "version=3, found=2");
        }
        place
            .run(&["state", LOG, "n", "--at", "0"])
            .failed(4, "no such document in this log at that version");
        place.run(&["state", LOG, "--at", "noon"]).failed(2, "2026");
        place.run(&["diff", LOG, "-1"]).failed(2, "");
        assert_eq!(place.json(&["logs"]).done().json().len(), 1, "no fork was made");
    }
}

#[test]
fn a_log_or_a_store_that_is_not_there_is_not_found_and_not_made() {
    const OTHER: &str = "acme/session/other";
    for place in Place::each() {
        let commands = |log| {
            [
                vec!["state", log],
                vec!["state", log, "k"],
                vec!["state", log, "--at", "0"],
                vec!["state", log, "--at", "7"],
                vec!["state", log, "--limit", "0"],
                vec!["diff", log, "0"],
                vec!["history", log, "k"],
                vec!["history", log, "k", "--limit", "0"],
                vec!["delete", log, "k"],
                vec!["rollback", log, "--to", "0"],
                vec!["rollback", log, "--to", "2000-01-01T00:00:00Z", "--dry-run"],
                vec!["fork", log, "acme/session/f"],
            ]
        };
        for arguments in commands(LOG) {
            place.run(&arguments).failed(4, "There is no store");
        }
        assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 0);

        place.put("k", "1");
        for arguments in commands(OTHER) {
            place.run(&arguments).failed(4, "o such log");
            assert_eq!(place.json(&arguments).error()["kind"], "not_found");
        }
        assert_eq!(place.json(&["logs"]).done().json().len(), 1);
    }
}

#[test]
fn a_condition_that_does_not_hold_is_a_conflict_that_names_what_was_found() {
    for place in Place::each() {
        place.put("a", "1");
        place.put("b", "1");

        place.run(&["put", LOG, "a", "2", "--expect-document", "2"]).failed(3, "failed=a at 2, found=1");
        place.run(&["patch", LOG, "c", "{}", "--expect-document", "1"]).failed(3, "failed=c at 1, found=0");
        place.run(&["put", LOG, "b", "2", "--expect-document", "0"]).failed(3, "failed=b absent, found=2");
        place.run(&["delete", LOG, "b", "--expect", "1"]).failed(3, "failed=log at 1, found=2");
        place.run(&["delete", LOG, "b", "--expect-document", "1"]).failed(3, "failed=b at 1, found=2");
        place.run(&["delete", LOG, "b", "--expect-document", "0"]).failed(2, "nothing to delete");
        let error = place.json(&["put", LOG, "a", "2", "--expect-document", "7"]).error();
        assert_eq!((&error["kind"], &error["found"]), (&json!("conflict"), &json!("1")));

        let put = |arguments: &[&str]| version(&place.json(&[&["put", LOG], arguments].concat()));
        assert_eq!(put(&["a", "2", "--expect-document", "1", "--expect", "2"]), 3);
        assert_eq!(put(&["c", "1", "--expect-document", "0"]), 4);
        assert_eq!(version(&place.json(&["delete", LOG, "c", "--expect-document", "4"])), 5);
    }
}

#[test]
fn a_change_with_an_id_is_made_once() {
    for place in Place::each() {
        let changes: [&[&str]; 4] = [
            &["put", LOG, "k", "1", "--id", "put"],
            &["patch", LOG, "k", "2", "--id", "patch"],
            &["put", LOG, "new", "1", "--id", "conditional", "--expect-document", "0"],
            // Its document is not there any more when it is tried again.
            &["delete", LOG, "k", "--id", "delete"],
        ];
        for (number, arguments) in (1..).zip(changes) {
            let (first, again) = (place.json(arguments).done().json(), place.json(arguments).done().json());

            assert_eq!((&first[0]["version"], &first[0]["repeated"]), (&json!(number), &json!(false)));
            assert_eq!((&again[0]["version"], &again[0]["repeated"]), (&json!(number), &json!(true)));
        }
        place.run(&["put", LOG, "k", "other", "--id", "put"]).failed(2, "not JSON");
        place.run(&["put", LOG, "k", "3", "--id", "put"]).failed(3, "other content");
        let resolved = place.json(&["resolve", LOG, "delete"]).done().json();
        assert_eq!(resolved[0]["version"], 4);
    }
}

#[test]
fn a_document_that_is_not_there_is_deleted_only_if_that_was_foreseen() {
    for place in Place::each() {
        place.put("k", "1");

        place.run(&["delete", LOG, "none"]).failed(4, "no such document");
        let fine = place.run(&["delete", LOG, "none", "--if-exists"]).done();
        let machine = place.json(&["delete", LOG, "none", "--if-exists"]).done();

        assert_eq!(fine.stdout, "There is no such document: nothing was written\n");
        assert_eq!(machine.json(), [json!({"log": LOG, "committed": false})]);
        place.run(&["delete", LOG, "none", "--if-exists", "--expect", "7"]).failed(3, "found=1");
        assert_eq!(
            version(&place.json(&["delete", LOG, "k", "--if-exists"])),
            2,
            "nothing was written before"
        );
    }
}

#[test]
fn merges_are_made_with_receipts_and_told_by_the_history_also_those_in_vain() {
    for place in Place::each() {
        let merge = |arguments: &[&str]| place.json(&[&["merge", LOG, "run"], arguments].concat());
        let add = ["--add", "-0.10", "--pointer", "/usage/cost", "--id", "a-1", "--actor", "ada"];
        let receipt = json!({"id": "a-1", "log": LOG, "version": 1, "entry": 0, "repeated": false});
        assert_eq!(merge(&add).done().json(), [receipt]);
        merge(&["--add=12345678901234567890123", "--pointer", "/usage/cost"]).done();
        std::fs::write(place.path("items.json"), "[1, 1.0]").unwrap();
        let file = format!("@{}", place.path("items.json").display());
        merge(&["--append", &file, "--pointer", "/list"]).done();
        merge(&["--union", "[1,2]", "--pointer", "/list"]).done();
        let wanted = r#"{"usage":{"cost":12345678901234567890122.90},"list":[1, 1.0,2]}"#;
        assert_eq!(place.alone("run"), wanted);

        // What is seen to be in vain is refused, and what is no merge; and nothing is written.
        merge(&["--add", "1", "--pointer", "/list"]).failed(3, "failed=run add /list, found=4");
        merge(&["--append", "[]", "--pointer", "/usage/cost/x"]).failed(3, "failed=run append /usage/cost/x");
        for wrong in
            [&["--add", "\"1\""][..], &["--add", "1e400"], &["--union", "{}"], &["--append", "["], &[]]
        {
            merge(wrong).failed(2, "");
        }
        merge(&["--add", "1", "--append", "[]"]).failed(2, "cannot be used with");
        merge(&["--add", "1", "--pointer", "list"]).failed(2, "RFC 6901");
        merge(&["--add", "1", "--expect-document", "1"]).failed(3, "failed=run at 1, found=4");

        // One that got in all the same.
        let line = r#"{"kind":"icecore.document.add","data":5,"meta":{"key":"run","pointer":"/list"}}"#;
        std::fs::write(place.path("late.ndjson"), line).unwrap();
        place.run(&["import", LOG, place.path("late.ndjson").to_str().unwrap()]).done();
        assert_eq!(place.alone("run"), wanted);
        let told = place.json(&["history", LOG, "run"]).done().json();
        let told: Vec<_> =
            told.iter().map(|one| json!([one["change"], one["pointer"], one["applied"]])).collect();
        let wanted = [
            json!(["add", "/list", false]),
            json!(["union", "/list", null]),
            json!(["append", "/list", null]),
            json!(["add", "/usage/cost", null]),
            json!(["add", "/usage/cost", null]),
        ];
        assert_eq!(told, wanted);
        let shown = place.run(&["history", LOG, "run"]).done().stdout;
        assert!(shown.contains("add /list, in vain") && shown.contains("union /list  "), "{shown}");

        // Tried again under its id it is known, whatever is there by now.
        place.put("run", "true");
        assert_eq!(merge(&add).done().json()[0]["repeated"], true);
        assert_eq!(place.alone("run"), "true");
    }
}

#[test]
fn a_difference_is_told_with_signs_and_as_one_object_and_as_a_json_patch() {
    for place in Place::each() {
        place.put("cart", r#"{"items":["tea","milk"],"total":3.50,"a/b~c":1}"#);
        place.put("gone", "[1]");
        place.put("n", "1");
        place.put("cart", r#"{"items":["milk","oats"],"total":4.75,"a/b~c":{}}"#);
        place.run(&["delete", LOG, "gone"]).done();
        place.put("a/b~c", "true");
        place.put("n", "1.0");

        let person = place.run(&["diff", LOG, "3", "7"]).done();
        let machine = place.json(&["diff", LOG, "3"]).done().json();
        let patch = place.run(&["diff", LOG, "3", "--json-patch"]).done().json();

        let signs = [
            "+ a/b~c true",
            "~ cart",
            "    ~ /a~1b~0c 1 -> {}",
            "    ~ /items/0 \"tea\" -> \"milk\"",
            "    ~ /items/1 \"milk\" -> \"oats\"",
            "    ~ /total 3.50 -> 4.75",
            "- gone [1]",
            "~ n 1 -> 1.0",
        ];
        let mut lines: Vec<_> = person.stdout.lines().collect();
        // In what order a document's places come is the patch's own.
        lines[2..6].sort_unstable();
        assert_eq!(lines, signs, "{person:?}");
        assert_eq!(person.stderr, "4 documents differ from version 3 to version 7\n");
        assert_eq!((machine.len(), &machine[0]["json_patch"]), (1, &patch[0]));
        assert_eq!(
            (&machine[0]["log"], &machine[0]["from"], &machine[0]["to"]),
            (&json!(LOG), &json!(3), &json!(7))
        );
        assert_eq!(machine[0]["differences"][0], json!({"key": "a/b~c", "to": true}));
        assert_eq!(machine[0]["differences"][2], json!({"key": "gone", "from": [1]}));
        assert_eq!(machine[0]["differences"][3].to_string(), r#"{"key":"n","from":1,"to":1.0}"#);
        assert!(
            patch[0].as_array().unwrap().contains(&json!({"op": "add", "path": "/a~1b~0c", "value": true}))
        );
        let same = place.run(&["diff", LOG, "7"]).done();
        assert_eq!(
            (same.stdout.as_str(), same.stderr.as_str()),
            ("", "No document differs from version 7 to version 7\n")
        );
        assert_eq!(place.run(&["diff", LOG, "7", "--json-patch"]).done().stdout, "[]\n");
    }
}

#[test]
fn a_history_says_newest_first_who_changed_a_document() {
    for place in Place::each() {
        place.run(&["put", LOG, "k", "1", "--actor", "ada", "--trace", "t-1", "--id", "i-1"]).done();
        place.put("other", "1");
        place.run(&["patch", LOG, "k", r#"{"a":null}"#]).done();
        place.run(&["delete", LOG, "k"]).done();

        let lines = place.json(&["history", LOG, "k"]).done().json();
        let table = place.run(&["history", LOG, "k"]).done().stdout;

        let seen: Vec<_> = lines
            .iter()
            .map(|line| (line["version"].as_u64().unwrap(), line["change"].as_str().unwrap()))
            .collect();
        assert_eq!(seen, [(4, "delete"), (3, "patch"), (1, "put")]);
        assert_eq!((&lines[0].get("value"), &lines[1]["value"]), (&None, &json!({"a": null})));
        let said = ["log", "key", "id", "actor", "trace", "value"].map(|name| lines[2][name].clone());
        assert_eq!(said, [json!(LOG), json!("k"), json!("i-1"), json!("ada"), json!("t-1"), json!(1)]);
        assert_eq!((&lines[0]["id"], lines[0].get("actor")), (&Value::Null, None));
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("TRACE") && table.contains("ada"), "{table}");
        assert_eq!(place.json(&["history", LOG, "k", "--limit", "2"]).done().json().len(), 2);
        let none = place.run(&["history", LOG, "none"]).done();
        assert_eq!(
            (none.stdout.as_str(), none.stderr.as_str()),
            ("", "This log never had such a document\n")
        );
    }
}

#[test]
fn a_rollback_is_shown_first_made_once_and_can_be_rolled_back() {
    for place in Place::each() {
        place.put("a", "1");
        place.put("a", "2");
        place.put("b", "1");

        let shown = place.run(&["rollback", LOG, "--to", "1", "--dry-run"]).done().stdout;
        let machine = place.json(&["rollback", LOG, "--to", "1", "--dry-run"]).done().json();
        assert_eq!(shown, "~ a 2 -> 1\n- b 1\n");
        assert_eq!((&machine[0]["from"], &machine[0]["to"]), (&json!(3), &json!(1)));
        assert!(place.state(&[]).contains("\"version\":3"), "nothing was written");

        assert_eq!(
            place.run(&["rollback", LOG, "--to", "1"]).done().stdout,
            "acme/session/s-1 at version 4\n"
        );
        assert!(place.state(&[]).contains("\"version\":4,\"documents\":{\"a\":1}"));
        let again = place.run(&["rollback", LOG, "--to", "1"]).done();
        assert_eq!(again.stdout, "The documents are what they were then: nothing was written\n");
        let again = place.json(&["rollback", LOG, "--to", "1"]).done().json();
        assert_eq!(again, [json!({"log": LOG, "committed": false})]);
        assert_eq!(version(&place.json(&["rollback", LOG, "--to", "3"])), 5);
        assert!(place.state(&[]).contains("\"version\":5,\"documents\":{\"a\":2,\"b\":1}"));
        place.run(&["rollback", LOG]).failed(2, "--to");
        place.run(&["verify"]).done();
    }
}

#[test]
fn a_fork_begins_with_the_documents_as_they_were_and_is_a_new_log() {
    const FORK: &str = "acme/session/fork";
    for place in Place::each() {
        place.put("a", "1");
        place.put("a", "2");

        let receipt = place.run(&["fork", LOG, FORK, "--at", "1"]).done().stdout;
        place.run(&["put", FORK, "a", "3"]).done();

        assert_eq!(receipt, "acme/session/fork at version 1\n");
        assert!(place.state(&[]).contains("\"a\":2"));
        let states = ["1", "2"].map(|at| place.run(&["state", FORK, "a", "--at", at]).done().stdout);
        assert_eq!(states, ["1", "3"]);
        place.run(&["fork", LOG, FORK]).failed(3, "another name");
        place.run(&["fork", LOG, LOG]).failed(2, "another name");
        assert_eq!(version(&place.json(&["fork", LOG, "acme/session/now"])), 1);
        assert_eq!(place.run(&["state", "acme/session/now", "a"]).done().stdout, "2");
        place.run(&["verify"]).done();
    }
}

#[test]
fn writers_that_race_lose_no_update_that_is_conditional() {
    // Only SQLite has several writing processes.
    let place = Place::sqlite();
    place.put("n", "0");
    let done: u64 = std::thread::scope(|scope| {
        let writer = || {
            let mut done = 0;
            while done < 5 {
                let line = &place.json(&["history", LOG, "n", "--limit", "1"]).done().json()[0];
                let (n, at) = (line["value"].as_u64().unwrap() + 1, line["version"].to_string());
                let ran = place.run(&["put", LOG, "n", &n.to_string(), "--expect-document", &at]);
                assert!([0, 3].contains(&ran.code), "{ran:?}");
                done += u64::from(ran.code == 0);
            }
            done
        };
        let writers: Vec<_> = (0..3).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });

    assert_eq!((done, place.alone("n").as_str()), (15, "15"));
}

#[cfg(unix)]
#[test]
fn what_shows_documents_ends_well_when_nobody_looks_any_more_and_what_changes_them_goes_on() {
    for place in Place::each() {
        place.put("k", "1");
        let run_closed = |arguments: &[&str]| {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = place.command(arguments);
            Ran::of(command.stdin(std::process::Stdio::null()).stdout(writer).output().unwrap())
        };

        for arguments in [
            &["state", LOG, "--quiet"][..],
            &["state", LOG, "k"],
            &["diff", LOG, "0", "--quiet"],
            &["history", LOG, "k"],
            &["rollback", LOG, "--to", "0", "--dry-run", "--quiet"],
            &["put", LOG, "k", "2"],
            &["delete", LOG, "k"],
        ] {
            let ran = run_closed(arguments);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        }
        assert!(place.state(&[]).contains("\"version\":3,\"documents\":{}"));
        assert_eq!(run_closed(&["put", LOG, "k", "3", "--expect", "1"]).code, 3);
    }
}

#[test]
fn a_watch_shows_a_document_as_it_is_until_there_is_nothing_more() {
    for place in Place::each() {
        place.run(&["put", LOG, "k", "1"]).done();
        place.run(&["put", LOG, "other", "1"]).done();
        place.run(&["patch", LOG, "k", r#"{"a":1.0}"#]).done();
        let watch = |key| place.json(&["watch", LOG, key, "--until-caught-up"]).done().json();

        let lines = watch("k");

        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["version"], &lines[0]["exists"]), (&json!(3), &json!(true)));
        assert_eq!(lines[0]["value"], json!({ "a": 1.0 }));
        assert_eq!(watch("none")[0], json!({ "log": LOG, "key": "none", "version": 3, "exists": false }));
        let shown = place.run(&["watch", LOG, "none", "--until-caught-up"]).done().stdout;
        assert!(shown.ends_with("(none)\n"), "{shown}");
        place.run(&["watch", LOG, &"k".repeat(1_025)]).failed(2, "key_bytes=1025");
    }
}
