//! Contract 9, **blobs**: created if absent, seen by the next read and listing; deleting is idempotent.

use bytes::Bytes;
use icecore_log::BlobId;

use crate::commits::*;
use crate::fixture::{Fixture, readers};

fn blob(key: &str, name: &str) -> BlobId {
    BlobId::new(log(key), name).unwrap()
}

/// Contract 9.
pub async fn a_blob_is_created_once(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let blob = blob("s-1", "b");

    assert!(backend.put_blob(&blob, Bytes::from_static(b"ours")).await.unwrap());
    assert!(!backend.put_blob(&blob, Bytes::from_static(b"theirs")).await.unwrap());

    for handle in readers(fixture).await {
        assert_eq!(handle.get_blob(&blob, None).await.unwrap(), Some(Bytes::from_static(b"ours")));
    }
}

/// Contract 9. Sizes around the blocks in which a backend may keep them.
pub async fn blobs_are_kept_to_the_byte_and_read_by_ranges(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    for size in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let (blob, bytes) = (blob("s-1", &format!("b-{size}")), noise(size, size as u64));
        backend.put_blob(&blob, bytes.clone()).await.unwrap();

        assert_eq!(backend.get_blob(&blob, None).await.unwrap().unwrap(), bytes);
        for (from, to) in
            [(0, 0), (0, 1), (65_530, 65_540), (10, 199_990), (199_999, 300_000), (300_000, u64::MAX)]
        {
            let clip = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(size);
            let part = backend.get_blob(&blob, Some(from..to)).await.unwrap().unwrap();
            assert_eq!(part, bytes.slice(clip(from)..clip(to)), "{from}..{to} of {size}");
        }
    }
}

/// Contract 9.
pub async fn blobs_are_listed_by_their_log_in_order(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    for name in ["b-2", "a-1", "b-1", "B-1", "b"] {
        backend.put_blob(&blob("s-1", name), noise(name.len(), 0)).await.unwrap();
    }
    backend.put_blob(&blob("s-10", "b-9"), Bytes::new()).await.unwrap();

    let names = |prefix: &'static str| {
        let backend = fixture.backend();
        async move {
            let blobs = backend.list_blobs(&log("s-1"), prefix).await.unwrap();
            assert!(blobs.iter().all(|blob| blob.bytes == blob.name.len() as u64));
            blobs.into_iter().map(|blob| blob.name).collect::<Vec<_>>()
        }
    };
    assert_eq!(names("").await, ["B-1", "a-1", "b", "b-1", "b-2"]);
    assert_eq!(names("b-").await, ["b-1", "b-2"]);
    assert_eq!(names("c").await, [""; 0]);
}

/// Contract 9.
pub async fn a_blob_is_deleted_once_or_more(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (one, other) = (blob("s-1", "b"), blob("s-2", "b"));
    backend.put_blob(&one, Bytes::from_static(b"one")).await.unwrap();
    backend.put_blob(&other, Bytes::from_static(b"other")).await.unwrap();

    backend.delete_blob(&one).await.unwrap();
    backend.delete_blob(&one).await.unwrap();

    assert_eq!(backend.get_blob(&one, None).await.unwrap(), None);
    assert_eq!(backend.get_blob(&other, None).await.unwrap(), Some(Bytes::from_static(b"other")));
    assert!(backend.put_blob(&one, Bytes::from_static(b"again")).await.unwrap());
}
