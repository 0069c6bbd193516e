//! Policies are applied by one process at a time; killed anywhere, another goes on, and nothing is lost that was to be kept.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/mortal.rs"]
mod mortal;
#[path = "support/paused.rs"]
mod paused;
mod support;

use std::sync::Arc;
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_log::{Backend, ErrorKind, LogId, LogPrefix, Version};
use icecore_store::retention::{Applied, Hold, On, Pace, Policy};
use icecore_store::state::Json;
use icecore_store::{Log, Store};
use mortal::Mortal;
use paused::Paused;
use support::ManualClock;

const HOUR: i64 = 3_600_000_000_000;

/// Does not keep anybody waiting.
const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

struct World {
    backend: Arc<dyn Backend>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set(1_000 * HOUR);
        Self { backend: Arc::new(Memory::default()), clock }
    }

    fn store(&self) -> Store {
        self.store_on(Arc::clone(&self.backend))
    }

    fn store_on(&self, backend: Arc<dyn Backend>) -> Store {
        Store::builder(backend).clock(Arc::clone(&self.clock) as _).build()
    }

    fn pass(&self, hours: i64) {
        use icecore_log::Clock;
        self.clock.set(self.clock.now().0 + hours * HOUR);
    }
}

fn policy(on: &str) -> Policy {
    Policy {
        on: LogPrefix::parse(on).unwrap(),
        keep_commits: None,
        keep_for: None,
        keep_bytes: None,
        kinds: Default::default(),
        delete_idle_for: None,
    }
}

fn log(store: &Store, key: &str) -> Log {
    store.log(LogId::new("acme", "session", key).unwrap())
}

async fn put(log: &Log, numbers: std::ops::Range<u32>) {
    for number in numbers {
        log.put(&format!("k{}", number % 5), Json::of(&number).unwrap()).await.unwrap();
    }
}

async fn boundary(log: &Log) -> u64 {
    log.head().await.unwrap().unwrap().boundary.0
}

