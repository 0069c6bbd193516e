//! `hold`.

use std::process::ExitCode;
use std::time::Duration;

use icecore::retention::{Hold, On};
use icecore::{Error, ErrorKind, LogId, LogPrefix, Result, Store, Version};
use serde_json::json;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A hold keeps history from being trimmed or deleted, whoever asks: for a consumer that has not read so far yet, a backup, a dispute.\n\nExamples:\n  icecore hold set audit --prefix acme/ --reason \"case 7\" --for 90d\n  icecore hold list\n  icecore hold release audit"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Hold history under a name; a hold of that name is moved
    Set(SetArgs),
    /// Show every hold
    List,
    /// Let go what is held under a name
    Release {
        /// The hold's name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("on").args(["log", "prefix"]).required(true))]
pub struct SetArgs {
    /// The hold's name
    name: String,
    /// Of this log: tenant/kind/key
    #[arg(long)]
    log: Option<LogId>,
    /// Of all logs whose names begin so
    #[arg(long, value_parser = LogPrefix::parse)]
    prefix: Option<LogPrefix>,
    /// From this version on; by default all that is left
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
    /// For so long: 90d, 12h; by default until it is released
    #[arg(long = "for", value_name = "LENGTH", value_parser = time::length)]
    length: Option<Duration>,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

pub async fn set(args: &SetArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let on = match (&args.log, &args.prefix) {
        (Some(log), _) => On::Log(log.clone()),
        (None, Some(prefix)) => On::Prefix(prefix.clone()),
        (None, None) => {
            return Err(Error::new(ErrorKind::Invalid, "holding history").advise("Name --log or --prefix"));
        }
    };
    let until = args.length.map(|length| store.now().after(length));
    let hold = Hold { on, from: args.from.map(Version), until, reason: args.reason.clone() };
    store.retention()?.hold(&args.name, &hold).await?;
    show(&[(args.name.clone(), hold)], output)
}

pub async fn list(store: &Store, output: &mut Output) -> Result<ExitCode> {
    let holds = store.retention()?.holds().await?;
    if holds.is_empty() && !output.is_json() {
        output.note("Nothing is held");
        return Ok(ExitCode::SUCCESS);
    }
    show(&holds, output)
}

pub async fn release(name: &str, store: &Store, output: &mut Output) -> Result<ExitCode> {
    if !store.retention()?.release(name).await? {
        return Err(Error::new(ErrorKind::NotFound, "releasing a hold")
            .with("hold", name)
            .advise("There is no such hold: `icecore hold list` shows them"));
    }
    if output.is_json() {
        output.line(&json!({ "hold": name, "released": true }).to_string())?;
    } else {
        output.line(&format!("{name} was released"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(holds: &[(String, Hold)], output: &mut Output) -> Result<ExitCode> {
    let on = |hold: &Hold| match &hold.on {
        On::Log(log) => ("log", log.as_str().to_owned()),
        On::Prefix(prefix) => ("prefix", prefix.as_str().to_owned()),
    };
    if output.is_json() {
        for (name, hold) in holds {
            let (what, which) = on(hold);
            let line = json!({ "hold": name, what: which, "from": hold.from.map(|from| from.0), "until": hold.until.map(time::show), "reason": hold.reason });
            output.line(&line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = holds.iter().map(|(name, hold)| {
        let (what, which) = on(hold);
        let from = hold.from.map_or_else(|| "all".to_owned(), |from| from.to_string());
        let until = hold.until.map_or_else(String::new, time::show);
        vec![name.clone(), format!("{what} {which}"), from, until, hold.reason.clone()]
    });
    output.table(&["hold", "on", "from", "until", "reason"], rows.collect())?;
    Ok(ExitCode::SUCCESS)
}
