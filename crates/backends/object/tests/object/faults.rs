//! A bucket that loses, delays and contradicts; what is asked of it, and what is found damaged in it.

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{
    append, create, ends, hash, head, log, numbered, one, page, read_all, run,
};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, BlobId, ErrorKind, LogId, PageLimit, Run};
use icecore_object::BucketStore;

use crate::support::{Between, Call, Handle, Rule, Twist, World};

/// How long a call may take where it is meant to be late.
pub const SHORT: Duration = Duration::from_millis(300);

async fn hasty(world: &World) -> Handle {
    world.handle_with(|settings| settings.timeout = SHORT).await
}

/// Every way to ask is lost.
fn nobody_answers(bucket: &Between) {
    for call in [Call::Get, Call::List] {
        bucket.plan(Rule::new(call, Twist::LoseRequest));
    }
}

/// Contract 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_reading() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");

    for versions in [1..=1, 2..=2, 3..=6] {
        bucket.be_honest();
        bucket.plan(Rule::new(Call::Create, Twist::LoseAnswer).within("/c"));

        let count = versions.clone().count();
        assert_eq!(create(&*store, run(&log, versions, 0)).await, Told::done(count));
    }

    assert_eq!(page(&*store, &log, 1).await.commits, run(&log, 1..=6, 0).commits);
}

/// Contract 2. What the retries meet does not matter: the first request may have been carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_with_nobody_to_ask_is_unknown_and_the_same_bytes_decide() {
    for twist in [Twist::LoseRequest, Twist::NotSent, Twist::Refused, Twist::Conflict] {
        let world = World::new();
        let Handle { store, bucket, .. } = hasty(&world).await;
        let log = log("s-1");
        append(&*store, &log, 1..=1).await;
        bucket.plan(Rule::new(Call::Create, Twist::LoseAnswer).within("/c").times(1));
        bucket.plan(Rule::new(Call::Create, twist).within("/c"));
        nobody_answers(&bucket);

        let told = create(&*store, run(&log, 2..=3, 0)).await;

        assert_eq!(told, Told::failed(ErrorKind::Unknown), "{twist:?}");
        bucket.be_honest();
        assert_eq!(
            create(&*store, one(&log, numbered(2, 1))).await,
            Told::stopped(Ending::Taken),
            "{twist:?}"
        );
        assert_eq!(create(&*store, run(&log, 2..=3, 0)).await, Told::done(2), "{twist:?}");
    }
}

/// Contract 2. It was never carried out, but nobody can know: it is as unknown as one that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_have_been_lost_is_unknown_whatever_the_retries_meet() {
    for twist in [Twist::LoseRequest, Twist::NotSent, Twist::Refused, Twist::Conflict] {
        let world = World::new();
        let (Handle { store, bucket, .. }, other) = (hasty(&world).await, world.handle().await);
        let log = log("s-1");
        append(&*store, &log, 1..=1).await;
        bucket.plan(Rule::new(Call::Create, Twist::LoseRequest).within("/c").times(1));
        bucket.plan(Rule::new(Call::Create, twist).within("/c"));

        // What is read says that nothing is there: that decides nothing.
        let told = create(&*store, run(&log, 2..=3, 0)).await;

        assert_eq!(told, Told::failed(ErrorKind::Unknown), "{twist:?}");
        bucket.be_honest();
        assert_eq!(create(&*other.store, one(&log, numbered(2, 1))).await, Told::done(1), "{twist:?}");
        assert_eq!(create(&*store, run(&log, 2..=3, 0)).await, Told::stopped(Ending::Taken), "{twist:?}");
    }
}

/// Contract 2. Nothing but the identical bytes may be sent until it is decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_is_sent_again_with_the_same_bytes() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    bucket.take();
    bucket.plan(Rule::new(Call::Create, Twist::LoseRequest).within("/c").times(3));

    assert_eq!(create(&*store, run(&log, 2..=4, 0)).await, Told::done(3));

    let mut sent = bucket.take();
    sent.retain(|called| called.call == Call::Create);
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|called| *called == sent[0]), "{sent:?}");
    assert_eq!(page(&*store, &log, 2).await.commits, run(&log, 2..=4, 0).commits);
}

/// Contract 2. While it is tried again, somebody else takes the slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_that_was_overtaken_is_taken() {
    let world = World::new();
    let (Handle { store, bucket, .. }, other) = (world.handle().await, world.handle().await);
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    bucket.plan(Rule::new(Call::Create, Twist::LoseRequest).within("/c").times(1));
    bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
    let sending = Arc::clone(&store);
    let ours = one(&log, numbered(2, 1));
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    bucket.has_held(1).await;

    append(&*other.store, &log, 2..=2).await;
    bucket.release();

    assert_eq!(task.await.unwrap(), Told::stopped(Ending::Taken));
    assert_eq!(page(&*store, &log, 2).await.commits, [numbered(2, 0)]);
}

