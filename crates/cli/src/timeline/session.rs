//! A session: its tasks, their updates, what steered them, and the traces that were saved.

use std::collections::{HashMap, HashSet};

use icecore::Timestamp;
use serde_json::{Map, Value};

use super::moments::{Moment, Moments, pairs, plain, text};
use super::{Line, Timeline};

pub fn timeline(mut read: Moments) -> Timeline {
    let kinds = ["tasks", "updates", "steering", "traces"].map(|kind| read.take(kind));
    let [tasks, updates, steering, traces] = &kinds;
    let counts = [(updates.len(), "updates"), (steering.len(), "steering events")];
    let mut lines = task_lines(tasks);
    let task_count = tasks.iter().filter_map(document_key).collect::<HashSet<_>>().len();
    let trace_count = traces.iter().map(saved_trace).collect::<HashSet<_>>().len();
    let counts = [(task_count, "tasks")].into_iter().chain(counts).chain([(trace_count, "traces")]);
    let counted: Vec<_> =
        counts.filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what)).collect();
    lines.extend(updates.iter().map(update_line));
    lines.extend(steering.iter().map(steering_line));
    lines.extend(traces.iter().map(trace_line));
    Timeline { lines, summary: counted.join(", "), damage: read.damage }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {}", what.trim_end_matches('s')) } else { format!("{count} {what}") }
}

/// The document that an event changes.
fn document_key(moment: &Moment) -> Option<&str> {
    let is_change = moment.recorded.event.kind.starts_with("icecore.document.");
    is_change.then(|| moment.recorded.event.meta.get("key").map(String::as_str)).flatten()
}

/// A line for each save of a task: what it is now, and for a new status what it was.
fn task_lines(moments: &[Moment]) -> Vec<Line> {
    let mut tasks: HashMap<String, Map<String, Value>> = HashMap::new();
    let mut lines = Vec::new();
    for moment in moments {
        let Some(id) = document_key(moment) else { continue };
        let before = tasks.get(id).and_then(|task| status(task)).map(str::to_owned);
        let task = tasks.entry(id.to_owned()).or_default();
        match moment.recorded.event.kind.as_str() {
            "icecore.document.put" => *task = moment.data.clone(),
            "icecore.document.patch" => task.extend(moment.data.clone()),
            _ => task.clear(),
        }
        let now = status(task).unwrap_or(if task.is_empty() { "deleted" } else { "saved" });
        let changed = before.filter(|before| before != now).map(|before| format!("{before} -> "));
        let why = ["error", "description"].iter().find_map(|name| text(task.get(*name)));
        let kind = text(task.get("task_type")).map(|kind| format!(" ({})", kind.to_lowercase()));
        let progress = task.get("progress").filter(|value| !value.is_null());
        let parts = [why.map(str::to_owned), progress.map(|value| format!("progress={value}"))];
        let said = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let says = format!("task {}{now}{}", changed.unwrap_or_default(), kind.unwrap_or_default());
        let mut json = moment.json("task");
        // The document's key is its hash, if the id is an odd one.
        let id = text(task.get("task_id")).unwrap_or(id);
        json.insert("task".to_owned(), id.into());
        json.insert("status".to_owned(), status(task).into());
        json.insert("data".to_owned(), Value::Object(moment.data.clone()));
        lines.push(line(moment, id, &says, &said, json));
    }
    lines
}

fn status(task: &Map<String, Value>) -> Option<&str> {
    text(task.get("status"))
}

fn update_line(moment: &Moment) -> Line {
    let kind = text(moment.data.get("update_type")).unwrap_or_else(|| moment.kind());
    let steps = ["step_index", "total_steps"].map(|name| moment.data.get(name).and_then(Value::as_u64));
    let step = match steps {
        [Some(step), Some(total)] => format!(" {}/{total}", step.saturating_add(1)),
        [Some(step), None] => format!(" {}", step.saturating_add(1)),
        _ => String::new(),
    };
    let content = match moment.data.get("content") {
        Some(Value::Object(content)) => pairs(content.iter()),
        Some(Value::Null) | None => String::new(),
        Some(content) => plain(content),
    };
    said_line(moment, "update", kind, &format!("{kind}{step}"), &content)
}

fn steering_line(moment: &Moment) -> Line {
    let kind = text(moment.data.get("event_type")).unwrap_or_else(|| moment.kind());
    let source = text(moment.data.get("source")).unwrap_or("somebody");
    let payload = match moment.data.get("payload") {
        Some(Value::Object(payload)) => pairs(payload.iter()),
        _ => String::new(),
    };
    said_line(moment, "steering", kind, &format!("steering {kind} by {source}"), &payload)
}

fn said_line(moment: &Moment, what: &str, kind: &str, says: &str, said: &str) -> Line {
    let task = text(moment.data.get("task_id")).unwrap_or(&moment.recorded.event.correlation);
    let mut json = moment.json(what);
    json.insert("task".to_owned(), task.into());
    json.insert("kind".to_owned(), kind.into());
    json.insert("data".to_owned(), Value::Object(moment.data.clone()));
    let line = line(moment, task, says, said, json);
    let created = text(moment.data.get("created_at")).and_then(|at| crate::time::parse(at).ok());
    at(line, created)
}

/// The id of a trace; in the data only, if it is none that an event can carry.
fn saved_trace(moment: &Moment) -> String {
    let event = &moment.recorded.event;
    let carried = Some(&event.trace).filter(|trace| !trace.is_empty()).cloned();
    carried.or_else(|| serde_json::from_slice(&event.data).ok()).unwrap_or_default()
}

fn trace_line(moment: &Moment) -> Line {
    let trace = saved_trace(moment);
    let mut json = moment.json("trace");
    json.insert("trace".to_owned(), trace.as_str().into());
    line(moment, "", "trajectory saved", &format!("of trace {trace}"), json)
}

fn line(moment: &Moment, what: &str, says: &str, said: &str, json: Map<String, Value>) -> Line {
    let says = if said.is_empty() { says.to_owned() } else { format!("{says}: {said}") };
    Line { at: moment.at, took_ms: None, what: what.to_owned(), says, json: json.into(), folds: None }
}

/// At the time that its own content says, if it says one.
fn at(mut line: Line, at: Option<Timestamp>) -> Line {
    if let Some(at) = at {
        line.at = at;
        line.json["at"] = crate::time::show(at).into();
    }
    line
}
