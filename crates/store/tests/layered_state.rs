//! A state that is read from snapshots and what came behind them is the one that all commits make, whichever way it is asked for.
//!
//! Two logs get the same changes. One has a snapshot every three commits, and its documents are read in parts, whole, from memory or not, while its
//! snapshots are damaged and deleted; the other has no snapshots, and its state is folded from its commits.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{Backend, BlobId, Clock, ErrorKind, Hash, LogId, Mode, PageLimit, Run, Timestamp, Version};
use icecore_store::state::{At, Changes, Consistency, Expiry, Json, Merge, State};
use icecore_store::{Log, Settings, Store};
use proptest::prelude::*;
use support::{ManualClock, append_base};

const KEYS: [&str; 8] = ["a", "a/", "a/b", "a/bc", "b~c", "b~d", "\u{10FFFF}", "é\u{0}"];
const PREFIXES: [&str; 6] = ["", "a", "a/", "b", "\u{10FFFF}", "none"];

#[derive(Debug, Clone)]
enum Change {
    Put(usize, u32),
    /// Of so many turns, so that what differs is stored.
    PutLarge(usize, usize, u32),
    Patch(usize, u32),
    Delete(usize),
    /// Often into what is no number, or no list.
    Add(usize, usize, u32),
    Append(usize, usize),
    Union(usize, u32),
    Expire(usize, Option<Expiry>),
    Touch(usize),
    ExpireLog(Option<Expiry>),
}

/// Parts of the values.
const POINTERS: [&str; 5] = ["/n", "/m", "/n/x", "/turns", "/turns/1"];

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Rollback(prop::sample::Index),
    /// A base without documents.
    Base,
    /// What writes snapshots gets its turn.
    Land,
    Damage(prop::sample::Index, prop::sample::Index),
    Lose(prop::sample::Index),
    Read {
        store: usize,
        prefix: usize,
        size: usize,
    },
    ReadLate {
        store: usize,
        prefix: usize,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..KEYS.len();
    prop_oneof![
        3 => (key.clone(), 0..4_u32).prop_map(|(key, n)| Change::Put(key, n)),
        2 => (key.clone(), 4..9_usize, 0..3_u32).prop_map(|(key, turns, n)| Change::PutLarge(key, turns, n)),
        3 => (key.clone(), 0..4_u32).prop_map(|(key, n)| Change::Patch(key, n)),
        2 => key.clone().prop_map(Change::Delete),
        2 => (key.clone(), 0..POINTERS.len(), 0..4_u32).prop_map(|(key, part, n)| Change::Add(key, part, n)),
        2 => (key.clone(), 0..POINTERS.len()).prop_map(|(key, part)| Change::Append(key, part)),
        1 => (key, 0..4_u32).prop_map(|(key, n)| Change::Union(key, n)),
    ]
}

/// Never beside a merge, of which only one of the two may see that it changes nothing.
fn expiring() -> impl Strategy<Value = Change> {
    let key = 0..KEYS.len();
    prop_oneof![
        2 => (key.clone(), 0..4_u32).prop_map(|(key, n)| Change::Put(key, n)),
        4 => (key.clone(), expiry(12)).prop_map(|(key, expiry)| Change::Expire(key, expiry)),
        1 => key.prop_map(Change::Touch),
        1 => expiry(30).prop_map(|expiry| Change::ExpireLog(expiry.filter(|of| *of != Expiry::Pinned))),
    ]
}

/// In steps, each of which takes as long.
fn expiry(steps: i64) -> impl Strategy<Value = Option<Expiry>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Expiry::Pinned)),
        3 => (0..5 * steps).prop_map(|at| Some(Expiry::At(Timestamp(at * STEP)))),
        3 => (1..steps).prop_map(|span| Some(Expiry::Sliding(Duration::from_nanos((span * STEP) as u64)))),
    ]
}

/// How far the clock goes from step to step.
const STEP: i64 = 1_000;

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        20 => proptest::collection::vec(change(), 1..4).prop_map(Step::Commit),
        8 => proptest::collection::vec(expiring(), 1..4).prop_map(Step::Commit),
        1 => any().prop_map(Step::Rollback),
        1 => Just(Step::Base),
        6 => Just(Step::Land),
        1 => (any(), any()).prop_map(|(blob, byte)| Step::Damage(blob, byte)),
        1 => any().prop_map(Step::Lose),
        8 => (0..STORES, 0..PREFIXES.len(), 1..5_usize)
            .prop_map(|(store, prefix, size)| Step::Read { store, prefix, size }),
        2 => (0..STORES, 0..PREFIXES.len()).prop_map(|(store, prefix)| Step::ReadLate { store, prefix }),
    ]
}

