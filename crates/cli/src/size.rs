//! `size`.

use std::collections::HashMap;
use std::process::ExitCode;

use futures_util::{StreamExt, TryStreamExt, stream};
use icecore::{LogId, LogPrefix, LogSize, Result, Store};
use indicatif::HumanBytes;
use serde_json::json;

use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Bytes as they are handed to the storage system: headers, bodies, snapshots and other blobs.\n\nExamples:\n  icecore size --by kind\n  icecore size acme/ --limit 5"
)]
pub struct Args {
    /// Only logs whose names begin so
    #[arg(default_value = "", hide_default_value = true, value_parser = LogPrefix::parse)]
    prefix: LogPrefix,
    /// What is added up
    #[arg(long, value_enum, default_value_t)]
    by: By,
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

/// How many logs are looked at at once.
const LOGS_AT_ONCE: usize = 16;

/// What some logs take together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    logs: u64,
    size: LogSize,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let bar = output.progress(None, "logs");
    let (mut sums, mut all, mut cursor) = (HashMap::<String, Sum>::new(), Sum::default(), None);
    loop {
        let page = store.logs(&args.prefix, cursor, 1_000).await?;
        let sizes = stream::iter(page.logs).map(|id| async {
            let size = store.log(id.clone()).size().await?;
            Ok((id, size))
        });
        let mut sizes = sizes.buffer_unordered(LOGS_AT_ONCE);
        while let Some((id, size)) = sizes.try_next().await? {
            sums.entry(args.by.name(&id)).or_default().add(&size);
            all.add(&size);
            bar.inc(1);
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    bar.finish_and_clear();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(a, x), (b, y)| y.size.bytes().cmp(&x.size.bytes()).then_with(|| a.cmp(b)));
    let left_out = sums.len().saturating_sub(args.limit);
    sums.truncate(args.limit);
    if output.is_json() {
        for (name, sum) in &sums {
            output.line(&sum.as_json(args.by.word(), name).to_string())?;
        }
        return output
            .line(&all.as_json("all", args.prefix.as_str()).to_string())
            .map(|()| ExitCode::SUCCESS);
    }
    let mut rows: Vec<_> = sums.iter().map(|(name, sum)| sum.row(name)).collect();
    let others = if left_out == 0 { String::new() } else { format!(" ({left_out} more not shown)") };
    rows.push(all.row(&format!("all{others}")));
    let headings = [args.by.word(), "logs", "commits", "headers", "bodies", "snapshots", "others", "bytes"];
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
    fn add(&mut self, size: &LogSize) {
        self.logs += 1;
        self.size.add(size);
    }

    fn as_json(&self, of: &str, name: &str) -> serde_json::Value {
        let size = &self.size;
        json!({ of: name, "logs": self.logs, "commits": size.commits, "headers": size.headers, "bodies": size.bodies, "snapshots": size.snapshots, "others": size.others, "bytes": size.bytes() })
    }

    fn row(&self, name: &str) -> Vec<String> {
        let (size, bytes) = (&self.size, |bytes| HumanBytes(bytes).to_string());
        vec![
            name.to_owned(),
            self.logs.to_string(),
            size.commits.to_string(),
            bytes(size.headers),
            bytes(size.bodies),
            bytes(size.snapshots),
            bytes(size.others),
            bytes(size.bytes()),
        ]
    }
}
