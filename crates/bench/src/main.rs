//! `cargo xtask bench`: medians of several rounds, as ratios to a yardstick measured in the same round.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no result")]

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(7);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(rounds)),
        Err(error) => eprintln!("no runtime: {error}"),
    }
}

async fn run(rounds: usize) {
    memory(rounds).await;
    single(rounds, 1).await;
    single(rounds, 64).await;
}

use icecore::{Entry, Event, LogId};
use std::time::Instant;

fn payload(n: usize) -> Vec<u8> {
    let mut x = n as u64 * 0x9E37_79B9_7F4A_7C15 + 1;
    (0..1024)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            b'a' + (x % 26) as u8
        })
        .collect()
}

async fn memory(rounds: usize) {
    for _ in 0..rounds {
        let store = icecore::open("memory:").await.unwrap();
        let start = Instant::now();
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    let log = store.log(LogId::new("acme", "bench", &task.to_string()).unwrap());
                    let data: bytes::Bytes = payload(task).into();
                    for _ in 0..100 {
                        let events = (0..100).map(|_| Event::new("said", data.clone())).collect();
                        log.append(Entry { id: None, events }).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let s = start.elapsed().as_secs_f64();
        println!("memory: {:.0} events/s", 640_000.0 / s);
    }
}

async fn single(rounds: usize, tasks: usize) {
    for _ in 0..rounds {
        let store = icecore::open("memory:").await.unwrap();
        let start = Instant::now();
        let n = 200_000 / tasks;
        let tasks: Vec<_> = (0..tasks)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    let log = store.log(LogId::new("acme", "bench", &task.to_string()).unwrap());
                    let data: bytes::Bytes = payload(task).into();
                    for _ in 0..n {
                        log.append(Event::new("said", data.clone())).await.unwrap();
                    }
                })
            })
            .collect();
        let count = tasks.len() * n;
        for task in tasks {
            task.await.unwrap();
        }
        println!("memory single: {:.0} appends/s", count as f64 / start.elapsed().as_secs_f64());
    }
}
