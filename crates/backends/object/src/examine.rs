//! Looking at the whole store: every slot above its log's boundary is read, and every commit must be in one. Blobs have no checksum of ours.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use icecore_log::backend::{Depth, Examination};
use icecore_log::{Error, LogId, LogPrefix, Result, Version};

use crate::Objects;
use crate::look::{self, Place};
use crate::names;
use crate::read::NAMES_MAX;
use crate::slot::{self, Slot};
use crate::trim::LARGE_AT_ONCE;

const DOING: &str = "examining a store";

pub(crate) async fn examine(inner: &Objects, depth: Depth) -> Result<Examination> {
    let mut examination = Examination::default();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    examination.facts.clone_from(&inner.settings.facts);
    examination.facts.push(fact(
        "conditional_writes",
        match inner.access {
            icecore_log::Access::ReadWrite => "hold: tried when the store was opened",
            icecore_log::Access::ReadOnly => "not tried: the store was opened only for reading",
        }
        .to_owned(),
    ));
    examination.facts.push(fact("grace_s", inner.settings.grace.as_secs().to_string()));
    let told = inner.bucket.facts(names::STORE).await.map_err(|fault| fault.reading(DOING))?;
    examination.facts.extend(told.into_iter().map(|(name, value)| fact(name, value.to_owned())));
    if depth == Depth::Quick {
        return Ok(examination);
    }
    let (mut logs, mut commits, mut foreign, mut cursor) = (0_u64, 0_u64, 0_u64, None::<String>);
    loop {
        let page = inner.bucket.folders(&names::logs(&LogPrefix::all()), cursor.as_deref(), NAMES_MAX).await;
        let page = page.map_err(|fault| fault.reading(DOING))?;
        for folder in &page.names {
            match names::log_of(folder) {
                None => foreign += 1,
                Some(log) => {
                    logs += 1;
                    commits += examine_log(inner, &log, &mut examination).await?;
                }
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let counts = [("logs", logs), ("commits", commits), ("folders_not_ours", foreign)];
    examination.facts.extend(counts.map(|(name, value)| fact(name, value.to_string())));
    Ok(examination)
}

/// Reads a log from its head down; how many commits it has above its boundary.
async fn examine_log(inner: &Objects, log: &LogId, examination: &mut Examination) -> Result<u64> {
    let look = match look::look(inner, log, DOING).await {
        Ok(look) => look,
        Err(error) if is_damage(&error) => {
            examination.damage.push(error);
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let Some(tip) = look.tip else {
        return Ok(0);
    };
    // The version behind the commits that are still to be found.
    let (mut end, mut commits) = (tip.last.next(), 0);
    let mut after = names::slot(log, end);
    while end > look.boundary.next() {
        let listed = inner.bucket.list(&names::slots(log), Some(&after), NAMES_MAX).await;
        let (_, places) = look::sorted(listed.map_err(|fault| fault.reading(DOING))?);
        let Some(last) = places.last() else { break };
        after.clone_from(&last.name);
        let slots: Vec<BoxFuture<'_, _>> = places
            .into_iter()
            .map(|place| async move { (look::fetch(inner, log, &place, true, DOING).await, place) }.boxed())
            .collect();
        let mut slots = stream::iter(slots).buffered(LARGE_AT_ONCE);
        while let Some((fetched, Place { first, size, .. })) = slots.next().await {
            if end <= look.boundary.next() {
                break;
            }
            examination.bytes += size;
            match fetched {
                Ok(Some(Slot::Run(run))) => {
                    if let Some((last, _)) = slot::last(&run).filter(|(last, _)| last.next() != end) {
                        examination.damage.push(look::missing(log, Some(last.next()), DOING));
                    }
                    commits += run.len() as u64;
                }
                Ok(Some(Slot::Void(_))) => {}
                // Swept since it was listed, or lost.
                Ok(None) => {
                    if look::look(inner, log, DOING).await?.boundary < first {
                        examination.damage.push(look::missing(log, Some(first), DOING));
                    }
                }
                Err(error) if is_damage(&error) => examination.damage.push(error),
                Err(error) => return Err(error),
            }
            end = first;
        }
    }
    if end > look.boundary.next() && end > Version::FIRST {
        examination.damage.push(look::missing(log, Some(look.boundary.next()), DOING));
    }
    Ok(commits)
}

fn is_damage(error: &Error) -> bool {
    error.kind() == icecore_log::ErrorKind::Corrupt
}
