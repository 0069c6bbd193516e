//! Documents against a model that could not be simpler, and against everything that could break them.
//!
//! The seed of the generated sequences is printed; `ICECORE_SEED` runs it again, `ICECORE_LONG=1` runs fifty times as many.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "../support/mod.rs"]
mod support;

mod across;
mod fairness;
mod hostile;
mod model;

use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use icecore_embedded::Memory;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::codec::SealedEntry;
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Entry, EntryHeader, EntryId, ErrorKind, Event, Flags,
    Head, Header, LogId, LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, StoredCommit, Swept,
    Timestamp, Version,
};
use icecore_store::state::{At, Changes, Condition, Json, State};
use icecore_store::{Log, Settings, Store};
use model::{generated, of, rounds};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use support::*;

fn text(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

/// Adds one to a number; the number.
fn count(state: &State) -> Result<Changes> {
    let count: u64 = state.get("count").map_or(Ok(0), |document| document.read())?;
    Ok(Changes::new().put("count", Json::of(&(count + 1))?))
}

async fn counted(log: &Log) -> u64 {
    log.document("count").await.unwrap().map_or(0, |document| document.read().unwrap())
}

async fn memory() -> (Arc<dyn Backend>, ()) {
    (Arc::new(Memory::default()), ())
}

#[tokio::test]
async fn generated_sequences_over_two_stores_answer_as_the_model_does() {
    generated(rounds(120), false, memory).await;
}

#[tokio::test]
async fn generated_sequences_with_lost_answers_apply_each_change_once() {
    generated(rounds(30), true, memory).await;
}

#[tokio::test]
async fn generated_transactions_over_several_logs_answer_as_the_model_does() {
    across::generated(rounds(100), false, memory).await;
}

#[tokio::test]
async fn generated_transactions_over_several_logs_with_lost_answers_are_committed_once() {
    across::generated(rounds(30), true, memory).await;
}

// A backend that is slow, or shows something else than there is.

#[derive(Debug, Default)]
struct Bent {
    memory: Arc<Memory>,
    /// How long a create takes, and a look at a head, before it is carried out.
    create_pause: Duration,
    heads_pause: Duration,
    /// Every call gives way before and after.
    yields: bool,
    read_only: bool,
    /// One byte of the body of this commit reads as another.
    flipped: Mutex<Option<Version>>,
    /// What is there from now on.
    other: Mutex<Option<Arc<Memory>>>,
    /// How many commits were read with their bodies.
    read: AtomicUsize,
}

impl Bent {
    fn now(&self) -> Arc<Memory> {
        self.other.lock().unwrap().clone().unwrap_or_else(|| Arc::clone(&self.memory))
    }

    async fn give_way(&self) {
        if self.yields {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Backend for Bent {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_only: self.read_only, ..self.memory.capabilities() }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        if self.create_pause > Duration::ZERO {
            tokio::time::sleep(self.create_pause).await;
        }
        self.give_way().await;
        let created = self.now().create(runs, mode).await;
        self.give_way().await;
        created
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.give_way().await;
        let mut page = self.now().read(log, from, limit).await?;
        self.read.fetch_add(page.commits.len() * usize::from(limit.bodies), Ordering::SeqCst);
        let flipped = *self.flipped.lock().unwrap();
        for commit in page.commits.iter_mut().filter(|commit| Some(commit.version) == flipped) {
            if let Some(body) = &commit.body {
                let mut bytes = body.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                commit.body = Some(bytes.into());
            }
        }
        self.give_way().await;
        Ok(page)
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        if self.heads_pause > Duration::ZERO {
            tokio::time::sleep(self.heads_pause).await;
        }
        self.give_way().await;
        let heads = self.now().heads(logs).await;
        self.give_way().await;
        heads
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        self.now().logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.now().close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.now().sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.now().drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.now().wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        self.now().put_blob(blob, bytes).await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        self.now().get_blob(blob, range).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.now().list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.now().delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.now().examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.now().shut_down().await
    }
}

fn over(bent: Bent, append_timeout: Duration) -> (Arc<Bent>, Store) {
    let bent = Arc::new(bent);
    let mut settings = Settings::default();
    settings.append_timeout = append_timeout;
    let store = Store::builder(Arc::clone(&bent) as Arc<dyn Backend>).settings(settings).build();
    (bent, store)
}

const LONG: Duration = Duration::from_secs(20);

fn new() -> (Store, Log) {
    let (_, store) = over(Bent::default(), LONG);
    let log = log(&store);
    (store, log)
}

fn fork_of(log: &Log) -> LogId {
    LogId::new("acme", "fork", &log.id().key()).unwrap()
}

/// Appends a commit by hand, which no check of ours has seen.
async fn append_by_hand(log: &Log, events: Vec<Event>, flags: Flags, backend: &dyn Backend) {
    let head = backend.heads(std::slice::from_ref(log.id())).await.unwrap()[0].clone().unwrap();
    let last = Header::decode(head.header.clone()).unwrap();
    let (mut entries, mut body) = (Vec::new(), Bytes::new());
    if !events.is_empty() {
        let sealed = SealedEntry::seal(Entry { id: None, events }, [7; 16]).unwrap();
        body = sealed.bytes;
        let (events, frame) = (sealed.events, sealed.frame);
        entries.push(EntryHeader { id_tag: None, content_tag: None, events, frame });
    }
    let header = Header {
        version: head.version.next(),
        position: last.position + last.events(),
        previous: head.hash(),
        flags,
        preamble: None,
        entries,
        ..last
    };
    let commit = StoredCommit { version: header.version, header: header.encode(), body: Some(body) };
    let created = backend.create(vec![Run::one(log.id().clone(), head.hash(), commit)], Mode::Each).await;
    assert!(created[0].is_done(), "{created:?}");
}

fn document_event(kind: &str, key: &str, data: &str) -> Event {
    let kind = format!("icecore.document.{kind}");
    Event { meta: [("key".to_owned(), key.to_owned())].into(), ..Event::new(kind, data.to_owned()) }
}

// Large.
