//! One writer: its lock is free when its last byte is written, and not before, whoever shuts it down and however often.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use icecore_conformance::commits::{append, create, ends, log, run};
use icecore_embedded::FileStore;
use icecore_embedded::file::{Access, Disk, DiskFile, RealDisk, Settings};
use icecore_log::{Backend, ErrorKind};

/// Holds up every sync of a segment while it is shut.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    waiting: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn shut(&self) {
        *self.is_shut.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        *self.waiting.lock().unwrap() += 1;
        let shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |is_shut| *is_shut).unwrap());
    }

    async fn is_waited_at(&self, count: usize) {
        while *self.waiting.lock().unwrap() < count {
            tokio::task::yield_now().await;
        }
    }
}

#[derive(Debug)]
struct GatedDisk(RealDisk, Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl Disk for GatedDisk {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile(self.0.create(name, bytes)?, Arc::clone(&self.1))))
    }
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name, write)
    }
    fn publish(&self, from: &str, to: &str) -> io::Result<bool> {
        self.0.publish(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.0.make_dir(name)
    }
    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        self.0.list(name)
    }
    fn sync_dir(&self, name: &str) -> io::Result<()> {
        self.0.sync_dir(name)
    }
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Debug + Send + Sync>>> {
        self.0.lock(name)
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.0.resize(bytes)
    }
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.0.punch(offset, bytes)
    }
}

fn kind_of_opening(path: &Path) -> Option<ErrorKind> {
    FileStore::open(path, Access::ReadWrite, Settings::default()).err().map(|error| error.kind())
}

/// The second call once gave the lock back at once: another process opened the store, and both wrote the same places.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_free_only_when_the_writer_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let disk = Arc::new(GatedDisk(RealDisk::new(folder.path()), Arc::clone(&gate)));
    let store = FileStore::on(disk, folder.path(), Access::ReadWrite, Settings::default()).unwrap();
    let store = Arc::new(store);
    append(&*store, &log("a"), 1..=1).await;
    let syncs = *gate.waiting.lock().unwrap();
    gate.shut();
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { create(&*store, run(&log("b"), 1..=3, 0)).await })
    };
    gate.is_waited_at(syncs + 1).await;

    // One caller gives up half-way, as at a time-out; another asks again.
    let first = Arc::clone(&store);
    assert!(tokio::time::timeout(Duration::from_millis(20), first.shut_down()).await.is_err());
    let second = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.shut_down().await })
    };
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert_eq!(kind_of_opening(folder.path()), Some(ErrorKind::Refused));
    }
    assert!(!second.is_finished());
    gate.open();

    second.await.unwrap().unwrap();
    assert!(writing.await.unwrap().is_done());
    let again = FileStore::open(folder.path(), Access::ReadWrite, Settings::default()).unwrap();
    assert_eq!((ends(&again, &log("a")).await, ends(&again, &log("b")).await), ((1, 0), (3, 0)));
}
