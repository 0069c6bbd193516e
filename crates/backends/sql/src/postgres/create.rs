//! Creating: what is sent, what is done when it is in doubt, and when it is answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{Created, End, Error, ErrorKind, Hash, LogId, Mode, Run, StoredCommit, Version};
use sqlx::query;
use tokio::time::{Instant, sleep};

use super::COMMIT_BYTES_MAX;
use super::fault::Fault;
use super::pool::{Pool, Purpose, Session, Statement};
use super::wire;
use super::writer::{make_durable, make_logs, too_large};

type Result<T> = std::result::Result<T, Fault>;

const CREATING: &str = "creating a commit";
/// The most runs in a statement: those of several commits are matched with their rows one by one.
const STATEMENT_RUNS: usize = 256;
/// A statement ends with the commit that reaches so many bytes.
const STATEMENT_BYTES: usize = 32 << 20;
/// How often what could not be decided is looked at again. Each time, another writer rolled back, or a connection broke.
const ATTEMPTS: usize = 8;
/// How many logs of a statement that was stuck are sent at a time.
const ALONE_AT_A_TIME: usize = 4;
/// How long a look at what is in doubt is tried again, and how often.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A run, and how far it is.
struct Task<'a> {
    run: &'a Run,
    /// So many of its commits are there.
    won: usize,
    /// Some of those were only seen, and not acknowledged to us.
    is_seen: bool,
    /// What it was sent as may still land.
    is_doubtful: bool,
    /// Its log is not there.
    is_new: bool,
    end: Option<End>,
}

impl<'a> Task<'a> {
    fn new(run: &'a Run, invalid: Option<Error>) -> Self {
        let too_large = || {
            let last = run.commits.last().map(|commit| commit.version);
            last.filter(|version| wire::signed(*version).is_none()).map(|_| too_large(&run.log))
        };
        let end = invalid.or_else(too_large).map(End::Failed);
        // Most logs whose first commit is sent are not there yet: to ask first would cost a statement more.
        let is_new = run.commits.first().is_some_and(|commit| commit.version == Version::FIRST);
        Self { run, won: 0, is_seen: false, is_doubtful: false, is_new, end }
    }

    /// What is not there yet.
    fn rest(&self) -> &'a [StoredCommit] {
        &self.run.commits[self.won..]
    }

    fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// As much of the rest as one statement takes.
    fn piece(&self) -> &'a [StoredCommit] {
        let rest = self.rest();
        let mut bytes = 0;
        let count = rest.iter().position(|commit| {
            bytes += commit.len();
            bytes >= STATEMENT_BYTES
        });
        &rest[..count.map_or(rest.len(), |at| at + 1)]
    }

    fn previous(&self) -> Hash {
        self.won.checked_sub(1).map_or(self.run.previous, |last| self.run.commits[last].hash())
    }

    fn add(&mut self, count: usize) {
        self.won += count;
        if self.won == self.run.commits.len() {
            self.end = Some(End::Done);
        }
    }

    fn fail(&mut self, fault: Fault) {
        let error = if self.is_doubtful { fault.in_doubt(CREATING) } else { fault.told(CREATING) };
        self.end = Some(End::Failed(error.with("log", &self.run.log)));
    }

    /// Takes over what was found out by looking.
    fn judged(&mut self, judged: Judged) {
        self.is_seen |= judged.here > 0;
        self.add(judged.here);
        match judged.end {
            End::Done => {}
            // A predecessor that is missing may come, and what was sent may land behind it.
            End::Gap if self.is_doubtful => {}
            end => self.end = Some(end),
        }
    }

    fn created(self) -> Created {
        let end = self.end.unwrap_or_else(|| {
            let kind = if self.is_doubtful { ErrorKind::Unknown } else { ErrorKind::Unavailable };
            let error = Error::new(kind, CREATING).with("log", &self.run.log);
            End::Failed(error.advise("Other writers were in the way: send the same again"))
        });
        Created { won: self.won, end }
    }
}

pub(super) async fn create(pool: &Arc<Pool>, runs: &[Run], mode: Mode, deadline: Instant) -> Vec<Created> {
    let invalid = judge::invalid_runs(runs, COMMIT_BYTES_MAX);
    let mut tasks: Vec<Task<'_>> =
        runs.iter().zip(invalid).map(|(run, invalid)| Task::new(run, invalid)).collect();
    if mode == Mode::AllOrNone {
        return all_or_none(pool, tasks, deadline).await;
    }
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            look(pool, &mut tasks, deadline).await;
        }
        add_logs(pool, &mut tasks, deadline).await;
        let mut pending: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
        while !pending.is_empty() {
            let rest = pending.split_off(full(&pending));
            send(pool, &mut pending, deadline).await;
            pending = rest;
        }
        if tasks.iter().all(|task| !task.is_open()) {
            break;
        }
    }
    acknowledge(pool, &mut tasks, deadline).await;
    tasks.into_iter().map(Task::created).collect()
}

