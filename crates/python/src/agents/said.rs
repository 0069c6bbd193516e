//! What is said, as it is stored: the event of a log, its id, and the log that it is in.

use icecore::agents::feed::Query;
use icecore::agents::{Kind, Tenant, fingerprint, names};
use icecore::log::{Clock, SystemClock};
use icecore::{Entry, EntryId, Event, LogId, Result, Timestamp};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyString, PyTuple};

use crate::error::checked;
use crate::lenient::{self, Writer};

/// The longest text that stands beside an event's data.
const TEXT_BYTES_MAX: usize = 1_024;
/// The trace of what belongs to none.
const GLOBAL: &[u8] = b"__global__";

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

/// What is accepted, or written at once.
pub struct Said {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub event: Event,
    pub id: Id,
}

pub enum Id {
    Own(EntryId),
    /// Of all that it says.
    Fingerprint,
}

impl Said {
    pub fn bytes(&self) -> usize {
        self.event.data.len() + self.name.len()
    }

    pub fn entry(self, tenant: &Tenant) -> Result<(LogId, Entry)> {
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

    /// An event of a flow.
    pub fn event(event: &Bound<'_, PyAny>) -> PyResult<Self> {
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
        Ok(Self { kind: Kind::Trace, name, event: said, id: Id::Fingerprint })
    }

    /// What belongs to a task of a session, with the attributes that hold its kind and its id.
    pub fn of_a_task(
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
        let event = item(value, fields, &value.getattr(kind_name)?, Some(&task), &session)?;
        Ok(Said { kind, name: session.0, event, id: Id::Own(id) })
    }
}

/// An event that holds all fields of a value.
pub fn item(
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

/// A text that can stand beside an event's data.
fn own_text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    let text = value.cast::<PyString>().ok()?.to_str().ok()?;
    (!text.is_empty() && text.len() <= TEXT_BYTES_MAX).then_some(text)
}

pub fn name_of<'py>(py: Python<'py>, name: &Name) -> PyResult<Bound<'py, PyAny>> {
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

pub fn query(
    py: Python<'_>,
    task: Option<Name>,
    after: Option<Name>,
    limit: Option<usize>,
) -> PyResult<Query> {
    let after = checked(py, after.map(|after| id_of(&after)).transpose())?;
    Ok(Query { correlation: task.map(|task| names::key(&task.0)), after, limit })
}