fn changes(of: &[Change]) -> Changes {
    let json = |text: String| Json::text(text).unwrap();
    of.iter().fold(Changes::new(), |changes, change| match change {
        Change::Put(key, n) => changes.put(KEYS[*key], json(format!(r#"{{"n": {n}.0}}"#))),
        Change::PutLarge(key, turns, n) => {
            let turns: Vec<_> =
                (0..*turns).map(|turn| format!(r#""{}""#, format!("{turn} ").repeat(500))).collect();
            changes.put(KEYS[*key], json(format!(r#"{{"n":{n},"turns":[{}]}}"#, turns.join(","))))
        }
        Change::Patch(key, 0) => changes.patch(KEYS[*key], json(r#"{"n":null}"#.into())),
        Change::Patch(key, n) => changes.patch(KEYS[*key], json(format!(r#"{{"m":{n},"n":{{"x":1}}}}"#))),
        Change::Delete(key) => changes.delete(KEYS[*key]),
        Change::Add(key, part, n) => {
            changes.merge(KEYS[*key], Merge::add(n).unwrap().pointer(POINTERS[*part]))
        }
        Change::Append(key, part) => {
            let turn = Merge::append(&["a turn ".repeat(20)]).unwrap();
            changes.merge(KEYS[*key], turn.pointer(POINTERS[*part]))
        }
        Change::Union(key, n) => changes.merge(KEYS[*key], Merge::union(&[n]).unwrap().pointer("/turns")),
        Change::Expire(key, expiry) => changes.expire(KEYS[*key], *expiry),
        Change::Touch(key) => changes.touch(KEYS[*key]),
        Change::ExpireLog(expiry) => changes.expire_log(*expiry),
    })
}

/// How many stores look at the log with snapshots.
const STORES: usize = 4;

/// What can be told of a document, but when it was committed.
type Told = BTreeMap<String, (Bytes, Version, Option<Expiry>)>;

fn told<'a>(documents: impl IntoIterator<Item = (&'a str, &'a icecore_store::state::Document)>) -> Told {
    documents
        .into_iter()
        .map(|(key, found)| (key.to_owned(), (found.json.clone(), found.version, found.expiry)))
        .collect()
}

struct Pair {
    layered: Arc<dyn Backend>,
    /// Kept, as by processes that live long.
    stores: Vec<Store>,
    plain: Arc<dyn Backend>,
    plain_store: Store,
    clock: Arc<ManualClock>,
}

fn id() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

fn build(backend: &Arc<dyn Backend>, clock: &Arc<ManualClock>, change: impl FnOnce(&mut Settings)) -> Store {
    let mut settings = Settings::default();
    change(&mut settings);
    Store::builder(Arc::clone(backend)).settings(settings).clock(Arc::clone(clock) as Arc<_>).build()
}

/// Commits, also what is seen to change nothing: one of the two may see it, and the other not.
async fn commit(log: &Log, changes: Changes) -> Version {
    match log.commit(changes.clone()).await {
        Err(error) if error.kind() == ErrorKind::Conflict => {
            log.append(changes.entry()).await.unwrap().version
        }
        done => done.unwrap().unwrap().version,
    }
}

impl Pair {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let (layered, plain): (Arc<dyn Backend>, Arc<dyn Backend>) =
            (Arc::new(Memory::default()), Arc::new(Memory::default()));
        let stores = (0..STORES).map(|number| Self::store(&layered, &clock, number)).collect();
        let plain_store = build(&plain, &clock, |settings| {
            (settings.snapshot_commits, settings.snapshot_bytes) = (u64::MAX, u64::MAX);
        });
        Self { layered, stores, plain, plain_store, clock }
    }

    /// In parts or whole, and kept in memory or not.
    fn store(backend: &Arc<dyn Backend>, clock: &Arc<ManualClock>, number: usize) -> Store {
        build(backend, clock, |settings| {
            (settings.snapshot_commits, settings.snapshot_bytes) = (3, if number < 2 { 1 } else { 20_000 });
            settings.whole_state_bytes_max = if number == 3 { 1 << 20 } else { 0 };
            settings.state_bytes_max = if number == 1 { 0 } else { 1 << 30 };
        })
    }

    fn log(&self, store: usize) -> Log {
        self.stores[store].log(id())
    }

    fn plain(&self) -> Log {
        self.plain_store.log(id())
    }

    async fn expected(&self) -> Arc<State> {
        self.plain().state().await.unwrap()
    }

    /// With a document of so many bytes that do not compress: a snapshot that has it stays below smaller ones.
    async fn begin(&self, bytes: usize) {
        let text = noise(bytes);
        let large = Changes::new().put("0", Json::of(&text).unwrap());
        self.log(0).commit(large.clone()).await.unwrap();
        self.plain().commit(large).await.unwrap();
    }

    async fn step(&self, number: usize, step: &Step) {
        self.clock.set(number as i64 * STEP);
        // Each writes as the one that it is.
        let (log, plain) = (self.log(number % STORES), self.plain());
        match step {
            Step::Commit(of) => {
                let (layered, plain) = (commit(&log, changes(of)).await, commit(&plain, changes(of)).await);
                assert_eq!(layered, plain);
            }
            Step::Rollback(to) => {
                let Some(head) = plain.head().await.unwrap() else { return };
                let to = At::Version(Version(to.index(head.version.0 as usize + 1) as u64));
                let (layered, plain) = (log.rollback(to).await.unwrap(), plain.rollback(to).await.unwrap());
                assert_eq!(layered.map(|done| done.version), plain.map(|done| done.version));
            }
            Step::Base => {
                if plain.head().await.unwrap().is_some() {
                    append_base(&log, &self.layered).await;
                    append_base(&plain, &self.plain).await;
                }
            }
            Step::Land => {
                for _ in 0..200 {
                    tokio::task::yield_now().await;
                }
            }
            Step::Damage(blob, byte) => self.damage(*blob, Some(*byte)).await,
            Step::Lose(blob) => self.damage(*blob, None).await,
            Step::Read { store, prefix, size } => {
                self.read(&self.log(*store), PREFIXES[*prefix], *size).await;
            }
            Step::ReadLate { store, prefix } => self.read_late(&self.log(*store), PREFIXES[*prefix]).await,
        }
    }

    /// Flips a byte of a snapshot, or deletes a part of one.
    async fn damage(&self, blob: prop::sample::Index, byte: Option<prop::sample::Index>) {
        let blobs = self.layered.list_blobs(&id(), "snap-").await.unwrap();
        if blobs.is_empty() {
            return;
        }
        let blob = BlobId::new(id(), &blobs[blob.index(blobs.len())].name).unwrap();
        let mut bytes = self.layered.get_blob(&blob, None).await.unwrap().unwrap().to_vec();
        self.layered.delete_blob(&blob).await.unwrap();
        if let Some(byte) = byte {
            let at = byte.index(bytes.len());
            bytes[at] ^= 0x10;
            self.layered.put_blob(&blob, bytes.into()).await.unwrap();
        }
    }

    /// Every page, every document.
    async fn read(&self, log: &Log, prefix: &str, size: usize) {
        let expected = self.expected().await;
        let (mut found, mut after) = (Told::new(), None::<String>);
        loop {
            let page = log.documents(prefix, after.as_deref(), size).await.unwrap();
            assert_eq!(page.version, expected.version);
            assert!(page.documents.len() == size || !page.has_more);
            found.extend(told(page.documents.iter().map(|(key, found)| (&**key, found))));
            if !page.has_more {
                break;
            }
            after = page.documents.last().map(|(key, _)| key.clone());
        }
        assert_eq!(found, told(expected.documents(prefix)));
        for key in KEYS {
            let found = log.document(key).await.unwrap();
            assert_eq!(
                told(found.as_ref().map(|found| (key, found))),
                told(expected.get(key).map(|found| (key, found)))
            );
        }
    }

    /// What is in memory may be of earlier, but is then what was so.
    async fn read_late(&self, log: &Log, prefix: &str) {
        let head = self.expected().await.version;
        let log = log.with(Consistency::Eventual);
        let page = log.documents(prefix, None, 100).await.unwrap();
        assert!(page.version <= head && !page.has_more);
        let expected = self.plain().state_at(At::Version(page.version)).await.unwrap();
        let found = told(page.documents.iter().map(|(key, found)| (&**key, found)));
        // Of what was there then, what has not expired since.
        let now = self.clock.now();
        let is_left = |found: &icecore_store::state::Document| {
            let is_before = |due: Option<Timestamp>| due.is_none_or(|due| now < due);
            found.expiry == Some(Expiry::Pinned) || is_before(found.due()) && is_before(expected.due())
        };
        assert_eq!(found, told(expected.documents(prefix).filter(|(_, found)| is_left(found))));
    }

    /// The whole state of every store and of new ones, with the order in which the documents came; and as it was.
    async fn compare(&self) {
        let expected = self.expected().await;
        for number in 0..2 * STORES {
            let log = match self.stores.get(number) {
                Some(store) => store.log(id()),
                None => Self::store(&self.layered, &self.clock, number - STORES).log(id()),
            };
            self.read(&log, "", 3).await;
            let state = log.state().await.unwrap();
            let order =
                |state: &State| state.in_order().iter().map(|(key, _)| (*key).to_owned()).collect::<Vec<_>>();
            assert_eq!(order(&state), order(&expected));
            assert_eq!((state.version, state.at), (expected.version, expected.at));
            assert_eq!(told(state.documents("")), told(expected.documents("")));
            let back = At::Version(Version(expected.version.0 / 2));
            let (was, expected) =
                (log.state_at(back).await.unwrap(), self.plain().state_at(back).await.unwrap());
            assert_eq!(order(&was), order(&expected));
            assert_eq!(told(was.documents("")), told(expected.documents("")));
        }
    }
}

fn cases() -> u32 {
    if std::env::var_os("ICECORE_LONG").is_some() { 5_000 } else { 150 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_way_to_read_a_state_says_what_its_commits_make(
        large in prop::sample::select(vec![100, 10_000, 60_000]),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let pair = Pair::new();
            pair.begin(large).await;
            for (number, step) in steps.iter().enumerate() {
                pair.step(number, step).await;
            }
            pair.compare().await;
        });
    }
}

/// A fail-over lost the end of a log, and a snapshot of what was lost stayed. One that was made since goes on at the same version, but not from there.
#[tokio::test]
async fn a_snapshot_of_a_lost_history_is_not_read_below_one_of_ours() {
    let clock = Arc::new(ManualClock::default());
    let open = |commits| {
        let backend: Arc<dyn Backend> = Arc::new(Memory::default());
        let store = build(&backend, &clock, |settings| {
            (settings.snapshot_commits, settings.snapshot_bytes) = (commits, 1 << 30);
        });
        (backend, store.log(id()))
    };
    let ((ours, log), (lost, lost_log)) = (open(3), open(2));
    let put =
        async |log: &Log, key: &str, text: &str| drop(log.put(key, Json::of(text).unwrap()).await.unwrap());
    put(&log, "0", &noise(20_000)).await;
    let commits = ours.read(&id(), Version(1), PageLimit::WHOLE).await.unwrap().commits;
    let run = Run::one(id(), Hash::ZERO, commits[0].clone());
    assert!(lost.create(vec![run], Mode::Each).await[0].is_done());
    for (log, text) in [(&log, "kept"), (&lost_log, "lost")] {
        put(log, "a", text).await;
        put(log, "b", text).await;
    }
    let (of_ours, of_lost) = (snapshot(&*ours, 0, 3).await, snapshot(&*lost, 0, 3).await);
    for key in ["a/", "b", "c"] {
        put(&log, key, "later").await;
    }
    snapshot(&*ours, 3, 6).await;

    ours.delete_blob(&of_ours).await.unwrap();
    let bytes = lost.get_blob(&of_lost, None).await.unwrap().unwrap();
    ours.put_blob(&of_lost, bytes).await.unwrap();

    for whole_state_bytes_max in [0, 1 << 20] {
        let store = build(&ours, &clock, |settings| settings.whole_state_bytes_max = whole_state_bytes_max);
        let log = store.log(id());
        let page = log.documents("a", None, 10).await.unwrap();
        let found: Vec<_> = page.documents.iter().map(|(key, found)| (&**key, &*found.json)).collect();
        assert_eq!(found, [("a", &b"\"kept\""[..]), ("a/", b"\"later\"")]);
        assert_eq!(log.document("a").await.unwrap().unwrap().json, "\"kept\"");
        assert_eq!(log.state().await.unwrap().get("a").unwrap().json, "\"kept\"");
    }
}

/// The blob of a snapshot of one part, once it is written.
async fn snapshot(backend: &dyn Backend, from: u64, to: u64) -> BlobId {
    let span = format!("-{from:016x}-{to:016x}-");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        let blobs = backend.list_blobs(&id(), "snap-").await.unwrap();
        if let Some(blob) = blobs.iter().find(|blob| blob.name.contains(&span)) {
            assert!(blob.name.contains("-0000z-"), "{}", blob.name);
            return BlobId::new(id(), &blob.name).unwrap();
        }
    }
    unreachable!("there is no snapshot from {from} to {to}");
}

/// Text that does not compress to less than a half.
fn noise(bytes: usize) -> String {
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    let mut text = String::new();
    while text.len() < bytes {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{:08x}", noise >> 32);
    }
    text
}
