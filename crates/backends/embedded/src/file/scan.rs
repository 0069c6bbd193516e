//! Reading segments from the front: at open, when a reader catches up, and for a deep examination.

use std::io;
use std::sync::Arc;

use icecore_log::{Error, ErrorKind, LogId};

use super::disk::{Disk, DiskFile};
use super::frame::{GROUP_HEAD, Head, Kind, MARK_BYTES, MARK_SLOTS, SEGMENT_HEAD, parse_mark, segment_base};
use super::index::{Index, Segment, Slot};

/// The mark file, read.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub sequence: u64,
    pub durable: u64,
    pub damage: Vec<Error>,
}

pub(crate) const MARK_FILE: &str = "MARK";

pub(crate) fn read_marks(file: &dyn DiskFile) -> io::Result<Marks> {
    let mut marks = Marks::default();
    for offset in MARK_SLOTS {
        let mut bytes = [0; MARK_BYTES];
        file.read_at(&mut bytes, offset)?;
        match parse_mark(&bytes) {
            Some((sequence, durable)) if sequence >= marks.sequence => {
                (marks.sequence, marks.durable) = (sequence, durable)
            }
            Some(_) => {}
            None if bytes == [0; MARK_BYTES] => {}
            None => marks.damage.push(damage(MARK_FILE, offset, "a mark fails its check")),
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
    for number in numbers {
        let name = Segment::name(number);
        let file = disk.open(&name, write)?;
        let mut head = [0; SEGMENT_HEAD as usize];
        file.read_at(&mut head, 0)?;
        let base = match segment_base(&head, number) {
            Some(base) => base,
            // Made, and never written: the writer died before its first group.
            None if head == [0; SEGMENT_HEAD as usize] => {
                if write {
                    disk.remove(&name)?;
                }
                continue;
            }
            None => {
                index.other_damage.push(damage(&name, 0, "the head of a segment fails its check"));
                match repair_base(head, number) {
                    Some(base) => base,
                    None => continue,
                }
            }
        };
        index.segments.push(Segment { number, base, file });
    }
    Ok(())
}

fn repair_base(mut head: [u8; SEGMENT_HEAD as usize], number: u32) -> Option<u64> {
    (0..head.len() * 8).find_map(|bit| {
        head[bit / 8] ^= 1 << (bit % 8);
        let base = segment_base(&head, number);
        head[bit / 8] ^= 1 << (bit % 8);
        base
    })
}

/// How a scan takes what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// A reader: nothing at or above the durable mark is looked at.
    Ignore,
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
        let from = index.through.max(segment.base);
        if position > start && index.through < segment.base {
            let lost = damage(&Segment::name(segment.number), 0, "the segment before ends too early");
            index.other_damage.push(lost);
        }
        let bytes = read_from(&segment, from, next)?;
        durable = durable.max(match next {
            Some(next) => next,
            None => last_mark(&bytes),
        });
        let mut scan =
            Scan { index, segment: &segment, bytes: &bytes, base: from, durable, last: next.is_none(), tail };
        let end = scan.run();
        index.through = end.max(from);
    }
    Ok(durable.min(index.through))
}

