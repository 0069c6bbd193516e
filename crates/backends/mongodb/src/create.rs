//! Creating commits: documents that are inserted if their names are free, and what it means that one was not.

use icecore_log::grace::Moment;
use icecore_log::judge::{self, Ends};
use icecore_log::{
    Created, End, Error, ErrorKind, LogId, Mode, PageLimit, Result, Run, StoredCommit, Version,
};
use icecore_remote::create_each;
use mongodb::bson::Document;
use mongodb::error::ErrorKind as Kind;
use tokio::time::{Instant, sleep, timeout_at};

use crate::fault::{Fault, TAKEN};
use crate::group::{self, Grouped};
use crate::look::{self, Look};
use crate::parts::{self, Parts};
use crate::place::{PAUSE_FIRST, PAUSE_LAST, again, named};
use crate::read::{self, AT_ONCE};
use crate::slot::{self, Slot};
use crate::store::{COMMIT_BYTES_MAX, MongoDb};
use crate::{together, trim};

pub(crate) const DOING: &str = "creating a commit";
/// The most commits of an insert; and it ends with the one that reaches so many bytes.
const INSERT_COMMITS: usize = 1_000;
const INSERT_BYTES: usize = 16 << 20;

pub(crate) async fn create(inner: &MongoDb, runs: &[Run], mode: Mode, deadline: Instant) -> Vec<Created> {
    let mut invalid = judge::invalid_runs(runs, COMMIT_BYTES_MAX);
    for (run, invalid) in runs.iter().zip(&mut invalid) {
        let is_long = |commit: &StoredCommit| commit.header.len() > slot::HEADER_BYTES_MAX;
        if invalid.is_none() && run.commits.iter().any(is_long) {
            let error = Error::new(ErrorKind::Invalid, DOING).with("log", &run.log);
            *invalid = Some(error.with("header_bytes_max", slot::HEADER_BYTES_MAX));
        }
    }
    if mode == Mode::AllOrNone {
        return together::create(inner, runs, invalid, deadline).await;
    }
    let grouped = group::create(inner, runs, &invalid, deadline).await;
    let alone = |place: usize, run| {
        let grouped = grouped[place].clone();
        async move {
            match grouped {
                Grouped::Done(created) => created,
                Grouped::Open { in_doubt } => create_one(inner, run, in_doubt, deadline).await,
            }
        }
    };
    create_each(runs, invalid, AT_ONCE, alone).await
}

async fn create_one(inner: &MongoDb, run: &Run, in_doubt: bool, deadline: Instant) -> Created {
    let mut attempt = Attempt { inner, run, deadline, won: 0, in_doubt };
    let failed = |error: Error, in_doubt: bool| {
        // Whatever failed after a request that may land: nobody can say that nothing was written.
        let is_unknown = in_doubt && error.kind() != ErrorKind::Unknown;
        let error = if is_unknown { Error::new(ErrorKind::Unknown, DOING).because(error) } else { error };
        End::Failed(error.with("log", &run.log))
    };
    let end = match timeout_at(deadline, attempt.go()).await {
        Ok(Ok(End::Closed(_) | End::Gap)) if attempt.in_doubt => failed(undecided(CLOSED), true),
        Ok(Ok(end)) => end,
        Ok(Err(error)) => failed(error, attempt.in_doubt),
        Err(_) => failed(Fault::late().reading(DOING), attempt.in_doubt),
    };
    Created { won: attempt.won, end }
}

const CLOSED: &str = "the slot was closed before its answer came";

pub(crate) fn undecided(why: &'static str) -> Error {
    Error::new(ErrorKind::Unknown, DOING).with("because", why)
}

/// How many commits of these sizes one insert takes.
pub(crate) fn of_one_insert(sizes: impl ExactSizeIterator<Item = usize>) -> usize {
    let (count, mut bytes) = (sizes.len().min(INSERT_COMMITS), 0);
    let full = sizes.take(count).position(|size| {
        bytes += size;
        bytes >= INSERT_BYTES
    });
    full.map_or(count, |at| at + 1)
}

/// One run on its way.
struct Attempt<'a> {
    inner: &'a MongoDb,
    run: &'a Run,
    deadline: Instant,
    /// Commits that were won.
    won: usize,
    /// Whether a request for the next slots may have landed, or land yet.
    in_doubt: bool,
}

/// Who is in the slots of an insert.
enum Put {
    /// We are, by this.
    Made,
    /// So many of ours are by this; then comes what was found.
    Found(usize, Vec<Slot>),
}

