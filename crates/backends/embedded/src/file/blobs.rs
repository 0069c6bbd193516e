//! Blobs: one file each, complete and durable before it has its name.
//!
//! `| "ICEBLOB1" | name length u32 | content length u64 | name | crc of all before u32 | content | crc u32 of each 64 KiB of content |`
//! A file is `blobs/<first 32 hexadecimal digits of SHA-256 of the log's name>/<the blob's name>`.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use icecore_log::backend::BlobInfo;
use icecore_log::{BlobId, Error, ErrorKind, Hash, LogId, Result};

use super::disk::{Disk, DiskFile};
use super::{scan, unavailable};

const FOLDER: &str = "blobs";
const TEMPORARY: &str = "tmp-";
const FIXED: usize = 8 + 4 + 8;
const BLOCK: u64 = 64 << 10;

static NEXT: AtomicU64 = AtomicU64::new(0);

fn folder(log: &LogId) -> String {
    let hash = Hash::of(log.as_str().as_bytes()).to_string();
    format!("{FOLDER}/{}", &hash[..32])
}

fn path(blob: &BlobId) -> String {
    format!("{}/{}", folder(blob.log()), blob.name())
}

fn encode(blob: &BlobId, content: &[u8]) -> Vec<u8> {
    let name = blob.to_string();
    let mut bytes = Vec::with_capacity(FIXED + name.len() + 4 + content.len() + content.len() / 16_384 + 4);
    bytes.extend(b"ICEBLOB1");
    // A name has at most 641 bytes.
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(content);
    for block in content.chunks(BLOCK as usize) {
        bytes.extend(crc32fast::hash(block).to_le_bytes());
    }
    bytes
}

pub(crate) fn put(disk: &dyn Disk, blob: &BlobId, content: &[u8]) -> Result<bool> {
    let folder = folder(blob.log());
    let temporary =
        format!("{FOLDER}/{TEMPORARY}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let write = || -> io::Result<()> {
        disk.make_dir(&folder)?;
        let file = disk.create(&temporary, 0)?;
        file.write_at(&encode(blob, content), 0)?;
        file.sync()
    };
    // What a failed attempt leaves would fill a disk.
    let remove = || drop(disk.remove(&temporary));
    write().map_err(|error| {
        remove();
        unavailable("writing a blob", error).with("blob", blob)
    })?;
    let publish = || -> io::Result<bool> {
        let is_new = disk.publish(&temporary, &path(blob)).inspect_err(|_| remove())?;
        // Also when it was there: the one who put it may not have come this far.
        disk.sync_dir(&folder)?;
        disk.sync_dir(FOLDER)?;
        disk.sync_dir("")?;
        Ok(is_new)
    };
    publish().map_err(|error| unknown("writing a blob", blob, error))
}

/// From when the blob's name has changed, if only in memory, until that is durable.
fn unknown(doing: &'static str, blob: &BlobId, error: io::Error) -> Error {
    Error::new(ErrorKind::Unknown, doing).with("blob", blob).because(error).advise("Do the same again")
}

/// A blob's file, the offset of its content, and its length, its head checked.
struct Open {
    file: std::sync::Arc<dyn DiskFile>,
    start: u64,
    bytes: u64,
}

fn open(disk: &dyn Disk, path: &str, blob: Option<&BlobId>) -> Result<Option<Open>> {
    let failed = |error| unavailable("reading a blob", error).with("file", path);
    let file = match disk.open(path, false) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut head = vec![0; FIXED + LogId::BYTES_MAX + BlobId::NAME_BYTES_MAX + 1 + 4];
    let count = file.read_at(&mut head, 0).map_err(failed)?;
    head.truncate(count);
    let damaged = || scan::damage(path, 0, "the head of a blob fails its check");
    let field = |from: usize, to: usize| head.get(from..to).ok_or_else(damaged);
    let name_bytes = u32::from_le_bytes(field(8, 12)?.try_into().map_err(|_| damaged())?) as usize;
    let bytes = u64::from_le_bytes(field(12, 20)?.try_into().map_err(|_| damaged())?);
    let end = FIXED.saturating_add(name_bytes);
    let crc = field(end, end.saturating_add(4))?;
    if &head[..8] != b"ICEBLOB1" || crc != crc32fast::hash(&head[..end]).to_le_bytes() {
        return Err(damaged());
    }
    if blob.is_some_and(|blob| blob.to_string().as_bytes() != &head[FIXED..end]) {
        return Err(scan::damage(path, 0, "the file holds another blob"));
    }
    let start = end as u64 + 4;
    let whole = start.checked_add(bytes).and_then(|end| end.checked_add(bytes.div_ceil(BLOCK) * 4));
    if Some(file.bytes().map_err(failed)?) != whole {
        return Err(scan::damage(path, start, "a blob has another length than it says"));
    }
    Ok(Some(Open { file, start, bytes }))
}

