//! `doctor`.

use std::process::ExitCode;

use icecore::log::backend::Depth;
use icecore::{Error, ErrorKind, Open, Result, Store};
use serde_json::{Map, Value};

use crate::output::{Output, error_json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Open it to write: that tries what only a writer can see, such as whether a bucket decides between two creates, and makes the store if there is none
    #[arg(long)]
    write: bool,
}

pub async fn run(args: &Args, url: &str, output: &mut Output) -> Result<ExitCode> {
    let open = if args.write { Open::default() } else { Open::read_only() };
    let store = open.open(url).await.map_err(|error| what_would_be_made(url, error))?;
    let told = tell(&store, url, output).await;
    let shut = store.shut_down().await;
    told.and_then(|code| shut.map(|()| code))
}

async fn tell(store: &Store, url: &str, output: &mut Output) -> Result<ExitCode> {
    let capabilities = store.capabilities();
    let examination = store.backend().examine(Depth::Quick).await?;
    let mut facts: Vec<(String, Value)> = [
        ("store", icecore::redact(url).into()),
        ("system", capabilities.system.into()),
        ("durability", capabilities.durability.name().into()),
        ("several_writing_processes", capabilities.many_writers.into()),
        ("all_or_none_across_logs", capabilities.atomic_create.into()),
        ("commit_bytes_max", capabilities.commit_bytes_max.into()),
    ]
    .map(|(name, value): (_, Value)| (name.to_owned(), value))
    .into();
    facts.extend(examination.facts.into_iter().map(|(name, value)| (name, value.into())));
    facts.push(("damaged".to_owned(), examination.damage.len().into()));
    if output.is_json() {
        let mut object: Map<String, Value> = facts.into_iter().collect();
        object.insert("damage".to_owned(), examination.damage.iter().map(error_json).collect());
        output.line(&Value::Object(object).to_string())?;
    } else {
        let row = |(name, value): (String, Value)| vec![name.replace('_', " "), shown(&value)];
        output.table(&["what", "found"], facts.into_iter().map(row).collect())?;
        for damage in &examination.damage {
            output.line(&damage.to_string())?;
        }
        output.note("A doctor looks at settings and sizes. To check every stored byte: icecore verify");
    }
    let is_whole = examination.damage.is_empty();
    Ok(if is_whole { ExitCode::SUCCESS } else { ErrorKind::Corrupt.exit_code().into() })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn what_would_be_made(url: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let made = match url.split(':').next() {
        Some("file") => "a directory, which one process at a time may write and any number read",
        Some("sqlite") => "a database file, which any number of processes may write and read",
        Some("postgres" | "postgresql") => {
            "tables in a schema of the database, which any number of processes may write and read"
        }
        Some("mysql" | "mariadb") => {
            "tables in the database, which any number of processes may write and read"
        }
        Some(scheme) if scheme.starts_with("redis") => {
            "keys that begin with the prefix, which any number of processes may write and read"
        }
        Some("dynamodb") => {
            "items below the prefix, which any number of processes may write and read, and with create=true the table"
        }
        Some("mongodb") => "collections in the database, which any number of processes may write and read",
        Some("s3" | "gs" | "az") => {
            "objects below the prefix, which any number of processes may write and read"
        }
        _ => "it",
    };
    error.advise(format!("There is no store. The first append, import or copy to it makes {made}"))
}
