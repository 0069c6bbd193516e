//! A page, or one document, of a large state reads no more, and takes no more memory, than of one ten times as large.
//!
//! 60,000 documents; a million with `ICECORE_LONG=1`. What is read and what is allocated is counted, so there is one test in this file.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Head, LogId, LogPage, LogPrefix, Mode, Page, PageLimit,
    Result, Run, StoredCommit, Swept, Version,
};
use icecore_store::state::{Changes, Json};
use icecore_store::{Log, Store};
use tokio::runtime::{self, Runtime};

/// What a page or a document may read, from commits and blobs together.
const READ_BYTES_MAX: u64 = 3 << 19;
/// By how much a page may raise the peak of memory.
const PEAK_BYTES_MAX: usize = 16 << 20;
const PAGE: usize = 50;
const PUTS: usize = 1_000;

/// Counts what is allocated, and its peak, in all threads.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Counts the bytes of commits and blobs that are read, and gives copies of them: what is read takes memory, as it would from anywhere
/// else.
#[derive(Debug, Default)]
struct Counted {
    memory: Arc<Memory>,
    bytes: AtomicU64,
}

#[async_trait]
impl Backend for Counted {
    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let mut page = self.memory.read(log, from, limit).await?;
        let bytes: usize = page.commits.iter().map(StoredCommit::len).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        for commit in &mut page.commits {
            commit.header = Bytes::copy_from_slice(&commit.header);
            commit.body = commit.body.as_deref().map(Bytes::copy_from_slice);
        }
        Ok(page)
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let found = self.memory.get_blob(blob, range).await?;
        self.bytes.fetch_add(found.as_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        Ok(found.as_deref().map(Bytes::copy_from_slice))
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        self.memory.create(runs, mode).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.memory.heads(logs).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.memory.logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.memory.close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.memory.sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.memory.drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.memory.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.memory.put_blob(blob, bytes).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.memory.list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.memory.delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.memory.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.memory.shut_down().await
    }
}

/// What a look at a state cost.
#[derive(Debug)]
struct Cost {
    read: u64,
    peak: usize,
}

/// What must be in the log.
type Model = BTreeMap<String, String>;

/// A log, the memory that it is in, and what must be in it. What is written goes into the model too.
struct World {
    memory: Arc<Memory>,
    model: Model,
    /// Of the values, so that no two are alike and they do not compress to nothing.
    noise: u64,
}

