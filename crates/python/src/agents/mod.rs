//! What `icecore.penguiflow` calls: a runtime's things, by tenant.
//!
//! What is said while a flow waits goes to an outbox, unless the store is to be durable at once; what must not be lost is written before
//! it answers, in the order of the calls. Every read first waits for what was accepted before it.
//!
//! | module | holds |
//! | --- | --- |
//! | `said` | events as they are stored, and any text as an id |
//! | `taken` | a pause that was taken, until it is kept |
//! | `ends` | what is written when an object or the process ends |

mod ends;
mod said;
mod taken;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use icecore::agents::binding::Triple;
use icecore::agents::deletion::Deleted;
use icecore::agents::feed::{self, Query};
use icecore::agents::listing::Listed;
use icecore::agents::outbox;
use icecore::agents::pause;
use icecore::agents::{Bindings, Deletion, Kind, Listing, Outbox, Pause, Tenant, memory, names};
use icecore::log::{Clock, SystemClock, SystemEntropy, clock};
use icecore::{
    Changes, Entry, EntryId, Error, ErrorKind, Event, Json, LogGrowth, LogId, LogPrefix, Receipt, Result,
    Store,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::call::{Call, call, call_in_order};
use crate::error::{checked, invalid};
use crate::lenient;
use crate::runtime;
use crate::store::{NativeStore, Opening};
use crate::values::{Text, Time, datetime};

pub use ends::flush_at_exit;
pub use said::Name;
use said::{Id, Said, name_of, query};
pub use taken::NativeTaken;

/// A tenant's things in a store.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeAgents(pub Arc<Agents>);

pub struct Agents {
    pub opening: Arc<Opening>,
    pub tenant: Arc<Tenant>,
    bindings: Bindings,
    pub outbox: Outbox,
    is_durable: bool,
    pub timeout: Duration,
    /// Held from where a write begins to where it has its place: one after the other, also while the store is being opened.
    turn: tokio::sync::Mutex<()>,
    /// Makes ids: nobody else has the first, and the second is new each time.
    writer: u64,
    written: AtomicU64,
}

impl Agents {
    /// Writes the entries of a call, in the order of the calls, also where they are of several logs; one whose id is there stays as it was.
    async fn write(&self, entries: impl IntoIterator<Item = (LogId, Entry)>) -> Result<()> {
        let turn = self.turn.lock().await;
        let store = self.opening.store().await?;
        let mut enqueued = Vec::with_capacity(1);
        for (log, entry) in entries {
            enqueued.push(store.log(log).append(entry).enqueue().await?);
        }
        drop(turn);
        let mut outcome = Ok(());
        // To the end of all of them: none is withdrawn because another failed.
        for one in enqueued {
            match one.receipt().await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => outcome = outcome.and(done.map(|_: Receipt| ())),
            }
        }
        outcome
    }

    async fn put(&self, log: LogId, key: String, json: Bytes) -> Result<()> {
        let changes = Changes::new().put(key, Json::text(json)?).with_id(self.new_id());
        self.write([(log, changes.entry())]).await
    }

    async fn pause(&self, token: &Name) -> Result<Pause> {
        let store = self.opening.store().await?;
        Ok(Pause::new(store.log(self.tenant.log(Kind::Pause, &token.0)?)))
    }

    /// The store, once all that was accepted is in it.
    async fn settled(&self) -> Result<Store> {
        self.outbox.settle(self.timeout).await?;
        self.opening.store().await
    }

    fn new_id(&self) -> EntryId {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let id = EntryId::new(format!("~{:016x}{number:016x}", self.writer));
        // It is neither empty nor long.
        id.unwrap_or_else(|_| EntryId::random(&SystemEntropy))
    }

    /// No call takes longer.
    pub async fn within<T>(
        &self,
        late: impl FnOnce() -> Error,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err(late().with("timeout_ms", self.timeout.as_millis())))
    }

    /// Writes an entry soon, whatever the durability: nobody waits for it.
    pub fn say_soon(&self, py: Python<'_>, made: Result<(LogId, Entry)>) -> PyResult<()> {
        let said = checked(py, made)?;
        let bytes = said.1.events.iter().map(|event| event.data.len()).sum();
        let runtime = runtime::runtime(py)?.handle();
        checked(py, self.outbox.accept(runtime, bytes, move || Ok(said)).map(|_| ()))
    }

    /// A change that did not end in time.
    pub fn late_to_write(&self) -> Error {
        Error::new(ErrorKind::Unknown, "writing").advise("It took too long, and may have been written: retry")
    }

    /// What did not end in time, and changes nothing.
    pub fn late_to_read(&self) -> Error {
        let error = Error::new(ErrorKind::Unavailable, "reading").advise("It took too long: retry");
        match self.outbox.trouble() {
            Some(trouble) => error.because(trouble),
            None => error,
        }
    }
}

