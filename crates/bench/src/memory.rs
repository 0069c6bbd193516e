//! What appending itself costs: a store in memory.

use bytes::Bytes;
use icecore::{Entry, Event, LogId, Result};
use tokio::task::JoinSet;

use crate::measure::{Report, Round, hashing, seconds, text};

const TASKS: usize = 64;
const APPENDS: usize = 100;
const EVENTS: usize = 100;

pub async fn appends_of_a_hundred(report: &mut Report) -> Result<()> {
    let mut rounds = Vec::new();
    let count = TASKS * APPENDS * EVENTS;
    for _ in 0..report.rounds() {
        let store = icecore::open("memory:").await?;
        let mut tasks = JoinSet::new();
        let ours = seconds(async {
            for task in 0..TASKS {
                let log = store.log(LogId::new("acme", "bench", &task.to_string())?);
                let data = Bytes::from(text(1 << 10, task as u64));
                tasks.spawn(async move {
                    for _ in 0..APPENDS {
                        let events = (0..EVENTS).map(|_| Event::new("said", data.clone())).collect();
                        log.append(Entry { id: None, events }).await?;
                    }
                    Ok(())
                });
            }
            all(&mut tasks).await
        })
        .await?;
        rounds.push(Round { ours, yardstick: hashing((count as u64) << 10) });
    }
    report.add(
        "memory, 64 tasks, appends of 100 events of 1 KiB",
        &rounds,
        count as f64,
        "events/s",
        "SHA-256 of the same bytes, one core",
        "1,000,000 events/s",
    );
    Ok(())
}

/// Waits for every task; the first error.
pub async fn all(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| icecore::Error::new(icecore::ErrorKind::Unavailable, "a task").because(error))??;
    }
    Ok(())
}
