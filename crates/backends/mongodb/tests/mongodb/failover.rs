//! A replica set of three whose members are killed, and a server alone that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore_conformance::commits::{append, create, create_in, log, numbered, one, read_all, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Backend, Durability, ErrorKind, LogId, Mode, PageLimit};
use icecore_mongodb::MongoStore;
use icecore_services::mongodb::{Server, Set};

use crate::{MINUTE, store};

/// Appends commits one by one, each sent as it is until it is decided, and counts what was acknowledged.
async fn append_through_faults(store: Arc<MongoStore>, log: LogId, last: u64, won: Arc<AtomicU64>) {
    for version in 1..=last {
        loop {
            let told = create(&*store, one(&log, numbered(version, 0))).await;
            if told.is_done() {
                won.fetch_add(1, Ordering::Relaxed);
                break;
            }
            assert!(!told.is_decided(), "{told:?} of {log} at {version}, which nobody else writes");
        }
    }
}

async fn until(won: &AtomicU64, count: u64) {
    let waiting = async {
        while won.load(Ordering::Relaxed) < count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(MINUTE, waiting).await.unwrap();
}

/// Contract 3. Twice, in the middle of writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_death_of_the_primary() {
    let mut set = Set::start().unwrap();
    let url = set.url("agents");
    let writer = Arc::new(store(&url).await.unwrap());
    assert_eq!(writer.capabilities().durability, Durability::Replicated);
    let won = Arc::new(AtomicU64::new(0));
    let logs: Vec<LogId> = (0..4).map(|number| log(&format!("s-{number}"))).collect();
    let tasks: Vec<_> = logs
        .iter()
        .map(|log| {
            tokio::spawn(append_through_faults(Arc::clone(&writer), log.clone(), 60, Arc::clone(&won)))
        })
        .collect();

    for count in [40, 120] {
        until(&won, count).await;
        tokio::task::block_in_place(|| {
            let primary = set.primary().unwrap();
            set.nodes[primary].kill();
            let next = set.primary().unwrap();
            assert_ne!(primary, next);
            set.nodes[primary].resume().unwrap();
        });
    }
    for task in tasks {
        task.await.unwrap();
    }

    assert_eq!(won.load(Ordering::Relaxed), 240);
    let fresh = store(&url).await.unwrap();
    for log in &logs {
        let found = read_all(&fresh, log, 1, PageLimit::WHOLE).await;
        assert_eq!(found, run(log, 1..=60, 0).commits, "{log}");
    }
}

/// Contracts 2 and 3. The primary alone has it: that is not acknowledged, to nobody, until a majority has it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_majority_has_is_not_won_until_one_has() {
    let mut set = Set::start().unwrap();
    let url = format!("{}&timeout_ms=3000", set.url("agents"));
    let (first, second) = (store(&url).await.unwrap(), store(&url).await.unwrap());
    let log = log("s-1");
    append(&first, &log, 1..=2).await;
    let primary = set.primary().unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != primary).collect();
    tokio::task::block_in_place(|| others.iter().for_each(|node| set.nodes[*node].kill()));

    let (ours, theirs) = (run(&log, 3..=3, 0), one(&log, numbered(3, 1)));
    let told = tokio::join!(create(&first, ours.clone()), create(&second, theirs.clone()));
    for told in [told.0, told.1] {
        assert!(!told.is_decided(), "{told:?}");
    }

    tokio::task::block_in_place(|| {
        others.iter().for_each(|node| set.nodes[*node].resume().unwrap());
        set.primary().unwrap();
    });
    let decided = |store, run| async move {
        icecore_conformance::commits::decide(store, vec![run], Mode::Each).await.remove(0)
    };
    let told = [decided(&first, ours).await, decided(&second, theirs).await];
    let taken = Told::stopped(Ending::Taken);
    assert!(told == [Told::done(1), taken] || told == [taken, Told::done(1)], "{told:?}");
}

/// Contract 3. Without a replica set: what is declared, and what a crash leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_alone_acknowledged_survives_its_death() {
    let mut server = Server::start_alone().unwrap();
    let writer = Arc::new(store(&server.url()).await.unwrap());
    let capabilities = writer.capabilities();
    assert_eq!((capabilities.durability, capabilities.atomic_create), (Durability::Disk, false));
    let told = create_in(&*writer, vec![run(&log("s-0"), 1..=1, 0)], Mode::AllOrNone).await;
    assert_eq!(told, [Told::failed(ErrorKind::Refused)]);
    let (won, log) = (Arc::new(AtomicU64::new(0)), log("s-1"));
    let task = tokio::spawn(append_through_faults(Arc::clone(&writer), log.clone(), 60, Arc::clone(&won)));

    for count in [10, 35] {
        until(&won, count).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.resume().unwrap();
        });
    }
    task.await.unwrap();

    let fresh = store(&server.url()).await.unwrap();
    assert_eq!(read_all(&fresh, &log, 1, PageLimit::WHOLE).await, run(&log, 1..=60, 0).commits);
    // Others' commits are found as they are where they are only seen.
    assert_eq!(create(&fresh, run(&log, 1..=60, 0)).await, Told::done(60));
    assert_eq!(create(&fresh, one(&log, numbered(60, 1))).await, Told::stopped(Ending::Taken));
}
