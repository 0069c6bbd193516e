//! What is written is read again: every key, every page, and no more bytes than that takes.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{BlobId, Timestamp, Version};
use proptest::prelude::*;

use super::support::*;
use crate::Store;
use crate::snapshot::{Content, Meta, Snapshot, SnapshotInfo, Writer, list};
use crate::state::expiry::{Expiry, Life};

/// Bytes that zstd makes nothing of.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_record_is_read_again(
        span in prop_oneof![Just((0, 40)), Just((7, 40))],
        seed in any::<prop::sample::Index>(),
        sizes in (1_usize..3_000, 1_usize..9_000),
        models in (any_model(0, 40), any_model(7, 40)),
        first in "[ab]{0,3}",
    ) {
        let model = if span.0 == 0 { models.0 } else { models.1 };
        run(async {
            let store = Store::new(Arc::new(Memory::default()));
            let inner = &*store.0;

            let info = write(inner, span, &model, sizes).await;
            let snapshot = open(inner, &info).await;

            assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), std::slice::from_ref(&info));
            assert_eq!(*snapshot.meta(), Meta { records: model.len() as u64, ..meta() });
            let all = records(&model);
            assert_eq!(read_from(inner, &snapshot, Bound::Unbounded).await.unwrap(), all);
            let mut known: Vec<String> = model.keys().cloned().collect();
            if !known.is_empty() {
                known = vec![known[seed.index(known.len())].clone()];
            }
            for key in known.iter().chain([&first]) {
                // A snapshot that was just opened has read no other part's index yet.
                let snapshot = open(inner, &info).await;
                let found = snapshot.get(&*inner.backend, key).await.unwrap();
                assert_eq!(found, model.get(key).map(|content| record(key, content.clone())));
                for bound in [Bound::Included(&**key), Bound::Excluded(&**key)] {
                    let expected: Vec<_> =
                        model.range::<str, _>((bound, Bound::Unbounded)).map(|(key, content)| record(key, content.clone())).collect();
                    assert_eq!(read_from(inner, &snapshot, bound).await.unwrap(), expected);
                }
            }
            for (key, content) in &model {
                let found = snapshot.get(&*inner.backend, key).await.unwrap();
                assert_eq!(found, Some(record(key, content.clone())));
            }
        });
    }
}

#[tokio::test]
async fn a_snapshot_without_records_says_so() {
    let store = Store::new(Arc::new(Memory::default()));

    let info = write(&store.0, (4, 5), &Model::new(), (100, 100)).await;

    let snapshot = open(&store.0, &info).await;
    assert_eq!(snapshot.info().parts.len(), 1);
    assert_eq!(snapshot.get(&*store.0.backend, "a").await.unwrap(), None);
    assert!(read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap().is_empty());
    assert!(read_from(&store.0, &snapshot, Bound::Excluded("a")).await.unwrap().is_empty());
}

/// A table of some 20 MB in several parts, with documents that are larger than a block, and than a part.
async fn large(store: &Store) -> (SnapshotInfo, Model) {
    let mut model = Model::new();
    for number in 0..10_000 {
        model.insert(format!("doc/{number:06}"), value(noise(1_000, number), 1 + number, 1));
    }
    for number in 0..4 {
        model.insert(format!("large/{number}"), value(noise(500_000, number), 7, 7));
    }
    model.insert("larger".to_owned(), value(noise(9 << 20, 5), 8, 8));
    (write(&store.0, (0, 20_000), &model, (64 << 10, 8 << 20)).await, model)
}

#[tokio::test]
async fn a_key_or_a_page_is_read_without_the_rest() {
    let (counted, store) = Counted::store();
    let (info, model) = large(&store).await;
    assert!(info.parts.len() >= 3, "{:?}", info.parts);
    assert!(info.parts.iter().all(|bytes| *bytes < 10 << 20), "{:?}", info.parts);
    let backend = &*store.0.backend;
    counted.take();

    let snapshot = open(&store.0, &info).await;
    assert_eq!(counted.take(), (1, 64 << 10), "opening reads the end of the last part");

    assert!(snapshot.get(backend, "doc/004321").await.unwrap().is_some());
    let (requests, bytes) = counted.take();
    assert!(requests == 2 && bytes < 80 << 10, "its part's index and one block: {requests}, {bytes}");

    assert!(snapshot.get(backend, "doc/004322x").await.unwrap().is_none());
    let (requests, bytes) = counted.take();
    assert!(requests == 1 && bytes <= 65 << 10, "the index is known by now: {requests}, {bytes}");

    let mut cursor = snapshot.cursor(Bound::Excluded("doc/002000"));
    for number in 2_001..2_101 {
        let found = cursor.next(backend).await.unwrap().unwrap();
        assert_eq!(*found.key, *format!("doc/{number:06}"));
    }
    let (requests, bytes) = counted.take();
    assert!(requests <= 2 && bytes <= 200 << 10, "a page of 100 KB: {requests}, {bytes}");

    let mut all = snapshot.cursor(Bound::Unbounded).reading_to_the_end();
    let mut expected = records(&model).into_iter();
    while let Some(found) = all.next(backend).await.unwrap() {
        assert_eq!(Some(found), expected.next());
    }
    assert_eq!(expected.next(), None);
    let (requests, bytes) = counted.take();
    assert!(requests <= 12 && bytes <= info.bytes(), "nothing is read twice: {requests}, {bytes}");
}

