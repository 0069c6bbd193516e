//! Sealing: how what is pending becomes the next commit.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use icecore_log::codec::{Preamble, Secret};
use icecore_log::{
    EntryHeader, EntryId, Error, ErrorKind, Flags, Hash, Header, Incarnation, LogId, Run, StoredCommit,
    Timestamp, Version, clock,
};

use crate::Inner;
use crate::append::{ENTRY_ROOM, Expect};
use crate::appender::{Answer, Chosen, InFlight, Known, Pending, State, Tip};
use crate::ids::{self, Hit};

/// What one more entry adds to a header, at the most; the rest of `ENTRY_ROOM` is the commit's own.
const ENTRY_HEADER: usize = 128;

impl State {
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
        let now = inner.clock.now();
        let now = tip.as_ref().map_or(now, |tip| tip.at.max(now));
        let chosen =
            self.choose(inner, log, tip.as_ref().map_or(Version::ZERO, |tip| tip.version), secret, now);
        if chosen.is_empty() {
            return None;
        }
        let in_flight = build(inner, log, tip.as_ref(), secret, chosen, now);
        let run = in_flight.run.clone();
        self.in_flight = Some(in_flight);
        Some(run)
    }

    /// As [`State::seal`], of the first that is pending alone.
    pub(crate) fn seal_first(&mut self, inner: &Inner, log: &LogId) -> Option<Run> {
        let behind = self.pending.split_off(self.pending.len().min(1));
        let run = self.seal(inner, log);
        self.pending.extend(behind);
        run
    }

    /// Takes pending entries for one commit, in order, answering those that need none:
    /// the same id in this batch, an id that is known, a condition that does not hold.
    /// `now` is when the commit is made, unless what it was decided on was judged later.
    fn choose(
        &mut self,
        inner: &Inner,
        log: &LogId,
        head: Version,
        secret: Secret,
        now: Timestamp,
    ) -> Vec<Chosen> {
        let mut batch = Batch::default();
        while let Some(pending) = self.pending.pop_front() {
            if pending.is_alone() || !pending.ticket.seal() {
                continue;
            }
            if matches!(self.known, Known::Tip(_)) && self.must_look_up(&pending, secret) {
                self.put_back(pending);
                break;
            }
            if let Some(answer) = self.known_id(log, &pending, secret) {
                if answer.as_ref().is_ok_and(|receipt| receipt.version > self.durable) {
                    self.put_back(pending);
                    self.must_confirm = true;
                    break;
                }
                pending.answer(answer);
                continue;
            }
            let Some(mut pending) = batch.join_twin(log, pending) else {
                continue;
            };
            // A condition is checked against a head that is decided, so it can only be the first of its commit. And a seal stays when
            // the log goes: what somebody else appended must not stay with it.
            let is_first = pending.expect != Expect::Any || pending.flags.seal;
            if !batch.chosen.is_empty() && (batch.is_full(inner, &pending) || is_first) {
                self.put_back(pending);
                break;
            }
            match pending.expect {
                Expect::Version(expected) if expected > head && !pending.looked_again => {
                    // Its caller saw what another process appended: our head is old, and the condition may hold.
                    pending.looked_again = true;
                    self.put_back(pending);
                    self.look_again();
                    break;
                }
                Expect::Version(expected) if expected != head => {
                    pending.answer(Err(conflict(log, expected, head)));
                }
                // What it was decided on is not there any more by the time of the commit.
                Expect::Version(expected) if pending.is_too_late(now) => {
                    let error = conflict(log, expected, head).with("because", "something expired meanwhile");
                    pending.answer(Err(error));
                }
                Expect::Version(_) | Expect::Any => {
                    let is_last = pending.flags.seal;
                    batch.push(pending);
                    if is_last {
                        break;
                    }
                }
            }
        }
        batch.chosen
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
}

/// The entries of the next commit, as they are chosen.
#[derive(Default)]
struct Batch {
    chosen: Vec<Chosen>,
    /// Where the entries with ids are in `chosen`.
    ids: HashMap<EntryId, usize>,
    entries: u32,
    bytes: usize,
}

impl Batch {
    /// Answers one whose id is in the batch with another content, and takes one with the same in beside it; else gives it back.
    ///
    /// A twin keeps its own ticket and its own condition: if the slot is lost, each is judged by itself again.
    fn join_twin(&mut self, log: &LogId, pending: Pending) -> Option<Pending> {
        let digest = |pending: &Pending| pending.entry.as_ref().map(|entry| entry.digest);
        let Some(twin) = pending.id().and_then(|id| self.ids.get(id)).map(|index| &self.chosen[*index])
        else {
            return Some(pending);
        };
        if digest(&twin.pending) == digest(&pending) {
            let entry = twin.entry;
            self.chosen.push(Chosen { pending, entry, repeated: true });
        } else {
            pending.answer(Err(Error::new(ErrorKind::Conflict, "appending").with("log", log).advise(
                "Another entry with this id and other content is being appended at the same time: use a new id",
            )));
        }
        None
    }

