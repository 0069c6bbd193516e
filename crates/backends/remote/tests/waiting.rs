//! Many that wait at a handle have one look together, and each is told of its own logs.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Durability, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use icecore_remote::{Handle, Remote};
use tokio::time::{Instant, sleep};

/// A system in which others write.
#[derive(Debug, Default)]
struct System {
    heads: Mutex<BTreeMap<LogId, Version>>,
    looks: AtomicUsize,
    is_away: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Fake(Arc<System>);

const EVERY: Duration = Duration::from_millis(20);

impl Fake {
    fn look(&self) -> Result<()> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        let away = || Err(Error::new(ErrorKind::Unavailable, "looking"));
        if self.0.is_away.load(Ordering::SeqCst) { away() } else { Ok(()) }
    }

    fn write(&self, log: &LogId, version: u64) {
        self.0.heads.lock().unwrap().insert(log.clone(), Version(version));
    }

    fn looks(&self) -> usize {
        self.0.looks.swap(0, Ordering::SeqCst)
    }
}

impl Remote for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "fake",
            durability: Durability::Process,
            atomic_create: false,
            native_close: false,
            checks_predecessor: false,
            many_writers: true,
            read_only: false,
            commit_bytes_max: 1,
            creates_in_flight: 1,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn looks(&self) -> (Duration, Duration) {
        (EVERY, EVERY)
    }

    async fn heads(&self, logs: &[LogId], _: Instant) -> Result<Vec<Option<Head>>> {
        self.look()?;
        let heads = self.0.heads.lock().unwrap();
        let head = |version| Head { version, header: Bytes::new(), boundary: Version(0) };
        Ok(logs.iter().map(|log| heads.get(log).copied().map(head)).collect())
    }

    async fn is_past(&self, seen: &[(LogId, Version)], _: Instant) -> Result<bool> {
        self.look()?;
        let heads = self.0.heads.lock().unwrap();
        Ok(seen.iter().any(|(log, version)| heads.get(log).is_some_and(|head| head > version)))
    }

    async fn create(&self, _: Vec<Run>, _: Mode, _: Instant) -> Vec<Created> {
        unreachable!()
    }

    async fn read(&self, _: &LogId, _: Version, _: PageLimit, _: Instant) -> Result<Page> {
        unreachable!()
    }

    async fn logs(&self, _: &LogPrefix, _: Option<Cursor>, _: usize, _: Instant) -> Result<LogPage> {
        unreachable!()
    }

    async fn close(&self, _: &LogId, _: Version, _: Instant) -> Result<()> {
        unreachable!()
    }

    async fn sweep(&self, _: &LogId, _: Instant) -> Result<Swept> {
        unreachable!()
    }

    async fn drop_bodies(&self, _: &LogId, _: &[Version], _: Instant) -> Result<()> {
        unreachable!()
    }

    async fn put_blob(&self, _: &BlobId, _: Bytes, _: Instant) -> Result<bool> {
        unreachable!()
    }

    async fn get_blob(&self, _: &BlobId, _: Option<Range<u64>>, _: Instant) -> Result<Option<Bytes>> {
        unreachable!()
    }

    async fn list_blobs(&self, _: &LogId, _: &str, _: Instant) -> Result<Vec<BlobInfo>> {
        unreachable!()
    }

    async fn delete_blob(&self, _: &BlobId, _: Instant) -> Result<()> {
        unreachable!()
    }

    async fn examine(&self, _: Depth) -> Result<Examination> {
        unreachable!()
    }
}

fn log(number: usize) -> LogId {
    LogId::new("acme", "session", &number.to_string()).unwrap()
}

const WAITERS: usize = 100;

type Waiting = tokio::task::JoinHandle<Result<()>>;

fn wait(handle: &Arc<Handle<Fake>>, number: usize, version: u64) -> Waiting {
    let (handle, seen) = (Arc::clone(handle), [(log(number), Version(version)), (log(WAITERS), Version(9))]);
    tokio::spawn(async move { handle.wait(&seen, Duration::from_secs(3_600)).await })
}

async fn many() -> (Fake, Arc<Handle<Fake>>, Vec<Waiting>) {
    let fake = Fake::default();
    let handle = Arc::new(Handle::new(fake.clone()));
    let waiting = (0..WAITERS).map(|number| wait(&handle, number, 1)).collect();
    sleep(10 * EVERY).await;
    (fake, handle, waiting)
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_have_one_look_together_and_each_is_told_of_its_own() {
    let (fake, handle, mut waiting) = many().await;
    fake.looks();
    sleep(100 * EVERY).await;
    let looks = fake.looks();
    assert!((90..=110).contains(&looks), "{looks} looks, of {WAITERS} that wait");

    // It waits for what is past 1.
    fake.write(&log(7), 1);
    sleep(5 * EVERY).await;
    assert!(!waiting[7].is_finished());
    fake.write(&log(7), 2);
    sleep(5 * EVERY).await;
    assert!(waiting.remove(7).await.unwrap().is_ok());
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    // One that is behind is told at once, and what all of them wait for is for all.
    wait(&handle, 7, 1).await.unwrap().unwrap();
    fake.write(&log(WAITERS), 10);
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    sleep(2 * EVERY).await;
    fake.looks();
    sleep(100 * EVERY).await;
    assert_eq!(fake.looks(), 0, "nobody waits");
    let again = wait(&handle, 8, 1);
    sleep(5 * EVERY).await;
    fake.write(&log(8), 2);
    again.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_system_that_is_away_a_caller_that_goes_and_a_handle_that_is_shut_leave_nobody_asleep() {
    let (fake, handle, waiting) = many().await;
    waiting[0].abort();
    sleep(EVERY).await;
    let begun = Instant::now();
    fake.0.is_away.store(true, Ordering::SeqCst);
    for waiting in waiting.into_iter().skip(1) {
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    // Not when their hour is over.
    assert!(begun.elapsed() < 10 * EVERY);
    fake.0.is_away.store(false, Ordering::SeqCst);
    let waiting: Vec<_> = (0..WAITERS).map(|number| wait(&handle, number, 1)).collect();
    sleep(5 * EVERY).await;
    handle.shut_down().await.unwrap();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    }
    assert!(begun.elapsed() < 50 * EVERY);
    fake.looks();
    sleep(100 * EVERY).await;
    assert_eq!(fake.looks(), 0);
}