impl<'a> Attempt<'a> {
    async fn go(&mut self) -> Result<End> {
        let settings = &self.inner.settings;
        let known = self.inner.known.followed_by(self.run).filter(|seen| !settings.is_stale(*seen));
        let mut seen = match known {
            Some(seen) => seen,
            None => match self.judge().await? {
                Ok(seen) => seen,
                Err(end) => return Ok(end),
            },
        };
        while self.won < self.run.commits.len() {
            let piece = self.piece();
            let begun = settings.clocks.now();
            let put = self.put(piece).await?;
            // Whoever was stopped in the middle may have found the slot empty because it was deleted, or may have been built on and
            // trimmed since: it cannot be told which.
            if settings.is_stale(seen) {
                self.check_boundary(piece[0].version).await?;
            }
            match put {
                Put::Made => {
                    self.won += piece.len();
                    self.in_doubt = false;
                    seen = begun;
                    self.remember(seen);
                }
                Put::Found(made, found) => {
                    self.won += made;
                    if !self.agree(&found) {
                        return Ok(End::Taken);
                    }
                    // What an earlier try may still bring is what the next one brings.
                    match self.judge().await? {
                        Ok(looked) => seen = looked,
                        Err(end) => return Ok(end),
                    }
                }
            }
        }
        Ok(End::Done)
    }

