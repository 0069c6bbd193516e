//! The counters of one system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore_log::{Created, End, ErrorKind, Result};
use tokio::time::Instant;

use crate::operation::{Each, Operation};
use crate::retry;

use super::snapshot::{BackendSnapshot, OperationSnapshot};

/// The upper bounds of the buckets of a histogram, in microseconds, each included: what memory takes, and what a fail-over takes.
const BOUNDS_US: [u64; BUCKETS - 1] = [
    10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
    30_000_000,
];

/// How many buckets a histogram has; the last has no bound.
pub const BUCKETS: usize = 15;

/// The same bounds in seconds: 10 µs to 30 s, three to ten to thirty.
pub const BUCKET_BOUNDS: [f64; BUCKETS - 1] =
    [0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Failed(ErrorKind),
    /// Its caller left before it was answered.
    Cancelled,
}

impl Outcome {
    pub(super) fn of<T>(answer: &Result<T>) -> Self {
        answer.as_ref().map_or_else(|error| Self::Failed(error.kind()), |_| Self::Ok)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(kind) => kind.name(),
            Self::Cancelled => "cancelled",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Cancelled].into_iter().chain(ErrorKind::ALL.map(Self::Failed))
    }

    fn place(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Cancelled => 1,
            Self::Failed(kind) => 2 + place(kind),
        }
    }
}

/// What a run of commits came to.
const ENDS: [&str; 4] = ["won", "taken", "closed", "gap"];

fn place(kind: ErrorKind) -> usize {
    ErrorKind::ALL.iter().position(|found| *found == kind).unwrap_or(0)
}

/// The numbers of one system.
#[derive(Debug)]
pub(super) struct Series {
    system: &'static str,
    #[cfg(feature = "opentelemetry")]
    durations: Arc<super::opentelemetry::Durations>,
    operations: Each<Counters>,
    /// As [`ENDS`], then by kind of error.
    runs: [AtomicU64; ENDS.len() + ErrorKind::ALL.len()],
    commits: AtomicU64,
    pub(super) retries: Arc<retry::Counts>,
}

/// The numbers of one operation.
#[derive(Debug, Default)]
struct Counters {
    begun: AtomicU64,
    ended: [AtomicU64; 2 + ErrorKind::ALL.len()],
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Series {
    pub(super) fn new(
        system: &'static str,
        #[cfg(feature = "opentelemetry")] durations: Arc<super::opentelemetry::Durations>,
    ) -> Self {
        Self {
            system,
            #[cfg(feature = "opentelemetry")]
            durations,
            operations: Each::default(),
            runs: Default::default(),
            commits: AtomicU64::default(),
            retries: Arc::default(),
        }
    }

    pub(super) fn begin(&self, operation: Operation) -> Timed<'_> {
        let counters = &self.operations[operation];
        add(&counters.begun, 1);
        Timed { series: self, operation, counters, began: Instant::now(), is_answered: false }
    }

    pub(super) fn received(&self, operation: Operation, bytes: u64) {
        add(&self.operations[operation].received, bytes);
    }

    /// Counts what each run came to. The call is as well as its worst run: unknown before any other error.
    pub(super) fn count_runs(&self, answers: &[Created]) -> Outcome {
        let mut outcome = Outcome::Ok;
        let mut won = 0;
        for answer in answers {
            won += answer.won as u64;
            let place = match &answer.end {
                End::Done => 0,
                End::Taken => 1,
                End::Closed(_) => 2,
                End::Gap => 3,
                End::Failed(error) => {
                    if outcome == Outcome::Ok || error.kind() == ErrorKind::Unknown {
                        outcome = Outcome::Failed(error.kind());
                    }
                    ENDS.len() + place(error.kind())
                }
            };
            add(&self.runs[place], 1);
        }
        add(&self.commits, won);
        outcome
    }

    pub(super) fn snapshot(&self) -> BackendSnapshot {
        let names = ENDS.into_iter().chain(ErrorKind::ALL.map(ErrorKind::name));
        let operations = Operation::ALL.into_iter();
        BackendSnapshot {
            system: self.system,
            operations: operations.map(|operation| self.operation(operation)).collect(),
            runs: names.zip(&self.runs).map(|(name, count)| (name, read(count))).collect(),
            commits: read(&self.commits),
        }
    }

    fn operation(&self, operation: Operation) -> OperationSnapshot {
        let counters = &self.operations[operation];
        // The ends first: a call that begins meanwhile is under way, and none has ended that did not begin.
        let outcomes = Outcome::all().map(|outcome| (outcome.name(), read(&counters.ended[outcome.place()])));
        let outcomes: Vec<_> = outcomes.collect();
        let ended: u64 = outcomes.iter().map(|(_, count)| count).sum();
        OperationSnapshot {
            operation,
            outcomes,
            in_flight: read(&counters.begun).saturating_sub(ended),
            sent_bytes: read(&counters.sent),
            received_bytes: read(&counters.received),
            buckets: std::array::from_fn(|bucket| read(&counters.buckets[bucket])),
            time: Duration::from_nanos(read(&counters.nanoseconds)),
            retried: self.retries.retried(operation),
        }
    }
}

/// A call under way. Dropped before it has ended, its caller has left.
pub(super) struct Timed<'a> {
    #[cfg_attr(
        not(feature = "opentelemetry"),
        expect(dead_code, reason = "OpenTelemetry's histogram hangs on it")
    )]
    series: &'a Series,
    #[cfg_attr(not(feature = "opentelemetry"), expect(dead_code, reason = "it is a label of that"))]
    operation: Operation,
    counters: &'a Counters,
    began: Instant,
    is_answered: bool,
}

impl Timed<'_> {
    pub(super) fn sent(&self, bytes: u64) {
        add(&self.counters.sent, bytes);
    }

    /// Counts the answer.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.is_answered = true;
        let took = self.began.elapsed();
        let micros = u64::try_from(took.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        add(&self.counters.buckets[BOUNDS_US.partition_point(|bound| *bound < micros)], 1);
        add(&self.counters.nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        add(&self.counters.ended[outcome.place()], 1);
        #[cfg(feature = "opentelemetry")]
        self.series.durations.record(self.series.system, self.operation, outcome, took);
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            add(&self.counters.ended[Outcome::Cancelled.place()], 1);
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_the_same_in_both_units_and_rise() {
        for (seconds, micros) in BUCKET_BOUNDS.into_iter().zip(BOUNDS_US) {
            assert_eq!((seconds * 1e6).round() as u64, micros);
        }
        assert!(BOUNDS_US.is_sorted());
    }

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let places: Vec<usize> = Outcome::all().map(Outcome::place).collect();

        assert_eq!(places, (0..places.len()).collect::<Vec<_>>());
    }
}
