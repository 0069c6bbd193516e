//! Runs of nodes, each from its start to its end, and whatever else a flow has recorded of a trace.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::moments::{Moment, Moments, plain, text};
use super::{Line, Timeline, planner};

/// One try of a node at one message.
#[derive(Debug)]
struct Run {
    first: Moment,
    /// Whether its start is recorded; else it is known only by its end.
    has_start: bool,
    attempt: u64,
    took_ms: Option<f64>,
    outcome: Outcome,
    /// How long the node waited before it tried again.
    retry_after_ms: Option<f64>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Success,
    Error,
    Timeout,
    /// Given up: its last try ended with an error.
    Failed,
    Cancelled,
    /// It runs yet, or its process died.
    Open,
}

#[derive(Debug)]
enum Item {
    Run(Box<Run>),
    Event(Box<Moment>),
}

pub fn timeline(mut read: Moments) -> Timeline {
    let items = items(read.take("trace"));
    let planner = planner::lines(read.take("planner"));
    let summary = summary(&items, planner.len());
    let mut lines: Vec<_> = items.into_iter().map(Item::into_line).collect();
    lines.extend(planner);
    Timeline { lines, summary, damage: read.damage }
}

/// Pairs each start with its end. A node does one message at a time, so the end is that of the run which is open.
fn items(mut moments: Vec<Moment>) -> Vec<Item> {
    // As Penguiflow itself reads a history: by time, and what has the same time in the order of the log.
    moments.sort_by_key(|moment| moment.at);
    let mut items: Vec<Item> = Vec::new();
    let mut last_of: HashMap<String, usize> = HashMap::new();
    for moment in moments {
        let node = moment.node_id().unwrap_or_else(|| moment.node()).to_owned();
        let last = last_of.get(&node).copied().and_then(|place| match items.get_mut(place) {
            Some(Item::Run(run)) => Some(run.as_mut()),
            _ => None,
        });
        let open = match last {
            Some(run) if run.outcome == Outcome::Open => Some(run),
            Some(run) => {
                if run.goes_on(&moment) {
                    continue;
                }
                None
            }
            None => None,
        };
        let outcome = match moment.kind() {
            "node_start" => Outcome::Open,
            "node_success" => Outcome::Success,
            "node_error" => Outcome::Error,
            "node_timeout" => Outcome::Timeout,
            "node_failed" => Outcome::Failed,
            "node_cancelled" | "node_trace_cancelled" if open.is_some() => Outcome::Cancelled,
            _ => {
                items.push(Item::Event(Box::new(moment)));
                continue;
            }
        };
        match open {
            Some(run) if outcome != Outcome::Open => run.end(outcome, &moment),
            _ => {
                last_of.insert(node, items.len());
                items.push(Item::Run(Box::new(Run::new(outcome, moment))));
            }
        }
    }
    items
}

impl Run {
    fn new(outcome: Outcome, moment: Moment) -> Self {
        let attempt = moment.payload().get("attempt").and_then(Value::as_u64).unwrap_or(0);
        let has_start = outcome == Outcome::Open;
        let mut run = Self {
            first: moment,
            has_start,
            attempt,
            took_ms: None,
            outcome,
            retry_after_ms: None,
            code: None,
            message: None,
        };
        if !has_start {
            let end = run.first.clone();
            run.end(outcome, &end);
        }
        run
    }

    fn end(&mut self, outcome: Outcome, moment: &Moment) {
        self.outcome = outcome;
        let passed = || self.has_start.then(|| nanos_as_ms(moment.at.0.saturating_sub(self.first.at.0)));
        self.took_ms = moment.number("latency_ms").or_else(passed);
        self.explain(moment);
    }

    fn explain(&mut self, moment: &Moment) {
        let payload = moment.payload();
        let error = payload.get("flow_error");
        let said =
            |name: &str| error.and_then(|error| error.get(name)).filter(|value| !value.is_null()).map(plain);
        self.code = said("code").or(self.code.take());
        self.message = said("message")
            .or_else(|| text(payload.get("exception")).map(str::to_owned))
            .or(self.message.take());
    }

