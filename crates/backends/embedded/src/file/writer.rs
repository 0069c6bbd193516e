//! The one writer takes what is pending into a group, writes it, makes it durable, publishes it, answers.
//!
//! It has a thread of its own. A caller who is alone, on a disk whose syncs are quick, does the same in its own thread instead: to wake
//! another one, and to be woken by it, takes half as long as the sync.
//!
//! After a write or a sync has failed nothing can be known of the file any more (the kernel may show pages that it could
//! not write, and a second sync may succeed): the writer is poisoned, and only opening the store again, which trusts no
//! tail, goes on.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use icecore_log::{Error, ErrorKind, LogId, Result, Swept};
use tokio::sync::oneshot;

use super::disk::{Disk, DiskFile};
use super::frame::{self, CLOSED_SLOT, GROUP_HEAD, MARK_SLOTS, SEGMENT_HEAD, SegmentHead};
use super::group::{Group, Request};
use super::index::{Segment, Slot};
use super::{Settings, Shared, unavailable};

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub marks: Arc<dyn DiskFile>,
    pub mark_sequence: u64,
    /// The LSN behind the last group; all below is durable.
    pub end: u64,
    pub salt: u32,
    /// The length of the active segment's file.
    pub capacity: u64,
    /// Through here the active segment's file was written: groups, and zeros where the next ones will be.
    pub written: u64,
    /// The LSN at which this writer began.
    pub began: u64,
    pub settings: Settings,
    /// Segments in which bytes were destroyed, which is not durable yet.
    pub punched: BTreeSet<u32>,
    /// Bytes that should be gone could not be destroyed: the next writer has to.
    pub owes_punches: bool,
    /// Why nothing is written any more.
    poisoned: Option<Error>,
    /// How long the last group took to become durable.
    took: Duration,
    /// The end when the thread last looked whether anybody writes.
    looked_at: u64,
    /// The thread waits for a request, however long that takes.
    is_asleep: bool,
    /// Held until the last byte is written, whoever still holds a handle of the store.
    pub _lock: Box<dyn Debug + Send + Sync>,
}

/// What opening a store has found.
pub(crate) struct Found {
    pub marks: Arc<dyn DiskFile>,
    pub mark_sequence: u64,
    pub end: u64,
    pub salt: u32,
    pub capacity: u64,
    pub lock: Box<dyn Debug + Send + Sync>,
}

/// Where the writer is found, by its thread and by a caller that has it to itself; nobody is there once it has ended.
pub(crate) type Desk = Mutex<Option<Writer>>;

/// After this long without work, and at most twice that, an empty group is written, so that the last one is covered.
const IDLE: Duration = Duration::from_millis(10);
/// A caller waits in its own thread only for groups that take less.
const QUICK: Duration = Duration::from_millis(1);
/// A block of most file systems.
const BLOCK: u64 = 4_096;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// The name of a segment that is being made. It gets its own when its head is durable.
pub(crate) const NEW_SEGMENT: &str = "new-segment";

impl Writer {
    pub fn new(shared: Arc<Shared>, settings: Settings, found: Found) -> Self {
        Self {
            shared,
            marks: found.marks,
            mark_sequence: found.mark_sequence,
            end: found.end,
            salt: found.salt,
            capacity: found.capacity,
            written: 0,
            began: found.end,
            settings,
            punched: BTreeSet::new(),
            owes_punches: false,
            poisoned: None,
            took: Duration::MAX,
            looked_at: found.end,
            is_asleep: false,
            _lock: found.lock,
        }
    }

    /// What the writer's thread does until nobody is left, or somebody stops it.
    pub fn run(desk: &Desk, requests: &Receiver<Request>) {
        let mut patience = IDLE;
        loop {
            let first = match requests.recv_timeout(patience) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // Whoever panicked with it left it as nobody knows.
            let Ok(mut writer) = desk.lock() else {
                break;
            };
            let Some(found) = &mut *writer else {
                return;
            };
            if let Some(stopped) = first.and_then(|first| found.serve(first, || requests.try_recv().ok())) {
                let outcome = match &found.poisoned {
                    Some(cause) => Err(refused(cause)),
                    None => found.finish(),
                };
                *writer = None;
                let _ = stopped.send(outcome);
                return;
            }
            patience = found.look();
        }
        match desk.lock() {
            // Nobody is left to be told; opening the store again repairs whatever this could not do.
            Ok(mut writer) => {
                if let Some(mut writer) = writer.take().filter(|writer| writer.poisoned.is_none()) {
                    let _ = writer.finish();
                }
            }
            Err(broken) => drop(broken.into_inner().take()),
        }
    }