impl NativeAgents {
    /// `None` if all was accepted and there is room; else what must be awaited.
    fn say(&self, py: Python<'_>, said: impl IntoIterator<Item = Said>) -> PyResult<Option<Call>> {
        let this = Arc::clone(&self.0);
        if this.is_durable {
            let entries: Result<Vec<_>> = said.into_iter().map(|said| said.entry(&this.tenant)).collect();
            return Ok(Some(self.writing(checked(py, entries)?)));
        }
        let mut has_room = true;
        for said in said {
            let runtime = runtime::runtime(py)?.handle();
            let tenant = Arc::clone(&this.tenant);
            let accepted = this.outbox.accept(runtime, said.bytes(), move || said.entry(&tenant));
            has_room = checked(py, accepted)?;
        }
        if has_room {
            return Ok(None);
        }
        let timeout = this.timeout;
        Ok(Some(call(async move { this.outbox.room(timeout).await }, |py, ()| Ok(py.None()))))
    }

    fn writing(&self, entries: Vec<(LogId, Entry)>) -> Call {
        let this = Arc::clone(&self.0);
        self.written(async move { this.write(entries).await })
    }

    fn written(&self, work: impl Future<Output = Result<()>> + Send + 'static) -> Call {
        let this = Arc::clone(&self.0);
        call_in_order(async move { this.within(|| this.late_to_write(), work).await }, |py, ()| Ok(py.None()))
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
        make: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Call {
        let this = Arc::clone(&self.0);
        call(async move { this.within(|| this.late_to_read(), work).await }, make)
    }

    fn feed(&self, kind: Kind, name: Vec<u8>, query: Query) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.settled().await?;
            feed::list(&store.log(this.tenant.log(kind, &name)?), &query).await
        };
        self.read(work, |py, events| Ok(items(py, events)?.into_any().unbind()))
    }

    fn page(
        &self,
        py: Python<'_>,
        kind: Kind,
        name: Vec<u8>,
        after: Option<&Text>,
        limit: usize,
    ) -> PyResult<Call> {
        let from = checked(py, after.map(|after| after.0.parse()).transpose())?;
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.settled().await?;
            feed::page(&store.log(this.tenant.log(kind, &name)?), from, limit).await
        };
        Ok(self.read(work, |py, page| {
            let next = page.next.to_string();
            Ok((items(py, page.events)?, next).into_pyobject(py)?.into_any().unbind())
        }))
    }

    fn document(&self, kind: Kind, name: Vec<u8>, key: String) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.settled().await?;
            store.log(this.tenant.log(kind, &name)?).document(&key).await
        };
        self.read(work, |py, found| match found {
            Some(document) => Ok(PyBytes::new(py, &document.json).into_any().unbind()),
            None => Ok(py.None()),
        })
    }
}

