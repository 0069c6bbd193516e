//! A look at a log: one listing answers the boundary and the head, whatever the log's length, unless it has several boundaries.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Head, LogId, Result, StoredCommit, Version};

use crate::Objects;
use crate::bucket::{Fault, Listed};
use crate::names::{self, Named};
use crate::read::NAMES_MAX;
use crate::slot::{self, SIZE_MAX, Slot, Wrong};
use icecore_log::grace::Moment;
use icecore_log::known::Tip;

/// Where a log begins and ends.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Everything at or below it is closed.
    pub boundary: Version,
    /// Whether an object of its own says so; if not, only the void slot does.
    pub is_marked: bool,
    /// The head; `None` without commits.
    pub tip: Option<Tip>,
    /// Before the request.
    pub begun: Moment,
}

impl Look {
    pub(crate) fn head(&self) -> Option<Head> {
        let tip = self.tip.as_ref()?;
        Some(Head { version: tip.last, header: tip.header.clone(), boundary: self.boundary })
    }
}

/// A slot in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub first: Version,
    pub size: u64,
    pub name: String,
}

/// What a listing of a log's folder says: the boundary, and slots from the newest on.
pub(crate) fn sorted(listed: Vec<Listed>) -> (Version, Vec<Place>) {
    let mut boundary = Version::ZERO;
    let mut places = Vec::new();
    for Listed { name, size, .. } in listed {
        match names::parse(&name) {
            Some(Named::Boundary(through)) => boundary = boundary.max(through),
            Some(Named::Slot(first)) => places.push(Place { first, size, name }),
            None => {}
        }
    }
    (boundary, places)
}

/// The newest of a log's folder, as one listing shows it.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    pub boundary: Version,
    /// Slots, from the newest on.
    pub places: Vec<Place>,
    /// Whether these are all.
    pub is_whole: bool,
}

/// Boundaries come first, then slots; so many objects at the most. If they show no slot, or what others have put there, they are looked for.
pub(crate) async fn newest(inner: &Objects, log: &LogId, max: usize) -> Result<Newest, Fault> {
    let list = |prefix: String, max| async move { inner.bucket.list(&prefix, None, max).await };
    let listed = list(names::log(log), max).await?;
    let is_whole = listed.len() < max;
    let is_ours = listed.iter().all(|found| names::parse(&found.name).is_some());
    let (mut boundary, mut places) = sorted(listed);
    if !is_whole && !is_ours {
        boundary = sorted(list(names::boundaries(log), NAMES_MAX).await?).0;
    }
    if !is_whole && (places.is_empty() || !is_ours) {
        places = sorted(list(names::slots(log), max).await?).1;
    }
    Ok(Newest { boundary, places, is_whole })
}

/// How often a listing is made anew because what it named was deleted meanwhile.
pub(crate) const ATTEMPTS: usize = 4;
/// A page that has the boundaries, of which there are few, and the head.
const FEW: usize = 4;

pub(crate) async fn look(inner: &Objects, log: &LogId, doing: &'static str) -> Result<Look> {
    for _ in 0..ATTEMPTS {
        let begun = inner.settings.clocks.now();
        let Newest { boundary, places, .. } =
            newest(inner, log, FEW).await.map_err(|fault| fault.reading(doing))?;
        let look = Look { boundary, is_marked: true, tip: None, begun };
        let Some(place) = places.into_iter().next() else {
            return Ok(look);
        };
        match tip(inner, log, &place, begun, doing).await? {
            End::Tip(tip) => {
                inner.known.saw(log, tip.clone());
                return Ok(Look { tip: Some(tip), ..look });
            }
            End::Void(through) => {
                let is_marked = boundary >= through;
                return Ok(Look { boundary: boundary.max(through), is_marked, ..look });
            }
            End::Gone => {}
        }
    }
    Err(missing(log, None, doing))
}

