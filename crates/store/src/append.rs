//! The caller's side of an append: encode, join what is pending, wait for the outcome.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use icecore_log::codec::SealedEntry;
use icecore_log::{Entry, EntryId, Error, ErrorKind, Flags, Hash, LogId, Result, Version, clock};
use tokio::sync::{OwnedSemaphorePermit, RwLockReadGuard, oneshot};
use tokio::time::Instant;

use crate::appender::{Active, Answer, Pending};
use crate::confirm::confirm_read;
use crate::state::expiry::Judged;
use crate::state::{Changes, State, event, expiry};
use crate::{Log, Store, ids, rounds};

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
    /// That commit's hash: with it, a history that lost the commit is noticed. `None` in a first receipt that is given again, which is
    /// found by the entry's id alone.
    pub hash: Option<Hash>,
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
    /// It cannot be told any more: it is not found, and the log was trimmed before all of its ids were in id runs, which
    /// outlive a trim. Whoever trims must call [`Log::keep_ids`] first, and then there is no such case.
    Undetermined,
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

    /// Waits only until the entry has its place among what is pending; entries are committed in the order of their places.
    ///
    /// For many appends in order without waiting for each: enqueue the next when this one has answered, and await what they gave later.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), [`Refused`](ErrorKind::Refused), or [`Unavailable`](ErrorKind::Unavailable): nothing was written.
    pub async fn enqueue(self) -> Result<Enqueued> {
        let Self { log, entry, expect } = self;
        let inner = &log.store.0;
        let active = inner.active(&log.id);
        let _pass = log.pass(&active, Instant::now() + inner.settings.append_timeout).await?;
        log.enqueue(entry, expect).await
    }
}

impl<'a> IntoFuture for Append<'a> {
    type Output = Result<Receipt>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.enqueue().await?.receipt().await })
    }
}

/// An entry that has its place. Dropping it withdraws the entry if it was not sent yet.
#[derive(Debug)]
#[must_use = "dropping it withdraws the entry"]
pub struct Enqueued {
    log: LogId,
    has_id: bool,
    deadline: Instant,
    timeout: Duration,
    outcome: oneshot::Receiver<Answer>,
    ticket: Ticket,
}

impl Enqueued {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn receipt(mut self) -> Result<Receipt> {
        match tokio::time::timeout_at(self.deadline, &mut self.outcome).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.unknown("The runtime was shut down")),
            Err(_) if self.ticket.withdraw() => {
                Err(nothing_written(&self.log, "it did not get its turn in time"))
            }
            Err(_) if self.has_id => {
                Err(self.unknown("It may have been written: retry with the same id, or resolve it"))
            }
            Err(_) => Err(self.unknown(
                "It may have been written, and it has no id to tell by: read the log before you retry",
            )),
        }
    }

    fn unknown(&self, advice: &str) -> Error {
        Error::new(ErrorKind::Unknown, "appending")
            .with("log", &self.log)
            .with("timeout_ms", self.timeout.as_millis())
            .advise(advice)
    }
}

impl Drop for Enqueued {
    fn drop(&mut self) {
        self.ticket.withdraw();
    }
}

/// An entry as it is sent.
pub(crate) struct Sealed {
    entry: SealedEntry,
    /// How many of its bytes change documents.
    document_bytes: u64,
    /// It says when something expires.
    expires: bool,
}

impl Sealed {
    /// How many bytes it takes of what may be pending.
    pub(crate) fn room(&self) -> usize {
        self.entry.bytes.len() + ENTRY_ROOM
    }

    /// With its part of the room that was taken for it, or for several.
    pub(crate) fn pending(self, expect: Expect, room: &mut OwnedSemaphorePermit) -> Waiting {
        // Of all the room that there is, less was taken than what is larger would need.
        let own = room.split(self.room().min(room.num_permits()));
        let Self { entry, document_bytes, expires } = self;
        let mut waiting = Pending::new(Some(entry), expect, own);
        waiting.0.document_bytes = document_bytes;
        waiting.0.flags.expires = expires;
        waiting
    }
}

