//! What came last in a log, behind a cursor.

use icecore_log::{EntryId, ErrorKind, Result, Version};
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
