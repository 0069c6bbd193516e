//! What `icecore.penguiflow` calls: a runtime's things, by tenant.
//!
//! What is said while a flow waits goes to an outbox, unless the store is to be durable at once; what must not be lost is written before
//! it answers, in the order of the calls. Every read first waits for what was accepted before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use icecore::agents::binding::Triple;
use icecore::agents::feed::{self, Query};
use icecore::agents::outbox;
use icecore::agents::pause::{self, Taken};
use icecore::agents::{Bindings, Kind, Outbox, Pause, Tenant, fingerprint, names};
use icecore::log::{Clock, SystemClock, SystemEntropy, clock};
use icecore::{
    Changes, Entry, EntryId, Error, ErrorKind, Event, Json, LogId, Receipt, Result, Store, Timestamp,
};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList, PyString, PyTuple};

use crate::call::{Call, call, call_in_order};
use crate::error::{checked, invalid};
use crate::lenient::{self, Writer};
use crate::runtime::{self, lock};
use crate::store::{NativeStore, Opening};
use crate::values::Text;

/// The longest text that stands beside an event's data.
const TEXT_BYTES_MAX: usize = 1_024;
/// The one document of a memory log.
const MEMORY: &str = "memory";

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

/// Those that are alive, for the end of the process.
static ALIVE: Mutex<Vec<Weak<Agents>>> = Mutex::new(Vec::new());
/// Those that Python has dropped while something was on its way.
static STRAYS: Mutex<Vec<Outbox>> = Mutex::new(Vec::new());
/// Between looks at whether one of these is through.
const STRAYS_PATIENCE: Duration = Duration::from_secs(60);

impl Drop for Agents {
    fn drop(&mut self) {
        if runtime::is_forked() || !is_owing(&self.outbox) {
            return;
        }
        let outbox = self.outbox.clone();
        lock(&STRAYS).push(outbox.clone());
        // With it goes the store, and the store's locks. It is not dropped where the list is locked.
        runtime::spawn(async move {
            while outbox.settle(STRAYS_PATIENCE).await.is_err() {}
            let settled: Vec<_> = lock(&STRAYS).extract_if(.., |stray| !is_owing(stray)).collect();
            drop(settled);
        });
    }
}

/// Whether something of it is not written yet, or was given up and nobody was told.
fn is_owing(outbox: &Outbox) -> bool {
    outbox.unsettled() > 0 || outbox.lost() > 0
}