    /// Covers the last group if nothing was written since the last look; how long until the next.
    fn look(&mut self) -> Duration {
        let is_done = |writer: &Self| writer.is_covered() || writer.poisoned.is_some();
        if !is_done(self) && self.end == self.looked_at {
            self.cover();
        }
        self.looked_at = self.end;
        self.is_asleep = is_done(self);
        if self.is_asleep { Duration::MAX } else { IDLE }
    }

    /// Serves a request in its caller's thread; whether the writer's thread must be woken to look after it.
    pub fn serve_here(&mut self, request: Request) -> bool {
        // Its caller has no channel that a stop could come through.
        drop(self.serve(request, || None));
        std::mem::take(&mut self.is_asleep)
    }

    /// Whether a group takes so little time that a caller may wait for it in a thread that others want, too.
    pub fn is_quick(&self) -> bool {
        self.took < QUICK
    }

    /// Takes up what is waiting, and writes it; the channel of whoever asks to stop.
    fn serve(
        &mut self,
        first: Request,
        mut more: impl FnMut() -> Option<Request>,
    ) -> Option<oneshot::Sender<Result<()>>> {
        let mut group = Group::new(self.salt);
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Stop(answer) => {
                    self.commit(group);
                    return Some(answer);
                }
                Request::Look => {}
                request if self.poisoned.is_some() => {
                    if let Some(cause) = &self.poisoned {
                        request.refuse(&refused(cause));
                    }
                }
                Request::Sweep(log, answer) => {
                    self.commit(std::mem::replace(&mut group, Group::new(self.salt)));
                    let swept = match &self.poisoned {
                        Some(cause) => Err(refused(cause)),
                        None => self.sweep(&log),
                    };
                    let _ = answer.send(swept);
                }
                request => group.take(&self.shared, request),
            }
            let is_full = group.bytes.len() >= self.settings.group_bytes_max;
            next = if is_full { None } else { more() };
        }
        self.commit(group);
        None
    }

    /// Writes the group, publishes it, and answers.
    fn commit(&mut self, mut group: Group) {
        let answers = std::mem::take(&mut group.answers);
        let is_empty = group.frames == 0;
        let written = if is_empty { Ok(Vec::new()) } else { self.write(&mut group) };
        match &written {
            Ok(_) if is_empty => {}
            Ok(dropped) => {
                self.destroy_bodies(dropped);
                self.shared.changed();
            }
            Err(error) => self.poison(error),
        }
        answers.into_iter().for_each(|answer| answer.give(written.as_ref().err()));
    }

    /// Only what may have reached the disk makes the rest doubtful; a full disk is no reason to give up.
    fn poison(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Unknown && self.poisoned.is_none() {
            self.poisoned = Some(error.clone());
        }
    }

    /// Makes a group durable and publishes it; the bodies that are to be destroyed.
    pub fn write(&mut self, group: &mut Group) -> Result<Vec<(LogId, Slot)>> {
        let bytes = group.bytes.len() as u64;
        let segment = self.room_for(bytes)?;
        let lsn = self.end;
        // At most `REQUEST_BYTES_MAX` and a little, so the length fits.
        let head = frame::group_head(group.bytes.len() - GROUP_HEAD, group.frames, lsn, self.salt);
        group.bytes[..GROUP_HEAD].copy_from_slice(&head);
        let started = Instant::now();
        segment
            .file
            .write_at(&group.bytes, segment.offset(lsn))
            .and_then(|()| {
                self.write_ahead(&segment, lsn + bytes);
                segment.file.sync()
            })
            .map_err(|error| in_doubt("writing a group", error))?;
        self.took = started.elapsed();
        self.end += bytes;
        let dropped = self.publish(group, lsn);
        self.mark().map_err(|error| in_doubt("publishing a group", error))?;
        Ok(dropped)
    }

    /// Writes zeros behind the last group, where the file has zeros anyway. A block that is only allocated is turned into a written one
    /// by its first sync, which makes the file system write its journal too; the syncs of the groups to come are spared that.
    ///
    /// Nothing rests on them: zeros that cannot be written are left out.
    fn write_ahead(&mut self, segment: &Segment, end: u64) {
        let from = segment.offset(end);
        // A store that is opened for a few appends does not pay for blocks that it will not use.
        let ahead = (end - self.began).min(self.settings.zeros_bytes_max);
        if from <= self.written || ahead == 0 {
            return;
        }
        self.written = (from + ahead).next_multiple_of(BLOCK).min(self.capacity);
        let mut position = from;
        while position < self.written {
            let count = (self.written - position).min(ZEROS.len() as u64);
            if segment.file.write_at(&ZEROS[..count as usize], position).is_err() {
                break;
            }
            position += count;
        }
    }

    fn publish(&self, group: &mut Group, lsn: u64) -> Vec<(LogId, Slot)> {
        let mut index = self.shared.write();
        for new in group.commits.drain(..) {
            let slot = Slot::of(lsn + new.offset as u64, &new.head);
            index.add(&new.log, new.version, slot, Some(new.hash));
        }
        for (log, boundary) in group.closes.drain() {
            index.close(&log, boundary);
        }
        let drops = group
            .drops
            .drain()
            .filter_map(|(log, version)| Some((log.clone(), index.drop_body(&log, version)?)));
        let dropped = drops.collect();
        index.through = self.end;
        index.last_group = (lsn, group.bytes.len().saturating_sub(GROUP_HEAD) as u32);
        index.groups += 1;
        dropped
    }

    pub fn mark(&mut self) -> io::Result<()> {
        self.mark_sequence += 1;
        let slot = MARK_SLOTS[(self.mark_sequence % 2) as usize];
        self.marks.write_at(&frame::mark(self.mark_sequence, self.end), slot)
    }

    /// Whether the last group is an empty one, which says that everything before it is durable.
    fn is_covered(&self) -> bool {
        self.shared.read().last_group.1 == 0
    }

    /// Writes an empty group behind the last one.
    fn cover(&mut self) {
        if let Err(error) = self.write(&mut Group::new(self.salt)) {
            self.poison(&error);
        }
    }

    /// Destroys bodies whose going is durable. If that fails, the next writer to open the store does it again.
    fn destroy_bodies(&mut self, dropped: &[(LogId, Slot)]) {
        if dropped.is_empty() {
            return;
        }
        if !self.may_destroy() {
            self.owes_punches = true;
            return;
        }
        let index = self.shared.read();
        for (log, slot) in dropped {
            self.owes_punches |= self.shared.punch_body(&index, log, *slot).is_err();
            self.punched.extend(index.segment_of(slot.lsn).map(|segment| segment.number));
        }
    }

    /// Bytes are destroyed only where a later group says that they were durable, and so was what says that they may go: else
    /// what is left would look torn, and its neighbours would go with it, or would be missed by a reader.
    fn may_destroy(&mut self) -> bool {
        if !self.is_covered() {
            self.cover();
        }
        self.is_covered()
    }

    fn sweep(&mut self, log: &LogId) -> Result<Swept> {
        let slots = self.shared.write().sweep(log);
        let swept = Swept { commits: slots.len() as u64, bytes: slots.iter().map(Slot::bytes).sum() };
        let failed = |error| unavailable("giving space back", error);
        if !slots.is_empty() && !self.may_destroy() {
            return Err(failed(io::ErrorKind::StorageFull.into()));
        }
        let index = self.shared.read();
        for slot in slots {
            self.shared.punch_all(&index, log, slot).map_err(failed)?;
        }
        Ok(swept)
    }

    /// The active segment, with room for so many bytes more; a new one if it has none. If it fails, nothing was written.
    fn room_for(&mut self, bytes: u64) -> Result<Segment> {
        let failed = |error| unavailable("making room for a group", error);
        let active = self.shared.read().segments.last().cloned();
        if let Some(active) = &active {
            let needed = active.offset(self.end) + bytes;
            if needed <= self.capacity {
                return Ok(active.clone());
            }
            // Grown in place until it has its full size: a store that is opened for every append stays one file.
            if needed <= self.settings.segment_bytes_max {
                let wanted = next_bytes(&self.settings, self.capacity, needed);
                active.file.resize(wanted).map_err(failed)?;
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
        let like = SegmentHead { number, salt: self.salt, base: self.end };
        let segment = publish_segment(&*self.shared.disk, like, &[], capacity)?;
        self.shared.write().segments.push(segment.clone());
        if let Some(active) = &active {
            // What is behind the base of the new one is never read; it only takes space.
            let _ = active.file.resize(active.offset(self.end));
        }
        (self.capacity, self.written) = (capacity, 0);
        Ok(segment)
    }

    /// A last mark, and the unused tail is cut; then it is said that nothing is left to be done.
    fn finish(&mut self) -> Result<()> {
        match self.write(&mut Group::new(self.salt)) {
            // All is durable without it.
            Err(error) if error.kind() == ErrorKind::Unavailable => return Ok(()),
            written => drop(written?),
        }
        let segments = self.shared.read().segments.clone();
        let cut = || -> io::Result<()> {
            if let Some(active) = segments.last() {
                active.file.resize(active.offset(self.end))?;
                active.file.sync()?;
            }
            for segment in segments.iter().filter(|segment| self.punched.contains(&segment.number)) {
                segment.file.sync()?;
            }
            if !self.owes_punches {
                self.marks.write_at(&frame::mark(self.mark_sequence, self.end), CLOSED_SLOT)?;
            }
            self.marks.sync()
        };
        cut().map_err(|error| unavailable("closing a store", error))
    }
}

/// The size to grow to: doubled until `needed` fits, and no more than a segment may have.
fn next_bytes(settings: &Settings, now: u64, needed: u64) -> u64 {
    let mut bytes = now.max(settings.segment_bytes_first);
    while bytes < needed {
        bytes = bytes.saturating_mul(2);
    }
    bytes.min(settings.segment_bytes_max.max(needed))
}

/// Makes a segment that survives a cut, with groups in it if there are any: all of it is durable before it has its name.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if it has not got its name; [`ErrorKind::Unknown`] if that cannot be told.
pub(crate) fn publish_segment(
    disk: &dyn Disk,
    head: SegmentHead,
    groups: &[u8],
    capacity: u64,
) -> Result<Segment> {
    let name = Segment::name(head.number);
    let make = || -> io::Result<Arc<dyn DiskFile>> {
        forget(disk, NEW_SEGMENT)?;
        let file = disk.create(NEW_SEGMENT, capacity.max(SEGMENT_HEAD + groups.len() as u64))?;
        file.write_at(&head.encode(), 0)?;
        file.write_at(groups, SEGMENT_HEAD)?;
        file.sync()?;
        Ok(file)
    };
    let file = make().map_err(|error| {
        // A full disk leaves an empty file behind, which takes the space that is missing.
        let _ = forget(disk, NEW_SEGMENT);
        unavailable("making a segment", error)
    })?;
    let is_new = disk.publish(NEW_SEGMENT, &name).and_then(|is_new| {
        disk.sync_dir("")?;
        Ok(is_new)
    });
    match is_new {
        Ok(true) => Ok(Segment { number: head.number, base: head.base, salt: head.salt, file }),
        Ok(false) => Err(in_doubt("making a segment", io::ErrorKind::AlreadyExists.into())),
        Err(error) => Err(in_doubt("making a segment", error)),
    }
}

/// Removes a file, if it is there.
pub(crate) fn forget(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn in_doubt(doing: &'static str, error: io::Error) -> Error {
    Error::new(ErrorKind::Unknown, doing)
        .because(error)
        .advise("It is not known what reached the disk: open the store again, which checks it")
}

fn refused(cause: &Error) -> Error {
    Error::new(ErrorKind::Unavailable, "writing to a store")
        .advise("An earlier write failed: open the store again")
        .because(cause.clone())
}
