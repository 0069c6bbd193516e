//! `session purge` and `session sweep`.

use std::process::ExitCode;
use std::time::Duration;

use icecore::agents::sessions::{Purged, Sessions};
use icecore::{Error, ErrorKind, Result, Store};
use serde_json::json;

use super::OfTenant;
use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").args(["session", "all"]).required(true),
    after_help = "All logs of a session go, for good, with the artifacts that the user has in it; its id is not free for another. A commit in each log's place stays, which says that it was deleted, under the log's name.\n\nWhat Penguiflow keeps of a session is not below a user: delete_session of icecore.penguiflow.StateStore deletes that.\n\nExamples:\n  icecore session purge --tenant acme --user ann s-1 --dry-run\n  icecore session purge --tenant acme --user ann --all\n  icecore session purge --tenant acme --all"
)]
pub struct Args {
    #[command(flatten)]
    of: OfTenant,
    /// The user
    #[arg(long)]
    user: Option<String>,
    /// The session's id
    #[arg(requires = "user")]
    session: Option<String>,
    /// All sessions of the user; if none is named, of the tenant
    #[arg(long)]
    all: bool,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore session sweep --tenant acme --ended-for 30d")]
pub struct SweepArgs {
    #[command(flatten)]
    of: OfTenant,
    /// Only sessions that ended at least so long ago
    #[arg(long, value_name = "LENGTH", value_parser = time::length, default_value = "0s")]
    ended_for: Duration,
}

pub async fn run(args: &Args, cli: &crate::Cli, output: &mut Output) -> Result<ExitCode> {
    let (user, session) = (args.user.as_deref(), args.session.as_deref());
    // Before a store is opened.
    let of = args.of.of(user)?;
    let scope = match (user, session) {
        (Some(user), Some(session)) => Some(args.of.user(user)?.session(session)?),
        _ => None,
    };
    let work = async |sessions: Sessions| match (&scope, args.dry_run) {
        (Some(scope), true) => sessions.plan_purge(scope).await,
        (Some(scope), false) => sessions.purge(scope).await,
        (None, true) => sessions.plan_purge_all(&of).await,
        (None, false) => sessions.purge_all(&of).await,
    };
    if args.dry_run {
        let purged = work(args.of.sessions(&crate::look(cli).await?)?).await?;
        return show(&purged, true, output);
    }
    let purge = async |store: &Store| show(&work(args.of.sessions(store)?).await?, false, output);
    crate::write_existing(cli, purge).await
}

fn show(purged: &Purged, is_dry: bool, output: &mut Output) -> Result<ExitCode> {
    if output.is_json() {
        let line = json!({ "sessions": purged.sessions, "logs": purged.logs, "artifacts": purged.artifacts, "held": purged.held, "dry_run": is_dry });
        output.line(&line.to_string())?;
    } else {
        let goes = if is_dry { "would go" } else { "went" };
        let held = match purged.held {
            0 => String::new(),
            held => format!("; {held} are held, and have ended"),
        };
        let Purged { sessions, logs, artifacts, .. } = purged;
        output
            .line(&format!("{sessions} sessions with {logs} logs and {artifacts} artifacts {goes}{held}"))?;
    }
    if purged.held == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(ErrorKind::Refused, "purging sessions").with("held", purged.held).advise(
        "Their history is held: `icecore hold list` shows by what. Purge again when that is released",
    ))
}

pub async fn sweep(args: &SweepArgs, cli: &crate::Cli, output: &mut Output) -> Result<ExitCode> {
    args.of.tenant()?;
    let sweep = async |store: &Store| {
        let swept = args.of.sessions(store)?.sweep(args.ended_for).await?;
        let purged = swept.purged;
        if output.is_json() {
            let line = json!({ "sessions": purged.sessions, "logs": purged.logs, "artifacts": purged.artifacts, "held": purged.held, "repaired": swept.repaired, "removed": swept.removed });
            output.line(&line.to_string())?;
        } else {
            let (repaired, removed, held) = (swept.repaired, swept.removed, purged.held);
            output.line(&format!(
                "sessions purged {}, held {held}; entries repaired {repaired}, removed {removed}",
                purged.sessions
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    };
    crate::write_existing(cli, sweep).await
}
