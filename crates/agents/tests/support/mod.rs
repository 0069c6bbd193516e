//! What the tests of this crate share: a clock, systems that need no server, golden files.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icecore_embedded::{FileStore, Memory, file};
use icecore_log::{Access, Backend, Clock, LogId, Timestamp};
use icecore_sql::{SqliteStore, sqlite};
use icecore_store::Store;
use icecore_store::state::Json;

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Some time in November 2025.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_764_000_000_000_000_000)))
    }

    pub fn pass(&self, length: Duration) {
        self.0.fetch_add(i64::try_from(length.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// What each process opens: several of them, where several may write.
pub async fn systems(folder: &tempfile::TempDir) -> Vec<(&'static str, Vec<Store>)> {
    let of = |backend: Arc<dyn Backend>| (0..4).map(|_| Store::new(Arc::clone(&backend))).collect();
    let path = folder.path().join("file");
    let file = FileStore::open(&path, Access::ReadWrite, file::Settings::default()).unwrap();
    let sqlite = || {
        let path = folder.path().join("sqlite.db");
        SqliteStore::open(&path, Access::ReadWrite, sqlite::Settings::default()).unwrap()
    };
    vec![
        ("memory", of(Arc::new(Memory::default()))),
        // One process writes a file; its stores race all the same.
        ("file", of(Arc::new(file))),
        ("sqlite", (0..4).map(|_| Store::new(Arc::new(sqlite()))).collect()),
    ]
}

/// Compares what was written with the golden file of this name, and gives it. `ICECORE_BLESS=1` writes it anew.
pub fn golden(name: &str, written: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, golden);
    golden
}

/// Puts the documents of a golden file into a store; the logs that they are in.
pub async fn put_documents(golden: &str, store: &Store) -> Vec<LogId> {
    let mut logs = Vec::new();
    for line in golden.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let log = LogId::parse(line["log"].as_str().unwrap()).unwrap();
        let value = Json::of(&line["value"]).unwrap();
        store.log(log.clone()).put(line["key"].as_str().unwrap(), value).await.unwrap();
        logs.push(log);
    }
    logs
}
