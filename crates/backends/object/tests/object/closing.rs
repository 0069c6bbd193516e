//! Closing a log that has no commits, while its first one comes.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, ends, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::{Depth, Swept};
use icecore_log::{Backend, ErrorKind, LogId, Version};

use crate::grace::{Stopped, append_singly, pass, sends, was_not_won};
use crate::support::{Call, GRACE, Rule, Twist, World};

/// What everybody must see of a log that was closed to 8 before it had a commit.
async fn is_closed_to_eight(world: &World, log: &LogId) {
    let (fresh, writer) = (world.reader().await, world.handle().await);
    assert_eq!(head(&fresh, log).await, None);
    for from in [1, 2, 5, 8] {
        let page = page(&fresh, log, from).await;
        assert_eq!((page.commits.len(), page.boundary), (0, Version(8)), "from {from}");
    }
    assert_eq!(page(&fresh, log, 9).await.commits, []);
    for version in [1, 2, 8] {
        let told = create(&*writer.store, one(log, numbered(version, 0))).await;
        assert_eq!(told, Told::stopped(Ending::Closed(Version(8))), "version {version}");
    }
    assert!(fresh.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// A copy of a trimmed log begins behind the boundary.
async fn can_begin_at_nine(world: &World, log: &LogId) {
    let writer = world.handle().await;
    assert_eq!(create(&*writer.store, one(log, numbered(10, 0))).await, Told::stopped(Ending::Gap));
    append(&*writer.store, log, 9..=9).await;
    append(&*world.handle().await.store, log, 10..=12).await;
    let fresh = world.reader().await;
    assert_eq!(ends(&fresh, log).await, (12, 8));
    assert_eq!(page(&fresh, log, 8).await.commits, []);
    assert_eq!(page(&fresh, log, 9).await.commits, run(log, 9..=12, 0).commits);
    assert_eq!(world.boundaries(log), [8]);
    assert!(fresh.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// Contract 5. The first commit was on its way when the log was closed: the slot decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_that_comes_after_the_close_is_closed() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    for ours in [run(&log, 1..=1, 0), run(&log, 1..=12, 0)] {
        let task = sends(&writer, ours).await;
        other.store.close(&log, Version(8)).await.unwrap();
        writer.bucket.release();
        assert_eq!(task.await.unwrap(), Told::stopped(Ending::Closed(Version(8))));
    }
    is_closed_to_eight(&world, &log).await;
    can_begin_at_nine(&world, &log).await;
}

/// Contract 5. The other order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_comes_after_the_first_commit_is_refused() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    other.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
    let (closing, closed) = (Arc::clone(&other.store), log.clone());
    let task = tokio::spawn(async move { closing.close(&closed, Version(8)).await });
    other.bucket.has_held(1).await;

    append(&*writer.store, &log, 1..=1).await;
    other.bucket.release();

    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(ends(&*other.store, &log).await, (1, 0));
    assert_eq!(page(&*other.store, &log, 1).await.commits, [numbered(1, 0)]);
    append(&*other.store, &log, 2..=2).await;
}

/// Contract 5. Whoever comes first: what was acknowledged stays, and what was closed is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_and_a_first_commit_that_race_are_never_both_done() {
    let world = World::new();
    let (writer, other) = (world.handle().await, world.handle().await);
    let mut closes = 0;
    for round in 0..50 {
        let log = log(&format!("s-{round}"));
        // Half of the writers have looked already.
        let (commit, close) = if round % 2 == 0 {
            tokio::join!(create(&*writer.store, run(&log, 1..=1, 0)), other.store.close(&log, Version(8)))
        } else {
            let (close, commit) = tokio::join!(
                other.store.close(&log, Version(8)),
                create(&*writer.store, run(&log, 1..=1, 0))
            );
            (commit, close)
        };
        match close {
            Ok(()) => {
                closes += 1;
                assert_eq!(commit, Told::stopped(Ending::Closed(Version(8))), "round {round}");
                is_closed_to_eight(&world, &log).await;
                can_begin_at_nine(&world, &log).await;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "round {round}: {error}");
                assert_eq!(commit, Told::done(1), "round {round}");
                assert_eq!(ends(&*other.store, &log).await, (1, 0));
                assert_eq!(page(&*other.store, &log, 1).await.commits, [numbered(1, 0)]);
            }
        }
    }
    println!("{closes} of 50 closes came first");
}

/// Contract 5. Between the slot and the boundary's object, or in the middle of either: the boundary holds, and who writes behind it
/// writes it down first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_without_commits_that_was_interrupted_holds() {
    for (part, twist) in [
        ("/c", Twist::LoseAnswer),
        ("/b", Twist::LoseAnswer),
        ("/b", Twist::LoseRequest),
        ("/b", Twist::NotSent),
    ] {
        for is_continued in [false, true] {
            let world = World::new();
            let other = world.handle_with(|settings| settings.timeout = Duration::from_millis(300)).await;
            let log = log("s-1");
            other.bucket.plan(Rule::new(Call::Create, twist).within(part));
            other.bucket.plan(Rule::new(Call::Get, Twist::NotSent).within(part));

            let error = other.store.close(&log, Version(8)).await.unwrap_err();

            let kind = if twist == Twist::NotSent { ErrorKind::Unavailable } else { ErrorKind::Unknown };
            assert_eq!(error.kind(), kind, "{part} {twist:?}");
            other.bucket.be_honest();
            is_closed_to_eight(&world, &log).await;
            if is_continued {
                other.store.close(&log, Version(8)).await.unwrap();
                assert_eq!(world.boundaries(&log), [8]);
                is_closed_to_eight(&world, &log).await;
            }
            can_begin_at_nine(&world, &log).await;
        }
    }
}

