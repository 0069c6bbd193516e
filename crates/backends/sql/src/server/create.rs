//! Creating: what is sent, what is done when it is in doubt, and when it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{Created, End, Error, ErrorKind, Hash, LogId, Mode, Run, StoredCommit, Version};
use tokio::time::{Instant, sleep};

use super::fault::Fault;
use super::pool::{Pool, Purpose, Session};
use super::rows::{self, Row};
use super::writer::{make_durable, too_large};
use super::{Dialect, Done};

const CREATING: &str = "creating a commit";
/// The most runs in a statement: those of several commits are matched with their rows one by one.
const STATEMENT_RUNS: usize = 256;
/// The most commits in a statement: servers bound its parameters.
const STATEMENT_COMMITS: usize = 8_192;
/// What a statement has beside the bytes of a commit, at the most.
pub(crate) const ROW_BYTES: usize = 1_024;
/// How often what could not be decided is looked at again. Each time, another writer rolled back, or a connection broke.
const ATTEMPTS: usize = 8;
/// How many logs of a statement that was stuck are sent at a time.
const ALONE_AT_A_TIME: usize = 4;
/// How long a look at what is in doubt is tried again, and how often.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A run, and how far it is.
pub(crate) struct Task<'a> {
    pub run: &'a Run,
    /// So many of its commits are there.
    won: usize,
    /// Some of those were only seen, and not acknowledged to us.
    is_seen: bool,
    /// What it was sent as may still land.
    is_doubtful: bool,
    /// Its log is not there.
    pub is_new: bool,
    end: Option<End>,
    statement_bytes: usize,
}

impl<'a> Task<'a> {
    fn new(run: &'a Run, invalid: Option<Error>, statement_bytes: usize) -> Self {
        let too_large = || {
            let last = run.commits.last().map(|commit| commit.version);
            last.filter(|version| rows::signed(*version).is_none()).map(|_| too_large(&run.log))
        };
        let end = invalid.or_else(too_large).map(End::Failed);
        // Most logs whose first commit is sent are not there yet: to ask first would cost a statement more.
        let is_new = run.commits.first().is_some_and(|commit| commit.version == Version::FIRST);
        Self { run, won: 0, is_seen: false, is_doubtful: false, is_new, end, statement_bytes }
    }

