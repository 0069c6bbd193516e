//! Creating commits: an item that is put if it is absent, and what it means that it was not.
//!
//! One commit behind a known head is one put. Several of a run, or those of a new log, are a transaction: a run has no hole however it
//! ends, and a log is listed before its first commit can be read.

use icecore_log::grace::Moment;
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{Created, End, Error, ErrorKind, Mode, PageLimit, Result, Run, StoredCommit, Version};
use icecore_remote::create_each;
use serde_json::json;
use tokio::time::Instant;

use crate::atomic;
use crate::fault::Fault;
use crate::item;
use crate::read::{self, ATTEMPTS, Look};
use crate::slot::{self, FIRST_ACTIONS, Slots};
use crate::store::{COMMIT_BYTES_MAX, DynamoDb};

pub(crate) const DOING: &str = "creating a commit";

pub(crate) async fn create(inner: &DynamoDb, runs: &[Run], mode: Mode, deadline: Instant) -> Vec<Created> {
    let invalid = judge::invalid_runs(runs, COMMIT_BYTES_MAX);
    if mode == Mode::AllOrNone {
        let all = match invalid.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => atomic::create(inner, runs, deadline).await,
        };
        return all.unwrap_or_else(|error| runs.iter().map(|_| Created::failed(error.clone())).collect());
    }
    create_each(runs, invalid, inner.settings.connections_max, |_, run| create_one(inner, run, deadline))
        .await
}

async fn create_one(inner: &DynamoDb, run: &Run, deadline: Instant) -> Created {
    let mut attempt = Attempt { inner, run, slots: Slots::new(&run.log), won: 0, in_doubt: false, deadline };
    let end = match attempt.go().await {
        Ok(end) => end,
        // Whatever failed after a request that may land: nobody can say that nothing was written.
        Err(error) if attempt.in_doubt && error.kind() != ErrorKind::Unknown => End::Failed(
            Error::new(ErrorKind::Unknown, DOING)
                .with("log", &run.log)
                .because(error)
                .advise("It may have been written: send the same again, or look"),
        ),
        Err(error) => End::Failed(error.with("log", &run.log)),
    };
    Created { won: attempt.won, end }
}

/// One run on its way.
struct Attempt<'a> {
    inner: &'a DynamoDb,
    run: &'a Run,
    slots: Slots<'a>,
    /// Commits that were won.
    won: usize,
    /// Whether a request for the next slot may have landed, or land yet.
    in_doubt: bool,
    deadline: Instant,
}

/// What was seen of a log before something is created behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub at: Moment,
    /// Whether it has no commit yet.
    pub is_new: bool,
}

impl Attempt<'_> {
    async fn go(&mut self) -> Result<End> {
        let (inner, deadline) = (self.inner, self.deadline);
        let known = inner.known.followed_by(self.run).filter(|seen| !inner.settings.is_stale(*seen));
        let mut seen = match known {
            Some(at) => Seen { at, is_new: false },
            None => match self.judge().await? {
                Ok(seen) => seen,
                Err(end) => return Ok(end),
            },
        };
        while let Some(next) = self.run.commits.get(self.won) {
            if Instant::now() >= deadline {
                return Err(Fault::late().writing(DOING, self.in_doubt));
            }
            let rest = &self.run.commits[self.won..];
            let rest = &rest[..slot::fit(rest, if seen.is_new { FIRST_ACTIONS } else { 0 })];
            self.slots.stage(inner, rest, DOING, deadline).await?;
            let begun = inner.settings.clocks.now();
            if self.put(rest, seen.is_new).await? {
                // Whoever was stopped in the middle may have found the slot empty because it was deleted.
                if inner.settings.is_stale(seen.at) {
                    self.in_doubt = true;
                    check_boundary(inner, self.run, next.version, deadline).await?;
                }
                self.in_doubt = false;
                self.won += rest.len();
                seen = Seen { at: begun, is_new: false };
                remember(inner, self.run, rest, begun);
            } else {
                seen = match self.judge().await? {
                    Ok(seen) => seen,
                    Err(end) => return Ok(end),
                };
            }
        }
        Ok(End::Done)
    }

    /// Creates these; `false` if a condition did not hold.
    async fn put(&mut self, commits: &[StoredCommit], is_new: bool) -> Result<bool> {
        let (inner, deadline) = (self.inner, self.deadline);
        let sent = match commits {
            [commit] if !is_new => inner.api.send("PutItem", &self.slots.put(inner, commit), deadline).await,
            _ => {
                if is_new {
                    known_tenant(inner, self.run, deadline).await?;
                }
                let actions = self.slots.actions(inner, commits, is_new);
                inner.api.send("TransactWriteItems", &json!({ "TransactItems": actions }), deadline).await
            }
        };
        self.in_doubt |= sent.in_doubt;
        match sent.answer {
            Ok(_) => Ok(true),
            Err(Fault::Condition) => Ok(false),
            Err(fault) => Err(fault.writing(DOING, self.in_doubt)),
        }
    }

    /// Looks where the log ends; what was seen if the rest of the run may follow there.
    async fn judge(&mut self) -> Result<Result<Seen, End>> {
        let (judged, seen) = judge(self.inner, self.run, self.deadline).await?;
        self.won = self.won.max(judged.here);
        if judged.is_done() {
            return Ok(Ok(seen));
        }
        if self.in_doubt && matches!(judged.end, End::Closed(_) | End::Gap) {
            return Err(lost(self.run));
        }
        Ok(Err(judged.end))
    }
}

