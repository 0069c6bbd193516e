//! What calls cost, in requests: an append, a look, a page.

use icecore_conformance::commits::{append, ends, log, page, read, run};
use icecore_log::PageLimit;

use crate::support::{Call, Handle, World};

/// What an append costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_behind_a_known_head_is_one_request() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    // The first looks where the log ends.
    assert_eq!(bucket.take_kinds(), [Call::List, Call::Create]);

    for version in 2..=20 {
        append(&*store, &log, version..=version).await;
        assert_eq!(bucket.take_kinds(), [Call::Create]);
    }
    append(&*store, &log, 21..=120).await;
    assert_eq!(bucket.take_kinds(), [Call::Create]);

    assert_eq!(ends(&*store, &log).await, (120, 0));
    assert_eq!(bucket.take_kinds(), [Call::List]);
    append(&*store, &log, 121..=121).await;
    assert_eq!(bucket.take_kinds(), [Call::Create]);

    // Another handle looks once, and reads the head.
    let other = world.handle().await;
    assert_eq!(ends(&*other.store, &log).await, (121, 0));
    assert_eq!(other.bucket.take_kinds(), [Call::List, Call::Get]);
    assert_eq!(ends(&*other.store, &log).await, (121, 0));
    assert_eq!(other.bucket.take_kinds(), [Call::List]);
    append(&*other.store, &log, 122..=122).await;
    assert_eq!(other.bucket.take_kinds(), [Call::Create]);
}

/// What a page costs: no listing grows with the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_the_middle_of_a_long_log_is_two_listings() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");
    for version in 1..=300 {
        append(&*store, &log, version..=version).await;
    }

    for (from, commits, listings) in
        [(1, 10, 2), (150, 10, 2), (150, 1, 2), (230, 10, 2), (240, 10, 1), (300, 10, 1)]
    {
        bucket.take();
        let limit = PageLimit::WHOLE.commits(commits);
        let found = read(&*store, &log, from, limit).await.commits;

        assert_eq!(found, run(&log, from..=(from + commits as u64 - 1).min(300), 0).commits);
        assert_eq!(bucket.count(Call::List), listings, "from {from}");
        let gets = bucket.count(Call::Get);
        assert!((found.len()..=found.len() + 1).contains(&gets), "{gets} for {commits} from {from}");
        assert_eq!(bucket.take().len(), listings + gets);
    }
    // Behind the head there is nothing to get.
    assert_eq!(page(&*store, &log, 301).await.commits, []);
    assert_eq!(bucket.count(Call::List), 1);
}

/// What it costs to see where a long log ends, for somebody who knows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_log_of_three_thousand_commits_is_one_listing_and_one_object() {
    let world = World::new();
    let Handle { store, .. } = world.handle().await;
    let (runs, singles) = (log("runs"), log("singles"));
    append(&*store, &runs, 1..=3_000).await;
    for version in 1..=3_000 {
        append(&*store, &singles, version..=version).await;
    }
    assert_eq!((world.slots(&runs).len(), world.slots(&singles).len()), (3, 3_000));

    for log in [runs, singles] {
        let Handle { store, bucket, .. } = world.handle().await;
        assert_eq!(ends(&*store, &log).await, (3_000, 0));
        let kinds = bucket.take_kinds();
        assert_eq!(kinds[0], Call::List);
        // The headers of a thousand commits are longer than what is read first of an object.
        assert!(kinds.len() <= 4 && kinds[1..].iter().all(|kind| *kind == Call::Get), "{kinds:?}");
        append(&*store, &log, 3_001..=3_001).await;
        assert_eq!(bucket.take_kinds(), [Call::Create]);
    }
}
