//! The caller's side of an append: encode, join what is pending, wait for the outcome.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use icecore_log::codec::SealedEntry;
use icecore_log::{Entry, EntryId, Error, ErrorKind, LogId, Result, Version, clock};
use tokio::sync::oneshot;

use crate::appender::Pending;
use crate::ids::{self, Known};
use crate::{Log, Store};

/// The condition of an append, checked against the log's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// None.
    #[default]
    Any,
    /// The log's last commit is this version; zero if it has none.
    Version(Version),
}

/// Where an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub log: LogId,
    /// The entry's id, if it has one.
    pub id: Option<EntryId>,
    /// The commit that holds it.
    pub version: Version,
    /// Which entry of that commit it is, from 0.
    pub entry: u32,
    /// Whether it had been appended before: this is the first receipt again.
    pub repeated: bool,
}

/// What became of an entry, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// It is in the log.
    Committed(Receipt),
    /// It is not, and no request still under way can put it there.
    NotCommitted,
}

/// An append that has not been sent; `.await` sends it.
#[derive(Debug)]
#[must_use = "nothing is appended before it is awaited"]
pub struct Append<'a> {
    log: &'a Log,
    entry: Entry,
    expect: Expect,
}

impl<'a> Append<'a> {
    pub(crate) fn new(log: &'a Log, entry: Entry) -> Self {
        Self { log, entry, expect: Expect::Any }
    }

    /// Only if the log's last commit is this version; zero if it has none.
    pub fn expect(mut self, version: Version) -> Self {
        self.expect = Expect::Version(version);
        self
    }
}

impl<'a> IntoFuture for Append<'a> {
    type Output = Result<Receipt>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.log.submit(self.entry, self.expect))
    }
}

const WAITING: u8 = 0;
const SEALED: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether an entry was withdrawn or sealed: exactly one of the two, decided once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Takes it into a commit, unless the caller has gone.
    pub(crate) fn seal(&self) -> bool {
        self.step(WAITING, SEALED)
    }

    /// Puts it back among the pending: its commit lost the slot.
    pub(crate) fn unseal(&self) {
        self.step(SEALED, WAITING);
    }

    fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    fn is_sealed(&self) -> bool {
        self.0.load(Ordering::Acquire) == SEALED
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Withdraws the entry when the caller is dropped.
struct WithdrawOnDrop(Ticket);

impl Drop for WithdrawOnDrop {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl Log {
    async fn submit(&self, entry: Entry, expect: Expect) -> Result<Receipt> {
        let inner = &self.store.0;
        if inner.capabilities.read_only {
            return Err(Error::new(ErrorKind::Refused, "appending")
                .with("log", &self.id)
                .advise("This store was opened only for reading"));
        }
        let sealed = SealedEntry::seal(entry, clock::random(&*inner.entropy))
            .map_err(|error| error.with("log", &self.id))?;
        if sealed.bytes.len() + ENTRY_ROOM > inner.capabilities.commit_bytes_max {
            return Err(Error::new(ErrorKind::Invalid, "appending")
                .with("log", &self.id)
                .with("bytes", sealed.bytes.len())
                .with("bytes_max", inner.capabilities.commit_bytes_max - ENTRY_ROOM));
        }
        let deadline = tokio::time::Instant::now() + inner.settings.append_timeout;
        let room =
            u32::try_from((sealed.bytes.len() + ENTRY_ROOM).min(inner.settings.pending_bytes_max.max(1)))
                .unwrap_or(u32::MAX);
        let permit = match tokio::time::timeout_at(deadline, inner.room.acquire_many(room)).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(self.nothing_written("the store has too much to write")),
        };
        loop {
            let ticket = Ticket::default();
            let answer =
                tokio::time::timeout_at(deadline, self.try_once(sealed.clone(), expect, &ticket)).await;
            match answer {
                Ok(Ok(Some(receipt))) => {
                    drop(permit);
                    return Ok(receipt);
                }
                // The ids that were looked up have moved on meanwhile: look again.
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) if ticket.is_sealed() => return Err(self.timed_out(&sealed)),
                Err(_) => return Err(self.nothing_written("it did not get its turn in time")),
            }
        }
    }

    /// Looks the id up in the id runs, joins what is pending, and waits. `None`: look the id up again.
    async fn try_once(
        &self,
        sealed: SealedEntry,
        expect: Expect,
        ticket: &Ticket,
    ) -> Result<Option<Receipt>> {
        let inner = &self.store.0;
        let active = inner.active(&self.id);
        let looked_up = match &sealed.id {
            None => Version::ZERO,
            Some(id) => match ids::look_up(inner, &active, id, sealed.digest).await? {
                Known::Here(receipt) => return Ok(Some(receipt)),
                Known::NotThrough(version) => version,
            },
        };
        let (answer, outcome) = oneshot::channel();
        let _withdraw = WithdrawOnDrop(ticket.clone());
        let pending =
            Pending { entry: Some(sealed), expect, looked_up, ticket: ticket.clone(), answers: vec![answer] };
        crate::rounds::join(inner, &active, pending);
        let outcome = outcome.await;
        outcome.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unknown, "appending")
                .with("log", &self.id)
                .advise("The runtime was shut down"))
        })
    }

    fn nothing_written(&self, because: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, "appending")
            .with("log", &self.id)
            .with("because", because)
            .advise("Nothing was written: retry")
    }

    fn timed_out(&self, sealed: &SealedEntry) -> Error {
        let advice = match sealed.id {
            Some(_) => "It may have been written: retry with the same id, or resolve it",
            None => "It may have been written, and it has no id to tell by: read the log before you retry",
        };
        Error::new(ErrorKind::Unknown, "appending")
            .with("log", &self.id)
            .with("waited_s", self.store.0.settings.append_timeout.as_secs())
            .advise(advice)
    }

    /// What became of the entry with this id: in the log or not, for certain.
    ///
    /// To be able to say no, it takes a slot with an empty commit, so that no request still under way can land.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn resolve(&self, id: &EntryId) -> Result<Resolved> {
        let inner = &self.store.0;
        let active = inner.active(&self.id);
        if let Some(receipt) = ids::find(inner, &self.id, id).await? {
            return Ok(Resolved::Committed(receipt));
        }
        crate::rounds::win_a_slot(inner, &active).await?;
        Ok(match ids::find(inner, &self.id, id).await? {
            Some(receipt) => Resolved::Committed(receipt),
            None => Resolved::NotCommitted,
        })
    }
}

impl Store {
    /// As [`Log::append`], for a log by name.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append(&self, log: &LogId, entry: impl Into<Entry>) -> Result<Receipt> {
        let log = self.log(log.clone());
        log.append(entry).await
    }
}

/// What a commit of one entry adds to its frame, at the most.
const ENTRY_ROOM: usize = 2 << 10;
