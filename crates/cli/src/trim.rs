//! `trim` and `delete-log`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use icecore::retention::{Keep, Trim, Trimmed};
use icecore::{ErrorKind, LogId, Result, Store, Timestamp, Version};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("keep").args(["keep_commits", "keep_for", "keep_since", "keep_bytes", "from"]).multiple(true).required(true),
    after_help = "What any of the options keeps is kept. The documents stay as they are, and so does what is known of ids: if need be, all documents are first written into one commit, behind which the rest can go. States of the past are known from there on. What is held (see `icecore hold`) is not trimmed.\n\nExamples:\n  icecore trim acme/session/s-1 --keep-commits 100 --dry-run\n  icecore trim acme/session/s-1 --keep-for 30d --kind chatter"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// Keep the newest so many commits
    #[arg(long, value_name = "N")]
    keep_commits: Option<u64>,
    /// Keep what was committed no longer ago: 30d, 12h, 15m
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    keep_for: Option<Duration>,
    /// Keep what was committed since then: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    keep_since: Option<Timestamp>,
    /// Keep the newest so many bytes: 4096, 64KiB, 10MB
    #[arg(long, value_name = "BYTES", value_parser = time::bytes)]
    keep_bytes: Option<u64>,
    /// Keep this version and what follows
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
    /// Only drop the bodies of commits that hold nothing but events of this kind; may be given more than once
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    fn trim(&self, now: Timestamp) -> Trim {
        let ago = self.keep_for.map(|age| now.before(age));
        let since = [ago, self.keep_since].into_iter().flatten().min();
        let from = self.from.map(Version);
        let keep = Keep { from, commits: self.keep_commits, since, bytes: self.keep_bytes };
        Trim { keep, kinds: self.kind.iter().cloned().collect::<BTreeSet<_>>() }
    }
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let (log, trim) = (store.log(args.log.clone()), args.trim(store.now()));
    let trimmed = if args.dry_run { log.plan_trim(&trim).await? } else { log.trim(&trim).await? };
    if output.is_json() {
        let mut line = as_json(&args.log, &trimmed);
        line["dry_run"] = args.dry_run.into();
        output.line(&line.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(&told(&args.log, &trimmed, !trim.kinds.is_empty(), args.dry_run))?;
    Ok(ExitCode::SUCCESS)
}

pub fn as_json(log: &LogId, trimmed: &Trimmed) -> Value {
    json!({ "log": log.as_str(), "head": trimmed.head.0, "trimmed_through": trimmed.through.0, "trimmed_before": trimmed.before.0, "commits": trimmed.commits, "bytes": trimmed.bytes, "states_from": trimmed.states_from.0, "writes_base": trimmed.writes_base, "swept_commits": trimmed.swept.commits, "swept_bytes": trimmed.swept.bytes })
}

fn told(log: &LogId, trimmed: &Trimmed, is_of_bodies: bool, is_dry: bool) -> String {
    if trimmed.commits == 0 {
        return format!("{log}: there is nothing to trim");
    }
    let what = if is_of_bodies { "bodies" } else { "commits" };
    let (count, bytes) = (trimmed.commits, HumanBytes(trimmed.bytes));
    let goes = if is_dry { "would go" } else { "went" };
    let base = match (trimmed.writes_base, is_dry) {
        (false, _) => "",
        (true, true) => ", and a base would be written first",
        (true, false) => ", and a base was written first",
    };
    let later = if !is_dry && !is_of_bodies && trimmed.swept.commits < count {
        "; the storage gets its bytes back once a time of grace is over, by `icecore maintain`"
    } else {
        ""
    };
    let through = if is_of_bodies { String::new() } else { format!(" through version {}", trimmed.through) };
    format!(
        "{log}: {count} {what} of {bytes} {goes}{through}{base}; states are known from version {} on{later}",
        trimmed.states_from
    )
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Its commits, documents, snapshots and ids go. A commit that says so stays, so that nobody who was slow can bring the log back; its name is not free for another.\n\nExample:\n  icecore delete-log acme/session/s-2 --dry-run"
)]
pub struct DeleteArgs {
    /// The log: tenant/kind/key
    log: LogId,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn delete(args: &DeleteArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let deleted = store.delete_log(&args.log).await?;
    if output.is_json() {
        let line = json!({ "log": args.log.as_str(), "sealed_at": deleted.seal.0, "swept_commits": deleted.swept.commits, "swept_bytes": deleted.swept.bytes, "repeated": deleted.repeated });
        output.line(&line.to_string())?;
    } else {
        let again = if deleted.repeated { " before" } else { "" };
        output.line(&format!("{} was deleted{again}, and ends with version {}", args.log, deleted.seal))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn dry_delete(args: &DeleteArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    let head = log.head().await?.ok_or_else(|| {
        icecore::Error::new(ErrorKind::NotFound, "deleting a log")
            .with("log", &args.log)
            .advise("There is no such log")
    })?;
    let size = log.size().await?;
    if output.is_json() {
        let line = json!({ "log": args.log.as_str(), "head": head.version.0, "commits": size.commits, "bytes": size.bytes(), "repeated": head.sealed, "dry_run": true });
        output.line(&line.to_string())?;
    } else {
        let (commits, bytes) = (size.commits, HumanBytes(size.bytes()));
        let goes = if head.sealed {
            "are left: it was deleted before"
        } else {
            "with its snapshots and ids would go"
        };
        output.line(&format!("{}: {commits} commits and {bytes} {goes}", args.log))?;
    }
    Ok(ExitCode::SUCCESS)
}
