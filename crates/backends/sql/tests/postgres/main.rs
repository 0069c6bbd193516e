//! PostgreSQL: the contract on a real server, and this backend's own promises.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../shared/crashes.rs"]
mod crashes;
mod failover;
#[path = "../shared/network.rs"]
mod network;
mod opening;
mod pooled;
mod races;
#[path = "../shared/secured.rs"]
mod secured;
mod standbys;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, Result};
use icecore_services::certificates::Certificates;
use icecore_services::postgres::{Database, PASSWORD, SECURED, Server, sql};
use icecore_services::proxy::{Flow, Proxy, Way};
use icecore_sql::postgres::{Access, Settings};
use icecore_sql::{Postgres, PostgresStore as Store};

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

async fn store(url: &str) -> Result<Store> {
    Postgres::open(Settings::parse(url)?, Access::ReadWrite).await
}

async fn open_at(url: String) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(store(&url).await?))
}

/// A store whose statements wait for another writer as long as that takes.
async fn patient_store(url: &str) -> Arc<Store> {
    store_with(url, |settings| {
        settings.bounds.lock_timeout = MINUTE;
        settings.bounds.timeout = MINUTE;
    })
    .await
}

async fn store_with(url: &str, set: impl FnOnce(&mut Settings)) -> Arc<Store> {
    let mut settings = Settings::parse(url).unwrap();
    set(&mut settings);
    Arc::new(Postgres::open(settings, Access::ReadWrite).await.unwrap())
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

/// Whether a create is one statement, which commits itself.
const IS_ONE_STATEMENT: bool = true;

/// What becomes of what arrives from when a create is committed.
fn at_the_commit(proxy: &Proxy, way: Way, flow: Flow) {
    proxy.set(way, flow);
}

fn cut_connections(url: &str) {
    let cut = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(sql(url, &[cut]).unwrap(), "t");
}

/// A server with a certificate, which takes connections without encryption too; and the URL with a password, by whom the server is trusted.
fn secured_server(certificates: &Certificates) -> (Server, impl Fn(&str, Option<&str>) -> String) {
    let files = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificates.server()),
        format!("ssl_key_file={}", certificates.key()),
    ];
    let server = Server::start(&files.each_ref().map(String::as_str)).unwrap();
    let role = format!("CREATE ROLE {SECURED} LOGIN PASSWORD '{PASSWORD}'");
    sql(&server.url(), &[&role, &format!("GRANT CREATE ON DATABASE postgres TO {SECURED}")]).unwrap();
    let url = server.url();
    let named = move |password: &str, authority: Option<&str>| {
        let password: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let tls = authority.map_or_else(
            || "sslmode=disable".to_owned(),
            |authority| format!("sslmode=verify-full&sslrootcert={authority}"),
        );
        let url = url.replace("postgres@", &format!("{SECURED}:{password}@"));
        format!("{url}?timeout_ms=4000&{tls}")
    };
    (server, named)
}
