//! SQLite has no checksums: a flipped bit would be read back as if it had been written. Ours find it, by name.

use std::path::{Path, PathBuf};

use icecore_conformance::commits;
use icecore_log::backend::Depth;
use icecore_log::{Backend, BlobId, ErrorKind, LogPrefix, PageLimit, Version};

use super::{open, run};

/// A store with two logs and a blob, closed: all of it is in one file.
async fn stored(folder: &Path) -> PathBuf {
    let path = folder.join("store.db");
    let store = open(&path);
    for key in ["s-1", "s-2"] {
        assert!(commits::create(&store, run(key, 5)).await.is_done());
    }
    let blob = BlobId::new(commits::log("s-1"), "blob").unwrap();
    store.put_blob(&blob, commits::noise(100_000, 1)).await.unwrap();
    path
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

/// Where these bytes stand in the file, once.
fn place(path: &Path, wanted: &[u8]) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let mut places = (0..bytes.len() - wanted.len()).filter(|place| bytes[*place..].starts_with(wanted));
    let place = places.next().unwrap();
    assert_eq!(places.next(), None, "these bytes stand there twice");
    place
}

#[tokio::test]
async fn a_flipped_bit_in_a_header_or_a_body_is_found_by_log_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = stored(folder.path()).await;
    let commit = commits::numbered(3, 0);
    let body = commit.body.clone().unwrap();
    // Both logs hold the same commits. SQLite fills a page from its end, so the later one stands first.
    let row = [&commit.header[..], &body[..]].concat();
    let bytes = std::fs::read(&path).unwrap();
    let places: Vec<_> =
        (0..bytes.len() - row.len()).filter(|place| bytes[*place..].starts_with(&row)).collect();
    assert_eq!(places.len(), 2);

    for offset in [0, commit.header.len() - 1, commit.header.len(), row.len() - 1] {
        let bit = (places[0] + offset) * 8 + 3;
        flip(&path, bit);
        let store = open(&path);

        let error = store.read(&commits::log("s-2"), Version(1), PageLimit::WHOLE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!((error.fact("log"), error.fact("version")), (Some("acme/session/s-2"), Some("3")));
        assert_eq!(commits::page(&store, &commits::log("s-1"), 1).await.commits.len(), 5);
        let damage = store.examine(Depth::Deep).await.unwrap().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].fact("file").is_some());

        drop(store);
        flip(&path, bit);
    }
    assert_eq!(open(&path).examine(Depth::Deep).await.unwrap().damage.len(), 0);
}

#[tokio::test]
async fn a_flipped_bit_in_a_blob_is_found_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = stored(folder.path()).await;
    let content = commits::noise(100_000, 1);
    let bit = place(&path, &content[99_000..99_016]) * 8;
    flip(&path, bit);
    let store = open(&path);
    let blob = BlobId::new(commits::log("s-1"), "blob").unwrap();

    let error = store.get_blob(&blob, None).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("blob")), (ErrorKind::Corrupt, Some("blob")));
    assert_eq!(store.get_blob(&blob, Some(0..10)).await.unwrap(), Some(content.slice(0..10)));
    assert_eq!(store.examine(Depth::Deep).await.unwrap().damage.len(), 1);
}

/// Every bit of the database, one after the other in a sample: what is read is right, or an error.
#[tokio::test]
async fn no_flipped_bit_is_read_back_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = stored(folder.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let blob = BlobId::new(commits::log("s-1"), "blob").unwrap();
    let kept: Vec<_> = (1..=5).map(|version| commits::numbered(version, 0)).collect();
    // A prime, so that every byte of a page and every bit of a byte get their turn.
    let step = if std::env::var_os("ICECORE_LONG").is_some() { 7 } else { 1_999 };
    let mut found = 0;

    for bit in (0..whole.len() * 8).step_by(step) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let place = folder.path().join("damaged.db");
        std::fs::write(&place, damaged).unwrap();
        let settings = super::super::Settings::default();
        let Ok(store) = super::super::SqliteStore::open(&place, super::super::Access::ReadWrite, settings)
        else {
            found += 1;
            continue;
        };
        let mut is_whole = true;
        for key in ["s-1", "s-2"] {
            let log = commits::log(key);
            match store.read(&log, Version(1), PageLimit::WHOLE).await {
                Ok(page) if page.commits == kept => {}
                // A page of the tree that leads to another place: only a deep look tells an absent log from a lost one.
                Ok(page) => {
                    assert_eq!(page.commits, [], "bit {bit}");
                    is_whole = false;
                }
                Err(_) => is_whole = false,
            }
        }
        match store.get_blob(&blob, None).await {
            Ok(Some(bytes)) => assert!(bytes == commits::noise(100_000, 1), "bit {bit}"),
            Ok(None) | Err(_) => is_whole = false,
        }
        let listed = store.logs(&LogPrefix::all(), None, 10).await;
        is_whole &= listed.is_ok_and(|page| page.logs == [commits::log("s-1"), commits::log("s-2")]);
        let examined = store.examine(Depth::Deep).await;
        let is_found = examined.map_or(true, |examination| !examination.damage.is_empty());
        assert!(is_whole || is_found, "bit {bit}: something is missing, and no deep look finds it");
        found += usize::from(is_found);
    }
    assert!(found > 0, "no bit of the sample was found");
}
