//! Real servers for tests and for `cargo xtask test`: found, started, and never left behind.
//!
//! A test gets the address of a server that is shared by the whole run from [`url`], and makes a place of its own there, such as a
//! [`postgres::Database`]. A test that stops, kills or starves a server starts its own [`postgres::Server`].
//!
//! A server ends with the process that started it, however that one ends: see [`guard`].
#![expect(
    clippy::panic,
    reason = "a test without its server has failed: this crate is test code that others call"
)]

pub mod azurite;
pub mod buckets;
pub mod certificates;
pub mod dynamodb;
pub mod dynoxide;
pub mod gcs;
pub mod guard;
pub mod http;
mod kept;
pub mod mariadb;
pub mod mongodb;
pub mod moto;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod redis;

/// What fails here says what to do about it.
pub type Result<T = ()> = std::result::Result<T, String>;

/// The variable that holds the address of a service's shared server: `ICECORE_TEST_POSTGRES`.
pub fn variable(service: &str) -> String {
    format!("ICECORE_TEST_{}", service.to_ascii_uppercase())
}

/// The address of the server that the whole run shares.
///
/// # Panics
/// If there is none: a test that is skipped without a word would look like one that passed.
pub fn url(service: &str) -> String {
    let variable = variable(service);
    match std::env::var(&variable) {
        Ok(url) if !url.is_empty() => url,
        _ => panic!(
            "{variable} is not set. `cargo xtask test` starts a server and sets it; or set it to the address of a server that tests may fill"
        ),
    }
}
