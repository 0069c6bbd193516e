//! MySQL and MariaDB: the contract on a real MariaDB, and this backend's own promises.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod commits;
#[path = "../shared/crashes.rs"]
mod crashes;
#[path = "../shared/network.rs"]
mod network;
mod opening;
mod races;
#[path = "../shared/secured.rs"]
mod secured;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, Result};
use icecore_services::certificates::Certificates;
use icecore_services::mariadb::{Database, Server, encoded, sql};
use icecore_services::proxy::{Flow, Proxy, Way};
use icecore_sql::mysql::{Access, Settings};
use icecore_sql::{MySql, MySqlStore as Store};

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
    Database::create(&icecore_services::url("mariadb")).unwrap()
}

async fn store(url: &str) -> Result<Store> {
    MySql::open(Settings::parse(url)?, Access::ReadWrite).await
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
    Arc::new(MySql::open(settings, Access::ReadWrite).await.unwrap())
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
const IS_ONE_STATEMENT: bool = false;

/// What becomes of what arrives from when a create is committed.
fn at_the_commit(proxy: &Proxy, way: Way, flow: Flow) {
    proxy.set_from("COMMIT", way, flow);
}

fn cut_connections(url: &str) {
    let others =
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let others = sql(url, &[others]).unwrap();
    assert_ne!(others, "");
    for id in others.lines() {
        // It may have ended.
        let _ = sql(url, &[&format!("KILL {id}")]);
    }
}

/// A server with a certificate, which takes connections without encryption too; and the URL with a password, by whom the server is trusted.
fn secured_server(certificates: &Certificates) -> (Server, impl Fn(&str, Option<&str>) -> String) {
    let files = [
        format!("ssl-ca={}", certificates.authority()),
        format!("ssl-cert={}", certificates.server()),
        format!("ssl-key={}", certificates.key()),
    ];
    let server = Server::start(&files.each_ref().map(String::as_str)).unwrap();
    let place = server.url().rsplit_once('@').unwrap().1.to_owned();
    let named = move |password: &str, authority: Option<&str>| {
        let tls = authority.map_or_else(
            || "ssl-mode=DISABLED".to_owned(),
            |authority| format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}"),
        );
        format!("mysql://root:{}@{place}?timeout_ms=4000&{tls}", encoded(password))
    };
    (server, named)
}
