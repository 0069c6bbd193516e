//! Creating commits: an object that is created if it is absent, and what it means that it was not.

use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, StreamExt, stream};
use icecore_log::judge::{self, Ends};
use icecore_log::{Created, End, Error, ErrorKind, Mode, PageLimit, Result, Run, StoredCommit, Version};
use tokio::time::{Instant, sleep, timeout_at};

use crate::bucket::{Fault, FaultKind};
use crate::grace::Moment;
use crate::known::Tip;
use crate::look::{self, Look};
use crate::slot::{self, Slot};
use crate::{COMMIT_BYTES_MAX, Inner, names, read, trim};

const DOING: &str = "creating a commit";

pub(crate) async fn create(inner: &Inner, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
    if mode == Mode::AllOrNone {
        let refused = Error::new(ErrorKind::Refused, DOING)
            .advise("An object store creates one object at a time: nothing is all or none across logs");
        return runs.iter().map(|_| Created::failed(refused.clone())).collect();
    }
    let invalid = judge::invalid_runs(&runs, COMMIT_BYTES_MAX);
    let each: Vec<BoxFuture<'_, Created>> = runs
        .iter()
        .zip(invalid)
        .map(|(run, invalid)| match invalid {
            Some(error) => ready(Created::failed(error)).boxed(),
            None => create_one(inner, run).boxed(),
        })
        .collect();
    stream::iter(each).buffered(inner.settings.parallel).collect().await
}

async fn create_one(inner: &Inner, run: &Run) -> Created {
    let deadline = Instant::now() + inner.settings.timeout;
    let mut attempt = Attempt { inner, run, won: 0, is_in_doubt: false };
    let end = match timeout_at(deadline, attempt.go()).await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => End::Failed(error),
        Err(_) => {
            let kind = if attempt.is_in_doubt { ErrorKind::Unknown } else { ErrorKind::Unavailable };
            End::Failed(
                Error::new(kind, DOING)
                    .with("log", &run.log)
                    .with("timeout_ms", inner.settings.timeout.as_millis()),
            )
        }
    };
    Created { won: attempt.won, end }
}

/// One run on its way.
struct Attempt<'a> {
    inner: &'a Inner,
    run: &'a Run,
    /// Commits that were won.
    won: usize,
    /// Whether a request may still land.
    is_in_doubt: bool,
}

/// What fails after an object was made leaves open whether that is a commit.
fn unknown(fault: Fault) -> Error {
    Error::new(ErrorKind::Unknown, DOING).because(fault)
}

enum Put {
    Made,
    Found(Vec<StoredCommit>),
    Closed(Version),
}

