//! What one log, one worker or one runtime suffers does not stop the others.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/hooked.rs"]
mod hooked;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hooked::*;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, Entropy, ErrorKind, LogId, Version};
use icecore_store::{Log, Store};
use support::{event, log, said, store};

fn other_log(store: &Store) -> Log {
    store.log(LogId::new("acme", "session", "s-2").unwrap())
}

/// Logs are looked up together, and the look fails for all if one head is damaged.
#[tokio::test]
async fn a_log_whose_head_is_damaged_does_not_keep_others_from_being_opened() {
    let (_, backend) = shared(Hooked { damaged: Some("s-2"), ..Hooked::default() });
    let store = store_over(&backend, |_| ());

    let damaged = other_log(&store).append(event("two")).enqueue().await.unwrap();
    let whole = log(&store).append(event("one")).enqueue().await.unwrap();

    assert_eq!(whole.receipt().await.unwrap().version, Version(1));
    assert_eq!(damaged.receipt().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Logs that were opened together went on together, when the slowest was open.
#[tokio::test]
async fn a_log_that_is_slow_to_open_does_not_keep_others_waiting() {
    let (_, backend) = shared(Hooked { stuck: Some("s-2"), ..Hooked::default() });
    let writer = store_over(&backend, |_| ());
    log(&writer).append(event("one")).await.unwrap();
    other_log(&writer).append(event("one")).await.unwrap();
    let store = store_over(&backend, |settings| settings.append_timeout = Duration::from_secs(5));

    let slow = other_log(&store).append(event("two")).enqueue().await.unwrap();
    let quick = log(&store).append(event("two")).enqueue().await.unwrap();

    assert_eq!(quick.receipt().await.unwrap().version, Version(2));
    drop(slow);
}

/// The log stayed busy, with nobody at work on it: every later append timed out.
#[tokio::test]
async fn a_panic_in_the_backend_leaves_the_commit_in_doubt_and_it_is_sent_again() {
    let hooked = Arc::new(Hooked::default());
    let fault = Arc::new(Fault::new(Arc::clone(&hooked) as Arc<dyn Backend>));
    let store = store(&fault);
    hooked.panics.store(true, Ordering::SeqCst);
    // It was written: that the next try is refused does not mean that nothing was.
    fault.plan([Fate::Pass, Fate::Refuse]);

    let receipt = log(&store).append(event("one")).await.unwrap();

    assert_eq!(receipt.version, Version(1));
    log(&store).append(event("two")).await.unwrap();
    assert_eq!(said(&log(&store)).await, ["one", "two"]);
}

/// As above. The first runtime dies while a create is under way; while a log is being opened.
#[test]
fn a_store_whose_runtime_was_dropped_goes_on_in_another() {
    for opening in [false, true] {
        let (hooked, backend) = shared(Hooked { stuck: Some("s-1"), ..Hooked::default() });
        hooked.hangs.store(!opening, Ordering::SeqCst);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let store = store_over(&backend, |_| ());
        runtime().block_on(async {
            if opening {
                log(&store_over(&backend, |_| ())).append(event("zero")).await.unwrap();
            }
            let enqueued = log(&store).append(event("one")).enqueue().await.unwrap();
            wait_for(if opening { &hooked.reads } else { &hooked.creates }).await;
            drop(enqueued);
        });

        hooked.hangs.store(false, Ordering::SeqCst);
        hooked.is_loose.store(true, Ordering::SeqCst);
        let said = runtime().block_on(async {
            log(&store).append(event("two")).await.unwrap();
            said(&log(&store)).await
        });

        // While it was being opened nothing was sent, so the entry was withdrawn with its caller.
        assert_eq!(said, if opening { ["zero", "two"] } else { ["one", "two"] });
    }
}

async fn wait_for(count: &AtomicUsize) {
    while count.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

/// Small entries were merged up to a mebibyte, whatever the backend takes.
#[tokio::test]
async fn a_merged_commit_is_not_larger_than_the_backend_takes() {
    let commit_bytes_max = Some(16 << 10);
    let (hooked, backend) = shared(Hooked { commit_bytes_max, ..Hooked::default() });
    let store = store_over(&backend, |_| ());
    let log = log(&store);

    let mut enqueued = Vec::new();
    for n in 0..400 {
        enqueued.push(log.append(event(&n.to_string().repeat(n % 90))).enqueue().await.unwrap());
    }
    for one in enqueued {
        one.receipt().await.unwrap();
    }

    assert!(hooked.creates.load(Ordering::SeqCst) < 40);
    assert_eq!(said(&log).await.len(), 400);
}

/// Every random byte is the largest, and so is every pause.
#[derive(Debug)]
struct Largest;

impl Entropy for Largest {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xff);
    }
}

/// Writers that lose slots to each other all the time went on at the same moment, to lose the next one.
#[tokio::test]
async fn who_loses_slot_after_slot_waits_longer_and_longer_and_then_gets_one() {
    let (hooked, backend) = shared(Hooked::default());
    let store = Store::builder(backend).entropy(Arc::new(Largest)).build();
    let log = log(&store);
    log.append(event("zero")).await.unwrap();

    hooked.rivals.store(8, Ordering::SeqCst);
    let before = std::time::Instant::now();
    let receipt = log.append(event("one")).await.unwrap();

    assert_eq!(receipt.version, Version(10));
    assert!(before.elapsed() >= Duration::from_millis(2 + 4 + 8 + 16 + 32 + 64));
}
