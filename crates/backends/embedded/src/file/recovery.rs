//! Opening: what a crash left is repaired before anything is answered; a reader repairs nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use icecore_log::{Error, ErrorKind, LogId, Result};

use super::frame::{self, SegmentHead};
use super::group::Group;
use super::index::{Index, Slot};
use super::scan::{self, Tail};
use super::writer::{Found, NEW_SEGMENT, Writer, forget, publish_segment};
use super::{Disk, Settings, Shared, blobs, unavailable};

const LOCK_FILE: &str = "LOCK";

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let failed = |error| unavailable("making a store's directory", error);
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).map_err(failed)?;
        if !path.join(LOCK_FILE).exists() && entries.next().is_some() {
            return Err(Error::new(ErrorKind::Refused, "opening a store")
                .advise("The directory is not empty and holds no store: name another one"));
        }
    }
    if path.join(LOCK_FILE).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(failed)?;
    // The directory's own name, and those above it, must be durable before anything in it is acknowledged. Whoever made
    // them may have died before this, so it is done until there is a store.
    let path = path.canonicalize().map_err(failed)?;
    for folder in path.ancestors().skip(1) {
        match std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
            // Not ours to read, so not ours to have made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            done => done.map_err(failed)?,
        }
    }
    Ok(())
}

pub(crate) fn open_to_write(shared: &Arc<Shared>, settings: Settings) -> Result<Writer> {
    let failed = |error| unavailable("opening a store", error);
    let lock = shared.disk.lock(LOCK_FILE).map_err(failed)?.ok_or_else(|| {
        Error::new(ErrorKind::Refused, "opening a store")
            .advise("Another process writes to this store. Read it while that one writes, or use sqlite: or postgres: for several writers")
    })?;
    shared.disk.sync_dir("").map_err(failed)?;
    blobs::clean(&*shared.disk).map_err(failed)?;
    forget(&*shared.disk, NEW_SEGMENT).map_err(failed)?;
    let marks = scan::open_marks(&*shared.disk, true).map_err(failed)?;
    let marks = marks.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let marked = scan::read_marks(&*marks).map_err(failed)?;
    let mut index = Index::default();
    scan::find_segments(&*shared.disk, &mut index, true).map_err(failed)?;
    for (offset, error) in marked.damage {
        index.note(scan::MARK_FILE.to_owned(), offset, error, false);
    }
    let sure = scan::catch_up(&mut index, marked.durable, Tail::Take).map_err(failed)?;
    if let Some(loss) = index.loss() {
        // To go on would be to give slots away that are taken, and to write behind bytes that nobody can get past.
        return Err(loss.clone().advise(
            "Commits may be lost, and it cannot be told of which logs, so nothing is written here any more. Copy what is whole to a new store with `icecore copy`, or restore this one",
        ));
    }
    let was_closed = marked.closed == index.through;
    let capacity = settle(&*shared.disk, &mut index, sure)?;
    let salt = index.segments.last().map_or_else(new_salt, |segment| segment.salt);
    let (end, last_bytes) = (index.through, index.last_group.1);
    *shared.write() = index;
    let found = Found { marks, mark_sequence: marked.sequence, end, salt, capacity, lock };
    let mut writer = Writer::new(Arc::clone(shared), settings, found);
    // Both copies, so that one that was damaged is whole again.
    writer.mark().and_then(|()| writer.mark()).map_err(failed)?;
    if last_bytes > 0 {
        // The last group is durable now, and nothing in the segment says so: bytes that are destroyed in it would make
        // it look torn.
        writer.write(&mut Group::new(salt))?;
    }
    if !was_closed {
        writer.punched = repeat_drops(shared).map_err(failed)?;
    }
    Ok(writer)
}

