//! Artifacts: what is stored comes back or is gone by the limits, of each owner alone, whoever is killed where.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod copies;
mod deaths;
mod golden;
mod limits;
#[cfg(target_os = "linux")]
mod memory;
#[path = "../../../store/tests/support/mortal.rs"]
mod mortal;
mod owners;
#[path = "../support/mod.rs"]
mod support;
mod sweeps;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_agents::artifacts::{Artifact, Artifacts, Owned, Owner, Retention, What};
use icecore_agents::{Kind, Tenant};
use icecore_embedded::Memory;
use icecore_log::{Backend, BlobId, Clock, LogId};
use icecore_store::state::Json;
use icecore_store::{CONTENT, Settings, Store};
use support::ManualClock;

/// A storage system, a clock that the test drives, and stores as several processes have them.
struct World {
    backend: Arc<dyn Backend>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self::over(Arc::new(Memory::default()))
    }

    fn over(backend: Arc<dyn Backend>) -> Self {
        Self { backend, clock: ManualClock::new() }
    }

    fn pass(&self, time: Duration) {
        self.clock.pass(time);
    }

    fn store_over(&self, backend: Arc<dyn Backend>) -> Store {
        let mut settings = Settings::default();
        settings.append_timeout = Duration::from_secs(5);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Store::builder(backend).settings(settings).clock(clock).build()
    }

    fn store(&self) -> Store {
        self.store_over(Arc::clone(&self.backend))
    }

    /// As another process has them.
    fn artifacts(&self, retention: Retention) -> Artifacts {
        Artifacts::new(self.store(), tenant()).with_retention(retention)
    }

    fn session(&self, retention: Retention, session: &str) -> Owned {
        self.artifacts(retention).of(&Owner::session(session)).unwrap()
    }

    fn log(&self, session: &str) -> LogId {
        tenant().log(Kind::Artifacts, session.as_bytes()).unwrap()
    }

    /// The names of the blobs that hold content.
    async fn blobs(&self, session: &str) -> Vec<BlobId> {
        let log = self.log(session);
        let found = self.backend.list_blobs(&log, CONTENT).await.unwrap();
        found.into_iter().map(|blob| BlobId::new(log.clone(), &blob.name).unwrap()).collect()
    }
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn what(name: &str) -> What {
    what_in(None, name)
}

fn what_in(trace: Option<&str>, name: &str) -> What {
    let about = Json::of(&std::collections::BTreeMap::from([("filename", name)])).unwrap();
    What { namespace: None, trace: trace.map(|trace| trace.as_bytes().to_vec()), about }
}

/// So many bytes that are those of a name.
fn content(name: &str, size: usize) -> Bytes {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(size, b'.');
    bytes.into()
}

async fn put(owned: &Owned, name: &str, size: usize) -> Artifact {
    owned.put(what(name), content(name, size)).await.unwrap()
}

async fn text(artifact: &Artifact) -> Vec<u8> {
    artifact.content().await.unwrap().unwrap().concat()
}

fn name(artifact: &Artifact) -> String {
    let about: std::collections::BTreeMap<String, String> =
        serde_json::from_str(artifact.record().about.get()).unwrap();
    about["filename"].clone()
}

/// The names of those that are there, by the alphabet.
async fn left(world: &World, session: &str) -> Vec<String> {
    let all = world.artifacts(Retention::default()).list(Some(session.as_bytes())).await.unwrap();
    let mut names: Vec<_> = all.iter().map(name).collect();
    names.sort();
    names
}
