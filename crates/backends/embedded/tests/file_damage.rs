//! Damage that cannot be repaired: a store that lost commits of nobody knows which logs is read and never written, and nothing of it is removed.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::path::{Path, PathBuf};

use icecore_conformance::commits::{self, append, ends, log, page, run};
use icecore_embedded::FileStore;
use icecore_embedded::file::{Access, Settings};
use icecore_log::backend::Depth;
use icecore_log::{Backend, ErrorKind, Result};

const SEGMENT: &str = "00000001.seg";

fn open(path: &Path, access: Access) -> Result<FileStore> {
    FileStore::open(path, access, Settings::default())
}

/// A closed store: log `a` with six commits, each in a group of its own, then log `b` with one.
async fn stored(path: &Path) -> PathBuf {
    let store = open(path, Access::ReadWrite).unwrap();
    for version in 1..=6 {
        append(&store, &log("a"), version..=version).await;
    }
    append(&store, &log("b"), 1..=1).await;
    path.join(SEGMENT)
}

/// Where the groups that hold something are. A machine that is busy may have left empty ones between them.
fn groups(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut place) = (Vec::new(), 32);
    while place + 32 <= bytes.len() {
        let length: [u8; 4] = bytes[place + 4..place + 8].try_into().unwrap();
        let end = place + 32 + u32::from_le_bytes(length) as usize;
        if end > place + 32 {
            found.push(place..end);
        }
        place = end;
    }
    found
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

/// It is not written, by any number of attempts, and what is there stays to the byte; it is read, and says what is wrong.
async fn is_read_and_not_written(path: &Path) -> FileStore {
    let before = std::fs::read(path.join(SEGMENT)).unwrap();
    for _ in 0..2 {
        let error = open(path, Access::ReadWrite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.fact("file").is_some()
                && error.advice().is_some_and(|advice| advice.contains("icecore copy"))
        );
    }
    assert!(std::fs::read(path.join(SEGMENT)).unwrap() == before);
    let reader = open(path, Access::ReadOnly).unwrap();
    assert!(!reader.examine(Depth::Deep).await.unwrap().damage.is_empty());
    assert!(!reader.examine(Depth::Quick).await.unwrap().damage.is_empty());
    reader
}

#[tokio::test]
async fn a_lost_group_ends_its_log_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = stored(folder.path()).await;
    // As a bad sector does: the head of the group that holds `a` 4, and part of what is behind it.
    change(&file, |bytes| {
        let place = groups(bytes)[3].start;
        bytes[place..place + 48].fill(0);
    });

    let reader = is_read_and_not_written(folder.path()).await;

    assert_eq!(page(&reader, &log("a"), 1).await.commits.len(), 3);
    let error =
        reader.read(&log("a"), icecore_log::Version(4), icecore_log::PageLimit::WHOLE).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("log")), (ErrorKind::Corrupt, Some("acme/session/a")));
    assert_eq!(reader.heads(&[log("a")]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(ends(&reader, &log("b")).await, (1, 0));
}

#[tokio::test]
async fn a_lost_first_commit_is_not_an_empty_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = stored(folder.path()).await;
    change(&file, |bytes| {
        let frame = groups(bytes)[0].start + 32;
        bytes[frame + 20] ^= 1;
        bytes[frame + 21] ^= 1;
    });

    let reader = is_read_and_not_written(folder.path()).await;

    let error =
        reader.read(&log("a"), icecore_log::Version(1), icecore_log::PageLimit::WHOLE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(ends(&reader, &log("b")).await, (1, 0));
}

#[tokio::test]
async fn a_segment_that_ends_too_early_is_damage() {
    for within in [0, 1, 60] {
        let folder = tempfile::tempdir().unwrap();
        let file = stored(folder.path()).await;
        change(&file, |bytes| bytes.truncate(groups(bytes)[4].start + within));

        let reader = is_read_and_not_written(folder.path()).await;

        assert_eq!(page(&reader, &log("a"), 1).await.commits.len(), 4, "cut at {within}");
    }
}

#[tokio::test]
async fn a_damaged_head_of_a_segment_does_not_cost_the_segment() {
    for flipped in [&[0_usize][..], &[0, 9], &(0..32).collect::<Vec<_>>()] {
        let folder = tempfile::tempdir().unwrap();
        let file = stored(folder.path()).await;
        change(&file, |bytes| flipped.iter().for_each(|place| bytes[*place] ^= 1));

        if flipped.len() > 1 {
            is_read_and_not_written(folder.path()).await;
            continue;
        }
        // One bit can be put right, so nothing is lost; it is said all the same.
        let store = open(folder.path(), Access::ReadWrite).unwrap();
        assert_eq!(ends(&store, &log("a")).await, (6, 0));
        assert_eq!(store.examine(Depth::Quick).await.unwrap().damage.len(), 1);
    }
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { segment_bytes_first: 4 << 10, segment_bytes_max: 4 << 10, ..Settings::default() };
    let store = FileStore::open(folder.path(), Access::ReadWrite, settings).unwrap();
    for version in 1..=8 {
        let commit = commits::commit(version, 0, commits::noise(2_000, version));
        assert!(commits::create(&store, commits::one(&log("a"), commit)).await.is_done());
    }
    drop(store);
    std::fs::remove_file(folder.path().join("00000002.seg")).unwrap();

    let reader = is_read_and_not_written(folder.path()).await;

    assert_eq!(page(&reader, &log("a"), 1).await.commits.len(), 1);
    assert_eq!(reader.heads(&[log("a")]).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// What damage names is out of the way of all else: such a store goes on.
#[tokio::test]
async fn a_damaged_commit_costs_its_log_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = stored(folder.path()).await;
    change(&file, |bytes| {
        let end = groups(bytes)[2].end;
        bytes[end - 1] ^= 1;
    });

    let store = open(folder.path(), Access::ReadWrite).unwrap();

    let error =
        store.read(&log("a"), icecore_log::Version(1), icecore_log::PageLimit::WHOLE).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("3")));
    append(&store, &log("b"), 2..=2).await;
    assert!(commits::create(&store, run(&log("c"), 1..=3, 0)).await.is_done());
}
