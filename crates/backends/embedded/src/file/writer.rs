//! The one writer: a thread that takes what is pending into a group, writes it, makes it durable, publishes it, answers.
//!
//! A decision (taken, closed, gap) is made against the index and the group in progress. After a write or a sync has failed
//! nothing can be known of the file any more (the kernel may show pages that it could not write, and a second sync may succeed):
//! the writer is poisoned, and only opening the store again, which trusts no tail, goes on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use icecore_log::{
    Created, End, Error, ErrorKind, Hash, LogId, Mode, Result, Run, StoredCommit, Swept, Version, judge,
};
use tokio::sync::oneshot;

use super::disk::DiskFile;
use super::frame::{self, GROUP_HEAD, Head, MARK_SLOTS, SEGMENT_HEAD};
use super::index::{Index, Segment, Slot};
use super::{Settings, Shared, unavailable};

pub(crate) enum Request {
    Create(Vec<Run>, Mode, oneshot::Sender<Vec<Created>>),
    Close(LogId, Version, oneshot::Sender<Result<()>>),
    Sweep(LogId, oneshot::Sender<Result<Swept>>),
    Drop(LogId, Vec<Version>, oneshot::Sender<Result<()>>),
    Stop(oneshot::Sender<Result<()>>),
}

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub marks: Arc<dyn DiskFile>,
    pub mark_sequence: u64,
    /// The LSN behind the last group; all below is durable.
    pub end: u64,
    /// The length of the active segment's file.
    pub capacity: u64,
    pub settings: Settings,
}

/// After this long without work an empty group is written, so that the last one is covered by a durable mark.
const IDLE: Duration = Duration::from_millis(10);

/// A group in progress.
#[derive(Default)]
struct Group {
    frames: u32,
    bytes: Vec<u8>,
    /// Where each log's head will be, with its hash.
    heads: HashMap<LogId, (u64, Hash)>,
    /// What the group adds, by offset in it.
    commits: Vec<(LogId, u64, usize, Head, Hash)>,
    closes: Vec<(LogId, u64)>,
    drops: Vec<(LogId, u64)>,
    answers: Vec<Answer>,
}

enum Answer {
    Created(oneshot::Sender<Vec<Created>>, Vec<Created>),
    Done(oneshot::Sender<Result<()>>),
}

impl Writer {
    pub fn run(mut self, requests: &Receiver<Request>) {
        let mut is_marked = true;
        let mut poisoned: Option<Error> = None;
        loop {
            let first = if is_marked {
                match requests.recv() {
                    Ok(request) => request,
                    Err(_) => break,
                }
            } else {
                match requests.recv_timeout(IDLE) {
                    Ok(request) => request,
                    Err(RecvTimeoutError::Timeout) => {
                        poisoned = poisoned.or_else(|| self.write(&mut Group::default()).err());
                        is_marked = true;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            };
            let mut group = Group { bytes: vec![0; GROUP_HEAD], ..Group::default() };
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Stop(answer) => {
                        let mut closed = self.commit(group, &mut poisoned);
                        if closed.is_ok() && poisoned.is_none() {
                            closed = self.finish();
                        }
                        let _ = answer.send(closed);
                        return;
                    }
                    Request::Sweep(log, answer) => {
                        let done = std::mem::replace(
                            &mut group,
                            Group { bytes: vec![0; GROUP_HEAD], ..Group::default() },
                        );
                        let _ = self.commit(done, &mut poisoned);
                        let _ = answer.send(self.sweep(&log));
                    }
                    request if poisoned.is_some() => refuse(request, poisoned.as_ref()),
                    request => self.take(&mut group, request),
                }
                let is_full = group.bytes.len() >= self.settings.group_bytes_max;
                next = if is_full { None } else { requests.try_recv().ok() };
            }
            let wrote = group.frames > 0;
            if self.commit(group, &mut poisoned).is_ok() && wrote {
                is_marked = false;
            }
        }
        if poisoned.is_none() {
            // Nobody is left to be told; opening the store again repairs whatever this could not do.
            let _ = self.finish();
        }
    }

