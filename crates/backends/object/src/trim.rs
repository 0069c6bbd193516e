//! Closing, sweeping and dropping bodies: the calls that make history shorter. None of them touches the way of an append.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::judge::head_stays;
use icecore_log::{Error, ErrorKind, LogId, Result, StoredCommit, Swept, Timestamp, Version};

use crate::bucket::{Fault, FaultKind, Listed};
use crate::look::{self, Place};
use crate::make::make;
use crate::names::{self, Named};
use crate::read::NAMES_MAX;
use crate::slot::{self, Slot};
use crate::{Objects, probe};

const CLOSING: &str = "closing a log";
const SWEEPING: &str = "sweeping a log";
const DROPPING: &str = "dropping bodies";

pub(crate) async fn close(inner: &Objects, log: &LogId, through: Version) -> Result<()> {
    loop {
        let look = look::look(inner, log, CLOSING).await?;
        if through <= look.boundary {
            return if look.is_marked { Ok(()) } else { mark(inner, log, look.boundary, CLOSING).await };
        }
        if let Some(tip) = look.tip {
            if through >= tip.last {
                return Err(head_stays(log, through));
            }
            return mark(inner, log, through, CLOSING).await;
        }
        // There is no head that would stop a late first commit: so its slot is taken, by the one thing that decides.
        let first = look.boundary.next();
        let (name, void) = (names::slot(log, first), slot::encode_void(log, first, through));
        make(inner, &name, void).await.map_err(|fault| fault.writing(CLOSING))?;
        // Looked at again: somebody else may have the slot, or it was empty only because it had been deleted.
    }
}

/// Writes the object that raises the boundary.
pub(crate) async fn mark(inner: &Objects, log: &LogId, through: Version, doing: &'static str) -> Result<()> {
    let made = make(inner, &names::boundary(log, through), Bytes::new()).await;
    // If it was there already, it says the same.
    made.map(drop).map_err(|fault| fault.writing(doing))
}

/// Deletes the slots that were closed a time of grace ago, by the store's own clock. Interrupted anywhere, the next sweep goes on.
pub(crate) async fn sweep(inner: &Objects, log: &LogId) -> Result<Swept> {
    let failed = |fault: Fault| fault.writing(SWEEPING);
    let marks = marks(inner, log).await.map_err(failed)?;
    if marks.is_empty() {
        return Ok(Swept::default());
    }
    let now = server_time(inner).await.map_err(failed)?;
    let is_due = |(_, modified): &&(Version, Timestamp)| now.since(*modified) >= inner.settings.grace;
    let Some((through, _)) = marks.iter().find(is_due) else {
        return Ok(Swept::default());
    };
    let mut swept = Swept::default();
    let mut after = names::slot(log, through.next());
    let mut above = None;
    loop {
        let listed = inner.bucket.list(&names::slots(log), Some(&after), NAMES_MAX).await.map_err(failed)?;
        let Some(last) = listed.last() else { break };
        after.clone_from(&last.name);
        let mut gone = Vec::new();
        for place in look::sorted(listed).1 {
            // A slot ends where the next one begins; the newest that is closed may go on above the boundary.
            let end = match above.replace(place.first) {
                Some(next) => Some(next),
                None => end_of(inner, log, &place).await?.filter(|end| *end <= through.next()),
            };
            if let Some(end) = end {
                let commits = if place.size == slot::VOID_SIZE { 0 } else { end.0 - place.first.0 };
                swept.commits += commits;
                swept.bytes += if commits == 0 { 0 } else { slot::content(place.size, commits) };
                gone.push(place.name);
            }
        }
        inner.bucket.delete(gone).await.map_err(failed)?;
    }
    // What lower boundaries say, this one says too, and for as long.
    let lower = marks.iter().filter(|(mark, _)| mark < through).map(|(mark, _)| names::boundary(log, *mark));
    inner.bucket.delete(lower.collect()).await.map_err(failed)?;
    Ok(swept)
}

