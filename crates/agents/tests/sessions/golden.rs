//! What `docs/formats/sessions.md` says is what is stored: the golden file is written and read.
//!
//! `ICECORE_BLESS=1 cargo nextest run -p icecore-agents` writes it anew.

use icecore_agents::sessions::{Limits, Status};
use icecore_log::{Entropy, LogPrefix};

use super::support::{golden, put_documents};
use super::*;

/// Whatever is random is the same.
#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xab);
    }
}

fn store(world: &World) -> Store {
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    Store::builder(Arc::clone(&world.fault) as Arc<dyn Backend>).clock(clock).entropy(Arc::new(Fixed)).build()
}

/// A line for each document: its log, its key, its value.
async fn documents(store: &Store) -> String {
    let mut lines = Vec::new();
    for log in store.all_logs(&LogPrefix::tenant("acme").unwrap()).await.unwrap() {
        let state = store.log(log.clone()).state().await.unwrap();
        for (key, document) in state.documents("") {
            let value = String::from_utf8(document.json.to_vec()).unwrap();
            let (log, key) = (serde_json::json!(log.as_str()), serde_json::json!(key));
            lines.push(format!("{{\"log\":{log},\"key\":{key},\"value\":{value}}}\n"));
        }
    }
    lines.sort();
    lines.concat()
}

#[tokio::test]
async fn sessions_are_stored_and_read_as_the_golden_file_says() {
    let world = World::new();
    let sessions = Sessions::new(store(&world), Tenant::new("acme").unwrap());
    let limits = Limits {
        sessions_per_tenant: Some(1_000),
        sessions_per_user: Some(20),
        idle: Some(30 * MINUTE),
        lifetime: None,
    };
    sessions.set_limits(&limits).await.unwrap();
    let (live, ended) = (scope(&sessions, "ann", "s-1"), scope(&sessions, "a/n", "~é"));
    sessions.create(&live, NewSession { idle: None, lifetime: Some(12 * HOUR) }).await.unwrap();
    world.clock.pass(MINUTE);
    sessions.create(&ended, forever()).await.unwrap();
    let issued = sessions.issue_token(&live, "phone", Some(HOUR)).await.unwrap();
    sessions.terminate(&ended, "logged out").await.unwrap();

    let written = documents(sessions.store()).await;
    let golden = golden("sessions.ndjson", &written);

    // Another process finds the same in what the file says.
    let read = World::new();
    put_documents(&golden, &read.store()).await;
    let found = read.sessions();
    assert_eq!(found.limits().await.unwrap(), limits);
    assert_eq!(listed(&found, &Of::Tenant, true, 10).await, ["~é", "s-1"]);
    assert_eq!(listed(&found, &Of::Tenant, false, 10).await, ["s-1"]);
    let session = found.get(&live).await.unwrap();
    assert_eq!(session.expires_at, Some(session.created_at.after(12 * HOUR)));
    assert_eq!(found.find(&ended).await.unwrap().unwrap().status, Status::Terminated);
    assert_eq!(found.open_token(issued.reveal()).await.unwrap().scope, live);
}