/// Contract 2. Unknown is only what may have been carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_is_unavailable_and_what_is_refused_is_refused() {
    let world = World::new();
    let Handle { store, bucket, .. } = hasty(&world).await;
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    for (twist, kind) in [(Twist::NotSent, ErrorKind::Unavailable), (Twist::Refused, ErrorKind::Refused)] {
        bucket.plan(Rule::new(Call::Create, twist));
        assert_eq!(create(&*store, run(&log, 2..=2, 0)).await, Told::failed(kind));
        bucket.be_honest();
        assert_eq!(world.slots(&log), [1]);
    }
    // Nobody knows where another log ends, and so nothing is sent.
    let unseen = Run::one(self::log("s-2"), hash(0, 0), numbered(1, 0));
    for twist in [Twist::NotSent, Twist::LoseRequest, Twist::Hold] {
        bucket.plan(Rule::new(Call::List, twist));
        assert_eq!(create(&*store, unseen.clone()).await, Told::failed(ErrorKind::Unavailable), "{twist:?}");
        bucket.be_honest();
    }
    assert!(world.slots(&unseen.log).is_empty());
    append(&*store, &log, 2..=2).await;
}

/// Contract 2. Of a run of several objects, those before the one that is in doubt are won.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_several_objects_stops_at_the_one_in_doubt() {
    let world = World::new();
    let Handle { store, bucket, .. } = hasty(&world).await;
    let log = log("s-1");
    let long = run(&log, 1..=2_500, 0);
    bucket.plan(Rule::new(Call::Create, Twist::LoseAnswer).within("/c").skip(1).times(1));
    bucket.plan(Rule::new(Call::Create, Twist::NotSent).within("/c").skip(1));
    bucket.plan(Rule::new(Call::Get, Twist::NotSent).within("/c"));

    let told = create(&*store, long.clone()).await;

    assert_eq!(told, Told { won: 1_000, end: Ending::Failed(ErrorKind::Unknown) });
    bucket.be_honest();
    assert_eq!(ends(&*store, &log).await, (2_000, 0));
    assert_eq!(create(&*store, long.clone()).await, Told::done(2_500));
    assert_eq!(world.slots(&log), [1, 1_001, 2_001]);
    assert_eq!(read_all(&*store, &log, 1, PageLimit::WHOLE).await, long.commits);
}

/// Contract 2. Absent decides nothing: the request was on its way, and nobody waited for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_is_whole_and_keeps_its_slot() {
    for is_aborted in [false, true] {
        let world = World::new();
        let (Handle { store, bucket, .. }, other) = (hasty(&world).await, world.handle().await);
        let log = log("s-1");
        append(&*store, &log, 1..=1).await;

        // Given a request under way whose caller has gone, and its store too.
        bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
        let sending = Arc::clone(&store);
        let ours = run(&log, 2..=4, 0);
        let caller = tokio::spawn(async move { create(&*sending, ours).await });
        bucket.has_held(1).await;
        if is_aborted {
            caller.abort();
            assert!(caller.await.is_err());
        } else {
            assert_eq!(caller.await.unwrap(), Told::failed(ErrorKind::Unknown));
        }
        drop(store);
        assert_eq!(ends(&*other.store, &log).await, (1, 0));

        // When it arrives after all.
        bucket.release();
        bucket.has_landed(1).await;

        let there = run(&log, 2..=4, 0);
        assert_eq!(page(&*other.store, &log, 2).await.commits, there.commits);
        assert_eq!(create(&*other.store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
        assert_eq!(create(&*other.store, there).await, Told::done(3));
    }
}

/// Contract 1. The other order: the slot was decided before the late request came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_too_late_changes_nothing() {
    let world = World::new();
    let (Handle { store, bucket, .. }, other) = (world.handle().await, world.handle().await);
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
    let sending = Arc::clone(&store);
    let ours = Run { previous: hash(1, 0), ..run(&log, 2..=4, 7) };
    let late = tokio::spawn(async move { create(&*sending, ours).await });
    bucket.has_held(1).await;

    append(&*other.store, &log, 2..=2).await;
    bucket.release();

    assert_eq!(late.await.unwrap(), Told::stopped(Ending::Taken));
    assert_eq!(page(&*other.store, &log, 2).await.commits, [numbered(2, 0)]);
    assert_eq!(world.slots(&log), [1, 2]);
}

/// Contract 2. Two requests met, and S3 refused both (409, `ConditionalRequestConflict`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_where_nothing_is_there_is_tried_again() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");

    for versions in [1..=1, 2..=4] {
        bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("/c").times(3));
        append(&*store, &log, versions).await;
    }

    assert_eq!(page(&*store, &log, 1).await.commits, run(&log, 1..=4, 0).commits);
}