    /// Decides a request, and adds what it needs to the group.
    fn take(&self, group: &mut Group, request: Request) {
        let index = self.shared.read();
        match request {
            Request::Create(runs, mode, answer) => {
                let created = self.create(&index, group, &runs, mode);
                group.answers.push(Answer::Created(answer, created));
            }
            Request::Close(log, through, answer) => {
                let head = group.heads.get(&log).map_or_else(
                    || {
                        index
                            .logs
                            .get(&log)
                            .filter(|entry| !entry.slots.is_empty())
                            .map(super::index::LogIndex::head)
                    },
                    |(version, _)| Some(*version),
                );
                if head.is_some_and(|head| through.0 >= head) {
                    let _ = answer.send(Err(judge::head_stays(&log, through)));
                    return;
                }
                if index.logs.get(&log).is_none_or(|entry| entry.boundary < through.0) {
                    frame::put_close(&mut group.bytes, &log, through);
                    group.frames += 1;
                    group.closes.push((log, through.0));
                }
                group.answers.push(Answer::Done(answer));
            }
            Request::Drop(log, versions, answer) => {
                for version in versions {
                    let slot = index.logs.get(&log).and_then(|entry| entry.slot(version.0));
                    if slot.is_some_and(|slot| slot.body_bytes().is_some())
                        && !group.drops.contains(&(log.clone(), version.0))
                    {
                        frame::put_drop(&mut group.bytes, &log, version);
                        group.frames += 1;
                        group.drops.push((log.clone(), version.0));
                    }
                }
                group.answers.push(Answer::Done(answer));
            }
            Request::Sweep(..) | Request::Stop(_) => {}
        }
    }

    fn create(&self, index: &Index, group: &mut Group, runs: &[Run], mode: Mode) -> Vec<Created> {
        let invalid = judge::invalid_runs(runs, super::COMMIT_BYTES_MAX);
        if mode == Mode::Each {
            let each = runs.iter().zip(invalid);
            return each
                .map(|(run, invalid)| invalid.map_or_else(|| self.apply(index, group, run), Created::failed))
                .collect();
        }
        if let Some(error) = invalid.into_iter().flatten().next() {
            return runs.iter().map(|_| Created::failed(error.clone())).collect();
        }
        let (frames, bytes, commits, heads) =
            (group.frames, group.bytes.len(), group.commits.len(), group.heads.clone());
        let answers: Vec<Created> = runs.iter().map(|run| self.apply(index, group, run)).collect();
        if answers.iter().all(Created::is_done) {
            return answers;
        }
        group.frames = frames;
        group.bytes.truncate(bytes);
        group.commits.truncate(commits);
        group.heads = heads;
        judge::none_of(answers)
    }

    fn apply(&self, index: &Index, group: &mut Group, run: &Run) -> Created {
        let mut previous = run.previous;
        for (won, commit) in run.commits.iter().enumerate() {
            let hash = commit.hash();
            match self.decide(index, group, &run.log, previous, commit, hash) {
                Ok(true) => {}
                Ok(false) => {
                    let offset = group.bytes.len();
                    frame::put_commit(&mut group.bytes, &run.log, commit);
                    let Some(head) = Head::parse(&group.bytes[offset..]) else {
                        return Created {
                            won,
                            end: End::Failed(Error::new(ErrorKind::Invalid, "creating a commit")),
                        };
                    };
                    group.frames += 1;
                    group.heads.insert(run.log.clone(), (commit.version.0, hash));
                    group.commits.push((run.log.clone(), commit.version.0, offset, head, hash));
                }
                Err(end) => return Created { won, end },
            }
            previous = hash;
        }
        Created::done(run.commits.len())
    }

