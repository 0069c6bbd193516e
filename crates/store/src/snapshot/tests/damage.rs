//! What is damaged, cut short, mixed or incomplete is noticed, and never gives wrong data.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{BlobId, ErrorKind, Incarnation, Result, Version};

use super::support::*;
use crate::snapshot::{Content, Record, Snapshot, SnapshotInfo, delete, list, sweep_incomplete, table};
use crate::{Inner, Store};

fn small() -> Model {
    let mut model: Model =
        (1..8).map(|n| (format!("key-{n}"), value(format!("{{\"n\":{n}}}"), 3 + n, 4))).collect();
    model.insert("gone".to_owned(), Content::Deleted);
    model.insert("text".to_owned(), value(format!("\"{}\"", "abc".repeat(60)), 7, 7));
    model
}

async fn blobs(inner: &Inner, info: &SnapshotInfo) -> Vec<(BlobId, Bytes)> {
    let mut found = Vec::new();
    for part in 0..info.parts.len() {
        let blob = info.blob(&log(), part).unwrap();
        let bytes = inner.backend.get_blob(&blob, None).await.unwrap().unwrap();
        found.push((blob, bytes));
    }
    found
}

async fn replace(inner: &Inner, blob: &BlobId, bytes: &[u8]) {
    inner.backend.delete_blob(blob).await.unwrap();
    assert!(inner.backend.put_blob(blob, Bytes::copy_from_slice(bytes)).await.unwrap());
}

/// Opens it and reads all of it, once in order and once key by key.
async fn read_all(inner: &Inner, info: &SnapshotInfo, model: &Model) -> Result<Vec<Record>> {
    let snapshot = Snapshot::open(inner, &log(), info.clone()).await?.unwrap();
    for (key, content) in model {
        // A key whose block is whole may be read; what is read is right.
        if let Ok(found) = snapshot.get(&*inner.backend, key).await {
            assert_eq!(found, Some(record(key, content.clone())));
        }
    }
    read_from(inner, &snapshot, Bound::Unbounded).await
}

#[tokio::test]
async fn any_flipped_byte_is_noticed() {
    let store = Store::new(Arc::new(Memory::default()));
    let (inner, model) = (&*store.0, small());
    let info = write(inner, (3, 12), &model, (80, 120)).await;
    assert!(info.parts.len() >= 3);

    for (blob, bytes) in blobs(inner, &info).await {
        let is_last = blob == info.blob(&log(), info.parts.len() - 1).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= flip;
                replace(inner, &blob, &flipped).await;

                match read_all(inner, &info, &model).await {
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt);
                        assert_eq!(error.fact("log"), Some(log().as_str()));
                        assert_eq!(error.fact("blob"), Some(blob.name()));
                    }
                    // The last part says all that the trailers of the others do.
                    Ok(found) => {
                        assert!(!is_last && at + table::TRAILER as usize >= bytes.len(), "byte {at}");
                        assert_eq!(found, records(&model));
                    }
                }
            }
        }
        replace(inner, &blob, &bytes).await;
    }
    assert_eq!(read_all(inner, &info, &model).await.unwrap(), records(&model));
}

#[tokio::test]
async fn any_truncation_is_not_listed_and_noticed() {
    let store = Store::new(Arc::new(Memory::default()));
    let (inner, model) = (&*store.0, small());
    let info = write(inner, (3, 12), &model, (80, 120)).await;

    for (part, (blob, bytes)) in blobs(inner, &info).await.into_iter().enumerate() {
        for length in 0..bytes.len() {
            replace(inner, &blob, &bytes[..length]).await;
            assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), []);
            if let Ok(found) = read_all(inner, &info, &model).await {
                // Cut within a trailer that nobody needs.
                assert!(part + 1 < info.parts.len() && length + table::TRAILER as usize >= bytes.len());
                assert_eq!(found, records(&model));
            }

            // Also if its name says that it has that length.
            let mut renamed = info.clone();
            renamed.parts[part] = length as u64;
            let name = renamed.blob(&log(), part).unwrap();
            assert!(inner.backend.put_blob(&name, bytes.slice(..length)).await.unwrap());
            let noticed = read_all(inner, &renamed, &model).await.unwrap_err();
            assert_eq!(noticed.kind(), ErrorKind::Corrupt);
            inner.backend.delete_blob(&name).await.unwrap();
        }
        replace(inner, &blob, &bytes).await;
    }
    assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), [info]);
}