    /// As much of the rest as one insert takes.
    fn piece(&self) -> &'a [StoredCommit] {
        let rest = &self.run.commits[self.won..];
        let bytes =
            |commit: &StoredCommit| if slot::is_large(commit) { commit.header.len() } else { commit.len() };
        &rest[..of_one_insert(rest.iter().map(bytes))]
    }

    /// Counts as won what is there already, byte for byte; `false` at the first that is another.
    fn agree(&mut self, found: &[Slot]) -> bool {
        for slot in found {
            let ours = self.run.commits.get(self.won);
            match (ours, look::header(slot)) {
                (Some(ours), Some((version, header, _))) if version == ours.version => {
                    if *header != ours.header {
                        return false;
                    }
                    self.won += 1;
                }
                // Void, which the look tells more of; or behind a slot that is empty by now.
                _ => return true,
            }
        }
        true
    }

    fn remember(&self, seen: Moment) {
        if let Some(last) = self.won.checked_sub(1).and_then(|last| self.run.commits.get(last)) {
            self.inner.known.saw(&self.run.log, look::tip(last.version, last.header.clone(), seen));
        }
    }

    /// Looks where the log ends; the moment of the look if the rest of the run may follow there.
    async fn judge(&mut self) -> Result<Result<Moment, End>> {
        let (inner, run, deadline) = (self.inner, self.run, self.deadline);
        let Look { boundary, is_marked, tip, begun } = look::look(inner, &run.log, DOING, deadline).await?;
        let head = tip.map(|tip| (tip.last, tip.hash));
        let stored = match head {
            Some((head, _)) => {
                self.settle(head).await?;
                stored(inner, run, boundary, head, deadline).await?
            }
            None => Vec::new(),
        };
        let judged =
            judge::judge(run, Ends { boundary, head }, |commit| Ok::<_, Error>(same(&stored, commit)))?;
        self.won = self.won.max(judged.here);
        if !judged.is_done() {
            return Ok(Err(judged.end));
        }
        if !is_marked {
            // A log is listed before its first commit can be read; and a boundary that only a void slot tells of would be hidden by it.
            let raised = trim::raise(inner, &run.log, boundary, deadline).await;
            raised.map_err(|fault| fault.reading(DOING))?;
        }
        Ok(Ok(begun))
    }

    /// Makes durable what was seen of a log through its head. What a majority has is: a read sees nothing else. The journal of a single
    /// server may lack it; after a crash it would be gone, and what is built on it would not.
    async fn settle(&self, head: Version) -> Result<()> {
        if self.inner.place.is_set {
            return Ok(());
        }
        let settled = self.settled(head, head).await.map_err(|fault| fault.reading(DOING))?;
        if settled.is_empty() {
            let gone = Error::new(ErrorKind::Unavailable, DOING).with("version", head);
            return Err(gone.advise("What was seen there is gone again: the server crashed. Retry"));
        }
        Ok(())
    }

    async fn settled(&self, first: Version, last: Version) -> Result<Vec<Slot>, Fault> {
        let (place, log) = (&self.inner.place, &self.run.log);
        let range = slot::range(log, first, last);
        let found = place.settled(&place.commits, range, look::without_bodies(), self.deadline).await?;
        let decoded = found.into_iter().map(|found| slot::decode(log, found, DOING));
        Ok(decoded.collect::<Result<Vec<_>>>()?)
    }

    /// Sends the same documents until it is decided who is in the slots.
    async fn put(&mut self, commits: &[StoredCommit]) -> Result<Put> {
        let (inner, log, deadline) = (self.inner, &self.run.log, self.deadline);
        let nonce = parts::nonce();
        for (id, body) in large(log, commits) {
            let parts = Parts { place: &inner.place, owner: &id, nonce: &nonce };
            // Nothing names them yet.
            parts.write(body, deadline).await.map_err(|fault| fault.reading(DOING))?;
        }
        let documents: Vec<Document> =
            commits.iter().map(|commit| slot::encode(log, commit, &nonce)).collect();
        let mut pause = PAUSE_FIRST;
        loop {
            let sent = inner.place.commits.insert_many(&documents).ordered(true);
            let error = match timeout_at(deadline, sent).await {
                Ok(Ok(_)) => return Ok(Put::Made),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.in_doubt = true;
                    return Err(undecided("the server did not answer in time"));
                }
            };
            if let Some(made) = taken(&error).filter(|made| *made < commits.len()) {
                let last = commits[commits.len() - 1].version;
                let found = self.settled(commits[made].version, last).await;
                let found = found.map_err(|fault| fault.reading(DOING))?;
                // Empty by now: the other never reached a majority. The same again.
                if found.first().is_some_and(|slot| slot.version() == commits[made].version) {
                    self.forget_parts(&commits[made..], &found, &nonce).await;
                    return Ok(Put::Found(made, found));
                }
            } else {
                let fault = Fault::from(error);
                self.in_doubt |= fault.is_doubt();
                if !fault.is_passing() {
                    return Err(fault.writing(DOING, self.in_doubt));
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// Deletes the parts of bodies that no slot names. What stays is deleted by the sweep of its version.
    async fn forget_parts(&self, commits: &[StoredCommit], found: &[Slot], nonce: &str) {
        for (id, _) in large(&self.run.log, commits) {
            let is_ours = found.iter().filter_map(look::header).any(|(version, _, body)| {
                let is_named = matches!(body, slot::Body::Parts { nonce: named, .. } if named == nonce);
                is_named && slot::id(&self.run.log, version) == id
            });
            if !is_ours && !self.in_doubt {
                // Nothing rests on it.
                let _ = Parts { place: &self.inner.place, owner: &id, nonce }.delete(self.deadline).await;
            }
        }
    }

    /// # Errors
    /// [`ErrorKind::Unknown`] if the slot is closed: whether what we sent was a commit cannot be told any more.
    async fn check_boundary(&self, first: Version) -> Result<()> {
        let log = &self.run.log;
        let marked =
            again(self.deadline, || async { self.inner.place.logs.find_one(named(log)).await }).await;
        let marked = marked.map_err(|_| undecided("whether the slot was closed cannot be read"))?;
        match look::boundary(marked.as_ref()) {
            Some(boundary) if first > boundary => Ok(()),
            _ => {
                self.inner.known.forget(log);
                Err(undecided(CLOSED))
            }
        }
    }
}

/// Of the slots of a run from its first commit to the head, those that hold commits.
pub(crate) async fn stored(
    inner: &MongoDb,
    run: &Run,
    boundary: Version,
    head: Version,
    deadline: Instant,
) -> Result<Vec<StoredCommit>> {
    let (Some(first), Some(last)) = (run.commits.first(), run.commits.last()) else {
        return Ok(Vec::new());
    };
    let (mut from, last, mut stored) = (first.version, last.version.min(head), Vec::new());
    while from > boundary && from <= last {
        let page = read::page(inner, &run.log, from, PageLimit::HEADERS, deadline).await?;
        if page.commits.is_empty() {
            break;
        }
        from = from.plus(page.commits.len() as u64);
        stored.extend(page.commits);
    }
    Ok(stored)
}

/// Whether the commit's slot holds the same header; `None` if it is empty.
pub(crate) fn same(stored: &[StoredCommit], commit: &StoredCommit) -> Option<bool> {
    let found = stored.binary_search_by_key(&commit.version, |found| found.version).ok()?;
    Some(stored[found].header == commit.header)
}

fn large<'a>(log: &LogId, commits: &'a [StoredCommit]) -> Vec<(String, &'a [u8])> {
    let large = commits.iter().filter(|commit| slot::is_large(commit));
    large.filter_map(|commit| Some((slot::id(log, commit.version), commit.body.as_deref()?))).collect()
}

/// How many documents of an ordered insert came before the one whose name was taken; `None` if anything else is wrong: then each of them may
/// be there, or not on a majority.
fn taken(error: &mongodb::error::Error) -> Option<usize> {
    let Kind::InsertMany(failure) = &*error.kind else { return None };
    if failure.write_concern_error.is_some() {
        return None;
    }
    match failure.write_errors.as_deref() {
        Some([only]) if only.code == TAKEN => Some(only.index),
        _ => None,
    }
}
