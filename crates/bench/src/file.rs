//! What durability costs: a store in a directory, against the same bytes with the same syncs.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use icecore::log::backend::Depth;
use icecore::{Error, ErrorKind, Event, LogId, Result, Store};
use tokio::task::JoinSet;

use crate::measure::{Report, Round, seconds, text};
use crate::memory::all;

/// A folder beside the build, on the disk that is measured: `/tmp` may be memory.
pub fn folder() -> Result<tempfile::TempDir> {
    let base = std::env::var_os("ICECORE_BENCH_DIR").unwrap_or_else(|| "target".into());
    tempfile::tempdir_in(base).map_err(|error| failed("making a folder", error))
}

pub fn failed(doing: &'static str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, doing).because(error)
}

pub async fn one_writer(report: &mut Report) -> Result<()> {
    const APPENDS: usize = 2_000;
    appends(report, "file, 1 task, events of 1 KiB", 1, APPENDS, "1.20x").await
}

pub async fn many_writers(report: &mut Report) -> Result<()> {
    const TASKS: usize = 64;
    const APPENDS: usize = 1_000;
    appends(report, "file, 64 tasks, events of 1 KiB, a log each", TASKS, APPENDS, "1.25x").await
}

async fn appends(report: &mut Report, what: &str, tasks: usize, appends: usize, target: &str) -> Result<()> {
    let (mut allocated, mut ahead) = (Vec::new(), Vec::new());
    for _ in 0..report.rounds() {
        let folder = folder()?;
        let store = icecore::open(&format!("file:{}", folder.path().join("store").display())).await?;
        // The first append of a log opens it, which is not what is measured.
        write(&store, tasks, 1).await?;
        let (groups_before, bytes_before) = written(&store).await?;
        let ours = seconds(write(&store, tasks, appends)).await?;
        let (groups, bytes) = written(&store).await?;
        store.shut_down().await?;
        let (groups, bytes) = (groups - groups_before, bytes - bytes_before);
        for (zeros, rounds) in [(0, &mut allocated), (ZEROS, &mut ahead)] {
            rounds.push(Round { ours, yardstick: bare(&folder.path().join("bare"), groups, bytes, zeros)? });
        }
    }
    let count = (tasks * appends) as f64;
    let bare = "a bare loop with the same bytes and syncs, into allocated blocks";
    report.add(what, &allocated, count, "appends/s", bare, target);
    let bare = "the same loop, with zeros written ahead as the store does";
    report.add(what, &ahead, count, "appends/s", bare, "");
    Ok(())
}

/// So many tasks append so many events of 1 KiB, each to a log of its own.
pub async fn write(store: &Store, tasks: usize, appends: usize) -> Result<()> {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let log = store.log(LogId::new("acme", "bench", &task.to_string())?);
        let data = Bytes::from(text(1 << 10, task as u64));
        running.spawn(async move {
            for _ in 0..appends {
                log.append(Event::new("said", data.clone())).await?;
            }
            Ok(())
        });
    }
    all(&mut running).await
}

/// Groups, each of which is one sync, and the bytes of all.
async fn written(store: &Store) -> Result<(u64, u64)> {
    let facts = store.backend().examine(Depth::Quick).await?.facts;
    let fact = |name: &str| {
        let found = facts.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.parse().ok());
        found.ok_or_else(|| Error::new(ErrorKind::Unavailable, "reading a fact").with("name", name))
    };
    Ok((fact("groups")?, fact("group_bytes")?))
}

/// How many zeros the store writes ahead of its groups at a time.
pub const ZEROS: u64 = 1 << 20;

/// Seconds for the same bytes in the same number of writes, each synced, to a file that is allocated beforehand; with so many
/// zeros written ahead at a time, which counts as well.
pub fn bare(path: &Path, groups: u64, bytes: u64, zeros: u64) -> Result<f64> {
    let failed = |error| failed("the bare loop", error);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .map_err(|error| failed(error.into()))?;
    let group = text(usize::try_from(bytes / groups.max(1)).unwrap_or(0), 1);
    let ahead = vec![0; usize::try_from(zeros.min(bytes)).unwrap_or(0)];
    let mut written = 0;
    let started = Instant::now();
    for number in 0..groups {
        file.write_all_at(&group, number * group.len() as u64).map_err(failed)?;
        let end = (number + 1) * group.len() as u64;
        if end > written {
            // As far as the file goes.
            let count = ahead.len().min(usize::try_from(bytes.saturating_sub(end)).unwrap_or(0));
            file.write_all_at(&ahead[..count], end).map_err(failed)?;
            written = end + count as u64;
        }
        file.sync_data().map_err(failed)?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path).map_err(failed)?;
    Ok(elapsed)
}