/// Contract 5. No commit is written behind a boundary that only a slot below it tells of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_behind_an_interrupted_close_waits_for_the_boundary() {
    let world = World::new();
    let (other, log) = (world.handle().await, log("s-1"));
    other.bucket.plan(Rule::new(Call::Create, Twist::NotSent).within("/b"));
    other.store.close(&log, Version(8)).await.unwrap_err();
    assert!(world.boundaries(&log).is_empty());

    let told = create(&*other.store, run(&log, 9..=9, 0)).await;

    assert_eq!(told, Told::failed(ErrorKind::Unavailable));
    assert_eq!(world.slots(&log), [1]);
    is_closed_to_eight(&world, &log).await;
    can_begin_at_nine(&world, &log).await;
}

/// Contract 5. Closed further before it has a commit, interrupted or not; racing with a commit behind the first boundary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_commits_is_closed_further() {
    for is_interrupted in [false, true] {
        let world = World::new();
        let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
        if is_interrupted {
            other.bucket.plan(Rule::new(Call::Create, Twist::NotSent).within("/b").times(1));
            other.store.close(&log, Version(3)).await.unwrap_err();
        } else {
            other.store.close(&log, Version(3)).await.unwrap();
        }
        let task = sends(&writer, run(&log, 4..=4, 0)).await;
        other.store.close(&log, Version(8)).await.unwrap();
        other.store.close(&log, Version(5)).await.unwrap();
        writer.bucket.release();

        assert_eq!(task.await.unwrap(), Told::stopped(Ending::Closed(Version(8))));

        is_closed_to_eight(&world, &log).await;
        world.passes(GRACE);
        assert_eq!(other.store.sweep(&log).await.unwrap(), Swept::default());
        is_closed_to_eight(&world, &log).await;
        can_begin_at_nine(&world, &log).await;
    }
}

/// Contract 5. Nothing was there to stop a first commit that came so late, once the slot of the close had been deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_that_stalled_through_a_close_and_a_sweep_is_not_read() {
    for last in [1, 12] {
        let world = World::new();
        let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
        let task = sends(&writer, run(&log, 1..=last, 1)).await;
        other.store.close(&log, Version(8)).await.unwrap();
        world.passes(GRACE);
        other.store.sweep(&log).await.unwrap();
        pass(&writer, Stopped::Wall);
        writer.bucket.release();

        was_not_won(&writer, task.await.unwrap(), &run(&log, 1..=last, 1), 8).await;

        is_closed_to_eight(&world, &log).await;
        can_begin_at_nine(&world, &log).await;
    }
}

/// Contract 5. The same, where a copy of the log has begun behind the boundary meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_that_stalled_until_the_log_began_elsewhere_is_not_read() {
    for last in [1, 8, 9, 20] {
        let world = World::new();
        let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
        let task = sends(&writer, run(&log, 1..=last, 1)).await;
        other.store.close(&log, Version(8)).await.unwrap();
        can_begin_at_nine(&world, &log).await;
        world.passes(GRACE);
        other.store.sweep(&log).await.unwrap();
        assert_eq!(world.slots(&log), [9, 10]);
        pass(&writer, Stopped::Wall);
        writer.bucket.release();

        was_not_won(&writer, task.await.unwrap(), &run(&log, 1..=last, 1), 8).await;

        for store in [&*writer.store, &*other.store, &world.reader().await] {
            assert_eq!(ends(store, &log).await, (12, 8));
            assert_eq!(page(store, &log, 1).await.commits, []);
            assert_eq!(page(store, &log, 9).await.commits, run(&log, 9..=12, 0).commits);
            assert_eq!(page(store, &log, 13).await.commits, []);
            assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
        }
    }
}

/// Contract 5. Who closes a log without commits may stall as a writer may: its slot is free only because it was deleted, and there is
/// a head by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_stalled_longer_than_half_the_grace_never_closes_the_head() {
    for is_begun in [false, true] {
        let world = World::new();
        let (closer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
        if is_begun {
            other.store.close(&log, Version(8)).await.unwrap();
        }
        closer.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
        let (closing, closed) = (Arc::clone(&closer.store), log.clone());
        let task = tokio::spawn(async move { closing.close(&closed, Version(30)).await });
        closer.bucket.has_held(1).await;
        // The slot that it is about to take is taken, closed and deleted.
        other.store.close(&log, Version(8)).await.unwrap();
        append_singly(&other, &log, 9, 12).await;
        other.store.close(&log, Version(11)).await.unwrap();
        world.passes(GRACE);
        other.store.sweep(&log).await.unwrap();
        assert_eq!((world.slots(&log), world.boundaries(&log)), (vec![12], vec![11]));
        pass(&closer, Stopped::Boot);

        closer.bucket.release();
        let told = task.await.unwrap();

        assert_eq!(
            ends(&*other.store, &log).await,
            (12, 11),
            "slot {}: {told:?}",
            if is_begun { 9 } else { 1 }
        );
        assert_eq!(told.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(page(&*other.store, &log, 12).await.commits, [numbered(12, 0)]);
        world.passes(GRACE);
        other.store.sweep(&log).await.unwrap();
        assert_eq!(page(&world.reader().await, &log, 12).await.commits, [numbered(12, 0)]);
    }
}
