//! What `docs/formats/queues.md` says is what is stored: the golden file is written and read.
//!
//! `ICECORE_BLESS=1 cargo nextest run -p icecore-agents` writes it anew.

use super::support::{golden, put_documents};
use super::*;

/// A line for each document: its key, its value.
async fn documents(queue: &Queue) -> String {
    let state = queue.log().state().await.unwrap();
    let line = |(key, document): (&str, &icecore_store::state::Document)| {
        let value = String::from_utf8(document.json.to_vec()).unwrap();
        format!("{{\"log\":\"{}\",\"key\":{},\"value\":{value}}}\n", queue.log().id(), serde_json::json!(key))
    };
    state.documents("").map(line).collect()
}

#[tokio::test]
async fn queues_are_stored_and_read_as_the_golden_file_says() {
    let world = World::new();
    let queue = world.queue();
    let once = Message { attempts_max: Some(1), ..Message::new("~dead/é", json(r#"{"n": 1.50}"#)) };
    let late = Message { delay: MINUTE, ..message("late") };
    queue.put(&[once, message("done"), message("held"), late, message("ready")]).await.unwrap();
    let leased = queue.lease(3, MINUTE).await.unwrap();
    world.pass(SECOND);
    queue.nack("~dead/é", leased[0].fence, Duration::ZERO, "no such model").await.unwrap();
    queue.ack("done", leased[1].fence).await.unwrap();

    let written = documents(&queue).await;
    let golden = golden("queues.ndjson", &written);

    // Another process finds the same in what the file says.
    let read = World::new();
    let jobs = tenant().log(Kind::Queue, b"jobs").unwrap();
    assert!(put_documents(&golden, &read.store()).await.iter().all(|log| *log == jobs));
    let found = read.queue();
    let counts = found.statistics().await.unwrap();
    assert_eq!((counts.ready, counts.delayed, counts.leased, counts.dead), (1, 1, 1, 1));
    assert!(put(&found, &["done"]).await[0].repeated);
    found.ack("held", leased[2].fence).await.unwrap();
    let dead = found.dead(None, 9).await.unwrap();
    assert_eq!((dead[0].id.as_str(), dead[0].reason.as_str()), ("~dead/é", "no such model"));
    read.pass(MINUTE);
    assert_eq!(ids(&found.lease(9, MINUTE).await.unwrap()), ["late", "ready"]);
}
