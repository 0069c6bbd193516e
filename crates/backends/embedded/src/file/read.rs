//! Reads: places out of the index, bytes out of the segments, every checksum checked.

use std::io;

use bytes::Bytes;
use icecore_log::{
    Cursor, Error, Hash, Head, LogId, LogPage, LogPrefix, Page, PageLimit, Result, StoredCommit, Version,
};

use super::frame;
use super::index::{Index, LogIndex, Segment, Slot};
use super::{Shared, scan, unavailable};

/// How much is read at once where the next commits are near.
const WINDOW: usize = 64 << 10;

/// Bytes of a segment that were read. A segment's file may go on behind its last group, with what is no part of the store.
#[derive(Default)]
struct Window {
    segment: u32,
    lsn: u64,
    bytes: Bytes,
}

impl Window {
    fn get(&self, segment: &Segment, lsn: u64, bytes: usize) -> Option<Bytes> {
        if segment.number != self.segment {
            return None;
        }
        let start = usize::try_from(lsn.checked_sub(self.lsn)?).ok()?;
        let end = start.checked_add(bytes)?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

impl Shared {
    pub(crate) fn page(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let from = from.max(Version::FIRST);
        let (mut page, slots) = {
            let index = self.read();
            let Some(entry) = index.logs.get(log) else {
                return Ok(Page::default());
            };
            let page = Page { commits: Vec::new(), boundary: Version(entry.boundary) };
            if from.0 > entry.head()
                && let Some(error) = &entry.broken
            {
                return Err(error.clone());
            }
            if from.0 <= entry.boundary || from.0 < entry.first || from.0 > entry.head() {
                return Ok(page);
            }
            let mut bytes = 0;
            let mut slots = Vec::new();
            let skip = usize::try_from(from.0 - entry.first).unwrap_or(usize::MAX);
            for (version, slot) in (from.0..).zip(entry.slots.iter().skip(skip)).take(limit.commits.max(1)) {
                let segment = index.segment_of(slot.lsn).cloned();
                let damage = if index.damaged.is_empty() {
                    None
                } else {
                    index.damaged.get(&(log.clone(), version)).cloned()
                };
                slots.push((Version(version), *slot, segment, damage));
                bytes += if limit.bodies { slot.bytes() } else { u64::from(slot.header_bytes) };
                if bytes >= limit.bytes as u64 {
                    break;
                }
            }
            (page, slots)
        };
        let is_run = slots.len() > 1;
        let mut window = Window::default();
        for (version, slot, segment, damage) in slots {
            if let Some(damage) = damage {
                return Err(damage);
            }
            let segment = segment.ok_or_else(|| missing(log, version))?;
            page.commits.push(read_commit(log, version, slot, &segment, limit.bodies, is_run, &mut window)?);
        }
        Ok(page)
    }

    pub(crate) fn head(&self, log: &LogId) -> Result<Option<Head>> {
        let (version, slot, boundary, segment, damage) = {
            let index = self.read();
            let Some(entry) = index.logs.get(log) else {
                return Ok(None);
            };
            let Some((version, slot)) = entry.last()? else {
                return Ok(None);
            };
            let boundary = entry.boundary;
            let segment = index.segment_of(slot.lsn).cloned();
            let damage = if index.damaged.is_empty() {
                None
            } else {
                index.damaged.get(&(log.clone(), version.0)).cloned()
            };
            (version, slot, boundary, segment, damage)
        };
        if let Some(damage) = damage {
            return Err(damage);
        }
        let segment = segment.ok_or_else(|| missing(log, version))?;
        let commit = read_commit(log, version, slot, &segment, false, false, &mut Window::default())?;
        Ok(Some(Head { version, header: commit.header, boundary: Version(boundary) }))
    }

    /// The hash of a commit that the writer compares with; it holds the index.
    pub(crate) fn header_hash(&self, index: &Index, log: &LogId, version: u64, slot: Slot) -> Result<Hash> {
        if let Some(damage) = index.damaged.get(&(log.clone(), version)) {
            return Err(damage.clone());
        }
        let segment = index.segment_of(slot.lsn).ok_or_else(|| missing(log, Version(version)))?;
        read_commit(log, Version(version), slot, segment, false, false, &mut Window::default())
            .map(|commit| commit.hash())
    }

    pub(crate) fn list(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let parse = |cursor: &Cursor| LogId::parse(cursor.name()?).map_err(|_| Cursor::foreign());
        let after = cursor.as_ref().map(parse).transpose()?;
        let index = self.read();
        // Names sort as bytes, so those of a prefix stand together.
        let mut found = index
            .logs
            .behind(after.as_ref())
            .skip_while(|(name, _)| name.as_str() < prefix.as_str())
            .take_while(|(name, _)| prefix.matches(name))
            .filter(|(_, entry)| !entry.slots.is_empty())
            .map(|(name, _)| name.clone());
        let logs: Vec<LogId> = found.by_ref().take(limit.max(1)).collect();
        let next = match (found.next(), logs.last()) {
            (Some(_), Some(last)) => Some(Cursor(Bytes::copy_from_slice(last.as_str().as_bytes()))),
            _ => None,
        };
        Ok(LogPage { logs, next })
    }

    pub(crate) fn is_past(&self, seen: &[(LogId, Version)]) -> bool {
        let index = self.read();
        // Without commits there is nothing past anything, wherever the log was closed; a broken log is for the next read to tell.
        let head = |log| index.logs.get(log).filter(|entry| !entry.slots.is_empty()).map(LogIndex::head);
        seen.iter().any(|(log, version)| head(log).is_some_and(|head| head > version.0))
    }

    pub(crate) fn punch_body(&self, index: &Index, log: &LogId, slot: Slot) -> io::Result<()> {
        let (Some(segment), Some(bytes)) =
            (index.segment_of(slot.lsn), slot.body_bytes().filter(|bytes| *bytes > 0))
        else {
            return Ok(());
        };
        let body = segment.offset(slot.lsn) + frame_head(log) + u64::from(slot.header_bytes);
        segment.file.punch(body, u64::from(bytes))
    }

    pub(crate) fn punch_all(&self, index: &Index, log: &LogId, slot: Slot) -> io::Result<()> {
        match index.segment_of(slot.lsn) {
            Some(segment) if slot.bytes() > 0 => {
                segment.file.punch(segment.offset(slot.lsn) + frame_head(log), slot.bytes())
            }
            _ => Ok(()),
        }
    }
}

fn frame_head(log: &LogId) -> u64 {
    (frame::GROUP_HEAD + log.as_str().len()) as u64
}

fn missing(log: &LogId, version: Version) -> Error {
    scan::commit_damage(log, version.0, "(none)", 0, "its segment is missing")
}

fn read_commit(
    log: &LogId,
    version: Version,
    slot: Slot,
    segment: &Segment,
    with_body: bool,
    is_run: bool,
    window: &mut Window,
) -> Result<StoredCommit> {
    let head_bytes = frame::GROUP_HEAD + log.as_str().len();
    let header_bytes = slot.header_bytes as usize;
    let body_bytes = slot.body_bytes().filter(|_| with_body).unwrap_or(0) as usize;
    let wanted = head_bytes + header_bytes + body_bytes;
    let damaged = |what| {
        scan::commit_damage(log, version.0, &Segment::name(segment.number), segment.offset(slot.lsn), what)
    };
    let bytes = match window.get(segment, slot.lsn, wanted) {
        Some(bytes) => bytes,
        None => {
            let mut bytes = vec![0; if is_run { wanted.max(WINDOW) } else { wanted }];
            let read = segment.file.read_at(&mut bytes, segment.offset(slot.lsn));
            bytes.truncate(read.map_err(|error| {
                unavailable("reading a commit", error).with("log", log).with("version", version)
            })?);
            *window = Window { segment: segment.number, lsn: slot.lsn, bytes: bytes.into() };
            window.get(segment, slot.lsn, wanted).ok_or_else(|| damaged("its frame is cut short"))?
        }
    };
    let head = frame::Head::parse(&bytes, segment.salt)
        .ok_or_else(|| damaged("the head of its frame fails its check"))?;
    if head.log.as_ref() != Some(log) || head.version != version.0 || head.header_bytes != slot.header_bytes {
        return Err(damaged("another frame is in its place"));
    }
    let header = bytes.slice(head_bytes..head_bytes + header_bytes);
    if !head.header_is_whole(&header) {
        return Err(damaged("its header fails its check"));
    }
    let body = match slot.body_bytes() {
        Some(_) if with_body => {
            let body = bytes.slice(head_bytes + header_bytes..);
            if !head.body_is_whole(&body) {
                return Err(damaged("its body fails its check"));
            }
            Some(body)
        }
        _ => None,
    };
    // A page's bytes outlive the window only as far as they are commits of it.
    Ok(StoredCommit { version, header, body })
}