/// How many of these one statement takes.
fn full(tasks: &[&mut Task<'_>]) -> usize {
    let mut bytes = 0;
    let last = tasks.iter().take(STATEMENT_RUNS).position(|task| {
        bytes += task.piece().iter().map(StoredCommit::len).sum::<usize>();
        bytes >= STATEMENT_BYTES
    });
    last.map_or(tasks.len().min(STATEMENT_RUNS), |at| at + 1)
}

/// Sends a statement for all; and if another writer is in the way of one of them, a statement for each.
async fn send(pool: &Arc<Pool>, tasks: &mut [&mut Task<'_>], deadline: Instant) {
    match send_once(pool, tasks, deadline).await {
        Err(Fault::Stuck(_)) if tasks.len() > 1 => {
            let alone = tasks.iter_mut().map(|task| async move {
                if let Err(fault) = send_once(pool, &mut [task], deadline).await {
                    failed(task, fault);
                }
            });
            futures_util::stream::iter(alone).for_each_concurrent(ALONE_AT_A_TIME, |sent| sent).await;
        }
        Err(fault) => tasks.iter_mut().for_each(|task| failed(task, fault.clone())),
        Ok(()) => {}
    }
}

fn failed(task: &mut Task<'_>, fault: Fault) {
    // What is in doubt is looked at, and sent again as it is; what is not, is told.
    match fault {
        Fault::Doubt(_) => task.is_doubtful = true,
        fault => task.fail(fault),
    }
}

async fn send_once(pool: &Arc<Pool>, tasks: &mut [&mut Task<'_>], deadline: Instant) -> Result<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let pieces = Pieces::of(tasks.iter().map(|task| &**task));
    let rows = session.alone(pieces.statement()).await?;
    for row in rows {
        let place = usize::try_from(wire::get::<i64>(&row, 0)? - 1).unwrap_or(usize::MAX);
        if let Some(task) = tasks.get_mut(place) {
            let count = task.piece().len();
            task.add(count);
        }
    }
    Ok(())
}

/// The arrays of [`wire::CREATE`].
#[derive(Default)]
struct Pieces<'a> {
    names: Vec<&'a [u8]>,
    previous: Vec<[u8; 32]>,
    versions: Vec<i64>,
    firsts: Columns<'a>,
    other_runs: Vec<i64>,
    other_versions: Vec<i64>,
    others: Columns<'a>,
}

#[derive(Default)]
struct Columns<'a> {
    header_crc: Vec<i64>,
    body_crc: Vec<Option<i64>>,
    header: Vec<&'a [u8]>,
    body: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, log: &LogId, commit: &'a StoredCommit) {
        let body = commit.body.as_deref();
        self.header_crc.push(wire::commit_crc(log, commit.version, &commit.header));
        self.body_crc.push(body.map(|body| wire::commit_crc(log, commit.version, body)));
        self.header.push(&commit.header);
        self.body.push(body);
    }
}

impl<'a> Pieces<'a> {
    fn of<'t>(tasks: impl Iterator<Item = &'t Task<'a>>) -> Self
    where
        'a: 't,
    {
        let mut pieces = Self::default();
        for (place, task) in (1..).zip(tasks) {
            let log = &task.run.log;
            let Some((first, others)) = task.piece().split_first() else { continue };
            pieces.names.push(log.as_str().as_bytes());
            pieces.previous.push(task.previous().0);
            pieces.versions.push(first.version.0.cast_signed());
            pieces.firsts.push(log, first);
            for commit in others {
                pieces.other_runs.push(place);
                pieces.other_versions.push(commit.version.0.cast_signed());
                pieces.others.push(log, commit);
            }
        }
        pieces
    }

    fn statement(self) -> Statement<'a> {
        query(wire::CREATE)
            .bind(self.names)
            .bind(self.previous)
            .bind(self.versions)
            .bind(self.firsts.header_crc)
            .bind(self.firsts.body_crc)
            .bind(self.firsts.header)
            .bind(self.firsts.body)
            .bind(self.other_runs)
            .bind(self.other_versions)
            .bind(self.others.header_crc)
            .bind(self.others.body_crc)
            .bind(self.others.header)
            .bind(self.others.body)
    }
}

