//! Valkey: the contract on it, and waiting for disks, which Redis 7.0 cannot be asked for.

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create, fact, log, page, run};
use icecore_log::{Backend, Durability, ErrorKind};
use icecore_services::redis::Server;

use crate::failover::win_by_the_same_bytes;
use crate::store;

mod conformance {
    use icecore_conformance::Place;
    use icecore_services::redis::Prefix;

    use crate::place;

    async fn open() -> Place<Prefix> {
        place(Prefix::new(&icecore_services::url("valkey"))).await
    }

    icecore_conformance::conformance_tests!(open);
}

/// One whose file is that of what it was given in the beginning: until then it says nothing of its disk.
fn settled_replica(primary: &Server) -> Server {
    let replica = primary.replica(&[]).unwrap();
    for done in ["aof_rewrite_scheduled:0", "aof_rewrite_in_progress:0"] {
        replica.until(&["INFO", "persistence"], done).unwrap();
    }
    replica
}

/// Contracts 2 and 3. What a replica does not have on its disk is unknown, and won by the same bytes once it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_disks_is_won_when_a_replica_has_it_on_its_own() {
    let primary = Server::start_valkey(&[]).unwrap();
    let mut replica = settled_replica(&primary);
    let store = store(&format!("{}?timeout_ms=4000&wait=1", primary.url())).await.unwrap();
    assert_eq!(store.capabilities().durability, Durability::Replicated);
    win_by_the_same_bytes(&store, &mut replica).await;
    assert_eq!(fact(&store, "acknowledged").await, "when the server and 1 replicas have it on disk");

    // The machine of the primary is gone, and the replica was killed beside it: what its disk has is everything.
    drop(primary);
    tokio::task::block_in_place(|| replica.kill());
    tokio::task::block_in_place(|| replica.resume().unwrap());
    replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let survivor = crate::store(&replica.url()).await.unwrap();
    assert_eq!(page(&survivor, &log("s-1"), 1).await.commits.len(), 3);
}

/// A replica that has a commit in memory alone is enough for `WAIT`, and not for `WAITAOF`: less is declared where it is all there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_keeps_nothing_on_disk_is_declared_for_no_more_than_memory() {
    let primary = Server::start_valkey(&[]).unwrap();
    let replica = settled_replica(&primary);
    let url = format!("{}?timeout_ms=4000&wait=1", primary.url());
    let waiting = store(&url).await.unwrap();
    let log = log("s-1");
    append(&waiting, &log, 1..=1).await;

    replica.ask(&["CONFIG", "SET", "appendonly", "no"]).unwrap();

    // Who was told that disks have it is never told so again; who opens the store now is told what it rests on.
    assert_eq!(create(&waiting, run(&log, 2..=2, 0)).await, Told::failed(ErrorKind::Unknown));
    let opened = store(&url).await.unwrap();
    assert_eq!(opened.capabilities().durability, Durability::Disk);
    assert_eq!(create(&opened, run(&log, 2..=2, 0)).await, Told::done(1));
    replica.until(&["HGET", &replica.ask(&["KEYS", "*:c:*"]).unwrap(), "v"], "2").unwrap();
}