/// An id: any text, also one with halves of surrogate pairs.
pub struct Name(pub Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Name {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.cast::<PyString>() {
            Ok(text) => Ok(Self(lenient::surrogates(&text)?)),
            Err(_) => {
                let name = value.get_type().qualname()?;
                Err(PyTypeError::new_err(format!("an id is a str, not {name}")))
            }
        }
    }
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

/// What is accepted, or written at once.
struct Said {
    kind: Kind,
    name: Vec<u8>,
    event: Event,
    id: Id,
}

enum Id {
    Own(EntryId),
    /// Of all that it says.
    Fingerprint,
}

impl Said {
    fn bytes(&self) -> usize {
        self.event.data.len() + self.name.len()
    }

    fn entry(self, tenant: &Tenant) -> Result<(LogId, Entry)> {
        let Self { kind, name, event, id } = self;
        let id = match id {
            Id::Own(id) => id,
            Id::Fingerprint => {
                let said = [&event.data[..], event.kind.as_bytes(), event.node.as_bytes()];
                EntryId::new(fingerprint::of(&said).to_string())?
            }
        };
        Ok((tenant.log(kind, &name)?, Entry::new(event).with_id(id)))
    }
}

impl NativeAgents {
    /// `None` if all was accepted and there is room; else what must be awaited.
    fn say<const N: usize>(&self, py: Python<'_>, said: [Said; N]) -> PyResult<Option<Call>> {
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
        self.read(work, |py, events| {
            let events = events.into_iter().map(|event| {
                let icecore::RecordedEvent { event: Event { kind, node, data, .. }, .. } = event;
                (PyBytes::new(py, &data), kind, node)
            });
            Ok(PyList::new(py, events)?.into_any().unbind())
        })
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
        let mut alive = lock(&ALIVE);
        alive.retain(|other| other.strong_count() > 0);
        alive.push(Arc::downgrade(&agents));
        drop(alive);
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

    // Events of a flow.

    fn save_event(&self, event: &Bound<'_, PyAny>) -> PyResult<Option<Call>> {
        let py = event.py();
        let trace = event.getattr(intern!(py, "trace_id"))?;
        let at = event.getattr(intern!(py, "ts"))?;
        let kind = event.getattr(intern!(py, "kind"))?;
        let node = event.getattr(intern!(py, "node_name"))?;
        let mut data = Writer::default();
        data.member("ts", &at)?;
        data.member("node_id", &event.getattr(intern!(py, "node_id"))?)?;
        data.member("payload", &event.getattr(intern!(py, "payload"))?)?;
        let mut said = Event::default();
        match own_text(&kind).filter(|kind| !kind.starts_with("icecore.")) {
            Some(kind) => kind.clone_into(&mut said.kind),
            None => {
                "event".clone_into(&mut said.kind);
                data.member("kind", &kind)?;
            }
        }
        match own_text(&node) {
            Some(node) => node.clone_into(&mut said.node),
            None if node.is_none() => {}
            None => data.member("node_name", &node)?,
        }
        let name = if trace.is_none() {
            data.member("trace_id", &trace)?;
            GLOBAL.to_vec()
        } else {
            trace.extract::<Name>()?.0
        };
        if let Some(trace) = own_text(&trace) {
            trace.clone_into(&mut said.trace);
        }
        data.text.push(b'}');
        (said.data, said.at) = (data.text.into(), at.cast::<PyFloat>().ok().and_then(|at| time(at.value())));
        self.say(py, [Said { kind: Kind::Trace, name, event: said, id: Id::Fingerprint }])
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
        let said = self.item(event, fields, &kind, None, &trace)?;
        self.say(py, [Said { kind: Kind::Planner, name: trace.0, event: said, id: Id::Own(self.0.new_id()) }])
    }

    fn load_planner_events(&self, trace: Name) -> Call {
        self.feed(Kind::Planner, trace.0, Query::default())
    }

    // What tasks of a session tell, and are told.

    fn save_update(&self, update: &Bound<'_, PyAny>, fields: &Bound<'_, PyTuple>) -> PyResult<Option<Call>> {
        let py = update.py();
        let (kind, id) = (intern!(py, "update_type"), intern!(py, "update_id"));
        self.say(py, [self.of_a_task(Kind::Updates, update, fields, kind, id)?])
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
        let said = self.of_a_task(Kind::Steering, event, fields, kind, id)?;
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
        Ok(self.written(async move { this.put(log, MEMORY.to_owned(), json.into()).await }))
    }

    fn load_memory(&self, key: Name) -> Call {
        self.document(Kind::Memory, key.0, MEMORY.to_owned())
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

impl NativeAgents {
    /// What belongs to a task of a session, with the attributes that hold its kind and its id.
    fn of_a_task(
        &self,
        kind: Kind,
        value: &Bound<'_, PyAny>,
        fields: &Bound<'_, PyTuple>,
        kind_name: &Bound<'_, PyString>,
        id_name: &Bound<'_, PyString>,
    ) -> PyResult<Said> {
        let py = value.py();
        let session = value.getattr(intern!(py, "session_id"))?.extract::<Name>()?;
        let task = value.getattr(intern!(py, "task_id"))?.extract::<Name>()?;
        let id = checked(py, id_of(&value.getattr(id_name)?.extract::<Name>()?))?;
        let event = self.item(value, fields, &value.getattr(kind_name)?, Some(&task), &session)?;
        Ok(Said { kind, name: session.0, event, id: Id::Own(id) })
    }

    /// An event that holds all fields of a value.
    fn item(
        &self,
        value: &Bound<'_, PyAny>,
        fields: &Bound<'_, PyTuple>,
        kind: &Bound<'_, PyAny>,
        task: Option<&Name>,
        name: &Name,
    ) -> PyResult<Event> {
        let kind = own_text(kind).filter(|kind| !kind.starts_with("icecore.")).unwrap_or("event");
        let mut event = Event::new(kind, lenient::encode_fields(value, fields)?);
        event.at = Some(SystemClock.now());
        match task {
            Some(task) => event.correlation = names::key(&task.0),
            None => event.trace = String::from_utf8(name.0.clone()).unwrap_or_default(),
        }
        Ok(event)
    }
}

pub fn seconds(py: Python<'_>, given: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(given)
        .map_err(|_| invalid(py, "reading an argument", "A time is given in seconds, from 0 on"))
}

/// The trace of what belongs to none.
const GLOBAL: &[u8] = b"__global__";

/// A text that can stand beside an event's data.
fn own_text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    let text = value.cast::<PyString>().ok()?.to_str().ok()?;
    (!text.is_empty() && text.len() <= TEXT_BYTES_MAX).then_some(text)
}

fn name_of<'py>(py: Python<'py>, name: &Name) -> PyResult<Bound<'py, PyAny>> {
    PyBytes::new(py, &name.0).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))
}

