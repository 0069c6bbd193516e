//! `timeline`: what happened in a trace or in a session that Penguiflow's store keeps, in the order of time.
//!
//! | module | holds |
//! | --- | --- |
//! | `moments` | the events of the logs that a timeline is made of |
//! | `trace` | runs of nodes, each from its start to its end |
//! | `planner` | what a planner did in between |
//! | `session` | tasks, updates, steering |
//! | `table` | lines for people |

mod moments;
mod planner;
mod session;
mod table;
mod trace;

use std::process::ExitCode;

use icecore::agents::names;
use icecore::{Error, ErrorKind, LogId, Result, Store, Timestamp};
use serde_json::Value;

use crate::output::Output;
use moments::Moments;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  icecore timeline acme/trace/question-001\n  icecore timeline acme --session 'ada@example.org' --limit 50"
)]
pub struct Args {
    /// A log of the trace or session, as `icecore logs` lists it; with --trace or --session only the tenant
    #[arg(value_name = "LOG|TENANT")]
    of: String,
    /// The trace's id, whatever it looks like
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    trace: Option<String>,
    /// The session's id, whatever it looks like
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only the last so many lines
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// What a timeline is of.
#[derive(Debug, PartialEq)]
pub enum Of {
    Trace { tenant: String, id: String },
    Session { tenant: String, id: String },
}

/// What one line says: to people by its texts, to programs by its JSON.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    took_ms: Option<f64>,
    /// The node, or the task.
    what: String,
    says: String,
    json: Value,
    /// Lines that follow each other with the same of these are one for people: the pieces of a stream.
    folds: Option<String>,
}

/// Lines in the order of time, what to say of them all, and what ended the reading early.
struct Timeline {
    lines: Vec<Line>,
    summary: String,
    damage: Option<Error>,
}

impl Args {
    /// What is asked for, before a store is opened for it.
    pub fn of(&self) -> Result<Of> {
        let tenant = || self.of.clone();
        match (&self.trace, &self.session) {
            (Some(id), _) => return Ok(Of::Trace { tenant: tenant(), id: id.clone() }),
            (None, Some(id)) => return Ok(Of::Session { tenant: tenant(), id: id.clone() }),
            (None, None) => {}
        }
        let log = LogId::parse(&self.of)?;
        let (tenant, id) = (log.tenant(), log.key());
        match log.kind().as_str() {
            "trace" | "planner" | "trajectory" => Ok(Of::Trace { tenant, id }),
            "session" | "tasks" | "updates" | "steering" | "traces" => Ok(Of::Session { tenant, id }),
            _ => Err(Error::new(ErrorKind::Invalid, "naming a trace or a session").with("log", &log).advise(
                "A timeline is of a trace, such as acme/trace/ID, or of a session, such as acme/session/ID",
            )),
        }
    }
}

impl Of {
    /// Its log of that kind. A key that was taken from a log's name may already be a hash.
    fn log(&self, kind: &str) -> Result<LogId> {
        let (Self::Trace { tenant, id } | Self::Session { tenant, id }) = self;
        let is_hash = id.strip_prefix('~').is_some_and(|hash| {
            hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if is_hash {
            LogId::new(tenant, kind, id)
        } else {
            LogId::new(tenant, kind, &names::key(id.as_bytes()))
        }
    }

    fn kinds(&self) -> &'static [&'static str] {
        match self {
            Self::Trace { .. } => &["trace", "planner"],
            Self::Session { .. } => &["tasks", "updates", "steering", "traces"],
        }
    }
}

pub async fn run(args: &Args, of: &Of, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let read = Moments::read(of, store).await?;
    let mut timeline = match of {
        Of::Trace { .. } => trace::timeline(read),
        Of::Session { .. } => session::timeline(read),
    };
    timeline.lines.sort_by_key(|line| line.at);
    if output.is_json() {
        let skipped = timeline.lines.len().saturating_sub(args.limit.unwrap_or(usize::MAX));
        for line in &timeline.lines[skipped..] {
            output.line(&line.json.to_string())?;
        }
    } else {
        table::print(of, &timeline.lines, args.limit.unwrap_or(usize::MAX), output)?;
        output.note(&timeline.summary);
    }
    match timeline.damage {
        Some(damage) => Err(damage),
        None => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Result<Of> {
        Args { of: name.to_owned(), trace: None, session: None, limit: None }.of()
    }

    #[test]
    fn any_log_of_a_trace_or_a_session_names_it() {
        for kind in ["trace", "planner", "trajectory"] {
            let trace = Of::Trace { tenant: "acme".to_owned(), id: "a b".to_owned() };
            assert_eq!(of(&format!("acme/{kind}/a=20b")).ok(), Some(trace));
        }
        for kind in ["session", "tasks", "updates", "steering", "traces"] {
            let session = Of::Session { tenant: "acme".to_owned(), id: "s-1".to_owned() };
            assert_eq!(of(&format!("acme/{kind}/s-1")).ok(), Some(session));
        }
        for other in ["acme/flow/f", "acme/trace", "acme", "acme/trace/a b"] {
            assert_eq!(of(other).map_err(|error| error.kind()), Err(ErrorKind::Invalid), "{other}");
        }
    }

    #[test]
    fn a_hash_from_a_logs_name_names_the_same_logs_as_the_id_that_it_stands_for() {
        let id = "k".repeat(400);
        let by_id = Of::Trace { tenant: "acme".to_owned(), id };
        let log = by_id.log("trace").map(|log| log.as_str().to_owned()).unwrap_or_default();

        let by_name = of(&log).and_then(|of| of.log("planner"));

        assert_eq!(by_name.ok(), by_id.log("planner").ok());
        // What only looks like a hash is an id like others.
        assert_ne!(
            of("acme/trace/=7Eabc").and_then(|of| of.log("trace")).ok(),
            LogId::parse("acme/trace/=7Eabc").ok()
        );
    }
}