/// Reads the blocks that a range touches, checked.
fn read(open: &Open, path: &str, range: &Range<u64>) -> Result<Bytes> {
    let end = range.end.min(open.bytes);
    let start = range.start.min(end);
    if start == end {
        return Ok(Bytes::new());
    }
    let (first, last) = (start / BLOCK, (end - 1) / BLOCK);
    let from = first * BLOCK;
    let mut bytes = vec![0; usize::try_from(((last + 1) * BLOCK).min(open.bytes) - from).unwrap_or(0)];
    let mut crcs = vec![0; usize::try_from((last - first + 1) * 4).unwrap_or(0)];
    let failed = |error| unavailable("reading a blob", error).with("file", path);
    open.file.read_at(&mut bytes, open.start + from).map_err(failed)?;
    open.file.read_at(&mut crcs, open.start + open.bytes + first * 4).map_err(failed)?;
    for (index, (block, crc)) in bytes.chunks(BLOCK as usize).zip(crcs.chunks(4)).enumerate() {
        if crc32fast::hash(block).to_le_bytes() != crc {
            let offset = open.start + from + index as u64 * BLOCK;
            return Err(scan::damage(path, offset, "a block of a blob fails its check"));
        }
    }
    let bytes = Bytes::from(bytes);
    // Within one read, which fits in memory.
    Ok(bytes.slice((start - from) as usize..(end - from) as usize))
}

pub(crate) fn get(disk: &dyn Disk, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
    let path = path(blob);
    match open(disk, &path, Some(blob))? {
        None => Ok(None),
        Some(open) => read(&open, &path, &range.unwrap_or(0..u64::MAX)).map(Some),
    }
}

pub(crate) fn list(disk: &dyn Disk, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
    let folder = folder(log);
    let mut names = disk.list(&folder).map_err(|error| unavailable("listing blobs", error))?;
    names.retain(|name| name.starts_with(prefix));
    names.sort_unstable();
    let mut blobs = Vec::with_capacity(names.len());
    for name in names {
        // A file of somebody else's is no blob.
        let Ok(blob) = BlobId::new(log.clone(), &name) else {
            continue;
        };
        // One that was deleted since is no longer listed.
        if let Some(open) = open(disk, &path(&blob), Some(&blob))? {
            blobs.push(BlobInfo { name, bytes: open.bytes });
        }
    }
    Ok(blobs)
}

pub(crate) fn delete(disk: &dyn Disk, blob: &BlobId) -> Result<()> {
    let is_absent =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    match disk.remove(&path(blob)) {
        Err(error) if !is_absent(&error) => return Err(unknown("deleting a blob", blob, error)),
        _ => {}
    }
    // Also when it was gone: the one who deleted it may not have come this far, and then it would come back.
    match disk.sync_dir(&folder(blob.log())) {
        Err(error) if !is_absent(&error) => Err(unknown("deleting a blob", blob, error)),
        _ => Ok(()),
    }
}

/// Removes what a put that died left behind.
pub(crate) fn clean(disk: &dyn Disk) -> io::Result<()> {
    for name in disk.list(FOLDER)?.iter().filter(|name| name.starts_with(TEMPORARY)) {
        disk.remove(&format!("{FOLDER}/{name}"))?;
    }
    Ok(())
}

/// Reads every byte of every blob.
pub(crate) fn examine(disk: &dyn Disk) -> Result<Vec<Error>> {
    let failed = |error| unavailable("examining blobs", error);
    let mut damage = Vec::new();
    for folder in disk.list(FOLDER).map_err(failed)?.iter().filter(|name| !name.starts_with(TEMPORARY)) {
        for name in disk.list(&format!("{FOLDER}/{folder}")).map_err(failed)? {
            let path = format!("{FOLDER}/{folder}/{name}");
            let read_all = open(disk, &path, None).and_then(|open| match open {
                Some(open) => read(&open, &path, &(0..u64::MAX)).map(|_| ()),
                None => Ok(()),
            });
            damage.extend(read_all.err());
        }
    }
    Ok(damage)
}
