//! Copies logs from one store to another, byte for byte: resumable, incremental, checked on the way.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use icecore_log::{
    BlobId, End, Error, ErrorKind, Hash, Head, LogId, LogPrefix, Mode, PageLimit, Result, Run, Version,
};

use crate::retention::due;
use crate::{CONTENT, Log, Store, lock, retention};

/// What was copied so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Logs that are now the same on both sides.
    pub logs: u64,
    /// Of those, logs that were the same before.
    pub unchanged: u64,
    /// Commits copied.
    pub commits: u64,
    /// Their bytes, and those of content that they speak of.
    pub bytes: u64,
}

/// How many logs are copied at a time.
const LOGS_AT_ONCE: usize = 16;
/// After so many logs in a row that could not be reached, it is the store and not the logs.
const UNREACHED_MAX: usize = LOGS_AT_ONCE;
/// How many failed logs are named.
const NAMED_MAX: usize = 10;

/// Copies every log under a prefix to `to`, up to its head when its turn comes. A second call copies what is new. Icecore's own logs, whose
/// tenant is `_`, are only copied if the prefix names them.
///
/// A log that fails does not keep the others from being copied. Progress is told after every page. A body that is dropped in
/// the source after it was copied stays in the copy.
///
/// # Errors
/// The first log's that failed, with the facts `failed_logs`, how many did, and `failed`, the first ten names; what was copied stays.
/// [`ErrorKind::Conflict`] if a log of `to` holds other commits than that of `from`, or ends before where that was trimmed;
/// [`ErrorKind::Corrupt`] if what is read fails its checks: it is not copied.
pub async fn copy(
    from: &Store,
    to: &Store,
    prefix: &LogPrefix,
    progress: impl FnMut(&Copied),
) -> Result<Copied> {
    let told = Mutex::new(Told { copied: Copied::default(), progress });
    let (mut failed, mut unreached, mut cursor) = (Failed::default(), 0, None);
    loop {
        let page = from.logs(prefix, cursor, 1_000).await?;
        // What is held, and who is at work, is of one store alone, unless it is asked for by its name.
        let is_wanted = |id: &LogId| !retention::is_own(id) || !prefix.as_str().is_empty();
        let mut logs =
            stream::iter(page.logs.into_iter().filter(is_wanted).map(|id| copy_log(from, to, id, &told)))
                .buffer_unordered(LOGS_AT_ONCE);
        while let Some((id, result)) = logs.next().await {
            let Err(error) = result else {
                unreached = 0;
                continue;
            };
            let is_unreached = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown);
            unreached = if is_unreached { unreached + 1 } else { 0 };
            failed.add(&id, error);
            if unreached >= UNREACHED_MAX {
                return failed.end(lock(&told).copied);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return failed.end(lock(&told).copied);
        }
    }
}

/// What was copied, and whom to tell.
struct Told<F> {
    copied: Copied,
    progress: F,
}

impl<F: FnMut(&Copied)> Told<F> {
    fn add(&mut self, more: Copied) {
        self.copied.logs += more.logs;
        self.copied.unchanged += more.unchanged;
        self.copied.commits += more.commits;
        self.copied.bytes += more.bytes;
        (self.progress)(&self.copied);
    }
}

/// The logs that were not copied.
#[derive(Default)]
struct Failed {
    first: Option<Error>,
    count: u64,
    names: Vec<String>,
}

impl Failed {
    fn add(&mut self, log: &LogId, error: Error) {
        self.count += 1;
        if self.names.len() < NAMED_MAX {
            self.names.push(log.to_string());
        }
        self.first.get_or_insert(error);
    }

    fn end(self, copied: Copied) -> Result<Copied> {
        let Some(error) = self.first else {
            return Ok(copied);
        };
        Err(error.with("failed_logs", self.count).with("failed", self.names.join(" ")))
    }
}

async fn copy_log<F: FnMut(&Copied)>(
    from: &Store,
    to: &Store,
    id: LogId,
    told: &Mutex<Told<F>>,
) -> (LogId, Result<()>) {
    let mut commits = 0;
    let (source, target) = (from.log(id.clone()), to.log(id.clone()));
    let result = copy_commits(&source, &target, |page| {
        commits += page.commits;
        lock(told).add(page);
    })
    .await;
    if result.is_ok() {
        let unchanged = u64::from(commits == 0);
        lock(told).add(Copied { logs: 1, unchanged, ..Copied::default() });
    }
    (id, result)
}

async fn copy_commits(source: &Log, target: &Log, mut tell: impl FnMut(Copied)) -> Result<()> {
    // The target first: another copy may be adding to it, and never more than the source had before.
    let have = target.raw_head().await?;
    let Some(head) = source.raw_head().await? else {
        return Ok(());
    };
    let closed = have.as_ref().map_or(Version::ZERO, |have| have.boundary);
    // Before what expires is there, so that it is found there, too.
    if source.decode(&head)?.flags.expires && have.as_ref().is_none_or(|have| have.version < head.version) {
        due::note_copied(target).await?;
    }
    let place = match have {
        Some(have) => resume(source, target, &have, &head).await?,
        None => begin(target, head.boundary).await?,
    };
    if place.version < head.version {
        // Before the commits that speak of it: what these speak of is there, or was deleted since.
        copy_content(source, target, &mut tell).await?;
        copy_pages(source, target, &head, place, &mut tell).await?;
    }
    // Not before: a log is never closed through its head, which may have been the copy's.
    if closed < head.boundary { close(target, head.boundary).await } else { Ok(()) }
}

