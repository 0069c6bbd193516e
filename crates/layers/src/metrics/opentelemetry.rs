//! The numbers in OpenTelemetry: counters that are looked at when they are collected, and a histogram that is written as calls end.
//!
//! Only the API is asked for. Where it all goes is up to the SDK that the program sets up.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};

use crate::operation::Operation;

use super::series::{BUCKET_BOUNDS, Outcome};
use super::snapshot::{BackendSnapshot, OperationSnapshot};
use super::{Inner, Meters};

/// The histogram of durations, once somebody has asked for it.
#[derive(Debug, Default)]
pub(super) struct Durations(OnceLock<Histogram<f64>>);

impl Durations {
    pub(super) fn record(
        &self,
        system: &'static str,
        operation: Operation,
        outcome: Outcome,
        took: Duration,
    ) {
        if let Some(histogram) = self.0.get() {
            let [backend, operation] = labels(system, operation);
            histogram
                .record(took.as_secs_f64(), &[backend, operation, KeyValue::new("outcome", outcome.name())]);
        }
    }
}

impl Meters {
    /// Gives the numbers to a meter of OpenTelemetry's, for as long as these meters live. The first one that is given gets the histogram.
    ///
    /// The names are those of Prometheus' text as OpenTelemetry writes them: `icecore.backend.requests`, and so on.
    pub fn observe(&self, meter: &Meter) {
        let observe = |name, unit, description, look: Look| {
            let meters = Arc::downgrade(&self.0);
            meter
                .u64_observable_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |observer| each(&meters, observer, look))
                .build();
        };
        observe("icecore.backend.requests", "{request}", "Calls of a backend, by how they ended", requests);
        observe("icecore.backend.sent", "By", "Bytes of commits and blobs handed to a backend", sent);
        observe(
            "icecore.backend.received",
            "By",
            "Bytes of commits and blobs that a backend answered",
            received,
        );
        observe("icecore.backend.runs", "{run}", "Runs of commits, by what became of them", runs);
        observe("icecore.backend.commits", "{commit}", "Commits that were created", commits);
        observe("icecore.backend.retries", "{try}", "Tries of calls of a backend after the first", retries);
        self.0.durations.0.get_or_init(|| {
            meter
                .f64_histogram("icecore.backend.request.duration")
                .with_unit("s")
                .with_description("How long calls of a backend took that were answered")
                .with_boundaries(BUCKET_BOUNDS.to_vec())
                .build()
        });
    }
}

/// What one counter shows of a system.
type Look = fn(&BackendSnapshot, &dyn AsyncInstrument<u64>);

fn each(meters: &Weak<Inner>, observer: &dyn AsyncInstrument<u64>, look: Look) {
    if let Some(inner) = meters.upgrade() {
        Meters(inner).snapshot().backends.iter().for_each(|backend| look(backend, observer));
    }
}

fn requests(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    for numbers in &backend.operations {
        for (outcome, count) in numbers.outcomes.iter().filter(|(_, count)| *count > 0) {
            let [system, operation] = labels(backend.system, numbers.operation);
            observer.observe(*count, &[system, operation, KeyValue::new("outcome", *outcome)]);
        }
    }
}

fn sent(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    of_operations(backend, observer, |numbers| numbers.sent_bytes);
}

fn received(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    of_operations(backend, observer, |numbers| numbers.received_bytes);
}

fn retries(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    of_operations(backend, observer, |numbers| numbers.retried.retries);
}

fn of_operations(
    backend: &BackendSnapshot,
    observer: &dyn AsyncInstrument<u64>,
    number: fn(&OperationSnapshot) -> u64,
) {
    for numbers in backend.operations.iter().filter(|numbers| number(numbers) > 0) {
        observer.observe(number(numbers), &labels(backend.system, numbers.operation));
    }
}

fn runs(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    for (outcome, count) in backend.runs.iter().filter(|(_, count)| *count > 0) {
        observer.observe(*count, &[system(backend), KeyValue::new("outcome", *outcome)]);
    }
}

fn commits(backend: &BackendSnapshot, observer: &dyn AsyncInstrument<u64>) {
    observer.observe(backend.commits, &[system(backend)]);
}

fn system(backend: &BackendSnapshot) -> KeyValue {
    KeyValue::new("backend", backend.system)
}

fn labels(system: &'static str, operation: Operation) -> [KeyValue; 2] {
    [KeyValue::new("backend", system), KeyValue::new("operation", operation.name())]
}
