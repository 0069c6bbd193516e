//! Trims, holds, policies and maintenance from the command line: what is asked wrongly, what only looks, and what is stopped.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

const LOOKS: [&[&str]; 6] = [
    &["trim", LOG, "--keep-commits", "1", "--dry-run"],
    &["trim", LOG, "--keep-bytes", "1", "--kind", "said", "--dry-run"],
    &["delete-log", LOG, "--dry-run"],
    &["maintain", "--once", "--dry-run"],
    &["hold", "list"],
    &["policy", "list"],
];

#[test]
fn what_only_looks_writes_nothing_and_makes_no_store() {
    for place in Place::each() {
        for arguments in LOOKS {
            let ran = place.run(arguments);
            assert_ne!(ran.code, 0, "{arguments:?}: {ran:?}");
            assert!(!place.path("store").exists() && !place.path("store.db").exists(), "{arguments:?}");
        }
    }
    let place = Place::file();
    place.fill(40);
    place.run(&["policy", "set", "acme/", "--keep-commits", "3"]).done();
    let before = files(&place.path("store"));
    for arguments in LOOKS {
        place.run(arguments).done();
        assert!(files(&place.path("store")) == before, "{arguments:?}");
    }
    let planned = place.json(LOOKS[0]).done().json();
    let trimmed = place.json(&LOOKS[0][..4]).done().json();
    for field in ["head", "trimmed_through", "commits", "bytes", "states_from", "writes_base"] {
        assert_eq!(planned[0][field], trimmed[0][field], "{field}");
    }
}

#[test]
fn what_is_asked_wrongly_is_said_before_anything_is_done() {
    let place = Place::file();
    place.fill(3);
    let before = files(&place.path("store"));
    let wrong: [&[&str]; 16] = [
        &["trim", LOG],
        &["trim", LOG, "--keep-commits=-1"],
        &["trim", LOG, "--keep-for", "5"],
        &["trim", LOG, "--keep-for", "99999999999999999999d"],
        &["trim", LOG, "--keep-for", "9999999999999999999w"],
        &["trim", LOG, "--keep-bytes", "many"],
        &["trim", "acme", "--keep-commits", "1"],
        &["hold", "set", "a"],
        &["hold", "set", "a", "--log", LOG, "--prefix", "acme/"],
        &["hold", "set", "", "--log", LOG],
        &["hold", "set", "a", "--log", "acme"],
        &["policy", "set", "acme/"],
        &["policy", "set", "acme/", "--kind", "said"],
        &["maintain", "--once", "--watch"],
        &["maintain", "--watch", "--dry-run"],
        &["maintain", "--every", "3"],
    ];
    for arguments in wrong {
        let ran = place.json(arguments);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{arguments:?}: {ran:?}");
        assert_eq!(ran.error()["kind"], "invalid", "{arguments:?}");
    }
    let missing: [&[&str]; 4] = [
        &["trim", "acme/session/none", "--keep-commits", "1"],
        &["delete-log", "acme/session/none"],
        &["hold", "release", "none"],
        &["policy", "remove", "none/"],
    ];
    for arguments in missing {
        let ran = place.json(arguments);
        assert_eq!((ran.code, &*ran.stdout), (4, ""), "{arguments:?}: {ran:?}");
    }
    assert_eq!(place.data(LOG), ["1", "2", "3"]);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&files(&place.path("store"))), names(&before));
}

#[test]
fn what_is_held_is_refused_and_what_was_deleted_is_gone() {
    let place = Place::sqlite();
    place.fill(10);
    place.run(&["hold", "set", "hold/a", "--log", LOG, "--from", "0", "--for", "99999999w"]).done();
    let refused = place.json(&["trim", LOG, "--keep-commits", "1"]);
    assert_eq!((refused.code, &refused.error()["hold"]), (6, &"hold/a".into()), "{refused:?}");
    place.json(&["delete-log", LOG]).failed(6, "hold/a");
    assert_eq!(place.json(&["hold", "list"]).done().json()[0]["hold"], "hold/a");
    place.run(&["hold", "release", "hold/a"]).done();

    for repeated in [false, true] {
        assert_eq!(place.json(&["delete-log", LOG]).done().json()[0]["repeated"], repeated);
    }

    assert_eq!(place.append("m-11", "11").code, 6);
    assert_eq!(place.json(&["state", LOG]).code, 4);
    assert_eq!(place.json(&["trim", LOG, "--keep-commits", "1"]).code, 4);
    place.json(&["hold", "set", "late", "--log", LOG]).failed(6, "deleted");
    place.run(&["verify"]).done();
}

#[test]
fn maintenance_that_is_stopped_is_gone_on_with_by_the_next() {
    let place = Place::sqlite();
    place.fill(20);
    place.run(&["policy", "set", "acme/", "--keep-commits", "5"]).done();
    let mut child = place.spawn(&["--output", "json", "maintain", "--watch", "--every", "1s"]);
    let seen = first_lines(child.stdout.take().unwrap(), 1);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    child.wait().unwrap();

    let seen: serde_json::Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!((&seen["trimmed"], &seen["failed"]), (&1.into(), &0.into()), "{seen}");
    let next = place.json(&["maintain", "--once"]).done().json();
    assert_eq!((&next[0]["done"], &next[0]["trimmed"]), (&true.into(), &0.into()), "{next:?}");
    place.run(&["verify"]).done();
}

#[test]
fn a_pass_leaves_its_numbers_for_prometheus() {
    let place = Place::file();
    place.run(&["append", "acme/session/s-1", "--kind", "said", "--data", "{}"]).done();
    let path = place.path("icecore.prom");
    let path = path.to_str().unwrap();

    place.run(&["maintain", "--once", "--metrics", path]).done();
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page.contains("icecore_backend_requests_total{backend=\"file\",operation=\"heads\",outcome=\"ok\"}"),
        "{page}"
    );
    let nowhere = place.run(&["maintain", "--once", "--metrics", "no/such/folder/icecore.prom"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
}