fn time(seconds: f64) -> Option<Timestamp> {
    let nanoseconds = seconds * 1e9;
    // The years 1678 to 2262.
    (nanoseconds.is_finite() && nanoseconds.abs() < 9.2e18).then_some(Timestamp(nanoseconds as i64))
}

fn id_of(name: &Name) -> Result<EntryId> {
    EntryId::new(names::key(&name.0)).or_else(|_| EntryId::new(names::hashed(&name.0)))
}

fn query(py: Python<'_>, task: Option<Name>, after: Option<Name>, limit: Option<usize>) -> PyResult<Query> {
    let after = checked(py, after.map(|after| id_of(&after)).transpose())?;
    Ok(Query { correlation: task.map(|task| names::key(&task.0)), after, limit })
}

/// What was taken. If it is dropped before it is kept, nobody got it: it is put back.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeTaken(Mutex<Option<Taken>>);

#[pymethods]
impl NativeTaken {
    /// What it is; it is not kept yet.
    fn look<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let payload = lock(&self.0).as_ref().map(Taken::payload)?;
        Some(PyBytes::new(py, &payload))
    }

    /// From here on it was taken.
    fn keep(&self) {
        let taken = lock(&self.0).take();
        drop(taken.map(Taken::keep));
    }
}

impl Drop for NativeTaken {
    fn drop(&mut self) {
        if let Some(taken) = lock(&self.0).take() {
            runtime::drop_inside(taken);
        }
    }
}

/// Writes what was accepted, as the process ends, and accepts no more; what is not written then, is told.
#[pyfunction(name = "_flush_at_exit")]
pub fn flush_at_exit(py: Python<'_>, seconds: f64) -> Vec<String> {
    if runtime::is_forked() {
        return Vec::new();
    }
    let alive =
        lock(&ALIVE).iter().filter_map(Weak::upgrade).map(|agents| agents.outbox.clone()).collect::<Vec<_>>();
    let strays = std::mem::take(&mut *lock(&STRAYS));
    let mut outboxes: Vec<_> = alive.into_iter().chain(strays).collect();
    // Of a thread that still runs: it is told.
    outboxes.iter().for_each(Outbox::close);
    outboxes.retain(is_owing);
    if outboxes.is_empty() {
        return Vec::new();
    }
    let Ok(runtime) = runtime::runtime(py) else { return Vec::new() };
    py.detach(move || {
        let until = Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0));
        let flushes = outboxes.iter().map(|outbox| async move {
            let error = outbox.flush(until).await.err()?;
            let told = error.fact("lost").and_then(|lost| lost.parse().ok());
            let lost: u64 = told.unwrap_or_else(|| outbox.lost());
            Some(format!("{} events: {error}", outbox.unsettled() + lost))
        });
        runtime.block_on(futures_util::future::join_all(flushes)).into_iter().flatten().collect()
    })
}
