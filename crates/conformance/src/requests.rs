//! What is refused, and the calls beside the contract's numbers: shutting down, examining, handles that only read.

use bytes::Bytes;
use icecore_log::backend::Depth;
use icecore_log::{BlobId, Cursor, ErrorKind, Hash, LogPrefix, PageLimit, Run, StoredCommit, Version};

use crate::commits::*;
use crate::fixture::Fixture;
use crate::told::Told;

/// A call that could never succeed writes nothing.
pub async fn invalid_runs_are_refused_and_nothing_is_written(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let invalid = Told::failed(ErrorKind::Invalid);
    let empty = Run { log: log.clone(), previous: Hash::ZERO, commits: Vec::new() };
    let zero = Run::one(log.clone(), Hash::ZERO, numbered(0, 0));
    let orphan = Run::one(log.clone(), Hash::ZERO, numbered(2, 0));
    let behind_something = Run::one(log.clone(), hash(1, 0), numbered(1, 0));
    let headless = Run::one(log.clone(), Hash::ZERO, StoredCommit { header: Bytes::new(), ..numbered(1, 0) });

    for run in [empty, zero, orphan, behind_something, headless] {
        assert_eq!(create(&*backend, run.clone()).await, invalid, "{run:?}");
    }
    let twice = create_each(&*backend, vec![run(&log, 1..=1, 0), run(&log, 1..=1, 1)]).await;

    assert_eq!(twice[1], invalid, "a log has one run in a call");
    assert!(ends(&*backend, &log).await.0 <= 1);
}

/// Cursors are bytes of the backend's own: others are refused, without harm.
pub async fn a_foreign_cursor_is_no_panic(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    append(&*backend, &log("s-1"), 1..=1).await;

    for bytes in [&b""[..], b"\xff\xfe", b"no name", &[0; 4_096]] {
        let cursor = Cursor(Bytes::copy_from_slice(bytes));
        if let Err(error) = backend.logs(&LogPrefix::all(), Some(cursor), 10).await {
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

/// A store that is whole has no damage to tell of.
pub async fn examining_a_whole_store_finds_no_damage(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=9).await;
    backend.put_blob(&BlobId::new(log.clone(), "b").unwrap(), noise(100_000, 1)).await.unwrap();
    backend.drop_bodies(&log, &[Version(7)]).await.unwrap();
    backend.close(&log, Version(4)).await.unwrap();
    backend.sweep(&log).await.unwrap();

    for depth in [Depth::Quick, Depth::Deep] {
        let examination = backend.examine(depth).await.unwrap();
        assert!(examination.damage.is_empty(), "{:?}", examination.damage);
        assert!(!examination.facts.is_empty());
    }
}

/// Shutting down twice is shutting down; afterwards nothing is done, and nothing panics.
pub async fn a_store_that_was_shut_down_refuses_everything(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=2).await;
    let blob = BlobId::new(log.clone(), "b").unwrap();

    backend.shut_down().await.unwrap();
    backend.shut_down().await.unwrap();

    let refused = ErrorKind::Refused;
    assert_eq!(create(&*backend, one(&log, numbered(3, 0))).await, Told::failed(refused));
    assert_eq!(backend.read(&log, Version(1), PageLimit::WHOLE).await.unwrap_err().kind(), refused);
    assert_eq!(backend.heads(std::slice::from_ref(&log)).await.unwrap_err().kind(), refused);
    assert_eq!(backend.logs(&LogPrefix::all(), None, 1).await.unwrap_err().kind(), refused);
    assert_eq!(backend.close(&log, Version(1)).await.unwrap_err().kind(), refused);
    assert_eq!(backend.sweep(&log).await.unwrap_err().kind(), refused);
    assert_eq!(backend.drop_bodies(&log, &[Version(1)]).await.unwrap_err().kind(), refused);
    assert_eq!(backend.put_blob(&blob, Bytes::new()).await.unwrap_err().kind(), refused);
    assert_eq!(backend.get_blob(&blob, None).await.unwrap_err().kind(), refused);
    assert_eq!(backend.list_blobs(&log, "").await.unwrap_err().kind(), refused);
    assert_eq!(backend.delete_blob(&blob).await.unwrap_err().kind(), refused);
    assert_eq!(backend.examine(Depth::Quick).await.unwrap_err().kind(), refused);
}

/// A handle that only reads says so, and changes nothing.
pub async fn a_handle_that_only_reads_writes_nothing(fixture: &dyn Fixture) {
    let log = log("s-1");
    append(&*fixture.backend(), &log, 1..=3).await;
    let Some(reader) = fixture.other().await.filter(|other| other.capabilities().read_only) else { return };
    let blob = BlobId::new(log.clone(), "b").unwrap();

    assert_eq!(create(&*reader, one(&log, numbered(4, 0))).await, Told::failed(ErrorKind::Refused));
    assert_eq!(reader.close(&log, Version(1)).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(reader.sweep(&log).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(reader.drop_bodies(&log, &[Version(1)]).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(reader.put_blob(&blob, Bytes::new()).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(reader.delete_blob(&blob).await.unwrap_err().kind(), ErrorKind::Refused);

    assert_eq!(ends(&*fixture.backend(), &log).await, (3, 0));
}
