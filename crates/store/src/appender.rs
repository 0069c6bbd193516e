//! The state of one active log: what is pending, how it becomes a commit, and what an answer changes.
//!
//! There is at most one create in flight for a log: N+1 is only made once N is decided. A sealed commit whose outcome
//! is not known stays in `in_flight` and is sent again, byte for byte, before anything else; no caller's leaving changes it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use icecore_log::codec::{Preamble, SealedEntry, Secret};
use icecore_log::{
    EntryHeader, EntryId, Error, ErrorKind, Flags, Hash, Header, Incarnation, LogId, Result, Run,
    StoredCommit, Timestamp, Version, clock,
};
use tokio::sync::oneshot;

use crate::append::{Expect, Receipt, Ticket};
use crate::ids::{Hit, Ids};
use crate::{Inner, lock};

/// What an append is told.
pub(crate) type Answer = Result<Receipt>;

/// An entry that waits for its commit.
#[derive(Debug)]
pub(crate) struct Pending {
    /// `None` asks for a slot and nothing else.
    pub entry: Option<SealedEntry>,
    pub expect: Expect,
    /// The id was looked up in the id runs through this version, and is not there unless `hit` says where.
    pub looked_up: Version,
    pub hit: Option<Hit>,
    pub ticket: Ticket,
    /// More than one if the same id came twice.
    pub answers: Vec<oneshot::Sender<Answer>>,
}

impl Pending {
    pub(crate) fn new(
        entry: Option<SealedEntry>,
        expect: Expect,
        ticket: Ticket,
        answer: oneshot::Sender<Answer>,
    ) -> Self {
        Self { entry, expect, looked_up: Version::ZERO, hit: None, ticket, answers: vec![answer] }
    }

    pub(crate) fn id(&self) -> Option<&EntryId> {
        self.entry.as_ref()?.id.as_ref()
    }

    fn is_alone(&self) -> bool {
        self.answers.iter().all(oneshot::Sender::is_closed)
    }

    pub(crate) fn answer(self, answer: &Answer) {
        for channel in self.answers {
            // A caller that has gone wants no answer.
            let _ = channel.send(answer.clone());
        }
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub id: LogId,
    pub state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub phase: Phase,
    pub known: Known,
    pub ids: Ids,
    pub pending: VecDeque<Pending>,
    pub in_flight: Option<InFlight>,
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
}

impl Tip {
    /// The tip behind a commit of the same log.
    pub(crate) fn at(header: &Header, hash: Hash, secret: Secret) -> Self {
        Self {
            version: header.version,
            hash,
            position: header.position + header.events(),
            at: header.at,
            incarnation: header.incarnation,
            base: header.base,
            name_tag: header.name_tag,
            secret,
            sealed: header.flags.seal,
        }
    }
}

/// A commit that was sealed and is not decided.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub run: Run,
    pub header: Header,
    pub secret: Secret,
    /// In the order of the entries.
    pub pending: Vec<Pending>,
    /// An answer was lost: it may be there.
    pub in_doubt: bool,
    /// How often it was sent.
    pub sent: u32,
}

impl Active {
    pub(crate) fn new(id: LogId) -> Self {
        Self { id, state: Mutex::default() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.phase == Phase::Idle && state.pending.is_empty() && state.in_flight.is_none()
    }
}

impl State {
    /// Whether something must be read before anything can be sealed: the log's end, its ids, or an id run.
    pub(crate) fn needs_opening(&self) -> bool {
        match &self.known {
            Known::Nothing | Known::Behind(_) => true,
            Known::Absent => false,
            Known::Tip(_) if !self.ids.is_loaded() => {
                self.pending.iter().any(|pending| pending.id().is_some())
            }
            Known::Tip(tip) => self.pending.iter().any(|pending| self.must_look_up(pending, tip.secret)),
        }
    }

    /// Whether an id may be in an id run that nobody has looked into for it.
    pub(crate) fn must_look_up(&self, pending: &Pending, secret: Secret) -> bool {
        pending.looked_up < self.ids.floor()
            && pending.hit.is_none()
            && pending.id().is_some_and(|id| self.ids.recent(&secret.id_tag(id)).is_none())
    }

    /// Answers everything that is pending with this error.
    pub(crate) fn fail_pending(&mut self, error: &Error) {
        for pending in self.pending.drain(..) {
            pending.answer(&Err(error.clone()));
        }
    }

