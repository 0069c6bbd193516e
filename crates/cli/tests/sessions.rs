//! Sessions from the command line: whose they are, what only looks, pages, and secrets.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use support::*;

const ANN: [&str; 4] = ["--tenant", "acme", "--user", "ann"];

fn session<'a>(of: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
    [&["session"], &arguments[..1], of, &arguments[1..]].concat()
}

#[test]
fn whose_it_is_must_be_said_and_nothing_is_made_before_that() {
    let long = "x".repeat(1_025);
    for place in Place::each() {
        let wrong: [&[&str]; 14] = [
            &["session", "create", "s-1"],
            &["session", "create", "--tenant", "acme", "s-1"],
            &["session", "create", "--user", "ann", "s-1"],
            &["session", "create", "--tenant", "", "--user", "ann", "s-1"],
            &["session", "create", "--tenant", "acme", "--user", "", "s-1"],
            &["session", "create", "--tenant", "acme", "--user", "ann", ""],
            &["session", "create", "--tenant", "acme", "--user", "ann", &long],
            &["session", "create", "--tenant", "_", "--user", "ann", "s-1"],
            &["session", "create", "--tenant", "acme", "--user", "ann", "s-1", "--idle", "5"],
            &["session", "list"],
            &["session", "limits", "--tenant", "acme", "--per-user", "many"],
            &["session", "purge", "--tenant", "acme"],
            &["session", "purge", "--tenant", "acme", "s-1"],
            &["session", "purge", "--tenant", "acme", "--user", "ann", "s-1", "--all"],
        ];
        for arguments in wrong {
            let ran = place.run(arguments);
            assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        }
        // A session of a store that is not there is not there.
        for arguments in [
            session(&ANN, &["show", "s-1"]),
            session(&ANN, &["touch", "s-1"]),
            session(&ANN, &["terminate", "s-1"]),
            session(&ANN, &["purge", "s-1"]),
            session(&ANN, &["purge", "--all", "--dry-run"]),
        ] {
            let ran = place.run(&arguments);
            assert_eq!(ran.code, 4, "{arguments:?}: {ran:?}");
        }
        assert!(!place.path("store").exists() && !place.path("store.db").exists());
    }
    let place = Place::file();
    let mut command = place.command(&["session", "create", "--user", "ann", "s-1"]);
    Ran::of(command.env("ICECORE_TENANT", "acme").output().unwrap()).done();
    place.run(&session(&ANN, &["show", "s-1"])).done();
    place.run(&session(&["--tenant", "other", "--user", "ann"], &["show", "s-1"])).failed(4, "Not found");
    place.run(&session(&["--tenant", "acme", "--user", "an"], &["show", "s-1"])).failed(4, "Not found");
}

