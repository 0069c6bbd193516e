//! What is tried, refused and made when a store is opened.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create, ends, log, page, run};
use icecore_log::backend::Depth;
use icecore_log::{Access, Backend, Error, ErrorKind, Version};
use icecore_object::Objects;

use crate::faults::SHORT;
use crate::support::{Between, Call, Rule, Twist, World, settings};

async fn refusal(bucket: Arc<Between>) -> Error {
    Objects::open(bucket, Access::ReadWrite, settings()).await.unwrap_err()
}

/// Contract 1 rests on it, and so it is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_ignores_conditions_is_refused_by_name() {
    let create = |skip| Rule::new(Call::Create, Twist::Ignore).within("probe/").skip(skip);
    let replace = |skip| Rule::new(Call::Replace, Twist::Ignore).within("probe/").skip(skip);
    for (rule, named) in [
        (create(0), "several creates of one object"),
        // Two of the four that race.
        (create(0).times(1), "several creates of one object"),
        // Only one that comes later.
        (create(4), "created again"),
        (replace(0), "had been changed"),
        (replace(1), "had been changed"),
        (Rule::new(Call::Replace, Twist::Conflict), "was not replaced"),
    ] {
        let world = World::new();
        // Whether one that ignores wins beside another depends on who comes first.
        let mut errors = Vec::new();
        for _ in 0..20 {
            let bucket = world.bucket();
            bucket.plan(rule.clone());
            match Objects::open(bucket, Access::ReadWrite, settings()).await {
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            if !errors.is_empty() {
                break;
            }
        }
        let error = errors.pop().unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused, "{rule:?}");
        assert!(error.to_string().contains(named) && error.to_string().contains("If-None-Match"), "{error}");
    }
}

/// What is refused makes no store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_refused_stays_as_it_was() {
    let world = World::new();
    let bucket = world.bucket();
    bucket.plan(Rule::new(Call::Create, Twist::Ignore));

    assert_eq!(refusal(bucket).await.kind(), ErrorKind::Refused);

    assert!(!world.path("store").exists());
    assert_eq!(fs::read_dir(world.path("probe")).unwrap().count(), 0);
}

/// A bucket that was there, and holds something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_format_and_another_programs_object_are_refused_and_left_alone() {
    for (found, named) in [
        ("icecore objects 2\n", "later version"),
        ("icecore objects 10\n", "later version"),
        ("a shop\n", "something else"),
        ("", "something else"),
        ("icecore objects 1\nand more", "later version"),
    ] {
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let world = World::new();
            let bucket = world.bucket();
            fs::write(world.path("store"), found).unwrap();

            let error = Objects::open(Arc::clone(&bucket) as _, access, settings()).await.unwrap_err();

            assert_eq!(error.kind(), ErrorKind::Refused, "{found}");
            assert!(error.to_string().contains(named), "{found}: {error}");
            assert_eq!(fs::read(world.path("store")).unwrap(), found.as_bytes());
            assert_eq!(bucket.take_kinds(), [Call::Get]);
        }
    }
}

/// A look makes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_to_be_read_is_not_made_and_is_not_written() {
    let world = World::new();
    let bucket = world.bucket();
    let open = || Objects::open(Arc::clone(&bucket) as _, Access::ReadOnly, settings());
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bucket.take_kinds(), [Call::Get]);
    let writer = world.handle().await;
    let log = log("s-1");
    append(&*writer.store, &log, 1..=3).await;

    let reader = open().await.unwrap();

    assert_eq!(page(&reader, &log, 1).await.commits.len(), 3);
    assert_eq!(create(&reader, run(&log, 4..=4, 0)).await, Told::failed(ErrorKind::Refused));
    for refused in [
        reader.close(&log, Version(1)).await,
        reader.sweep(&log).await.map(drop),
        reader.drop_bodies(&log, &[Version(1)]).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    }
    assert!(reader.examine(Depth::Deep).await.unwrap().damage.is_empty());
    for call in [Call::Create, Call::Replace, Call::Delete] {
        assert_eq!(bucket.count(call), 0, "{call:?}");
    }
}

/// Whatever it is that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_answer_is_unavailable_in_time() {
    for twist in [Twist::Hold, Twist::LoseRequest, Twist::NotSent] {
        for call in [Call::Get, Call::Create, Call::List, Call::Replace, Call::Delete] {
            let world = World::new();
            let bucket = world.bucket();
            bucket.plan(Rule::new(call, twist));
            let mut settings = settings();
            settings.timeout = SHORT;
            let started = Instant::now();

            let error = Objects::open(bucket, Access::ReadWrite, settings).await.unwrap_err();

            assert_eq!(error.kind(), ErrorKind::Unavailable, "{call:?} {twist:?}: {error}");
            assert!(started.elapsed() < 20 * SHORT, "{call:?} {twist:?}: {:?}", started.elapsed());
        }
    }
}

/// Two that open a new place at once make one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_openers_and_a_lost_answer_make_one_store() {
    let world = World::new();
    let bucket = world.bucket();
    bucket.plan(Rule::new(Call::Create, Twist::LoseAnswer).within("store"));
    if let Err(error) = Objects::open(bucket, Access::ReadWrite, settings()).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }

    let tasks = [world.handle(), world.handle(), world.handle(), world.handle()];
    let handles = futures_util::future::join_all(tasks).await;

    append(&*handles[0].store, &log("s-1"), 1..=1).await;
    assert_eq!(ends(&*handles[3].store, &log("s-1")).await, (1, 0));
}

/// Two requests met, and S3 refused both (409): there is nothing else in the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opener_that_met_another_is_not_told_that_the_place_holds_something_else() {
    let world = World::new();
    let bucket = world.bucket();
    bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("store").times(2));

    if let Err(error) = Objects::open(bucket, Access::ReadWrite, settings()).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
