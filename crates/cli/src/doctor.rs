//! `doctor`.

use std::process::ExitCode;

use icecore::log::backend::Depth;
use icecore::{Result, Store};
use serde_json::{Map, Value};

use crate::output::Output;

pub async fn run(url: &str, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let capabilities = store.capabilities();
    let examination = store.backend().examine(Depth::Quick).await?;
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut facts = vec![
        ("store".to_owned(), icecore::redact(url)),
        ("system".to_owned(), capabilities.system.to_owned()),
        ("durability".to_owned(), capabilities.durability.name().to_owned()),
        ("several_writing_processes".to_owned(), yes_no(capabilities.many_writers)),
        ("all_or_none_across_logs".to_owned(), yes_no(capabilities.atomic_create)),
        ("commit_bytes_max".to_owned(), capabilities.commit_bytes_max.to_string()),
    ];
    facts.extend(examination.facts);
    facts.push(("damaged".to_owned(), examination.damage.len().to_string()));
    if output.is_json() {
        let object: Map<String, Value> =
            facts.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        output.line(&Value::Object(object).to_string())?;
    } else {
        output.table(
            &["what", "found"],
            facts.into_iter().map(|(name, value)| vec![name.replace('_', " "), value]).collect(),
        )?;
    }
    for damage in &examination.damage {
        output.note(&damage.to_string());
    }
    Ok(ExitCode::SUCCESS)
}
