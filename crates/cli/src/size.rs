//! `size`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use icecore::{LogGrowth, LogId, LogPrefix, Result, Store, Timestamp};
use indicatif::HumanBytes;
use serde_json::json;

use crate::output::Output;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Bytes as they are handed to the storage system: headers, bodies, snapshots and other blobs.\n\nExamples:\n  icecore size --by kind\n  icecore size acme/ --new 7d --limit 5"
)]
pub struct Args {
    /// Only logs whose names begin so
    #[arg(default_value = "", hide_default_value = true, value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
    /// What is added up
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Also what was committed no longer ago, and by that the largest first: 7d, 1h
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    new: Option<Duration>,
    /// The largest so many; the sum is of all
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum By {
    Tenant,
    Kind,
    #[default]
    Log,
}

/// What some logs take together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    logs: u64,
    growth: LogGrowth,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let bar = output.progress(None, "logs");
    let since = args.new.map(|age| store.now().before(age));
    let (mut sums, mut all) = (HashMap::<String, Sum>::new(), Sum::default());
    let add = |id: LogId, growth: LogGrowth| {
        sums.entry(args.by.name(&id)).or_default().add(&growth);
        all.add(&growth);
        bar.inc(1);
    };
    store.each_growth(&args.prefix, since.unwrap_or(Timestamp(i64::MAX)), add).await?;
    bar.finish_and_clear();
    let mut sums: Vec<_> = sums.into_iter().collect();
    let place = |sum: &Sum| (sum.growth.new_bytes, sum.growth.size.bytes());
    sums.sort_by(|(a, x), (b, y)| place(y).cmp(&place(x)).then_with(|| a.cmp(b)));
    let left_out = sums.len().saturating_sub(args.limit);
    sums.truncate(args.limit);
    if output.is_json() {
        for (name, sum) in &sums {
            output.line(&sum.as_json(args, args.by.word(), name).to_string())?;
        }
        return output
            .line(&all.as_json(args, "all", args.prefix.as_str()).to_string())
            .map(|()| ExitCode::SUCCESS);
    }
    let mut rows: Vec<_> = sums.iter().map(|(name, sum)| sum.row(args, name)).collect();
    let others = if left_out == 0 { String::new() } else { format!(" ({left_out} more not shown)") };
    rows.push(all.row(args, &format!("all{others}")));
    let mut headings =
        vec![args.by.word(), "logs", "commits", "headers", "bodies", "snapshots", "others", "bytes"];
    if args.new.is_some() {
        headings.extend(["new commits", "new bytes"]);
    }
    output.table(&headings, rows)?;
    Ok(ExitCode::SUCCESS)
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Kind => "kind",
            Self::Log => "log",
        }
    }

    /// The name, as prefixes are written.
    fn name(self, log: &LogId) -> String {
        let parts = match self {
            Self::Tenant => 1,
            Self::Kind => 2,
            Self::Log => return log.as_str().to_owned(),
        };
        log.as_str().split_inclusive('/').take(parts).collect()
    }
}

impl Sum {
    fn add(&mut self, growth: &LogGrowth) {
        self.logs += 1;
        self.growth.add(growth);
    }

    fn as_json(&self, args: &Args, of: &str, name: &str) -> serde_json::Value {
        let (size, growth) = (&self.growth.size, &self.growth);
        let mut line = json!({ of: name, "logs": self.logs, "commits": size.commits, "headers": size.headers, "bodies": size.bodies, "snapshots": size.snapshots, "others": size.others, "bytes": size.bytes() });
        if args.new.is_some() {
            line["new_commits"] = growth.new_commits.into();
            line["new_bytes"] = growth.new_bytes.into();
        }
        line
    }

    fn row(&self, args: &Args, name: &str) -> Vec<String> {
        let (size, bytes) = (&self.growth.size, |bytes| HumanBytes(bytes).to_string());
        let mut row = vec![
            name.to_owned(),
            self.logs.to_string(),
            size.commits.to_string(),
            bytes(size.headers),
            bytes(size.bodies),
            bytes(size.snapshots),
            bytes(size.others),
            bytes(size.bytes()),
        ];
        if args.new.is_some() {
            row.extend([self.growth.new_commits.to_string(), bytes(self.growth.new_bytes)]);
        }
        row
    }
}
