//! Contract 3, with writers running: a server that is killed, and one that is restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use icecore_conformance::Ending;
use icecore_conformance::commits::{create_each, log, numbered, one, read_all, run};
use icecore_log::backend::Depth;
use icecore_log::{Backend, ErrorKind, PageLimit};

use crate::{MINUTE, Server, store};

pub(crate) const WRITERS: u64 = 4;

/// Appends until told to stop: a run of two and a commit in a log of its own each, sent again as they are until they are
/// decided. Counts what was acknowledged.
pub(crate) async fn write(
    backend: Arc<dyn Backend>,
    writer: u64,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let logs = [log(&format!("pairs-{writer}")), log(&format!("ones-{writer}"))];
    while !stop.load(Ordering::Relaxed) {
        let number = acknowledged.load(Ordering::Relaxed) + 1;
        let mut pending =
            vec![run(&logs[0], 2 * number - 1..=2 * number, 0), one(&logs[1], numbered(number, 0))];
        while !pending.is_empty() {
            let told = create_each(&*backend, pending.clone()).await;
            for told in &told {
                let is_open = matches!(told.end, Ending::Failed(ErrorKind::Unknown | ErrorKind::Unavailable));
                assert!(told.is_done() || is_open, "{told:?}");
            }
            let mut answers = told.iter();
            pending.retain(|_| answers.next().is_some_and(|told| !told.is_done()));
            if !pending.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        acknowledged.store(number, Ordering::Relaxed);
    }
}

/// What ends a server, and how it comes back.
async fn survives(rounds: u64, end: impl Fn(&mut Server)) {
    let mut server = Server::start(&[]).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(store(&server.url()).await.unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let mut writers = tokio::task::JoinSet::new();
    for (writer, count) in (0..).zip(&counts) {
        writers.spawn(write(Arc::clone(&backend), writer, Arc::clone(count), Arc::clone(&stop)));
    }
    for _ in 0..rounds {
        let enough: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed) + 10).collect();
        reach(&counts, &enough).await;

        tokio::task::block_in_place(|| {
            end(&mut server);
            server.resume().unwrap();
        });

        // What was acknowledged before or after the end is read by somebody who was not there.
        let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let other = store(&server.url()).await.unwrap();
        check(&other, &before).await;
    }
    let enough: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed) + 1).collect();
    reach(&counts, &enough).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    check(&*backend, &enough).await;
    assert!(backend.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

pub(crate) async fn reach(counts: &[Arc<AtomicU64>], enough: &[u64]) {
    let reached = async {
        while counts.iter().zip(enough).any(|(count, enough)| count.load(Ordering::Relaxed) < *enough) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(MINUTE, reached).await.expect("the writers do not go on");
}

/// Acknowledged is there; each log is dense from its first commit on, and holds what was sent.
pub(crate) async fn check(backend: &dyn Backend, acknowledged: &[u64]) {
    for (writer, count) in (0..).zip(acknowledged) {
        for (name, least) in [(format!("pairs-{writer}"), 2 * count), (format!("ones-{writer}"), *count)] {
            let log = log(&name);
            let found = read_all(backend, &log, 1, PageLimit::WHOLE).await;
            assert!(found.len() as u64 >= least, "{name}: {} of {least} acknowledged", found.len());
            for (commit, version) in found.iter().zip(1..) {
                assert_eq!(*commit, numbered(version, 0), "{name}");
            }
            if name.starts_with("pairs") {
                assert_eq!(found.len() % 2, 0, "{name}: a run of two is whole or not there");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_killed_server() {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 30 } else { 4 };
    survives(rounds, Server::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_restart_and_appending_goes_on() {
    survives(2, Server::stop).await;
}
