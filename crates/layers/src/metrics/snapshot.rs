//! The numbers as plain values.

use std::time::Duration;

use crate::operation::Operation;
use crate::retry::Retried;

use super::series::BUCKETS;

/// What was counted so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// One for each system, in order of their names.
    pub backends: Vec<BackendSnapshot>,
}

/// What was counted of one system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSnapshot {
    /// As in its capabilities, such as `file`.
    pub system: &'static str,
    /// One for each operation, in the order of the trait.
    pub operations: Vec<OperationSnapshot>,
    /// What became of the runs of commits that `create` was given: `won`, `taken`, `closed`, `gap`, or the kind of an error.
    pub runs: Vec<(&'static str, u64)>,
    /// Commits that were won.
    pub commits: u64,
}

/// What was counted of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationSnapshot {
    /// Which one.
    pub operation: Operation,
    /// How many calls ended so: `ok`, `cancelled` if the caller left before, or the kind of the error.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Calls that were begun and have not ended.
    pub in_flight: u64,
    /// Bytes of headers, bodies and blobs that were handed over, whatever became of them.
    pub sent_bytes: u64,
    /// Those that were answered.
    pub received_bytes: u64,
    /// Calls that were answered, by how long they took; the bounds are [`BUCKET_BOUNDS`](super::BUCKET_BOUNDS), and the last has none.
    pub buckets: [u64; BUCKETS],
    /// How long they took together.
    pub time: Duration,
    /// What a [`Retry`](crate::Retry) below tried again.
    pub retried: Retried,
}

impl Snapshot {
    /// What was counted of one operation of one system; `None` if there is no such system.
    pub fn of(&self, system: &str, operation: Operation) -> Option<&OperationSnapshot> {
        self.system(system)?.operations.iter().find(|found| found.operation == operation)
    }

    /// What was counted of one system.
    pub fn system(&self, system: &str) -> Option<&BackendSnapshot> {
        self.backends.iter().find(|backend| backend.system == system)
    }
}

impl BackendSnapshot {
    /// How many runs ended so.
    pub fn runs(&self, end: &str) -> u64 {
        find(&self.runs, end)
    }
}

impl OperationSnapshot {
    /// How many calls ended so.
    pub fn outcome(&self, outcome: &str) -> u64 {
        find(&self.outcomes, outcome)
    }

    /// How many calls were answered.
    pub fn answered(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Whether it was ever called, or tried again.
    pub(super) fn is_used(&self) -> bool {
        self.in_flight > 0
            || self.outcomes.iter().any(|(_, count)| *count > 0)
            || self.retried != Retried::default()
    }
}

fn find(counts: &[(&'static str, u64)], name: &str) -> u64 {
    counts.iter().find(|(found, _)| *found == name).map_or(0, |(_, count)| *count)
}
