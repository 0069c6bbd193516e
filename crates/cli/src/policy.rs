//! `policy`.

use std::process::ExitCode;
use std::time::Duration;

use icecore::retention::Policy;
use icecore::{Error, ErrorKind, LogPrefix, Result, Store};
use indicatif::HumanBytes;
use serde_json::json;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A policy says what is kept of the logs whose names begin so. Of several that fit a log, the one with the longest prefix counts alone; what any of its limits keeps is kept. `icecore maintain` applies them, and so do processes that live long.\n\nExamples:\n  icecore policy set acme/session/ --keep-for 30d --delete-idle 365d\n  icecore policy list\n  icecore policy remove acme/session/"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Set what is kept of the logs whose names begin so
    Set(SetArgs),
    /// Show every policy
    List,
    /// Take back the policy of a prefix
    Remove {
        /// The prefix
        #[arg(value_parser = LogPrefix::parse)]
        prefix: LogPrefix,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limit").args(["keep_commits", "keep_for", "keep_bytes", "delete_idle"]).multiple(true).required(true))]
pub struct SetArgs {
    /// Of the logs whose names begin so
    #[arg(value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
    /// Keep the newest so many commits
    #[arg(long, value_name = "N")]
    keep_commits: Option<u64>,
    /// Keep what was committed no longer ago: 30d, 12h
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    keep_for: Option<Duration>,
    /// Keep the newest so many bytes: 64KiB, 10MB
    #[arg(long, value_name = "BYTES", value_parser = time::bytes)]
    keep_bytes: Option<u64>,
    /// Only drop the bodies of commits that hold nothing but events of this kind; may be given more than once
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Delete logs to which nothing was appended for so long
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    delete_idle: Option<Duration>,
}

pub async fn set(args: &SetArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let policy = Policy {
        on: args.prefix.clone(),
        keep_commits: args.keep_commits,
        keep_for: args.keep_for,
        keep_bytes: args.keep_bytes,
        kinds: args.kind.iter().cloned().collect(),
        delete_idle_for: args.delete_idle,
    };
    store.retention()?.set_policy(&policy).await?;
    show(&[policy], output)
}

pub async fn list(store: &Store, output: &mut Output) -> Result<ExitCode> {
    let policies = store.retention()?.policies().await?;
    if policies.is_empty() && !output.is_json() {
        output.note("There is no policy: everything is kept");
        return Ok(ExitCode::SUCCESS);
    }
    show(&policies, output)
}

pub async fn remove(prefix: &LogPrefix, store: &Store, output: &mut Output) -> Result<ExitCode> {
    if !store.retention()?.remove_policy(prefix).await? {
        return Err(Error::new(ErrorKind::NotFound, "removing a policy")
            .with("prefix", prefix.as_str())
            .advise("There is no policy of just this prefix: `icecore policy list` shows them"));
    }
    if output.is_json() {
        output.line(&json!({ "prefix": prefix.as_str(), "removed": true }).to_string())?;
    } else {
        output.line("The policy was removed: what it would have taken is kept")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(policies: &[Policy], output: &mut Output) -> Result<ExitCode> {
    if output.is_json() {
        for policy in policies {
            let line = json!({ "prefix": policy.on.as_str(), "keep_commits": policy.keep_commits, "keep_for_seconds": policy.keep_for.map(|age| age.as_secs()), "keep_bytes": policy.keep_bytes, "kinds": policy.kinds, "delete_idle_seconds": policy.delete_idle_for.map(|age| age.as_secs()) });
            output.line(&line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = policies.iter().map(|policy| {
        let on = if policy.on.as_str().is_empty() { "(all)" } else { policy.on.as_str() };
        vec![
            on.to_owned(),
            policy.keep_commits.map_or_else(String::new, |commits| commits.to_string()),
            policy.keep_for.map_or_else(String::new, time::show_length),
            policy.keep_bytes.map_or_else(String::new, |bytes| HumanBytes(bytes).to_string()),
            policy.kinds.iter().cloned().collect::<Vec<_>>().join(", "),
            policy.delete_idle_for.map_or_else(String::new, time::show_length),
        ]
    });
    output.table(&["prefix", "commits", "for", "bytes", "only kinds", "delete idle"], rows.collect())?;
    Ok(ExitCode::SUCCESS)
}
