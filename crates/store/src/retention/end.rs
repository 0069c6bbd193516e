//! The seal: the only end of a log. Whoever wants to write the next commit must have read it.

use icecore_log::{BlobId, Entry, Error, ErrorKind, Event, Head, Header, LogId, Result, Swept, Version};

use crate::retention::{self, hold::Intent};
use crate::{Log, Store};

/// Says that nothing comes behind it, and why.
const SEALED: &str = "icecore.sealed";

/// What became of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The version of its seal, which stays: so nobody who was slow can bring the log back.
    pub seal: Version,
    /// What was deleted at once; where a late writer is told by the clock, the rest follows with the next sweep.
    pub swept: Swept,
    /// Whether it had been deleted before.
    pub repeated: bool,
}

impl Store {
    /// Deletes a log: its commits, its documents, its snapshots and its ids. Its name is not free for another: the commit that says that
    /// it was deleted stays.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it has no commit; [`Refused`](ErrorKind::Refused) if somebody holds it, or it is still being
    /// read by this process; else as [`Log::append`].
    pub async fn delete_log(&self, id: &LogId) -> Result<Deleted> {
        let deleted = self.delete_log_at(id, None).await?;
        deleted.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "deleting a log").with("log", id).advise("There is no such log")
        })
    }

    /// As [`Store::delete_log`]; if a version is named, only if the log ends there: else somebody has used it since. `None` if it does not,
    /// or there is no such log.
    pub(super) async fn delete_log_at(&self, id: &LogId, head: Option<Version>) -> Result<Option<Deleted>> {
        if retention::is_own(id) {
            return Err(Error::new(ErrorKind::Refused, "deleting a log")
                .with("log", id)
                .advise("It is Icecore's own: what is held, and what is kept, is in it"));
        }
        let log = self.log(id.clone());
        let Some(found) = log.raw_head().await? else { return Ok(None) };
        let (repeated, intent) = (is_deleted(&log.decode(&found)?), Intent::all(head));
        if !repeated {
            log.wait_for_readers(Version(u64::MAX)).await?;
            self.retention()?.begin(id, &intent).await?;
        }
        let sealed = log.seal_and_clear(head).await?;
        self.retention()?.end(id, &intent).await?;
        Ok(sealed.map(|(seal, swept)| Deleted { seal, swept, repeated }))
    }

    /// Whether nothing holds a log that would be deleted.
    pub(super) async fn may_delete(&self, id: &LogId, head: Option<Version>) -> Result<bool> {
        match self.retention()?.check(id, &Intent::all(head)).await {
            Ok(_) => Ok(true),
            Err(error) if retention::hold::is_held(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A seal that is a base holds nothing, and nothing before it is needed.
pub(crate) fn is_deleted(header: &Header) -> bool {
    header.flags.seal && header.flags.base
}

pub(crate) fn deleted(log: &LogId, seal: Version) -> Error {
    Error::new(ErrorKind::NotFound, "reading a log's state")
        .with("log", log)
        .with("sealed_at", seal)
        .advise("The log was deleted")
}

impl Log {
    /// Ends the log, if it has not ended, and deletes what can be deleted. `None` if it has gone on from where it was to end, or there is
    /// no such log.
    pub(super) async fn seal_and_clear(&self, only_at: Option<Version>) -> Result<Option<(Version, Swept)>> {
        let Some(seal) = self.end_it(only_at).await? else { return Ok(None) };
        let backend = &self.store.0.backend;
        backend.close(&self.id, seal.previous()).await?;
        let swept = backend.sweep(&self.id).await?;
        self.clear_blobs().await?;
        Ok(Some((seal, swept)))
    }

    /// The version of the seal, which is written if there is none.
    async fn end_it(&self, only_at: Option<Version>) -> Result<Option<Version>> {
        let Some(head) = self.raw_head().await? else { return Ok(None) };
        if is_deleted(&self.decode(&head)?) {
            return Ok(Some(head.version));
        }
        let event = Event::new(SEALED, r#"{"because":"deleted"}"#);
        let error = match self.enqueue_seal(Entry::new(event), only_at).await?.receipt().await {
            Ok(receipt) => return Ok(Some(receipt.version)),
            Err(error) => error,
        };
        // Somebody else may have been first with the same.
        match self.raw_head().await? {
            Some(head) if is_deleted(&self.decode(&head)?) => Ok(Some(head.version)),
            _ if error.kind() == ErrorKind::Conflict => Ok(None),
            _ => Err(error),
        }
    }

    async fn clear_blobs(&self) -> Result<()> {
        let backend = &self.store.0.backend;
        for blob in backend.list_blobs(&self.id, "").await? {
            backend.delete_blob(&BlobId::new(self.id.clone(), &blob.name)?).await?;
        }
        Ok(())
    }

    /// Deletes what was written beside the log while somebody deleted it. Whoever writes a blob calls it then: either they see the seal, or
    /// whoever sealed the log sees the blob.
    pub(crate) async fn clear_if_deleted(&self) -> Result<bool> {
        match self.raw_head().await? {
            Some(head) if is_deleted(&self.decode(&head)?) => self.clear_blobs().await.map(|()| true),
            _ => Ok(false),
        }
    }

    /// The header of the head.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the log was deleted.
    pub(crate) fn living(&self, head: &Head) -> Result<Header> {
        let header = self.decode(head)?;
        if is_deleted(&header) { Err(deleted(&self.id, header.version)) } else { Ok(header) }
    }
}
