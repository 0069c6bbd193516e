//! Reading segments from the front: at open, and when a reader catches up.
//!
//! A group that is not whole is a torn tail if nothing shows that it was durable, and damage if something does: the mark,
//! or any later group, for no group is written before the one in front of it is durable. Behind damage the next head is
//! searched for, and what is lost in between is noted: what is lost without a name may be of any log, so that such a
//! store is read and never written.

use std::io;
use std::sync::Arc;

use icecore_log::{Error, ErrorKind, LogId};

use super::disk::{Disk, DiskFile};
use super::frame::{
    self, CLOSED_SLOT, GROUP_HEAD, Head, Kind, MARK_BYTES, MARK_SLOTS, SEGMENT_HEAD, SegmentHead, parse_mark,
};
use super::index::{Added, Index, Segment, Slot};

/// The mark file, read.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub sequence: u64,
    pub durable: u64,
    /// Through where the last writer that ended well had nothing left to do.
    pub closed: u64,
    /// By offset.
    pub damage: Vec<(u64, Error)>,
}

pub(crate) const MARK_FILE: &str = "MARK";

pub(crate) fn read_marks(file: &dyn DiskFile) -> io::Result<Marks> {
    let mut marks = Marks::default();
    for offset in MARK_SLOTS.into_iter().chain([CLOSED_SLOT]) {
        let mut bytes = [0; MARK_BYTES];
        file.read_at(&mut bytes, offset)?;
        match parse_mark(&bytes) {
            Some((_, closed)) if offset == CLOSED_SLOT => marks.closed = closed,
            Some((sequence, durable)) if sequence >= marks.sequence => {
                (marks.sequence, marks.durable) = (sequence, durable)
            }
            Some(_) => {}
            None if bytes == [0; MARK_BYTES] => {}
            None => marks.damage.push((offset, damage(MARK_FILE, offset, "a mark fails its check"))),
        }
    }
    Ok(marks)
}

pub(crate) fn damage(file: &str, offset: u64, what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a store")
        .with("file", file)
        .with("offset", offset)
        .with("because", what)
}

pub(crate) fn commit_damage(log: &LogId, version: u64, file: &str, offset: u64, what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a commit")
        .with("log", log)
        .with("version", version)
        .with("file", file)
        .with("offset", offset)
        .with("because", what)
        .advise("Restore the log from a copy")
}

/// Opens the segments that are not in the index yet, in order.
pub(crate) fn find_segments(disk: &dyn Disk, index: &mut Index, write: bool) -> io::Result<()> {
    let known = index.segments.last().map_or(0, |segment| segment.number);
    let mut numbers: Vec<u32> = disk
        .list("")?
        .iter()
        .filter_map(|name| name.strip_suffix(".seg").filter(|digits| digits.len() == 8)?.parse().ok())
        .filter(|number| *number > known)
        .collect();
    numbers.sort_unstable();
    for (number, expected) in numbers.into_iter().zip(known + 1..) {
        let name = Segment::name(number);
        if number != expected && !index.other_damage.contains_key(&(Segment::name(expected), 0)) {
            let lost = Segment::name(expected);
            let error = damage(&lost, 0, "a segment is missing");
            index.note(lost, 0, error, true);
        }
        let file = disk.open(&name, write)?;
        let mut bytes = [0; SEGMENT_HEAD as usize];
        file.read_at(&mut bytes, 0)?;
        // A segment has its name only once its head is durable.
        let head = SegmentHead::parse(&bytes, number).or_else(|| {
            let repaired = SegmentHead::repair(&bytes, number);
            let error = damage(&name, 0, "the head of a segment fails its check");
            index.note(name.clone(), 0, error, repaired.is_none());
            repaired
        });
        let Some(head) = head else {
            continue;
        };
        if index.segments.last().is_some_and(|last| head.base < last.base) {
            let error = damage(&name, 0, "a segment begins before the one in front of it");
            index.note(name, 0, error, true);
            continue;
        }
        index.segments.push(Segment { number, base: head.base, salt: head.salt, file });
    }
    Ok(())
}

