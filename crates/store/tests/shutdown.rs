//! A runtime that ends while a store works on it.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use documents::*;
use observed::*;
use tokio::runtime::Builder;

/// Tokio drops a task in the very call that spawns it, once its runtime is being shut down.
#[test]
fn a_runtime_that_is_shut_down_while_a_task_begins_leaves_no_log_locked() {
    let (observed, backend) = Observed::memory();
    let (entered, at_work) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    observed.pause_create(entered, may_go);
    let log = open(&backend, by_count(1));
    let other = log.clone();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.spawn(async move { other.put("a", json("1")).await });
    at_work.recv().unwrap();
    runtime.shutdown_background();
    go.send(()).unwrap();

    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // Again until it goes through: what was under way when the runtime ended may be in doubt.
        runtime.block_on(async { while log.put("b", json("2")).await.is_err() {} });
        done.send(()).unwrap();
    });

    is_done.recv_timeout(Duration::from_secs(30)).expect("the log can still be written");
}
