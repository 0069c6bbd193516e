//! Prometheus' text format 0.0.4.
//!
//! Source: "Exposition formats", <https://prometheus.io/docs/instrumenting/exposition_formats/>. It is lines of a name, labels and a
//! number: less to write than to depend on. Clients for it keep their own counters, and render OpenMetrics instead.

use std::fmt::Write;

use super::series::BUCKET_BOUNDS;
use super::snapshot::{BackendSnapshot, OperationSnapshot};
use super::{Meters, Snapshot};

impl Meters {
    /// The numbers as Prometheus scrapes them, to be served as [`PROMETHEUS_CONTENT_TYPE`](Self::PROMETHEUS_CONTENT_TYPE).
    ///
    /// Operations that were never called are left out, and so are outcomes that never came, but `ok`.
    pub fn prometheus(&self) -> String {
        let mut page = Text::default();
        page.snapshot(&self.snapshot());
        page.0
    }

    /// The media type of [`prometheus`](Self::prometheus).
    pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
}

#[derive(Default)]
struct Text(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    fn snapshot(&mut self, snapshot: &Snapshot) {
        let all: Vec<Of> = snapshot.backends.iter().flat_map(Of::all).collect();
        self.requests(&all);
        self.durations(&all);
        self.bytes(&all);
        self.runs(&snapshot.backends);
        self.retries(&all);
    }

    fn requests(&mut self, all: &[Of]) {
        let name = "icecore_backend_requests_total";
        self.family(name, "counter", "Calls of a backend, by how they ended.");
        for of in all {
            for (outcome, count) in &of.numbers.outcomes {
                if *count > 0 || *outcome == "ok" {
                    self.line(name, &of.labels_and(("outcome", outcome)), count);
                }
            }
        }
        let name = "icecore_backend_requests_in_flight";
        self.family(name, "gauge", "Calls of a backend that have not ended.");
        all.iter().for_each(|of| self.line(name, &of.labels(), of.numbers.in_flight));
    }

    fn durations(&mut self, all: &[Of]) {
        let name = "icecore_backend_request_duration_seconds";
        self.family(name, "histogram", "How long calls of a backend took that were answered.");
        for of in all {
            let (mut below, bucket) = (0, format!("{name}_bucket"));
            let bounds = BUCKET_BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(of.numbers.buckets) {
                below += count;
                self.line(&bucket, &of.labels_and(("le", &bound)), below);
            }
            self.line(&format!("{name}_sum"), &of.labels(), of.numbers.time.as_secs_f64());
            self.line(&format!("{name}_count"), &of.labels(), below);
        }
    }

    fn bytes(&mut self, all: &[Of]) {
        for (name, help, bytes) in [
            (
                "icecore_backend_sent_bytes_total",
                "Bytes of commits and blobs handed to a backend.",
                (|of| of.sent_bytes) as fn(&OperationSnapshot) -> u64,
            ),
            (
                "icecore_backend_received_bytes_total",
                "Bytes of commits and blobs that a backend answered.",
                |of| of.received_bytes,
            ),
        ] {
            self.family(name, "counter", help);
            for of in all.iter().filter(|of| bytes(of.numbers) > 0) {
                self.line(name, &of.labels(), bytes(of.numbers));
            }
        }
    }

    fn runs(&mut self, backends: &[BackendSnapshot]) {
        let name = "icecore_backend_runs_total";
        self.family(
            name,
            "counter",
            "Runs of commits of one log that were to be created, by what became of them.",
        );
        for BackendSnapshot { system, runs, .. } in backends {
            for (outcome, count) in runs.iter().filter(|(outcome, count)| *count > 0 || *outcome == "won") {
                self.line(name, &[("backend", system), ("outcome", outcome)], count);
            }
        }
        let name = "icecore_backend_commits_total";
        self.family(name, "counter", "Commits that were created.");
        for BackendSnapshot { system, commits, .. } in backends {
            self.line(name, &[("backend", system)], commits);
        }
    }

    fn retries(&mut self, all: &[Of]) {
        let name = "icecore_backend_retries_total";
        self.family(name, "counter", "Tries of calls of a backend after the first.");
        all.iter().for_each(|of| self.line(name, &of.labels(), of.numbers.retried.retries));
        let name = "icecore_backend_retried_requests_total";
        self.family(
            name,
            "counter",
            "Calls of a backend that were tried again or not any more, by how that ended.",
        );
        for of in all {
            let retried = of.numbers.retried;
            for (outcome, count) in [
                ("recovered", retried.recovered),
                ("exhausted", retried.exhausted),
                ("over_budget", retried.over_budget),
            ] {
                if count > 0 {
                    self.line(name, &of.labels_and(("outcome", outcome)), count);
                }
            }
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// One operation of one system.
struct Of<'a> {
    system: &'a str,
    numbers: &'a OperationSnapshot,
}

impl<'a> Of<'a> {
    fn all(backend: &'a BackendSnapshot) -> impl Iterator<Item = Self> {
        let used = backend.operations.iter().filter(|numbers| numbers.is_used());
        used.map(|numbers| Of { system: backend.system, numbers })
    }

    fn labels(&self) -> [(&'a str, &'a str); 2] {
        [("backend", self.system), ("operation", self.numbers.operation.name())]
    }

    fn labels_and<'b>(&self, further: (&'b str, &'b str)) -> [(&'b str, &'b str); 3]
    where
        'a: 'b,
    {
        let [backend, operation] = self.labels();
        [backend, operation, further]
    }
}

/// The value of a label as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn the_value_of_a_label_cannot_end_it() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