#[pymethods]
impl NativeAgents {
    #[new]
    fn new(
        py: Python<'_>,
        store: &NativeStore,
        tenant: Text,
        durable: bool,
        linger: f64,
        buffer_bytes: usize,
        timeout: f64,
    ) -> PyResult<Self> {
        let tenant = checked(py, Tenant::new(tenant.0))?;
        let mut settings = outbox::Settings::default();
        (settings.linger, settings.bytes_max) = (seconds(py, linger)?, buffer_bytes);
        let opening = Arc::clone(&store.0);
        let open = {
            let opening = Arc::clone(&opening);
            Box::new(move || -> std::pin::Pin<Box<dyn Future<Output = Result<Store>> + Send>> {
                let opening = Arc::clone(&opening);
                Box::pin(async move { opening.store().await })
            })
        };
        let agents = Arc::new(Agents {
            opening,
            bindings: Bindings::new(tenant.clone()),
            tenant: Arc::new(tenant),
            outbox: Outbox::new(open, settings),
            is_durable: durable,
            timeout: seconds(py, timeout)?,
            turn: tokio::sync::Mutex::default(),
            writer: u64::from_be_bytes(clock::random(&SystemEntropy)),
            written: AtomicU64::new(0),
        });
        ends::remember(&agents);
        Ok(Self(agents))
    }

    /// How many events were accepted and are not written.
    fn unsettled(&self) -> u64 {
        self.0.outbox.unsettled()
    }

    /// Waits until all that was accepted is written; what never will be is an error.
    fn flush(&self, py: Python<'_>, timeout: f64) -> PyResult<Call> {
        let (this, timeout) = (Arc::clone(&self.0), seconds(py, timeout)?);
        Ok(call(async move { this.outbox.flush(timeout).await }, |py, ()| Ok(py.None())))
    }

    /// Accepts no more.
    fn close(&self) {
        self.0.outbox.close();
    }