#[test]
fn pages_of_the_list_are_behind_the_cursors_that_they_give() {
    let place = Place::file();
    for number in 0..7 {
        place.run(&session(&ANN, &["create", &format!("s-{number}")])).done();
    }
    place.run(&session(&ANN, &["terminate", "s-3"])).done();
    let (mut found, mut after): (_, Option<String>) = (Vec::new(), None);
    loop {
        let mut arguments = vec!["session", "list", "--tenant", "acme", "--limit", "2"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = place.json(&arguments).done().json();
        found.extend(page.iter().map(|line| line["session"].as_str().unwrap().to_owned()));
        let Some(last) = page.last() else { break };
        after = Some(last["cursor"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, ["s-6", "s-5", "s-4", "s-2", "s-1", "s-0"]);
    let all = place.json(&session(&ANN, &["list", "--ended"])).done().json();
    assert_eq!((all.len(), all[3]["status"].as_str()), (7, Some("terminated")));
    let ran = place.run(&["session", "list", "--tenant", "acme", "--limit", "6"]).done();
    assert!(!ran.stderr.contains("--after"), "{ran:?}");
    let ran = place.run(&["session", "list", "--tenant", "acme", "--limit", "5"]).done();
    assert!(ran.stderr.contains("--after"), "{ran:?}");
    place.run(&session(&ANN, &["list", "--after", "x"])).failed(2, "The cursor is not of this listing");
    let mut command = place.command(&session(&ANN, &["list"]));
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success(), "whoever reads it has seen enough");
}

#[test]
fn hostile_ids_control_no_terminal_and_name_nobody_else() {
    let place = Place::file();
    for id in ["\u{1b}[2J", "a/b", "a\nb", "~a"] {
        place.run(&["session", "create", "--tenant", "acme", "--user", id, id]).done();
        let ran = place.run(&["session", "create", "--tenant", "acme", "--user", id, id]);
        assert_eq!((ran.code, ran.stderr.contains('\u{1b}')), (3, false), "{ran:?}");
        let ran = place.run(&["session", "show", "--tenant", "acme", "--user", id, "\u{1b}x"]);
        assert_eq!((ran.code, ran.stderr.contains('\u{1b}')), (4, false), "{ran:?}");
    }
    let ran = place.run(&["session", "list", "--tenant", "acme"]).done();
    assert!(!ran.stdout.contains('\u{1b}') && ran.stdout.lines().count() == 5, "{ran:?}");
    let found = place.json(&["session", "list", "--tenant", "acme", "--user", "a\nb"]).done().json();
    assert_eq!((found.len(), found[0]["session"].as_str()), (1, Some("a\nb")));
}

#[test]
fn a_token_is_shown_once_and_opens_its_session_from_a_pipe() {
    let place = Place::file();
    place.run(&session(&ANN, &["create", "s-1"])).done();
    let issued =
        place.json(&["session", "token", "issue", "--tenant", "acme", "--user", "ann", "s-1"]).done();
    let (token, id) = (issued.json()[0]["token"].clone(), issued.json()[0]["id"].clone());
    let (token, id) = (token.as_str().unwrap(), id.as_str().unwrap());
    let open = ["--output", "json", "session", "token", "open", "--tenant", "acme", "-"];
    assert_eq!(place.run_with(&open, format!("{token}\n")).done().json()[0]["session"], "s-1");
    let list = ["session", "token", "list", "--tenant", "acme", "--user", "ann", "s-1"];
    let listed = place.json(&list).done();
    assert_eq!(listed.json()[0]["id"], id);
    assert!(!listed.stdout.contains(&token[token.len() - 64..]));
    let wrong = place.run_with(&open, format!("{token}0"));
    wrong.failed(4, "The token opens no session");
    assert!(!wrong.stderr.contains(&token[token.len() - 64..]), "{wrong:?}");
    assert_eq!(place.run_with(&open, [0xff]).code, 2);
    let revoke = ["session", "token", "revoke", "--tenant", "acme", "--user", "ann", "s-1", "--id", id];
    place.run(&revoke).done();
    place.run(&revoke).failed(4, "no such token");
    assert_eq!(place.run_with(&open, token).code, 4);
}

#[test]
fn a_dry_purge_says_what_goes_and_writes_nothing() {
    let place = Place::file();
    for user in ["ann", "bob"] {
        place.run(&["session", "create", "--tenant", "acme", "--user", user, "s-1"]).done();
    }
    let of = |arguments: &[&str]| {
        place.json(&[&["session", "purge", "--tenant", "acme"], arguments].concat()).done()
    };
    let segment = || std::fs::read(place.path("store").join("00000001.seg")).unwrap();
    let before = segment();
    let planned = of(&["--all", "--dry-run"]).json();
    assert_eq!((planned[0]["sessions"].as_u64(), planned[0]["dry_run"].as_bool()), (Some(2), Some(true)));
    assert_eq!(of(&["--user", "ann", "s-1", "--dry-run"]).json()[0]["logs"], 1);
    assert!(before == segment());
    assert_eq!(of(&["--user", "ann", "s-1"]).json()[0]["sessions"], 1);
    place.run(&["hold", "set", "case", "--prefix", "acme/sessions/"]).done();
    let held = place.run(&["session", "purge", "--tenant", "acme", "--all"]);
    assert_eq!(held.code, 6, "{held:?}");
    place.run(&["session", "touch", "--tenant", "acme", "--user", "bob", "s-1"]).failed(4, "ended");
    place.run(&["hold", "release", "case"]).done();
    assert_eq!(of(&["--all"]).json()[0]["sessions"], 1);
    assert_eq!(place.json(&["session", "list", "--tenant", "acme", "--ended"]).done().json().len(), 0);
}
