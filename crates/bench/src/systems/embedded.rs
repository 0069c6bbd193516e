//! What needs no server.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use icecore::Result;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::bare::{Bytes, Client};
use super::{BODY, HEADER, failed};
use crate::file::{ZEROS, bare};

/// The same bytes with a sync for each group.
pub fn file(folder: &Path, rows: usize, batch: usize) -> Result<f64> {
    let bytes = rows * (HEADER + BODY);
    bare(&folder.join("bare"), rows.div_ceil(batch) as u64, bytes as u64, ZEROS)
}

/// Memory has no client: a map, and the hash that a commit cannot do without.
#[derive(Default)]
pub struct Map(BTreeMap<usize, (Bytes, [u8; 32])>);

#[async_trait]
impl Client for Map {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        for row in rows {
            let hash = Sha256::digest(&bytes.body).into();
            self.0.insert(row, (bytes.clone(), hash));
        }
        Ok(())
    }
}

/// A connection that syncs each transaction, with a log of its own beside the database, as the store's.
pub struct Sqlite(Connection);

impl Sqlite {
    pub fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("bare")).map_err(failed)?;
        let make = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE bare (log INTEGER, version INTEGER, header BLOB, body BLOB, PRIMARY KEY (log, version)) WITHOUT ROWID";
        connection.execute_batch(make).map_err(failed)?;
        Ok(Self(connection))
    }
}

#[async_trait]
impl Client for Sqlite {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let transaction = self.0.transaction().map_err(failed)?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO bare VALUES (?, 1, ?, ?)").map_err(failed)?;
        for row in rows {
            insert.execute((row as i64, &bytes.header, &bytes.body)).map_err(failed)?;
        }
        drop(insert);
        transaction.commit().map_err(failed)
    }
}