#[tokio::test]
async fn a_small_snapshot_is_read_in_one_request() {
    let (counted, store) = Counted::store();
    let model: Model = (0..100).map(|n| (format!("k{n:03}"), value(noise(400, n), 1, 1))).collect();
    let info = write(&store.0, (0, 1), &model, (4_096, 8 << 20)).await;
    counted.take();

    let snapshot = open(&store.0, &info).await;
    let found = read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap();

    assert_eq!(found, records(&model));
    assert_eq!(counted.take(), (1, info.bytes()));
}

/// An index that is longer than what is read first needs one more request.
#[tokio::test]
async fn an_index_longer_than_the_first_request_is_read_whole() {
    let (counted, store) = Counted::store();
    let model: Model = (0..900).map(|n| (format!("{n:0900}"), value(noise(400, n), 1, 1))).collect();
    let info = write(&store.0, (0, 1), &model, (100, 8 << 20)).await;
    assert_eq!(info.parts.len(), 1);
    counted.take();

    let snapshot = open(&store.0, &info).await;

    assert_eq!(counted.take().0, 2);
    assert_eq!(read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap(), records(&model));
}

/// `ICECORE_BLESS=1 cargo test -p icecore-store snapshot` writes them anew, which is allowed until 0.1.0 only.
#[tokio::test]
async fn a_snapshot_is_written_to_its_golden_bytes_and_read_from_them() {
    let Content::Value { version, at, place, .. } = value("", 9, 8) else { unreachable!() };
    let anew = Content::Value { json: "2".into(), version, at, place, expiry: None, is_anew: true };
    let model: Model = [
        ("cart".to_owned(), value(r#"{"items":["tea"]}"#, 6, 3)),
        ("gone".to_owned(), Content::Deleted),
        ("new".to_owned(), anew),
        ("text".to_owned(), value(format!("\"{}\"", "abc".repeat(300)), 7, 7)),
    ]
    .into();
    let store = Store::new(Arc::new(Memory::default()));

    let info = write(&store.0, (5, 9), &model, (60, 140)).await;

    assert_eq!(info.parts.len(), 2, "one part, and the last");
    let golden = Store::new(Arc::new(Memory::default()));
    for part in 0..2 {
        let blob = info.blob(&log(), part).unwrap();
        let made = store.0.backend.get_blob(&blob, None).await.unwrap().unwrap();
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/snapshot-{part}.bin"));
        if std::env::var_os("ICECORE_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        assert_eq!(made, bytes);
        // The golden names: another writer's tag, as it was when they were written.
        let name = blob.name().replace(&hex(&info.tag), "01020304");
        golden.0.backend.put_blob(&BlobId::new(log(), &name).unwrap(), bytes).await.unwrap();
    }
    let listed = list(&golden.0, &log(), INCARNATION).await.unwrap();
    assert_eq!(listed.len(), 1);
    let snapshot = Snapshot::open(&golden.0, &log(), listed[0].clone()).await.unwrap().unwrap();
    assert_eq!(read_from(&golden.0, &snapshot, Bound::Unbounded).await.unwrap(), records(&model));
}

/// The bytes above have none of this: what does not expire costs nothing.
#[tokio::test]
async fn what_expires_is_written_to_its_golden_bytes_and_read_from_them() {
    let with = |expiry, content| match content {
        Content::Value { json, version, at, place, is_anew, .. } => {
            Content::Value { json, version, at, place, expiry, is_anew }
        }
        Content::Deleted => content,
    };
    let sliding = Expiry::Sliding(Duration::from_secs(1_800));
    let model: Model = [
        ("at".to_owned(), with(Some(Expiry::At(Timestamp(1_000))), value("1", 6, 3))),
        ("pinned".to_owned(), with(Some(Expiry::Pinned), value("2", 7, 7))),
        ("sliding".to_owned(), with(Some(sliding), value("3", 8, 8))),
    ]
    .into();
    let life = Life { expiry: Some(sliding), used: Timestamp(77), floor: Version(5) };
    let store = Store::new(Arc::new(Memory::default()));
    let mut writer = Writer::new(&store.0, &log(), INCARNATION, Version(0), Version(9), true).unwrap();
    for record in records(&model) {
        writer.push(record).await.unwrap();
    }

    let info = writer.finish(Meta { life, ..meta() }).await.unwrap();

    let blob = info.blob(&log(), 0).unwrap();
    let made = store.0.backend.get_blob(&blob, None).await.unwrap().unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/snapshot-expiry.bin");
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(made, Bytes::from(std::fs::read(path).unwrap()));
    let snapshot = open(&store.0, &info).await;
    assert_eq!(snapshot.meta().life, life);
    assert_eq!(read_from(&store.0, &snapshot, Bound::Unbounded).await.unwrap(), records(&model));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
