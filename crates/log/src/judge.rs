//! What a run of commits comes to: numbers 1, 4 and 5 of the contract as one decision, for backends that decide in one place.

use std::collections::HashMap;

use crate::backend::{Created, End, Run};
use crate::commit::{Hash, StoredCommit, Version};
use crate::error::{Error, ErrorKind};
use crate::name::LogId;

/// Where a log begins and ends at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Everything at or below it is closed.
    pub boundary: Version,
    /// The last commit and its hash; `None` without commits.
    pub head: Option<(Version, Hash)>,
}

/// What a run comes to.
#[derive(Debug, Clone)]
pub struct Judged {
    /// So many of its first commits are there already. If it ends well, the others are to be added.
    pub here: usize,
    /// Why it stops there; [`End::Done`] if the others may be added.
    pub end: End,
}

impl Judged {
    /// Whether the run is won once what is not there yet is added.
    pub fn is_done(&self) -> bool {
        matches!(self.end, End::Done)
    }

    /// The answer for a run of `count` commits, once the others are added.
    pub fn created(self, count: usize) -> Created {
        Created { won: if self.is_done() { count } else { self.here }, end: self.end }
    }
}

/// Judges a valid run. Nothing is changed, so all runs of a call can be judged before one is applied.
///
/// `is_same` says of a commit at or below the head whether its slot holds the same header, and `None` if the slot is empty.
///
/// # Errors
/// Those of `is_same`.
pub fn judge<E>(
    run: &Run,
    ends: Ends,
    mut is_same: impl FnMut(&StoredCommit) -> Result<Option<bool>, E>,
) -> Result<Judged, E> {
    let head = ends.head.map_or(Version::ZERO, |(version, _)| version);
    for (here, commit) in run.commits.iter().enumerate() {
        let stopped = |end| Ok(Judged { here, end });
        if commit.version <= ends.boundary {
            return stopped(End::Closed(ends.boundary));
        }
        let found = if commit.version <= head { is_same(commit)? } else { None };
        match found {
            Some(true) => {}
            Some(false) => return stopped(End::Taken),
            // What follows this commit follows by the run's own hashes. If others of the run came before it, the last of
            // them is the head.
            None if here > 0 || may_follow(ends, run.previous, commit.version) => return stopped(End::Done),
            None => return stopped(End::Gap),
        }
    }
    Ok(Judged { here: run.commits.len(), end: End::Done })
}

fn may_follow(ends: Ends, previous: Hash, version: Version) -> bool {
    match ends.head {
        Some((head, hash)) => version == head.next() && previous == hash,
        // Nothing is left to compare with: the log is new, or a trimmed one is being copied.
        None => version == ends.boundary.next(),
    }
}

/// The answers of a call that is all or none, if at least one of its runs would not be won.
pub fn none_of(answers: impl IntoIterator<Item = Created>) -> Vec<Created> {
    let none =
        |answer: Created| Created { won: 0, end: if answer.is_done() { End::Taken } else { answer.end } };
    answers.into_iter().map(none).collect()
}

/// What is wrong with each run before anything is done. Where a log has two runs, neither is right: which of them the
/// caller meant to be first is not for a backend to guess.
pub fn invalid_runs(runs: &[Run], commit_bytes_max: usize) -> Vec<Option<Error>> {
    let mut count = HashMap::with_capacity(runs.len());
    for run in runs {
        *count.entry(&run.log).or_insert(0) += 1;
    }
    let check = |run: &Run| {
        if count.get(&run.log).is_some_and(|count| *count > 1) {
            let twice = Error::new(ErrorKind::Invalid, "creating a commit").with("log", &run.log);
            return Some(twice.advise("A log has one run in a call"));
        }
        run.validate(commit_bytes_max).err()
    };
    runs.iter().map(check).collect()
}

/// The error of a close that reaches the head.
pub fn head_stays(log: &LogId, through: Version) -> Error {
    Error::new(ErrorKind::Refused, "closing a log")
        .with("log", log)
        .with("through", through)
        .advise("The head is never closed: append something, or close a lower version")
}
