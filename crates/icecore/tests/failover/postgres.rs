//! A primary of PostgreSQL whose commits wait for one of two standbys.

use std::time::Duration;

use icecore::{Entry, EntryId, ErrorKind, Event, Log, LogId, Open, Version};
use icecore_services::postgres::{Quorum, sql};
use tokio::task::block_in_place;

use crate::rounds;
use crate::writers::{Writers, missing};

fn start() -> Quorum {
    block_in_place(|| Quorum::start().unwrap())
}

/// In a process of its own, which does not wait for long.
async fn log(url: &str) -> Log {
    let mut open = Open::default();
    open.settings.append_timeout = Duration::from_secs(2);
    open.open(url).await.unwrap().log(LogId::new("acme", "session", "s-1").unwrap())
}

fn entry(id: &str) -> Entry {
    Entry::new(Event::new("said", format!("{id:?}"))).with_id(EntryId::new(id).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_acknowledged_survives_the_death_of_its_primary() {
    let mut set = start();
    let url = set.url();
    let writers = Writers::start(&url).await;

    for is_last in rounds(2) {
        writers.reach(50).await;
        let killed = set.primary;
        writers.failing();
        block_in_place(|| {
            set.nodes[killed].kill();
            set.fail_over().unwrap();
        });
        writers.reach(50).await;
        writers.print("postgres, killed and a standby promoted at once");
        if !is_last {
            block_in_place(|| set.rejoin(killed).unwrap());
        }
    }

    assert_eq!(missing(&url, writers.stop().await).await, []);
}

/// Whoever waits is cancelled, for as long as the work lasts.
async fn cancelling<T>(primary: &str, work: impl IntoFuture<Output = T>) -> T {
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let cancelling = async {
        loop {
            block_in_place(|| sql(primary, &[cancel]).unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        done = work.into_future() => done,
        never = cancelling => never,
    }
}

/// The standbys are away, and whoever waits for them is cancelled: its entry is on one server, where everybody can read it. Nobody
/// acknowledges it, not even to who finds it by its id, before another server has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_primary_has_is_read_and_never_acknowledged() {
    let mut set = start();
    let url = format!("{}?timeout_ms=5000", set.url());
    let (ours, other) = (log(&url).await, log(&url).await);
    ours.append(entry("m-1")).await.unwrap();
    let primary = set.nodes[0].url();
    block_in_place(|| [1, 2].map(|node| set.nodes[node].kill()));

    let told = cancelling(&primary, ours.append(entry("m-2"))).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Unknown, "{told}");
    assert_eq!(other.head().await.unwrap().unwrap().version, Version(2));
    assert!(other.find(&EntryId::new("m-2").unwrap()).await.unwrap().is_some());
    let told = cancelling(&primary, other.append(entry("m-2"))).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Unknown, "{told}");
    let id = EntryId::new("m-2").unwrap();
    let told = cancelling(&primary, other.resolve(&id)).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Unknown, "{told}");

    // A standby comes back: what was read is acknowledged once it has it, and the primary may die.
    block_in_place(|| {
        set.nodes[2].resume().unwrap();
        set.until_it_streams(2).unwrap();
    });
    let receipt = other.append(entry("m-2")).await.unwrap();
    assert_eq!((receipt.version, receipt.repeated), (Version(2), true));
    block_in_place(|| {
        set.nodes[0].kill();
        set.promote(2).unwrap();
        set.rejoin(1).unwrap();
    });
    assert!(other.find(&id).await.unwrap().is_some());
    let again = log(&url).await.append(entry("m-2")).await.unwrap();
    assert_eq!((again.version, again.repeated), (Version(2), true));
    ours.append(entry("m-3")).await.unwrap();
    assert_eq!(other.head().await.unwrap().unwrap().version, Version(3));
}