    fn is_full(&self, inner: &Inner, next: &Pending) -> bool {
        let bytes = self.bytes + bytes_of(next);
        let room = inner.capabilities.commit_bytes_max.saturating_sub(ENTRY_ROOM);
        self.entries as usize >= inner.settings.merge_entries_max.clamp(1, Header::ENTRIES_MAX)
            || bytes > inner.settings.merge_bytes_max
            || bytes + self.entries as usize * ENTRY_HEADER > room
    }

    fn push(&mut self, pending: Pending) {
        self.bytes += bytes_of(&pending);
        if let Some(id) = pending.id() {
            self.ids.insert(id.clone(), self.chosen.len());
        }
        let is_entry = pending.entry.is_some();
        self.chosen.push(Chosen { pending, entry: self.entries, repeated: false });
        self.entries += u32::from(is_entry);
    }
}

fn bytes_of(pending: &Pending) -> usize {
    pending.entry.as_ref().map_or(0, |entry| entry.bytes.len())
}

/// The first receipt again, or an error if the id was used for other content.
fn receipt_of_hit(log: &LogId, id: &EntryId, digest: Hash, hit: Hit, secret: Secret) -> Answer {
    if hit.content.is_some_and(|content| !content.may_be(&secret.content_tag(digest))) {
        return Err(other_content(log).with("version", hit.version));
    }
    Ok(ids::receipt(log, id, hit))
}

fn conflict(log: &LogId, expected: Version, found: Version) -> Error {
    Error::new(ErrorKind::Conflict, "appending")
        .with("log", log)
        .with("expected", expected)
        .with("found", found)
        .advise("Read what was appended meanwhile, decide again, and retry")
}

fn other_content(log: &LogId) -> Error {
    Error::new(ErrorKind::Conflict, "appending")
        .with("log", log)
        .advise("An entry with this id and other content is in the log: use a new id")
}

fn build(
    inner: &Inner,
    log: &LogId,
    tip: Option<&Tip>,
    secret: Secret,
    chosen: Vec<Chosen>,
    now: Timestamp,
) -> InFlight {
    // What was not there any more when it was looked at is not there for the commit either, also if the clock went back.
    let judged = chosen.iter().filter_map(|chosen| chosen.pending.judged).map(|judged| judged.at);
    let at = judged.fold(now, Timestamp::max);
    let entries =
        || chosen.iter().filter(|chosen| !chosen.repeated).filter_map(|chosen| chosen.pending.entry.as_ref());
    let mut body = BytesMut::with_capacity(entries().map(|entry| entry.bytes.len()).sum::<usize>() + 128);
    let flags = Flags {
        base: chosen.iter().any(|chosen| chosen.pending.flags.base),
        seal: chosen.iter().any(|chosen| chosen.pending.flags.seal),
        expires: tip.is_some_and(|tip| tip.expires)
            || chosen.iter().any(|chosen| chosen.pending.flags.expires),
    };
    let preamble = (tip.is_none() || flags.base).then(|| {
        let (frame, bytes) = Preamble { name: log.clone(), secret }.seal(clock::random(&*inner.entropy));
        body.extend_from_slice(&bytes);
        frame
    });
    let entries = entries()
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
    let version = tip.map_or(Version::FIRST, |tip| tip.version.next());
    let header = Header {
        name_tag: tip.map_or_else(|| secret.name_tag(log), |tip| tip.name_tag),
        incarnation: tip.map_or_else(|| Incarnation(clock::random(&*inner.entropy)), |tip| tip.incarnation),
        version,
        position: tip.map_or(0, |tip| tip.position),
        previous: tip.map_or(Hash::ZERO, |tip| tip.hash),
        at,
        writer: inner.writer,
        epoch: 0,
        nonce: clock::random(&*inner.entropy),
        flags,
        base: tip.filter(|_| !flags.base).map_or(version, |tip| tip.base),
        preamble,
        entries,
    };
    let body: Bytes = body.freeze();
    let commit = StoredCommit { version: header.version, header: header.encode(), body: Some(body) };
    let run = Run::one(log.clone(), header.previous, commit);
    InFlight { run, header, secret, chosen, in_doubt: false, is_together: false, sent: 1 }
}