/// What was sent before may have landed and been trimmed since.
pub(crate) fn lost(run: &Run) -> Error {
    Error::new(ErrorKind::Unknown, DOING)
        .with("log", &run.log)
        .advise("It was closed before the answer came: whether it was a commit cannot be told any more")
}

pub(crate) fn remember(inner: &DynamoDb, run: &Run, commits: &[StoredCommit], begun: Moment) {
    if let Some(last) = commits.last() {
        inner.saw(&run.log, last.version, last.hash(), begun);
    }
}

/// The tenants are listed one after the other: so each is written before its first log.
pub(crate) async fn known_tenant(inner: &DynamoDb, run: &Run, deadline: Instant) -> Result<()> {
    let tenant = item::tenant(run.log.as_str());
    if !inner.tenants.has(tenant) {
        let item = item::key(&inner.keys.tenants(), tenant);
        let request = json!({ "TableName": inner.settings.table, "Item": item });
        // Without a log of its own it changes nothing that is read.
        inner.api.read("PutItem", &request, DOING, deadline).await?;
        inner.tenants.add(tenant);
    }
    Ok(())
}

/// What a run comes to as the log is now, and what was seen of it.
pub(crate) async fn judge(inner: &DynamoDb, run: &Run, deadline: Instant) -> Result<(Judged, Seen)> {
    for _ in 0..ATTEMPTS {
        let Look { boundary, head, begun } = read::look(inner, &run.log, DOING, deadline).await?;
        let head = head.map(|(version, _, hash)| (version, hash));
        let Some(stored) = stored(inner, run, boundary, head.map(|(head, _)| head), deadline).await? else {
            continue;
        };
        let is_same = |commit: &StoredCommit| {
            let found = stored.binary_search_by_key(&commit.version, |found| found.version);
            Ok::<_, Error>(found.ok().map(|found| stored[found].header == commit.header))
        };
        let judged = judge::judge(run, Ends { boundary, head }, is_same)?;
        return Ok((judged, Seen { at: begun, is_new: head.is_none() }));
    }
    Err(Error::new(ErrorKind::Unavailable, DOING).advise("The log is being trimmed: retry"))
}

/// What is stored of the versions of a run; `None` if they were closed after the look.
async fn stored(
    inner: &DynamoDb,
    run: &Run,
    boundary: Version,
    head: Option<Version>,
    deadline: Instant,
) -> Result<Option<Vec<StoredCommit>>> {
    let mut stored = Vec::new();
    let (Some(head), Some(first), Some(last)) = (head, run.commits.first(), run.commits.last()) else {
        return Ok(Some(stored));
    };
    let (mut from, last) = (first.version, last.version.min(head));
    while from > boundary && from <= last {
        let page = read::page(inner, &run.log, from, PageLimit::HEADERS.commits(run.commits.len()), deadline)
            .await?;
        if page.boundary >= from {
            return Ok(None);
        }
        if page.commits.is_empty() {
            break;
        }
        from = from.plus(page.commits.len() as u64);
        stored.extend(page.commits);
    }
    Ok(Some(stored))
}

/// # Errors
/// [`ErrorKind::Unknown`] if the slot is closed: whether what was created was a commit cannot be told any more.
pub(crate) async fn check_boundary(
    inner: &DynamoDb,
    run: &Run,
    first: Version,
    deadline: Instant,
) -> Result<()> {
    if first > read::boundary(inner, &run.log, DOING, deadline).await? {
        return Ok(());
    }
    inner.known.forget(&run.log);
    Err(lost(run))
}
