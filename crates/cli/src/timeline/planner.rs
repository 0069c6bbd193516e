//! What a planner did. It saves its events when a run is over, with times of a clock of its own.

use icecore::Timestamp;
use serde_json::Value;

use super::Line;
use super::moments::{Moment, pairs, text};

/// What follows each other within so long was saved by one run, unless it is known to have ended before.
const GAP_NS: i64 = 1_000_000_000;
/// Clocks that count from a machine's start do not come this far; clocks of the wall are behind it since 2001.
const WALL_SECONDS_MIN: f64 = 1e9;

/// What a line says anyway, or nobody wants to read in a line.
const USUAL: [&str; 12] = [
    "ts",
    "kind",
    "event_type",
    "trace_id",
    "trajectory_step",
    "node_name",
    "latency_ms",
    "token_estimate",
    "thought",
    "extra",
    "action_seq",
    "tool_call_id",
];

pub fn lines(mut moments: Vec<Moment>) -> Vec<Line> {
    let estimated = set_times(&mut moments);
    moments.iter().zip(estimated).map(|(moment, is_estimated)| line(moment, is_estimated)).collect()
}

fn kind(moment: &Moment) -> &str {
    text(moment.data.get("event_type")).unwrap_or_else(|| moment.kind())
}

/// Puts each event at its time. Which of them are estimated: those whose clock does not say what time it is.
///
/// An event is saved, and says when, after it happened; the last of a run right after. So the smallest difference between the two
/// clocks, among the events of a run, is what the planner's clock is behind.
fn set_times(moments: &mut [Moment]) -> Vec<bool> {
    let counted: Vec<_> = moments
        .iter()
        .map(|moment| moment.data.get("ts").and_then(Value::as_f64).filter(|ts| ts.is_finite()))
        .collect();
    let saved: Vec<_> = moments.iter().map(|moment| moment.recorded.at.0).collect();
    let mut estimated = vec![false; moments.len()];
    let mut behind: Option<i64> = None;
    for place in (0..moments.len()).rev() {
        let Some(seconds) = counted[place] else { continue };
        // Beyond what a time can be, it is cut to the last that there is.
        let nanos = (seconds * 1e9) as i64;
        if seconds >= WALL_SECONDS_MIN {
            moments[place].at = Timestamp(nanos);
            continue;
        }
        let next = moments.get(place + 1);
        let ends_run = matches!(kind(&moments[place]), "finish" | "pause")
            || next.is_some_and(|next| kind(next) == "resume");
        let is_apart = saved.get(place + 1).is_none_or(|next| next.saturating_sub(saved[place]) > GAP_NS);
        let goes_back = counted.get(place + 1).copied().flatten().is_none_or(|next| next < seconds);
        if ends_run || is_apart || goes_back {
            behind = None;
        }
        // Nor did it happen behind what was saved after it: a run goes on where the one before stopped.
        let latest = next.map_or(saved[place], |next| next.at.0.min(saved[place]));
        let own = latest.saturating_sub(nanos);
        let smallest = behind.map_or(own, |behind| behind.min(own));
        behind = Some(smallest);
        estimated[place] = true;
        moments[place].at = Timestamp(nanos.saturating_add(smallest));
    }
    estimated
}

fn line(moment: &Moment, is_estimated: bool) -> Line {
    let kind = kind(moment);
    let mut says = kind.to_owned();
    if let Some(step) = moment.data.get("trajectory_step").and_then(Value::as_u64) {
        says = format!("step {step} {says}");
    }
    let thought = text(moment.data.get("thought")).map(|thought| format!("\"{thought}\""));
    let more = pairs(moment.data.iter().filter(|(name, _)| !USUAL.contains(&name.as_str())));
    let extra = match moment.data.get("extra") {
        Some(Value::Object(extra)) => pairs(extra.iter().filter(|(name, _)| !USUAL.contains(&name.as_str()))),
        _ => String::new(),
    };
    let parts = [moment.node().to_owned(), thought.unwrap_or_default(), more, extra];
    let said = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let mut json = moment.json("planner");
    json.insert("kind".to_owned(), kind.into());
    if is_estimated {
        json.insert("at_estimated".to_owned(), true.into());
    }
    json.insert("data".to_owned(), Value::Object(moment.data.clone()));
    Line {
        at: moment.at,
        took_ms: moment.number("latency_ms").filter(|ms| *ms > 0.0),
        what: "planner".to_owned(),
        folds: kind.ends_with("_chunk").then(|| says.clone()),
        says: if said.is_empty() { says } else { format!("{says}: {said}") },
        json: json.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore::{Event, LogId, RecordedEvent, Version};
    use serde_json::json;

    /// Events of a kind, with the planner's clock and when they were saved, in seconds.
    fn at(events: &[(&str, f64, i64)]) -> Vec<(i64, bool)> {
        let log = LogId::new("acme", "planner", "t").ok();
        let moment = |(n, (kind, ts, saved)): (usize, &(&str, f64, i64))| {
            let at = Timestamp(saved * 1_000_000_000);
            let event = Event::new(*kind, json!({ "ts": ts }).to_string());
            let recorded = RecordedEvent { version: Version(n as u64 + 1), index: 0, id: None, at, event };
            log.as_ref().map(|log| Moment::new(log, recorded))
        };
        let mut moments: Vec<_> = events.iter().enumerate().filter_map(moment).collect();
        let estimated = set_times(&mut moments);
        moments.iter().map(|moment| moment.at.0 / 1_000_000_000).zip(estimated).collect()
    }

    #[test]
    fn a_clock_of_the_wall_is_believed() {
        assert_eq!(at(&[("step_start", 1.5e9, 1_500_000_009)]), [(1_500_000_000, false)]);
    }

    #[test]
    fn a_clock_that_counts_from_a_start_is_set_by_the_end_of_its_run() {
        // Seven seconds on the planner's clock, and at once a resume on a machine that was up longer.
        let found = at(&[
            ("step_start", 50.0, 1_000_010),
            ("tool_call_result", 57.0, 1_000_010),
            ("resume", 90_000.0, 1_000_010),
            ("finish", 90_004.0, 1_000_010),
        ]);

        assert_eq!(found, [(999_999, true), (1_000_006, true), (1_000_006, true), (1_000_010, true)]);
    }

    #[test]
    fn nothing_that_a_clock_says_is_too_odd() {
        assert_eq!(at(&[("a", -5.0, 10), ("b", 1e300, 10), ("c", 3.0, 10)]).len(), 3);
    }
}
