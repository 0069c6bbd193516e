//! Creating commits: a run is a script, or several if it is long, and runs are sent together.

use std::collections::BTreeMap;

use bytes::Bytes;
use icecore_log::judge;
use icecore_log::{Created, End, Error, ErrorKind, Hash, LogId, Mode, Run, StoredCommit, Version};
use redis::Value;
use tokio::time::Instant;

use crate::answer;
use crate::call::{Answer, Call};
use crate::fault::Fault;
use crate::keys::{self, Bucket, Content, VERSION_MAX};
use crate::parts::{self, PART_BYTES};
use crate::script;
use crate::store::{COMMIT_BYTES_MAX, Redis};

const DOING: &str = "creating a commit";
/// The most commits of a script: each is four values of the one command that adds them, and a script's stack has 8,000.
const SCRIPT_COMMITS: usize = 1_000;
/// A script ends with the commit that reaches so many bytes, and what is sent together with the script that does.
const SCRIPT_BYTES: usize = 4 << 20;
const SENT_BYTES: usize = 16 << 20;
/// How often parts that were lost before they had their place are sent again.
const STAGED_MAX: usize = 3;

/// A run, and how far it is.
struct Task<'a> {
    run: &'a Run,
    won: usize,
    staged: usize,
    /// It was sent together with others, and not added: the long script says why.
    is_alone: bool,
    /// What was sent of it before may have been carried out, or be so yet.
    in_doubt: bool,
    end: Option<End>,
}

/// As much of a run as one script takes, and the names of its large bodies.
struct Piece<'a> {
    commits: &'a [StoredCommit],
    nonces: Vec<String>,
}

impl<'a> Task<'a> {
    fn new(run: &'a Run, invalid: Option<Error>) -> Self {
        let too_high = || {
            let last = run.commits.last().map(|commit| commit.version);
            last.filter(|version| version.0 >= VERSION_MAX).map(|_| too_high(&run.log))
        };
        Self {
            run,
            won: 0,
            staged: 0,
            is_alone: false,
            in_doubt: false,
            end: invalid.or_else(too_high).map(End::Failed),
        }
    }

    fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// What is not there yet, as far as one script goes.
    fn rest(&self) -> &'a [StoredCommit] {
        let rest = &self.run.commits[self.won..];
        let mut bytes = 0;
        let full = rest.iter().take(SCRIPT_COMMITS).position(|commit| {
            bytes += here(commit);
            bytes >= SCRIPT_BYTES
        });
        &rest[..full.map_or(rest.len().min(SCRIPT_COMMITS), |at| at + 1)]
    }

    /// The commit that this is all about, if it is one behind another and its body is here: most are.
    fn only(&self) -> Option<(&'a StoredCommit, &'a Bytes)> {
        let [commit] = self.rest() else { return None };
        let body = commit.body.as_ref().filter(|body| body.len() <= PART_BYTES)?;
        let is_only = !self.is_alone && self.run.commits.len() == 1 && commit.version > Version::FIRST;
        is_only.then_some((commit, body))
    }

    fn bytes(&self) -> usize {
        self.rest().iter().map(here).sum()
    }

    fn previous(&self) -> Hash {
        self.won.checked_sub(1).map_or(self.run.previous, |last| self.run.commits[last].hash())
    }

    async fn piece(&self, inner: &Redis, deadline: Instant) -> Result<Piece<'a>, Error> {
        let commits = self.rest();
        let mut nonces = Vec::new();
        for body in commits.iter().filter_map(large) {
            let nonce = parts::nonce();
            parts::stage(inner, Bucket::of(&self.run.log), &nonce, body, DOING, deadline).await?;
            nonces.push(nonce);
        }
        Ok(Piece { commits, nonces })
    }

    fn call(&self, inner: &Redis, piece: &Piece<'_>) -> Call {
        let log = &self.run.log;
        let bucket = Bucket::of(log);
        let (first, last) = (piece.commits.first(), piece.commits.last());
        let mut keys = vec![inner.keys.log(log), inner.keys.names(bucket)];
        for nonce in &piece.nonces {
            keys.extend([inner.keys.staged(bucket, nonce), inner.keys.large(bucket, nonce)]);
        }
        let mut arguments = vec![
            first.map_or(0, |commit| commit.version.0).to_string().into(),
            Bytes::copy_from_slice(&self.previous().0),
            piece.commits.len().to_string().into(),
            Bytes::copy_from_slice(&last.map_or(Hash::ZERO, StoredCommit::hash).0),
            Bytes::copy_from_slice(log.as_str().as_bytes()),
        ];
        let mut nonces = piece.nonces.iter();
        for commit in piece.commits {
            let version = commit.version;
            arguments.push(keys::value(Content::Header, log, version, &commit.header));
            match (&commit.body, large(commit).and_then(|body| Some((body, nonces.next()?)))) {
                (_, Some((body, nonce))) => {
                    let named = format!("{nonce}:{}:{}", body.len(), parts::fields(body.len()));
                    arguments.extend([Bytes::from("k"), named.into()]);
                }
                (Some(body), None) => {
                    arguments.extend([Bytes::from("b"), keys::value(Content::Body, log, version, body)]);
                }
                (None, None) => arguments.extend([Bytes::new(), Bytes::new()]),
            }
        }
        Call::script(bucket, &script::CREATE, keys, arguments)
    }

    fn fail(&mut self, error: Error) {
        self.end = Some(End::Failed(error.with("log", &self.run.log)));
    }

    /// Takes over what a script said of a piece of so many commits.
    fn answered(&mut self, Answer { value, in_doubt }: Answer, count: usize) {
        let in_doubt = in_doubt || self.in_doubt;
        let said = value.and_then(|value| said(value).ok_or_else(Fault::answer));
        let (here, end, boundary) = match said {
            Ok(said) => said,
            Err(fault) => return self.fail(fault.writing(DOING, in_doubt)),
        };
        self.won += here.min(count);
        match &end[..] {
            "done" if self.won == self.run.commits.len() => self.end = Some(End::Done),
            "done" => {}
            "taken" => self.end = Some(End::Taken),
            // What was sent before may have landed and been trimmed since, or land behind a predecessor that is on its way.
            "closed" | "gap" if in_doubt => {
                let unknown = Error::new(ErrorKind::Unknown, DOING).with("found", end);
                self.fail(unknown.advise("An earlier answer was lost: send the same again, or look"));
            }
            "closed" => self.end = Some(End::Closed(boundary)),
            "gap" => self.end = Some(End::Gap),
            "unstaged" if self.staged < STAGED_MAX => self.staged += 1,
            "unstaged" => {
                let lost = Error::new(ErrorKind::Unavailable, DOING);
                self.fail(lost.advise("Parts of a body were lost before they were committed: retry"));
            }
            _ => {
                let lost = self.run.commits.get(self.won).map_or(Version::ZERO, |commit| commit.version);
                let damaged = Error::new(ErrorKind::Corrupt, DOING).with("version", lost);
                self.fail(damaged.advise("A commit at or below the head is missing: restore it from a copy"));
            }
        }
    }
}

/// Bytes that are in the script's own arguments.
fn here(commit: &StoredCommit) -> usize {
    commit.header.len() + if large(commit).is_some() { 0 } else { commit.body.as_ref().map_or(0, Bytes::len) }
}

fn large(commit: &StoredCommit) -> Option<&Bytes> {
    commit.body.as_ref().filter(|body| body.len() > PART_BYTES)
}

pub(crate) fn too_high(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, DOING)
        .with("log", log)
        .with("version_max", VERSION_MAX)
        .advise("The server's scripts count no further")
}

/// How many commits are there, the word for the end, and the boundary if that is what it is about.
fn said(value: Value) -> Option<(usize, String, Version)> {
    let mut parts = answer::list(value)?.into_iter();
    let here = usize::try_from(answer::number(parts.next()?)?).ok()?;
    let end = answer::text(parts.next()?)?;
    let boundary = parts.next().map_or(Some(0), answer::number)?;
    Some((here, end, Version(boundary)))
}

