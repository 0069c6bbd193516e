//! Copies logs from one store to another, byte for byte: resumable, incremental, checked on the way.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use icecore_log::{End, Error, ErrorKind, Hash, LogId, LogPrefix, Mode, PageLimit, Result, Run, Version};

use crate::{Log, Store};

/// What was copied so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Logs that are now the same on both sides.
    pub logs: u64,
    /// Of those, logs that were the same before.
    pub unchanged: u64,
    /// Commits copied.
    pub commits: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many logs are copied at a time.
const LOGS_AT_ONCE: usize = 16;
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Copies every log under a prefix to `to`, up to its head when its turn comes. A second call copies what is new.
///
/// # Errors
/// [`ErrorKind::Conflict`] if a log of `to` holds other commits than that of `from`; [`ErrorKind::Corrupt`] if what is read fails its checks:
/// it is not copied. What was copied before stays.
pub async fn copy(
    from: &Store,
    to: &Store,
    prefix: &LogPrefix,
    mut progress: impl FnMut(&Copied),
) -> Result<Copied> {
    let (mut copied, mut told) = (Copied::default(), Instant::now());
    let mut cursor = None;
    loop {
        let page = from.logs(prefix, cursor, 1_000).await?;
        let mut logs = stream::iter(page.logs.into_iter().map(|id| copy_log(from, to, id)))
            .buffer_unordered(LOGS_AT_ONCE);
        while let Some(one) = logs.next().await {
            let one = one?;
            copied.logs += 1;
            copied.unchanged += u64::from(one.commits == 0);
            copied.commits += one.commits;
            copied.bytes += one.bytes;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                progress(&copied);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(copied);
        }
    }
}

async fn copy_log(from: &Store, to: &Store, id: LogId) -> Result<Copied> {
    let mut copied = Copied::default();
    let (source, target) = (from.log(id.clone()), to.log(id.clone()));
    let Some(head) = source.raw_head().await? else {
        return Ok(copied);
    };
    let mut chain = source.chain(&source.decode(&head)?).await?;
    let Place { mut version, mut hash } = resume(&source, &target, head.boundary, head.version).await?;
    while version < head.version {
        let left = usize::try_from(head.version.0 - version.0).unwrap_or(usize::MAX);
        let page = source.store.0.backend.read(&id, version.next(), PageLimit::WHOLE.commits(left)).await?;
        let mut previous = None;
        for commit in &page.commits {
            let header = chain.check(commit)?;
            previous.get_or_insert(header.previous);
            (version, copied.bytes) = (commit.version, copied.bytes + commit.len() as u64);
        }
        let (Some(previous), Some(last)) = (previous, page.commits.last()) else {
            return Err(Error::new(ErrorKind::Unavailable, "copying a log")
                .with("log", &id)
                .with("trimmed_through", page.boundary)
                .advise("It was trimmed while it was being copied: copy again"));
        };
        if hash.is_some_and(|hash| hash != previous) {
            return Err(diverged(&id, version));
        }
        hash = Some(last.hash());
        copied.commits += page.commits.len() as u64;
        send(to, Run { log: id.clone(), previous, commits: page.commits }).await?;
    }
    if copied.commits > 0 {
        check_end(&target, version, hash).await?;
    }
    Ok(copied)
}

/// Through where the target has what the source has; the hash there, unless it was trimmed.
struct Place {
    version: Version,
    hash: Option<Hash>,
}

async fn resume(source: &Log, target: &Log, boundary: Version, last: Version) -> Result<Place> {
    let Some(have) = target.raw_head().await? else {
        if boundary > Version::ZERO {
            target.store.0.backend.close(&target.id, boundary).await?;
        }
        return Ok(Place { version: boundary, hash: None });
    };
    if have.version > last || have.version <= boundary {
        return Err(diverged(&source.id, have.version));
    }
    let page = source.store.0.backend.read(&source.id, have.version, PageLimit::HEADERS.commits(1)).await?;
    if page.commits.first().is_none_or(|commit| commit.header != have.header) {
        return Err(diverged(&source.id, have.version));
    }
    if boundary > have.boundary {
        target.store.0.backend.close(&target.id, boundary).await?;
    }
    Ok(Place { version: have.version, hash: Some(have.hash()) })
}

/// Sends a run until it is decided: an unknown outcome is answered by the same bytes again.
async fn send(to: &Store, run: Run) -> Result<()> {
    let (log, count) = (run.log.clone(), run.commits.len());
    for attempt in 0..10_u32 {
        let answer = to.0.backend.create(vec![run.clone()], Mode::Each).await.pop();
        let error = match answer {
            Some(created) if created.won == count => return Ok(()),
            Some(created) => match created.end {
                End::Failed(error) => error,
                End::Done | End::Taken | End::Closed(_) | End::Gap => {
                    return Err(diverged(&log, run.commits[created.won].version));
                }
            },
            None => Error::new(ErrorKind::Unknown, "copying a log"),
        };
        if attempt == 9 || !matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Unavailable) {
            return Err(error.with("log", &log).advise("Copy again: it goes on from where it stopped"));
        }
        tokio::time::sleep(Duration::from_millis(20 << attempt.min(6))).await;
    }
    Ok(())
}

async fn check_end(target: &Log, version: Version, hash: Option<Hash>) -> Result<()> {
    match target.raw_head().await? {
        Some(head) if head.version >= version && (head.version > version || Some(head.hash()) == hash) => {
            Ok(())
        }
        _ => Err(diverged(&target.id, version)),
    }
}

fn diverged(log: &LogId, version: Version) -> Error {
    Error::new(ErrorKind::Conflict, "copying a log")
        .with("log", log)
        .with("version", version)
        .advise("The target holds other commits of this log: copy to an empty store, or to another prefix")
}