fn read_from(segment: &Segment, from: u64, next: Option<u64>) -> io::Result<Vec<u8>> {
    let offset = segment.offset(from);
    let end = next
        .map_or(segment.file.bytes()?, |next| segment.offset(next).min(segment.file.bytes().unwrap_or(0)));
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
    let count = segment.file.read_at(&mut bytes, offset)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The highest mark in the groups of a last segment.
fn last_mark(bytes: &[u8]) -> u64 {
    let (mut position, mut durable) = (0_usize, 0);
    while let Some(head) = bytes.get(position..).and_then(Head::parse).filter(|head| head.kind == Kind::Group)
    {
        durable = durable.max(head.version);
        position = position.saturating_add(GROUP_HEAD + head.header_bytes as usize);
    }
    durable
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
            if !is_sure && self.tail == Tail::Ignore {
                break;
            }
            let Some(group) = self.group_at(position, is_sure) else {
                break;
            };
            let start = position + GROUP_HEAD;
            let end = start + group.header_bytes as usize;
            if end > self.bytes.len() {
                if is_sure {
                    self.note(position, "a group is cut short");
                }
                break;
            }
            if !is_sure && !self.is_whole(start, end) {
                break;
            }
            self.frames(start, end);
            self.index.groups += 1;
            position = end;
        }
        let end = self.base + position as u64;
        if self.last && end < self.durable.min(self.base + self.bytes.len() as u64) {
            self.note(position, "acknowledged groups from here on cannot be read");
        }
        // What is behind damage below the mark must never be written over.
        if self.last {
            end.max(self.durable.max(self.base).min(self.base + self.bytes.len() as u64))
        } else {
            end
        }
    }

    fn group_at(&mut self, position: usize, is_sure: bool) -> Option<Head> {
        let bytes = &self.bytes[position..];
        if let Some(head) = Head::parse(bytes).filter(|head| head.kind == Kind::Group) {
            return Some(head);
        }
        if !is_sure {
            return None;
        }
        self.note(position, "the head of a group fails its check");
        Head::repair(bytes).filter(|head| head.kind == Kind::Group)
    }

    fn note(&mut self, position: usize, what: &'static str) {
        let offset = self.segment.offset(self.base + position as u64);
        self.index.other_damage.push(damage(&Segment::name(self.segment.number), offset, what));
    }

    /// Whether every frame of an unsure group is there to the last byte.
    fn is_whole(&self, start: usize, end: usize) -> bool {
        let mut position = start;
        while position < end {
            let Some(head) = Head::parse(&self.bytes[position..end]) else {
                return false;
            };
            let next = position.saturating_add(usize::try_from(head.frame_bytes()).unwrap_or(usize::MAX));
            if next > end || !payload_is_whole(&head, &self.bytes[position + head.bytes..next]) {
                return false;
            }
            position = next;
        }
        true
    }

    fn frames(&mut self, start: usize, end: usize) {
        let mut position = start;
        while position < end {
            let bytes = &self.bytes[position..end];
            let (head, is_damaged) = match Head::parse(bytes) {
                Some(head) => (head, false),
                None => match Head::repair(bytes) {
                    Some(head) => (head, true),
                    None => return self.note(position, "the head of a frame fails its check"),
                },
            };
            let lsn = self.base + position as u64;
            let next = position.saturating_add(usize::try_from(head.frame_bytes()).unwrap_or(usize::MAX));
            if next > end || head.kind == Kind::Group {
                return self.note(position, "a frame is longer than its group");
            }
            self.take(&head, lsn, is_damaged);
            position = next;
        }
    }

    fn take(&mut self, head: &Head, lsn: u64, is_damaged: bool) {
        let Some(log) = &head.log else {
            return;
        };
        let (file, offset) = (Segment::name(self.segment.number), self.segment.offset(lsn));
        let damaged = |what| commit_damage(log, head.version, &file, offset, what);
        match head.kind {
            Kind::Commit => {
                let follows = self.index.add(log, head.version, Slot::of(lsn, head), None);
                if is_damaged || !follows {
                    let what = if follows {
                        "the head of its frame fails its check"
                    } else {
                        "the commit before is missing"
                    };
                    self.index.damaged.insert((log.clone(), head.version), damaged(what));
                }
            }
            Kind::Close => self.index.close(log, head.version),
            Kind::Drop => {
                self.index.drop_body(log, head.version);
            }
            Kind::Group => {}
        }
        if is_damaged && head.kind != Kind::Commit {
            self.index.other_damage.push(damaged("the head of a note fails its check"));
        }
    }
}

pub(crate) fn payload_is_whole(head: &Head, payload: &[u8]) -> bool {
    match payload.split_at_checked(head.header_bytes as usize) {
        Some((header, body)) if head.kind == Kind::Commit => {
            head.header_is_whole(header) && head.body_is_whole(body)
        }
        _ => payload.is_empty(),
    }
}

/// Reads every byte of the segments again and says what is wrong, beyond what the index knows.
pub(crate) fn examine(index: &Index) -> io::Result<(Vec<Error>, u64)> {
    let (mut found, mut count) = (Vec::new(), 0);
    for (position, segment) in index.segments.iter().enumerate() {
        let next = index.segments.get(position + 1).map(|next| next.base);
        let bytes = read_from(segment, segment.base, next)?;
        count += bytes.len() as u64;
        let end =
            usize::try_from(next.unwrap_or(index.through).saturating_sub(segment.base)).unwrap_or(usize::MAX);
        found.extend(examine_frames(index, segment, &bytes[..end.min(bytes.len())]));
    }
    Ok((found, count))
}

fn examine_frames(index: &Index, segment: &Segment, bytes: &[u8]) -> Vec<Error> {
    let (mut found, mut position) = (Vec::new(), 0);
    let file = Segment::name(segment.number);
    while position < bytes.len() {
        let offset = SEGMENT_HEAD + position as u64;
        // What fails here was noted by the scan already, by name where that is possible.
        let Some(head) = Head::parse(&bytes[position..]).or_else(|| Head::repair(&bytes[position..])) else {
            break;
        };
        let next = position.saturating_add(usize::try_from(head.frame_bytes()).unwrap_or(usize::MAX));
        let (Some(payload), Some(log)) = (bytes.get(position + head.bytes..next), &head.log) else {
            position = next;
            continue;
        };
        let entry = index.logs.get(log);
        let is_closed = entry.is_some_and(|entry| head.version <= entry.boundary);
        let is_dropped =
            entry.and_then(|entry| entry.slot(head.version)).is_some_and(|slot| slot.body_bytes().is_none());
        if head.kind == Kind::Commit && !is_closed {
            let (header, body) =
                payload.split_at_checked(head.header_bytes as usize).unwrap_or((payload, &[]));
            // Destroyed bytes are no damage, and those that are not destroyed yet are nobody's.
            let body_is_gone = is_dropped && head.has_body;
            if !head.header_is_whole(header) {
                found.push(commit_damage(log, head.version, &file, offset, "its header fails its check"));
            } else if !body_is_gone && !head.body_is_whole(body) {
                found.push(commit_damage(log, head.version, &file, offset, "its body fails its check"));
            }
        }
        position = next;
    }
    found
}

/// Opens the mark file, or makes it.
pub(crate) fn open_marks(disk: &dyn Disk, write: bool) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(MARK_FILE, write) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && write => {
            let file = disk.create(MARK_FILE, MARK_SLOTS[1] + MARK_BYTES as u64)?;
            disk.sync_dir("")?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
