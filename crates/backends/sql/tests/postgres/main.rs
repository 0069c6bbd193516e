//! PostgreSQL: the contract on a real server, and this backend's own promises.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crashes;
mod faults;
mod opening;
mod pooled;
mod races;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, Result};
use icecore_services::postgres::{Database, sql};
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

/// A store whose statements wait for another writer as long as that takes.
async fn patient_store(url: &str) -> Arc<PostgresStore> {
    store_with(url, |settings| {
        settings.lock_timeout = MINUTE;
        settings.timeout = MINUTE;
    })
    .await
}

async fn store_with(url: &str, set: impl FnOnce(&mut Settings)) -> Arc<PostgresStore> {
    let mut settings = Settings::parse(url).unwrap();
    set(&mut settings);
    Arc::new(PostgresStore::open(settings, Access::ReadWrite).await.unwrap())
}

/// The guard of a hung test, and no measure.
const MINUTE: Duration = Duration::from_secs(60);

/// Waits until a query answers with this.
async fn until(url: &str, query: &str, expected: &str) {
    let deadline = tokio::time::Instant::now() + MINUTE;
    loop {
        let found = sql(url, &[query]).unwrap();
        if found == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{query}: {found}, and not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