    /// Whether this only says more of a run that has ended with an error: that it is tried again, or given up.
    fn goes_on(&mut self, moment: &Moment) -> bool {
        if !matches!(self.outcome, Outcome::Error | Outcome::Timeout) {
            return false;
        }
        match moment.kind() {
            "node_retry" if self.retry_after_ms.is_none() => {
                self.retry_after_ms = Some(moment.number("sleep_s").unwrap_or(0.0) * 1e3);
            }
            "node_failed" => {
                self.outcome = Outcome::Failed;
                self.explain(moment);
            }
            _ => return false,
        }
        true
    }

    fn says(&self) -> String {
        let mut says = match self.outcome {
            Outcome::Success => "done",
            Outcome::Error => "error",
            Outcome::Timeout => "timed out",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Open => "no end recorded",
        }
        .to_owned();
        if self.attempt > 0 {
            says = format!("{says} at try {}", self.attempt.saturating_add(1));
        }
        if let Some(ms) = self.retry_after_ms {
            says = format!("{says}, again after {}", super::table::duration(ms));
        }
        let why = [self.code.as_deref(), self.message.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        if why.is_empty() { says } else { format!("{says}: {why}") }
    }

    fn json(&self) -> Value {
        let mut line = self.first.json("run");
        line.insert("node".to_owned(), self.first.node().into());
        line.insert("node_id".to_owned(), self.first.node_id().into());
        line.insert("attempt".to_owned(), self.attempt.into());
        let outcome = match self.outcome {
            Outcome::Success => "success",
            Outcome::Error => "error",
            Outcome::Timeout => "timeout",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Open => "open",
        };
        line.insert("outcome".to_owned(), outcome.into());
        line.insert("took_ms".to_owned(), self.took_ms.map_or(Value::Null, Value::from));
        if let Some(ms) = self.retry_after_ms {
            line.insert("retry_after_ms".to_owned(), ms.into());
        }
        if self.code.is_some() || self.message.is_some() {
            line.insert("error".to_owned(), json!({ "code": self.code, "message": self.message }));
        }
        line.into()
    }
}

impl Item {
    fn into_line(self) -> Line {
        match self {
            Self::Run(run) => Line {
                at: run.first.at,
                took_ms: run.took_ms,
                what: run.first.node().to_owned(),
                says: run.says(),
                json: run.json(),
                folds: None,
            },
            Self::Event(moment) => {
                let mut line = moment.json("event");
                line.insert("kind".to_owned(), moment.kind().into());
                line.insert("node".to_owned(), moment.node().into());
                line.insert("payload".to_owned(), Value::Object(moment.payload().clone()));
                Line {
                    at: moment.at,
                    took_ms: moment.number("latency_ms").filter(|ms| *ms > 0.0),
                    what: moment.node().to_owned(),
                    says: format!("{} {}", moment.kind(), moment.more()).trim_end().to_owned(),
                    json: line.into(),
                    folds: (moment.kind() == "remote_stream_event").then(|| moment.kind().to_owned()),
                }
            }
        }
    }
}

fn nanos_as_ms(nanos: i64) -> f64 {
    // Far below 2^53 for anything that a person waits for.
    nanos as f64 / 1e6
}

fn summary(items: &[Item], planner: usize) -> String {
    let runs: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Run(run) => Some(run),
            Item::Event(_) => None,
        })
        .collect();
    let with = |outcome| runs.iter().filter(|run| run.outcome == outcome).count();
    let retried = runs.iter().filter(|run| run.retry_after_ms.is_some()).count();
    let counts = [
        (retried, "tried again"),
        (with(Outcome::Failed), "failed"),
        (with(Outcome::Cancelled), "cancelled"),
        (with(Outcome::Open), "without an end"),
        (items.len() - runs.len(), "other events"),
        (planner, "planner events"),
    ];
    let runs = match runs.len() {
        0 => "No run of a node".to_owned(),
        1 => "1 run of a node".to_owned(),
        count => format!("{count} runs of nodes"),
    };
    let more = counts.iter().filter(|(count, _)| *count > 0);
    let more: String = more.map(|(count, what)| format!(", {count} {what}")).collect();
    format!("{runs}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore::{Event, LogId, RecordedEvent, Timestamp, Version};

    /// Events in steps of a millisecond.
    fn moments(events: &[(&str, &str, Value)]) -> Vec<Moment> {
        let log = LogId::new("acme", "trace", "t").ok();
        let moment = |(n, (kind, node, payload)): (usize, &(&str, &str, Value))| {
            let at = Timestamp(1_000_000 * n as i64);
            let data = json!({ "node_id": format!("id of {node}"), "payload": payload }).to_string();
            let event = Event { node: (*node).to_owned(), ..Event::new(*kind, data) };
            let recorded = RecordedEvent { version: Version(n as u64 + 1), index: 0, id: None, at, event };
            log.as_ref().map(|log| Moment::new(log, recorded))
        };
        events.iter().enumerate().filter_map(moment).collect()
    }

    fn says(events: &[(&str, &str, Value)]) -> Vec<String> {
        let lines = items(moments(events)).into_iter().map(Item::into_line);
        let took = |ms: Option<f64>| ms.map(|ms| format!(" ({ms})")).unwrap_or_default();
        lines.map(|line| format!("{}{}: {}", line.what, took(line.took_ms), line.says)).collect()
    }

    #[test]
    fn a_run_goes_from_its_start_to_its_end_among_those_of_other_nodes() {
        let found = says(&[
            ("node_start", "a", json!({"attempt": 0, "latency_ms": 0.0})),
            ("node_start", "b", json!({"attempt": 0, "latency_ms": 0.0})),
            ("node_success", "b", json!({"attempt": 0, "latency_ms": 0.75})),
            ("node_success", "a", json!({"attempt": 0})),
        ]);

        assert_eq!(found, ["a (3): done", "b (0.75): done"]);
    }

    #[test]
    fn each_try_is_a_line_and_the_last_says_why_it_was_given_up() {
        let found = says(&[
            ("node_start", "a", json!({"attempt": 0})),
            ("node_error", "a", json!({"attempt": 0, "latency_ms": 2, "exception": "OSError('x')"})),
            ("node_retry", "a", json!({"attempt": 1, "sleep_s": 0.5, "exception": "OSError('x')"})),
            ("node_start", "a", json!({"attempt": 1})),
            ("node_timeout", "a", json!({"attempt": 1, "latency_ms": 3, "exception": "TimeoutError()"})),
            ("node_failed", "a", json!({"flow_error": {"code": "NODE_TIMEOUT", "message": "too slow"}})),
            ("node_start", "a", json!({"attempt": 0})),
        ]);

        let wanted = [
            "a (2): error, again after 500 ms: OSError('x')",
            "a (3): failed at try 2: NODE_TIMEOUT too slow",
            "a: no end recorded",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_cancelled_ends_and_a_new_start_leaves_what_a_dead_process_ran_without_an_end() {
        let found = says(&[
            ("trace_cancel_start", "OpenSea", json!({"pending": 2, "q_depth_in": 1})),
            ("node_start", "a", json!({})),
            ("node_trace_cancelled", "a", json!({"latency_ms": null})),
            ("node_trace_cancelled", "a", json!({})),
            ("node_start", "b", json!({})),
            ("node_start", "b", json!({})),
            ("node_success", "b", json!({"latency_ms": 1})),
        ]);

        let wanted = [
            "OpenSea: trace_cancel_start pending=2",
            "a (1): cancelled",
            "a: node_trace_cancelled",
            "b: no end recorded",
            "b (1): done",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn ends_without_a_start_and_unknown_kinds_and_odd_payloads_are_shown() {
        let found = says(&[
            ("node_success", "a", json!({"latency_ms": "fast", "attempt": -1})),
            ("node_failed", "a", json!({"flow_error": "broken"})),
            ("node_retry", "a", json!({})),
            ("brand_new", "a", json!({"x": [1, 2], "y": null, "z": "text"})),
            ("remote_call_error", "", json!([1])),
        ]);

        assert_eq!(
            found,
            [
                "a: done",
                "a: failed",
                "a: node_retry",
                "a: brand_new x=[1,2] z=text",
                ": remote_call_error payload=[1]"
            ]
        );
    }
}
