//! The state of one active log: what is pending, what is in flight, and what an answer changes.
//!
//! There is at most one create in flight for a log: N+1 is only made once N is decided. A sealed commit whose outcome
//! is not known stays in `in_flight` and is sent again, byte for byte, before anything else; no caller's leaving changes it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use icecore_log::codec::{SealedEntry, Secret};
use icecore_log::{
    EntryId, Error, ErrorKind, Flags, Hash, Header, Incarnation, LogId, Result, Run, StoredCommit, Timestamp,
    Version,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::append::{Expect, Receipt, Ticket};
use crate::ids::{Hit, Ids};
use crate::state::expiry::Judged;
use crate::state::upkeep::Upkeep;
use crate::{lock, open};

/// What an append is told.
pub(crate) type Answer = Result<Receipt>;

/// An entry that waits for its commit.
#[derive(Debug)]
pub(crate) struct Pending {
    /// `None` asks for a slot and nothing else.
    pub entry: Option<SealedEntry>,
    pub expect: Expect,
    /// What its commit is because of it: a base, which it begins, or the seal, which it ends.
    pub flags: Flags,
    /// How many of its bytes change documents.
    pub document_bytes: u64,
    /// By when what it was decided on was judged, where that makes a difference.
    pub judged: Option<Judged>,
    /// The log's end was read again because the condition names a version past it.
    pub looked_again: bool,
    /// The id was looked up in the id runs through this version, and is not there unless `hit` says where.
    pub looked_up: Version,
    pub hit: Option<Hit>,
    pub ticket: Ticket,
    answer: oneshot::Sender<Answer>,
    /// Given back when it is answered: its bytes are in memory for as long, whether its caller waits or not.
    _room: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub(crate) fn new(
        entry: Option<SealedEntry>,
        expect: Expect,
        room: Option<OwnedSemaphorePermit>,
    ) -> (Self, Ticket, oneshot::Receiver<Answer>) {
        let ticket = Ticket::default();
        let (answer, outcome) = oneshot::channel();
        let pending = Self {
            entry,
            expect,
            flags: Flags::default(),
            document_bytes: 0,
            judged: None,
            looked_again: false,
            looked_up: Version::ZERO,
            hit: None,
            ticket: ticket.clone(),
            answer,
            _room: room,
        };
        (pending, ticket, outcome)
    }

    pub(crate) fn id(&self) -> Option<&EntryId> {
        self.entry.as_ref()?.id.as_ref()
    }

    /// Whether its caller has gone. If it was not sealed, it is withdrawn.
    pub(crate) fn is_alone(&self) -> bool {
        self.answer.is_closed()
    }

    /// Whether something that it was decided on has expired by then.
    pub(crate) fn is_too_late(&self, at: Timestamp) -> bool {
        self.judged.is_some_and(|judged| judged.until.is_some_and(|until| until <= at.max(judged.at)))
    }

    /// How many of its bytes, as they are stored, change documents.
    fn document_bytes(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.frame.length.min(self.document_bytes))
    }

    pub(crate) fn answer(self, answer: Answer) {
        // A caller that has gone wants no answer.
        let _ = self.answer.send(answer);
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub id: LogId,
    pub state: Mutex<State>,
    /// Held by the one transaction of this process that is on its way.
    pub transactions: tokio::sync::Mutex<()>,
    /// Read by whoever appends, and written by a transaction that lost its patience.
    pub gate: tokio::sync::RwLock<()>,
    /// Told whenever a turn ends.
    pub rested: tokio::sync::Notify,
    /// How many of the store's ids in memory are counted as this log's.
    ids_counted: AtomicUsize,
    /// Those of all logs of the store.
    ids_in_store: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub phase: Phase,
    pub known: Known,
    pub ids: Ids,
    /// All through this version is durable: it was acknowledged to this process, or confirmed. What was only read may be lost.
    pub durable: Version,
    /// The first that is pending was found behind that.
    pub must_confirm: bool,
    pub pending: VecDeque<Pending>,
    pub in_flight: Option<InFlight>,
    pub upkeep: Upkeep,
    /// How many slots in a row went to others.
    pub lost: u32,
    /// How often in a row the backend refused what follows the head that it showed.
    pub refused: u32,
}

/// Where the log is on its way through a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Nobody works on it.
    #[default]
    Idle,
    /// It is queued for a round, or in one.
    Busy,
}

