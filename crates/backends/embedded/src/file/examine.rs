//! A deep look: every byte of the segments is read again, beside a writer that goes on.

use icecore_log::backend::{Depth, Examination};
use icecore_log::{Error, Result};

use super::frame::{self, Head, Kind};
use super::index::{Index, Segment};
use super::{Access, Shared, blobs, recovery, scan, unavailable};

/// A frame whose bytes are not what they should be, if nobody destroyed them meanwhile.
struct Suspect {
    head: Head,
    is_header: bool,
    error: Error,
}

pub(super) fn examine(shared: &Shared, access: Access, depth: Depth) -> Result<Examination> {
    let failed = |error| unavailable("examining a store", error);
    let mut examination = Examination::default();
    let segments = {
        let index = shared.read();
        examination.facts = facts(shared, &index);
        examination.damage.extend(index.other_damage.values().map(|damage| damage.error.clone()));
        let closed = |log, version| index.logs.get(log).is_some_and(|entry| version <= entry.boundary);
        let damaged = index.damaged.iter().filter(|((log, version), _)| !closed(log, *version));
        examination.damage.extend(damaged.map(|(_, error)| error.clone()));
        examination.damage.extend(index.logs.iter().filter_map(|(_, entry)| entry.broken.clone()));
        index.segments.clone()
    };
    if depth == Depth::Quick {
        return Ok(examination);
    }
    for (position, segment) in segments.iter().enumerate() {
        let limit = segments.get(position + 1).map_or_else(|| shared.read().through, |next| next.base);
        let bytes = scan::read_from(segment, segment.base, Some(limit)).map_err(failed)?;
        examination.bytes += bytes.len() as u64;
        let suspects = suspects(shared, segment, &bytes, &mut examination.damage);
        if suspects.is_empty() {
            continue;
        }
        if access == Access::ReadOnly {
            // The writer may have dropped or swept them since we looked.
            recovery::refresh(shared, scan::Tail::Look)?;
        }
        let index = shared.read();
        let real = suspects.into_iter().filter(|suspect| is_wanted(&index, suspect));
        examination.damage.extend(real.map(|suspect| suspect.error));
    }
    if let Some(file) = scan::open_marks(&*shared.disk, false).map_err(failed)? {
        let marks = scan::read_marks(&*file).map_err(failed)?;
        examination.damage.extend(marks.damage.into_iter().map(|(_, error)| error));
    }
    examination.damage.extend(blobs::examine(&*shared.disk)?);
    Ok(examination)
}

fn facts(shared: &Shared, index: &Index) -> Vec<(String, String)> {
    let bytes: u64 = index.segments.iter().filter_map(|segment| segment.file.bytes().ok()).sum();
    let facts = [
        ("path", shared.path.display().to_string()),
        ("segments", index.segments.len().to_string()),
        ("segment_bytes", bytes.to_string()),
        ("logs", index.logs.iter().filter(|(_, entry)| !entry.slots.is_empty()).count().to_string()),
        ("commits", index.commits.to_string()),
        ("groups", index.groups.to_string()),
        ("group_bytes", index.through.to_string()),
        ("durability_found", "fdatasync before every answer".to_owned()),
        ("conditional_writes", "hold: one process writes, and a lock keeps others out".to_owned()),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Frames that fail a check; heads that fail theirs go to `damage` at once, unless they are known.
fn suspects(shared: &Shared, segment: &Segment, bytes: &[u8], damage: &mut Vec<Error>) -> Vec<Suspect> {
    let (mut found, mut position) = (Vec::new(), 0);
    let (file, salt) = (Segment::name(segment.number), segment.salt);
    while position < bytes.len() {
        let offset = segment.offset(segment.base + position as u64);
        let head = Head::parse(&bytes[position..], salt).or_else(|| {
            let repaired = Head::repair(&bytes[position..], salt);
            damage.extend(head_damage(shared, &file, offset, repaired.as_ref()));
            repaired
        });
        let end =
            head.as_ref().and_then(|head| position.checked_add(usize::try_from(head.frame_bytes()).ok()?));
        let (Some(head), Some(end)) = (head, end.filter(|end| *end <= bytes.len())) else {
            let next = frame::find_head(bytes, position + 1, segment.base, salt, false);
            position = next.unwrap_or(bytes.len());
            continue;
        };
        if let (Kind::Commit, Some(log)) = (head.kind, &head.log) {
            let (header, body) = bytes[position + head.bytes..end].split_at(head.header_bytes as usize);
            let is_header = !head.header_is_whole(header);
            let what = if is_header { "its header fails its check" } else { "its body fails its check" };
            if is_header || !head.body_is_whole(body) {
                let error = scan::commit_damage(log, head.version, &file, offset, what);
                found.push(Suspect { head, is_header, error });
            }
        }
        position = end;
    }
    found
}

/// A damaged head, unless it was found when the store was opened.
fn head_damage(shared: &Shared, file: &str, offset: u64, repaired: Option<&Head>) -> Option<Error> {
    let index = shared.read();
    if index.other_damage.contains_key(&(file.to_owned(), offset)) {
        return None;
    }
    let what = "the head of its frame fails its check";
    match repaired.and_then(|head| Some((head, head.log.as_ref()?))) {
        Some((head, log)) if index.damaged.contains_key(&(log.clone(), head.version)) => None,
        Some((head, log)) => Some(scan::commit_damage(log, head.version, file, offset, what)),
        None => Some(scan::damage(file, offset, "the head of a frame fails its check")),
    }
}

/// Whether the bytes should be there: the commit is not closed, nor was its body dropped.
fn is_wanted(index: &Index, suspect: &Suspect) -> bool {
    let entry = suspect.head.log.as_ref().and_then(|log| index.logs.get(log));
    let is_closed = entry.is_some_and(|entry| suspect.head.version <= entry.boundary);
    let slot = entry.and_then(|entry| entry.slot(suspect.head.version));
    let is_dropped = slot.is_some_and(|slot| slot.body_bytes().is_none());
    !is_closed && (suspect.is_header || !is_dropped)
}
