//! Reading a page: the names of the slots that hold it, then the slots, side by side.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use icecore_log::{Error, LogId, Page, PageLimit, Result, StoredCommit, Version};

use crate::Objects;
use crate::look::{self, ATTEMPTS, End, Newest, Place};
use crate::names;
use crate::slot::{PREFIX, ROW, Slot};

/// The newest names of a log, which most reads are about.
const NEWEST: usize = 64;
/// Names that are asked for at once, at the most: what object stores give.
pub(crate) const NAMES_MAX: usize = 1_000;

pub(crate) async fn page(
    inner: &Objects,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    doing: &'static str,
) -> Result<Page> {
    let from = from.max(Version::FIRST);
    for _ in 0..ATTEMPTS {
        let Plan { boundary, places, is_more } = plan(inner, log, from, limit, doing).await?;
        let mut page = Page { commits: Vec::new(), boundary };
        if from <= boundary {
            return Ok(page);
        }
        let mut filling = Filling { next: from, limit, bytes: 0, commits: Vec::new() };
        let slots: Vec<BoxFuture<'_, _>> =
            places.iter().map(|place| look::fetch(inner, log, place, limit.bodies, doing).boxed()).collect();
        let mut slots = stream::iter(slots).buffered(inner.settings.parallel.max(1));
        let mut filled = Filled::More;
        while let Filled::More = filled {
            filled = match slots.next().await {
                None => break,
                Some(Ok(Some(Slot::Run(commits)))) => filling.add(commits),
                // Closed before the log had a commit here; the commits behind it are in slots of their own.
                Some(Ok(Some(Slot::Void(through)))) if through < filling.next => Filled::More,
                Some(Ok(Some(Slot::Void(through)))) => {
                    return Ok(Page { commits: filling.commits, boundary: boundary.max(through) });
                }
                Some(Ok(None)) => Filled::Gone,
                Some(Err(error)) => Filled::Failed(error),
            };
        }
        page.commits = filling.commits;
        // What comes before a hole or a damaged object can be read; the next page begins with it.
        match filled {
            _ if !page.commits.is_empty() => return Ok(page),
            Filled::Failed(error) => return Err(error),
            Filled::Gone => {}
            Filled::Hole => return Err(look::missing(log, Some(from), doing)),
            Filled::More | Filled::Full if is_more => return Err(look::missing(log, Some(from), doing)),
            Filled::More | Filled::Full => return Ok(page),
        }
    }
    Err(look::missing(log, Some(from), doing))
}

/// What is to be read.
struct Plan {
    boundary: Version,
    /// From the slot that may hold the first commit on, in order.
    places: Vec<Place>,
    /// Whether there are slots behind the first commit, so that it must be somewhere.
    is_more: bool,
}

async fn plan(
    inner: &Objects,
    log: &LogId,
    from: Version,
    limit: PageLimit,
    doing: &'static str,
) -> Result<Plan> {
    let begun = inner.settings.clocks.now();
    let newest = look::newest(inner, log, NEWEST).await.map_err(|fault| fault.reading(doing))?;
    let Newest { boundary, mut places, is_whole } = newest;
    let is_more = places.first().is_some_and(|newest| newest.first > from);
    if from <= boundary {
        return Ok(Plan { boundary, places: Vec::new(), is_more });
    }
    if let [only, ..] = &places[..]
        && only.first <= from
        && let End::Tip(tip) = look::tip(inner, log, only, begun, doing).await?
        && tip.last < from
    {
        // Whoever follows a log asks for this most of the time: the head's body is not read for it.
        return Ok(Plan { boundary, places: Vec::new(), is_more });
    }
    if !is_whole && places.last().is_none_or(|oldest| oldest.first > from) {
        // Down from the last that the page could hold, to the one that begins at or before `from`.
        let wanted = limit.commits.clamp(1, NAMES_MAX - 1);
        let above = names::slot(log, from.plus(wanted as u64));
        let listed = inner.bucket.list(&names::slots(log), Some(&above), wanted + 1).await;
        places = look::sorted(listed.map_err(|fault| fault.reading(doing))?).1;
    }
    places.reverse();
    let begin = places.iter().rposition(|place| place.first <= from);
    places.drain(..begin.unwrap_or(0));
    places.truncate(enough(&places, limit));
    Ok(Plan { boundary, places, is_more })
}

/// How many slots a page needs at the most. What comes with the first slot before the first commit is not known, so one more.
fn enough(places: &[Place], limit: PageLimit) -> usize {
    let commits = limit.commits.max(1).saturating_add(1);
    if !limit.bodies {
        return commits;
    }
    let mut bytes = 0;
    let full = places.iter().skip(1).position(|place| {
        bytes += place.size.saturating_sub((PREFIX + ROW) as u64);
        bytes >= limit.bytes as u64
    });
    full.map_or(commits, |position| commits.min(position + 2))
}

/// A page as it is filled.
struct Filling {
    next: Version,
    limit: PageLimit,
    bytes: usize,
    commits: Vec<StoredCommit>,
}

enum Filled {
    More,
    Full,
    /// The next commit is in none of the slots.
    Hole,
    /// A slot that was listed is not there any more.
    Gone,
    Failed(Error),
}

impl Filling {
    fn add(&mut self, run: Vec<StoredCommit>) -> Filled {
        if run.first().is_some_and(|commit| commit.version > self.next) {
            return Filled::Hole;
        }
        for commit in run {
            if commit.version < self.next {
                continue;
            }
            self.bytes += commit.len();
            self.next = commit.version.next();
            self.commits.push(commit);
            if self.commits.len() >= self.limit.commits.max(1) || self.bytes >= self.limit.bytes {
                return Filled::Full;
            }
        }
        Filled::More
    }
}
