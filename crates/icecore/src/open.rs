//! From a URL to a store.

use std::sync::Arc;

use icecore_log::{Backend, Error, ErrorKind, Result};
use icecore_store::{Settings, Store};

use crate::url;

/// Whether a store is opened to write or only to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Creates what is missing; may hold a lock.
    #[default]
    ReadWrite,
    /// Creates nothing and holds no lock: for looking at a store that others write.
    ReadOnly,
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// To write, or only to read.
    pub access: Access,
    /// Bounds.
    pub settings: Settings,
}

/// Opens a store for reading and writing, with the default settings.
///
/// | URL | system |
/// | --- | --- |
/// | `memory:` | this process; forgotten when dropped |
/// | `file:PATH` | a directory; one writing process, any number of reading ones |
/// | `sqlite:PATH` | a SQLite database; any number of writing and reading processes |
/// | `postgres://USER:PASSWORD@HOST:PORT/DATABASE` | a schema of a PostgreSQL database, `schema=icecore`; any number of writing and reading processes; feature `postgres` |
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is no URL of a system in this build; else as the system has it.
pub async fn open(url: &str) -> Result<Store> {
    Open::default().open(url).await
}

impl Open {
    /// Opened to read only.
    pub fn read_only() -> Self {
        Self { access: Access::ReadOnly, ..Self::default() }
    }

    /// Opens a store.
    ///
    /// # Errors
    /// As [`open`]; [`ErrorKind::NotFound`] if it is to be read only and is not there.
    pub async fn open(&self, url: &str) -> Result<Store> {
        let backend = self.backend(url).await?;
        Ok(Store::builder(backend).settings(self.settings.clone()).build())
    }

    async fn backend(&self, url: &str) -> Result<Arc<dyn Backend>> {
        let (scheme, rest) = url::split(url)?;
        match scheme {
            #[cfg(feature = "file")]
            "memory" if rest.is_empty() => Ok(Arc::new(icecore_embedded::Memory::default())),
            #[cfg(feature = "file")]
            "file" => {
                use icecore_embedded::file;
                let path = std::path::Path::new(url::path(url, rest)?);
                let access = match self.access {
                    Access::ReadWrite => file::Access::ReadWrite,
                    Access::ReadOnly => file::Access::ReadOnly,
                };
                Ok(Arc::new(icecore_embedded::FileStore::open(path, access, file::Settings::default())?))
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                use icecore_sql::sqlite;
                let path = std::path::Path::new(url::path(url, rest)?);
                let access = match self.access {
                    Access::ReadWrite => sqlite::Access::ReadWrite,
                    Access::ReadOnly => sqlite::Access::ReadOnly,
                };
                Ok(Arc::new(icecore_sql::SqliteStore::open(path, access, sqlite::Settings::default())?))
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                use icecore_sql::postgres;
                let access = match self.access {
                    Access::ReadWrite => postgres::Access::ReadWrite,
                    Access::ReadOnly => postgres::Access::ReadOnly,
                };
                Ok(Arc::new(icecore_sql::PostgresStore::open(postgres::Settings::parse(url)?, access).await?))
            }
            _ => Err(Error::new(ErrorKind::Invalid, "opening a store")
                .with("url", url::redact(url))
                .advise(format!("This build knows {}", url::forms()))),
        }
    }
}
