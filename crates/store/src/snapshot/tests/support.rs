//! Snapshots to write, stores to write them in, and a backend that counts what is read of it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor as Listing, Error, ErrorKind, Hash, Head, Incarnation,
    LogId, LogPage, LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Timestamp, Version,
};
use proptest::prelude::*;

use crate::snapshot::{Content, Meta, Place, Record, Snapshot, SnapshotInfo, Writer};
use crate::state::expiry::{Expiry, Life};
use crate::{Inner, Store};

pub const INCARNATION: Incarnation = Incarnation([0xAB; 16]);

pub type Model = BTreeMap<String, Content>;

pub fn log() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

pub fn meta() -> Meta {
    Meta {
        hash: Hash([7; 32]),
        previous: Hash([8; 32]),
        position: 12,
        at: Timestamp(-3),
        name_tag: [9; 16],
        log_bytes: 1_000,
        records: 0,
        life: Life::default(),
    }
}

pub fn value(json: impl Into<Bytes>, version: u64, place: u64) -> Content {
    Content::Value {
        json: json.into(),
        version: Version(version),
        at: Timestamp(version as i64 * 10),
        place: Place { version: place, index: 3 },
        expiry: None,
        is_anew: false,
    }
}

pub fn record(key: &str, content: Content) -> Record {
    Record { key: key.into(), content }
}

/// Any content that a snapshot of these versions may have.
pub fn any_content(from: u64, to: u64) -> BoxedStrategy<Content> {
    let json = prop_oneof![
        "[a-c]{0,40}".prop_map(Bytes::from),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        (1_usize..4_000).prop_map(|length| Bytes::from("j".repeat(length))),
    ];
    let expiry = prop_oneof![
        4 => Just(None),
        1 => any::<i64>().prop_map(|time| Some(Expiry::At(Timestamp(time)))),
        1 => (1..u64::from(u32::MAX)).prop_map(|span| Some(Expiry::Sliding(Duration::from_nanos(span)))),
        1 => Just(Some(Expiry::Pinned)),
    ];
    let value = (json, from + 1..=to, any::<i64>(), 0.0..=1.0, any::<u32>(), any::<bool>(), expiry);
    let value = value.prop_map(move |(json, version, at, share, index, is_anew, expiry)| Content::Value {
        json,
        version: Version(version),
        at: Timestamp(at),
        place: Place { version: (version as f64 * share) as u64, index },
        expiry,
        is_anew: is_anew && from > 0,
    });
    if from == 0 { value.boxed() } else { prop_oneof![4 => value, 1 => Just(Content::Deleted)].boxed() }
}

pub fn any_model(from: u64, to: u64) -> impl Strategy<Value = Model> {
    let key = prop_oneof!["[ab]{0,4}", ".{0,12}", "k{1,300}"];
    proptest::collection::btree_map(key, any_content(from, to), 0..60)
}

pub fn records(model: &Model) -> Vec<Record> {
    model.iter().map(|(key, content)| record(key, content.clone())).collect()
}

/// Writes a snapshot in blocks and parts of these sizes.
pub async fn write(inner: &Inner, span: (u64, u64), model: &Model, sizes: (usize, usize)) -> SnapshotInfo {
    let (from, to) = (Version(span.0), Version(span.1));
    let mut writer =
        Writer::new(inner, &log(), INCARNATION, from, to, false).unwrap().sizes(sizes.0, sizes.1);
    for record in records(model) {
        writer.push(record).await.unwrap();
    }
    writer.finish(meta()).await.unwrap()
}

pub async fn open(inner: &Inner, info: &SnapshotInfo) -> Snapshot {
    Snapshot::open(inner, &log(), info.clone()).await.unwrap().unwrap()
}

/// Everything from a key on.
pub async fn read_from(inner: &Inner, snapshot: &Snapshot, first: Bound<&str>) -> Result<Vec<Record>> {
    let mut cursor = snapshot.cursor(first);
    let mut found = Vec::new();
    while let Some(record) = cursor.next(&*inner.backend).await? {
        found.push(record);
    }
    Ok(found)
}

pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What becomes of a blob that is put.
#[derive(Debug)]
pub enum Put {
    Done,
    Fails,
    /// Two requests carry it, and the second answers.
    SentTwice,
    /// Another process has put other bytes under that name.
    Taken,
}

/// Counts requests and bytes of blobs that are read, and puts them as planned.
#[derive(Debug, Default)]
pub struct Counted {
    inner: Memory,
    requests: AtomicU64,
    bytes: AtomicU64,
    puts: Mutex<VecDeque<Put>>,
}

impl Counted {
    pub fn store() -> (Arc<Self>, Store) {
        let counted = Arc::new(Self::default());
        (Arc::clone(&counted), Store::new(counted))
    }

    /// What becomes of the next blobs.
    pub fn plan(&self, puts: impl IntoIterator<Item = Put>) {
        self.puts.lock().unwrap().extend(puts);
    }

    /// Requests and bytes since the last look.
    pub fn take(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl Backend for Counted {
    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let found = self.inner.get_blob(blob, range).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(found.as_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        Ok(found)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        self.inner.create(runs, mode).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        self.inner.read(log, from, limit).await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        self.inner.heads(logs).await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Listing>, limit: usize) -> Result<LogPage> {
        self.inner.logs(prefix, cursor, limit).await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        self.inner.close(log, through).await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        self.inner.sweep(log).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        self.inner.drop_bodies(log, versions).await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        self.inner.wait(seen, timeout).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let planned = self.puts.lock().unwrap().pop_front();
        match planned.unwrap_or(Put::Done) {
            Put::Done => {}
            Put::Fails => return Err(Error::new(ErrorKind::Unavailable, "putting a blob")),
            Put::SentTwice => _ = self.inner.put_blob(blob, bytes.clone()).await?,
            Put::Taken => _ = self.inner.put_blob(blob, Bytes::from_static(b"theirs")).await?,
        }
        self.inner.put_blob(blob, bytes).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list_blobs(log, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        self.inner.delete_blob(blob).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        self.inner.examine(depth).await
    }

    async fn shut_down(&self) -> Result<()> {
        self.inner.shut_down().await
    }
}