/// Looks at the slots of what is open, all in one look, and judges it.
async fn look(pool: &Arc<Pool>, tasks: &mut [Task<'_>], deadline: Instant) {
    let mut open: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
    // What broke the answer may take a moment to pass, as a restart does: only a look can still decide what is in doubt.
    let patience = deadline.min(Instant::now() + PATIENCE);
    let found = loop {
        let found = match pool.session(Purpose::Writing, deadline).await {
            Ok(mut session) => slots(&mut session, &open).await,
            Err(fault) => Err(fault),
        };
        match found {
            Err(Fault::Before(_))
                if Instant::now() < patience && open.iter().any(|task| task.is_doubtful) =>
            {
                sleep(LOOK_EVERY).await;
            }
            found => break found,
        }
    };
    match found {
        Ok(found) => {
            for (task, slots) in open.into_iter().zip(found) {
                task.is_new = matches!(&slots, Ok(None));
                match slots.and_then(|slots| slots.unwrap_or_default().judge(task)) {
                    Ok(judged) => task.judged(judged),
                    Err(fault) => task.fail(fault),
                }
            }
        }
        Err(fault) => open.iter_mut().for_each(|task| task.fail(fault.clone())),
    }
}

/// A log's ends, and the filled ones of the slots that a task asks about.
#[derive(Default)]
struct Slots {
    ends: Ends,
    filled: Vec<StoredCommit>,
}

impl Slots {
    fn judge(&self, task: &Task<'_>) -> Result<Judged> {
        let rest =
            Run { log: task.run.log.clone(), previous: task.previous(), commits: task.rest().to_vec() };
        judge::judge(&rest, self.ends, |commit| {
            let found = self.filled.iter().find(|found| found.version == commit.version);
            Ok(found.map(|found| found.header == commit.header))
        })
    }
}

/// For each task its slots, `None` if there is no such log; or what is damaged there.
async fn slots(session: &mut Session, tasks: &[&mut Task<'_>]) -> Result<Vec<Result<Option<Slots>>>> {
    let names: Vec<&[u8]> = tasks.iter().map(|task| task.run.log.as_str().as_bytes()).collect();
    let number = |commit: Option<&StoredCommit>| commit.map_or(0, |commit| commit.version.0.cast_signed());
    let first: Vec<i64> = tasks.iter().map(|task| number(task.rest().first())).collect();
    let last: Vec<i64> = tasks.iter().map(|task| number(task.rest().last())).collect();
    let rows = session.look(query(wire::SLOTS).bind(names).bind(first).bind(last)).await?;
    let mut found: Vec<Result<Option<Slots>>> = tasks.iter().map(|_| Ok(None)).collect();
    for row in &rows {
        let place = usize::try_from(wire::get::<i64>(row, 0)? - 1).unwrap_or(usize::MAX);
        let (Some(task), Some(slots)) = (tasks.get(place), found.get_mut(place)) else { continue };
        let log = &task.run.log;
        let read = || {
            let boundary = wire::boundary(row, 1, log)?;
            let head = wire::header(row, 3, log)?.map(|head| (head.version, head.hash()));
            Ok((Ends { boundary, head }, wire::header(row, 6, log)?))
        };
        match (read(), slots.as_mut()) {
            (Ok((ends, filled)), Ok(slots)) => {
                let slots = slots.get_or_insert_default();
                slots.ends = ends;
                slots.filled.extend(filled);
            }
            (Err(fault), Ok(_)) => *slots = Err(fault),
            (_, Err(_)) => {}
        }
    }
    Ok(found)
}

/// Makes the logs of the tasks that found none.
async fn add_logs(pool: &Arc<Pool>, tasks: &mut [Task<'_>], deadline: Instant) {
    let new: Vec<LogId> =
        tasks.iter().filter(|task| task.is_open() && task.is_new).map(|task| task.run.log.clone()).collect();
    if new.is_empty() {
        return;
    }
    if let Err(fault) = make_logs(pool, &new, deadline).await {
        tasks
            .iter_mut()
            .filter(|task| task.is_open() && task.is_new)
            .for_each(|task| task.fail(fault.clone()));
    }
}

/// What was only seen is made durable, before anybody is told that it was won.
async fn acknowledge(pool: &Arc<Pool>, tasks: &mut [Task<'_>], deadline: Instant) {
    if tasks.iter().all(|task| !task.is_seen) {
        return;
    }
    if let Err(fault) = make_durable(pool, deadline).await {
        for task in tasks.iter_mut().filter(|task| task.is_seen) {
            task.won = 0;
            task.end = Some(End::Failed(fault.clone().in_doubt(CREATING).with("log", &task.run.log)));
        }
    }
}

async fn all_or_none(pool: &Arc<Pool>, mut tasks: Vec<Task<'_>>, deadline: Instant) -> Vec<Created> {
    for _ in 0..ATTEMPTS {
        if tasks.iter().any(|task| task.end.as_ref().is_some_and(|end| !matches!(end, End::Done))) {
            break;
        }
        look(pool, &mut tasks, deadline).await;
        add_logs(pool, &mut tasks, deadline).await;
        if tasks.iter().any(|task| task.end.as_ref().is_some_and(|end| !matches!(end, End::Done))) {
            break;
        }
        let mut open: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
        if open.is_empty() {
            break;
        }
        match send_together(pool, &open, deadline).await {
            Ok(true) => open.iter_mut().for_each(|task| task.add(task.rest().len())),
            // Somebody was faster: look again.
            Ok(false) | Err(Fault::Stuck(_)) => {}
            Err(Fault::Doubt(_)) => tasks.iter_mut().for_each(|task| task.is_doubtful = true),
            Err(fault) => open.iter_mut().for_each(|task| task.fail(fault.clone())),
        }
    }
    acknowledge(pool, &mut tasks, deadline).await;
    let is_decided = |task: &Task<'_>| matches!(task.end, Some(End::Taken | End::Closed(_) | End::Gap));
    if tasks.iter().any(is_decided) {
        tasks.iter_mut().filter(|task| task.is_open()).for_each(|task| task.end = Some(End::Taken));
    }
    let is_unknown = tasks.iter().any(|task| task.is_doubtful) && !tasks.iter().any(is_decided);
    let answers: Vec<Created> = tasks.into_iter().map(Task::created).collect();
    if is_unknown && !answers.iter().all(Created::is_done) {
        // Together, or not at all: what is not known of one is not known of any.
        let unknown = || {
            Error::new(ErrorKind::Unknown, CREATING)
                .advise("It may have been written: send the same again, or look")
        };
        return answers.iter().map(|_| Created::failed(unknown())).collect();
    }
    if answers.iter().all(Created::is_done) { answers } else { judge::none_of(answers) }
}

/// All of it in one transaction; `false` if a slot was not free, and nothing was written.
async fn send_together(pool: &Arc<Pool>, tasks: &[&mut Task<'_>], deadline: Instant) -> Result<bool> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let mut left: Vec<Task<'_>> = tasks
        .iter()
        .map(|task| Task {
            run: task.run,
            won: task.won,
            is_seen: false,
            is_doubtful: false,
            is_new: false,
            end: None,
        })
        .collect();
    while left.iter().any(Task::is_open) {
        let mut pending: Vec<&mut Task<'_>> = left.iter_mut().filter(|task| task.is_open()).collect();
        pending.truncate(full(&pending));
        let rows = session.within(Pieces::of(pending.iter().map(|task| &**task)).statement()).await?;
        if rows.len() < pending.len() {
            session.roll_back().await;
            return Ok(false);
        }
        for task in pending {
            let count = task.piece().len();
            task.add(count);
        }
    }
    session.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use icecore_conformance::commits;

    use super::*;

    fn judged(is_doubtful: bool, here: usize, end: End) -> Created {
        let run = commits::run(&commits::log("s-1"), 3..=4, 0);
        let mut task = Task { is_doubtful, ..Task::new(&run, None) };
        task.judged(Judged { here, end });
        task.created()
    }

    /// What was sent may still arrive, after its predecessor: only a slot that is filled, or closed, decides.
    #[test]
    fn absent_decides_nothing_in_doubt() {
        for end in [End::Gap, End::Done] {
            let created = judged(true, 0, end);
            assert!(
                matches!(&created.end, End::Failed(error) if error.kind() == ErrorKind::Unknown),
                "{created:?}"
            );
        }
        assert!(matches!(judged(true, 0, End::Taken).end, End::Taken));
        assert!(matches!(judged(true, 0, End::Closed(Version(5))).end, End::Closed(Version(5))));
        assert!(judged(true, 2, End::Done).is_done());
    }

    #[test]
    fn what_was_not_sent_is_told_as_it_was_found() {
        assert!(matches!(judged(false, 0, End::Gap).end, End::Gap));
        let created = judged(false, 1, End::Done);
        assert_eq!(created.won, 1);
        assert!(matches!(&created.end, End::Failed(error) if error.kind() == ErrorKind::Unavailable));
    }

    #[test]
    fn a_long_run_is_sent_in_pieces_that_a_statement_takes() {
        let log = commits::log("s-1");
        let large = |version| commits::commit(version, 0, commits::noise(STATEMENT_BYTES / 2, version));
        let run = Run { log, previous: Hash::ZERO, commits: (1..=5).map(large).collect() };
        let mut task = Task::new(&run, None);
        let mut pieces = Vec::new();
        while task.is_open() {
            let count = task.piece().len();
            pieces.push(count);
            task.add(count);
        }
        assert_eq!(pieces, [2, 2, 1]);
        assert!(task.created().is_done());
    }
}
