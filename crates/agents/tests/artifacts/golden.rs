//! The bytes of `docs/formats/artifacts.md`, as a file that a test writes and reads. `ICECORE_BLESS=1` writes it anew.

use std::sync::atomic::{AtomicU8, Ordering};

use icecore_log::{Entropy, LogPrefix};
use serde_json::{Value, json};

use super::*;

/// The same bytes each time.
#[derive(Debug, Default)]
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.0.fetch_add(1, Ordering::SeqCst));
    }
}

async fn lines(world: &World) -> Vec<Value> {
    let store = world.store();
    let mut lines = Vec::new();
    let mut logs = store.all_logs(&LogPrefix::all()).await.unwrap();
    logs.sort();
    for log in logs {
        for (key, document) in store.log(log.clone()).state().await.unwrap().documents("") {
            let value: Value = serde_json::from_slice(&document.json).unwrap();
            lines.push(json!({ "log": log.as_str(), "key": key, "value": value }));
        }
        for blob in world.backend.list_blobs(&log, CONTENT).await.unwrap() {
            let id = BlobId::new(log.clone(), &blob.name).unwrap();
            let content = world.backend.get_blob(&id, None).await.unwrap().unwrap();
            let content = String::from_utf8(content.to_vec()).unwrap();
            lines.push(json!({ "log": log.as_str(), "blob": blob.name, "content": content }));
        }
    }
    lines
}

#[tokio::test]
async fn the_bytes_are_those_of_the_golden_file_and_are_read() {
    let world = World::new();
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let store =
        Store::builder(Arc::clone(&world.backend)).clock(clock).entropy(Arc::new(Counting::default()));
    let all = Artifacts::new(store.build(), tenant());
    let owner = Owner { tenant: Some(b"t".to_vec()), user: None, session: b"s/1".to_vec() };
    let what = What { namespace: Some(b"web.fetch".to_vec()), ..what_in(Some("trace-1"), "a") };
    all.of(&owner).unwrap().put(what, Bytes::from_static(b"hello")).await.unwrap();
    let always = all.clone().with_retention(Retention { ttl: None, ..Retention::default() });
    always.of(&Owner::session("")).unwrap().put(super::what("b"), Bytes::new()).await.unwrap();

    let written: Vec<_> = lines(&world).await.iter().map(|line| format!("{line}\n")).collect();
    let golden = support::golden("artifacts.ndjson", &written.concat());

    let other = World::new();
    for line in golden.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let log = LogId::parse(line["log"].as_str().unwrap()).unwrap();
        if let Some(name) = line["blob"].as_str() {
            let content = line["content"].as_str().unwrap().to_owned();
            other.backend.put_blob(&BlobId::new(log, name).unwrap(), content.into()).await.unwrap();
        } else {
            let value = Json::text(line["value"].to_string()).unwrap();
            other.store().log(log).put(line["key"].as_str().unwrap(), value).await.unwrap();
        }
    }
    let found = other.artifacts(Retention::default()).find("web_fetch_2cf24dba5fb0").await.unwrap().unwrap();
    assert_eq!((text(&found).await, name(&found)), (b"hello".to_vec(), "a".to_owned()));
    let found = other.session(Retention::default(), "").get("art_e3b0c44298fc").await.unwrap().unwrap();
    assert_eq!((text(&found).await, found.record().expires_at_ms), (Vec::new(), None));
}
