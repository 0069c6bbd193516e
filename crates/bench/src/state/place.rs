//! Where states are kept: a store of its own for each measurement, and what it takes on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use icecore::{Result, Store};
use icecore_services::postgres::{Database, Server, sql};
use tempfile::TempDir;

use crate::file::{failed, folder};
use crate::postgres::said;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    File,
    Sqlite,
    Postgres,
}

impl System {
    pub const ALL: [Self; 3] = [Self::File, Self::Sqlite, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Which of LangGraph's savers stands beside it: where there is no server, that of SQLite.
    pub fn peer(self) -> Self {
        if self == Self::File { Self::Sqlite } else { self }
    }
}

/// A store that goes with this.
pub struct Place {
    system: System,
    url: String,
    folder: TempDir,
    database: Option<Database>,
}

/// All tables, with their indexes and what PostgreSQL keeps beside them; the same query measures LangGraph's.
const POSTGRES_BYTES: &str = "SELECT sum(pg_total_relation_size(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')";

impl Place {
    /// `server` is for [`System::Postgres`].
    pub fn new(system: System, server: Option<&Server>) -> Result<Self> {
        let folder = folder()?;
        let at = folder.path().join("store");
        let database = match (system, server) {
            (System::Postgres, Some(server)) => Some(Database::create(&server.url()).map_err(said)?),
            (System::Postgres, None) => return Err(said("no server was started".to_owned())),
            (System::File | System::Sqlite, _) => None,
        };
        let url = match &database {
            Some(database) => database.url(),
            None => format!("{}:{}", system.name(), at.display()),
        };
        Ok(Self { system, url, folder, database })
    }

    pub async fn open(&self) -> Result<Store> {
        icecore::open(&self.url).await
    }

    /// Once the store is shut down: blocks of files as `du` counts them, a SQLite database's length, PostgreSQL's tables.
    pub fn bytes(&self) -> Result<f64> {
        if let Some(database) = &self.database {
            let bytes = sql(&database.url(), &[POSTGRES_BYTES]).map_err(said)?;
            return bytes.parse().map_err(|_| said(format!("the size of the tables is {bytes}")));
        }
        let size: fn(&fs::Metadata) -> u64 = match self.system {
            System::File => |found| found.blocks() * 512,
            _ => fs::Metadata::len,
        };
        total(self.folder.path(), size)
            .map(|bytes| bytes as f64)
            .map_err(|error| failed("measuring a store", error))
    }
}

fn total(folder: &Path, size: fn(&fs::Metadata) -> u64) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let (path, found) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        bytes += if found.is_dir() { total(&path, size)? } else { size(&found) };
    }
    Ok(bytes)
}
