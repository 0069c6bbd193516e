//! Contract 3, **durable**: what was won survives what the backend declares. Here: the end of the handle.
//!
//! Crashes and losses of power need a backend's own faults.

use std::sync::Arc;

use bytes::Bytes;
use icecore_log::backend::Depth;
use icecore_log::{Backend, BlobId, Durability, LogPrefix, Mode, PageLimit, Version};

use crate::commits::*;
use crate::fixture::{Fixture, writers};
use crate::told::{Ending, Told};

/// The store after it was shut down and opened again; `None` where nothing is promised.
async fn reopened(fixture: &dyn Fixture) -> Option<Arc<dyn Backend>> {
    let durability = fixture.backend().capabilities().durability;
    let reopened = fixture.reopen().await;
    assert!(
        reopened.is_some() || durability == Durability::Process,
        "it declares `{}`: its fixture opens it again",
        durability.name(),
    );
    reopened
}

/// Contract 3.
pub async fn what_was_won_is_there_after_reopening(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let mut kept = Vec::new();
    for (log, last) in [("s-1", 1), ("s-2", 40), ("S-1", 3)].map(|(key, last)| (log(key), last)) {
        kept.push((log.clone(), append(&*backend, &log, 1..=last).await));
    }
    let large = commit(41, 0, noise(1 << 20, 1));
    assert_eq!(create(&*backend, one(&kept[1].0, large.clone())).await, Told::done(1));
    kept[1].1.push(large);
    let names = list_sorted(&*backend, &LogPrefix::all()).await;

    for _ in 0..2 {
        let Some(backend) = reopened(fixture).await else { return };
        for (log, commits) in &kept {
            assert_eq!(read_all(&*backend, log, 1, PageLimit::WHOLE).await, *commits);
            let head = head(&*backend, log).await.unwrap();
            assert_eq!((head.header, head.boundary), (commits.last().unwrap().header.clone(), Version::ZERO));
        }
        assert_eq!(list_sorted(&*backend, &LogPrefix::all()).await, names);
        let examination = backend.examine(Depth::Deep).await.unwrap();
        assert!(examination.damage.is_empty(), "{:?}", examination.damage);
    }
}

/// Contracts 1 and 3. What guards a slot is durable as well.
pub async fn appending_goes_on_after_reopening(fixture: &dyn Fixture) {
    let log = log("s-1");
    append(&*fixture.backend(), &log, 1..=2).await;

    for version in 3..=5 {
        let Some(backend) = reopened(fixture).await else { return };
        let taken = create(&*backend, one(&log, numbered(version - 1, 7))).await;
        assert_eq!(taken, Told::stopped(Ending::Taken));
        let again = create(&*backend, run(&log, 1..=version - 1, 0)).await;
        assert!(again.is_done(), "the same bytes are won again: {again:?}");
        append(&*backend, &log, version..=version).await;
    }

    assert_eq!(ends(&*fixture.backend(), &log).await, (5, 0));
}

/// Contracts 3 and 5.
pub async fn a_boundary_is_there_after_reopening(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (swept, closed, empty) = (log("swept"), log("closed"), log("empty"));
    append(&*backend, &swept, 1..=6).await;
    append(&*backend, &closed, 1..=6).await;
    backend.close(&swept, Version(4)).await.unwrap();
    backend.sweep(&swept).await.unwrap();
    backend.close(&closed, Version(3)).await.unwrap();
    backend.close(&empty, Version(8)).await.unwrap();

    for round in 0..2 {
        let Some(backend) = reopened(fixture).await else { return };
        for (log, boundary) in [(&swept, 4), (&closed, 3)] {
            assert_eq!(ends(&*backend, log).await, (6, boundary));
            let page = page(&*backend, log, 1).await;
            assert_eq!((page.commits.len(), page.boundary), (0, Version(boundary)));
            assert_eq!(
                read_all(&*backend, log, boundary + 1, PageLimit::WHOLE).await.len() as u64,
                6 - boundary
            );
            let stalled = create(&*backend, one(log, numbered(2, 7))).await;
            assert!(!stalled.is_done(), "a closed slot was won after reopening: {stalled:?}");
        }
        assert_eq!(page(&*backend, &empty, 9).await.boundary, Version(8));
        if round == 1 {
            append(&*backend, &empty, 9..=10).await;
            assert_eq!(ends(&*backend, &empty).await, (10, 8));
        }
    }
}

/// Contracts 3, 6 and 9. What was deleted for somebody's sake does not come back.
pub async fn what_was_dropped_stays_away_after_reopening(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=4).await;
    let (kept, gone) = (BlobId::new(log.clone(), "kept").unwrap(), BlobId::new(log.clone(), "gone").unwrap());
    for blob in [&kept, &gone] {
        assert!(backend.put_blob(blob, Bytes::from_static(b"bytes")).await.unwrap());
    }
    backend.drop_bodies(&log, &[Version(2), Version(4)]).await.unwrap();
    backend.delete_blob(&gone).await.unwrap();

    for _ in 0..2 {
        let Some(backend) = reopened(fixture).await else { return };
        let bodies: Vec<_> =
            page(&*backend, &log, 1).await.commits.iter().map(|commit| commit.body.is_some()).collect();
        assert_eq!(bodies, [true, false, true, false]);
        assert_eq!(backend.get_blob(&kept, None).await.unwrap(), Some(Bytes::from_static(b"bytes")));
        assert_eq!(backend.get_blob(&gone, None).await.unwrap(), None);
        assert_eq!(backend.list_blobs(&log, "").await.unwrap().len(), 1);
    }
}

/// Contract 3. Creates that run side by side are each durable, not only the last of a group.
pub async fn concurrent_creates_are_all_there_after_reopening(fixture: &dyn Fixture) {
    let mut tasks = tokio::task::JoinSet::new();
    for (task, handle) in writers(fixture, 8).await.into_iter().enumerate() {
        tasks.spawn(async move {
            let log = log(&format!("s-{task}"));
            for version in 1..=10 {
                let run = one(&log, numbered(version, 0));
                assert_eq!(decide(&*handle, vec![run], Mode::Each).await, [Told::done(1)]);
            }
        });
    }
    tasks.join_all().await;

    let Some(backend) = reopened(fixture).await else { return };
    for task in 0..8 {
        assert_eq!(page(&*backend, &log(&format!("s-{task}")), 1).await.commits.len(), 10);
    }
}
