//! What has expired is gone on every system that keeps its commits in this machine's files, also behind a restart and a trim.
#![cfg(all(feature = "file", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icecore::retention::{Hold, Keep, Maintained, On, Pace, Trim};
use icecore::{
    At, Backend, Changes, Clock, Condition, Consistency, ErrorKind, Expiry, Json, Log, LogId, LogPrefix,
    Merge, Settings, Store, Timestamp, Version, state::Watched,
};
use tempfile::TempDir;

const MINUTE: i64 = 60_000_000_000;
const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A store of the system that is named, with a clock that goes where it is put.
struct World {
    scheme: &'static str,
    folder: TempDir,
    backend: Option<Arc<dyn Backend>>,
    clock: Arc<Hand>,
}

impl World {
    async fn new(scheme: &'static str) -> Self {
        let clock = Arc::new(Hand(AtomicI64::new(1_000_000 * MINUTE)));
        let mut world = Self { scheme, folder: tempfile::tempdir().unwrap(), backend: None, clock };
        world.open().await;
        world
    }

    async fn open(&mut self) {
        let url = match self.scheme {
            "memory" => "memory:".to_owned(),
            scheme => format!("{scheme}:{}", self.folder.path().join("store").display()),
        };
        self.backend = Some(Arc::clone(icecore::open(&url).await.unwrap().backend()));
    }

    /// What is in memory only is gone; a store that is only there stays.
    async fn restart(&mut self) {
        if self.scheme != "memory" {
            self.store().shut_down().await.unwrap();
            self.backend = None;
            self.open().await;
        }
    }

    fn store(&self) -> Store {
        self.store_with(|_| ())
    }

    fn store_with(&self, change: impl FnOnce(&mut Settings)) -> Store {
        let mut settings = Settings::default();
        change(&mut settings);
        let backend = Arc::clone(self.backend.as_ref().unwrap());
        Store::builder(backend).clock(Arc::clone(&self.clock) as _).settings(settings).build()
    }

    fn log(&self) -> Log {
        self.store().log(id("s-1"))
    }

    fn pass(&self, minutes: i64) {
        self.clock.0.fetch_add(minutes * MINUTE, Ordering::SeqCst);
    }

    fn inn(&self, minutes: i64) -> Expiry {
        Expiry::At(Timestamp(self.clock.now().0 + minutes * MINUTE))
    }

    async fn maintained(&self) -> Maintained {
        let done = self.store().maintain_once(PACE, |_| ()).await.unwrap().unwrap();
        assert!(done.first_error.is_none(), "{:?}", done.first_error);
        done
    }

    /// What is noted to be due some time.
    async fn notes(&self) -> usize {
        let mut notes = 0;
        for number in 0..16 {
            let id = LogId::new("_", "icecore", &format!("due-{number:x}")).unwrap();
            notes += keys(&self.store().log(id)).await.len();
        }
        notes
    }

    /// Stores that read in every way that there is: with the state in memory, from commits, from snapshots as a whole and in parts.
    fn readers(&self) -> Vec<Store> {
        let small = |settings: &mut Settings| (settings.snapshot_commits, settings.snapshot_bytes) = (3, 1);
        vec![
            self.store(),
            self.store_with(|settings| settings.state_bytes_max = 0),
            self.store_with(small),
            self.store_with(|settings| {
                small(settings);
                settings.whole_state_bytes_max = 0;
            }),
        ]
    }
}

fn id(key: &str) -> LogId {
    LogId::new("acme", "session", key).unwrap()
}

