//! A reader of our output that goes away: what only shows ends well, what does or decides something keeps its outcome.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::fs::OpenOptions;
use std::process::{Child, Stdio};

use support::*;

/// Ends when its reader has gone; its exit code.
fn code_of(mut child: Child) -> i32 {
    drop(child.stdout.take());
    drop(child.stdin.take());
    child.wait_with_output().unwrap().status.code().unwrap()
}

/// Runs it with a standard output that nobody reads.
fn run_closed(place: &Place, arguments: &[&str]) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(arguments);
    Ran::of(command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap())
}

#[test]
fn what_only_shows_ends_well() {
    for place in Place::each() {
        place.fill(1);
        let show: [&[&str]; 5] = [
            &["read", LOG],
            &["logs"],
            &["tail", LOG, "--from", "1"],
            &["watch", LOG, "k"],
            &["completions", "bash"],
        ];
        for arguments in show {
            let ran = run_closed(&place, arguments);

            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        }
    }
}

#[test]
fn an_import_goes_on_without_its_reader() {
    // `import --receipts | head -1` stopped half-way, with 0.
    for place in Place::each() {
        place.write("lines", lines(3_000));
        let mut child = place.spawn(&["import", LOG, "lines", "--receipts"]);

        let first = first_lines(child.stdout.take().unwrap(), 1);
        let code = code_of(child);

        assert_eq!((first.len(), code), (1, 0));
        assert_eq!(place.data(LOG).len(), 3_000);
        place.write("bad", format!("{}bad\n", lines(10)));
        assert_eq!(run_closed(&place, &["import", LOG, "bad", "--receipts"]).code, 2);
    }
}

#[test]
fn what_does_or_decides_something_keeps_its_exit_code() {
    // `verify | head -1` on a damaged store gave 0.
    let place = Place::file();
    place.run(&["append", LOG, "--kind", "k", "--data", "\"some text\""]).done();
    assert_eq!(run_closed(&place, &["append", LOG, "--kind", "k", "--data", "1"]).code, 0);
    assert_eq!(run_closed(&place, &["append", LOG, "--kind", "k", "--data", "1", "--expect", "9"]).code, 3);
    assert_eq!(run_closed(&place, &["doctor"]).code, 0);
    damage(&place.path("store"), "some text");

    assert_eq!(run_closed(&place, &["verify"]).code, 20);
    assert_eq!(run_closed(&place, &["verify", "--output", "json"]).code, 20);
    assert_eq!(run_closed(&place, &["copy", "file:store", "file:other"]).code, 20);
    assert_eq!(run_closed(&place, &["read", "acme/session/other"]).code, 4);
}

#[test]
fn an_idle_tail_notices_that_its_reader_has_gone() {
    // With nothing to print it ran until it was killed.
    for place in Place::each() {
        place.fill(1);
        let mut child = place.spawn(&["tail", LOG, "--from", "1"]);

        // Its first event was read, so it waits for more.
        first_lines(child.stdout.take().unwrap(), 1);

        assert_eq!(code_of(child), 0);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_append_whose_receipt_cannot_be_printed_does_not_ask_to_be_retried() {
    // "Unavailable" says that nothing was written, and it had been.
    let place = Place::file();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();

    let mut command = place.command(&["append", LOG, "--kind", "k", "--data", "1", "--output", "json"]);
    let ran = Ran::of(command.stdout(full).stderr(Stdio::piped()).output().unwrap());

    assert_eq!((ran.code, &ran.error()["outcome"]), (5, &serde_json::json!("unknown")));
    assert!(ran.stderr.contains("was appended"), "{ran:?}");
    assert_eq!(place.data(LOG), ["1"]);
}
