//! Redis and Valkey: the contract on real servers, and this backend's own promises.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod crashes;
mod failover;
mod faults;
mod opening;
mod secured;
mod together;
mod valkey;

use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::Place;
use icecore_log::{Backend, Result};
use icecore_redis::{Access, Redis, RedisStore, Settings};
use icecore_services::redis::Prefix;

mod conformance {
    use super::*;

    async fn open() -> Place<Prefix> {
        place(prefix()).await
    }

    icecore_conformance::conformance_tests!(open);
}

/// Keys of the test's own, in the server of the run.
fn prefix() -> Prefix {
    Prefix::new(&icecore_services::url("redis"))
}

async fn place(prefix: Prefix) -> Place<Prefix> {
    let write = |prefix: &Prefix| open_at(prefix.url());
    Place::open(prefix, write).await.with_others(write)
}

async fn store(url: &str) -> Result<RedisStore> {
    Redis::open(Settings::parse(url)?, Access::ReadWrite).await
}

async fn open_at(url: String) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(store(&url).await?))
}

/// The guard of a hung test, and no measure.
const MINUTE: Duration = Duration::from_secs(60);
