//! How sessions, and what limits them, are shown.

use std::process::ExitCode;
use std::time::Duration;

use icecore::agents::SessionScope;
use icecore::agents::sessions::{Limits, Session};
use icecore::{Error, ErrorKind, Result, Store};
use serde_json::{Value, json};

use super::OfTenant;
use crate::output::Output;
use crate::time;

pub const HEADINGS: [&str; 6] = ["session", "user", "status", "created", "touched", "ends"];

pub fn row(session: &Session) -> Vec<String> {
    let end = session.ended_at().or(session.expires_next());
    vec![
        session.scope.id().to_owned(),
        session.scope.user().id().to_owned(),
        session.status.name().to_owned(),
        time::show(session.created_at),
        time::show(session.touched_at),
        end.map_or_else(|| "never".to_owned(), time::show),
    ]
}

pub fn as_json(session: &Session, cursor: Option<&str>) -> Value {
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut line = json!({
        "tenant": session.scope.tenant().as_str(),
        "user": session.scope.user().id(),
        "session": session.scope.id(),
        "status": session.status.name(),
        "created_at": time::show(session.created_at),
        "touched_at": time::show(session.touched_at),
        "idle_ms": session.idle.map(ms),
        "expires_at": session.expires_next().map(time::show),
        "ended_at": session.ended_at().map(time::show),
    });
    if let Some(cursor) = cursor {
        line["cursor"] = cursor.into();
    }
    line
}

pub fn session(found: Option<Session>, scope: &SessionScope, output: &mut Output) -> Result<ExitCode> {
    let none = || {
        Error::new(ErrorKind::NotFound, "looking for a session")
            .with("session", scope.id().escape_debug())
            .advise(
                "There is no such session of this user: `icecore session list` shows those that there are",
            )
    };
    one(&found.ok_or_else(none)?, output).map(|()| ExitCode::SUCCESS)
}

pub fn one(session: &Session, output: &mut Output) -> Result<()> {
    if output.is_json() {
        return output.line(&as_json(session, None).to_string());
    }
    output.table(&HEADINGS, vec![row(session)])
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is named is changed, for sessions that are made from now on; the rest stays as it is. Only live sessions count.\n\nExample:\n  icecore session limits --tenant acme --per-user 20 --idle 30m --lifetime none"
)]
pub struct LimitsArgs {
    #[command(flatten)]
    of: OfTenant,
    /// So many live sessions of the tenant, or none
    #[arg(long, value_name = "N|none", value_parser = count)]
    per_tenant: Option<Limit<u64>>,
    /// So many live sessions of each user, or none
    #[arg(long, value_name = "N|none", value_parser = count)]
    per_user: Option<Limit<u64>>,
    /// A new session expires when it was not touched for so long, or none
    #[arg(long, value_name = "LENGTH|none", value_parser = length)]
    idle: Option<Limit<Duration>>,
    /// A new session expires after so long, or none
    #[arg(long, value_name = "LENGTH|none", value_parser = length)]
    lifetime: Option<Limit<Duration>>,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy)]
struct Limit<T>(Option<T>);

fn count(text: &str) -> Result<Limit<u64>> {
    if text == "none" {
        return Ok(Limit(None));
    }
    text.parse().map(|count| Limit(Some(count))).map_err(|_| {
        Error::new(ErrorKind::Invalid, "reading a limit").advise("It is a whole number, or none")
    })
}

fn length(text: &str) -> Result<Limit<Duration>> {
    if text == "none" { Ok(Limit(None)) } else { time::length(text).map(|length| Limit(Some(length))) }
}

impl LimitsArgs {
    pub fn is_change(&self) -> bool {
        self.per_tenant.is_some() || self.per_user.is_some() || self.idle.is_some() || self.lifetime.is_some()
    }

    fn change(&self, limits: &mut Limits) {
        fn set<T: Copy>(limit: &mut Option<T>, said: Option<Limit<T>>) {
            if let Some(Limit(said)) = said {
                *limit = said;
            }
        }
        set(&mut limits.sessions_per_tenant, self.per_tenant);
        set(&mut limits.sessions_per_user, self.per_user);
        set(&mut limits.idle, self.idle);
        set(&mut limits.lifetime, self.lifetime);
    }
}

pub async fn limits(args: &LimitsArgs, cli: &crate::Cli, output: &mut Output) -> Result<ExitCode> {
    args.of.tenant()?;
    if args.is_change() {
        let change = async |store: &Store| {
            let limits = args.of.sessions(store)?.change_limits(|limits| args.change(limits)).await?;
            show_limits(&limits, output)
        };
        return crate::write(cli, change).await;
    }
    let limits = args.of.sessions(&crate::look(cli).await?)?.limits().await?;
    show_limits(&limits, output)
}

fn show_limits(limits: &Limits, output: &mut Output) -> Result<ExitCode> {
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if output.is_json() {
        let line = json!({
            "sessions_per_tenant": limits.sessions_per_tenant,
            "sessions_per_user": limits.sessions_per_user,
            "idle_ms": limits.idle.map(ms),
            "lifetime_ms": limits.lifetime.map(ms),
        });
        output.line(&line.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let none = || "none".to_owned();
    let number = |limit: Option<u64>| limit.map_or_else(none, |limit| limit.to_string());
    let length = |limit: Option<Duration>| limit.map_or_else(none, time::show_length);
    let row = vec![
        number(limits.sessions_per_tenant),
        number(limits.sessions_per_user),
        length(limits.idle),
        length(limits.lifetime),
    ];
    output.table(&["per tenant", "per user", "idle", "lifetime"], vec![row])?;
    Ok(ExitCode::SUCCESS)
}
