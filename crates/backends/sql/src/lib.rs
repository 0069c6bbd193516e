//! Backends in SQL databases: `SqliteStore`, and with the features `postgres` and `mysql` also `PostgresStore` and `MySqlStore`.

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
#[cfg_attr(
    not(all(feature = "mysql", feature = "postgres")),
    allow(dead_code, reason = "what only the other needs")
)]
mod server;
#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "mysql")]
pub use mysql::{MySql, MySqlStore};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// The refusal of a store whose tables a later version has made.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn later_format(format: i64, format_max: i64) -> icecore_log::Error {
    icecore_log::Error::new(icecore_log::ErrorKind::Refused, "opening a store")
        .with("format", format)
        .with("format_max", format_max)
        .advise("It was written by a later version of Icecore: use that one")
}