/// How a scan takes what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// A reader that follows: nothing at or above the mark is looked at.
    Follow,
    /// A reader that comes: after a loss of power the mark may be an old one, and the groups say more.
    Look,
    /// The writer at open: whole groups above it are taken up, and said to be unsure.
    Take,
}

/// Takes up everything from `index.through` on; the LSN from which on what was taken is unsure.
pub(crate) fn catch_up(index: &mut Index, marked: u64, tail: Tail) -> io::Result<u64> {
    let mut durable = marked;
    let start = index.segments.partition_point(|segment| segment.base <= index.through).saturating_sub(1);
    for position in start..index.segments.len() {
        let segment = index.segments[position].clone();
        let next = index.segments.get(position + 1).map(|next| next.base);
        if index.through < segment.base {
            let file = Segment::name(segment.number);
            let error = damage(&file, 0, "what is before this segment is missing or cut short");
            index.note(file, 0, error, true);
        }
        let from = index.through.max(segment.base);
        let limit = match (next, tail) {
            (None, Tail::Follow) if marked > 0 => Some(marked.max(from)),
            _ => next,
        };
        let bytes = read_from(&segment, from, limit)?;
        durable = durable.max(match next {
            Some(next) => next,
            None => last_group(&bytes, from, segment.salt),
        });
        let mut scan =
            Scan { index, segment: &segment, bytes: &bytes, base: from, durable, last: next.is_none(), tail };
        let end = scan.run();
        index.through = end.max(from);
    }
    if let (Some(last), true) = (index.segments.last(), index.through < durable) {
        let (file, offset) = (Segment::name(last.number), last.offset(index.through));
        let error = damage(&file, offset, "the file ends before what was acknowledged");
        index.note(file, offset, error, true);
    }
    Ok(durable.min(index.through))
}

/// The bytes of a segment from an LSN on, to another or to the end of the file.
pub(crate) fn read_from(segment: &Segment, from: u64, limit: Option<u64>) -> io::Result<Vec<u8>> {
    let offset = segment.offset(from);
    let file_bytes = segment.file.bytes()?;
    let end = limit.map_or(file_bytes, |limit| segment.offset(limit).min(file_bytes));
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
    let count = segment.file.read_at(&mut bytes, offset)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The LSN of the last group that can be found: all before it was durable. Zero if there is none.
fn last_group(bytes: &[u8], base: u64, salt: u32) -> u64 {
    let (mut position, mut found) = (0, 0);
    while position < bytes.len() {
        let lsn = base + position as u64;
        let head = Head::parse(&bytes[position..], salt).filter(|head| head.is_group_at(lsn));
        let next = head.map(|head| {
            found = lsn;
            position + GROUP_HEAD + head.header_bytes as usize
        });
        match next
            .filter(|next| *next <= bytes.len())
            .or_else(|| frame::find_head(bytes, position + 1, base, salt, true))
        {
            Some(next) => position = next,
            None => break,
        }
    }
    found
}

struct Scan<'a> {
    index: &'a mut Index,
    segment: &'a Segment,
    bytes: &'a [u8],
    /// The LSN of the first byte.
    base: u64,
    durable: u64,
    last: bool,
    tail: Tail,
}