    /// Whether the commit may be written; `Ok(true)` if it is there already.
    fn decide(
        &self,
        index: &Index,
        group: &Group,
        log: &LogId,
        previous: Hash,
        commit: &StoredCommit,
        hash: Hash,
    ) -> Result<bool, End> {
        let version = commit.version.0;
        let entry = index.logs.get(log);
        let boundary = group.closes.iter().filter(|(name, _)| name == log).map(|(_, through)| *through).max();
        let boundary = boundary.unwrap_or(0).max(entry.map_or(0, |entry| entry.boundary));
        if version <= boundary {
            return Err(End::Closed(Version(boundary)));
        }
        if group.heads.get(log).is_some_and(|(head, _)| version <= *head) {
            let in_group = group.commits.iter().rev().find(|(name, at, ..)| name == log && *at == version);
            if let Some((.., found)) = in_group {
                return if *found == hash { Ok(true) } else { Err(End::Taken) };
            }
        }
        if let Some(slot) = entry.and_then(|entry| entry.slot(version)) {
            let found = self.shared.header_hash(index, log, version, slot).map_err(End::Failed)?;
            return if found == hash { Ok(true) } else { Err(End::Taken) };
        }
        let (head, head_hash) = match (group.heads.get(log), entry) {
            (Some((head, hash)), _) => (*head, Some(*hash)),
            (None, Some(entry)) if !entry.slots.is_empty() => {
                let head = entry.head();
                let hash = match (entry.head_hash, entry.slot(head)) {
                    (Some(hash), _) => hash,
                    (None, Some(slot)) => {
                        self.shared.header_hash(index, log, head, slot).map_err(End::Failed)?
                    }
                    (None, None) => Hash::ZERO,
                };
                (head, Some(hash))
            }
            // New, or a trimmed log that is being copied: nothing is left to compare with.
            _ => (boundary, None),
        };
        if version != head + 1 || head_hash.is_some_and(|hash| hash != previous) {
            Err(End::Gap)
        } else {
            Ok(false)
        }
    }

    /// Writes the group, publishes it, and answers.
    fn commit(&mut self, mut group: Group, poisoned: &mut Option<Error>) -> Result<()> {
        let answers = std::mem::take(&mut group.answers);
        if group.frames > 0 {
            match self.write(&mut group) {
                Ok(()) => self.shared.changed(),
                Err(error) => {
                    if error.kind() == ErrorKind::Unknown {
                        *poisoned = Some(error.clone());
                    }
                    answers.into_iter().for_each(|answer| answer.fail(&error));
                    return Err(error);
                }
            }
        }
        for answer in answers {
            match answer {
                Answer::Created(channel, created) => drop(channel.send(created)),
                Answer::Done(channel) => drop(channel.send(Ok(()))),
            }
        }
        Ok(())
    }

    /// Makes a group durable and publishes it.
    fn write(&mut self, group: &mut Group) -> Result<()> {
        if group.bytes.is_empty() {
            group.bytes = vec![0; GROUP_HEAD];
        }
        let bytes = group.bytes.len() as u64;
        let segment = self.room_for(bytes).map_err(|error| unavailable("making room for a group", error))?;
        let head = frame::group_head(group.bytes.len() - GROUP_HEAD, group.frames, self.end);
        group.bytes[..GROUP_HEAD].copy_from_slice(&head);
        let lsn = self.end;
        segment.file.write_at(&group.bytes, segment.offset(lsn)).and_then(|()| segment.file.sync()).map_err(
            |error| Error::new(ErrorKind::Unknown, "writing a group").because(error).advise(REOPEN),
        )?;
        self.end += bytes;
        let dropped = self.publish(group, lsn);
        self.mark().map_err(|error| {
            Error::new(ErrorKind::Unknown, "publishing a group").because(error).advise(REOPEN)
        })?;
        self.punch(&dropped);
        Ok(())
    }

    fn publish(&self, group: &mut Group, lsn: u64) -> Vec<(LogId, Slot)> {
        let mut index = self.shared.write();
        for (log, version, offset, head, hash) in group.commits.drain(..) {
            index.add(&log, version, Slot::of(lsn + offset as u64, &head), Some(hash));
        }
        for (log, boundary) in group.closes.drain(..) {
            index.close(&log, boundary);
        }
        let drops = group
            .drops
            .drain(..)
            .filter_map(|(log, version)| Some((log.clone(), index.drop_body(&log, version)?)));
        let dropped = drops.collect();
        index.through = self.end;
        index.groups += 1;
        dropped
    }

    /// Destroys bodies whose going is durable. If that fails, the next writer to open the store does it again.
    fn punch(&self, dropped: &[(LogId, Slot)]) {
        let index = self.shared.read();
        for (log, slot) in dropped {
            let _ = self.shared.punch_body(&index, log, *slot);
        }
    }

    pub(crate) fn mark(&mut self) -> io::Result<()> {
        self.mark_sequence += 1;
        let slot = MARK_SLOTS[(self.mark_sequence % 2) as usize];
        self.marks.write_at(&frame::mark(self.mark_sequence, self.end), slot)
    }