fn sliding(minutes: u64) -> Expiry {
    Expiry::Sliding(Duration::from_secs(60 * minutes))
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn put(key: &str, text: &str, expiry: impl Into<Option<Expiry>>) -> Changes {
    Changes::new().put(key, json(text)).expire(key, expiry)
}

async fn keys(log: &Log) -> Vec<String> {
    log.state().await.unwrap().documents("").map(|(key, _)| key.to_owned()).collect()
}

/// Puts so often that snapshots are written behind what was put before.
async fn go_on(log: &Log, key: &str) {
    for number in 0..12 {
        log.put(key, Json::of(&number).unwrap()).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn what_is_due_is_absent_in_every_read_path(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    let writer = world.readers().remove(3).log(id("s-1"));
    writer.commit(put("at", r#"{"n":1}"#, world.inn(10))).await.unwrap();
    writer.commit(put("slides", "1", sliding(10))).await.unwrap();
    writer.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
    go_on(&writer, "stays").await;
    drop(writer);
    world.restart().await;
    let readers = world.readers();
    world.clock.0.fetch_add(10 * MINUTE - 1, Ordering::SeqCst);
    for reader in &readers {
        assert_eq!(keys(&reader.log(id("s-1"))).await, ["at", "pinned", "slides", "stays"]);
        assert!(reader.log(id("s-1")).document("at").await.unwrap().is_some());
    }

    world.clock.0.fetch_add(1, Ordering::SeqCst);

    for reader in readers.iter().chain(&[world.store()]) {
        let log = reader.log(id("s-1"));
        for log in [log.with(Consistency::Eventual), log.clone()] {
            assert_eq!(keys(&log).await, ["pinned", "stays"]);
            for key in ["at", "slides"] {
                assert_eq!(log.document(key).await.unwrap(), None);
            }
            let page = log.documents("", None, 1).await.unwrap();
            assert!(page.has_more && page.documents[0].0 == "pinned");
        }
        let exists = Changes::new().only_if(Condition::Exists("at".to_owned())).put("x", json("1"));
        assert_eq!(log.commit(exists).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

async fn a_change_of_what_has_expired_begins_from_nothing(scheme: &'static str) {
    for changes in [
        Changes::new().merge("k", Merge::add(&1).unwrap()),
        Changes::new().patch("k", json("1")),
        Changes::new().put("k", json("1")),
    ] {
        let mut world = World::new(scheme).await;
        let writer = world.readers().remove(3).log(id("s-1"));
        writer.commit(put("k", "41", world.inn(10))).await.unwrap();
        go_on(&writer, "other").await;
        drop(writer);
        world.pass(10);
        world.log().commit(changes).await.unwrap();
        world.restart().await;

        for reader in world.readers() {
            let log = reader.log(id("s-1"));
            let found = log.document("k").await.unwrap().unwrap();
            assert_eq!((&found.json[..], found.expiry), (&b"1"[..], None));
            assert!(log.replay(|_| ()).await.unwrap().is_same);
        }
    }
}

async fn what_is_renewed_and_taken_back_stays_behind_a_restart(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    let log = world.log();
    log.commit(put("k", "1", sliding(10))).await.unwrap();
    log.commit(put("fixed", "1", world.inn(25))).await.unwrap();
    log.commit(put("back", "1", world.inn(10))).await.unwrap();
    log.expire("back", None).await.unwrap();
    world.pass(9);
    log.put("k", json("2")).await.unwrap();
    world.pass(9);
    log.touch("k").await.unwrap();
    log.touch("fixed").await.unwrap();
    drop(log);
    world.restart().await;

    world.pass(9);
    assert_eq!(keys(&world.log()).await, ["back", "k"]);
    world.pass(1);
    assert_eq!(keys(&world.log()).await, ["back"]);
    let error = world.log().touch("k").await.unwrap_err();
    assert_eq!((error.kind(), error.fact("failed")), (ErrorKind::Conflict, Some("k exists")));
}

async fn the_past_a_rollback_and_a_fork_are_as_they_were_then(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    let log = world.log();
    log.commit(put("at", "1", world.inn(10))).await.unwrap();
    log.commit(put("slides", "1", sliding(10))).await.unwrap();
    world.pass(20);
    log.put("late", json("1")).await.unwrap();
    drop(log);
    world.restart().await;

    let log = world.log();
    let shown = async |at| log.state_at(at).await.unwrap().len();
    assert_eq!((shown(At::Version(Version(2))).await, shown(At::Head).await), (2, 1));
    log.fork(&id("s-2"), At::Version(Version(2))).await.unwrap();
    log.rollback(At::Version(Version(2))).await.unwrap().unwrap();
    for log in [world.log(), world.store().log(id("s-2"))] {
        assert_eq!(keys(&log).await, ["slides"]);
        assert_eq!(log.document("slides").await.unwrap().unwrap().expiry, Some(sliding(10)));
    }
    world.pass(30);
    world.maintained().await;
    assert_eq!(world.notes().await, 0);
}

async fn a_trim_keeps_when_documents_and_the_log_expire(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    let log = world.log();
    log.expire_log(sliding(60)).await.unwrap();
    log.commit(put("at", "1", world.inn(10))).await.unwrap();
    log.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
    log.put("plain", json("1")).await.unwrap();
    world.pass(5);
    // That is no use of the log.
    let keep = Keep { commits: Some(1), ..Keep::default() };
    log.trim(&Trim { keep, ..Trim::default() }).await.unwrap();
    assert!(log.head().await.unwrap().unwrap().boundary >= Version(3));
    drop(log);
    world.restart().await;

    assert_eq!(world.log().state().await.unwrap().expiry(), Some(sliding(60)));
    assert_eq!(keys(&world.log()).await, ["at", "pinned", "plain"]);
    world.pass(5);
    assert_eq!(keys(&world.log()).await, ["pinned", "plain"]);
    world.pass(50);
    assert_eq!(keys(&world.log()).await, ["pinned"]);
}

async fn a_watch_tells_that_a_document_has_expired(scheme: &'static str) {
    let world = World::new(scheme).await;
    let log = world.log();
    log.commit(put("k", "1", world.inn(10))).await.unwrap();
    let mut watch = log.watch("k");
    assert!(matches!(watch.next().await.unwrap(), Watched::Is(_, Some(_))));
    assert!(matches!(watch.next().await.unwrap(), Watched::CaughtUp(_)));

    world.pass(10);

    assert_eq!(watch.next().await.unwrap(), Watched::Is(Version(1), None));
}

async fn a_log_that_has_expired_begins_anew_if_it_is_used(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    for (key, expiry, left) in [("at", world.inn(10), None), ("slides", sliding(10), Some(sliding(10)))] {
        let writer = world.readers().remove(3).log(id(key));
        writer.put("k", json("1")).await.unwrap();
        writer.commit(put("pinned", "1", Expiry::Pinned)).await.unwrap();
        writer.expire_log(expiry).await.unwrap();
        if left.is_some() {
            go_on(&writer, "other").await;
        }
        drop(writer);
        world.pass(10);
        world.restart().await;
        for reader in world.readers() {
            assert_eq!(keys(&reader.log(id(key))).await, ["pinned"], "{expiry:?}");
        }

        world.store().log(id(key)).merge("k", Merge::add(&1).unwrap()).await.unwrap();

        for reader in world.readers() {
            let log = reader.log(id(key));
            assert_eq!(keys(&log).await, ["k", "pinned"], "{expiry:?}");
            assert_eq!(&log.document("k").await.unwrap().unwrap().json[..], b"1");
            assert_eq!(log.state().await.unwrap().expiry(), left);
            assert!(log.replay(|_| ()).await.unwrap().is_same);
        }
    }
}

async fn maintenance_removes_what_is_due_behind_a_restart(scheme: &'static str) {
    let mut world = World::new(scheme).await;
    let log = |world: &World, key: &str| world.store().log(id(key));
    log(&world, "docs").commit(put("at", "1", world.inn(10))).await.unwrap();
    log(&world, "docs").put("stays", json("1")).await.unwrap();
    for key in ["ends", "held"] {
        log(&world, key).put("k", json("1")).await.unwrap();
        log(&world, key).expire_log(sliding(10)).await.unwrap();
    }
    let pinned = put("p", "1", Expiry::Pinned).put("k", json("1")).expire_log(world.inn(10));
    log(&world, "pinned").commit(pinned).await.unwrap();
    let hold = Hold { on: On::Log(id("held")), from: None, until: None, reason: String::new() };
    world.store().retention().unwrap().hold("h", &hold).await.unwrap();
    world.pass(20);
    world.restart().await;

    let done = world.maintained().await;

    assert_eq!((done.expired_documents, done.expired_logs, done.held), (2, 1, 1));
    world.restart().await;
    assert_eq!(keys(&log(&world, "docs")).await, ["stays"]);
    assert_eq!(keys(&log(&world, "pinned")).await, ["p"]);
    assert_eq!(log(&world, "ends").state().await.unwrap_err().kind(), ErrorKind::NotFound);
    let done = world.maintained().await;
    assert_eq!((done.expired_documents, done.expired_logs, done.held), (0, 0, 0), "once");
    world.store().retention().unwrap().release("h").await.unwrap();
    world.pass(80);
    assert_eq!((world.maintained().await.expired_logs, world.notes().await), (1, 1));
}

async fn a_copy_is_noted_where_it_is_copied_to(scheme: &'static str) {
    let (from, to) = (World::new("memory").await, World::new(scheme).await);
    from.log().commit(put("k", "1", from.inn(10))).await.unwrap();
    icecore::copy(&from.store(), &to.store(), &LogPrefix::all(), |_| ()).await.unwrap();

    for _ in 0..4 {
        to.pass(10);
        to.maintained().await;
    }

    assert_eq!(to.log().head().await.unwrap().unwrap().version, Version(2), "it was removed there");
}

/// Each case on each system.
macro_rules! on_each {
    ($($case:ident,)*) => {
        on_each!(memory: $($case,)*);
        on_each!(file: $($case,)*);
        on_each!(sqlite: $($case,)*);
    };
    ($system:ident: $($case:ident,)*) => {
        mod $system {
            $(#[tokio::test]
            async fn $case() {
                super::$case(stringify!($system)).await;
            })*
        }
    };
}

on_each! {
    what_is_due_is_absent_in_every_read_path,
    a_change_of_what_has_expired_begins_from_nothing,
    what_is_renewed_and_taken_back_stays_behind_a_restart,
    the_past_a_rollback_and_a_fork_are_as_they_were_then,
    a_trim_keeps_when_documents_and_the_log_expire,
    a_watch_tells_that_a_document_has_expired,
    a_log_that_has_expired_begins_anew_if_it_is_used,
    maintenance_removes_what_is_due_behind_a_restart,
    a_copy_is_noted_where_it_is_copied_to,
}
