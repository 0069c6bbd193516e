//! Where a log ends and what of it is closed.

use bytes::Bytes;
use icecore_log::grace::Moment;
use icecore_log::known::Tip;
use icecore_log::{Hash, LogId, Result, Version};
use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use tokio::time::Instant;

use crate::fault::Fault;
use crate::place::{Place, again, named};
use crate::slot::{self, Body, Slot};
use crate::store::MongoDb;

/// How often a look is made anew because the log was trimmed meanwhile.
pub(crate) const ATTEMPTS: usize = 4;

/// A log's ends.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub boundary: Version,
    /// Whether the log has a document, and it says so: a boundary may stand in a void slot only.
    pub is_marked: bool,
    pub tip: Option<Tip>,
    /// Before the first request.
    pub begun: Moment,
}

/// Without what is long.
pub(crate) fn without_bodies() -> Document {
    doc! {"b": 0, "bc": 0}
}

/// The boundary that a log's document has; `None` without one.
pub(crate) fn boundary(document: Option<&Document>) -> Option<Version> {
    document.map(|document| document.get_str("b").ok().and_then(slot::version).unwrap_or(Version::ZERO))
}

/// The head first: a boundary that is seen later is at or above the one that stood when the head was seen.
pub(crate) async fn look(
    inner: &MongoDb,
    log: &LogId,
    doing: &'static str,
    deadline: Instant,
) -> Result<Look> {
    let reading = |fault: Fault| fault.reading(doing);
    let Place { commits, logs, .. } = &inner.place;
    for _ in 0..ATTEMPTS {
        let begun = inner.settings.clocks.now();
        let all = slot::range(log, Version::ZERO, Version(u64::MAX));
        let newest = again(deadline, || async {
            commits.find_one(all.clone()).sort(doc! {"_id": -1}).projection(without_bodies()).await
        });
        let newest = newest.await.map_err(reading)?;
        let marked = again(deadline, || async { logs.find_one(named(log)).await }).await.map_err(reading)?;
        let look = ends(log, newest, boundary(marked.as_ref()), begun, doing)?;
        // Else there were commits behind it, which were closed, since the head was seen.
        if look.tip.as_ref().is_none_or(|tip| tip.last > look.boundary) {
            if let Some(tip) = &look.tip {
                inner.known.saw(log, tip.clone());
            }
            return Ok(look);
        }
    }
    Err(slot::missing(log, Version::ZERO, doing))
}

/// As [`look`], in a transaction.
pub(crate) async fn look_in(
    inner: &MongoDb,
    log: &LogId,
    session: &mut ClientSession,
    doing: &'static str,
) -> Result<Look, Fault> {
    let begun = inner.settings.clocks.now();
    let all = slot::range(log, Version::ZERO, Version(u64::MAX));
    let newest = inner.place.commits.find_one(all).sort(doc! {"_id": -1}).projection(without_bodies());
    let newest = newest.session(&mut *session).await?;
    let marked = inner.place.logs.find_one(named(log)).session(session).await?;
    Ok(ends(log, newest, boundary(marked.as_ref()), begun, doing)?)
}

fn ends(
    log: &LogId,
    newest: Option<Document>,
    marked: Option<Version>,
    begun: Moment,
    doing: &'static str,
) -> Result<Look> {
    let boundary = marked.unwrap_or(Version::ZERO);
    let look = Look { boundary, is_marked: marked.is_some(), tip: None, begun };
    let Some(newest) = newest else { return Ok(look) };
    Ok(match slot::decode(log, newest, doing)? {
        Slot::Commit { version, header, .. } => Look { tip: Some(tip(version, header, begun)), ..look },
        Slot::Void { through, .. } => {
            Look { boundary: boundary.max(through), is_marked: look.is_marked && boundary >= through, ..look }
        }
    })
}

pub(crate) fn tip(version: Version, header: Bytes, seen: Moment) -> Tip {
    Tip { first: version, last: version, hash: Hash::of(&header), header, seen }
}

/// The header of a slot that holds a commit.
pub(crate) fn header(slot: &Slot) -> Option<(Version, &Bytes, &Body)> {
    match slot {
        Slot::Commit { version, header, body } => Some((*version, header, body)),
        Slot::Void { .. } => None,
    }
}
