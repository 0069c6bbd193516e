//! Writers, and what was acknowledged to them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use icecore::{Entry, EntryId, ErrorKind, Event, Log, LogId, LogPrefix, Range, Receipt, Version};
use tokio::task::JoinSet;

/// The guard of a hung test, and no measure.
const MINUTES: Duration = Duration::from_secs(120);
const WRITERS: usize = 4;

/// Writers that each append to a log of their own, one entry after the other, and repeat each with its id until it is acknowledged.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    running: JoinSet<()>,
}

#[derive(Default)]
struct Acknowledged {
    receipts: Vec<Receipt>,
    last: Option<Instant>,
    /// The longest time since [`Writers::failing`] in which nothing was.
    longest: Duration,
}

impl Writers {
    /// Each appends to a store of its own, as processes of their own would.
    pub async fn start(url: &str) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Acknowledged>>::default());
        let mut running = JoinSet::new();
        for number in 0..WRITERS {
            let log = icecore::open(url).await.unwrap().log(name(number));
            running.spawn(write(log, Arc::clone(&stop), Arc::clone(&acknowledged)));
        }
        Self { stop, acknowledged, running }
    }

    /// Waits until so many more were acknowledged.
    pub async fn reach(&self, more: usize) {
        let count = || self.acknowledged.lock().unwrap().receipts.len();
        let enough = count() + more;
        let reached = async {
            while count() < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(MINUTES, reached).await;
        assert!(reached.is_ok(), "the writers do not go on");
    }

    /// From now on the time without service is measured.
    pub fn failing(&self) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        (acknowledged.last, acknowledged.longest) = (Some(Instant::now()), Duration::ZERO);
    }

    /// Prints the longest time since then in which nothing was acknowledged to anybody.
    pub fn print(&self, what: &str) {
        let acknowledged = self.acknowledged.lock().unwrap();
        println!("{what}: {:.2} s without service", acknowledged.longest.as_secs_f64());
    }

    /// Stops them, each behind what was acknowledged to it last; all receipts.
    pub async fn stop(mut self) -> Vec<Receipt> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(writer) = self.running.join_next().await {
            writer.unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap().receipts)
    }
}

fn name(writer: usize) -> LogId {
    LogId::new("acme", "session", &format!("s-{writer}")).unwrap()
}

async fn write(log: Log, stop: Arc<AtomicBool>, acknowledged: Arc<Mutex<Acknowledged>>) {
    for number in 0.. {
        let entry = || {
            let id = EntryId::new(format!("m-{number}")).unwrap();
            Entry::new(Event::new("said", number.to_string())).with_id(id)
        };
        let receipt = loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match log.append(entry()).await {
                Ok(receipt) => break receipt,
                Err(error) => {
                    let passes = matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Unavailable);
                    assert!(passes, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let mut acknowledged = acknowledged.lock().unwrap();
        let now = Instant::now();
        let since = acknowledged.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        acknowledged.longest = acknowledged.longest.max(since);
        acknowledged.receipts.push(receipt);
    }
}

/// The receipts whose entries are not where they were said to be. What is there is whole: the chains verify, and no id is there twice.
pub async fn missing(url: &str, receipts: Vec<Receipt>) -> Vec<Receipt> {
    let store = icecore::open(url).await.unwrap();
    assert!(store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
    let mut there: HashSet<(LogId, EntryId, Version, u32)> = HashSet::new();
    for writer in 0..WRITERS {
        let log = store.log(name(writer));
        let mut ids = HashSet::new();
        let mut reader = log.read(Range::default());
        loop {
            let page = reader.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            for commit in page {
                for (entry, place) in commit.entries.into_iter().flatten().zip(0..) {
                    let id = entry.id.unwrap();
                    assert!(ids.insert(id.clone()), "{id:?} is twice in {}", log.id());
                    there.insert((log.id().clone(), id, commit.version, place));
                }
            }
        }
    }
    let place = |receipt: &Receipt| {
        (receipt.log.clone(), receipt.id.clone().unwrap(), receipt.version, receipt.entry)
    };
    receipts.into_iter().filter(|receipt| !there.contains(&place(receipt))).collect()
}

/// What the token of a receipt comes to, for somebody who was not there.
#[cfg(feature = "redis")]
pub async fn asked_for(store: &icecore::Store, receipt: &Receipt) -> Result<(), ErrorKind> {
    let log = store.log(receipt.log.clone()).with(icecore::Consistency::AtLeast(receipt.token()));
    log.state().await.map(drop).map_err(|error| error.kind())
}
