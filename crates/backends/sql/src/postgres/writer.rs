//! Creates, closes, sweeps and blobs: what is sent, what is done when it is in doubt, and when it is answered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{
    BlobId, Created, End, Error, ErrorKind, Hash, LogId, Mode, Run, StoredCommit, Swept, Version,
};
use sqlx::query;
use tokio::time::{Instant, sleep, timeout_at};

use super::COMMIT_BYTES_MAX;
use super::fault::{Fault, Stage};
use super::pool::{Pool, Purpose, Session, Statement};
use super::wire::{self, PART_BYTES};

type Result<T> = std::result::Result<T, Fault>;

const CREATING: &str = "creating a commit";
/// A statement ends with the commit that reaches so many bytes.
const STATEMENT_BYTES: usize = 32 << 20;
/// How often what could not be decided is looked at again. Each time, another writer rolled back, or a connection broke.
const ATTEMPTS: usize = 8;
/// How many logs of a statement that was stuck are sent at a time.
const ALONE_AT_A_TIME: usize = 4;
/// How often what others hold is asked for again.
const ASK_EVERY: Duration = Duration::from_millis(5);

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
    let last = tasks.iter().position(|task| {
        bytes += task.piece().iter().map(StoredCommit::len).sum::<usize>();
        bytes >= STATEMENT_BYTES
    });
    last.map_or(tasks.len(), |at| at + 1)
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
    let found = match pool.session(Purpose::Writing, deadline).await {
        Ok(mut session) => slots(&mut session, &open).await,
        Err(fault) => Err(fault),
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

/// Makes logs that are not there. They last as soon as something is committed after them; until then nobody misses them.
async fn make_logs(pool: &Arc<Pool>, logs: &[LogId], deadline: Instant) -> Result<()> {
    let names: Vec<&[u8]> = logs.iter().map(|log| log.as_str().as_bytes()).collect();
    let crcs: Vec<i64> = logs.iter().map(|log| wire::log_crc(log, Version::ZERO)).collect();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    session.execute("SET LOCAL synchronous_commit = off").await?;
    session.within(query(wire::LOCK_IDS)).await?;
    // A statement of its own: it sees what was committed before the lock was given.
    session.within(query(wire::ADD_LOGS).bind(names).bind(crcs)).await?;
    // Whether it was committed is found out by the statement that needs the logs.
    session.commit().await.map_err(|fault| match fault {
        Fault::Doubt(said) => Fault::Before(said),
        fault => fault,
    })
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

/// Everything that can be seen now is durable when this returns.
pub(super) async fn make_durable(pool: &Arc<Pool>, deadline: Instant) -> Result<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.alone(query(wire::MAKE_DURABLE)).await?;
    Ok(())
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

fn too_large(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, "writing to a store")
        .with("log", log)
        .with("version_max", i64::MAX)
        .advise("No log has so many commits")
}

pub(super) async fn close(pool: &Arc<Pool>, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
    let name = log.as_str().as_bytes();
    let crc = wire::log_crc(log, through);
    let signed = wire::signed(through);
    if let Some(boundary) = signed {
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        if !session.alone(query(wire::CLOSE).bind(name).bind(boundary).bind(crc)).await?.is_empty() {
            return Ok(());
        }
    }
    loop {
        let head = {
            let mut session = pool.session(Purpose::Writing, deadline).await?;
            let rows = session.look(query(wire::HEADS).bind(vec![name])).await?;
            let Some(row) = rows.first() else {
                if signed.is_none() {
                    return Err(too_large(log).into());
                }
                drop(session);
                make_logs(pool, std::slice::from_ref(log), deadline).await?;
                continue;
            };
            let head = wire::header(row, 3, log)?;
            if head.as_ref().is_some_and(|head| through >= head.version) {
                return Err(judge::head_stays(log, through).into());
            }
            let Some(boundary) = signed else { return Err(too_large(log).into()) };
            if wire::boundary(row, 1, log)? >= through {
                drop(session);
                // It was raised before, by somebody who may not have been told yet.
                return make_durable(pool, deadline).await;
            }
            (head, boundary)
        };
        let (head, boundary) = head;
        let closed = if head.is_some() {
            let mut session = pool.session(Purpose::Writing, deadline).await?;
            session
                .alone(query(wire::CLOSE).bind(name).bind(boundary).bind(crc))
                .await
                .map(|rows| !rows.is_empty())
        } else {
            close_empty(pool, name, boundary, crc, deadline).await
        };
        match closed {
            Ok(true) => return Ok(()),
            // Something was created or closed meanwhile, or somebody is in the way.
            Ok(false) => {}
            Err(Fault::Stuck(_)) if Instant::now() < deadline => {}
            Err(fault) => return Err(fault),
        }
        pause(deadline).await?;
    }
}

/// Closes a log without commits. There is no commit above the boundary that a create would have to find its slot taken by,
/// so creates that have not seen the boundary must be over, and none may begin.
async fn close_empty(
    pool: &Arc<Pool>,
    name: &[u8],
    boundary: i64,
    crc: i64,
    deadline: Instant,
) -> Result<bool> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    session.execute(wire::LOCK_COMMITS).await?;
    let rows = session.within(query(wire::CLOSE_EMPTY).bind(name).bind(boundary).bind(crc)).await?;
    session.commit().await?;
    Ok(!rows.is_empty())
}

