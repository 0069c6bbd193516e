//! Creating commits: an object that is created if it is absent, and what it means that it was not.

use std::time::Duration;

use icecore_log::judge::{self, Ends};
use icecore_log::{Created, End, Error, ErrorKind, Mode, PageLimit, Result, Run, StoredCommit, Version};
use icecore_remote::create_each;
use tokio::time::{Instant, sleep, timeout_at};

use crate::look::{self, Look};
use crate::make::{self, PAUSE_FIRST, PAUSE_LAST, Tried};
use crate::slot::{self, Slot};
use crate::{COMMIT_BYTES_MAX, Objects, names, read, trim};
use icecore_log::grace::Moment;
use icecore_log::known::Tip;

const DOING: &str = "creating a commit";

pub(crate) async fn create(inner: &Objects, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
    if mode == Mode::AllOrNone {
        let refused = Error::new(ErrorKind::Refused, DOING)
            .advise("An object store creates one object at a time: nothing is all or none across logs");
        return runs.iter().map(|_| Created::failed(refused.clone())).collect();
    }
    let invalid = judge::invalid_runs(&runs, COMMIT_BYTES_MAX);
    create_each(&runs, invalid, inner.settings.parallel, |_, run| create_one(inner, run)).await
}

async fn create_one(inner: &Objects, run: &Run) -> Created {
    let deadline = Instant::now() + inner.settings.timeout;
    let mut attempt = Attempt { inner, run, won: 0, in_doubt: false };
    let end = match timeout_at(deadline, attempt.go()).await {
        Ok(Ok(end)) => end,
        // Whatever failed after a request that may land: nobody can say that nothing was written.
        Ok(Err(error)) if attempt.in_doubt => {
            End::Failed(Error::new(ErrorKind::Unknown, DOING).with("log", &run.log).because(error))
        }
        Ok(Err(error)) => End::Failed(error),
        Err(_) => {
            let kind = if attempt.in_doubt { ErrorKind::Unknown } else { ErrorKind::Unavailable };
            let error = Error::new(kind, DOING).with("log", &run.log);
            End::Failed(error.with("timeout_ms", inner.settings.timeout.as_millis()))
        }
    };
    Created { won: attempt.won, end }
}

/// One run on its way.
struct Attempt<'a> {
    inner: &'a Objects,
    run: &'a Run,
    /// Commits that were won.
    won: usize,
    /// Whether a request for the next slot may have landed, or land yet.
    in_doubt: bool,
}

/// How long one slot is tried for: its neighbours in the call wait for their answers meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is in a slot.
enum Put {
    /// We are, by this.
    Made,
    /// These commits are: of another, or ours.
    Found(Vec<StoredCommit>),
    /// Nobody: it is closed.
    Closed(Version),
}

impl Attempt<'_> {
    async fn go(&mut self) -> Result<End> {
        let known =
            self.inner.known.followed_by(self.run).filter(|seen| !self.inner.settings.is_stale(*seen));
        let mut seen = match known {
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
            if let Put::Closed(through) = put {
                self.in_doubt = false;
                return Ok(End::Closed(through));
            }
            // Whoever was stopped in the middle may have found the slot empty because it was deleted, or may have been built on and
            // trimmed since: it cannot be told which.
            if self.inner.settings.is_stale(seen) {
                self.check_boundary(first).await?;
            }
            self.in_doubt = false;
            match put {
                Put::Made | Put::Closed(_) => {
                    self.won += rest.len();
                    seen = begun;
                    self.remember(first, rest, seen);
                }
                Put::Found(found) => {
                    if !self.agree(&found) {
                        return Ok(End::Taken);
                    }
                    // Whether the slot behind it is empty was not seen.
                    match self.judge().await? {
                        Ok(looked) => seen = looked,
                        Err(end) => return Ok(end),
                    }
                }
            }
        }
        Ok(End::Done)
    }

    /// Counts as won what is there already, byte for byte; `false` at the first that is another.
    fn agree(&mut self, found: &[StoredCommit]) -> bool {
        let ours = &self.run.commits[self.won..];
        let same = found.iter().zip(ours).take_while(|(found, ours)| found.header == ours.header).count();
        self.won += same;
        same == found.len() || same == ours.len()
    }

    fn remember(&self, first: Version, commits: &[StoredCommit], seen: Moment) {
        if let (Some((last, hash)), Some(head)) = (slot::last(commits), commits.last()) {
            self.inner.known.saw(&self.run.log, Tip { first, last, hash, header: head.header.clone(), seen });
        }
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
        self.won = self.won.max(judged.here);
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
        let (name, bytes) = (names::slot(log, first), slot::encode(log, commits));
        let (begun, mut pause, mut is_lost) = (Instant::now(), PAUSE_FIRST, false);
        loop {
            let tried = make::attempt(inner, &name, &bytes, &mut self.in_doubt).await;
            match tried.map_err(|fault| fault.writing(DOING).with("log", log))? {
                Tried::Made => return Ok(Put::Made),
                Tried::Found(object, lost) => {
                    is_lost |= lost;
                    return match look::decoded(log, first, &object.bytes, object.size, true, DOING)? {
                        Ok(Slot::Run(found)) => Ok(Put::Found(found)),
                        Ok(Slot::Void(_)) if is_lost => {
                            Err(self.undecided("The slot was closed before its answer came"))
                        }
                        // The log was closed before it had a commit.
                        Ok(Slot::Void(through)) => Ok(Put::Closed(through)),
                        Err(_) => Err(look::damaged(log, first, DOING)),
                    };
                }
                Tried::Undecided => {
                    is_lost = true;
                    self.check_boundary(first).await?;
                }
            }
            if begun.elapsed() >= PATIENCE.min(inner.settings.timeout) {
                return Err(self.undecided("The store gave no answer that decides"));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// # Errors
    /// [`ErrorKind::Unknown`] if the slot is closed: whether what we sent was a commit cannot be told any more.
    async fn check_boundary(&self, first: Version) -> Result<()> {
        let newest = look::newest(self.inner, &self.run.log, 1).await;
        let boundary =
            newest.map_err(|_| self.undecided("Whether the slot was closed cannot be read"))?.boundary;
        if first > boundary {
            return Ok(());
        }
        self.inner.known.forget(&self.run.log);
        Err(self.undecided("The slot was closed before its answer came"))
    }

    fn undecided(&self, why: &'static str) -> Error {
        Error::new(ErrorKind::Unknown, DOING).with("log", &self.run.log).with("because", why)
    }
}