/// What is known of the log's end.
#[derive(Debug, Clone, Default)]
pub(crate) enum Known {
    /// Not looked yet.
    #[default]
    Nothing,
    /// It had no commit when we looked.
    Absent,
    /// This far.
    Tip(Tip),
    /// It was this far, and somebody else went on.
    Behind(Tip),
}

/// What the next commit is built on.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub version: Version,
    pub hash: Hash,
    /// Events through this version.
    pub position: u64,
    pub at: Timestamp,
    pub incarnation: Incarnation,
    pub base: Version,
    pub name_tag: [u8; 16],
    pub secret: Secret,
    pub sealed: bool,
    /// Something of the log expires, or did.
    pub expires: bool,
}

impl Tip {
    /// The tip behind a commit of the same log.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it counts more events, or commits, than a log can have.
    pub(crate) fn at(log: &LogId, header: &Header, hash: Hash, secret: Secret) -> Result<Self> {
        let position = header.position.checked_add(header.events()).filter(|position| *position <= COUNT_MAX);
        let Some(position) = position.filter(|_| header.version.0 <= COUNT_MAX) else {
            return Err(open::damaged(log, header.version, "its numbers are impossible"));
        };
        Ok(Self {
            version: header.version,
            hash,
            position,
            at: header.at,
            incarnation: header.incarnation,
            base: header.base,
            name_tag: header.name_tag,
            secret,
            sealed: header.flags.seal,
            expires: header.flags.expires,
        })
    }
}

/// No log has so many events or commits: a header that says so is damaged, and one commit more cannot overflow.
const COUNT_MAX: u64 = u64::MAX / 2;

/// A commit that was sealed and is not decided.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub run: Run,
    pub header: Header,
    pub secret: Secret,
    /// In the order of their places.
    pub chosen: Vec<Chosen>,
    /// An answer was lost: it may be there.
    pub in_doubt: bool,
    /// It is written with the commits of other logs, all or none, by whoever has the turns of all of them: never alone.
    pub is_together: bool,
    /// How often it was sent.
    pub sent: u32,
}

/// A pending entry in a commit.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub pending: Pending,
    /// Which entry of the commit it is.
    pub entry: u32,
    /// Another caller gave the same entry before, in the same commit.
    pub repeated: bool,
}

impl Active {
    pub(crate) fn new(id: LogId, ids_in_store: Arc<AtomicUsize>) -> Self {
        Self {
            id,
            state: Mutex::default(),
            transactions: tokio::sync::Mutex::default(),
            gate: tokio::sync::RwLock::default(),
            rested: tokio::sync::Notify::default(),
            ids_counted: AtomicUsize::new(0),
            ids_in_store,
        }
    }

    /// Counts its ids in memory anew, as its turn ends.
    pub(crate) fn count_ids(&self, now: usize) {
        let before = self.ids_counted.swap(now, Ordering::Relaxed);
        // Wraps around to the right sum where the difference is negative.
        self.ids_in_store.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(crate) fn has_ids(&self) -> bool {
        self.ids_counted.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.phase == Phase::Idle && state.pending.is_empty() && state.in_flight.is_none()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.count_ids(0);
    }
}

impl State {
    /// Whether something must be read before the first of what is pending can be sealed: the log's end, its ids, or an id run.
    ///
    /// Only the first: while entries go on arriving there is always one that must be looked up.
    pub(crate) fn needs_opening(&self) -> bool {
        match &self.known {
            Known::Nothing | Known::Behind(_) => true,
            Known::Absent => false,
            Known::Tip(_) if self.must_confirm => true,
            Known::Tip(tip) => self.pending.front().is_some_and(|front| self.must_look_up(front, tip.secret)),
        }
    }

