//! `session token`.

use std::process::ExitCode;
use std::time::Duration;

use icecore::{Error, ErrorKind, Result, Store};
use serde_json::json;

use super::{OfTenant, SessionArgs};
use crate::output::Output;
use crate::{input, time};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A token is shown once, and only its SHA-256 is kept.\n\nExamples:\n  icecore session token issue --tenant acme --user ann s-1 --label phone\n  icecore session token open --tenant acme - < token.txt"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give a token for a live session, and show it, once
    Issue(IssueArgs),
    /// List the tokens that were given and not revoked, without their secrets
    List(SessionArgs),
    /// Revoke a token by its id
    Revoke(RevokeArgs),
    /// Show the session that a token opens
    Open(OpenArgs),
}

#[derive(Debug, clap::Args)]
struct IssueArgs {
    #[command(flatten)]
    which: SessionArgs,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// It opens nothing any more after so long; by default it does as long as the session is live
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    ttl: Option<Duration>,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    #[command(flatten)]
    which: SessionArgs,
    /// The token's id
    #[arg(long)]
    id: String,
}

#[derive(Debug, clap::Args)]
struct OpenArgs {
    #[command(flatten)]
    of: OfTenant,
    /// The token, or @FILE, or - for standard input: what stands in a command line, others may see
    #[arg(value_name = "TOKEN|@FILE|-")]
    token: String,
}

impl Args {
    pub fn only_shows(&self) -> bool {
        matches!(self.command, Command::List(_) | Command::Open(_))
    }
}

pub async fn run(args: &Args, cli: &crate::Cli, output: &mut Output) -> Result<ExitCode> {
    match &args.command {
        Command::Issue(args) => {
            args.which.scope()?;
            crate::write_existing(cli, async |store| issue(args, store, output).await).await
        }
        Command::List(args) => list(args, &crate::look(cli).await?, output).await,
        Command::Revoke(args) => {
            args.which.scope()?;
            crate::write_existing(cli, async |store| revoke(args, store, output).await).await
        }
        Command::Open(args) => {
            let given = input::data("reading a token", &args.token)?;
            let token = String::from_utf8(given).map_err(|_| {
                Error::new(ErrorKind::Invalid, "reading a token").advise("It is no text, so it is no token")
            })?;
            let sessions = args.of.sessions(&crate::look(cli).await?)?;
            super::one(&sessions.open_token(token.trim()).await?, output)
        }
    }
}

async fn issue(args: &IssueArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let sessions = args.which.of.sessions(store)?;
    let issued = sessions.issue_token(&args.which.scope()?, &args.label, args.ttl).await?;
    if output.is_json() {
        output.line(&json!({ "id": issued.id, "token": issued.reveal() }).to_string())?;
    } else {
        output.line(issued.reveal())?;
        output.note(&format!("Its id is {}. It is not shown again", issued.id));
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &SessionArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let tokens = args.of.sessions(store)?.tokens(&args.scope()?).await?;
    if output.is_json() {
        for token in tokens {
            let line = json!({ "id": token.id, "label": token.label, "issued_at": time::show(token.issued_at), "expires_at": token.expires_at.map(time::show) });
            output.line(&line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if tokens.is_empty() {
        output.note("No tokens");
        return Ok(ExitCode::SUCCESS);
    }
    let rows = tokens.into_iter().map(|token| {
        let end = token.expires_at.map_or_else(|| "with its session".to_owned(), time::show);
        vec![token.id, token.label, time::show(token.issued_at), end]
    });
    output.table(&["token", "label", "issued", "expires"], rows.collect())?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(args: &RevokeArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    args.which.of.sessions(store)?.revoke_token(&args.which.scope()?, &args.id).await?;
    if output.is_json() {
        output.line(&json!({ "id": args.id, "revoked": true }).to_string())?;
    } else {
        output.line(&format!("{} was revoked", args.id))?;
    }
    Ok(ExitCode::SUCCESS)
}
