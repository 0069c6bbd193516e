//! Contract 5, **deletion is safe**: nothing that was closed comes back, whoever is late.

use icecore_log::{ErrorKind, Version};

use crate::commits::*;
use crate::fixture::Fixture;
use crate::told::{Ending, Told};

/// Contract 5.
pub async fn a_boundary_only_rises(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=6).await;

    for (through, boundary) in [(3, 3), (2, 3), (0, 3), (5, 5), (3, 5)] {
        backend.close(&log, Version(through)).await.unwrap();
        assert_eq!(ends(&*backend, &log).await, (6, boundary));
    }
}

/// Contract 5.
pub async fn the_head_is_never_closed(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=3).await;

    for through in [3, 4, u64::MAX] {
        let error = backend.close(&log, Version(through)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }

    assert_eq!(ends(&*backend, &log).await, (3, 0));
}

/// Contract 5. Also the very bytes that were there.
pub async fn a_closed_slot_is_never_created_again(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=6).await;
    backend.close(&log, Version(4)).await.unwrap();

    for is_swept in [false, true] {
        if is_swept {
            backend.sweep(&log).await.unwrap();
        }
        for version in 1..=4 {
            for seed in [0, 1] {
                let told = create(&*backend, one(&log, numbered(version, seed))).await;
                assert_eq!(
                    told,
                    Told::stopped(Ending::Closed(Version(4))),
                    "version {version}, swept: {is_swept}"
                );
            }
        }
    }
    assert_eq!(page(&*backend, &log, 1).await.commits, []);
    append(&*backend, &log, 7..=7).await;
}

/// Contract 5. A writer that saw the head long ago, and sends only now: never acknowledged, never resurrected.
pub async fn a_stalled_writer_brings_nothing_back(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (slow, fast) = (log("slow"), log("fast"));
    append(&*backend, &slow, 1..=2).await;
    append(&*backend, &fast, 1..=2).await;
    // What it will send: the third commit of both logs, behind the second that it saw.
    let stalled = vec![one(&slow, numbered(3, 0)), one(&fast, numbered(3, 1))];
    append(&*backend, &fast, 3..=9).await;
    backend.close(&fast, Version(8)).await.unwrap();
    backend.sweep(&fast).await.unwrap();

    let told = create_each(&*backend, stalled).await;

    assert_eq!(told[0], Told::done(1), "its neighbour is not held back");
    assert!(!told[1].is_done(), "a slot below the boundary was won: {:?}", told[1]);
    assert_eq!(page(&*backend, &fast, 3).await.commits, []);
    assert_eq!(ends(&*backend, &fast).await, (9, 8));
}
