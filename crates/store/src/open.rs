//! What must be known of a log before it is appended to: its end, its secret, its ids.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use icecore_log::codec::Secret;
use icecore_log::{Error, ErrorKind, Hash, Head, Header, LogId, PageLimit, Result, Version};

use crate::appender::{Active, Known, Tip};
use crate::confirm::confirm_turn;
use crate::id_runs::{self, RunInfo};
use crate::ids::{self, Ids};
use crate::turn::Turn;
use crate::{Inner, lock};

/// How many logs are opened at a time.
const AT_ONCE: usize = 16;

/// Opens these logs, a few at a time; each goes on as soon as it is open. The callers of those that cannot be opened are told.
pub(crate) async fn open(inner: &Inner, turns: Vec<Turn>) {
    let (new, behind): (Vec<_>, Vec<_>) =
        turns.into_iter().partition(|turn| matches!(lock(&turn.state).known, Known::Nothing));
    join(open_new(inner, new), all(behind.into_iter().map(|turn| follow_turn(inner, turn)))).await;
}

/// Runs these, a few at a time.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut running = stream::iter(futures).buffer_unordered(AT_ONCE);
    while running.next().await.is_some() {}
}

async fn follow_turn(inner: &Inner, turn: Turn) {
    let followed = follow(inner, &turn).await;
    finish(turn, followed);
}

/// Reads what must be known of one log, for whoever goes on with its turn.
pub(crate) async fn ready(inner: &Inner, turn: &Active) -> Result<()> {
    let is_new = matches!(lock(&turn.state).known, Known::Nothing);
    if is_new {
        from_head(inner, turn, head(inner, &turn.id).await?.as_ref()).await
    } else {
        follow(inner, turn).await
    }
}

async fn open_new(inner: &Inner, turns: Vec<Turn>) {
    let logs: Vec<LogId> = turns.iter().map(|turn| turn.id.clone()).collect();
    let heads = match &logs[..] {
        [] => return,
        logs => inner.backend.heads(logs).await,
    };
    let looks = turns.into_iter().enumerate().map(|(index, turn)| match &heads {
        Ok(heads) => (turn, Some(Ok(heads.get(index).cloned().flatten()))),
        Err(error) if logs.len() == 1 => (turn, Some(Err(error.clone()))),
        // Which log it was is not said: each is asked for alone, so that one that is damaged does not fail its neighbours.
        Err(_) => (turn, None),
    });
    all(looks.map(|(turn, look)| open_turn(inner, turn, look))).await;
}

async fn open_turn(inner: &Inner, turn: Turn, look: Option<Result<Option<Head>>>) {
    let look = match look {
        Some(look) => look,
        None => head(inner, &turn.id).await,
    };
    let opened = match look {
        Ok(head) => from_head(inner, &turn, head.as_ref()).await,
        Err(error) => Err(error),
    };
    finish(turn, opened);
}

fn finish(turn: Turn, opened: Result<()>) {
    match opened {
        Ok(()) => turn.queue(),
        Err(error) => turn.fail(&error),
    }
}

async fn head(inner: &Inner, log: &LogId) -> Result<Option<Head>> {
    Ok(inner.backend.heads(std::slice::from_ref(log)).await?.pop().flatten())
}

async fn tip_of(inner: &Inner, log: &LogId, head: &Head) -> Result<Tip> {
    let header = decode(log, head.version, head.header.clone())?;
    Tip::at(log, &header, head.hash(), secret(inner, log, &header).await?)
}

pub(crate) fn decode(log: &LogId, version: Version, header: Bytes) -> Result<Header> {
    let header = Header::decode(header).map_err(|error| error.with("log", log).with("version", version))?;
    if header.version != version {
        return Err(damaged(log, version, "a header is in the slot of another version"));
    }
    Ok(header)
}

async fn from_head(inner: &Inner, turn: &Active, head: Option<&Head>) -> Result<()> {
    let Some(head) = head else {
        let mut state = lock(&turn.state);
        (state.known, state.ids, state.durable) = (Known::Absent, Ids::loaded_empty(), Version::ZERO);
        return Ok(());
    };
    let tip = tip_of(inner, &turn.id, head).await?;
    let wants_ids = {
        let mut state = lock(&turn.state);
        state.known = Known::Tip(tip.clone());
        (state.ids, state.durable) = (Ids::default(), Version::ZERO);
        state.needs_opening()
    };
    if wants_ids { load_ids(inner, turn, &tip).await } else { Ok(()) }
}

/// The log's secret, out of the newest preamble that a header of it knows.
pub(crate) async fn secret(inner: &Inner, log: &LogId, header: &Header) -> Result<Secret> {
    let mut head = Cow::Borrowed(header);
    let commit = loop {
        let page = inner.backend.read(log, head.base, PageLimit::WHOLE.commits(1)).await?;
        if let Some(commit) = page.commits.into_iter().next() {
            break commit;
        }
        // A base was written since, and the log trimmed behind it. Every base has the same secret.
        let newest = match self::head(inner, log).await? {
            Some(newest) if newest.boundary >= head.base => decode(log, newest.version, newest.header)?,
            _ => {
                return Err(damaged(
                    log,
                    head.base,
                    "the commit that holds the log's name and secret is missing",
                ));
            }
        };
        if newest.base <= head.base {
            return Err(damaged(
                log,
                head.base,
                "the commit that holds the log's name and secret was trimmed",
            ));
        }
        head = Cow::Owned(newest);
    };
    let at = |error: Error| error.with("log", log).with("version", head.base);
    let Some(body) = commit.body else {
        return Err(damaged(log, head.base, "the body that holds the log's name and secret was dropped"));
    };
    let preamble =
        Header::decode(commit.header).and_then(|header| header.open_preamble(&body)).map_err(at)?;
    match preamble {
        Some(preamble) if preamble.name == *log && preamble.secret.name_tag(log) == head.name_tag => {
            Ok(preamble.secret)
        }
        _ => Err(damaged(log, head.base, "its commits belong to another log")),
    }
}