impl Scan<'_> {
    /// Goes from group to group; the LSN where it ends.
    fn run(&mut self) -> u64 {
        let mut position = 0;
        while position < self.bytes.len() {
            let lsn = self.base + position as u64;
            let is_sure = !self.last || lsn < self.durable;
            if !is_sure && self.tail != Tail::Take {
                break;
            }
            let group = self.group_at(position, lsn, is_sure);
            let end = group.as_ref().map(|group| position + GROUP_HEAD + group.header_bytes as usize);
            match (group, end.filter(|end| *end <= self.bytes.len())) {
                (Some(group), Some(end)) => {
                    if !is_sure && !self.is_whole(position + GROUP_HEAD, end) {
                        break;
                    }
                    self.frames(position + GROUP_HEAD, end);
                    self.index.groups += 1;
                    self.index.last_group = (lsn, group.header_bytes);
                    position = end;
                }
                _ if !is_sure => break,
                _ => {
                    self.note(position, "acknowledged groups from here on cannot be read", true);
                    let next = frame::find_head(self.bytes, position + 1, self.base, self.segment.salt, true);
                    position = next.unwrap_or(self.bytes.len());
                }
            }
        }
        self.base + position as u64
    }

    fn group_at(&mut self, position: usize, lsn: u64, is_sure: bool) -> Option<Head> {
        let (bytes, salt) = (&self.bytes[position..], self.segment.salt);
        let whole = Head::parse(bytes, salt).filter(|head| head.is_group_at(lsn));
        if whole.is_some() || !is_sure {
            return whole;
        }
        let repaired = Head::repair(bytes, salt).filter(|head| head.is_group_at(lsn));
        if repaired.is_some() {
            self.note(position, "the head of a group fails its check", false);
        }
        repaired
    }

    fn note(&mut self, position: usize, what: &'static str, is_loss: bool) {
        let file = Segment::name(self.segment.number);
        let offset = self.segment.offset(self.base + position as u64);
        let error = damage(&file, offset, what);
        self.index.note(file, offset, error, is_loss);
    }

    /// Whether every frame of an unsure group is there to the last byte.
    fn is_whole(&self, start: usize, end: usize) -> bool {
        let mut position = start;
        while position < end {
            let Some(head) = Head::parse(&self.bytes[position..end], self.segment.salt) else {
                return false;
            };
            match frame_end(&head, position, end) {
                Some(next) if payload_is_whole(&head, &self.bytes[position + head.bytes..next]) => {
                    position = next
                }
                _ => return false,
            }
        }
        true
    }

    fn frames(&mut self, start: usize, end: usize) {
        let mut position = start;
        while position < end {
            let (bytes, salt) = (&self.bytes[position..end], self.segment.salt);
            let whole = Head::parse(bytes, salt);
            let is_damaged = whole.is_none();
            let head = whole.or_else(|| Head::repair(bytes, salt)).filter(|head| head.kind != Kind::Group);
            match head.and_then(|head| Some((frame_end(&head, position, end)?, head))) {
                Some((next, head)) => {
                    self.take(&head, self.base + position as u64, is_damaged);
                    position = next;
                }
                None => {
                    self.note(position, "the head of a frame fails its check", true);
                    let rest = &self.bytes[..end];
                    let next = frame::find_head(rest, position + 1, self.base, salt, false);
                    position = next.unwrap_or(end);
                }
            }
        }
    }

    fn take(&mut self, head: &Head, lsn: u64, is_damaged: bool) {
        let Some(log) = &head.log else {
            return;
        };
        let (file, offset) = (Segment::name(self.segment.number), self.segment.offset(lsn));
        let damaged = |what| commit_damage(log, head.version, &file, offset, what);
        match head.kind {
            Kind::Commit => match self.index.add(log, head.version, Slot::of(lsn, head), None) {
                Added::Breaks => self.index.break_log(log, damaged("a commit before it is lost")),
                Added::Last if is_damaged => {
                    let error = damaged("the head of its frame fails its check");
                    self.index.damaged.insert((log.clone(), head.version), error);
                }
                Added::Last | Added::Closed => {}
            },
            Kind::Close => self.index.close(log, head.version),
            Kind::Drop => {
                self.index.drop_body(log, head.version);
            }
            Kind::Group => {}
        }
        if is_damaged && head.kind != Kind::Commit {
            let error = damaged("the head of a note fails its check");
            self.index.note(file.clone(), offset, error, false);
        }
    }
}

/// Where a frame ends, if that is within its group.
fn frame_end(head: &Head, position: usize, end: usize) -> Option<usize> {
    let bytes = usize::try_from(head.frame_bytes()).ok()?;
    position.checked_add(bytes).filter(|next| *next <= end)
}

fn payload_is_whole(head: &Head, payload: &[u8]) -> bool {
    match payload.split_at_checked(head.header_bytes as usize) {
        Some((header, body)) if head.kind == Kind::Commit => {
            head.header_is_whole(header) && head.body_is_whole(body)
        }
        _ => payload.is_empty(),
    }
}

/// Opens the mark file, or makes it.
pub(crate) fn open_marks(disk: &dyn Disk, write: bool) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(MARK_FILE, write) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && write => {
            let file = disk.create(MARK_FILE, CLOSED_SLOT + MARK_BYTES as u64)?;
            disk.sync_dir("")?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
