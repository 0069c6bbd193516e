//! A bucket that stands between a store and a directory: it counts, loses, holds and refuses, as a plan says. And clocks that a test moves.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::{Access, Clock, Durability, LogId, Result, Timestamp};
use icecore_object::bucket::{Fault, FaultKind, Folders, Listed, Object};
use icecore_object::{Bucket, BucketStore, Clocks, Directory, Objects, Settings};
use tempfile::TempDir;
use tokio::sync::watch;

/// How long closed slots are kept, in these tests.
pub const GRACE: Duration = Duration::from_secs(60 * 60);
/// Half of it: whoever looked so long ago looks again.
pub const HALF: Duration = Duration::from_secs(30 * 60);
/// Less than anybody can measure.
pub const MOMENT: Duration = Duration::from_nanos(1);

/// A directory, and the time that passes in it.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    times: Arc<Mutex<Times>>,
}

/// How much time has passed, and how much had when each object was made.
#[derive(Debug, Default)]
struct Times {
    passed: Duration,
    made: HashMap<String, Duration>,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), times: Arc::default() }
    }

    /// A connection of its own to the bucket.
    pub fn bucket(&self) -> Arc<Between> {
        Arc::new(Between {
            inner: Directory::new(self.folder.path()).unwrap(),
            times: Arc::clone(&self.times),
            rules: Mutex::default(),
            calls: Mutex::default(),
            is_open: watch::Sender::new(false),
            held: watch::Sender::new(0),
            landed: watch::Sender::new(0),
        })
    }

    /// A store with a connection and clocks of its own.
    pub async fn handle(&self) -> Handle {
        self.handle_with(|_| {}).await
    }

    pub async fn handle_with(&self, set: impl FnOnce(&mut Settings)) -> Handle {
        let (bucket, hands) = (self.bucket(), Hands::default());
        let mut settings = settings();
        settings.clocks = hands.clocks();
        set(&mut settings);
        let store = Objects::open(Arc::clone(&bucket) as _, Access::ReadWrite, settings).await.unwrap();
        bucket.take();
        Handle { store: Arc::new(store), bucket, hands }
    }

    /// One that only reads, and knows nothing yet.
    pub async fn reader(&self) -> BucketStore {
        Objects::open(self.bucket(), Access::ReadOnly, settings()).await.unwrap()
    }

    /// The store's own clock goes on.
    pub fn passes(&self, time: Duration) {
        self.times.lock().unwrap().passed += time;
    }

    /// The file of an object whose name has no long segment.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether there is an object in this slot.
    pub fn has_slot(&self, log: &LogId, version: u64) -> bool {
        self.path(&slot(log, version)).exists()
    }

    /// The versions at which the objects of a log begin, in order.
    pub fn slots(&self, log: &LogId) -> Vec<u64> {
        self.numbers(log, "c")
    }

    /// The boundaries of a log, in order.
    pub fn boundaries(&self, log: &LogId) -> Vec<u64> {
        self.numbers(log, "b")
    }

    fn numbers(&self, log: &LogId, kind: &str) -> Vec<u64> {
        let name = slot(log, 0);
        let folder = self.path(name.rsplit_once('/').unwrap().0);
        let files = fs::read_dir(folder).into_iter().flatten();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let number =
            |name: String| Some(u64::MAX - u64::from_str_radix(name.strip_prefix(kind)?, 16).unwrap());
        let mut numbers: Vec<u64> = names.filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The name of a slot's object, as the format's specification says.
pub fn slot(log: &LogId, version: u64) -> String {
    format!("logs/{}/c{:016x}", log.as_str().replace('/', "!"), u64::MAX - version)
}

pub fn settings() -> Settings {
    Settings { grace: GRACE, ..Settings::new("directory", Durability::Disk) }
}

/// A store, what stands between it and the directory, and its clocks.
#[derive(Debug)]
pub struct Handle {
    pub store: Arc<BucketStore>,
    pub bucket: Arc<Between>,
    pub hands: Hands,
}

/// A writer's two clocks.
#[derive(Debug, Default)]
pub struct Hands {
    pub wall: Arc<Hand>,
    pub boot: Arc<Hand>,
}

impl Hands {
    fn clocks(&self) -> Clocks {
        Clocks { wall: Arc::clone(&self.wall) as _, boot: Arc::clone(&self.boot) as _ }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct Hand(AtomicI64);

impl Hand {
    pub fn moves(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    pub fn moves_back(&self, time: Duration) {
        self.0.fetch_sub(i64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    Replace,
    Get,
    List,
    Folders,
    Delete,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// It is not carried out, and nobody can tell.
    LoseRequest,
    /// It is carried out once it is released, even if its caller has gone.
    Hold,
    /// "There is one", or "it has changed", and nothing is done: what S3 says when two requests meet.
    Conflict,
    NotSent,
    Refused,
    /// Its condition is not looked at.
    Ignore,
    /// Of the objects to delete, the first half is deleted, and the answer is lost.
    Half,
}

/// What becomes of some requests.
#[derive(Debug, Clone)]
pub struct Rule {
    call: Call,
    twist: Twist,
    within: &'static str,
    skip: usize,
    times: usize,
}

impl Rule {
    /// Of all requests of this kind.
    pub fn new(call: Call, twist: Twist) -> Self {
        Self { call, twist, within: "", skip: 0, times: usize::MAX }
    }

    /// Only of those whose object's name holds this; behind a `/`, only in a log's folder: a probe's name may begin with any digit.
    pub fn within(self, within: &'static str) -> Self {
        Self { within, ..self }
    }

    fn is_of(&self, call: Call, name: &str) -> bool {
        let is_there = !self.within.starts_with('/') || name.starts_with("logs/");
        self.call == call && is_there && name.contains(self.within)
    }

    /// Not of the first so many.
    pub fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Of so many, and no more.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    pub call: Call,
    pub name: String,
    pub bytes: Bytes,
}

/// A [`Bucket`] that does to requests what its rules say, the first that fits.
#[derive(Debug)]
pub struct Between {
    inner: Directory,
    times: Arc<Mutex<Times>>,
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<Called>>,
    is_open: watch::Sender<bool>,
    held: watch::Sender<usize>,
    landed: watch::Sender<usize>,
}

impl Between {
    pub fn plan(&self, rule: Rule) {
        self.rules.lock().unwrap().push(rule);
    }

    /// Forgets every rule.
    pub fn be_honest(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// What was asked since the last time, in order.
    pub fn take(&self) -> Vec<Called> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Kinds of what was asked since the last time, in order.
    pub fn take_kinds(&self) -> Vec<Call> {
        self.take().into_iter().map(|called| called.call).collect()
    }

    /// How many requests of a kind there were since the last time.
    pub fn count(&self, call: Call) -> usize {
        self.calls.lock().unwrap().iter().filter(|called| called.call == call).count()
    }

    /// Waits until so many requests have been held.
    pub async fn has_held(&self, count: usize) {
        reaches(&self.held, count).await;
    }

    /// Lets what is held go on.
    pub fn release(&self) {
        self.is_open.send_replace(true);
    }

    /// Waits until so many of the requests that were held have been carried out.
    pub async fn has_landed(&self, count: usize) {
        reaches(&self.landed, count).await;
    }

    fn twist(&self, call: Call, name: &str, bytes: &Bytes) -> Option<Twist> {
        self.calls.lock().unwrap().push(Called { call, name: name.to_owned(), bytes: bytes.clone() });
        let mut rules = self.rules.lock().unwrap();
        for rule in rules.iter_mut().filter(|rule| rule.is_of(call, name)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.twist);
            }
        }
        None
    }

    /// Does to a request what was planned for it; `conflict` is the answer of one whose condition does not hold.
    async fn pass<T: Send + 'static>(
        &self,
        twist: Option<Twist>,
        conflict: Option<T>,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let fault = |kind| Err(Fault::new(kind, "as planned"));
        match (twist, conflict) {
            (Some(Twist::LoseAnswer), _) => {
                work.await?;
                fault(FaultKind::Lost)
            }
            (Some(Twist::LoseRequest), _) => fault(FaultKind::Lost),
            (Some(Twist::NotSent), _) => fault(FaultKind::NotSent),
            (Some(Twist::Refused), _) => fault(FaultKind::Refused),
            (Some(Twist::Conflict), Some(answer)) => Ok(answer),
            (Some(Twist::Hold), _) => {
                let (mut open, landed) = (self.is_open.subscribe(), self.landed.clone());
                let task = tokio::spawn(async move {
                    open.wait_for(|is_open| *is_open).await.map(drop).unwrap();
                    let answer = work.await;
                    landed.send_modify(|count| *count += 1);
                    answer
                });
                self.held.send_modify(|count| *count += 1);
                task.await.unwrap()
            }
            _ => work.await,
        }
    }
}

/// Waits for a count; a test whose request never comes fails instead of hanging.
async fn reaches(counter: &watch::Sender<usize>, count: usize) {
    let mut counter = counter.subscribe();
    let reached = counter.wait_for(|reached| *reached >= count);
    tokio::time::timeout(Duration::from_secs(30), reached).await.unwrap().unwrap();
}

#[async_trait]
impl Bucket for Between {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Fault> {
        let twist = self.twist(Call::Create, name, &bytes);
        let (inner, times, name) = (self.inner.clone(), Arc::clone(&self.times), name.to_owned());
        self.pass(twist, Some(false), async move {
            let mut is_made = inner.create(&name, bytes.clone()).await?;
            while twist == Some(Twist::Ignore) && !is_made {
                inner.delete(vec![name.clone()]).await?;
                is_made = inner.create(&name, bytes.clone()).await?;
            }
            if is_made {
                let mut times = times.lock().unwrap();
                let passed = times.passed;
                times.made.insert(name, passed);
            }
            Ok(is_made)
        })
        .await
    }

    async fn replace(&self, name: &str, bytes: Bytes, tag: &str) -> Result<bool, Fault> {
        let twist = self.twist(Call::Replace, name, &bytes);
        let (inner, name, mut tag) = (self.inner.clone(), name.to_owned(), tag.to_owned());
        self.pass(twist, Some(false), async move {
            if twist == Some(Twist::Ignore)
                && let Some(object) = inner.get(&name, None).await?
            {
                tag = object.tag;
            }
            inner.replace(&name, bytes, &tag).await
        })
        .await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Object>, Fault> {
        let twist = self.twist(Call::Get, name, &Bytes::new());
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.pass(twist, None, async move { inner.get(&name, range).await }).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Listed>, Fault> {
        let twist = self.twist(Call::List, prefix, &Bytes::new());
        let (inner, times) = (self.inner.clone(), Arc::clone(&self.times));
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.pass(twist, None, async move {
            let mut listed = inner.list(&prefix, after.as_deref(), max).await?;
            let times = times.lock().unwrap();
            for found in &mut listed {
                found.modified =
                    found.modified.after(times.made.get(&found.name).copied().unwrap_or_default());
            }
            Ok(listed)
        })
        .await
    }

    async fn folders(&self, prefix: &str, cursor: Option<&str>, max: usize) -> Result<Folders, Fault> {
        let twist = self.twist(Call::Folders, prefix, &Bytes::new());
        let (inner, prefix, cursor) = (self.inner.clone(), prefix.to_owned(), cursor.map(str::to_owned));
        self.pass(twist, None, async move { inner.folders(&prefix, cursor.as_deref(), max).await }).await
    }

    async fn delete(&self, mut names: Vec<String>) -> Result<(), Fault> {
        let all = names.join(" ");
        let twist = self.twist(Call::Delete, &all, &Bytes::new());
        let inner = self.inner.clone();
        if twist == Some(Twist::Half) {
            names.truncate(names.len() / 2);
            inner.delete(names).await?;
            return Err(Fault::new(FaultKind::Lost, "half of it"));
        }
        self.pass(twist, None, async move { inner.delete(names).await }).await
    }
}