    /// Whether an id may be in the log without our knowing: the ids were not read, or nobody looked into an id run for it.
    pub(crate) fn must_look_up(&self, pending: &Pending, secret: Secret) -> bool {
        let Some(id) = pending.id() else {
            return false;
        };
        if !self.ids.is_loaded() {
            return true;
        }
        if pending.looked_up >= self.ids.floor() || pending.hit.is_some() {
            return false;
        }
        let tag = secret.id_tag(id);
        self.ids.recent(&tag).is_none() && !self.ids.is_in_no_run(&tag)
    }

    /// Drops what was withdrawn, with its bytes.
    pub(crate) fn purge(&mut self) {
        self.pending.retain(|pending| !pending.is_alone());
    }

    /// Answers everything that is pending with this error.
    pub(crate) fn fail_pending(&mut self, error: &Error) {
        for pending in self.pending.drain(..) {
            pending.answer(Err(error.clone()));
        }
    }

    /// What winning the commit in flight changes; the pending entries to answer, with their answers.
    pub(crate) fn won(&mut self, log: &LogId) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let hash = in_flight.run.commits.first().map_or(Hash::ZERO, StoredCommit::hash);
        let version = in_flight.header.version;
        let new = in_flight.chosen.iter().filter(|chosen| !chosen.repeated).map(|chosen| &chosen.pending);
        self.upkeep.count(new.map(Pending::document_bytes).sum());
        (self.refused, self.lost, self.durable, self.must_confirm) = (0, 0, version, false);
        if matches!(self.known, Known::Absent) {
            self.ids = Ids::loaded_empty();
        }
        self.known =
            Tip::at(log, &in_flight.header, hash, in_flight.secret).map_or(Known::Nothing, Known::Tip);
        self.ids.add(&in_flight.header);
        for Chosen { pending, entry, repeated } in in_flight.chosen {
            let id = pending.id().cloned();
            let hash = Some(hash);
            pending.answer(Ok(Receipt { log: log.clone(), id, version, hash, entry, repeated }));
        }
    }

    /// The slot went to somebody else: what was in the commit is pending again, in its old order, and the log's end is read again.
    pub(crate) fn lost(&mut self) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        for chosen in in_flight.chosen.into_iter().rev() {
            self.put_back(chosen.pending);
        }
        self.look_again();
    }

    /// To the front of what is pending, where it came from.
    pub(crate) fn put_back(&mut self, pending: Pending) {
        pending.ticket.unseal();
        self.pending.push_front(pending);
    }

    /// The log's end may have moved.
    pub(crate) fn look_again(&mut self) {
        self.known = match std::mem::take(&mut self.known) {
            Known::Tip(tip) => Known::Behind(tip),
            _ => Known::Nothing,
        };
    }

    /// The commit in flight was not written, for certain. Nor is what is pending behind it: entries are committed in the order of
    /// their places, and these would overtake a retry.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.answer_in_flight(error);
        self.fail_pending(error);
    }

    fn answer_in_flight(&mut self, error: &Error) {
        for chosen in self.in_flight.take().into_iter().flat_map(|in_flight| in_flight.chosen) {
            chosen.pending.answer(Err(error.clone()));
        }
    }

    /// Whether the commit in flight may be there already.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.in_doubt)
    }

    /// It will never be told whether the commit in flight was written: its callers hear so, and the log's end is looked for again.
    pub(crate) fn give_up_in_flight(&mut self, log: &LogId, advice: &'static str) {
        self.answer_in_flight(&Error::new(ErrorKind::Unknown, "appending").with("log", log).advise(advice));
        self.known = Known::Nothing;
    }

    /// Whether anybody still waits for the commit in flight.
    pub(crate) fn is_awaited(&self) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|in_flight| !in_flight.chosen.iter().all(|chosen| chosen.pending.is_alone()))
    }
}
