//! PostgreSQL: the contract on a real server, and this backend's own promises.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use icecore_log::{Backend, Result};
use icecore_services::postgres::Database;
use icecore_sql::PostgresStore;
use icecore_sql::postgres::{Access, Settings};

mod conformance {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<Database> {
        let write = |database: &Database| open_at(database.url());
        Place::open(database(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

/// A database of the test's own, in the server of the run.
fn database() -> Database {
    Database::create(&icecore_services::url("postgres")).unwrap()
}

async fn store(url: &str) -> Result<PostgresStore> {
    PostgresStore::open(Settings::parse(url)?, Access::ReadWrite).await
}

async fn open_at(url: String) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(store(&url).await?))
}
