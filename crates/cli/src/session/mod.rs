//! `session`.

mod purge;
mod show;
mod token;

use std::process::ExitCode;
use std::time::Duration;

use icecore::agents::sessions::{NewSession, Of, Query, Session, Sessions};
use icecore::agents::{SessionScope, Tenant, UserScope};
use icecore::{Result, Store};

use crate::output::{Output, WhenClosed};
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every session belongs to a user, and every user to a tenant. The tenant may be named in ICECORE_TENANT.\n\nExamples:\n  icecore session create --tenant acme --user ann s-1 --idle 30m\n  icecore session list --tenant acme --user ann\n  icecore session purge --tenant acme --user ann --all --dry-run"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a session; an id names one session for ever
    Create(CreateArgs),
    /// List the sessions of a tenant, or of one of its users, newest first
    List(ListArgs),
    /// Show a session, also one that has ended
    Show(SessionArgs),
    /// Say that a session is being used: it does not expire for as long again as it may be idle
    Touch(SessionArgs),
    /// End a session for good
    Terminate(TerminateArgs),
    /// Delete all that a session has, or all sessions of a user or a tenant
    Purge(purge::Args),
    /// Purge sessions that have ended, and repair what killed processes left
    Sweep(purge::SweepArgs),
    /// Show how many sessions there may be and how long they last, or change it
    Limits(show::LimitsArgs),
    /// Secrets that open exactly one session
    Token(token::Args),
}

/// Whose.
#[derive(Debug, clap::Args)]
pub struct OfTenant {
    /// The tenant
    #[arg(long, env = "ICECORE_TENANT", hide_env_values = true)]
    pub tenant: String,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct SessionArgs {
    #[command(flatten)]
    of: OfTenant,
    /// The user
    #[arg(long)]
    user: String,
    /// The session's id
    session: String,
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    #[command(flatten)]
    which: SessionArgs,
    /// It expires when it was not touched for so long: 30m, 12h; by default as the tenant's limits say
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    idle: Option<Duration>,
    /// It expires after so long, however often it is touched; by default as the tenant's limits say
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    lifetime: Option<Duration>,
    /// If it is there and live, show it: that is no error
    #[arg(long)]
    if_absent: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    of: OfTenant,
    /// Only this user's
    #[arg(long)]
    user: Option<String>,
    /// Those that have expired or were terminated as well, as long as they were not purged
    #[arg(long)]
    ended: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only what comes behind this cursor: that of the last session of the page before
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

#[derive(Debug, clap::Args)]
struct TerminateArgs {
    #[command(flatten)]
    which: SessionArgs,
    /// Why
    #[arg(long, default_value = "terminated", hide_default_value = true)]
    because: String,
}

impl OfTenant {
    pub fn tenant(&self) -> Result<Tenant> {
        Tenant::new(self.tenant.clone())
    }

    fn user(&self, user: &str) -> Result<UserScope> {
        self.tenant()?.user(user)
    }

    fn of(&self, user: Option<&str>) -> Result<Of> {
        user.map_or(Ok(Of::Tenant), |user| self.user(user).map(Of::User))
    }

    fn sessions(&self, store: &Store) -> Result<Sessions> {
        Ok(Sessions::new(store.clone(), self.tenant()?))
    }
}

impl SessionArgs {
    fn scope(&self) -> Result<SessionScope> {
        self.of.user(&self.user)?.session(&*self.session)
    }
}

impl Args {
    /// What becomes of it when nobody reads what it prints.
    pub fn when_closed(&self) -> WhenClosed {
        let only_shows = match &self.command {
            Command::List(_) | Command::Show(_) => true,
            Command::Purge(args) => args.dry_run,
            Command::Limits(args) => !args.is_change(),
            Command::Token(args) => args.only_shows(),
            Command::Create(_) | Command::Touch(_) | Command::Terminate(_) | Command::Sweep(_) => false,
        };
        if only_shows { WhenClosed::End } else { WhenClosed::GoOn }
    }
}

pub async fn run(args: &Args, cli: &crate::Cli, output: &mut Output) -> Result<ExitCode> {
    match &args.command {
        Command::Create(args) => {
            let scope = args.which.scope()?;
            crate::write(cli, async |store| create(args, &scope, store, output).await).await
        }
        Command::List(args) => {
            let of = args.of.of(args.user.as_deref())?;
            list(args, &of, &args.of.sessions(&crate::look(cli).await?)?, output).await
        }
        Command::Show(args) => {
            let scope = args.scope()?;
            let sessions = args.of.sessions(&crate::look(cli).await?)?;
            show::session(sessions.find(&scope).await?, &scope, output)
        }
        Command::Touch(args) => {
            let scope = args.scope()?;
            let touch = async |store: &Store| one(&args.of.sessions(store)?.touch(&scope).await?, output);
            crate::write_existing(cli, touch).await
        }
        Command::Terminate(args) => {
            let scope = args.which.scope()?;
            let end = async |store: &Store| {
                one(&args.which.of.sessions(store)?.terminate(&scope, &args.because).await?, output)
            };
            crate::write_existing(cli, end).await
        }
        Command::Purge(args) => purge::run(args, cli, output).await,
        Command::Sweep(args) => purge::sweep(args, cli, output).await,
        Command::Limits(args) => show::limits(args, cli, output).await,
        Command::Token(args) => token::run(args, cli, output).await,
    }
}

fn one(session: &Session, output: &mut Output) -> Result<ExitCode> {
    show::one(session, output).map(|()| ExitCode::SUCCESS)
}

async fn create(
    args: &CreateArgs,
    scope: &SessionScope,
    store: &Store,
    output: &mut Output,
) -> Result<ExitCode> {
    let sessions = args.which.of.sessions(store)?;
    let new = NewSession { idle: args.idle, lifetime: args.lifetime };
    let session = if args.if_absent {
        sessions.get_or_create(scope, new).await?.0
    } else {
        sessions.create(scope, new).await?
    };
    one(&session, output)
}

async fn list(args: &ListArgs, of: &Of, sessions: &Sessions, output: &mut Output) -> Result<ExitCode> {
    let (mut left, mut after, mut rows) = (args.limit, args.after.clone(), Vec::new());
    // What lies between has ended: a page may have fewer than are asked for.
    while left > 0 {
        let query = Query { after, limit: left.min(500), ended: args.ended };
        let page = sessions.list(of, &query).await?;
        left = left.saturating_sub(page.sessions.len());
        for (cursor, session) in &page.sessions {
            if output.is_json() {
                output.line(&show::as_json(session, Some(cursor)).to_string())?;
            } else {
                rows.push(show::row(session));
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if output.is_json() {
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output.note("No sessions");
    } else {
        output.table(&show::HEADINGS, rows)?;
    }
    if let Some(after) = after.filter(|_| args.limit > 0) {
        output.note(&format!("There are more: --after {after}"));
    }
    Ok(ExitCode::SUCCESS)
}
