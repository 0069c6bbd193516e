//! `quickstart`: the main job, as a story that proves itself.

mod agents;
mod recorded;
mod tool;

use self::tool::{Tool, clear};
use crate::run::Outcome;

const STORE: &str = "target/quickstart";
const AGENTS_STORE: &str = "target/quickstart-agents";

pub fn run() -> Outcome {
    let tool = Tool::build(STORE)?;
    clear(STORE)?;
    recorded::run(&tool)?;
    clear(AGENTS_STORE)?;
    agents::run(&tool.at(AGENTS_STORE))?;

    let shown = |store| format!("target/debug/icecore --store file:{store}");
    println!("\nIt works. Five commands to go on with:\n");
    println!("  {} read {} --reverse --limit 5", shown(STORE), recorded::LOG);
    println!("  {} append acme/session/mine --kind said --data '{{\"text\":\"hello\"}}'", shown(STORE));
    println!("  {} history {} cart", shown(STORE), recorded::DOCUMENTS);
    println!("  {} logs", shown(AGENTS_STORE));
    println!("  {} timeline acme/planner/refund-17", shown(AGENTS_STORE));
    Ok(())
}