pub(crate) async fn create(inner: &Redis, runs: &[Run], mode: Mode, deadline: Instant) -> Vec<Created> {
    if mode == Mode::AllOrNone {
        let refused = Error::new(ErrorKind::Refused, DOING)
            .advise("A script decides for one log: nothing is all or none across logs");
        return runs.iter().map(|_| Created::failed(refused.clone())).collect();
    }
    let invalid = judge::invalid_runs(runs, COMMIT_BYTES_MAX);
    let mut tasks: Vec<Task<'_>> =
        runs.iter().zip(invalid).map(|(run, invalid)| Task::new(run, invalid)).collect();
    while tasks.iter().any(Task::is_open) {
        let mut open: Vec<&mut Task<'_>> = tasks.iter_mut().filter(|task| task.is_open()).collect();
        while !open.is_empty() {
            let rest = open.split_off(full(&open));
            send(inner, open, deadline).await;
            open = rest;
        }
    }
    let created = |task: Task<'_>| Created { won: task.won, end: task.end.unwrap_or(End::Done) };
    tasks.into_iter().map(created).collect()
}

/// How many of these are sent together.
fn full(tasks: &[&mut Task<'_>]) -> usize {
    let mut bytes = 0;
    let last = tasks.iter().position(|task| {
        bytes += task.bytes();
        bytes >= SENT_BYTES
    });
    last.map_or(tasks.len(), |at| at + 1)
}

async fn send(inner: &Redis, tasks: Vec<&mut Task<'_>>, deadline: Instant) {
    let (mut sent, mut calls) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
    let (together, alone) = together(inner, tasks);
    for tasks in together {
        calls.push(call_together(inner, &tasks));
        sent.push(Sent::Together(tasks));
    }
    for task in alone {
        match task.piece(inner, deadline).await {
            Ok(piece) => {
                calls.push(task.call(inner, &piece));
                sent.push(Sent::Alone(task, piece.commits.len()));
            }
            Err(error) => task.fail(error),
        }
    }
    let answers = inner.write(&calls, deadline).await;
    for (sent, answer) in sent.into_iter().zip(answers) {
        match sent {
            Sent::Alone(task, count) => task.answered(answer, count),
            Sent::Together(tasks) => answered_together(inner, tasks, answer),
        }
    }
}

/// What a script was sent for.
enum Sent<'t, 'a> {
    Alone(&'t mut Task<'a>, usize),
    Together(Vec<&'t mut Task<'a>>),
}

/// Those that one script takes together, which in a cluster must be of one bucket; and the others.
fn together<'t, 'a>(
    inner: &Redis,
    tasks: Vec<&'t mut Task<'a>>,
) -> (Vec<Vec<&'t mut Task<'a>>>, Vec<&'t mut Task<'a>>) {
    let (mut groups, mut alone) = (BTreeMap::<Option<Bucket>, Vec<_>>::new(), Vec::new());
    let is_apart = inner.is_apart();
    for task in tasks {
        if task.only().is_some() {
            groups.entry(is_apart.then(|| Bucket::of(&task.run.log))).or_default().push(task);
        } else {
            alone.push(task);
        }
    }
    let mut together = Vec::new();
    for mut group in groups.into_values() {
        while group.len() > 1 {
            let mut bytes = 0;
            let full = group.iter().take(SCRIPT_COMMITS).position(|task| {
                bytes += task.bytes();
                bytes >= SCRIPT_BYTES
            });
            let rest = group.split_off(full.map_or(group.len().min(SCRIPT_COMMITS), |at| at + 1));
            together.push(std::mem::replace(&mut group, rest));
        }
        alone.extend(group);
    }
    (together, alone)
}

fn call_together(inner: &Redis, tasks: &[&mut Task<'_>]) -> Call {
    let (mut keys, mut arguments) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(6 * tasks.len()));
    for task in tasks {
        let log = &task.run.log;
        let Some((commit, body)) = task.only() else { continue };
        keys.push(inner.keys.log(log));
        arguments.extend([
            (commit.version.0 - 1).to_string().into(),
            Bytes::copy_from_slice(&task.run.previous.0),
            commit.version.0.to_string().into(),
            Bytes::copy_from_slice(&commit.hash().0),
            keys::value(Content::Header, log, commit.version, &commit.header),
            keys::value(Content::Body, log, commit.version, body),
        ]);
    }
    let bucket = tasks.first().map_or(Bucket::STORE, |task| Bucket::of(&task.run.log));
    Call::script(bucket, &script::CREATE_TOGETHER, keys, arguments)
}

/// Takes over what was said of several: who was not added is sent by itself, and so is everybody where the server took none of them.
fn answered_together(inner: &Redis, tasks: Vec<&mut Task<'_>>, Answer { value, in_doubt }: Answer) {
    let left = match value.and_then(|value| places(value, tasks.len()).ok_or_else(Fault::answer)) {
        Ok(left) => left,
        Err(fault @ Fault::Refused(_)) => {
            if fault.is_across() {
                inner.keep_apart();
            }
            (0..tasks.len()).collect()
        }
        Err(fault) => {
            for task in tasks {
                let in_doubt = in_doubt || task.in_doubt;
                task.fail(fault.clone().writing(DOING, in_doubt));
            }
            return;
        }
    };
    for (place, task) in tasks.into_iter().enumerate() {
        if left.contains(&place) {
            task.is_alone = true;
            task.in_doubt |= in_doubt;
        } else {
            task.won = 1;
            task.end = Some(End::Done);
        }
    }
}

/// The places of those that were not added, from 1 in the server's scripts and from 0 here.
fn places(value: Value, count: usize) -> Option<Vec<usize>> {
    let place = |value| usize::try_from(answer::number(value)?).ok()?.checked_sub(1).filter(|at| *at < count);
    answer::list(value)?.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use icecore_conformance::commits;

    use super::*;

    fn answered(word: &str, here: i64, in_doubt: bool) -> Created {
        let run = commits::run(&commits::log("s-1"), 3..=4, 0);
        let mut task = Task::new(&run, None);
        let word = Value::BulkString(word.as_bytes().to_vec());
        let value = Ok(Value::Array(vec![Value::Int(here), word, Value::Int(7)]));
        task.answered(Answer { value, in_doubt }, 2);
        Created { won: task.won, end: task.end.unwrap_or(End::Done) }
    }

    /// What was sent may still arrive, after its predecessor, or have been there and closed since.
    #[test]
    fn absent_decides_nothing_in_doubt() {
        for word in ["gap", "closed"] {
            let created = answered(word, 0, true);
            assert!(
                matches!(&created.end, End::Failed(error) if error.kind() == ErrorKind::Unknown),
                "{created:?}"
            );
        }
        assert!(matches!(answered("gap", 0, false).end, End::Gap));
        assert!(matches!(answered("closed", 0, false).end, End::Closed(Version(7))));
        assert!(matches!(answered("taken", 0, true).end, End::Taken));
        assert!(answered("done", 2, true).is_done());
    }

    #[test]
    fn a_long_run_is_sent_in_pieces_that_a_script_takes() {
        let log = commits::log("s-1");
        let body = |version: u64| commits::noise(SCRIPT_BYTES / 10, version);
        let commits: Vec<_> = (1..=25).map(|version| commits::commit(version, 0, body(version))).collect();
        let run = Run { log, previous: Hash::ZERO, commits };
        let mut task = Task::new(&run, None);
        let mut pieces = Vec::new();
        while task.won < run.commits.len() {
            pieces.push(task.rest().len());
            task.won += task.rest().len();
        }
        assert_eq!(pieces, [10, 10, 5]);
    }
}
