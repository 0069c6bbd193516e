//! Opening: what a crash left is repaired before anything is answered; a reader repairs nothing.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use icecore_log::{Error, ErrorKind, LogId, Result};

use super::disk::Disk;
use super::frame::SEGMENT_HEAD;
use super::index::{Index, Slot};
use super::scan::{self, Tail};
use super::writer::{Writer, new_segment};
use super::{Settings, Shared, blobs, unavailable};

const LOCK_FILE: &str = "LOCK";

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let failed = |error| unavailable("making a store's directory", error);
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).map_err(failed)?;
        if !path.join(LOCK_FILE).exists() && entries.next().is_some() {
            return Err(Error::new(ErrorKind::Refused, "opening a store")
                .advise("The directory is not empty and holds no store: name another one"));
        }
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(failed)?;
    // The directory's own name must be durable before anything in it is acknowledged.
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

pub(crate) fn open_to_write(shared: &Arc<Shared>, settings: Settings) -> Result<Writer> {
    let failed = |error| unavailable("opening a store", error);
    let lock = shared.disk.lock(LOCK_FILE).map_err(failed)?.ok_or_else(|| {
        Error::new(ErrorKind::Refused, "opening a store")
            .advise("Another process writes to this store. Read it while that one writes, or use sqlite: or postgres: for several writers")
    })?;
    *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    let write = || -> io::Result<Writer> {
        shared.disk.sync_dir("")?;
        blobs::clean(&*shared.disk)?;
        let marks = scan::open_marks(&*shared.disk, true)?.ok_or(io::ErrorKind::NotFound)?;
        let marked = scan::read_marks(&*marks)?;
        let mut index = Index::default();
        scan::find_segments(&*shared.disk, &mut index, true)?;
        index.other_damage.extend(marked.damage.iter().cloned());
        let sure = scan::catch_up(&mut index, marked.durable, Tail::Take)?;
        let capacity = settle(&*shared.disk, &mut index, sure)?;
        let end = index.through;
        *shared.write() = index;
        let mut writer = Writer {
            shared: Arc::clone(shared),
            marks,
            mark_sequence: marked.sequence,
            end,
            capacity,
            settings,
        };
        repeat_drops(shared)?;
        writer.mark()?;
        Ok(writer)
    };
    write().map_err(failed)
}

/// Makes what is above the durable mark durable, in a new segment: the old one may show bytes that never reached the disk.
/// The length of the segment that is written next.
fn settle(disk: &dyn Disk, index: &mut Index, sure: u64) -> io::Result<u64> {
    let Some(last) = index.segments.last().cloned() else {
        return Ok(0);
    };
    let sure = sure.max(last.base);
    if index.through > sure {
        let mut tail = vec![0; usize::try_from(index.through - sure).unwrap_or(usize::MAX)];
        last.file.read_at(&mut tail, last.offset(sure))?;
        let segment = new_segment(disk, last.number + 1, sure, SEGMENT_HEAD + tail.len() as u64)?;
        segment.file.write_at(&tail, SEGMENT_HEAD)?;
        segment.file.sync()?;
        index.segments.push(segment);
    }
    last.file.resize(last.offset(sure.min(index.through)))?;
    last.file.sync()?;
    Ok(index.segments.last().map_or(0, |active| active.offset(index.through)))
}

/// A body whose going was durable may still be there: the writer died before it destroyed it.
fn repeat_drops(shared: &Shared) -> io::Result<()> {
    let index = shared.read();
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
        let mut bytes = vec![0; super::frame::GROUP_HEAD + log.as_str().len()];
        segment.file.read_at(&mut bytes, segment.offset(lsn))?;
        if let Some(head) = super::frame::Head::parse(&bytes).filter(|head| head.body_bytes > 0) {
            let body = segment.offset(lsn) + head.bytes as u64 + u64::from(slot.header_bytes);
            segment.file.punch(body, u64::from(head.body_bytes))?;
        }
    }
    Ok(())
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
    *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(()));
    refresh(shared)
}

/// Takes up what the writer, in another process, has published since.
pub(crate) fn refresh(shared: &Shared) -> Result<()> {
    let follow = || -> io::Result<()> {
        let mut marks = shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.is_none() {
            *marks = scan::open_marks(&*shared.disk, false)?;
        }
        let marked = match &*marks {
            Some(file) => scan::read_marks(&**file)?,
            None => scan::Marks::default(),
        };
        if marked.durable > 0 && marked.durable <= shared.read().through {
            return Ok(());
        }
        let mut index = shared.write();
        scan::find_segments(&*shared.disk, &mut index, false)?;
        scan::catch_up(&mut index, marked.durable, Tail::Ignore)?;
        drop(index);
        shared.changed();
        Ok(())
    };
    follow().map_err(|error| unavailable("reading a store", error))
}
