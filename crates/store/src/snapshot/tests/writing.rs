//! Writing that is refused, that fails, and whose requests are sent twice.

use std::ops::Bound;
use std::sync::Arc;

use icecore_embedded::Memory;
use icecore_log::{ErrorKind, Version};

use super::support::*;
use crate::Store;
use crate::snapshot::{Content, Writer, list};

fn model() -> Model {
    (0..9).map(|n| (format!("k{n}"), value(format!("{n}").repeat(50), 5, 5))).collect()
}

fn writer(store: &Store) -> Writer {
    Writer::new(&store.0, &log(), INCARNATION, Version(4), Version(9), false).unwrap().sizes(60, 90)
}

/// It once was: the part that failed was forgotten, and what was written behind it listed as a whole snapshot.
#[tokio::test]
async fn without_a_part_that_failed_a_snapshot_is_never_whole() {
    for fails_at in 0..3 {
        let (backend, store) = Counted::store();
        backend.plan((0..fails_at).map(|_| Put::Done).chain([Put::Fails]));
        let mut writer = writer(&store);
        let mut failed = 0;

        for record in records(&model()) {
            // A caller that does not care.
            failed += u32::from(writer.push(record).await.is_err());
        }
        let refused = writer.finish(meta()).await;

        assert!(failed > 0);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(list(&store.0, &log(), INCARNATION).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_part_that_was_sent_twice_is_ours_and_one_of_other_bytes_is_not() {
    let (backend, store) = Counted::store();
    backend.plan([Put::SentTwice, Put::SentTwice]);

    let info = write(&store.0, (4, 9), &model(), (60, 90)).await;

    let snapshot = open(&store.0, &info).await;
    assert_eq!(read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap(), records(&model()));

    backend.plan([Put::Taken]);
    let mut writer = writer(&store);
    let mut outcome = Ok(());
    for record in records(&model()) {
        outcome = outcome.and(writer.push(record).await);
    }
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(list(&store.0, &log(), INCARNATION).await.unwrap(), [info]);
}

#[tokio::test]
async fn a_whole_snapshot_says_nothing_of_what_is_not_there() {
    let store = Store::new(Arc::new(Memory::default()));
    let mut writer = Writer::new(&store.0, &log(), INCARNATION, Version(0), Version(9), true).unwrap();
    let Content::Value { json, version, at, place, .. } = value("1", 3, 2) else { unreachable!() };

    writer.push(record("a", Content::Deleted)).await.unwrap();
    writer
        .push(record("b", Content::Value { json, version, at, place, expiry: None, is_anew: true }))
        .await
        .unwrap();

    let info = writer.finish(meta()).await.unwrap();
    let snapshot = open(&store.0, &info).await;
    assert!(info.is_kept);
    assert_eq!(snapshot.meta().records, 1);
    let found = read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap();
    assert_eq!(found, [record("b", value("1", 3, 2))]);
}

#[tokio::test]
async fn what_a_snapshot_cannot_hold_is_refused() {
    let store = Store::new(Arc::new(Memory::default()));
    let writer = |from, to| Writer::new(&store.0, &log(), INCARNATION, Version(from), Version(to), false);
    assert_eq!(writer(4, 4).unwrap_err().kind(), ErrorKind::Invalid);

    let mut writer = writer(4, 9).unwrap();
    writer.push(record("b", value("1", 5, 5))).await.unwrap();

    for (key, content) in [
        ("b", value("1", 5, 5)),
        ("a", value("1", 5, 5)),
        ("c", value("1", 4, 4)),
        ("c", value("1", 10, 5)),
        ("c", value("1", 6, 7)),
        ("c", value(vec![0; 81 << 20], 5, 5)),
        (&"c".repeat(1 << 16), value("1", 5, 5)),
    ] {
        let refused = writer.push(record(key, content)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    let info = writer.finish(meta()).await.unwrap();
    assert_eq!(open(&store.0, &info).await.meta().records, 1, "what was refused changed nothing");
}