/// A part of another snapshot of the same log, under the name of ours.
#[tokio::test]
async fn parts_of_two_snapshots_are_never_mixed() {
    let store = Store::new(Arc::new(Memory::default()));
    let inner = &*store.0;
    let ours = write(inner, (3, 12), &small(), (80, 120)).await;
    let mut changed = small();
    changed.insert("key-1".to_owned(), value(r#"{"n":9}"#, 4, 4));
    let theirs = write(inner, (3, 12), &changed, (80, 120)).await;
    assert_eq!((&ours.parts, theirs.from), (&theirs.parts, ours.from), "alike, but for one digit");
    let (mine, other) = (blobs(inner, &ours).await, blobs(inner, &theirs).await);

    for ((blob, bytes), (_, foreign)) in mine.iter().zip(&other).filter(|(mine, other)| mine.1 != other.1) {
        replace(inner, blob, foreign).await;
        let snapshot = Snapshot::open(inner, &log(), ours.clone()).await;
        let noticed = match snapshot {
            Ok(snapshot) => read_from(inner, &snapshot.unwrap(), Bound::Unbounded).await.unwrap_err(),
            Err(noticed) => noticed,
        };
        assert_eq!(noticed.kind(), ErrorKind::Corrupt);
        replace(inner, blob, bytes).await;
    }

    for other in [
        SnapshotInfo { to: Version(13), ..ours.clone() },
        SnapshotInfo { from: Version(2), ..ours.clone() },
        SnapshotInfo { incarnation: Incarnation([1; 16]), ..ours.clone() },
    ] {
        for (part, (_, bytes)) in mine.iter().enumerate() {
            inner.backend.put_blob(&other.blob(&log(), part).unwrap(), bytes.clone()).await.unwrap();
        }
        let noticed = Snapshot::open(inner, &log(), other).await.unwrap_err();
        assert_eq!(noticed.kind(), ErrorKind::Corrupt, "it says what it is");
    }
}

#[tokio::test]
async fn only_whole_snapshots_are_listed_in_order_and_the_rest_is_swept() {
    let store = Store::new(Arc::new(Memory::default()));
    let inner = &*store.0;
    let list = async || list(inner, &log(), INCARNATION).await.unwrap();
    let count = async || inner.backend.list_blobs(&log(), "snap-").await.unwrap().len();
    let whole = write(inner, (0, 12), &Model::new(), (80, 120)).await;
    let diff = write(inner, (3, 12), &small(), (80, 120)).await;
    let older = write(inner, (0, 9), &Model::new(), (80, 120)).await;
    let broken = write(inner, (3, 11), &small(), (80, 120)).await;
    let newest = write(inner, (3, 13), &small(), (80, 120)).await;
    assert_eq!(list().await, [&older, &broken, &whole, &diff, &newest].map(Clone::clone));

    inner.backend.delete_blob(&broken.blob(&log(), 1).unwrap()).await.unwrap();
    inner.backend.delete_blob(&newest.blob(&log(), newest.parts.len() - 1).unwrap()).await.unwrap();
    let blobs = count().await;

    assert_eq!(list().await, [&older, &whole, &diff].map(Clone::clone));
    sweep_incomplete(inner, &log(), INCARNATION).await.unwrap();
    assert_eq!(list().await, [&older, &whole, &diff].map(Clone::clone));
    assert_eq!(
        count().await,
        blobs - (broken.parts.len() - 1),
        "what reaches further than any may still be being written"
    );

    delete(inner, &log(), &diff).await.unwrap();
    assert_eq!(list().await, [older, whole]);
    assert!(Snapshot::open(inner, &log(), diff).await.unwrap().is_none());
}

#[tokio::test]
async fn of_two_writers_of_one_table_the_same_one_counts_for_all() {
    let store = Store::new(Arc::new(Memory::default()));
    let inner = &*store.0;
    let mut both = Vec::new();
    for sizes in [(80, 120), (60, 100)] {
        both.push(write(inner, (3, 12), &small(), sizes).await);
    }
    both.sort_by_key(|info| info.tag);

    assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), both[..1]);
    delete(inner, &log(), &both[0]).await.unwrap();

    assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), both[1..]);
    assert_eq!(read_all(inner, &both[1], &small()).await.unwrap(), records(&small()));
}

#[tokio::test]
async fn a_snapshot_that_is_deleted_while_it_is_read_is_not_found() {
    let store = Store::new(Arc::new(Memory::default()));
    let inner = &*store.0;
    let info = write(inner, (3, 12), &small(), (80, 120)).await;
    let snapshot = open(inner, &info).await;

    delete(inner, &log(), &info).await.unwrap();

    let gone = read_from(inner, &snapshot, Bound::Unbounded).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn names_that_are_not_ours_count_for_nothing() {
    let store = Store::new(Arc::new(Memory::default()));
    let inner = &*store.0;
    let info = write(inner, (3, 12), &Model::new(), (80, 120)).await;
    let (blob, bytes) = blobs(inner, &info).await.remove(0);
    let name = blob.name();
    let upper = name.replace("abab", "ABAB");
    let cut = &name[..name.len() - 1];
    let long = format!("{name}0");
    let sizes = name.replace(&format!("{:016x}", bytes.len()), &format!("{:+016x}", bytes.len()));
    let same = name.replace("0000000000000003", "000000000000000c");
    let third = name.replace("-0000z-", "-0002z-");

    for name in [&*upper, cut, &*long, &*sizes, &*same, &*third, "snap-", "snap-abab", "snap"] {
        if let Ok(blob) = BlobId::new(log(), name) {
            inner.backend.put_blob(&blob, bytes.clone()).await.unwrap();
        }
    }

    // Of the third part the snapshot cannot be told whole; the others are no names at all.
    assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), []);
    inner.backend.delete_blob(&BlobId::new(log(), &third).unwrap()).await.unwrap();
    assert_eq!(list(inner, &log(), INCARNATION).await.unwrap(), [info]);
}