/// What the newest slot holds.
pub(crate) enum End {
    Tip(Tip),
    Void(Version),
    Gone,
}

pub(crate) async fn tip(
    inner: &Objects,
    log: &LogId,
    place: &Place,
    begun: Moment,
    doing: &'static str,
) -> Result<End> {
    // The headers of an object never change. Another of its name there can only be long after this one was seen.
    let is_it = |known: &Tip| known.first == place.first && !inner.settings.is_stale(known.seen);
    if let Some(known) = inner.known.get(log).filter(is_it) {
        return Ok(End::Tip(Tip { seen: begun, ..known }));
    }
    match fetch(inner, log, place, false, doing).await? {
        None => Ok(End::Gone),
        Some(Slot::Void(through)) => Ok(End::Void(through)),
        Some(Slot::Run(commits)) => match (slot::last(&commits), commits.into_iter().next_back()) {
            (Some((last, hash)), Some(StoredCommit { header, .. })) => {
                Ok(End::Tip(Tip { first: place.first, last, hash, header, seen: begun }))
            }
            _ => Ok(End::Gone),
        },
    }
}

/// Of an object that is longer, its beginning is read first: its table, and most often all headers.
const BEGINNING: u64 = 16 << 10;

/// Reads a slot, with bodies or without; `None` if it is not there any more.
pub(crate) async fn fetch(
    inner: &Objects,
    log: &LogId,
    place: &Place,
    bodies: bool,
    doing: &'static str,
) -> Result<Option<Slot>> {
    if place.size > SIZE_MAX {
        return Err(damaged(log, place.first, doing).with("bytes", place.size).with("bytes_max", SIZE_MAX));
    }
    let mut length = if bodies { u64::MAX } else { BEGINNING };
    // Twice too short: the table, then the headers. A replaced object begins anew.
    for _ in 0..ATTEMPTS {
        let range = (length < place.size).then_some(0..length);
        let got = inner.bucket.get(&place.name, range).await.map_err(|fault| fault.reading(doing))?;
        let Some(object) = got else {
            return Ok(None);
        };
        match decoded(log, place.first, &object.bytes, object.size, bodies, doing)? {
            Ok(slot) => return Ok(Some(slot)),
            Err(needed) => length = needed as u64,
        }
    }
    Err(damaged(log, place.first, doing).advise("An object changed again and again while it was read"))
}

/// The slot, or how many bytes are needed.
pub(crate) fn decoded(
    log: &LogId,
    first: Version,
    bytes: &Bytes,
    size: u64,
    bodies: bool,
    doing: &'static str,
) -> Result<Result<Slot, usize>> {
    let wrong = |version, what: &'static str| Err(damaged(log, version, doing).with("found", what));
    match slot::decode(log, bytes, size, bodies) {
        Ok(Slot::Run(commits)) if commits.first().is_some_and(|commit| commit.version != first) => {
            wrong(first, "an object under the name of another")
        }
        Ok(slot) => Ok(Ok(slot)),
        Err(Wrong::Short(needed)) if needed > bytes.len() && bytes.len() as u64 != size => Ok(Err(needed)),
        Err(Wrong::Short(_)) => wrong(first, "it is cut off"),
        Err(Wrong::Damaged(what)) => wrong(first, what),
        Err(Wrong::Body(version)) => wrong(version, "the checksum of its body is wrong"),
    }
}

pub(crate) fn damaged(log: &LogId, version: Version, doing: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, doing)
        .with("log", log)
        .with("version", version)
        .with("object", names::slot(log, version))
}

/// What a hole in a log is told as.
pub(crate) fn missing(log: &LogId, version: Option<Version>, doing: &'static str) -> Error {
    let error = Error::new(ErrorKind::Corrupt, doing).with("log", log);
    let error = version.into_iter().fold(error, |error, version| error.with("version", version));
    error.advise("The object that held this commit is not there any more, and was not closed")
}
