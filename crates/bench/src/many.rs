//! What many logs cost: the time of an append from a thousand to a million of them, and opening them all again.

use std::time::Instant;

use bytes::Bytes;
use icecore::{Event, LogId, Result, Store};

use crate::file::{failed, folder};
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
    // In a process of its own: this one has memory left over from the first store.
    let child = std::env::current_exe()
        .and_then(|program| std::process::Command::new(program).arg("--open").arg(&url).output())
        .map_err(|error| failed("opening in a process of its own", error))?;
    let said = String::from_utf8_lossy(&child.stdout).trim().to_owned();
    report.fact("file, microseconds an append at 1,000 logs", &format!("{few:.2}"), "");
    report.fact("file, microseconds an append at 1,000,000 logs", &format!("{many:.2}"), "");
    report.fact("file, the second to the first", &format!("{:.2}x", many / few), "1.30x");
    report.fact("file, opening 1,000,000 logs", &said, "seconds, under 1 GB");
    Ok(())
}

/// Opens a store, and says how long that took and how much of this process is in memory then.
pub async fn open(url: &str) -> Result<()> {
    let started = Instant::now();
    let store = icecore::open(url).await?;
    println!("{:.1} s, {} MiB in memory", started.elapsed().as_secs_f64(), resident() >> 20);
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
