//! Contract 8, **names**: every log exactly once, however its name looks.

use std::collections::BTreeSet;

use icecore_log::{LogId, LogPrefix, PageLimit};

use crate::commits::*;
use crate::fixture::{Fixture, readers};

/// Contract 8.
pub async fn a_listing_has_every_log_once_in_pages_of_any_size(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let mut expected = BTreeSet::new();
    for n in 0..23 {
        let log = log(&format!("s-{n}"));
        append(&*backend, &log, 1..=2).await;
        expected.insert(log);
    }

    for handle in readers(fixture).await {
        for limit in [1, 2, 3, 7, 23, 24, 1_000] {
            let listed = list(&*handle, &LogPrefix::all(), limit).await;
            assert_eq!(listed.len(), expected.len(), "in pages of {limit}");
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "in pages of {limit}");
        }
    }
}

/// Contract 8. Separators sort in the middle of names: `s-1` and `s-10`, `s` and `s-2`.
pub async fn a_prefix_lists_what_begins_so_and_nothing_else(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let names = ["a/s/1", "a/s/10", "a/s/2", "a/s-2/1", "a/sa/1", "ab/s/1", "b/s/1"];
    for name in names {
        append(&*backend, &LogId::parse(name).unwrap(), 1..=1).await;
    }

    for prefix in ["", "a", "a/", "a/s", "a/s/", "a/s/1", "a/s/10", "a/s/3", "ab/", "b", "c"] {
        let expected: BTreeSet<_> =
            names.iter().filter(|name| name.starts_with(prefix)).map(|name| (*name).to_owned()).collect();
        for limit in [1, 2, 100] {
            let listed = list(&*backend, &LogPrefix::parse(prefix).unwrap(), limit).await;
            let count = listed.len();
            let listed: BTreeSet<_> = listed.into_iter().map(|log| log.as_str().to_owned()).collect();
            assert_eq!((&listed, count), (&expected, expected.len()), "{prefix:?} in pages of {limit}");
        }
    }
}

/// Contract 8. Names that databases fold, pad, cut or read as paths.
pub async fn names_made_to_collide_are_logs_of_their_own(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let long = "k".repeat(LogId::BYTES_MAX - "acme/session/".len());
    let keys = [
        "s",
        "s ",
        "S",
        " s",
        "s\t",
        "s\0",
        "s/",
        "/s",
        ".",
        "..",
        "../s",
        "s%20",
        "s=20",
        "#",
        "[a]",
        "a*",
        "a?",
        "a b",
        "\u{10FFFF}",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "'; --",
        "\\",
        long.as_str(),
        &long[1..],
    ];
    for (key, version) in keys.iter().zip(1..) {
        append(&*backend, &log(key), 1..=version).await;
    }

    for handle in readers(fixture).await {
        for (key, version) in keys.iter().zip(1..) {
            assert_eq!(ends(&*handle, &log(key)).await, (version, 0), "{key:?}");
            assert_eq!(read_all(&*handle, &log(key), 1, PageLimit::WHOLE).await.len() as u64, version);
        }
        assert_eq!(list_sorted(&*handle, &LogPrefix::all()).await.len(), keys.len());
    }
}

/// Contract 8. What was there when the listing began is in it, whatever comes meanwhile.
pub async fn a_listing_beside_a_writer_misses_nothing(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    for n in 0..40 {
        append(&*backend, &log(&format!("old-{n:02}")), 1..=1).await;
    }
    let (mut listed, mut cursor) = (Vec::new(), None);

    for round in 0.. {
        let page = backend.logs(&LogPrefix::all(), cursor, 3).await.unwrap();
        listed.extend(page.logs);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        for name in ["aaa", "old-15-b", "zzz"].iter().filter(|_| round < 20) {
            append(&*backend, &log(&format!("{name}-{round}")), 1..=1).await;
        }
    }

    let names: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(names.len(), listed.len(), "a log was listed twice");
    assert!((0..40).all(|n| names.contains(&log(&format!("old-{n:02}")))));
}
