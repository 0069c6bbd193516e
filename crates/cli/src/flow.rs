//! `flow`: what a flow of durable nodes has done.

use std::process::ExitCode;

use bytes::Bytes;
use icecore::agents::Kind;
use icecore::agents::flows::{Flow, FlowRecord, FlowState, NodeRecord, NodeState};
use icecore::{Error, ErrorKind, Result, Store, Timestamp};

use crate::output::{Output, shown};
use crate::session::OfTenant;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A flow is here if its nodes are durable: `durable` of icecore.penguiflow. The tenant may be named in ICECORE_TENANT; `icecore logs acme/flow` lists the flows. What one does otherwise, `icecore timeline` shows.\n\nExample:\n  icecore flow show --tenant acme question-001"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show a flow: which of its nodes have run, what they were given, and what they made
    Show(Which),
}

#[derive(Debug, clap::Args)]
pub struct Which {
    #[command(flatten)]
    of: OfTenant,
    /// The trace's id
    trace: String,
}

/// A flow for programs: what nodes were given and made is as it was written, to the byte.
#[derive(serde::Serialize)]
struct Shown<'a> {
    log: &'a str,
    trace: &'a str,
    #[serde(flatten)]
    flow: &'a FlowRecord,
}

pub async fn show(which: &Which, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let id = which.of.tenant()?.log(Kind::Flow, which.trace.as_bytes())?;
    let Some(flow) = Flow::new(store.log(id.clone())).look().await? else {
        return Err(Error::new(ErrorKind::NotFound, "showing a flow").with("log", &id).advise(
            "Nothing is recorded of it: its nodes are not durable, or it is another tenant's or another trace",
        ));
    };
    if output.is_json() {
        let shown = Shown { log: id.as_str(), trace: &which.trace, flow: &flow };
        let line = serde_json::to_string(&shown)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "showing a flow").because(error))?;
        output.line(&line)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = flow.nodes.iter().map(|node| row(node, output)).collect::<Vec<_>>();
    if !rows.is_empty() {
        output.table(&["node", "run", "state", "tries", "given", "made, or what failed"], rows)?;
    }
    output.line(&summary(&flow, output))?;
    Ok(ExitCode::SUCCESS)
}

fn row(node: &NodeRecord, output: &Output) -> Vec<String> {
    let failed = node.errors.last().map(|failure| shown(&failure.error).into_owned());
    let made = text(node.output.as_ref(), output);
    vec![
        shown(&node.node).into_owned(),
        format!("{}#{}", &node.key[..node.key.len().min(8)], node.number),
        node_state(node.state).to_owned(),
        node.attempts.len().to_string(),
        text(node.input.as_ref(), output).unwrap_or_default(),
        made.or(failed).unwrap_or_default(),
    ]
}

fn text(json: Option<&Bytes>, output: &Output) -> Option<String> {
    json.map(|json| output.value(&String::from_utf8_lossy(json)))
}

fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Running => "running",
        NodeState::Interrupted => "interrupted",
        NodeState::Failed => "failed",
        NodeState::Finished => "finished",
    }
}

fn summary(flow: &FlowRecord, output: &Output) -> String {
    let at = time::show(Timestamp(flow.at_ms.saturating_mul(1_000_000)));
    let by = format!("life {}, since {at} by {}", flow.life, shown(&flow.by));
    match flow.state {
        FlowState::Running => format!("not finished; {by}"),
        FlowState::Failed => {
            let error = flow.error.as_ref().map(|error| shown(&error.error).into_owned());
            format!("failed: {}; {by}", error.unwrap_or_default())
        }
        FlowState::Finished => {
            format!("finished: {}; {by}", text(flow.result.as_ref(), output).unwrap_or_default())
        }
    }
}