    /// What the storage system is and promises.
    fn capabilities(&self) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move { Ok(this.opening.store().await?.capabilities().clone()) };
        self.read(work, |py, found| {
            let (system, durability) = (found.system, found.durability.name());
            let may = (found.many_writers, found.atomic_create, found.read_only);
            let all = (system, durability, may.0, may.1, may.2, found.commit_bytes_max);
            Ok(all.into_pyobject(py)?.into_any().unbind())
        })
    }

    // Events of a flow.

    fn save_event(&self, event: &Bound<'_, PyAny>) -> PyResult<Option<Call>> {
        self.say(event.py(), [Said::event(event)?])
    }

    /// Each in its place; what is wrong with one of them is told before any is accepted.
    fn save_events(&self, py: Python<'_>, events: Vec<Bound<'_, PyAny>>) -> PyResult<Option<Call>> {
        let said = events.iter().map(Said::event).collect::<PyResult<Vec<_>>>()?;
        self.say(py, said)
    }

    fn page_events(&self, py: Python<'_>, trace: Name, after: Option<Text>, limit: usize) -> PyResult<Call> {
        self.page(py, Kind::Trace, trace.0, after.as_ref(), limit)
    }

    fn load_events(&self, trace: Name) -> Call {
        self.feed(Kind::Trace, trace.0, Query::default())
    }

    fn save_planner_event(
        &self,
        trace: Name,
        event: &Bound<'_, PyAny>,
        fields: &Bound<'_, PyTuple>,
    ) -> PyResult<Option<Call>> {
        let py = event.py();
        let kind = event.getattr(intern!(py, "event_type"))?;
        let said = said::item(event, fields, &kind, None, &trace)?;
        self.say(py, [Said { kind: Kind::Planner, name: trace.0, event: said, id: Id::Own(self.0.new_id()) }])
    }

    fn load_planner_events(&self, trace: Name) -> Call {
        self.feed(Kind::Planner, trace.0, Query::default())
    }

    // What tasks of a session tell, and are told.

    fn save_update(&self, update: &Bound<'_, PyAny>, fields: &Bound<'_, PyTuple>) -> PyResult<Option<Call>> {
        let py = update.py();
        let (kind, id) = (intern!(py, "update_type"), intern!(py, "update_id"));
        self.say(py, [Said::of_a_task(Kind::Updates, update, fields, kind, id)?])
    }

    /// As [`NativeAgents::save_events`].
    fn save_updates(
        &self,
        py: Python<'_>,
        updates: Vec<Bound<'_, PyAny>>,
        fields: &Bound<'_, PyTuple>,
    ) -> PyResult<Option<Call>> {
        let (kind, id) = (intern!(py, "update_type"), intern!(py, "update_id"));
        let said = |update: &Bound<'_, PyAny>| Said::of_a_task(Kind::Updates, update, fields, kind, id);
        self.say(py, updates.iter().map(said).collect::<PyResult<Vec<_>>>()?)
    }

    fn page_updates(
        &self,
        py: Python<'_>,
        session: Name,
        after: Option<Text>,
        limit: usize,
    ) -> PyResult<Call> {
        self.page(py, Kind::Updates, session.0, after.as_ref(), limit)
    }

    fn load_updates(
        &self,
        py: Python<'_>,
        session: Name,
        task: Option<Name>,
        after: Option<Name>,
        limit: Option<usize>,
    ) -> PyResult<Call> {
        Ok(self.feed(Kind::Updates, session.0, query(py, task, after, limit)?))
    }

    fn save_steering(&self, event: &Bound<'_, PyAny>, fields: &Bound<'_, PyTuple>) -> PyResult<Call> {
        let py = event.py();
        let (kind, id) = (intern!(py, "event_type"), intern!(py, "event_id"));
        let said = Said::of_a_task(Kind::Steering, event, fields, kind, id)?;
        Ok(self.writing(vec![checked(py, said.entry(&self.0.tenant))?]))
    }

    fn load_steering(
        &self,
        py: Python<'_>,
        session: Name,
        task: Option<Name>,
        after: Option<Name>,
        limit: Option<usize>,
    ) -> PyResult<Call> {
        Ok(self.feed(Kind::Steering, session.0, query(py, task, after, limit)?))
    }

    fn save_task(&self, py: Python<'_>, session: Name, task: Name, json: Vec<u8>) -> PyResult<Call> {
        let log = checked(py, self.0.tenant.log(Kind::Tasks, &session.0))?;
        let this = Arc::clone(&self.0);
        Ok(self.written(async move { this.put(log, names::key(&task.0), json.into()).await }))
    }

    /// In the order in which each was first saved.
    fn load_tasks(&self, session: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.settled().await?;
            store.log(this.tenant.log(Kind::Tasks, &session.0)?).state().await
        };
        self.read(work, |py, state| {
            let tasks = state.in_order().into_iter().map(|(_, document)| PyBytes::new(py, &document.json));
            Ok(PyList::new(py, tasks)?.into_any().unbind())
        })
    }

    // What is remembered.

    fn save_memory(&self, py: Python<'_>, key: Name, json: Vec<u8>) -> PyResult<Call> {
        let log = checked(py, self.0.tenant.log(Kind::Memory, &key.0))?;
        let this = Arc::clone(&self.0);
        Ok(self.written(async move { this.put(log, memory::KEY.to_owned(), json.into()).await }))
    }

    fn load_memory(&self, key: Name) -> Call {
        self.document(Kind::Memory, key.0, memory::KEY.to_owned())
    }

    /// With its etag.
    fn load_memory_with_etag(&self, key: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.settled().await?;
            store.log(this.tenant.log(Kind::Memory, &key.0)?).document(memory::KEY).await
        };
        self.read(work, |py, found| {
            let found = found.map(|found| (PyBytes::new(py, &found.json), memory::etag(&found)));
            Ok(found.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// If what is there is still what is expected: its new etag.
    fn save_memory_if(
        &self,
        py: Python<'_>,
        key: Name,
        json: Vec<u8>,
        expected: Option<Text>,
    ) -> PyResult<Call> {
        let log = checked(py, self.0.tenant.log(Kind::Memory, &key.0))?;
        let json = checked(py, Json::text(json))?;
        let this = Arc::clone(&self.0);
        let work = async move {
            let log = this.opening.store().await?.log(log);
            let expected = expected.as_ref().map(|expected| &*expected.0);
            memory::save_if(&log, json, expected, this.new_id()).await
        };
        let this = Arc::clone(&self.0);
        Ok(call(async move { this.within(|| this.late_to_write(), work).await }, |py, etag| {
            Ok(etag.into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// All of a session, or what that would be.
    fn delete_session(&self, py: Python<'_>, session: Name, dry_run: bool, timeout: f64) -> PyResult<Call> {
        let (this, timeout) = (Arc::clone(&self.0), seconds(py, timeout)?);
        let work = async move {
            let deletion = Deletion::new(this.settled().await?, (*this.tenant).clone());
            if dry_run { deletion.plan(&session.0).await } else { deletion.delete(&session.0).await }
        };
        let late = move || {
            let kind = if dry_run { ErrorKind::Unavailable } else { ErrorKind::Unknown };
            let advice = "It took too long. Call it again, with more time: it goes on where it was";
            Error::new(kind, "deleting a session").with("timeout_ms", timeout.as_millis()).advise(advice)
        };
        let work = async move { tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(late())) };
        Ok(call(work, show_deleted))
    }

    /// A page of the sessions of which something is kept.
    fn list_sessions(&self, py: Python<'_>, after: Option<Text>, limit: &Bound<'_, PyAny>) -> PyResult<Call> {
        let limit = limit
            .extract()
            .map_err(|_| invalid(py, "listing sessions", "A page has room for one at the least"))?;
        let this = Arc::clone(&self.0);
        let work = async move {
            let listing = Listing::new(this.settled().await?, (*this.tenant).clone());
            listing.page(after.as_ref().map(|after| &*after.0), limit).await
        };
        Ok(self.read(work, |py, page| {
            let shown = |listed: Listed| {
                let id = listed.id().map(str::to_owned);
                Ok((id, datetime(py, listed.active)?.unbind(), listed.kinds))
            };
            let sessions = page.sessions.into_iter().map(shown).collect::<PyResult<Vec<_>>>()?;
            Ok((sessions, page.next).into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// What all logs of the tenant take, by kind, and the logs with the most that is new.
    fn growth(&self, since: Time, largest: usize) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let prefix = LogPrefix::tenant(this.tenant.as_str())?;
            let (mut kinds, mut logs) = (BTreeMap::<String, (u64, LogGrowth)>::new(), Vec::new());
            let add = |log: LogId, growth: LogGrowth| {
                let (count, sum) = kinds.entry(log.kind()).or_default();
                *count += 1;
                sum.add(&growth);
                logs.push((growth.new_bytes, growth.size.bytes(), log));
                // Not all of a store of many logs is kept.
                if logs.len() >= largest.max(1_000).saturating_mul(2) {
                    newest(&mut logs, largest);
                }
            };
            this.settled().await?.each_growth(&prefix, since.0, add).await?;
            newest(&mut logs, largest);
            Ok((kinds, logs))
        };
        call(work, |py, (kinds, logs)| {
            let kinds = kinds.into_iter().map(|(kind, (count, growth))| {
                let (size, new) = (growth.size, (growth.new_commits, growth.new_bytes));
                (kind, count, size.commits, size.bytes(), new.0, new.1)
            });
            let logs = logs.into_iter().map(|(new, bytes, log)| (log.as_str().to_owned(), bytes, new));
            let shown = (kinds.collect::<Vec<_>>(), logs.collect::<Vec<_>>());
            Ok(shown.into_pyobject(py)?.into_any().unbind())
        })
    }

    // Planners that wait, and what they did.

    fn save_pause(&self, py: Python<'_>, token: Name, json: Vec<u8>, ttl: Option<f64>) -> PyResult<Call> {
        let ttl = ttl.map(|ttl| seconds(py, ttl)).transpose()?;
        let log = checked(py, self.0.tenant.log(Kind::Pause, &token.0))?;
        let saving = Json::text(json).and_then(|json| pause::saving(&json, ttl, SystemClock.now()));
        let entry = checked(py, saving)?.with_id(self.0.new_id()).entry();
        Ok(self.writing(vec![(log, entry)]))
    }

    fn take_pause(&self, token: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let taken = this.pause(&token).await?.take().await?;
            // From here on it may be dropped in any thread, such as that of a loop that was closed.
            Ok(taken.map(|taken| NativeTaken(Mutex::new(Some(taken)))))
        };
        self.read(work, |py, taken| match taken {
            Some(taken) => Ok(Bound::new(py, taken)?.into_any().unbind()),
            None => Ok(py.None()),
        })
    }

    fn discard_pause(&self, token: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move { this.pause(&token).await?.discard().await };
        let this = Arc::clone(&self.0);
        call(async move { this.within(|| this.late_to_write(), work).await }, |py, was_there| {
            Ok(was_there.into_pyobject(py)?.to_owned().into_any().unbind())
        })
    }

    fn save_trajectory(
        &self,
        py: Python<'_>,
        trace: Name,
        session: Name,
        json: Vec<u8>,
    ) -> PyResult<Option<Call>> {
        let json = checked(py, Json::text(json))?;
        // First that the session has it, which is how it is found.
        let listed = Event {
            trace: String::from_utf8(trace.0.clone()).unwrap_or_default(),
            ..Event::new("trajectory.saved", lenient::encode(&name_of(py, &trace)?)?)
        };
        let mut changed = Changes::new().put(names::key(&session.0), json).entry().events;
        let Some(event) = changed.pop() else { return Ok(None) };
        let [first, then] = [(); 2].map(|()| Id::Own(self.0.new_id()));
        // At once, or of two calls the one that is listed first might be kept last.
        let listed = Said { kind: Kind::Traces, name: session.0, event: listed, id: first };
        self.say(py, [listed, Said { kind: Kind::Trajectory, name: trace.0, event, id: then }])
    }

    fn load_trajectory(&self, trace: Name, session: Name) -> Call {
        self.document(Kind::Trajectory, trace.0, names::key(&session.0))
    }

    /// The newest so many savings.
    fn load_traces(&self, session: Name, limit: Option<usize>) -> Call {
        self.feed(Kind::Traces, session.0, Query { limit, ..Query::default() })
    }

    // Remote tasks.

    fn save_binding(
        &self,
        trace: Name,
        context: Option<Name>,
        task: Name,
        session: Option<Name>,
        json: Vec<u8>,
    ) -> Call {
        let triple = Triple { trace: trace.0, context: context.map(|context| context.0), task: task.0 };
        let this = Arc::clone(&self.0);
        self.written(async move {
            let session = session.as_ref().map(|session| &*session.0);
            this.bindings.save(this.opening.store(), &triple, session, Json::text(json)?).await
        })
    }

    fn load_bindings(&self, session: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let store = this.opening.store().await?;
            this.bindings.list(&store, &session.0).await
        };
        self.read(work, |py, found| {
            let found = found.into_iter().map(|json| PyBytes::new(py, &json));
            Ok(PyList::new(py, found)?.into_any().unbind())
        })
    }

    fn end_binding(&self, trace: Name, context: Option<Name>, task: Name) -> Call {
        let triple = Triple { trace: trace.0, context: context.map(|context| context.0), task: task.0 };
        let this = Arc::clone(&self.0);
        self.written(async move { this.bindings.end(this.opening.store(), &triple).await })
    }
}

/// The data of events, their kinds and their nodes.
fn items(py: Python<'_>, events: Vec<icecore::RecordedEvent>) -> PyResult<Bound<'_, PyList>> {
    let events = events.into_iter().map(|event| {
        let icecore::RecordedEvent { event: Event { kind, node, data, .. }, .. } = event;
        (PyBytes::new(py, &data), kind, node)
    });
    PyList::new(py, events)
}

/// The first of these, by what is new of them, and all.
fn newest(logs: &mut Vec<(u64, u64, LogId)>, count: usize) {
    logs.sort_unstable_by(|a, b| b.cmp(a));
    logs.truncate(count);
}

fn show_deleted(py: Python<'_>, deleted: Deleted) -> PyResult<Py<PyAny>> {
    let traces = deleted.shared_traces.into_iter().map(|trace| name_of(py, &Name(trace)));
    let traces = traces.collect::<PyResult<Vec<_>>>()?;
    let (commits, bytes) = (deleted.commits, deleted.bytes);
    let artifacts = (deleted.artifacts, deleted.artifact_bytes);
    let memory = (deleted.unsure_memory, deleted.hashed_memory);
    let all = (deleted.logs, commits, bytes, artifacts.0, artifacts.1, traces, memory.0, memory.1);
    Ok(all.into_pyobject(py)?.into_any().unbind())
}

pub fn seconds(py: Python<'_>, given: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(given)
        .map_err(|_| invalid(py, "reading an argument", "A time is given in seconds, from 0 on"))
}
