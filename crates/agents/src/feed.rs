//! What came last in a log, behind a cursor; and page by page what came, from the first on.

use std::fmt;
use std::str::FromStr;

use icecore_log::{EntryId, Error, ErrorKind, Result, Version};
use icecore_store::{Log, Range, RecordedEvent};

/// Which events of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those that belong to this: [`Event::correlation`](icecore_log::Event::correlation).
    pub correlation: Option<String>,
    /// Only those behind the entry with this id, wherever it belongs to; if the log has no such entry, all.
    pub after: Option<EntryId>,
    /// Of these the newest; without it, all.
    pub limit: Option<usize>,
}

/// The events that a query asks for, oldest first; none of a log that has no commit.
///
/// # Errors
/// As reading a log.
pub async fn list(log: &Log, query: &Query) -> Result<Vec<RecordedEvent>> {
    let after = match &query.after {
        Some(id) => log.find(id).await?.map(|receipt| (receipt.version, receipt.entry)),
        None => None,
    };
    let mut found = Vec::new();
    match newest(log, query, after, &mut found).await {
        // The log has no commit, or what the cursor names was trimmed, and with it the cursor.
        Err(error) if error.kind() == ErrorKind::NotFound && found.is_empty() => {
            if after.is_some() {
                newest(log, query, None, &mut found).await?;
            } else if log.head().await?.is_some() {
                return Err(error);
            }
        }
        done => done?,
    }
    found.reverse();
    Ok(found)
}

/// Where a log is read on: at this event of this commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The commit.
    pub version: Version,
    /// The event within it, from 0.
    pub index: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.version.0, self.index)
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('-');
        let place = parts.and_then(|(version, index)| {
            Some(Self { version: Version(version.parse().ok()?), index: index.parse().ok()? })
        });
        place.filter(|place| place.version > Version::ZERO && place.to_string() == text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "reading on")
                .advise("This is no place to read on at: give what a page gave as the next")
        })
    }
}

/// Events of a log, oldest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// At most as many as were asked for; none if nothing more is there yet.
    pub events: Vec<RecordedEvent>,
    /// Where the next page begins, also of what comes later.
    pub next: Place,
}

/// A page from a place on, or from the first event that is left. Whoever goes on at the next place of each page sees every event once, in
/// the order in which they were stored.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the log was trimmed behind the place: what was between cannot be read any more. Else as reading a log.
pub async fn page(log: &Log, from: Option<Place>, limit: usize) -> Result<Page> {
    let next = from.unwrap_or(Place { version: Version(1), index: 0 });
    let mut page = Page { events: Vec::new(), next };
    let head = log.head().await?;
    if limit == 0 || head.is_none_or(|head| head.version < next.version) {
        return Ok(page);
    }
    let mut reader = log.read(Range { from: from.map(|from| from.version), to: None, reverse: false });
    loop {
        let commits = reader.next_page().await?;
        if commits.is_empty() {
            return Ok(page);
        }
        for commit in commits {
            let version = commit.version;
            for event in commit.into_events() {
                if page.events.len() >= limit {
                    return Ok(page);
                }
                let place = Place { version, index: event.index };
                // A base, where the log was trimmed, is Icecore's own.
                if place >= page.next && !event.event.kind.starts_with("icecore.") {
                    page.next = Place { index: place.index + 1, ..place };
                    page.events.push(event);
                }
            }
            page.next = Place { version: version.next(), index: 0 };
        }
    }
}

/// Newest first.
async fn newest(
    log: &Log,
    query: &Query,
    after: Option<(Version, u32)>,
    found: &mut Vec<RecordedEvent>,
) -> Result<()> {
    let from = after.map(|(version, _)| version);
    let mut reader = log.read(Range { from, to: None, reverse: true });
    loop {
        let commits = reader.next_page().await?;
        if commits.is_empty() {
            return Ok(());
        }
        for commit in commits {
            // How many events of the commit are in the cursor's entry, or before it.
            let passed = match (after, &commit.entries) {
                (Some((version, entry)), Some(entries)) if version == commit.version => {
                    entries.iter().take(entry as usize + 1).map(|entry| entry.events.len()).sum()
                }
                _ => 0,
            };
            let events: Vec<_> = commit.into_events().collect();
            for event in events.into_iter().skip(passed).rev() {
                if query.limit.is_some_and(|limit| found.len() >= limit) {
                    return Ok(());
                }
                // A base, where the log was trimmed: Icecore's own, and none that was told.
                if event.event.kind.starts_with("icecore.") {
                    continue;
                }
                if query.correlation.as_ref().is_none_or(|wanted| *wanted == event.event.correlation) {
                    found.push(event);
                }
            }
        }
    }
}
