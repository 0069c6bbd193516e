//! What the tests of this crate share: a store over memory, with faults and a clock between.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icecore_embedded::Memory;
use icecore_layers::Fault;
use icecore_log::codec::Preamble;
use icecore_log::{
    Backend, Clock, Entry, EntryId, Event, Flags, Header, LogId, Mode, PageLimit, Run, StoredCommit,
    Timestamp, Version,
};
use icecore_store::{Log, Range, Settings, Store};
use serde_json::Value;

/// A clock that goes where a test puts it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn set(&self, nanoseconds: i64) {
        self.0.store(nanoseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A backend that loses what it is told to, over memory.
pub fn faulty() -> Arc<Fault> {
    Arc::new(Fault::new(Arc::new(Memory::default())))
}

/// A store of its own over a backend, as another process would have it.
pub fn store(backend: &Arc<Fault>) -> Store {
    store_with(backend, |_| ())
}

pub fn store_with(backend: &Arc<Fault>, change: impl FnOnce(&mut Settings)) -> Store {
    let mut settings = Settings::default();
    settings.append_timeout = Duration::from_secs(20);
    change(&mut settings);
    Store::builder(Arc::clone(backend) as Arc<dyn Backend>).settings(settings).build()
}

pub fn log(store: &Store) -> Log {
    store.log(LogId::new("acme", "session", "s-1").unwrap())
}

pub fn event(text: &str) -> Event {
    Event::new("said", format!("\"{text}\""))
}

pub fn entry(id: &str, text: &str) -> Entry {
    Entry::new(event(text)).with_id(EntryId::new(id).unwrap())
}

/// The data of every event, in order.
pub async fn said(log: &Log) -> Vec<String> {
    let mut reader = log.read(Range::default());
    let mut said = Vec::new();
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return said;
        }
        let events = page.into_iter().flat_map(|commit| commit.into_events());
        said.extend(
            events.map(|event| String::from_utf8(event.event.data.to_vec()).unwrap().replace('"', "")),
        );
    }
}

/// Appends a base by hand: a commit that carries the log's name and secret, so that what is before it may be closed.
pub async fn append_base(log: &Log, backend: &Arc<dyn Backend>) -> Version {
    let head = backend.heads(std::slice::from_ref(log.id())).await.unwrap()[0].clone().unwrap();
    let last = Header::decode(head.header.clone()).unwrap();
    let first =
        backend.read(log.id(), last.base, PageLimit::WHOLE.commits(1)).await.unwrap().commits.remove(0);
    let secret =
        Header::decode(first.header).unwrap().open_preamble(&first.body.unwrap()).unwrap().unwrap().secret;
    let (frame, body) = Preamble { name: log.id().clone(), secret }.seal([9; 16]);
    let version = head.version.next();
    let header = Header {
        version,
        position: last.position + last.events(),
        previous: head.hash(),
        flags: Flags { base: true, ..Flags::default() },
        base: version,
        preamble: Some(frame),
        entries: Vec::new(),
        ..last
    };
    let commit = StoredCommit { version, header: header.encode(), body: Some(body) };
    let created = backend.create(vec![Run::one(log.id().clone(), head.hash(), commit)], Mode::Each).await;
    assert!(created[0].is_done(), "{created:?}");
    version
}

/// What RFC 6902 says of the operations that we use. The crate that we make patches with cannot read numbers of any length.
pub fn apply_json_patch(to: &mut Value, operation: &Value) {
    let path = operation["path"].as_str().unwrap();
    let (parent, last) = path.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/").replace("~0", "~");
    let place = to.pointer_mut(parent).unwrap();
    let value = operation.get("value").cloned();
    match (operation["op"].as_str().unwrap(), place) {
        ("remove", Value::Object(members)) => drop(members.remove(&last).unwrap()),
        ("remove", Value::Array(items)) => drop(items.remove(last.parse().unwrap())),
        ("add", Value::Array(items)) if last == "-" => items.push(value.unwrap()),
        ("add", Value::Array(items)) => items.insert(last.parse().unwrap(), value.unwrap()),
        ("replace", Value::Array(items)) => items[last.parse::<usize>().unwrap()] = value.unwrap(),
        ("add", Value::Object(members)) => drop(members.insert(last, value.unwrap())),
        ("replace", Value::Object(members)) => *members.get_mut(&last).unwrap() = value.unwrap(),
        other => unreachable!("{other:?}"),
    }
}