async fn pause(deadline: Instant) -> Result<()> {
    timeout_at(deadline, sleep(ASK_EVERY)).await.map_err(|_| Fault::late(Stage::Before))
}

pub(super) async fn sweep(pool: &Arc<Pool>, log: &LogId, deadline: Instant) -> Result<Swept> {
    let mut swept = Swept::default();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let rows = session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await?;
    let Some(row) = rows.first() else { return Ok(swept) };
    let id: i64 = wire::get(row, 0)?;
    let boundary = wire::boundary(row, 1, log)?.0.cast_signed();
    if !wire::get::<bool>(row, 3)? {
        return Ok(swept);
    }
    wait_for_writers(&mut session, deadline).await?;
    loop {
        // In steps, each with its own time, so that others get their turn in between.
        session.renew();
        let rows = session.alone(query(wire::SWEEP).bind(id).bind(boundary)).await?;
        let step: (i64, i64) = match rows.first() {
            Some(row) => (wire::get(row, 0)?, wire::get(row, 1)?),
            None => (0, 0),
        };
        if step.0 == 0 {
            return Ok(swept);
        }
        swept.commits += step.0.cast_unsigned();
        swept.bytes += step.1.cast_unsigned();
    }
}

/// A create that began before the boundary rose goes on with what it saw then, however long it is stuck. While the slots are
/// there it finds them taken; so they are deleted only when every statement that may be such a one is over.
async fn wait_for_writers(session: &mut Session, deadline: Instant) -> Result<()> {
    let mut begun: Option<HashSet<String>> = None;
    loop {
        let rows = session.look(query(wire::WRITERS)).await?;
        let now: HashSet<String> = rows.iter().map(|row| wire::get(row, 0)).collect::<Result<_>>()?;
        let left: HashSet<String> = match begun {
            Some(begun) => begun.intersection(&now).cloned().collect(),
            None => now,
        };
        if left.is_empty() {
            return Ok(());
        }
        begun = Some(left);
        if Instant::now() + ASK_EVERY >= deadline {
            let error = Error::new(ErrorKind::Unavailable, "sweeping a log");
            return Err(error
                .advise("A writer that began before the log was closed has not ended yet: sweep again later")
                .into());
        }
        sleep(ASK_EVERY).await;
    }
}

pub(super) async fn drop_bodies(
    pool: &Arc<Pool>,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Result<()> {
    let versions: Vec<i64> = versions.iter().filter_map(|version| wire::signed(*version)).collect();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.alone(query(wire::DROP_BODIES).bind(log.as_str().as_bytes()).bind(versions)).await?;
    Ok(())
}

pub(super) async fn put_blob(
    pool: &Arc<Pool>,
    blob: &BlobId,
    content: &Bytes,
    deadline: Instant,
) -> Result<bool> {
    make_logs_if_absent(pool, blob.log(), deadline).await?;
    let bytes = content.len() as u64;
    let mut parts = (0_u64..).zip(content.chunks(PART_BYTES));
    let (_, first) = parts.next().unwrap_or((0, &[]));
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let statement = query(wire::PUT_BLOB)
        .bind(blob.log().as_str().as_bytes())
        .bind(blob.name().as_bytes())
        .bind(bytes.cast_signed())
        .bind(wire::part_crc(blob, 0, bytes, first))
        .bind(first);
    let rows = session.within(statement).await?;
    let Some(row) = rows.first() else {
        session.roll_back().await;
        drop(session);
        // Somebody else's, who may not have been told yet.
        make_durable(pool, deadline).await?;
        return Ok(false);
    };
    let id: i64 = wire::get(row, 0)?;
    for (part, content) in parts {
        // Each part may take as long as a call.
        session.renew();
        let statement = query(wire::PUT_PART)
            .bind(id)
            .bind(part.cast_signed())
            .bind(blob.name().as_bytes())
            .bind(bytes.cast_signed())
            .bind(wire::part_crc(blob, part, bytes, content))
            .bind(content);
        session.within(statement).await?;
    }
    session.commit().await?;
    Ok(true)
}

async fn make_logs_if_absent(pool: &Arc<Pool>, log: &LogId, deadline: Instant) -> Result<()> {
    let is_there = {
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        !session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await?.is_empty()
    };
    if is_there { Ok(()) } else { make_logs(pool, std::slice::from_ref(log), deadline).await }
}

pub(super) async fn delete_blob(pool: &Arc<Pool>, blob: &BlobId, deadline: Instant) -> Result<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let statement = query(wire::DELETE_BLOB)
        .bind(blob.log().as_str().as_bytes())
        .bind(blob.name().as_bytes())
        .bind(PART_BYTES as i64);
    session.alone(statement).await?;
    Ok(())
}
