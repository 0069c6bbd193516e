//! MongoDB: the contract on a real server, and this backend's own promises.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failover;
mod faults;
mod group;
mod opening;
mod secured;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, Result};
use icecore_mongodb::{Access, MongoDb, MongoStore, Settings};
use icecore_services::mongodb::Database;

/// In a replica set of one.
mod conformance {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<Database> {
        let write = |database: &Database| open_at(database.url(), |_| {});
        Place::open(database(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

/// Everything that is closed may be deleted at once, and every writer looks each time.
mod without_grace {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<Database> {
        let write = |database: &Database| open_at(database.url(), |settings| settings.grace = Duration::ZERO);
        Place::open(database(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

/// A database of the test's own, in the server of the run.
fn database() -> Database {
    Database::new(&icecore_services::url("mongodb"))
}

async fn store(url: &str) -> Result<MongoStore> {
    MongoDb::open(Settings::parse(url)?, Access::ReadWrite).await
}

async fn open_at(url: String, set: fn(&mut Settings)) -> Result<Arc<dyn Backend>> {
    let mut settings = Settings::parse(&url)?;
    set(&mut settings);
    Ok(Arc::new(MongoDb::open(settings, Access::ReadWrite).await?))
}

/// The guard of a hung test, and no measure.
const MINUTE: Duration = Duration::from_secs(60);
