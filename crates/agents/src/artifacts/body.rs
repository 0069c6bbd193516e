//! Content, in blobs of its session's log: written as it comes, a few MiB at a time, and checked as it is read.
//!
//! A blob is called `content-<body>-<part>`, and the body `<when>-<random>`: when it was begun, so that a sweep can tell what was left behind from
//! what is being written.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use icecore_log::{BlobId, Error, ErrorKind, Hash, Result};
use icecore_store::{CONTENT, Log};
use sha2::{Digest, Sha256};

use super::record::Record;
use super::{Artifact, gone};

/// The most bytes of a part: what is in memory of content that comes or goes.
pub const PART_BYTES: usize = 4 << 20;
/// Less than this is hashed where it is.
const HASHED_HERE: usize = 64 << 10;
/// Pauses between tries of one part.
const PAUSES_MS: [u64; 5] = [20, 100, 500, 2_000, 5_000];

/// A body's name: when it was begun, and what tells it from all others.
pub(super) fn name(now_ms: i64, random: [u8; 16]) -> String {
    format!("{:016x}-{:032x}", now_ms.max(0), u128::from_be_bytes(random))
}

/// When a body was begun, by the name of one of its blobs; and its name.
pub(super) fn begun(blob: &str) -> Option<(&str, i64)> {
    let body = blob.strip_prefix(CONTENT)?.rsplit_once('-')?.0;
    Some((body, begun_at(body)?))
}

/// When a body was begun.
pub(super) fn begun_at(body: &str) -> Option<i64> {
    i64::from_str_radix(body.split_once('-')?.0, 16).ok()
}

fn blob(log: &Log, body: &str, part: usize) -> Result<BlobId> {
    BlobId::new(log.id().clone(), &format!("{CONTENT}{body}-{part:08x}"))
}

/// Content on its way in.
#[derive(Debug)]
pub(super) struct Writing {
    log: Log,
    pub name: String,
    /// What is not a part yet: less than one.
    rest: BytesMut,
    hash: Sha256,
    pub parts: Vec<String>,
    pub bytes: u64,
}

impl Writing {
    pub fn new(log: Log, name: String) -> Self {
        let (rest, parts) = (BytesMut::new(), Vec::new());
        Self { log, name, rest, hash: Sha256::new(), parts, bytes: 0 }
    }

    /// Takes what comes next, and writes the parts that are whole.
    pub async fn add(&mut self, mut chunk: Bytes) -> Result<()> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        while self.rest.len() + chunk.len() >= PART_BYTES {
            let whole = chunk.split_to(PART_BYTES - self.rest.len());
            let part = if self.rest.is_empty() {
                whole
            } else {
                self.rest.extend_from_slice(&whole);
                self.rest.split().freeze()
            };
            self.write(part).await?;
        }
        self.rest.extend_from_slice(&chunk);
        Ok(())
    }

    /// Writes what is left, and gives the hash of all.
    pub async fn end(&mut self) -> Result<String> {
        if !self.rest.is_empty() {
            let part = self.rest.split().freeze();
            self.write(part).await?;
        }
        Ok(Hash(self.hash.clone().finalize().into()).to_string())
    }

    async fn write(&mut self, part: Bytes) -> Result<()> {
        let mut hash = std::mem::take(&mut self.hash);
        let hashed = part.clone();
        let (hash, own) = apart(part.len(), move || {
            hash.update(&hashed);
            (hash, Hash::of(&hashed).to_string())
        })
        .await?;
        self.hash = hash;
        let blob = blob(&self.log, &self.name, self.parts.len())?;
        // Counted before it is there, so that it is deleted with the others whatever becomes of it.
        self.parts.push(own);
        put(&self.log, &blob, part).await
    }

    /// Deletes what was written; what is left of it, a sweep finds.
    pub async fn abandon(&self) {
        delete_parts(&self.log, &self.name, self.parts.len()).await;
    }
}

/// Puts a blob. Nobody else has its name, so that the same may be done again.
async fn put(log: &Log, blob: &BlobId, bytes: Bytes) -> Result<()> {
    let mut pauses = PAUSES_MS.iter();
    loop {
        let error = match log.store().backend().put_blob(blob, bytes.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_transient = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown);
        match pauses.next() {
            Some(pause) if is_transient => tokio::time::sleep(Duration::from_millis(*pause)).await,
            // Whether it is there makes no difference: nothing speaks of it.
            _ if error.kind() == ErrorKind::Unknown => {
                return Err(Error::new(ErrorKind::Unavailable, "storing an artifact")
                    .because(error)
                    .advise("Nothing was stored: retry"));
            }
            _ => return Err(error),
        }
    }
}

/// Deletes the content of records that are gone. What fails now, a sweep does.
pub(super) async fn delete(log: &Log, records: &[Record]) {
    for record in records {
        delete_parts(log, &record.body, record.parts.len()).await;
    }
}

async fn delete_parts(log: &Log, body: &str, count: usize) {
    for part in 0..count {
        let Ok(blob) = blob(log, body, part) else { return };
        if log.store().backend().delete_blob(&blob).await.is_err() {
            return;
        }
    }
}

/// What takes long is done beside the threads that serve others.
pub(super) async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes < HASHED_HERE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Unavailable, "hashing an artifact").because(error))
}

/// Content on its way out. Each part is checked before it is given.
#[derive(Debug)]
pub struct Reading {
    artifact: Artifact,
    next: usize,
    bytes: u64,
}

impl Reading {
    pub(super) fn new(artifact: Artifact) -> Self {
        Self { artifact, next: 0, bytes: 0 }
    }

    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is damaged, or missing: it is not given. [`ErrorKind::NotFound`] if the artifact was deleted meanwhile. Else as the
    /// backend has it.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let Artifact { of, record, .. } = &self.artifact;
        let Some(expected) = record.parts.get(self.next).cloned() else {
            return if self.bytes == record.bytes {
                Ok(None)
            } else {
                Err(self.damaged("Its length is another"))
            };
        };
        let blob = blob(&of.log, &record.body, self.next)?;
        let Some(part) = of.log.store().backend().get_blob(&blob, None).await? else {
            let state = of.log.state().await.map(Some).or_else(gone)?;
            let now = state.map_or(Ok(None), |state| of.record(&state, &record.id))?;
            if now.is_some_and(|now| now.body == record.body) {
                return Err(self.damaged("A part of its content is missing"));
            }
            return Err(Error::new(ErrorKind::NotFound, "reading an artifact")
                .with("id", &record.id)
                .advise("It was deleted meanwhile"));
        };
        let hashed = part.clone();
        if apart(part.len(), move || Hash::of(&hashed).to_string()).await? != expected {
            return Err(self.damaged("A part of its content is not what was stored"));
        }
        (self.next, self.bytes) = (self.next + 1, self.bytes + part.len() as u64);
        Ok(Some(part))
    }

    fn damaged(&self, how: &'static str) -> Error {
        let Artifact { of, record, .. } = &self.artifact;
        Error::new(ErrorKind::Corrupt, "reading an artifact")
            .with("log", of.log.id())
            .with("id", &record.id)
            .with("part", self.next)
            .advise(format!("{how}: delete it, or bring it back from a copy of the store"))
    }
}
