//! What checking costs: reading back and verifying, against SHA-256 over the same bytes.

use std::time::Instant;

use bytes::Bytes;
use icecore::{Event, LogId, LogPrefix, Range, Result, Store};

use crate::file::folder;
use crate::measure::{Report, Round, hashing, text};

/// One log of 100,000 events of 1 KiB, in commits of about a thousand.
const EVENTS: usize = 100_000;

async fn filled(path: &std::path::Path) -> Result<Store> {
    let store = icecore::open(&format!("file:{}", path.display())).await?;
    let log = store.log(LogId::new("acme", "bench", "reading")?);
    let data = Bytes::from(text(1 << 10, 1));
    let mut receipts = Vec::with_capacity(EVENTS);
    for _ in 0..EVENTS {
        receipts.push(log.append(Event::new("said", data.clone())).enqueue().await?);
    }
    for receipt in receipts {
        receipt.receipt().await?;
    }
    Ok(store)
}

pub async fn back(report: &mut Report) -> Result<()> {
    let folder = folder()?;
    let store = filled(&folder.path().join("store")).await?;
    let log = store.log(LogId::new("acme", "bench", "reading")?);
    let mut rounds = Vec::new();
    for _ in 0..report.rounds() {
        let started = Instant::now();
        let mut reader = log.read(Range::default());
        let mut count = 0;
        loop {
            let page = reader.next_page().await?;
            if page.is_empty() {
                break;
            }
            count += page.into_iter().flat_map(|commit| commit.into_events()).count();
        }
        assert_eq!(count, EVENTS);
        rounds
            .push(Round { ours: started.elapsed().as_secs_f64(), yardstick: hashing((EVENTS as u64) << 10) });
    }
    report.add(
        "file, reading back with the chain checked",
        &rounds,
        EVENTS as f64,
        "events/s",
        "SHA-256 of the same bytes, one core",
        "2.00x",
    );
    store.shut_down().await
}

pub async fn verify(report: &mut Report) -> Result<()> {
    let folder = folder()?;
    let store = filled(&folder.path().join("store")).await?;
    let mut rounds = Vec::new();
    for _ in 0..report.rounds() {
        let started = Instant::now();
        let verified = store.verify(&LogPrefix::all(), |_| ()).await?;
        assert_eq!((verified.events, verified.damage.len()), (EVENTS as u64, 0));
        rounds.push(Round { ours: started.elapsed().as_secs_f64(), yardstick: hashing(verified.bytes) });
    }
    report.add(
        "file, verify",
        &rounds,
        EVENTS as f64,
        "events/s",
        "SHA-256 of the same bytes, one core",
        "2.00x",
    );
    store.shut_down().await
}