#[tokio::test]
async fn the_longest_prefix_counts_and_what_is_kept_is_as_it_says() {
    let world = World::new();
    let store = world.store();
    for key in ["a", "b"] {
        put(&log(&store, key), 0..50).await;
    }
    let retention = store.retention().unwrap();
    retention.set_policy(&Policy { keep_commits: Some(1), ..policy("") }).await.unwrap();
    retention.set_policy(&Policy { keep_commits: Some(10), ..policy("acme/") }).await.unwrap();
    retention.set_policy(&Policy { keep_commits: Some(40), ..policy("acme/session/b") }).await.unwrap();
    let before = log(&store, "a").state().await.unwrap();
    let mut planned = Vec::new();
    store.plan_maintenance(|id, applied| planned.push((id.key(), *applied))).await.unwrap();
    let of = |key: &str| planned.iter().find(|(name, _)| name == key).map(|(_, applied)| *applied);
    assert!(
        matches!(of("a"), Some(Applied::Trimmed(trimmed)) if trimmed.through == Version(40)),
        "{planned:?}"
    );
    assert_eq!(boundary(&log(&store, "a")).await, 0, "nothing was done");

    let done = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();

    assert_eq!((done.trimmed, done.failed), (2, 0), "{done:?}");
    // The base is one more commit, so one fewer of the others is kept.
    assert_eq!((boundary(&log(&store, "a")).await, boundary(&log(&store, "b")).await), (41, 11));
    assert_eq!(log(&store, "a").state().await.unwrap().in_order(), before.in_order());
    let again = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert_eq!(again.trimmed, 0, "{again:?}");
    retention.remove_policy(&LogPrefix::parse("acme/session/b").unwrap()).await.unwrap();
    assert_eq!(store.maintain_once(PACE, |_| ()).await.unwrap().unwrap().trimmed, 1);
    let error = retention.set_policy(&policy("x/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn by_age_states_go_back_at_least_half_as_far_as_events() {
    let world = World::new();
    let store = world.store();
    let log = log(&store, "a");
    let policy = Policy { keep_for: Some(Duration::from_secs(100 * 3_600)), ..policy("acme/") };
    store.retention().unwrap().set_policy(&policy).await.unwrap();
    for hour in 0..500 {
        put(&log, hour..hour + 1).await;
        world.pass(1);
        if hour % 10 == 0 {
            let done = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
            assert_eq!(done.failed, 0, "{done:?}");
        }
    }
    let head = log.head().await.unwrap().unwrap();

    // An hour a commit, some bases, and a pass every ten hours.
    assert!((100..125).contains(&(head.version.0 - head.boundary.0)), "{head:?}");
    let old = Version(head.version.0 - 55);
    assert!(log.state_at(icecore_store::state::At::Version(old)).await.is_ok());
}

#[tokio::test]
async fn a_log_that_is_not_used_is_deleted_and_a_base_is_no_use() {
    let world = World::new();
    let store = world.store();
    let policy = Policy {
        keep_commits: Some(2),
        delete_idle_for: Some(Duration::from_secs(30 * 3_600)),
        ..policy("acme/")
    };
    put(&log(&store, "idle"), 0..20).await;
    put(&log(&store, "used"), 0..20).await;
    store.retention().unwrap().set_policy(&policy).await.unwrap();
    for _ in 0..3 {
        world.pass(9);
        put(&log(&store, "used"), 0..1).await;
        store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
        log(&store, "idle").write_base().await.unwrap();
    }
    assert!(!log(&store, "idle").head().await.unwrap().unwrap().sealed);
    world.pass(9);

    let done = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();

    assert_eq!(done.deleted, 1, "{done:?}");
    assert!(log(&store, "idle").head().await.unwrap().unwrap().sealed);
    assert!(!log(&store, "used").head().await.unwrap().unwrap().sealed);
}

#[tokio::test]
async fn what_is_held_stays_and_is_counted() {
    let world = World::new();
    let store = world.store();
    put(&log(&store, "a"), 0..20).await;
    let retention = store.retention().unwrap();
    retention.set_policy(&Policy { keep_commits: Some(1), ..policy("acme/") }).await.unwrap();
    let on = On::Prefix(LogPrefix::parse("acme/").unwrap());
    retention.hold("h", &Hold { on, from: None, until: None, reason: String::new() }).await.unwrap();

    let done = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();

    assert_eq!((done.held, done.trimmed, done.failed), (1, 0, 0), "{done:?}");
    assert_eq!(boundary(&log(&store, "a")).await, 0);
}

#[tokio::test]
async fn one_at_a_time_and_when_it_is_gone_another_goes_on_where_it_was() {
    let world = World::new();
    let store = world.store();
    for number in 0..2_500 {
        log(&store, &format!("s{number:04}")).append(support::event("x")).await.unwrap();
    }
    let policy = Policy { keep_commits: Some(5), ..policy("acme/") };
    store.retention().unwrap().set_policy(&policy).await.unwrap();
    // Before `acme/` comes Icecore's own: the lease, the page of that, and then one for each thousand.
    let mortal = Mortal::new(&world.backend, 3, true);
    let first = world.store_on(Arc::clone(&mortal) as Arc<dyn Backend>);
    first.maintain_once(PACE, |_| ()).await.unwrap_err();
    assert!(mortal.is_dead());

    assert!(store.maintain_once(PACE, |_| ()).await.unwrap().is_none(), "another is at it");
    world.pass(1);
    let rest = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert!((1..=1_502).contains(&rest.logs), "{rest:?}");
    let whole = store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert!((2_500..=2_502).contains(&whole.logs), "{whole:?}");
}

#[tokio::test]
async fn a_pass_that_is_killed_anywhere_loses_nothing() {
    for is_last_done in [false, true] {
        for changes in 0.. {
            let world = World::new();
            let store = world.store();
            let logs: Vec<_> = (0..3).map(|number| log(&store, &format!("s{number}"))).collect();
            let mut states = Vec::new();
            for log in &logs {
                put(log, 0..30).await;
                states.push(log.state().await.unwrap());
            }
            let policy = Policy { keep_commits: Some(5), ..policy("acme/") };
            store.retention().unwrap().set_policy(&policy).await.unwrap();
            let mortal = Mortal::new(&world.backend, changes, is_last_done);
            let done =
                world.store_on(Arc::clone(&mortal) as Arc<dyn Backend>).maintain_once(PACE, |_| ()).await;
            world.pass(1);
            let other = world.store();
            let rest = other.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
            assert_eq!(rest.failed, 0, "{changes}: {rest:?}");
            for (log, state) in logs.iter().zip(&states) {
                let log = other.log(log.id().clone());
                assert_eq!(log.state().await.unwrap().in_order(), state.in_order(), "{changes}");
                assert!(boundary(&log).await >= 25, "{changes}");
            }
            if !mortal.is_dead() {
                assert_eq!(done.unwrap().unwrap().trimmed, 3);
                assert!(changes > 15, "{changes}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let world = World::new();
    let stores = [world.store(), world.store()];
    let log = log(&stores[0], "a");
    put(&log, 0..60).await;
    let policy = Policy { keep_commits: Some(5), ..policy("acme/") };
    stores[0].retention().unwrap().set_policy(&policy).await.unwrap();
    for _ in 0..10 {
        let state = log.state().await.unwrap();
        // The second does not wait for the lease of the first to end.
        let [a, b] = &stores;
        let other = async {
            world.pass(1);
            b.maintain_once(PACE, |_| ()).await.unwrap()
        };
        let (_, _) =
            futures_util::future::join(async { a.maintain_once(PACE, |_| ()).await.unwrap() }, other).await;
        assert_eq!(log.state().await.unwrap().in_order(), state.in_order());
        put(&log, 0..20).await;
    }
}

#[tokio::test]
async fn icecore_s_own_logs_stay_short() {
    let world = World::new();
    let store = world.store();
    let retention = store.retention().unwrap();
    for number in 0..1_500 {
        let on = On::Log(log(&store, &format!("s{number}")).id().clone());
        retention.hold("moving", &Hold { on, from: None, until: None, reason: String::new() }).await.unwrap();
    }

    store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();

    let own = store.log(LogId::new("_", "icecore", "retention").unwrap());
    assert!(boundary(&own).await >= 500);
    assert_eq!(store.retention().unwrap().holds().await.unwrap().len(), 1);
}

/// What was trimmed yesterday is due before the log that was deleted today: its sweep was taken for the last.
#[tokio::test]
async fn what_was_closed_last_is_swept_also_if_something_was_before() {
    let world = World::new();
    let paused = Paused::new(&world.backend, i64::MAX);
    // When the log is deleted; then of what was closed before; then of this; and never again.
    *paused.sweeps.lock().unwrap() = Some([0, 5, 0, 15].into());
    let store = world.store_on(Arc::clone(&paused) as Arc<dyn Backend>);
    put(&log(&store, "a"), 0..20).await;
    store.delete_log(log(&store, "a").id()).await.unwrap();

    let mut swept = Vec::new();
    for _ in 0..4 {
        world.pass(8);
        swept.push(store.maintain_once(PACE, |_| ()).await.unwrap().unwrap().swept);
    }

    assert_eq!(swept, [5, 0, 15, 0]);
    let own = store.log(LogId::new("_", "icecore", "retention").unwrap());
    let notes = async || own.state().await.unwrap().documents("sweep/").count();
    assert_eq!(notes().await, 1);
    world.pass(30);
    store.maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert_eq!(notes().await, 0, "it is not looked for for ever");
}

/// Somebody whose clock was a year ahead kept all others from it for a year.
#[tokio::test]
async fn a_lease_of_a_clock_that_was_wrong_counts_for_nothing() {
    let world = World::new();
    // It takes the lease, and is gone.
    let mortal = Mortal::new(&world.backend, 0, true);
    world.pass(9_000);
    world.store_on(mortal as Arc<dyn Backend>).maintain_once(PACE, |_| ()).await.unwrap_err();
    world.pass(-9_000);

    assert!(world.store().maintain_once(PACE, |_| ()).await.unwrap().is_some());
}

/// A pass over many logs takes long, and may be one of a policy that is no more.
#[tokio::test]
async fn a_policy_that_is_taken_back_takes_nothing_more() {
    let world = World::new();
    let store = world.store();
    for number in 0..1_100 {
        put(&log(&store, &format!("s{number:04}")), 0..3).await;
    }
    let retention = store.retention().unwrap();
    retention.set_policy(&Policy { keep_commits: Some(1), ..policy("acme/") }).await.unwrap();
    let paused = Paused::new(&world.backend, 5_000);
    let other = world.store_on(Arc::clone(&paused) as Arc<dyn Backend>);
    let pass = tokio::spawn(async move { other.maintain_once(PACE, |_| ()).await.unwrap().unwrap() });
    paused.reached().await;

    retention.remove_policy(&LogPrefix::parse("acme/").unwrap()).await.unwrap();
    paused.go();
    let done = pass.await.unwrap();

    // What was listed before is gone through.
    assert!((1..=1_000).contains(&done.trimmed), "{done:?}");
}

#[tokio::test]
async fn a_policy_never_keeps_less_than_it_was_given() {
    let world = World::new();
    let retention = world.store().retention().unwrap();
    let (keep_for, idle) = (Some(Duration::from_millis(1)), Some(Duration::from_millis(1_001)));
    retention.set_policy(&Policy { keep_for, delete_idle_for: idle, ..policy("acme/") }).await.unwrap();

    let found = retention.policies().await.unwrap().remove(0);

    assert_eq!((found.keep_for, found.delete_idle_for.unwrap().as_secs()), (Some(Duration::from_secs(1)), 2));
}