/// Copies the blobs that hold content of their own and are not there yet, one at a time.
async fn copy_content(source: &Log, target: &Log, tell: &mut impl FnMut(Copied)) -> Result<()> {
    let (from, to) = (&source.store.0.backend, &target.store.0.backend);
    let blobs = from.list_blobs(&source.id, CONTENT).await?;
    if blobs.is_empty() {
        return Ok(());
    }
    let have: HashSet<String> =
        to.list_blobs(&target.id, CONTENT).await?.into_iter().map(|blob| blob.name).collect();
    for blob in blobs.iter().filter(|blob| !have.contains(&blob.name)) {
        let id = BlobId::new(source.id.clone(), &blob.name)?;
        if let Some(content) = from.get_blob(&id, None).await? {
            let bytes = content.len() as u64;
            to.put_blob(&id, content).await?;
            tell(Copied { bytes, ..Copied::default() });
        }
    }
    Ok(())
}

async fn copy_pages(
    source: &Log,
    target: &Log,
    head: &Head,
    place: Place,
    tell: &mut impl FnMut(Copied),
) -> Result<()> {
    let mut chain = source.chain(&source.decode(head)?).await?;
    let Place { mut version, mut hash } = place;
    while version < head.version {
        let left = usize::try_from(head.version.0 - version.0).unwrap_or(usize::MAX);
        let limit = PageLimit::WHOLE.commits(left);
        let page = source.store.0.backend.read(&source.id, version.next(), limit).await?;
        let Some(first) = page.commits.first().map(|commit| commit.version) else {
            return Err(if hash.is_some() {
                trimmed_past(&source.id, version, page.boundary)
            } else {
                trimmed_meanwhile(&source.id, page.boundary)
            });
        };
        let (mut previous, mut bytes) = (Hash::ZERO, 0);
        for commit in &page.commits {
            let header = chain.check(commit)?;
            if commit.version == first {
                previous = header.previous;
            }
            (version, bytes) = (commit.version, bytes + commit.len() as u64);
        }
        // Where the commit before is not in the source any more, this is what proves that the copy goes on from it.
        if hash.is_some_and(|hash| hash != previous) {
            return Err(diverged(&source.id, first));
        }
        hash = page.commits.last().map(|commit| commit.hash());
        let commits = page.commits.len() as u64;
        send(&target.store, Run { log: source.id.clone(), previous, commits: page.commits }).await?;
        tell(Copied { commits, bytes, ..Copied::default() });
    }
    check_end(target, version, hash).await
}

/// Through where the target has what the source has; the hash there, unless it was trimmed.
struct Place {
    version: Version,
    hash: Option<Hash>,
}

/// Where a copy of a log begins that is not there yet: behind what was trimmed.
async fn begin(target: &Log, boundary: Version) -> Result<Place> {
    close(target, boundary).await?;
    Ok(Place { version: boundary, hash: None })
}

/// Where a copy goes on.
async fn resume(source: &Log, target: &Log, have: &Head, head: &Head) -> Result<Place> {
    if have.version < head.boundary {
        return Err(trimmed_past(&source.id, have.version, head.boundary));
    }
    let place = Place { version: have.version, hash: Some(have.hash()) };
    if have.version == head.boundary {
        return Ok(place);
    }
    // Whichever ends first must be in the other. The copy may end later: another copy may have seen a later head.
    let is_same = if have.version <= head.version {
        is_at(source, have.version, have).await?
    } else {
        is_at(target, head.version, head).await?
    };
    if is_same { Ok(place) } else { Err(diverged(&source.id, have.version.min(head.version))) }
}

async fn is_at(log: &Log, version: Version, head: &Head) -> Result<bool> {
    let page = log.store.0.backend.read(&log.id, version, PageLimit::HEADERS.commits(1)).await?;
    match page.commits.first() {
        Some(commit) => Ok(commit.header == head.header),
        None if page.boundary >= version => Err(trimmed_meanwhile(&log.id, page.boundary)),
        None => Ok(false),
    }
}

async fn close(target: &Log, boundary: Version) -> Result<()> {
    if boundary == Version::ZERO {
        return Ok(());
    }
    target.store.0.backend.close(&target.id, boundary).await
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
                End::Closed(boundary) => return Err(trimmed_meanwhile(&log, boundary)),
                End::Done | End::Taken | End::Gap => {
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

fn trimmed_past(log: &LogId, version: Version, boundary: Version) -> Error {
    Error::new(ErrorKind::Conflict, "copying a log")
        .with("log", log)
        .with("copied_through", version)
        .with("trimmed_through", boundary)
        .advise("The source was trimmed past the end of the copy, which cannot go on without what is gone: copy to an empty store")
}

fn trimmed_meanwhile(log: &LogId, boundary: Version) -> Error {
    Error::new(ErrorKind::Unavailable, "copying a log")
        .with("log", log)
        .with("trimmed_through", boundary)
        .advise("It was trimmed while it was being copied: copy again")
}