    /// Makes the next commit of what is pending, and keeps it in `in_flight`; the run to send, if there is one.
    pub(crate) fn seal(&mut self, inner: &Inner, log: &LogId) -> Option<Run> {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.sent += 1;
            return Some(in_flight.run.clone());
        }
        let tip = match &self.known {
            Known::Tip(tip) => Some(tip.clone()),
            _ => None,
        };
        if tip.as_ref().is_some_and(|tip| tip.sealed) {
            self.fail_pending(
                &Error::new(ErrorKind::Refused, "appending")
                    .with("log", log)
                    .advise("The log is sealed: it was deleted or moved"),
            );
            return None;
        }
        let secret = tip.as_ref().map_or_else(|| Secret(clock::random(&*inner.entropy)), |tip| tip.secret);
        let chosen = self.choose(inner, log, tip.as_ref().map_or(Version::ZERO, |tip| tip.version), secret);
        if chosen.is_empty() {
            return None;
        }
        let in_flight = build(inner, log, tip.as_ref(), secret, chosen);
        let run = in_flight.run.clone();
        self.in_flight = Some(in_flight);
        Some(run)
    }

    /// Takes pending entries for one commit, in order, answering those that need none:
    /// the same id in this batch, an id that is known, a condition that does not hold.
    fn choose(&mut self, inner: &Inner, log: &LogId, head: Version, secret: Secret) -> Vec<Pending> {
        let mut chosen: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while let Some(mut pending) = self.pending.pop_front() {
            if pending.is_alone() || !pending.ticket.seal() {
                continue;
            }
            if let Some(answer) = self.known_id(log, &pending, secret) {
                pending.answer(&answer);
                continue;
            }
            if let Some(twin) = twin(&mut chosen, &pending) {
                if twin.entry.as_ref().map(|entry| entry.digest)
                    == pending.entry.as_ref().map(|entry| entry.digest)
                {
                    twin.answers.append(&mut pending.answers);
                } else {
                    let answer = Err(other_content(log));
                    pending.answer(&answer);
                }
                continue;
            }
            let frame = pending.entry.as_ref().map_or(0, |entry| entry.bytes.len());
            let full = chosen.len() >= inner.settings.merge_entries_max.clamp(1, Header::ENTRIES_MAX)
                || bytes + frame > inner.settings.merge_bytes_max;
            // A condition is checked against a head that is decided, so it can only be the first of its commit.
            if !chosen.is_empty() && (full || pending.expect != Expect::Any) {
                pending.ticket.unseal();
                self.pending.push_front(pending);
                break;
            }
            if let Expect::Version(expected) = pending.expect
                && expected != head
            {
                pending.answer(&Err(Error::new(ErrorKind::Conflict, "appending")
                    .with("log", log)
                    .with("expected", expected)
                    .with("found", head)
                    .advise("Read what was appended meanwhile, decide again, and retry")));
                continue;
            }
            bytes += frame;
            chosen.push(pending);
        }
        chosen
    }

    /// The answer to an entry whose id was seen.
    fn known_id(&self, log: &LogId, pending: &Pending, secret: Secret) -> Option<Answer> {
        let entry = pending.entry.as_ref()?;
        let id = entry.id.as_ref()?;
        if !matches!(self.known, Known::Tip(_)) {
            return None;
        }
        let hit = pending.hit.or_else(|| self.ids.recent(&secret.id_tag(id)))?;
        Some(receipt_of_hit(log, id, entry.digest, hit, secret))
    }

