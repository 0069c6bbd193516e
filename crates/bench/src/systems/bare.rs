//! Rows by the system's own client: how they are shared out, and which client it is.

use std::ops::Range;
use std::time::Instant;

use async_trait::async_trait;
use icecore::Result;
use tokio::task::JoinSet;

use super::{BODY, HEADER, Place, Written, buckets, embedded, servers};
use crate::measure::text;
use crate::memory::all;

/// A connection of a client's own.
#[async_trait]
pub trait Client: Send + 'static {
    /// Puts rows, none of which is there yet, in one request: or at once, where one request takes one row.
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()>;
}

/// What each row holds.
#[derive(Debug, Clone)]
pub struct Bytes {
    pub header: Vec<u8>,
    pub body: Vec<u8>,
}

impl Bytes {
    pub fn of(seed: usize) -> Self {
        Self { header: text(HEADER, seed as u64), body: text(BODY, seed as u64) }
    }
}

/// Seconds for so many rows, in requests and connections as the store's.
pub async fn rows(place: &Place, system: &str, rows: usize, written: &Written) -> Result<f64> {
    let Written { batch, at_once, .. } = *written;
    if let (Place::Folder(folder), "file") = (place, system) {
        return embedded::file(folder.path(), rows, batch);
    }
    let mut clients: Vec<Box<dyn Client>> = Vec::new();
    match place {
        Place::Memory => clients.push(Box::new(embedded::Map::default())),
        Place::Folder(folder) => clients.push(Box::new(embedded::Sqlite::open(folder.path())?)),
        Place::Bucket(url) => {
            for _ in 0..at_once {
                clients.push(Box::new(buckets::Bucket::open(url)?));
            }
        }
        server => servers::open(server, at_once, &mut clients).await?,
    }
    let share = rows.div_ceil(clients.len());
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let (first, behind) = (number * share, ((number + 1) * share).min(rows));
        let bytes = Bytes::of(number);
        running.spawn(async move {
            for from in (first..behind).step_by(batch) {
                client.put(from..(from + batch).min(behind), &bytes).await?;
            }
            Ok(())
        });
    }
    all(&mut running).await?;
    Ok(started.elapsed().as_secs_f64())
}
