//! Queues: each message given out to one worker at a time, until it is done or dead, whoever races.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod basics;
mod golden;
mod model;
mod races;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use icecore_agents::queues::{Leased, Message, Put, Queue};
use icecore_agents::{Kind, Tenant};
use icecore_embedded::Memory;
use icecore_log::{Backend, Clock};
use icecore_store::state::Json;
use icecore_store::{Settings, Store};
use support::ManualClock;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A system in memory, and what opens it as a process of its own.
struct World {
    backend: Arc<dyn Backend>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { backend: Arc::new(Memory::default()), clock: ManualClock::new() }
    }

    fn pass(&self, length: Duration) {
        self.clock.pass(length);
    }

    fn store(&self) -> Store {
        let mut settings = Settings::default();
        settings.append_timeout = Duration::from_secs(5);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Store::builder(Arc::clone(&self.backend)).settings(settings).clock(clock).build()
    }

    fn queue(&self) -> Queue {
        Queue::new(&self.store(), &tenant(), "jobs").unwrap()
    }
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

/// Its payload says its id.
fn message(id: &str) -> Message {
    Message::new(id, Json::of(id).unwrap())
}

async fn put(queue: &Queue, ids: &[&str]) -> Vec<Put> {
    let messages: Vec<_> = ids.iter().map(|id| message(id)).collect();
    queue.put(&messages).await.unwrap()
}

fn ids(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|one| one.id.as_str()).collect()
}