/// Reads what others appended since, or the ids that were not wanted before, or looks into the id runs.
async fn follow(inner: &Inner, turn: &Active) -> Result<()> {
    let known = lock(&turn.state).known.clone();
    let mut tip = match known {
        Known::Tip(tip) => {
            if lock(&turn.state).must_confirm {
                confirm_turn(inner, turn, &tip).await;
                return Ok(());
            }
            return load_ids(inner, turn, &tip).await;
        }
        Known::Behind(tip) => tip,
        Known::Nothing | Known::Absent => return Ok(()),
    };
    loop {
        let page = inner.backend.read(&turn.id, tip.version.next(), PageLimit::HEADERS).await?;
        let count = page.commits.len();
        for commit in page.commits {
            let hash = commit.hash();
            let header = decode(&turn.id, commit.version, commit.header)?;
            if header.previous != tip.hash || header.version != tip.version.next() {
                return Err(damaged(&turn.id, commit.version, "it does not follow the commit before"));
            }
            tip = Tip::at(&turn.id, &header, hash, tip.secret)?;
            lock(&turn.state).ids.add(&header);
        }
        if count == 0 {
            let mut state = lock(&turn.state);
            // Trimmed past us, or our own slot is not there any more: look again from the head.
            state.known = if page.boundary > tip.version { Known::Nothing } else { Known::Tip(tip) };
            return Ok(());
        }
    }
}

/// Fills the log's ids: the runs' names, and the headers behind the last run.
async fn load_ids(inner: &Inner, turn: &Active, tip: &Tip) -> Result<()> {
    if !lock(&turn.state).ids.is_loaded() {
        let ids = read_ids(inner, &turn.id, tip).await?;
        lock(&turn.state).ids = ids;
    }
    ids::look_up_pending(inner, turn, tip).await
}

/// The log's end, read anew; `None` if it has no commit.
pub(crate) async fn tip(inner: &Inner, log: &LogId) -> Result<Option<Tip>> {
    match head(inner, log).await? {
        Some(head) => tip_of(inner, log, &head).await.map(Some),
        None => Ok(None),
    }
}

/// The runs' names, and the ids in the headers behind the last run.
pub(crate) async fn read_ids(inner: &Inner, log: &LogId, tip: &Tip) -> Result<Ids> {
    read_ids_of(inner, log, tip, id_runs::list(inner, log, tip.incarnation).await?).await
}

/// As [`read_ids`], where the runs were just listed.
pub(crate) async fn read_ids_of(
    inner: &Inner,
    log: &LogId,
    tip: &Tip,
    mut runs: Vec<RunInfo>,
) -> Result<Ids> {
    loop {
        let ids = read_ids_behind(inner, log, tip, runs.clone()).await?;
        if !ids.has_hole() {
            return Ok(ids);
        }
        // Who trimmed may have written a run first, just after the listing.
        let again = id_runs::list(inner, log, tip.incarnation).await?;
        if again == runs {
            return Ok(ids);
        }
        runs = again;
    }
}

async fn read_ids_behind(inner: &Inner, log: &LogId, tip: &Tip, runs: Vec<RunInfo>) -> Result<Ids> {
    let mut ids = of_runs(inner, log, runs).await?;
    let mut from = ids.runs_through().next();
    let mut previous: Option<Hash> = None;
    while from <= tip.version {
        let page = inner.backend.read(log, from, PageLimit::HEADERS).await?;
        if page.commits.is_empty() {
            if page.boundary < from {
                return Err(damaged(log, from, "a commit below the head is missing"));
            }
            ids.forget_through(page.boundary);
            (from, previous) = (page.boundary.next(), None);
        }
        for commit in page.commits {
            let hash = commit.hash();
            let header = decode(log, commit.version, commit.header)?;
            if previous.is_some_and(|previous| previous != header.previous) {
                return Err(damaged(log, commit.version, "it does not follow the commit before"));
            }
            previous = Some(hash);
            if header.version <= tip.version {
                ids.add(&header);
            }
            from = header.version.next();
        }
    }
    Ok(ids)
}

/// Takes runs up to the first gap whose headers are still there: from them the lost run is made again.
async fn of_runs(inner: &Inner, log: &LogId, runs: Vec<RunInfo>) -> Result<Ids> {
    let (mut kept, mut hole) = (Vec::<RunInfo>::new(), Version::ZERO);
    for run in runs {
        let next = Version(kept.last().map_or(0, |last| last.to)).next();
        if run.from > next.0 {
            let page = inner.backend.read(log, next, PageLimit::HEADERS.commits(1)).await?;
            if page.boundary.next().0 < run.from {
                break;
            }
            hole = Version(run.from).previous();
        }
        kept.push(run);
    }
    Ok(Ids::of_runs(kept, hole))
}

pub(crate) fn damaged(log: &LogId, version: Version, what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a log")
        .with("log", log)
        .with("version", version)
        .with("because", what)
        .advise("Run `icecore verify` to see how far the damage goes, and restore the log")
}
