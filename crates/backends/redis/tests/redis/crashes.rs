//! Contract 3, with writers running: a server that is killed with `appendfsync always`, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore_conformance::Ending;
use icecore_conformance::commits::{create_each, log, noise, numbered, one, page, read_all, run};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, ErrorKind, PageLimit, StoredCommit};
use icecore_services::redis::Server;
use tokio::time::{sleep, timeout};

use crate::{MINUTE, store};

const WRITERS: u64 = 3;
/// Longer than a part.
const LARGE: usize = 600_000;

fn large(version: u64) -> StoredCommit {
    StoredCommit { body: Some(noise(LARGE, version)), ..numbered(version, 0) }
}

/// Appends as many as it may: a run of two, and a commit with a large body in a log of its own, sent again as they are until they
/// are decided. Counts what was acknowledged.
async fn write(backend: Arc<dyn Backend>, writer: u64, acknowledged: Arc<AtomicU64>, most: Arc<AtomicU64>) {
    let logs = [log(&format!("pairs-{writer}")), log(&format!("large-{writer}"))];
    loop {
        let number = acknowledged.load(Ordering::Relaxed) + 1;
        // What they write while nobody kills anything only fills the memory.
        while number > most.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
        }
        let mut pending = vec![run(&logs[0], 2 * number - 1..=2 * number, 0), one(&logs[1], large(number))];
        while !pending.is_empty() {
            let told = create_each(&*backend, pending.clone()).await;
            for told in &told {
                let is_open = matches!(told.end, Ending::Failed(ErrorKind::Unknown | ErrorKind::Unavailable));
                assert!(told.is_done() || is_open, "{told:?}");
            }
            let mut answers = told.iter();
            pending.retain(|_| answers.next().is_some_and(|told| !told.is_done()));
            if !pending.is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        acknowledged.store(number, Ordering::Relaxed);
    }
}

async fn reach(counts: &[Arc<AtomicU64>], enough: u64) {
    let reached = async {
        while counts.iter().any(|count| count.load(Ordering::Relaxed) < enough) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(MINUTE, reached).await.expect("the writers do not go on");
}

/// Acknowledged is there; each log is dense from its first commit on, and holds what was sent.
async fn check(backend: &dyn Backend, acknowledged: &[u64]) {
    for (writer, count) in (0..).zip(acknowledged) {
        let pairs = read_all(backend, &log(&format!("pairs-{writer}")), 1, PageLimit::WHOLE).await;
        assert!(pairs.len() as u64 >= 2 * count, "{} of {} acknowledged", pairs.len(), 2 * count);
        assert_eq!(pairs.len() % 2, 0, "a run of two is whole or not there");
        let mut ones = Vec::new();
        while (ones.len() as u64) < *count {
            let page = page(backend, &log(&format!("large-{writer}")), ones.len() as u64 + 1).await;
            assert!(!page.commits.is_empty(), "{} of {count} acknowledged", ones.len());
            ones.extend(page.commits);
        }
        for (commit, version) in pairs.iter().zip(1..) {
            assert_eq!(*commit, numbered(version, 0));
        }
        for (commit, version) in ones.iter().zip(1..) {
            assert!(*commit == large(version), "the body of {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_killed_server() {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 30 } else { 4 };
    let mut server = Server::start(&[]).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(store(&server.url()).await.unwrap());
    assert_eq!(backend.capabilities().durability, Durability::Disk);
    let most = Arc::new(AtomicU64::new(0));
    let counts: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let mut writers = tokio::task::JoinSet::new();
    for (writer, count) in (0..).zip(&counts) {
        writers.spawn(write(Arc::clone(&backend), writer, Arc::clone(count), Arc::clone(&most)));
    }
    for round in 1..=rounds {
        most.store(round * 10, Ordering::Relaxed);
        reach(&counts, round * 10 - 5).await;

        tokio::task::block_in_place(|| server.kill());
        // All that was acknowledged up to here, by whoever acknowledged it, is there when the server is back.
        let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        tokio::task::block_in_place(|| server.resume().unwrap());

        check(&store(&server.url()).await.unwrap(), &before).await;
    }
    reach(&counts, rounds * 10).await;
    // They are at their end, and wait; one that has failed is told.
    writers.abort_all();
    while let Some(writer) = writers.join_next().await {
        assert!(writer.is_err_and(|error| error.is_cancelled()));
    }
    check(&*backend, &counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>()).await;
    let examination = backend.examine(Depth::Deep).await.unwrap();
    assert!(examination.damage.is_empty(), "{:?}", examination.damage);
}
