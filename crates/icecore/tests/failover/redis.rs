//! Redis: an asynchronous fail-over loses commits which were acknowledged. Whoever holds a token of one is told, and whoever had them in memory
//! goes on behind what is left, never on top of what is gone. What `wait` waited for is not lost.

use icecore::{Consistency, Entry, EntryId, ErrorKind, Event, Json, LogId, LogPrefix, Range, Version};
use icecore_services::proxy::Proxy;
use icecore_services::redis::{PRIMARY, Server};
use tokio::task::block_in_place;

use crate::rounds;
use crate::writers::{Writers, asked_for, missing};

fn text(number: u64) -> Json {
    Json::text(number.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fail_over_lost_is_told_by_its_token_and_never_built_on() {
    let mut primary = Server::start(&[]).unwrap();
    let replica = primary.replica(&[]).unwrap();
    let name = Proxy::start(&primary.address()).unwrap();
    let url = format!("redis://{}", name.address());
    let (store, other) = (icecore::open(&url).await.unwrap(), icecore::open(&url).await.unwrap());
    let log = store.log(LogId::new("acme", "session", "s-1").unwrap());
    let seen = log.put("count", text(1)).await.unwrap().token();
    let offset = primary.ask(&["INFO", "replication"]).unwrap();
    let offset = offset.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap();
    replica.until(&["INFO", "replication"], &format!("slave_repl_offset:{offset}")).unwrap();

    // Given commits that were acknowledged, and that the replica has not.
    replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    log.put("count", text(2)).await.unwrap();
    let entry = || Entry::new(Event::new("said", "\"lost\"")).with_id(EntryId::new("m-1").unwrap());
    let lost = log.append(entry()).await.unwrap();
    assert_eq!(lost.version, Version(3));
    let lost = log.token(&log.state().await.unwrap());
    block_in_place(|| primary.kill());
    name.lead_to(&replica.address());

    // Somebody else, with a token of what is gone: it is not there yet, and then it is another history.
    let elsewhere = other.log(log.id().clone());
    let with = |token| elsewhere.with(Consistency::AtLeast(token));
    assert_eq!(with(seen.clone()).document("count").await.unwrap().unwrap().json, "1");
    assert_eq!(with(lost.clone()).document("count").await.unwrap_err().kind(), ErrorKind::Unavailable);
    for number in 5..=6 {
        elsewhere.put("count", text(number)).await.unwrap();
    }
    assert_eq!(with(lost.clone()).document("count").await.unwrap_err().kind(), ErrorKind::Corrupt);

    // Who had it in memory learns it from the next commit, which is refused behind a lost one: unknown, if it was sent on a connection
    // that was cut. What comes then follows what is there now, and the lost entry is a new one.
    let next = || log.append(Event::new("said", "\"next\""));
    let told = match next().await {
        Ok(receipt) => receipt,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
            next().await.unwrap()
        }
    };
    assert_eq!(told.version, Version(4));
    let again = log.append(entry()).await.unwrap();
    assert_eq!((again.version, again.repeated), (Version(5), false));
    assert_eq!(log.document("count").await.unwrap().unwrap().json, "6");
    let commits = log.read(Range::default()).next_page().await.unwrap();
    assert_eq!(commits.iter().map(|commit| commit.version.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(other.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
}

/// With writers running: each receipt of what was lost, and no other, is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_receipt_of_what_redis_lost_is_told_so_with_writers_running() {
    let mut primary = Server::start(&[]).unwrap();
    let replica = primary.replica(&[]).unwrap();
    let name = Proxy::start(&primary.address()).unwrap();
    let url = format!("redis://{}", name.address());
    let writers = Writers::start(&url).await;
    writers.reach(50).await;
    // What is acknowledged from here on the replica has not.
    block_in_place(|| replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap());
    writers.reach(50).await;
    writers.failing();
    block_in_place(|| primary.kill());
    name.lead_to(&replica.address());
    writers.reach(200).await;
    writers.print("redis, killed and a replica named that was not asked to wait for");

    let receipts = writers.stop().await;
    let lost = missing(&url, receipts.clone()).await;
    assert!(lost.len() >= 50, "{} were lost", lost.len());
    let store = icecore::open(&url).await.unwrap();
    for receipt in receipts {
        let told = asked_for(&store, &receipt).await;
        let expected = if lost.contains(&receipt) { Err(ErrorKind::Corrupt) } else { Ok(()) };
        assert_eq!(told, expected, "{receipt:?}");
    }
}

/// Three Sentinels, a primary and two replicas, of which one must have a commit. Who was killed comes back as a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_acknowledged_survives_the_death_of_the_primary() {
    let mut servers = {
        let primary = Server::start(&[]).unwrap();
        let replicas = [(); 2].map(|()| primary.replica(&[]).unwrap());
        Vec::from_iter(std::iter::once(primary).chain(replicas))
    };
    let sentinels = [(); 3].map(|()| servers[0].sentinel(2).unwrap());
    for sentinel in &sentinels {
        sentinel.until(&["SENTINEL", "MASTER", PRIMARY], "num-other-sentinels\n2").unwrap();
        sentinel.until(&["SENTINEL", "MASTER", PRIMARY], "num-slaves\n2").unwrap();
    }
    let hosts = sentinels.each_ref().map(Server::address).join(",");
    let url = format!("redis+sentinel://{hosts}/{PRIMARY}?wait=1&timeout_ms=3000");
    let writers = Writers::start(&url).await;

    for is_last in rounds(1) {
        writers.reach(50).await;
        let named = sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY]).unwrap();
        let killed = servers.iter().position(|server| server.address() == named.replace('\n', ":")).unwrap();
        writers.failing();
        block_in_place(|| servers[killed].kill());
        writers.reach(50).await;
        writers.print("redis, killed and another chosen by Sentinels");
        if !is_last {
            // Sentinels make it a replica.
            block_in_place(|| {
                servers[killed].resume().unwrap();
                servers[killed].until(&["INFO", "replication"], "master_link_status:up").unwrap();
            });
        }
    }

    assert_eq!(missing(&url, writers.stop().await).await, []);
}