/// A number that a client cannot know, out of the keys that the standard library draws for its hash maps.
fn new_salt() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// Makes what is above the durable mark durable, in a new segment: the old one may show bytes that never reached the disk.
/// The length of the segment that is written next.
fn settle(disk: &dyn Disk, index: &mut Index, sure: u64) -> Result<u64> {
    let failed = |error| unavailable("opening a store", error);
    let Some(last) = index.segments.last().cloned() else {
        return Ok(0);
    };
    // What is behind the base of the next segment is no part of the store: the writer died before it cut it off. It may be
    // a copy of groups, with bodies that will have to be destroyed.
    for pair in index.segments.windows(2) {
        let bytes = pair[0].offset(pair[1].base);
        if pair[0].file.bytes().map_err(failed)? > bytes {
            pair[0].file.resize(bytes).map_err(failed)?;
        }
    }
    let sure = sure.max(last.base);
    if index.through > sure {
        let mut tail = vec![0; usize::try_from(index.through - sure).unwrap_or(usize::MAX)];
        last.file.read_at(&mut tail, last.offset(sure)).map_err(failed)?;
        // It has its name only when it is whole: a name without the tail would hide the tail that the old segment has.
        let head = SegmentHead { number: last.number + 1, salt: last.salt, base: sure };
        let segment = publish_segment(disk, head, &tail, 0)?;
        index.segments.push(segment);
    }
    last.file.resize(last.offset(sure.min(index.through))).and_then(|()| last.file.sync()).map_err(failed)?;
    Ok(index.segments.last().map_or(0, |active| active.offset(index.through)))
}

/// A body whose going was durable may still be there: the writer died before it destroyed it. The segments that are changed.
fn repeat_drops(shared: &Shared) -> io::Result<BTreeSet<u32>> {
    let index = shared.read();
    let mut punched = BTreeSet::new();
    let dropped: Vec<(LogId, u64, Slot)> = index
        .logs
        .iter()
        .flat_map(|(log, entry)| entry.slots.iter().map(move |slot| (log, slot)))
        .filter(|(_, slot)| slot.body_bytes().is_none())
        .map(|(log, slot)| (log.clone(), slot.lsn, *slot))
        .collect();
    for (log, lsn, slot) in dropped {
        let Some(segment) = index.segment_of(lsn) else {
            continue;
        };
        let mut bytes = vec![0; frame::GROUP_HEAD + log.as_str().len()];
        segment.file.read_at(&mut bytes, segment.offset(lsn))?;
        if let Some(head) = frame::Head::parse(&bytes, segment.salt).filter(|head| head.body_bytes > 0) {
            let body = segment.offset(lsn) + head.bytes as u64 + u64::from(slot.header_bytes);
            segment.file.punch(body, u64::from(head.body_bytes))?;
            punched.insert(segment.number);
        }
    }
    Ok(punched)
}

pub(crate) fn open_to_read(shared: &Shared) -> Result<()> {
    let is_store = shared
        .disk
        .list("")
        .map_err(|error| unavailable("opening a store", error))?
        .iter()
        .any(|name| name == LOCK_FILE);
    if !is_store {
        return Err(Error::new(ErrorKind::NotFound, "opening a store")
            .advise("There is no store: append something to make one"));
    }
    refresh(shared, Tail::Look)
}

/// Takes up what the writer, in another process, has published since.
pub(crate) fn refresh(shared: &Shared, tail: Tail) -> Result<()> {
    let follow = || -> io::Result<()> {
        let mut marks = shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.is_none() {
            *marks = scan::open_marks(&*shared.disk, false)?;
        }
        let marked = match &*marks {
            Some(file) => scan::read_marks(&**file)?,
            None => scan::Marks::default(),
        };
        let is_known = marked.durable > 0 && marked.durable <= shared.followed.load(Ordering::Acquire);
        if tail == Tail::Follow && is_known {
            return Ok(());
        }
        let mut index = shared.write();
        scan::find_segments(&*shared.disk, &mut index, false)?;
        scan::catch_up(&mut index, marked.durable, tail)?;
        shared.followed.store(marked.durable.max(index.through), Ordering::Release);
        drop(index);
        shared.changed();
        Ok(())
    };
    follow().map_err(|error| unavailable("reading a store", error))
}
