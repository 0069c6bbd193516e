//! What is saved only over what its writer knows: of changes that race, none is lost.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;

use icecore_agents::memory::{self, KEY};
use icecore_agents::{Kind, Tenant};
use icecore_embedded::Memory;
use icecore_log::{ErrorKind, LogId, Result};
use icecore_store::state::Json;
use icecore_store::{Log, Store};
use support::systems;

fn id(key: &str) -> LogId {
    Tenant::new("acme").unwrap().log(Kind::Memory, key.as_bytes()).unwrap()
}

fn number(number: u64) -> Json {
    Json::of(&number).unwrap()
}

async fn save(log: &Log, json: Json, expected: Option<&str>) -> Result<String> {
    memory::save_if(log, json, expected, log.store().random_id()).await
}

/// What is there, and its etag.
async fn look(log: &Log) -> Option<(u64, String)> {
    let document = log.document(KEY).await.unwrap()?;
    Some((document.read().unwrap(), memory::etag(&document)))
}

#[tokio::test]
async fn a_value_is_saved_over_what_is_expected_and_nothing_else() {
    let log = Store::new(Arc::new(Memory::default())).log(id("k"));
    let first = save(&log, number(1), None).await.unwrap();
    assert_eq!(look(&log).await, Some((1, first.clone())));
    let second = save(&log, number(2), Some(&first)).await.unwrap();
    for stale in [None, Some(&*first)] {
        assert_eq!(save(&log, number(3), stale).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    for none in ["", "1", "-", "x-0123456789abcdef", &second.to_uppercase()[1..], &"9".repeat(40)] {
        assert_eq!(save(&log, number(3), Some(none)).await.unwrap_err().kind(), ErrorKind::Invalid, "{none}");
    }
    assert_eq!(look(&log).await, Some((2, second.clone())));
    // An answer that was lost, asked for again.
    let again = log.store().random_id();
    let third = memory::save_if(&log, number(3), Some(&second), again.clone()).await.unwrap();
    assert_eq!(memory::save_if(&log, number(3), Some(&second), again).await.unwrap(), third);
    // What is there no more is no other; nor does its etag come back, whatever becomes of the log.
    log.delete(KEY).await.unwrap();
    assert_eq!(save(&log, number(4), Some(&third)).await.unwrap_err().kind(), ErrorKind::Conflict);
    log.trim_to_state().await.unwrap();
    let later = save(&log, number(3), None).await.unwrap();
    assert!(![first, second, third].contains(&later), "{later}");
}

#[tokio::test]
async fn what_another_put_in_the_same_commit_is_not_taken_for_one_s_own() {
    let log = Store::new(Arc::new(Memory::default())).log(id("k"));
    let mut twins = 0;
    let mut expected = save(&log, number(0), None).await.unwrap();
    for _ in 0..50 {
        let both = tokio::join!(save(&log, number(1), Some(&expected)), log.put(KEY, number(2)));
        let (saved, put) = (both.0.ok(), both.1.unwrap());
        let (value, etag) = look(&log).await.unwrap();
        let version = format!("{}-", put.version.0);
        if let Some(saved) = saved.filter(|saved| saved.starts_with(&version) && value == 2) {
            twins += 1;
            assert_eq!(save(&log, number(3), Some(&saved)).await.unwrap_err().kind(), ErrorKind::Conflict);
        }
        expected = etag;
    }
    assert!(twins > 0, "none came in one commit: nothing was tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_changes_that_race_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    for (name, stores) in systems(&folder).await {
        let racing = stores.iter().map(|store| {
            let log = store.log(id("k"));
            tokio::spawn(async move {
                for _ in 0..25 {
                    loop {
                        let found = look(&log).await;
                        let (value, etag) =
                            found.as_ref().map_or((0, None), |found| (found.0, Some(&*found.1)));
                        match save(&log, number(value + 1), etag).await {
                            Ok(_) => break,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                        }
                    }
                }
            })
        });
        for one in racing.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_eq!(look(&stores[0].log(id("k"))).await.unwrap().0, 100, "{name}");
    }
}