    /// The active segment, with room for so many bytes more; a new one if it has none. Nothing is written before it succeeds.
    fn room_for(&mut self, bytes: u64) -> io::Result<Segment> {
        let active = self.shared.read().segments.last().cloned();
        if let Some(active) = &active {
            if active.offset(self.end) + bytes <= self.capacity {
                return Ok(active.clone());
            }
            // Grown in place until it has its full size: a store that is opened for every append stays one file.
            let used = active.offset(self.end);
            let wanted = next_bytes(&self.settings, self.capacity.max(used), used + bytes);
            if wanted <= self.settings.segment_bytes_max {
                active.file.resize(wanted)?;
                self.capacity = wanted;
                return Ok(active.clone());
            }
        }
        let number = active.as_ref().map_or(1, |active| active.number + 1);
        let wanted = if active.is_none() {
            self.settings.segment_bytes_first
        } else {
            self.settings.segment_bytes_max
        };
        let capacity = wanted.max(SEGMENT_HEAD + bytes);
        let segment = new_segment(&*self.shared.disk, number, self.end, capacity)?;
        if let Some(active) = &active {
            active.file.resize(active.offset(self.end))?;
        }
        self.capacity = capacity;
        self.shared.write().segments.push(segment.clone());
        Ok(segment)
    }

    fn sweep(&self, log: &LogId) -> Result<Swept> {
        let mut index = self.shared.write();
        let slots = index.sweep(log);
        let swept = Swept { commits: slots.len() as u64, bytes: slots.iter().map(Slot::bytes).sum() };
        for slot in slots {
            self.shared
                .punch_all(&index, log, slot)
                .map_err(|error| unavailable("giving space back", error))?;
        }
        Ok(swept)
    }

    /// A last mark, and the unused tail is cut.
    fn finish(&mut self) -> Result<()> {
        self.write(&mut Group::default())?;
        let active = self.shared.read().segments.last().cloned();
        let cut = || -> io::Result<()> {
            if let Some(active) = &active {
                active.file.resize(active.offset(self.end))?;
                active.file.sync()?;
            }
            self.marks.sync()
        };
        cut().map_err(|error| unavailable("closing a store", error))
    }
}

/// The size to grow to: doubled until `needed` fits.
fn next_bytes(settings: &Settings, now: u64, needed: u64) -> u64 {
    let mut bytes = now.max(settings.segment_bytes_first);
    while bytes < needed {
        bytes = bytes.saturating_mul(2);
    }
    bytes
}

/// Makes a segment that survives a cut: its head and its name are durable before anything is written to it.
pub(crate) fn new_segment(
    disk: &dyn super::Disk,
    number: u32,
    base: u64,
    capacity: u64,
) -> io::Result<Segment> {
    let name = Segment::name(number);
    let make = || -> io::Result<Segment> {
        let file = disk.create(&name, capacity)?;
        file.write_at(&frame::segment_head(number, base), 0)?;
        file.sync()?;
        disk.sync_dir("")?;
        Ok(Segment { number, base, file })
    };
    make().inspect_err(|_| {
        // A full disk leaves an empty file behind; it would be in the way of the next attempt.
        let _ = disk.remove(&name);
    })
}

const REOPEN: &str = "It is not known what reached the disk: open the store again, which checks it";

impl Answer {
    fn fail(self, error: &Error) {
        match self {
            // What was decided without writing would be true, but its neighbours in the call are not: one answer for all.
            Self::Created(channel, created) => {
                drop(channel.send(created.iter().map(|_| Created::failed(error.clone())).collect()));
            }
            Self::Done(channel) => drop(channel.send(Err(error.clone()))),
        }
    }
}

fn refuse(request: Request, poisoned: Option<&Error>) {
    let mut error = Error::new(ErrorKind::Unavailable, "writing to a store")
        .advise("An earlier write failed: open the store again");
    if let Some(cause) = poisoned {
        error = error.because(cause.clone());
    }
    match request {
        Request::Create(runs, _, channel) => {
            drop(channel.send(runs.iter().map(|_| Created::failed(error.clone())).collect()));
        }
        Request::Close(_, _, channel) | Request::Drop(_, _, channel) | Request::Stop(channel) => {
            drop(channel.send(Err(error)))
        }
        Request::Sweep(_, channel) => drop(channel.send(Err(error))),
    }
}