/// What is pending, and its caller's side.
pub(crate) type Waiting = (Pending, Ticket, oneshot::Receiver<Answer>);

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

    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Log {
    pub(crate) async fn enqueue(&self, entry: Entry, expect: Expect) -> Result<Enqueued> {
        self.enqueue_sealed(self.seal(entry)?, expect, Flags::default(), None).await
    }

    /// As the commit behind this version, which is a base: what it holds is the whole state.
    pub(crate) async fn enqueue_base(&self, behind: Version, entry: Entry) -> Result<Enqueued> {
        let flags = Flags { base: true, ..Flags::default() };
        self.enqueue_sealed(self.seal_ours(entry)?, Expect::Version(behind), flags, None).await
    }

    /// As the last commit of the log, which stands on its own: all that came before it may go.
    ///
    /// If a version is named, only if the log ends there.
    pub(crate) async fn enqueue_seal(&self, entry: Entry, behind: Option<Version>) -> Result<Enqueued> {
        let flags = Flags { base: true, seal: true, ..Flags::default() };
        let expect = behind.map_or(Expect::Any, Expect::Version);
        self.enqueue_sealed(self.seal_ours(entry)?, expect, flags, None).await
    }

    /// What changes make of this state, on the condition that the log still ends there, and nothing of it has expired since it was looked at.
    pub(crate) async fn enqueue_behind(&self, before: &State, changes: &Changes) -> Result<Enqueued> {
        let sealed = self.seal_behind(before, changes)?;
        let expect = Expect::Version(before.version);
        self.enqueue_sealed(sealed, expect, Flags::default(), before.judged()).await
    }

    /// As [`Log::enqueue_behind`], but only if the entry becomes shorter by it; else there is no reason for a condition.
    pub(crate) async fn enqueue_shortened(
        &self,
        before: &State,
        changes: &Changes,
    ) -> Result<Option<Enqueued>> {
        let entry = changes.entry();
        let Some(shortened) = changes.shortened(&entry, before, self.entry_bytes_max()) else {
            return Ok(None);
        };
        let sealed = self.seal_changes(changes, entry, Some(shortened))?;
        let expect = Expect::Version(before.version);
        self.enqueue_sealed(sealed, expect, Flags::default(), before.judged()).await.map(Some)
    }

    /// Changes as they are, whatever the state is.
    pub(crate) async fn append_changes(&self, changes: &Changes) -> Result<Receipt> {
        let inner = &self.store.0;
        let active = inner.active(&self.id);
        let pass = self.pass(&active, Instant::now() + inner.settings.append_timeout).await?;
        let sealed = self.seal_changes(changes, changes.entry(), None)?;
        let enqueued = self.enqueue_sealed(sealed, Expect::Any, Flags::default(), None).await?;
        drop(pass);
        enqueued.receipt().await
    }

    async fn enqueue_sealed(
        &self,
        sealed: Sealed,
        expect: Expect,
        flags: Flags,
        judged: Option<Judged>,
    ) -> Result<Enqueued> {
        let inner = &self.store.0;
        let timeout = inner.settings.append_timeout;
        let deadline = Instant::now() + timeout;
        let mut room = self.room(sealed.room(), deadline).await?;
        let has_id = sealed.entry.id.is_some();
        let (mut pending, ticket, outcome) = sealed.pending(expect, &mut room);
        (pending.flags, pending.judged) = (Flags { expires: pending.flags.expires, ..flags }, judged);
        rounds::join(inner, &inner.active(&self.id), [pending]);
        Ok(Enqueued { log: self.id.clone(), has_id, deadline, timeout, outcome, ticket })
    }

    /// Appends entries one behind the other, each with an outcome of its own: those that fit together share a commit, and if
    /// one is not written because the system fails, none behind it is.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if none was taken; of each as [`Log::append`].
    pub async fn append_all(&self, entries: Vec<Entry>) -> Result<Vec<Result<Receipt>>> {
        let inner = &self.store.0;
        let timeout = inner.settings.append_timeout;
        let deadline = Instant::now() + timeout;
        let sealed: Vec<_> = entries.into_iter().map(|entry| self.seal(entry)).collect();
        let bytes = sealed.iter().flatten().map(Sealed::room).sum();
        let active = inner.active(&self.id);
        let pass = self.pass(&active, deadline).await?;
        let mut room = self.room(bytes, deadline).await?;
        let (mut joining, mut outcomes) =
            (Vec::with_capacity(sealed.len()), Vec::with_capacity(sealed.len()));
        for sealed in sealed {
            outcomes.push(sealed.map(|sealed| {
                let has_id = sealed.entry.id.is_some();
                let (pending, ticket, outcome) = sealed.pending(Expect::Any, &mut room);
                joining.push(pending);
                Enqueued { log: self.id.clone(), has_id, deadline, timeout, outcome, ticket }
            }));
        }
        rounds::join(inner, &active, joining);
        drop(pass);
        let mut receipts = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            receipts.push(match outcome {
                Ok(enqueued) => enqueued.receipt().await,
                Err(error) => Err(error),
            });
        }
        Ok(receipts)
    }

    /// Waits while a transaction, which others were ahead of again and again, has the log to itself for a moment.
    async fn pass<'a>(&self, active: &'a Active, deadline: Instant) -> Result<RwLockReadGuard<'a, ()>> {
        let passed = tokio::time::timeout_at(deadline, active.gate.read()).await;
        passed.map_err(|_| nothing_written(&self.id, "a transaction has the log to itself"))
    }

    /// Checks an entry, and makes of it what a commit holds.
    fn seal(&self, entry: Entry) -> Result<Sealed> {
        entry.events.iter().try_for_each(event::check).map_err(|error| error.with("log", &self.id))?;
        // It must be noted first, so that what is due is found.
        if entry.events.iter().any(expiry::is_about) {
            return Err(Error::new(ErrorKind::Invalid, "appending")
                .with("log", &self.id)
                .advise("When something expires is said by Changes::expire and its like, not by an event of one's own"));
        }
        self.seal_ours(entry)
    }

    /// As [`Log::seal`], of events that only Icecore itself may make.
    fn seal_ours(&self, entry: Entry) -> Result<Sealed> {
        self.may_append()?;
        let document_bytes = event::document_bytes(&entry.events);
        let expires = entry.events.iter().any(expiry::is_about);
        let entry = self.fitting(SealedEntry::seal(entry, clock::random(&*self.store.0.entropy)))?;
        Ok(Sealed { entry, document_bytes, expires })
    }

    /// As [`Log::seal`], of the entry of changes, in the shorter form if there is one.
    fn seal_changes(&self, changes: &Changes, entry: Entry, shortened: Option<Entry>) -> Result<Sealed> {
        self.may_append()?;
        let check = if changes.is_foreign { event::check } else { event::check_kind };
        entry.events.iter().try_for_each(check).map_err(|error| error.with("log", &self.id))?;
        let document_bytes = event::document_bytes(&shortened.as_ref().unwrap_or(&entry).events);
        let expires = entry.events.iter().any(expiry::is_about);
        let salt = clock::random(&*self.store.0.entropy);
        let entry = self.fitting(match shortened {
            Some(shortened) => SealedEntry::seal_as(shortened, &entry, salt),
            None => SealedEntry::seal(entry, salt),
        })?;
        Ok(Sealed { entry, document_bytes, expires })
    }

    /// As [`Log::seal_changes`], in the shorter form behind this state.
    pub(crate) fn seal_behind(&self, before: &State, changes: &Changes) -> Result<Sealed> {
        let entry = changes.entry();
        let shortened = changes.shortened(&entry, before, self.entry_bytes_max());
        self.seal_changes(changes, entry, shortened)
    }

    fn may_append(&self) -> Result<()> {
        if self.store.0.capabilities.read_only {
            return Err(Error::new(ErrorKind::Refused, "appending")
                .with("log", &self.id)
                .advise("This store was opened only for reading"));
        }
        Ok(())
    }

    fn entry_bytes_max(&self) -> usize {
        self.store.0.capabilities.commit_bytes_max.saturating_sub(ENTRY_ROOM)
    }

    fn fitting(&self, sealed: Result<SealedEntry>) -> Result<SealedEntry> {
        let sealed = sealed.map_err(|error| error.with("log", &self.id))?;
        if sealed.bytes.len() > self.entry_bytes_max() {
            return Err(Error::new(ErrorKind::Invalid, "appending")
                .with("log", &self.id)
                .with("bytes", sealed.bytes.len())
                .with("bytes_max", self.entry_bytes_max()));
        }
        Ok(sealed)
    }

    /// Waits until so many bytes may join what is pending.
    pub(crate) async fn room(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        let inner = &self.store.0;
        let bytes = bytes.min(inner.settings.pending_bytes_max.max(1));
        let mut room =
            pin!(Arc::clone(&inner.room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)));
        loop {
            let until = deadline.min(Instant::now() + ROOM_PATIENCE);
            match tokio::time::timeout_at(until, &mut room).await {
                Ok(Ok(room)) => return Ok(room),
                Err(_) if until < deadline => rounds::resend_in_doubt(inner),
                Ok(Err(_)) | Err(_) => {
                    return Err(nothing_written(&self.id, "the store has too much to write"));
                }
            }
        }
    }

    /// What became of the entry with this id: in the log or not, for certain, unless the log was trimmed carelessly.
    ///
    /// To be able to say no, it takes a slot with an empty commit, so that no request still under way can land.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn resolve(&self, id: &EntryId) -> Result<Resolved> {
        let inner = &self.store.0;
        let mut look = ids::find(inner, &self.id, id).await?;
        // Behind a seal nothing can land anyway.
        if look.receipt.is_none() && !look.sealed {
            let won = rounds::win_a_slot(inner, &inner.active(&self.id)).await;
            look = ids::find(inner, &self.id, id).await?;
            if look.receipt.is_none() && !look.sealed {
                won?;
            }
        }
        if look.receipt.is_some() {
            confirm_read(inner, &self.id).await?;
        }
        Ok(match look.receipt {
            Some(receipt) => Resolved::Committed(receipt),
            None if look.is_unsure => Resolved::Undetermined,
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

pub(crate) fn nothing_written(log: &LogId, because: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "appending")
        .with("log", log)
        .with("because", because)
        .advise("Nothing was written: retry")
}

/// What a commit of one entry adds to its frame, at the most.
pub(crate) const ENTRY_ROOM: usize = 2 << 10;
/// How long an append waits for room before commits in doubt that nobody waits for are sent again: they hold some.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
