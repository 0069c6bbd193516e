//! Closing and sweeping while others write: writers that stall, and closes that race with the first commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icecore_conformance::commits::{append, create, create_in, ends, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_dynamodb::{Access, Clocks, DynamoDb, DynamoStore, Settings};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Clock, ErrorKind, Mode, Timestamp, Version};
use icecore_services::dynamodb::Table;

use crate::front::{Front, Twist, keys};
use crate::store;

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Hand {
    fn moves(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

const GRACE: Duration = Duration::from_secs(300);

/// A writer before a server that may hold its requests, with clocks of its own: the wall clock, and the other.
async fn writer(url: &str) -> (Front, [Arc<Hand>; 2], Arc<DynamoStore>) {
    let front = Front::new(url);
    let hands = [Arc::new(Hand::default()), Arc::new(Hand::default())];
    let mut settings = Settings::parse(&format!("{}&grace_s=300", front.url())).unwrap();
    settings.clocks = Clocks { wall: Arc::clone(&hands[0]) as _, boot: Arc::clone(&hands[1]) as _ };
    (front, hands, Arc::new(DynamoDb::open(settings, Access::ReadWrite).await.unwrap()))
}

/// A writer that was stopped for longer than half of the time of grace finds its slot empty because it was deleted: it acknowledges nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_writer_does_not_win_a_slot_that_was_swept() {
    for (clock, mode) in [(0, Mode::Each), (1, Mode::Each), (0, Mode::AllOrNone)] {
        let table = Table::new();
        let url = table.url();
        let (front, hands, writer) = writer(&url).await;
        // For the test: it waits for nobody.
        let other = store(&format!("{url}&grace_s=0")).await.unwrap();
        let log = log("s-1");
        append(&*writer, &log, 1..=5).await;

        let action = if mode == Mode::Each { "PutItem" } else { "TransactWriteItems" };
        front.plan(action, Twist::Hold, 1);
        let (sending, ours) = (Arc::clone(&writer), one(&log, numbered(6, 1)));
        let sent = tokio::spawn(async move { create_in(&*sending, vec![ours], mode).await });
        front.has_held().await;
        append(&other, &log, 6..=10).await;
        other.close(&log, Version(9)).await.unwrap();
        assert_eq!(other.sweep(&log).await.unwrap().commits, 9);
        hands[clock].moves(GRACE / 2);
        front.be_honest();

        assert_eq!(sent.await.unwrap(), [Told::failed(ErrorKind::Unknown)], "{clock} {mode:?}");
        let closed = Told::stopped(Ending::Closed(Version(9)));
        assert_eq!(create(&*writer, one(&log, numbered(6, 1))).await, closed);
        for store in [&*writer, &other] {
            assert_eq!(ends(store, &log).await, (10, 9));
            assert!(page(store, &log, 6).await.commits.is_empty());
            assert_eq!(page(store, &log, 10).await.commits, [numbered(10, 0)]);
            assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
        }
        // What it left behind goes with the next sweep.
        append(&other, &log, 11..=11).await;
        other.close(&log, Version(10)).await.unwrap();
        other.sweep(&log).await.unwrap();
        let slots = keys(&url).into_iter().filter(|key| key.contains(" c")).count();
        assert_eq!(slots, 1, "only the head is left");
    }
}

/// What was closed just now is not deleted: by the service's clock, whatever the sweeper's says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_before_the_time_of_grace() {
    let table = Table::new();
    let url = table.url();
    let (_front, hands, sweeper) = writer(&url).await;
    let log = log("s-1");
    append(&*sweeper, &log, 1..=5).await;
    sweeper.close(&log, Version(4)).await.unwrap();
    hands.iter().for_each(|hand| hand.moves(3 * GRACE));

    for _ in 0..2 {
        assert_eq!(sweeper.sweep(&log).await.unwrap().commits, 0);
    }
    assert_eq!(keys(&url).into_iter().filter(|key| key.contains(" c")).count(), 5);
    assert_eq!(page(&*sweeper, &log, 1).await.boundary, Version(4));
}

/// A boundary that nobody has noted the time of, because its closer was killed, is swept a time of grace after it was first seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_was_cut_short_is_swept_later() {
    let table = Table::new();
    let url = format!("{}&grace_s=0", table.url());
    let front = Front::new(&url);
    let (direct, store) =
        (store(&url).await.unwrap(), store(&format!("{}&timeout_ms=300", front.url())).await.unwrap());
    let log = log("s-1");
    append(&store, &log, 1..=5).await;

    // It reads nothing after it has raised the boundary.
    front.plan("GetItem", Twist::Throttle, usize::MAX);
    assert!(store.close(&log, Version(4)).await.is_err());
    assert_eq!(ends(&direct, &log).await, (5, 4));
    assert_eq!(direct.sweep(&log).await.unwrap().commits, 0, "its time begins now");
    assert_eq!(direct.sweep(&log).await.unwrap().commits, 4);
}

/// Nobody saw a commit when the log was closed: so the first may not come after it, however late it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_that_comes_after_a_close_is_closed() {
    for mode in [Mode::Each, Mode::AllOrNone] {
        let table = Table::new();
        let url = table.url();
        let (front, _hands, writer) = writer(&url).await;
        let other = store(&url).await.unwrap();
        let log = log("s-1");
        front.plan("TransactWriteItems", Twist::Hold, 1);
        let (sending, ours) = (Arc::clone(&writer), run(&log, 1..=1, 0));
        let sent = tokio::spawn(async move { create_in(&*sending, vec![ours], mode).await });
        front.has_held().await;
        other.close(&log, Version(7)).await.unwrap();
        front.be_honest();

        assert_eq!(sent.await.unwrap(), [Told::stopped(Ending::Closed(Version(7)))]);
        assert!(!keys(&url).iter().any(|key| key.contains(" c")));
        // A copy of the trimmed log begins behind it.
        append(&*writer, &log, 8..=8).await;
        assert_eq!(ends(&other, &log).await, (8, 7));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_comes_after_the_first_commit_is_refused() {
    let table = Table::new();
    let url = table.url();
    let (front, _hands, closer) = writer(&url).await;
    let other = store(&url).await.unwrap();
    let log = log("s-1");
    front.plan("UpdateItem", Twist::Hold, 1);
    let (closing, name) = (Arc::clone(&closer), log.clone());
    let closed = tokio::spawn(async move { closing.close(&name, Version(7)).await });
    front.has_held().await;
    assert_eq!(create(&other, one(&log, numbered(1, 0))).await, Told::done(1));
    front.be_honest();

    assert_eq!(closed.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(ends(&other, &log).await, (1, 0));
}