impl Attempt<'_> {
    async fn go(&mut self) -> Result<End> {
        let log = &self.run.log;
        let mut seen = match self.inner.known.followed_by(self.run) {
            Some(seen) => seen,
            None => match self.judge().await? {
                Ok(seen) => seen,
                Err(end) => return Ok(end),
            },
        };
        while let Some(next) = self.run.commits.get(self.won) {
            let first = next.version;
            let rest = &self.run.commits[self.won..];
            let rest = &rest[..slot::fit(rest)];
            let begun = self.inner.settings.clocks.now();
            let put = self.put(first, rest).await?;
            if let Put::Closed(boundary) = put {
                return Ok(End::Closed(boundary));
            }
            // Whoever looked long ago may have found a slot empty because it was deleted.
            if self.inner.settings.is_stale(seen)
                && let Some(boundary) = self.is_late(first).await?
            {
                self.inner.known.forget(log);
                return Ok(End::Closed(boundary));
            }
            self.is_in_doubt = false;
            let here = match &put {
                Put::Found(found) => {
                    let same = found.iter().zip(&self.run.commits[self.won..]);
                    let same = same.take_while(|(found, ours)| found.header == ours.header).count();
                    self.won += same;
                    if same < found.len() && self.won < self.run.commits.len() {
                        return Ok(End::Taken);
                    }
                    found
                }
                _ => {
                    self.won += rest.len();
                    rest
                }
            };
            seen = begun;
            if let (Some((last, hash)), Some(head)) = (slot::last(here), here.last()) {
                self.inner.known.saw(log, Tip { first, last, hash, header: head.header.clone(), seen });
            }
        }
        Ok(End::Done)
    }

    /// Looks where the log ends; the moment of the look if the rest of the run may follow there.
    async fn judge(&mut self) -> Result<Result<Moment, End>> {
        let (inner, run) = (self.inner, self.run);
        let Look { boundary, is_marked, tip, begun } = look::look(inner, &run.log, DOING).await?;
        let head = tip.map(|tip| (tip.last, tip.hash));
        let mut stored = Vec::new();
        if let (Some((head, _)), Some(first)) = (head, run.commits.first())
            && first.version > boundary
        {
            let last = run.commits.last().map_or(first.version, |commit| commit.version).min(head);
            let mut from = first.version;
            while from <= last {
                let page = read::page(inner, &run.log, from, PageLimit::HEADERS, DOING).await?;
                if page.commits.is_empty() {
                    break;
                }
                from = from.plus(page.commits.len() as u64);
                stored.extend(page.commits);
            }
        }
        let is_same = |commit: &StoredCommit| {
            let found = stored.binary_search_by_key(&commit.version, |found| found.version);
            Ok::<_, Error>(found.ok().map(|found| stored[found].header == commit.header))
        };
        let judged = judge::judge(run, Ends { boundary, head }, is_same)?;
        self.won = judged.here;
        if !judged.is_done() {
            return Ok(Err(judged.end));
        }
        if !is_marked {
            // Else the log would have commits behind a boundary that only a slot below it tells of.
            trim::mark(inner, &run.log, boundary, DOING).await?;
        }
        Ok(Ok(begun))
    }

    /// Sends the same bytes until it is decided who is in the slot.
    async fn put(&mut self, first: Version, commits: &[StoredCommit]) -> Result<Put> {
        let (inner, log) = (self.inner, &self.run.log);
        let (name, bytes) = (names::slot(log, first), slot::encode(commits));
        let mut pause = Duration::from_millis(20);
        loop {
            // Until there is an answer, whoever gives up waiting knows nothing.
            let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
            let created = inner.bucket.create(&name, bytes.clone()).await;
            match created {
                Ok(true) => return Ok(Put::Made),
                Ok(false) => self.is_in_doubt = was_in_doubt,
                Err(fault) if fault.kind == FaultKind::Lost => {}
                Err(fault) => {
                    self.is_in_doubt = was_in_doubt;
                    if !was_in_doubt {
                        return Err(fault.writing(DOING).with("log", log));
                    }
                }
            }
            // "There is one" may be of our own request before, and may be of one that is still being decided. Only what is read decides.
            if let Ok(Some(object)) = inner.bucket.get(&name, None).await {
                return match look::decoded(log, first, &object.bytes, object.size, true, DOING)? {
                    Ok(Slot::Run(found)) => Ok(Put::Found(found)),
                    Ok(Slot::Void(through)) => Ok(Put::Closed(through)),
                    Err(_) => Err(look::damaged(log, first, DOING)),
                };
            }
            if let Ok(look) = look::look(inner, log, DOING).await
                && look.boundary >= first
            {
                return Ok(Put::Closed(look.boundary));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The boundary, if this slot was empty only because it had been deleted.
    async fn is_late(&self, first: Version) -> Result<Option<Version>> {
        let log = &self.run.log;
        // Our own object is the newest: what it says of the head is nothing that somebody else has said.
        let listed = self.inner.bucket.list(&names::log(log), None, 1).await;
        let (boundary, _) = look::sorted(listed.map_err(unknown)?);
        let before = first.previous();
        if first <= boundary {
            return Ok(Some(boundary));
        }
        if before > boundary {
            let behind = self.inner.bucket.list(&names::slots(log), Some(&names::slot(log, first)), 1).await;
            let (_, places) = look::sorted(behind.map_err(unknown)?);
            if places.is_empty() {
                return Ok(Some(before));
            }
        }
        Ok(None)
    }
}