    /// What is not there yet.
    pub fn rest(&self) -> &'a [StoredCommit] {
        &self.run.commits[self.won..]
    }

    fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// As much of the rest as one statement takes; at least a commit.
    pub fn piece(&self) -> &'a [StoredCommit] {
        let rest = self.rest();
        let mut bytes = 0;
        let fits = |commit: &StoredCommit| {
            bytes += commit.len() + ROW_BYTES;
            bytes <= self.statement_bytes
        };
        let count = rest.iter().take(STATEMENT_COMMITS).map(fits).take_while(|fits| *fits).count();
        &rest[..count.max(1).min(rest.len())]
    }

    pub fn previous(&self) -> Hash {
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

pub(crate) async fn create<D: Dialect>(
    pool: &Arc<Pool<D>>,
    runs: &[Run],
    mode: Mode,
    deadline: Instant,
) -> Vec<Created> {
    let (commit_bytes_max, statement_bytes) =
        (pool.dialect.commit_bytes_max(), pool.dialect.statement_bytes());
    let invalid = judge::invalid_runs(runs, commit_bytes_max);
    let mut tasks: Vec<Task<'_>> =
        runs.iter().zip(invalid).map(|(run, invalid)| Task::new(run, invalid, statement_bytes)).collect();
    if mode == Mode::AllOrNone {
        return all_or_none(pool, tasks, deadline).await;
    }
    let won = |tasks: &[Task<'_>]| tasks.iter().map(|task| task.won).sum::<usize>();
    let (mut attempt, mut is_first) = (0, true);
    while attempt < ATTEMPTS && tasks.iter().any(Task::is_open) {
        if !std::mem::take(&mut is_first) {
            look(pool, &mut tasks, deadline).await;
        }
        attempt += 1;
        add_logs(pool, &mut tasks, deadline).await;
        let before = won(&tasks);
        let mut pending: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
        let mut is_raced = false;
        while !pending.is_empty() {
            let rest = pending.split_off(full(&pending, statement_bytes));
            is_raced |= send(pool, &mut pending, deadline).await;
            pending = rest;
        }
        if won(&tasks) > before {
            // A long run takes as many statements as it needs.
            attempt -= 1;
        } else if is_raced && Instant::now() < deadline {
            // Those that are in each other's way come apart: who was faster is seen, and one of two that waited goes on.
            attempt -= 1;
            sleep(LOOK_EVERY.mul_f64(chance())).await;
        }
    }
    acknowledge(pool, &mut tasks, deadline).await;
    tasks.into_iter().map(Task::created).collect()
}

/// How many of these one statement takes; at least one.
fn full(tasks: &[&mut Task<'_>], statement_bytes: usize) -> usize {
    let (mut bytes, mut commits) = (0, 0);
    let fits = |task: &&mut Task<'_>| {
        commits += task.piece().len();
        bytes += task.piece().iter().map(|commit| commit.len() + ROW_BYTES).sum::<usize>();
        bytes <= statement_bytes && commits <= STATEMENT_COMMITS
    };
    let count = tasks.iter().take(STATEMENT_RUNS).map(fits).take_while(|fits| *fits).count();
    count.max(1).min(tasks.len())
}

/// Sends a statement for all; and if another writer is in the way of one of them, a statement for each. Whether one is to be sent again
/// because others raced it.
async fn send<D: Dialect>(pool: &Arc<Pool<D>>, tasks: &mut [&mut Task<'_>], deadline: Instant) -> bool {
    match send_once(pool, tasks, deadline).await {
        Err(Fault::Stuck(_) | Fault::Raced(_)) if tasks.len() > 1 => {
            let alone: Vec<_> = tasks.iter_mut().map(|task| send_alone(pool, task, deadline)).collect();
            let raced = futures_util::stream::iter(alone).buffer_unordered(ALONE_AT_A_TIME);
            raced.collect::<Vec<bool>>().await.contains(&true)
        }
        Err(fault) => {
            tasks.iter_mut().map(|task| failed(task, fault.clone())).filter(|raced| *raced).count() > 0
        }
        Ok(()) => false,
    }
}

async fn send_alone<D: Dialect>(pool: &Arc<Pool<D>>, task: &mut Task<'_>, deadline: Instant) -> bool {
    match send_once(pool, &mut [task], deadline).await {
        Err(fault) => failed(task, fault),
        Ok(()) => false,
    }
}

/// Whether it was raced, and stays open.
fn failed(task: &mut Task<'_>, fault: Fault) -> bool {
    match fault {
        // What is in doubt is looked at, and sent again as it is; what is not, is told.
        Fault::Doubt(_) => task.is_doubtful = true,
        Fault::Raced(_) => return true,
        fault => task.fail(fault),
    }
    false
}

async fn send_once<D: Dialect>(
    pool: &Arc<Pool<D>>,
    tasks: &mut [&mut Task<'_>],
    deadline: Instant,
) -> Done<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    for place in D::add_alone(&mut session, tasks).await? {
        if let Some(task) = tasks.get_mut(place) {
            let count = task.piece().len();
            task.add(count);
        }
    }
    Ok(())
}

/// Looks at the slots of what is open, all in one look, and judges it.
async fn look<D: Dialect>(pool: &Arc<Pool<D>>, tasks: &mut [Task<'_>], deadline: Instant) {
    let mut open: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
    // What broke the answer may take a moment to pass, as a restart does: only a look can still decide what is in doubt.
    let patience = deadline.min(Instant::now() + PATIENCE);
    let found = loop {
        let found = match pool.session(Purpose::Writing, deadline).await {
            Ok(mut session) => slots(&mut session, &open).await,
            Err(fault) => Err(fault),
        };
        match found {
            Err(Fault::Before(_) | Fault::Raced(_))
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
    fn judge(&self, task: &Task<'_>) -> Done<Judged> {
        let rest =
            Run { log: task.run.log.clone(), previous: task.previous(), commits: task.rest().to_vec() };
        judge::judge(&rest, self.ends, |commit| {
            let found = self.filled.iter().find(|found| found.version == commit.version);
            Ok(found.map(|found| found.header == commit.header))
        })
    }
}

/// For each task its slots, `None` if there is no such log; or what is damaged there.
async fn slots<D: Dialect>(
    session: &mut Session<D>,
    tasks: &[&mut Task<'_>],
) -> Done<Vec<Done<Option<Slots>>>> {
    let found = D::slots(session, tasks).await?;
    let places: HashMap<&[u8], usize> =
        tasks.iter().enumerate().map(|(place, task)| (task.run.log.as_str().as_bytes(), place)).collect();
    let mut all: Vec<Done<Option<Slots>>> = tasks.iter().map(|_| Ok(None)).collect();
    for row in &found {
        let place = places.get(&row.bytes(0)?[..]).copied().unwrap_or(usize::MAX);
        let (Some(task), Some(slots)) = (tasks.get(place), all.get_mut(place)) else { continue };
        let log = &task.run.log;
        let read = || Ok((rows::ends(row, 1, log)?, rows::header(row, 6, log)?));
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
    Ok(all)
}

/// Makes the logs of the tasks that found none.
async fn add_logs<D: Dialect>(pool: &Arc<Pool<D>>, tasks: &mut [Task<'_>], deadline: Instant) {
    let new: Vec<LogId> =
        tasks.iter().filter(|task| task.is_open() && task.is_new).map(|task| task.run.log.clone()).collect();
    if new.is_empty() || D::ADDS_LOGS {
        return;
    }
    if let Err(fault) = D::make_logs(pool, &new, deadline).await {
        tasks
            .iter_mut()
            .filter(|task| task.is_open() && task.is_new)
            .for_each(|task| task.fail(fault.clone()));
    }
}

/// What was only seen is made durable, before anybody is told that it was won.
async fn acknowledge<D: Dialect>(pool: &Arc<Pool<D>>, tasks: &mut [Task<'_>], deadline: Instant) {
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

async fn all_or_none<D: Dialect>(
    pool: &Arc<Pool<D>>,
    mut tasks: Vec<Task<'_>>,
    deadline: Instant,
) -> Vec<Created> {
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        attempt += 1;
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
            Err(Fault::Raced(_)) if Instant::now() < deadline => {
                attempt -= 1;
                sleep(LOOK_EVERY.mul_f64(chance())).await;
            }
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
async fn send_together<D: Dialect>(
    pool: &Arc<Pool<D>>,
    tasks: &[&mut Task<'_>],
    deadline: Instant,
) -> Done<bool> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let mut left: Vec<Task<'_>> =
        tasks.iter().map(|task| Task { end: None, is_seen: false, is_doubtful: false, ..**task }).collect();
    while left.iter().any(Task::is_open) {
        let mut pending: Vec<&mut Task<'_>> = left.iter_mut().filter(|task| task.is_open()).collect();
        pending.truncate(full(&pending, pool.dialect.statement_bytes()));
        let added = D::add(&mut session, &pending).await?;
        if added.len() < pending.len() {
            session.roll_back().await;
            return Ok(false);
        }
        for task in pending {
            let count = task.piece().len();
            task.add(count);
            // Its log is there now, if only for this transaction.
            task.is_new = false;
        }
    }
    session.commit().await?;
    Ok(true)
}

/// Something between 0 and 1 that differs between writers.
fn chance() -> f64 {
    let hasher = std::hash::BuildHasher::build_hasher(&std::hash::RandomState::new());
    std::hash::Hasher::finish(&hasher) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use icecore_conformance::commits;

    use super::*;

    fn judged(is_doubtful: bool, here: usize, end: End) -> Created {
        let run = commits::run(&commits::log("s-1"), 3..=4, 0);
        let mut task = Task { is_doubtful, ..Task::new(&run, None, 32 << 20) };
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
        let large = |version| commits::commit(version, 0, commits::noise(15 << 20, version));
        let run = Run { log, previous: Hash::ZERO, commits: (1..=5).map(large).collect() };
        let mut task = Task::new(&run, None, 32 << 20);
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
