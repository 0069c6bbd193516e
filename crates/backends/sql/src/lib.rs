//! Backends in SQL databases. Now there is one: [`SqliteStore`].

#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
