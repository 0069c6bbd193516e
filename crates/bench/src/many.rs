//! What many logs cost: the time of an append from a thousand to a million of them, and opening them all again.

use std::time::Instant;

use bytes::Bytes;
use icecore::{Event, LogId, Result, Store};

use crate::file::folder;
use crate::measure::{Report, text};

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// How many appends are timed, to logs spread over all that there are.
const TIMED: usize = 100_000;

pub async fn logs(report: &mut Report) -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("store");
    let url = format!("file:{}", path.display());
    let store = icecore::open(&url).await?;
    append(&store, 0..FEW).await?;
    let few = timed(&store, FEW).await?;
    append(&store, FEW..MANY).await?;
    let many = timed(&store, MANY).await?;
    store.shut_down().await?;
    drop(store);
    let before = resident();
    let started = Instant::now();
    let store = icecore::open(&url).await?;
    let opened = started.elapsed().as_secs_f64();
    let resident = resident().saturating_sub(before) >> 20;
    report.fact("file, microseconds an append at 1,000 logs", &format!("{few:.2}"), "");
    report.fact("file, microseconds an append at 1,000,000 logs", &format!("{many:.2}"), "");
    report.fact("file, the second to the first", &format!("{:.2}x", many / few), "1.30x");
    report.fact(
        "file, opening 1,000,000 logs",
        &format!("{opened:.1} s, {resident} MiB more in memory"),
        "seconds, under 1 GB",
    );
    store.shut_down().await
}

fn log(number: usize) -> Result<LogId> {
    LogId::new("acme", "session", &format!("s-{number:07}"))
}

/// Appends one event to each of these logs, many under way at a time.
async fn append(store: &Store, logs: impl Iterator<Item = usize>) -> Result<()> {
    let data = Bytes::from(text(100, 1));
    let mut receipts = std::collections::VecDeque::new();
    for number in logs {
        receipts.push_back(store.log(log(number)?).append(Event::new("said", data.clone())).enqueue().await?);
        if receipts.len() >= 10_000
            && let Some(receipt) = receipts.pop_front()
        {
            receipt.receipt().await?;
        }
    }
    for receipt in receipts {
        receipt.receipt().await?;
    }
    Ok(())
}

/// Microseconds an append, over logs that are spread evenly.
async fn timed(store: &Store, count: usize) -> Result<f64> {
    // A step that shares no factor with the count visits them all, in no order.
    let step = 7_919;
    let spread = (0..TIMED).map(|number| number * step % count);
    append(store, spread.clone().take(TIMED / 10)).await?;
    let started = Instant::now();
    append(store, spread).await?;
    Ok(started.elapsed().as_secs_f64() * 1e6 / TIMED as f64)
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4_096
}
