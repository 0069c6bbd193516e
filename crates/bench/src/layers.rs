//! What counting and trying again cost: the memory backend with layers around it, against itself.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use icecore::log::{Mode, Run, StoredCommit};
use icecore::retry::{Policy, Retry};
use icecore::{Backend, Hash, LogId, Meters, Open, Result, Version};

use crate::file::write;
use crate::measure::{Report, Round, seconds};

const CALLS: usize = 200_000;
const APPENDS: usize = 2_000;

/// Single calls, one after the other, where nothing else hides the cost; and appends through a store.
pub async fn around_memory(report: &mut Report) -> Result<()> {
    let (mut counted, mut both, mut store) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..report.rounds() {
        let memory = async || Ok(icecore::open("memory:").await?.backend().clone());
        let meters = Meters::default();
        let yardstick = calls(&*memory().await?).await?;
        let metrics = meters.around(memory().await?);
        counted.push(Round { ours: calls(&metrics).await?, yardstick });
        let retry = Retry::new(memory().await?, Policy::default()).counted_by(&meters);
        both.push(Round { ours: calls(&meters.around(Arc::new(retry))).await?, yardstick });

        let open = |layered: bool| Open {
            metrics: layered.then(Meters::default),
            retry: layered.then(Policy::default),
            ..Open::default()
        };
        let (bare, layered) = (open(false).open("memory:").await?, open(true).open("memory:").await?);
        let yardstick = seconds(write(&bare, 64, APPENDS)).await?;
        store.push(Round { ours: seconds(write(&layered, 64, APPENDS)).await?, yardstick });
    }
    let bare = "the memory backend alone";
    let calls = 2.0 * CALLS as f64;
    report.add("metrics around memory, create and heads in turn", &counted, calls, "calls/s", bare, "");
    report.add("metrics around retry around memory, the same", &both, calls, "calls/s", bare, "");
    let what = "a store in memory with both, 64 tasks, events of 1 KiB";
    report.add(what, &store, (64 * APPENDS) as f64, "appends/s", "the same without them", "1.05x");
    Ok(())
}

/// Seconds for creates of small commits, each followed by a look at the head.
async fn calls(backend: &dyn Backend) -> Result<f64> {
    let log = LogId::new("acme", "bench", "layers")?;
    let mut previous = Hash::ZERO;
    let started = Instant::now();
    for version in 1..=CALLS as u64 {
        let header = Bytes::copy_from_slice(&version.to_le_bytes());
        let commit = StoredCommit { version: Version(version), header, body: None };
        let hash = commit.hash();
        backend.create(vec![Run::one(log.clone(), previous, commit)], Mode::Each).await;
        backend.heads(std::slice::from_ref(&log)).await?;
        previous = hash;
    }
    Ok(started.elapsed().as_secs_f64())
}
