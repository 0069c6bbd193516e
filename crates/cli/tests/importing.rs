//! `import` and `append --data` on what people and machines give them, bad and good.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::io::Write;

use serde_json::{Value, json};
use support::*;

fn rejected(place: &Place, name: &str) -> Vec<Value> {
    place.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn importing_twice_changes_nothing_also_for_lines_without_an_id() {
    for place in Place::each() {
        place.write("lines", "{\"kind\":\"a\",\"data\":1}\n\n{\"kind\":\"a\",\"data\":1}\n");

        let first = place.json(&["import", LOG, "lines"]).done().json();
        let second = place.json(&["import", LOG, "lines"]).done().json();

        assert_eq!((&first[0]["appended"], &first[0]["repeated"]), (&json!(2), &json!(0)));
        assert_eq!((&second[0]["appended"], &second[0]["repeated"]), (&json!(0), &json!(2)));
        assert_eq!(place.data(LOG), ["1", "1"]);
    }
}

#[test]
fn receipts_are_json_lines_whatever_the_output_is() {
    // They were sentences unless `--output json` was given, too.
    let place = Place::file();
    place.write("lines", lines(3));

    let ran = place.run(&["import", LOG, "lines", "--receipts"]).done();

    let receipts: Vec<_> =
        ran.json().into_iter().map(|line| [line["id"].clone(), line["log"].clone()]).collect();
    assert_eq!(receipts, ["e-1", "e-2", "e-3"].map(|id| [json!(id), json!(LOG)]));
    assert!(ran.stderr.contains("3 appended"));
}

#[test]
fn line_ends_byte_order_marks_and_a_missing_last_line_feed_are_no_content() {
    let place = Place::file();
    let all = "\u{FEFF}{\"id\":\"1\",\"kind\":\"a\",\"data\":\"one\"}\r\n\r\n{\"id\":\"2\",\"kind\":\"a\",\"data\":\"two\"}";
    place.write("lines", all);
    place.write("empty", "");

    place.run(&["import", LOG, "lines"]).done();
    assert_eq!(place.json(&["import", LOG, "empty"]).done().json()[0]["lines"], 0);
    assert_eq!(place.data(LOG), ["\"one\"", "\"two\""]);
    assert_eq!(place.run_with(&["import", LOG, "-"], all).code, 0);
    assert_eq!(place.data(LOG).len(), 2);
}

#[test]
fn numbers_and_texts_are_kept_as_they_were_written() {
    for place in Place::each() {
        let data = [
            "123456789012345678901234567890.123456789",
            "1e999999",
            "-0.0",
            r#""\ud800""#,
            r#""\u0000""#,
            r#"{"b":1,"a":2,"b":3}"#,
            "[ 1 ,2]",
        ];
        let lines: String = data.iter().map(|data| format!("{{\"kind\":\"k\",\"data\":{data}}}\n")).collect();
        place.write("lines", lines);

        place.run(&["import", LOG, "lines"]).done();

        let ran = place.json(&["read", LOG]).done();
        for (line, data) in ran.stdout.lines().zip(data) {
            assert!(line.contains(&format!("\"data\":{data}")), "{line}");
        }
        assert_eq!(ran.stdout.lines().count(), data.len());
    }
}

const BAD: [&str; 8] = [
    "no JSON",
    "{\"kind\":\"a\"}",
    "{\"kind\":\"\",\"data\":1}",
    "{\"kind\":\"a\",\"data\":1,\"more\":2}",
    "{\"kind\":\"\\ud800\",\"data\":1}",
    "{\"kind\":\"a\0\",\"data\":1}",
    "{\"kind\":\"a\",\"data\":1,\"at\":\"noon\"}",
    "{\"kind\":\"a\",\"data\":1} {}",
];

#[test]
fn a_bad_line_is_named_by_its_number_and_ends_the_import() {
    let place = Place::file();
    let long_id = format!("{{\"id\":\"{}\",\"kind\":\"a\",\"data\":1}}", "i".repeat(257));
    for bad in BAD.into_iter().chain([long_id.as_str()]) {
        place.write(
            "lines",
            format!("{}{bad}\n{{\"id\":\"z\",\"kind\":\"a\",\"data\":\"last\"}}\n", lines(2)),
        );

        let ran = place.json(&["import", LOG, "lines"]);

        assert_eq!(ran.code, 2, "{bad}: {ran:?}");
        assert_eq!((&ran.error()["kind"], &ran.error()["line"]), (&json!("invalid"), &json!("3")), "{bad}");
        assert_eq!(place.data(LOG), ["1", "2"]);
    }
}

#[test]
fn keep_going_passes_over_bad_lines_and_keeps_their_text_beside_the_file() {
    // It needed `--rejects`, and the text of a line that was in conflict was lost.
    for place in Place::each() {
        let conflict = "{\"id\":\"e-1\",\"kind\":\"said\",\"data\":\"other\"}";
        let mut all = format!("{}{}\n{conflict}\n", lines(2), BAD.join("\n")).into_bytes();
        all.extend_from_slice(b"\xff\xfe\n{\"id\":\"z\",\"kind\":\"a\",\"data\":\"last\"}\n");
        place.write("lines", &all);

        let ran = place.run(&["import", LOG, "lines", "--keep-going"]).done();

        assert!(ran.stderr.contains("10 rejected (see lines.rejects)"), "{ran:?}");
        assert_eq!(place.data(LOG), ["1", "2", "\"last\""]);
        let mut rejects = rejected(&place, "lines.rejects");
        rejects.sort_by_key(|reject| reject["line"].as_u64());
        let texts: Vec<_> = rejects.iter().filter_map(|reject| reject["text"].as_str()).collect();
        assert_eq!(texts, [&BAD[..], &[conflict]].concat());
        assert_eq!((&rejects[9]["line"], &rejects[9]["text_base64"]), (&json!(12), &json!("//4=")));
        assert!(rejects[8]["error"].as_str().unwrap().contains("Conflict"));
    }
}

#[test]
fn rejects_of_standard_input_have_a_name_and_rejects_may_go_elsewhere() {
    let place = Place::file();
    place.write("lines", "bad\n");

    assert_eq!(place.run_with(&["import", LOG, "-", "--keep-going"], "bad\n").code, 0);
    let ran = place.json(&["import", LOG, "lines", "--keep-going", "--rejects", "mine"]).done();

    assert_eq!((rejected(&place, "rejects.ndjson").len(), rejected(&place, "mine").len()), (1, 1));
    assert_eq!(ran.json()[0]["rejects"], "mine");
    place.run(&["import", LOG, "lines", "--rejects", "mine"]).failed(2, "--keep-going");
}

#[test]
fn rejects_are_never_written_over_the_input() {
    // The rejects were made first, which emptied the input.
    let place = Place::file();
    place.write("lines", lines(2));
    std::fs::hard_link(place.path("lines"), place.path("other name")).unwrap();

    for rejects in ["lines", "./lines", "other name"] {
        let given = ["import", LOG, "lines", "--keep-going", "--rejects", rejects];
        place.run(&given).failed(2, "file to import");
    }
    let mut from_stdin = place.command(&["import", LOG, "-", "--keep-going", "--rejects", "lines"]);
    from_stdin.stdin(std::fs::File::open(place.path("lines")).unwrap());
    Ran::of(from_stdin.output().unwrap()).failed(2, "file to import");
    place.run(&["import", LOG, "nowhere", "--keep-going"]).failed(4, "nowhere");

    assert_eq!(place.read("lines"), lines(2));
    assert!(!place.path("nowhere.rejects").exists(), "nothing is made for an input that is not there");
}

#[test]
fn a_line_that_is_too_long_is_passed_over_and_the_import_goes_on() {
    // It was taken for the end of the file, and the import ended with 0.
    let place = Place::file();
    let mut file = std::fs::File::create(place.path("lines")).unwrap();
    file.write_all(lines(1).as_bytes()).unwrap();
    file.write_all(b"{\"kind\":\"a\",\"data\":\"").unwrap();
    file.write_all(&vec![b'x'; 70 << 20]).unwrap();
    file.write_all(b"\"}\n{\"id\":\"z\",\"kind\":\"a\",\"data\":\"last\"}\n").unwrap();

    let stopped = place.json(&["import", "acme/session/stopped", "lines"]);
    let ran = place.json(&["import", LOG, "lines", "--keep-going"]).done();

    assert_eq!((stopped.code, &stopped.error()["line"]), (2, &json!("2")));
    assert_eq!((&ran.json()[0]["appended"], &ran.json()[0]["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(rejected(&place, "lines.rejects")[0]["line"], 2);
    assert_eq!(place.data(LOG), ["1", "\"last\""]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_cannot_be_read_is_unavailable() {
    // The first page of a process is never mapped, so that reading it is an error of the device.
    let place = Place::file();

    let ran = place.json(&["import", LOG, "/proc/self/mem", "--keep-going", "--rejects", "rejects"]);

    assert_eq!((ran.code, &ran.error()["kind"]), (5, &json!("unavailable")));
}

#[test]
fn what_is_no_file_of_data_is_refused_by_what_is_wrong_with_it() {
    let place = Place::file();
    std::fs::File::create(place.path("large")).unwrap().set_len(1 << 40).unwrap();
    let append = |data: &str| place.json(&["append", LOG, "--kind", "k", "--data", data]);

    // A terabyte is not read to its end to say that it is too much.
    for (data, code, kind) in [("@large", 2, "invalid"), ("@.", 2, "invalid"), ("@nowhere", 4, "not_found")] {
        let ran = append(data);
        assert_eq!((ran.code, &ran.error()["kind"]), (code, &json!(kind)), "{data}");
    }
    place.run(&["import", LOG, "."]).failed(2, "directory");
    append(&"[".repeat(50_000)).failed(2, "JSON");
}

#[test]
fn data_comes_from_a_file_and_from_standard_input_byte_for_byte() {
    let place = Place::file();
    place.write("data", "{ \"a\" : 1 }");

    place.run(&["append", LOG, "--kind", "k", "--data", "@data"]).done();
    place.run_with(&["append", LOG, "--kind", "k", "--data", "-"], "[1,\n2]").done();
    place
        .run_with(&["append", LOG, "--kind", "k", "--data", "-", "--content-type", "x/y"], b"\xff\x00")
        .done();

    let ran = place.json(&["read", LOG]).done();
    assert!(ran.stdout.contains(r#""data":{ "a" : 1 }"#));
    assert_eq!(ran.json()[1]["data"], json!([1, 2]));
    assert_eq!(
        (&ran.json()[2]["data_base64"], &ran.json()[2]["content_type"]),
        (&json!("/wA="), &json!("x/y"))
    );
}

#[test]
fn names_that_are_no_log_names_are_invalid() {
    let place = Place::file();
    let long = format!("acme/session/{}", "k".repeat(600));
    for name in [
        "",
        "/",
        "acme",
        "acme/session",
        "a/b/c/d",
        "//x",
        "acme//x",
        "acme/session/",
        "a b/c/d",
        "ä/b/c",
        "a/b/=zz",
        &long,
    ] {
        let ran = place.json(&["append", name, "--kind", "k", "--data", "1"]);

        assert_eq!((ran.code, &ran.error()["kind"]), (2, &json!("invalid")), "{name}");
    }
    place
        .json(&["append", LOG, "--kind", "k", "--data", "1", "--id", &"i".repeat(257)])
        .failed(2, "id_bytes");
    place.json(&["append", LOG, "--kind", "k", "--data", "1", "--id", &"i".repeat(256)]).done();
}
