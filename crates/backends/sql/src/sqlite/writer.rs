//! The one writer of this process: a thread that takes what is waiting into a transaction, commits it, and answers.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use bytes::Bytes;
use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{
    BlobId, Created, Error, ErrorKind, Hash, LogId, Mode, Result, Run, StoredCommit, Swept, Version,
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::{Fault, at_commit};
use super::wire::{self, LogRow};
use super::{COMMIT_BYTES_MAX, Shared, config};

/// Told when the transaction is over: with `None` once it is durable, else with why it is not.
type Answer = Box<dyn FnOnce(Option<&Error>)>;

/// Does the work; whether what it wrote is to be kept, and the answer. Without a connection, only the error is answered.
type Work = Box<dyn FnOnce(Result<&Connection, &Error>) -> (bool, Answer) + Send>;

/// Work for the writer, and where its answer goes.
pub(super) struct Job {
    bytes: usize,
    run: Work,
}

impl Job {
    pub fn new<T: Send + 'static>(
        doing: &'static str,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        channel: oneshot::Sender<Result<T>>,
    ) -> Self {
        let run = move |connection: Result<&Connection, &Error>| -> (bool, Answer) {
            let done = match connection {
                Ok(connection) => work(connection).map_err(|fault| fault.before_writing(doing)),
                Err(error) => Err(error.clone()),
            };
            let is_kept = done.is_ok();
            let answer = move |failed: Option<&Error>| {
                let told = match failed {
                    Some(error) => done.and_then(|_| Err(error.clone())),
                    None => done,
                };
                // A caller that has gone wants no answer.
                let _ = channel.send(told);
            };
            (is_kept, Box::new(answer))
        };
        Self { bytes, run: Box::new(run) }
    }

    fn refuse(self, error: &Error) {
        let (_, answer) = (self.run)(Err(error));
        answer(None);
    }
}

pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Writer {
    pub fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self { connection, shared }
    }

    pub fn run(self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            self.transaction(first, jobs);
        }
    }

    fn transaction(&self, first: Job, jobs: &Receiver<Job>) {
        let deadline = Instant::now() + self.shared.settings.busy_timeout;
        let begun = config::patiently(deadline, || Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?));
        if let Err(fault) = begun {
            // Those that wait behind it would only wait as long again.
            let error = fault.before_writing("beginning a transaction");
            std::iter::once(first).chain(jobs.try_iter()).for_each(|job| job.refuse(&error));
            return;
        }
        let (mut answers, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(job) = next {
            bytes += job.bytes;
            let (answer, lost) = self.step(job);
            answers.push(answer);
            if let Some(error) = lost {
                answers.into_iter().for_each(|answer| answer(Some(&error)));
                return;
            }
            let is_full = bytes >= self.shared.settings.transaction_bytes_max;
            next = if is_full { None } else { jobs.try_recv().ok() };
        }
        let failed = self.connection.execute_batch("COMMIT").err().map(at_commit);
        if failed.is_some() {
            self.roll_back();
        } else {
            self.shared.changed();
        }
        answers.into_iter().for_each(|answer| answer(failed.as_ref()));
    }

    /// Does one job, which fails alone; the error if it took the whole transaction with it, as a full disk does.
    fn step(&self, job: Job) -> (Answer, Option<Error>) {
        let sql = |statement| self.connection.execute_batch(statement);
        let lost = |fault: rusqlite::Error| Fault::from(fault).before_writing("writing in a transaction");
        let begun = sql("SAVEPOINT job").map_err(lost);
        let (is_kept, answer) = (job.run)(begun.as_ref().map(|()| &self.connection));
        let ended = begun.and_then(|()| {
            let end = if is_kept { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
            sql(end).map_err(lost)
        });
        if ended.is_err() {
            self.roll_back();
        }
        (answer, ended.err())
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // If this fails too, the next `BEGIN` says so.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

/// What is to be done for one run.
struct Plan {
    row: Option<LogRow>,
    judged: Judged,
}

pub(super) fn create(connection: &Connection, runs: &[Run], mode: Mode) -> Result<Vec<Created>, Fault> {
    let mut plans = Vec::with_capacity(runs.len());
    for (run, invalid) in runs.iter().zip(judge::invalid_runs(runs, COMMIT_BYTES_MAX)) {
        plans.push(match invalid {
            Some(error) => Err(error),
            None => match plan(connection, run) {
                Err(Fault::Ours(error)) => Err(error),
                planned => Ok(planned?),
            },
        });
    }
    let is_all = plans.iter().all(|plan| plan.as_ref().is_ok_and(|plan| plan.judged.is_done()));
    if mode == Mode::AllOrNone && !is_all {
        let answers = runs.iter().zip(plans).map(|(run, plan)| match plan {
            Ok(plan) => plan.judged.created(run.commits.len()),
            Err(error) => Created::failed(error),
        });
        let answers: Vec<_> = answers.collect();
        return Ok(judge::none_of(answers));
    }
    runs.iter()
        .zip(plans)
        .map(|(run, plan)| {
            plan.map_or_else(|error| Ok(Created::failed(error)), |plan| apply(connection, run, plan))
        })
        .collect()
}

fn plan(connection: &Connection, run: &Run) -> Result<Plan, Fault> {
    let log = &run.log;
    if run.commits.last().is_some_and(|commit| wire::signed(commit.version).is_none()) {
        return Err(too_large(log).into());
    }
    let Some(row) = wire::find_log(connection, log)? else {
        let judged = judge::judge(run, Ends::default(), |_| Ok::<_, Fault>(None))?;
        return Ok(Plan { row: None, judged });
    };
    let head = wire::head(connection, log, row.id)?.map(|head| (head.version, Hash::of(&head.header)));
    let is_same = |commit: &StoredCommit| {
        let found = wire::header(connection, log, row.id, commit.version)?;
        Ok::<_, Fault>(found.map(|found| found.header == commit.header))
    };
    let judged = judge::judge(run, Ends { boundary: row.boundary, head }, is_same)?;
    Ok(Plan { row: Some(row), judged })
}

fn apply(connection: &Connection, run: &Run, plan: Plan) -> Result<Created, Fault> {
    let Plan { row, judged } = plan;
    if judged.is_done() && judged.here < run.commits.len() {
        let row = row.map_or_else(|| wire::add_log(connection, &run.log), Ok)?;
        for commit in &run.commits[judged.here..] {
            wire::add_commit(connection, row.id, commit)?;
        }
    }
    Ok(judged.created(run.commits.len()))
}

fn too_large(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, "writing to a store")
        .with("log", log)
        .with("version_max", i64::MAX)
        .advise("No log has so many commits")
}

pub(super) fn close(connection: &Connection, log: &LogId, through: Version) -> Result<(), Fault> {
    let row = wire::find_log(connection, log)?;
    let head = row.map(|row| wire::head(connection, log, row.id)).transpose()?.flatten();
    if head.is_some_and(|head| through >= head.version) {
        return Err(judge::head_stays(log, through).into());
    }
    if wire::signed(through).is_none() {
        return Err(too_large(log).into());
    }
    let row = row.map_or_else(|| wire::add_log(connection, log), Ok)?;
    if through > row.boundary {
        wire::set_boundary(connection, log, LogRow { boundary: through, ..row })?;
    }
    Ok(())
}

pub(super) fn sweep(connection: &Connection, log: &LogId) -> Result<Swept, Fault> {
    let Some(row) = wire::find_log(connection, log)? else {
        return Ok(Swept::default());
    };
    let (commits, bytes) = wire::sweep(connection, row)?;
    Ok(Swept { commits, bytes })
}

pub(super) fn drop_bodies(connection: &Connection, log: &LogId, versions: &[Version]) -> Result<(), Fault> {
    if let Some(row) = wire::find_log(connection, log)? {
        for version in versions.iter().filter_map(|version| wire::signed(*version)) {
            wire::drop_body(connection, row.id, version)?;
        }
    }
    Ok(())
}

pub(super) fn put_blob(connection: &Connection, blob: &BlobId, bytes: &Bytes) -> Result<bool, Fault> {
    let log = blob.log();
    let row = wire::find_log(connection, log)?.map_or_else(|| wire::add_log(connection, log), Ok)?;
    if wire::find_blob(connection, row.id, blob)?.is_some() {
        return Ok(false);
    }
    wire::add_blob(connection, row.id, blob.name(), bytes)?;
    Ok(true)
}

pub(super) fn delete_blob(connection: &Connection, blob: &BlobId) -> Result<(), Fault> {
    if let Some(row) = wire::find_log(connection, blob.log())?
        && let Some(found) = wire::find_blob(connection, row.id, blob)?
    {
        wire::delete_blob(connection, found.id)?;
    }
    Ok(())
}
