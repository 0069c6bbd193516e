//! From a URL to a store.

#[cfg(any(feature = "file", feature = "sqlite"))]
use std::path::PathBuf;
use std::sync::Arc;

use icecore_layers::retry::Policy;
use icecore_layers::{Meters, Retry};
pub use icecore_log::Access;
use icecore_log::{Backend, Error, ErrorKind, Result, SystemEntropy};
use icecore_store::state::Reducers;
use icecore_store::{Settings, Store};

use crate::url;

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// To write, or only to read.
    pub access: Access,
    /// Bounds.
    pub settings: Settings,
    /// Merges of the caller's own.
    pub reducers: Reducers,
    /// Tries again what is transient, opening included. `None`, which is the default, hands it to the caller at once.
    pub retry: Option<Policy>,
    /// Counts what is asked of the backend. `None`, which is the default, counts nothing and costs nothing.
    pub metrics: Option<Meters>,
}

/// Opens a store for reading and writing, with the default settings.
///
/// | URL | system |
/// | --- | --- |
/// | `memory:` | this process; forgotten when dropped |
/// | `file:PATH` | a directory; one writing process, any number of reading ones |
/// | `sqlite:PATH` | a SQLite database; any number of writing and reading processes |
/// | `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE` | a schema of a PostgreSQL database, `schema=icecore`, on the one of its servers that is the primary; any number of writing and reading processes; feature `postgres` |
/// | `mysql://USER:PASSWORD@HOST:PORT/DATABASE` | a database of MySQL 8 or MariaDB 10.11, which `mariadb://` names too; any number of writing and reading processes; feature `mysql` |
/// | `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` | objects in S3, Google Cloud Storage, Azure Blob Storage, or a server that speaks as they do (`endpoint=URL`); any number of writing and reading processes; credentials from the environment; feature `object` |
/// | `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY`, `redis+cluster://HOST:PORT,HOST:PORT`, with TLS `rediss` | keys in Redis or Valkey, `prefix=icecore`; any number of writing and reading processes; feature `redis` |
/// | `mongodb://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE` | collections of a MongoDB database, `icecore`; any number of writing and reading processes; feature `mongodb` |
/// | `dynamodb://TABLE?region=REGION` | items of a DynamoDB table, `prefix=icecore`, which `create=true` makes; any number of writing and reading processes; credentials from the environment or AWS's file; feature `dynamodb` |
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
        let backend = match &self.retry {
            None => self.backend(url).await?,
            Some(policy) => policy.opening(&SystemEntropy, || self.backend(url)).await?,
        };
        let builder = Store::builder(self.layered(backend)).settings(self.settings.clone());
        Ok(builder.reducers(self.reducers.clone()).build())
    }

    /// The layers that were asked for; metrics outermost, so that they show what callers see.
    fn layered(&self, mut backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if let Some(policy) = &self.retry {
            let retry = Retry::new(backend, policy.clone());
            backend = match &self.metrics {
                Some(meters) => Arc::new(retry.counted_by(meters)),
                None => Arc::new(retry),
            };
        }
        match &self.metrics {
            Some(meters) => Arc::new(meters.around(backend)),
            None => backend,
        }
    }

    async fn backend(&self, url: &str) -> Result<Arc<dyn Backend>> {
        let (scheme, rest) = url::split(url)?;
        match scheme {
            #[cfg(feature = "file")]
            "memory" if rest.is_empty() => Ok(Arc::new(icecore_embedded::Memory::default())),
            #[cfg(feature = "file")]
            "file" => {
                use icecore_embedded::{FileStore, file::Settings};
                let (path, access) = (PathBuf::from(url::path(url, rest)?), self.access);
                blocking(move || FileStore::open(&path, access, Settings::default())).await
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                use icecore_sql::{SqliteStore, sqlite::Settings};
                let (path, access) = (PathBuf::from(url::path(url, rest)?), self.access);
                blocking(move || SqliteStore::open(&path, access, Settings::default())).await
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let settings = icecore_sql::postgres::Settings::parse(url)?;
                Ok(Arc::new(icecore_sql::Postgres::open(settings, self.access).await?))
            }
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => {
                let settings = icecore_sql::mysql::Settings::parse(url)?;
                Ok(Arc::new(icecore_sql::MySql::open(settings, self.access).await?))
            }
            #[cfg(feature = "object")]
            "s3" | "gs" | "az" => Ok(Arc::new(icecore_object::cloud::open(url, self.access).await?)),
            #[cfg(feature = "redis")]
            "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
            | "rediss+cluster" => {
                let settings = icecore_redis::Settings::parse(url)?;
                Ok(Arc::new(icecore_redis::Redis::open(settings, self.access).await?))
            }
            #[cfg(feature = "dynamodb")]
            "dynamodb" => {
                let settings = icecore_dynamodb::Settings::parse(url)?;
                Ok(Arc::new(icecore_dynamodb::DynamoDb::open(settings, self.access).await?))
            }
            #[cfg(feature = "mongodb")]
            "mongodb" | "mongodb+srv" => {
                let settings = icecore_mongodb::Settings::parse(url)?;
                Ok(Arc::new(icecore_mongodb::MongoDb::open(settings, self.access).await?))
            }
            _ => Err(Error::new(ErrorKind::Invalid, "opening a store")
                .with("url", url::redact(url))
                .advise(format!("This build knows {}", url::forms()))),
        }
    }
}

/// Opens what reads and waits while it opens, outside of the runtime's own threads.
#[cfg(any(feature = "file", feature = "sqlite"))]
async fn blocking<B: Backend>(open: impl FnOnce() -> Result<B> + Send + 'static) -> Result<Arc<dyn Backend>> {
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(error) => Err(Error::new(ErrorKind::Unavailable, "opening a store").because(error)),
    }
}