/// Contract 2. It is not decided: neither won nor taken, and it is not written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_where_nothing_is_there_to_the_end_decides_nothing() {
    let world = World::new();
    let (Handle { store, bucket, .. }, other) = (hasty(&world).await, world.handle().await);
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    for is_mute in [false, true] {
        bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("/c"));
        if is_mute {
            nobody_answers(&bucket);
        }
        let told = create(&*store, one(&log, numbered(2, 1))).await;
        assert!(told.won == 0 && !told.is_decided(), "{told:?}");
        bucket.be_honest();
        assert_eq!(world.slots(&log), [1]);
    }

    append(&*other.store, &log, 2..=2).await;
    assert_eq!(create(&*store, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
}

/// Contract 9. Two requests met, and S3 refused both (409): who is told that there is a blob can read one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_met_another_request_is_there_when_it_is_told() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let blob = BlobId::new(log("s-1"), "notes").unwrap();
    bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("blobs/").times(3));

    let told = store.put_blob(&blob, "ours".into()).await;

    if told.is_ok() {
        assert_eq!(store.get_blob(&blob, None).await.unwrap().as_deref(), Some(&b"ours"[..]), "{told:?}");
    }
}

/// Contract 9. Lost on the way: unknown, and the same again settles it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_whose_answer_was_lost_is_put_again() {
    for twist in [Twist::LoseAnswer, Twist::LoseRequest] {
        let world = World::new();
        let Handle { store, bucket, .. } = world.handle().await;
        let blob = BlobId::new(log("s-1"), "notes").unwrap();
        bucket.plan(Rule::new(Call::Create, twist).within("blobs/").times(1));
        bucket.plan(Rule::new(Call::Delete, twist).within("blobs/").times(1));

        // One that finds out by reading may say that it was kept.
        match store.put_blob(&blob, "ours".into()).await {
            Ok(is_kept) => assert!(is_kept),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unknown);
                store.put_blob(&blob, "ours".into()).await.unwrap();
            }
        }
        assert_eq!(store.get_blob(&blob, None).await.unwrap().as_deref(), Some(&b"ours"[..]));

        assert_eq!(store.delete_blob(&blob).await.unwrap_err().kind(), ErrorKind::Unknown);
        store.delete_blob(&blob).await.unwrap();
        assert_eq!(store.get_blob(&blob, None).await.unwrap(), None);
    }
}

/// Appends `count` commits of a seed behind whatever is there; the versions that were won.
async fn appends(store: &BucketStore, log: &LogId, seed: u64, count: usize) -> Vec<u64> {
    let mut won = Vec::new();
    while won.len() < count {
        let head = head(store, log).await;
        let (last, previous) = head.map_or((0, hash(0, 0)), |head| (head.version.0, head.hash()));
        let next = Run::one(log.clone(), previous, numbered(last + 1, seed));
        loop {
            match create(store, next.clone()).await.end {
                Ending::Done => won.push(last + 1),
                Ending::Taken | Ending::Gap => {}
                Ending::Failed(ErrorKind::Unknown | ErrorKind::Unavailable) => continue,
                end => assert_eq!(end, Ending::Done),
            }
            break;
        }
    }
    won
}

/// Contracts 1, 2 and 4. Answers and requests are lost on the way, and "there is one" is said where nothing is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_build_one_chain_whatever_is_lost() {
    let world = World::new();
    let log = log("s-1");
    let mut tasks = Vec::new();
    for number in 0..4 {
        let Handle { store, bucket, .. } = world.handle().await;
        let twists = [Twist::LoseAnswer, Twist::Conflict, Twist::LoseRequest, Twist::Conflict];
        for (skip, twist) in twists.into_iter().cycle().take(16).enumerate() {
            bucket.plan(Rule::new(Call::Create, twist).within("/c").skip(skip + number).times(1));
        }
        for task in 0..2 {
            let (store, log, seed) = (Arc::clone(&store), log.clone(), (2 * number + task) as u64);
            tasks.push(tokio::spawn(async move { (seed, appends(&store, &log, seed, 8).await) }));
        }
    }
    let mut winners = Vec::new();
    for task in tasks {
        let (seed, won) = task.await.unwrap();
        winners.extend(won.into_iter().map(|version| (version, seed)));
    }
    winners.sort_unstable();

    let commits = read_all(&world.reader().await, &log, 1, PageLimit::WHOLE).await;

    let there: Vec<_> = winners.iter().map(|(version, seed)| numbered(*version, *seed)).collect();
    assert_eq!(commits, there);
    assert_eq!(winners.iter().map(|(version, _)| *version).collect::<Vec<_>>(), Vec::from_iter(1..=64));
}