    /// What winning the commit in flight changes; the pending entries to answer, with their answers.
    pub(crate) fn won(&mut self, log: &LogId) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let hash = in_flight.run.commits.first().map_or(Hash::ZERO, StoredCommit::hash);
        let version = in_flight.header.version;
        self.refused = 0;
        if matches!(self.known, Known::Absent) {
            self.ids = Ids::loaded_empty();
        }
        self.known = Known::Tip(Tip::at(&in_flight.header, hash, in_flight.secret));
        self.ids.add(&in_flight.header);
        let mut entry = 0;
        for pending in in_flight.pending {
            let id = pending.id().cloned();
            let is_entry = pending.entry.is_some();
            for (index, answer) in pending.answers.into_iter().enumerate() {
                let repeated = index > 0;
                let receipt = Receipt { log: log.clone(), id: id.clone(), version, entry, repeated };
                let _ = answer.send(Ok(receipt));
            }
            entry += u32::from(is_entry);
        }
    }

    /// The slot went to somebody else: what was in the commit is pending again, in its old order, and the log's end is read again.
    pub(crate) fn lost(&mut self) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        for pending in in_flight.pending.into_iter().rev() {
            pending.ticket.unseal();
            self.pending.push_front(pending);
        }
        self.known = match std::mem::take(&mut self.known) {
            Known::Tip(tip) => Known::Behind(tip),
            _ => Known::Nothing,
        };
    }

    /// The commit in flight was not written, for certain.
    pub(crate) fn failed(&mut self, error: &Error) {
        if let Some(in_flight) = self.in_flight.take() {
            for pending in in_flight.pending {
                pending.answer(&Err(error.clone()));
            }
        }
    }

    /// Whether the commit in flight may be there already.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.in_doubt)
    }

    /// It will never be told whether the commit in flight was written: its callers hear so, and the log's end is looked for again.
    pub(crate) fn give_up_in_flight(&mut self, log: &LogId) {
        let error = Error::new(ErrorKind::Unknown, "appending")
            .with("log", log)
            .advise("Its slot was trimmed before an answer came: resolve it by its id, or read the log before you retry");
        self.failed(&error);
        self.known = Known::Nothing;
    }

    /// Whether anybody still waits for the commit in flight.
    pub(crate) fn is_awaited(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| !in_flight.pending.iter().all(Pending::is_alone))
    }
}

fn twin<'a>(chosen: &'a mut [Pending], pending: &Pending) -> Option<&'a mut Pending> {
    let id = pending.id()?;
    chosen.iter_mut().find(|other| other.id() == Some(id))
}

/// The first receipt again, or an error if the id was used for other content.
pub(crate) fn receipt_of_hit(log: &LogId, id: &EntryId, digest: Hash, hit: Hit, secret: Secret) -> Answer {
    if hit.content.is_some_and(|content| !content.may_be(&secret.content_tag(digest))) {
        return Err(other_content(log).with("version", hit.version));
    }
    Ok(Receipt {
        log: log.clone(),
        id: Some(id.clone()),
        version: hit.version,
        entry: hit.entry,
        repeated: true,
    })
}

fn other_content(log: &LogId) -> Error {
    Error::new(ErrorKind::Conflict, "appending")
        .with("log", log)
        .advise("An entry with this id and other content is in the log: use a new id")
}

fn build(inner: &Inner, log: &LogId, tip: Option<&Tip>, secret: Secret, pending: Vec<Pending>) -> InFlight {
    let now = inner.clock.now();
    let mut body = BytesMut::with_capacity(
        pending
            .iter()
            .filter_map(|pending| pending.entry.as_ref())
            .map(|entry| entry.bytes.len())
            .sum::<usize>()
            + 128,
    );
    let preamble = tip.is_none().then(|| {
        let (frame, bytes) = Preamble { name: log.clone(), secret }.seal(clock::random(&*inner.entropy));
        body.extend_from_slice(&bytes);
        frame
    });
    let entries = pending
        .iter()
        .filter_map(|pending| pending.entry.as_ref())
        .map(|entry| {
            body.extend_from_slice(&entry.bytes);
            EntryHeader {
                id_tag: entry.id.as_ref().map(|id| secret.id_tag(id)),
                content_tag: entry.id.is_some().then(|| secret.content_tag(entry.digest)),
                events: entry.events,
                frame: entry.frame.clone(),
            }
        })
        .collect();
    let header = Header {
        name_tag: tip.map_or_else(|| secret.name_tag(log), |tip| tip.name_tag),
        incarnation: tip.map_or_else(|| Incarnation(clock::random(&*inner.entropy)), |tip| tip.incarnation),
        version: tip.map_or(Version::FIRST, |tip| tip.version.next()),
        position: tip.map_or(0, |tip| tip.position),
        previous: tip.map_or(Hash::ZERO, |tip| tip.hash),
        at: tip.map_or(now, |tip| tip.at.max(now)),
        writer: inner.writer,
        epoch: 0,
        nonce: clock::random(&*inner.entropy),
        flags: Flags::default(),
        base: tip.map_or(Version::FIRST, |tip| tip.base),
        preamble,
        entries,
    };
    let body: Bytes = body.freeze();
    let commit = StoredCommit { version: header.version, header: header.encode(), body: Some(body) };
    let run = Run::one(log.clone(), header.previous, commit);
    InFlight { run, header, secret, pending, in_doubt: false, sent: 1 }
}

/// One log's turn in a round.
pub(crate) type Turn = Arc<Active>;