/// The version behind the last of a slot; `None` if that cannot be told, or it has to stay: the head, and a void slot that is the newest,
/// which a late first commit must find.
async fn end_of(inner: &Objects, log: &LogId, place: &Place) -> Result<Option<Version>> {
    match look::fetch(inner, log, place, false, SWEEPING).await {
        Ok(None) => Ok(None),
        Ok(Some(Slot::Void(through))) => {
            let newest = look::newest(inner, log, 1).await.map_err(|fault| fault.reading(SWEEPING))?;
            let is_newest = newest.places.first().is_none_or(|newest| newest.first == place.first);
            Ok((!is_newest).then(|| through.next()))
        }
        Ok(Some(Slot::Run(commits))) => Ok(slot::last(&commits).map(|(last, _)| last.next())),
        // Where it ends is what cannot be read.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every boundary with the time at which it was written, the highest first.
async fn marks(inner: &Objects, log: &LogId) -> Result<Vec<(Version, Timestamp)>, Fault> {
    let prefix = names::boundaries(log);
    let (mut marks, mut after) = (Vec::new(), None::<String>);
    loop {
        let listed = inner.bucket.list(&prefix, after.as_deref(), NAMES_MAX).await?;
        let Some(last) = listed.last() else {
            return Ok(marks);
        };
        after = Some(last.name.clone());
        for Listed { name, modified, .. } in listed {
            if let Some(Named::Boundary(through)) = names::parse(&name) {
                marks.push((through, modified));
            }
        }
    }
}

/// What time it is where the boundaries got theirs: no clock of this machine is compared with it.
async fn server_time(inner: &Objects) -> Result<Timestamp, Fault> {
    let name = inner.probe_name();
    make(inner, &name, Bytes::new()).await?;
    let modified = probe::modified(inner, &name).await;
    inner.bucket.delete(vec![name]).await?;
    modified?.ok_or_else(|| Fault::new(FaultKind::Lost, "an object that was just made is not listed"))
}

pub(crate) async fn drop_bodies(inner: &Objects, log: &LogId, versions: &[Version]) -> Result<()> {
    let mut left = versions.to_vec();
    left.sort_unstable();
    left.dedup();
    // From the newest on, as names are listed. What is done is done, whatever becomes of the rest.
    while let Some(newest) = left.last() {
        let after = names::slot(log, newest.next());
        let listed = inner.bucket.list(&names::slots(log), Some(&after), NAMES_MAX).await;
        let (_, places) = look::sorted(listed.map_err(|fault| fault.reading(DROPPING))?);
        let mut each: Vec<BoxFuture<'_, _>> = Vec::new();
        for place in &places {
            let named = left.split_off(left.partition_point(|version| *version < place.first));
            if !named.is_empty() {
                each.push(drop_in(inner, log, place, named).boxed());
            }
        }
        if places.len() < NAMES_MAX {
            left.clear();
        }
        // A few at a time: each is held in memory.
        stream::iter(each).buffer_unordered(LARGE_AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}

/// Whole objects that are held at a time.
pub(crate) const LARGE_AT_ONCE: usize = 4;

async fn drop_in(inner: &Objects, log: &LogId, place: &Place, versions: Vec<Version>) -> Result<()> {
    let Place { first, name, .. } = place;
    // Others may drop bodies of the same object: whoever comes later reads again.
    for _ in 0..100 {
        let got = inner.bucket.get(name, None).await.map_err(|fault| fault.reading(DROPPING))?;
        let Some(object) = got else {
            return Ok(());
        };
        let read = look::decoded(log, *first, &object.bytes, object.size, true, DROPPING)?;
        let Ok(Slot::Run(mut commits)) = read else {
            return Ok(());
        };
        let is_named =
            |commit: &&mut StoredCommit| commit.body.is_some() && versions.contains(&commit.version);
        let mut named: Vec<_> = commits.iter_mut().filter(is_named).collect();
        if named.is_empty() {
            return Ok(());
        }
        named.iter_mut().for_each(|commit| commit.body = None);
        let replaced = inner.bucket.replace(name, slot::encode(log, &commits), &object.tag).await;
        if replaced.map_err(|fault| fault.writing(DROPPING))? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Error::new(ErrorKind::Unavailable, DROPPING)
        .with("log", log)
        .advise("Others change the same commits: try again"))
}
