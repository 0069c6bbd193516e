//! Dropping bodies while others do, and while their commits are swept.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, ends, hash, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Backend, ErrorKind, LogId, Mode, Version};

use crate::grace::{Stopped, append_singly, is_trimmed_to_ten, of_five, pass, trims};
use crate::support::{Call, GRACE, Rule, Twist, World};

/// These versions have no body any more, of commits 1 to 6 in one object; everything else is as it was.
async fn are_dropped(world: &World, log: &LogId, dropped: &[u64]) {
    let mut expected = run(log, 1..=6, 0).commits;
    for commit in expected.iter_mut().filter(|commit| dropped.contains(&commit.version.0)) {
        commit.body = None;
    }
    let fresh = world.reader().await;
    assert_eq!(page(&fresh, log, 1).await.commits, expected);
    assert_eq!(head(&fresh, log).await.unwrap().hash(), hash(6, 0));
    assert!(fresh.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// Contract 6. Both change the same object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_dropped_from_two_handles_at_once_are_all_dropped() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    append(&*writer.store, &log, 1..=6).await;
    // Given one that has read the object, and has not replaced it yet.
    writer.bucket.plan(Rule::new(Call::Replace, Twist::Hold));
    let (dropping, dropped) = (Arc::clone(&writer.store), log.clone());
    let task = tokio::spawn(async move { dropping.drop_bodies(&dropped, &[Version(2), Version(3)]).await });
    writer.bucket.has_held(1).await;

    other.store.drop_bodies(&log, &[Version(5), Version(2)]).await.unwrap();
    writer.bucket.release();
    task.await.unwrap().unwrap();

    are_dropped(&world, &log, &[2, 3, 5]).await;
    let (one_side, other_side) = tokio::join!(
        writer.store.drop_bodies(&log, &[Version(1), Version(4)]),
        other.store.drop_bodies(&log, &[Version(6), Version(99)])
    );
    one_side.unwrap();
    other_side.unwrap();
    are_dropped(&world, &log, &[1, 2, 3, 4, 5, 6]).await;
    // The bytes that were dropped do not come back, and their header is won again.
    assert_eq!(create(&*writer.store, run(&log, 1..=6, 0)).await, Told::done(6));
    are_dropped(&world, &log, &[1, 2, 3, 4, 5, 6]).await;
    append(&*writer.store, &log, 7..=7).await;
}

/// Contract 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_bodies_that_was_interrupted_is_done_again() {
    let versions = [Version(2), Version(4)];
    for (twist, kind, dropped) in [
        (Twist::LoseAnswer, ErrorKind::Unknown, &[2, 4][..]),
        (Twist::LoseRequest, ErrorKind::Unknown, &[]),
        (Twist::NotSent, ErrorKind::Unavailable, &[]),
        (Twist::Refused, ErrorKind::Refused, &[]),
    ] {
        let world = World::new();
        let (writer, log) = (world.handle().await, log("s-1"));
        append(&*writer.store, &log, 1..=6).await;
        writer.bucket.plan(Rule::new(Call::Replace, twist).times(1));

        let error = writer.store.drop_bodies(&log, &versions).await.unwrap_err();

        assert_eq!(error.kind(), kind, "{twist:?}");
        are_dropped(&world, &log, dropped).await;
        writer.bucket.take();
        writer.store.drop_bodies(&log, &versions).await.unwrap();
        assert_eq!(writer.bucket.count(Call::Replace), usize::from(dropped.is_empty()), "{twist:?}");
        are_dropped(&world, &log, &[2, 4]).await;
    }
}

/// Contract 6. A replace that lands when nobody waits for it any more, behind another's: it brings no body back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_replace_brings_no_body_back() {
    let world = World::new();
    let other = world.handle().await;
    let writer = world.handle_with(|settings| settings.timeout = Duration::from_millis(300)).await;
    let log = log("s-1");
    append(&*writer.store, &log, 1..=6).await;
    writer.bucket.plan(Rule::new(Call::Replace, Twist::Hold));
    let error = writer.store.drop_bodies(&log, &[Version(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);

    other.store.drop_bodies(&log, &[Version(5)]).await.unwrap();
    writer.bucket.release();
    writer.bucket.has_landed(1).await;

    are_dropped(&world, &log, &[5]).await;
    other.store.drop_bodies(&log, &[Version(2)]).await.unwrap();
    are_dropped(&world, &log, &[2, 5]).await;
}

/// Contract 5. A sweep deletes the object while bodies are dropped in it: it does not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_bodies_in_an_object_that_is_swept_meanwhile_brings_nothing_back() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    append_singly(&writer, &log, 6, 10).await;
    other.store.close(&log, Version(9)).await.unwrap();
    world.passes(GRACE);
    writer.bucket.plan(Rule::new(Call::Replace, Twist::Hold));
    let (dropping, dropped) = (Arc::clone(&writer.store), log.clone());
    let task = tokio::spawn(async move { dropping.drop_bodies(&dropped, &[Version(3), Version(8)]).await });
    writer.bucket.has_held(2).await;

    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 9);
    writer.bucket.release();

    task.await.unwrap().unwrap();
    assert_eq!(world.slots(&log), [10]);
    is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
}

/// Contract 5. Many stalled writers in one call, each of a log of its own: one is late, its neighbours are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_batch_loses_only_what_was_trimmed_meanwhile() {
    let world = World::new();
    let (writer, other) = (world.handle().await, world.handle().await);
    let (first, second) = (log("first"), log("second"));
    append_singly(&writer, &first, 1, 5).await;
    append_singly(&writer, &second, 1, 5).await;
    trims(&world, &other, &second).await;
    pass(&writer, Stopped::Boot);

    let batch = vec![one(&first, numbered(6, 0)), one(&second, numbered(6, 1))];
    let told: Vec<Told> = writer.store.create(batch, Mode::Each).await.iter().map(Told::from).collect();

    assert_eq!(told, [Told::done(1), Told::stopped(Ending::Closed(Version(9)))]);
    assert_eq!(ends(&*other.store, &first).await, (6, 0));
    is_trimmed_to_ten(&world, &[&writer, &other], &second).await;
}