fn id() -> LogId {
    LogId::new("acme", "session", "large").unwrap()
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn is_long() -> bool {
    std::env::var_os("ICECORE_LONG").is_some()
}

impl World {
    fn key(number: usize) -> String {
        format!("doc/{number:08}")
    }

    /// About 150 bytes.
    fn value(&mut self) -> String {
        let mut words = String::new();
        for _ in 0..8 {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            words += &format!("{:016x}", self.noise);
        }
        format!(r#"{{"n":0,"text":"{words}"}}"#)
    }

    fn put(&mut self, changes: Changes, key: String) -> Changes {
        let value = self.value();
        let changes = changes.put(key.clone(), json(&value));
        self.model.insert(key, value);
        changes
    }

    /// Many documents in few commits; then few in many, until there is a snapshot behind them.
    async fn fill(&mut self, count: usize) {
        let log = Store::new(Arc::clone(&self.memory) as Arc<dyn Backend>).log(id());
        for first in (0..count).step_by(PUTS) {
            let changes = (first..count.min(first + PUTS))
                .fold(Changes::new(), |changes, number| self.put(changes, Self::key(number)));
            log.commit(changes).await.unwrap();
        }
        let filled = log.head().await.unwrap().unwrap().version;
        for number in 0.. {
            let changes = self.put(Changes::new(), Self::key(number * 7_919 % count));
            log.commit(changes).await.unwrap();
            if self.snapshots_reach().await >= filled {
                break;
            }
            assert!(number < 2_000, "no snapshot was written");
            tokio::time::sleep(Duration::from_millis(if number < 260 { 0 } else { 20 })).await;
        }
    }

    /// Puts, patches and deletes, of documents that were there and of others.
    async fn change(&mut self, count: usize) {
        let before = self.snapshots_reach().await;
        let log = Store::new(Arc::clone(&self.memory) as Arc<dyn Backend>).log(id());
        for number in [0, 2, 5, count / 3 + 1, count / 2 + 3, count - 1] {
            let key = Self::key(number);
            let changes = self.put(Changes::new(), format!("{key}x"));
            log.commit(changes).await.unwrap();
            let key = Self::key(number + 1);
            if let Some(value) = self.model.get_mut(&key) {
                *value = value.replace(r#""n":0"#, r#""n":17"#);
                log.patch(&key, json(r#"{"n":17}"#)).await.unwrap();
            }
            let key = Self::key(number);
            self.model.remove(&key);
            log.delete(&key).await.unwrap();
        }
        // Deleted, and put again.
        let key = Self::key(2);
        let changes = self.put(Changes::new(), key);
        log.commit(changes).await.unwrap();
        assert_eq!(self.snapshots_reach().await, before, "all of that is behind the last snapshot");
    }

    /// The version that the last snapshot comes to.
    async fn snapshots_reach(&self) -> Version {
        let blobs = self.memory.list_blobs(&id(), "snap-").await.unwrap();
        // snap-<incarnation>-<from>-<to>-<kind and tag>-<part and whether it is the last>-<bytes>
        let to = blobs.iter().filter(|blob| blob.name.contains("z-")).map(|blob| {
            let to = blob.name.split('-').nth(3).unwrap();
            Version(u64::from_str_radix(to, 16).unwrap())
        });
        to.max().unwrap_or(Version::ZERO)
    }

    /// What one look costs that knows nothing yet: with a store and a runtime of its own.
    fn cost(&self, look: impl AsyncFnOnce(&Log)) -> Cost {
        let counted = Arc::new(Counted { memory: Arc::clone(&self.memory), ..Counted::default() });
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);

        runtime().block_on(look(&Store::new(Arc::clone(&counted) as Arc<dyn Backend>).log(id())));

        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        Cost { read: counted.bytes.load(Ordering::Relaxed), peak }
    }

    /// One page, and what it must be.
    fn page(&self, prefix: &str, after: Option<&str>) -> Cost {
        let from =
            after.filter(|after| *after >= prefix).map_or(prefix.to_owned(), |after| format!("{after}\0"));
        let mut left = self.model.range(from..).take_while(|(key, _)| key.starts_with(prefix));
        let expected: Vec<_> = left.by_ref().take(PAGE).collect();
        let has_more = left.next().is_some();
        let cost = self.cost(async |log| {
            let page = log.documents(prefix, after, PAGE).await.unwrap();
            assert_eq!(page.has_more, has_more, "behind {after:?}");
            let found = page.documents.iter().map(|(key, found)| (&**key, &*found.json));
            assert!(
                found.eq(expected.iter().map(|(key, value)| (&***key, value.as_bytes()))),
                "behind {after:?}"
            );
        });
        assert!(
            cost.read <= READ_BYTES_MAX && cost.peak <= PEAK_BYTES_MAX,
            "a page behind {after:?}: {cost:?}"
        );
        cost
    }

    /// One document, and what it must be.
    fn document(&self, key: &str) -> Cost {
        let expected = self.model.get(key);
        let cost = self.cost(async |log| {
            let found = log.document(key).await.unwrap();
            assert_eq!(
                found.as_ref().map(|found| &*found.json),
                expected.map(|value| value.as_bytes()),
                "{key}"
            );
        });
        assert!(cost.read <= READ_BYTES_MAX && cost.peak <= PEAK_BYTES_MAX, "{key}: {cost:?}");
        cost
    }

    /// Looks at the beginning, the end, and some places between.
    fn look(&self, count: usize, when: &str) {
        let mut most = Cost { read: 0, peak: 0 };
        let mut note =
            |cost: Cost| most = Cost { read: most.read.max(cost.read), peak: most.peak.max(cost.peak) };
        for number in [0, 1, count / 3, count / 2, count - PAGE - 1, count - 2, count - 1] {
            let key = Self::key(number);
            note(self.page("", Some(&key)));
            note(self.document(&key));
            note(self.document(&format!("{key}x")));
        }
        for prefix in ["", "doc/", "doc/00000", "none"] {
            note(self.page(prefix, None));
        }
        println!("{when}: at most {most:?}");
    }
}

#[test]
fn a_page_of_a_large_state_costs_what_one_of_a_small_state_does() {
    let count = if is_long() { 1_000_000 } else { 60_000 };
    let mut world = World { memory: Arc::default(), model: Model::new(), noise: 0x9E37_79B9_7F4A_7C15 };
    let writing = runtime();
    // Nobody writes while it is counted: what the runtime of the writers was doing ends with it.
    writing.block_on(world.fill(count));
    drop(writing);
    world.look(count, "behind a snapshot");

    // Behind the last snapshot, at the edges of pages and between them.
    runtime().block_on(world.change(count));
    world.look(count, "with changes behind it");

    // The bounds are not kept by chance: reading all breaks both.
    let whole = world.cost(async |log| {
        let state = log.state().await.unwrap();
        let found = state.documents("").map(|(key, document)| (key, &*document.json));
        assert!(found.eq(world.model.iter().map(|(key, value)| (&**key, value.as_bytes()))));
    });
    println!("all of it: {whole:?}");
    assert!(whole.read > READ_BYTES_MAX && whole.peak > PEAK_BYTES_MAX, "{whole:?}");
}
