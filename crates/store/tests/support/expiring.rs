//! What the tests of expiry by two processes share: a process with a clock of its own, and one that is stopped while another does its part.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_log::{Backend, LogId, Result};
use icecore_store::retention::{Maintained, Pace};
use icecore_store::state::{Changes, Expiry, Json};
use icecore_store::{Log, Store};

pub use crate::paused::interleaved;
use crate::support::ManualClock;

pub const MINUTE: i64 = 60_000_000_000;
pub const PACE: Pace = Pace { every: Duration::from_secs(600), logs_per_second: u32::MAX };

/// When it begins: at the beginning of a stretch of ten minutes.
pub const BEGAN: i64 = 1_000_000 * MINUTE;
/// The span, and the time, after which something is due: the last moment of a stretch. So one nanosecond later maintenance may remove it.
pub const SPAN: i64 = 20 * MINUTE - 1;
pub const DUE: i64 = BEGAN + SPAN;
pub const MAINTAINED: i64 = DUE + 1;
/// The clocks of writers: as far behind as they may be, at the last moment, and at the moment.
pub const WRITTEN: [i64; 3] = [MAINTAINED - 5 * MINUTE, DUE - 1, DUE];

pub fn id() -> LogId {
    LogId::new("acme", "session", "s-1").unwrap()
}

pub fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

pub fn slides() -> Expiry {
    Expiry::Sliding(Duration::from_nanos(SPAN as u64))
}

/// A process of its own, whose clock stands.
pub fn process(backend: &Arc<dyn Backend>, at: i64) -> Store {
    let clock = Arc::new(ManualClock::default());
    clock.set(at);
    Store::builder(Arc::clone(backend)).clock(clock).build()
}

pub async fn keys(log: &Log) -> Vec<String> {
    log.state().await.unwrap().documents("").map(|(key, _)| key.to_owned()).collect()
}

pub async fn notes(backend: &Arc<dyn Backend>) -> Vec<String> {
    let store = process(backend, BEGAN);
    let mut names = Vec::new();
    for number in 0..16 {
        let id = LogId::new("_", "icecore", &format!("due-{number:x}")).unwrap();
        names.extend(keys(&store.log(id)).await);
    }
    names
}

pub async fn maintained(backend: &Arc<dyn Backend>, at: i64) -> Maintained {
    let done = process(backend, at).maintain_once(PACE, |_| ()).await.unwrap().unwrap();
    assert!(done.first_error.is_none(), "{:?}", done.first_error);
    done
}

/// What was done to a document, the newest first.
pub async fn history(log: &Log, key: &str) -> Vec<&'static str> {
    let (mut history, mut changes) = (log.history(key), Vec::new());
    loop {
        let page = history.next_page().await.unwrap();
        if page.is_empty() {
            return changes;
        }
        changes.extend(page.into_iter().map(|one| one.change));
    }
}

pub type Maintenance = Result<Option<Maintained>>;

pub async fn maintain(backend: Arc<dyn Backend>, at: i64) -> Maintenance {
    process(&backend, at).maintain_once(PACE, |_| ()).await
}

pub async fn documents(first: Expiry) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    put_documents(&backend, first).await;
    backend
}

pub async fn put_documents(backend: &Arc<dyn Backend>, first: Expiry) {
    let log = process(backend, BEGAN).log(id());
    log.commit(Changes::new().put("k", json("1")).expire("k", first)).await.unwrap();
    log.put("stays", json("1")).await.unwrap();
}

/// However it came: what is due goes some time, and what notes there were.
pub async fn assert_goes_in_the_end(backend: &Arc<dyn Backend>, when: &str) {
    for minutes in [70, 140] {
        maintained(backend, MAINTAINED + minutes * MINUTE).await;
    }
    let log = process(backend, MAINTAINED + 140 * MINUTE).log(id());
    let newest = history(&log, "k").await[0];
    let is_there = log.document("k").await.unwrap().is_some();
    assert_eq!(newest == "delete", !is_there, "{when}: it is still stored: {newest}");
    assert!(keys(&log).await.contains(&"stays".to_owned()), "{when}");
    assert_eq!(notes(backend).await, Vec::<String>::new(), "{when}");
}
