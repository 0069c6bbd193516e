//! Events, as callers make them and as they are read; and receipts.

use std::collections::BTreeMap;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::invalid;
use crate::json;
use crate::values::{Number, Text, Time, datetime, or_empty};

/// Something that happened.
#[pyclass(frozen, subclass, module = "icecore")]
pub struct Event(pub icecore::Event);

/// `None` where nothing was said.
pub fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (kind, data, *, at=None, actor=None, trace=None, node=None, correlation=None, causation=None, meta=None, subjects=None, content_type=None, schema_version=None))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
    fn new(
        kind: Text,
        data: &Bound<'_, PyAny>,
        at: Option<Time>,
        actor: Option<Text>,
        trace: Option<Text>,
        node: Option<Text>,
        correlation: Option<Text>,
        causation: Option<Text>,
        meta: Option<BTreeMap<Text, Text>>,
        subjects: Option<Vec<Text>>,
        content_type: Option<Text>,
        schema_version: Option<Number>,
    ) -> PyResult<Self> {
        let schema_version = u32::try_from(schema_version.map_or(0, |number| number.0))
            .map_err(|_| invalid(data.py(), "reading an argument", "A schema_version is below 2^32"))?;
        Ok(Self(icecore::Event {
            kind: kind.0,
            data: json::encode(data)?,
            at: at.map(|time| time.0),
            content_type: or_empty(content_type),
            schema_version,
            actor: or_empty(actor),
            trace: or_empty(trace),
            node: or_empty(node),
            correlation: or_empty(correlation),
            causation: or_empty(causation),
            subjects: subjects.unwrap_or_default().into_iter().map(|text| text.0).collect(),
            meta: meta.unwrap_or_default().into_iter().map(|(name, text)| (name.0, text.0)).collect(),
        }))
    }

    #[getter]
    fn kind(&self) -> &str {
        &self.0.kind
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.data)
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.0.data)
    }

    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.at.map(|time| datetime(py, time)).transpose()
    }

    #[getter]
    fn actor(&self) -> Option<&str> {
        said(&self.0.actor)
    }

    #[getter]
    fn trace(&self) -> Option<&str> {
        said(&self.0.trace)
    }

    #[getter]
    fn node(&self) -> Option<&str> {
        said(&self.0.node)
    }

    #[getter]
    fn correlation(&self) -> Option<&str> {
        said(&self.0.correlation)
    }

    #[getter]
    fn causation(&self) -> Option<&str> {
        said(&self.0.causation)
    }

    #[getter]
    fn meta(&self) -> BTreeMap<String, String> {
        self.0.meta.clone()
    }

    #[getter]
    fn subjects(&self) -> Vec<String> {
        self.0.subjects.clone()
    }

    #[getter]
    fn content_type(&self) -> &str {
        self.0.content_type()
    }

    #[getter]
    fn schema_version(&self) -> u32 {
        self.0.schema_version
    }

    fn __repr__(&self) -> String {
        format!("Event(kind={:?}, data=<{} bytes>)", self.0.kind, self.0.data.len())
    }
}

/// An event, and where it is.
#[pyclass(frozen, extends = Event, module = "icecore")]
pub struct RecordedEvent {
    /// The commit.
    #[pyo3(get)]
    version: u64,
    /// Which event of the commit.
    #[pyo3(get)]
    index: u32,
    /// The id of its entry.
    #[pyo3(get)]
    id: Option<String>,
    at: icecore::Timestamp,
}

impl RecordedEvent {
    pub fn make(py: Python<'_>, event: icecore::RecordedEvent) -> PyResult<Py<PyAny>> {
        let recorded = Self {
            version: event.version.0,
            index: event.index,
            id: event.id.map(|id| id.as_str().to_owned()),
            at: event.at,
        };
        let base = PyClassInitializer::from(Event(event.event));
        Ok(Bound::new(py, base.add_subclass(recorded))?.into_any().unbind())
    }
}

#[pymethods]
impl RecordedEvent {
    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.at)
    }

    /// Nanoseconds since 1970: a datetime has only microseconds.
    #[getter]
    fn at_ns(&self) -> i64 {
        self.at.0
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        let event = &slf.as_super().0;
        format!(
            "RecordedEvent(version={}, index={}, kind={:?}, data=<{} bytes>)",
            slf.version,
            slf.index,
            event.kind,
            event.data.len()
        )
    }
}

/// One event or several, each an `Event` or a dict with the same names.
pub fn events(given: &Bound<'_, PyAny>) -> PyResult<Vec<icecore::Event>> {
    if given.is_instance_of::<Event>() || given.is_instance_of::<PyDict>() {
        return Ok(vec![event(given)?]);
    }
    given.try_iter()?.map(|one| event(&one?)).collect()
}

/// One event.
pub fn event(given: &Bound<'_, PyAny>) -> PyResult<icecore::Event> {
    let py = given.py();
    if let Ok(event) = given.cast::<Event>() {
        return Ok(event.get().0.clone());
    }
    let Ok(members) = given.cast::<PyDict>() else {
        let name = given.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!("an event is an Event or a dict, not {name}")));
    };
    match py.get_type::<Event>().call((), Some(members)) {
        Ok(event) => Ok(event.cast::<Event>()?.get().0.clone()),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            Err(invalid(py, "reading an event", &error.value(py).str()?.to_string_lossy()))
        }
        Err(error) => Err(error),
    }
}

/// Where an entry is.
#[pyclass(frozen, eq, hash, get_all, module = "icecore")]
#[derive(PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The log's name, escaped.
    log: String,
    /// The commit.
    version: u64,
    /// Which entry of it.
    entry: u32,
    /// The entry's id.
    id: Option<String>,
    /// Whether it had been appended before.
    repeated: bool,
}

impl Receipt {
    pub fn make(py: Python<'_>, receipt: icecore::Receipt) -> PyResult<Py<PyAny>> {
        let made = Self {
            log: receipt.log.as_str().to_owned(),
            version: receipt.version.0,
            entry: receipt.entry,
            id: receipt.id.map(|id| id.as_str().to_owned()),
            repeated: receipt.repeated,
        };
        Ok(Bound::new(py, made)?.into_any().unbind())
    }

    /// A receipt, or `None` if there was nothing to commit.
    pub fn make_some(py: Python<'_>, receipt: Option<icecore::Receipt>) -> PyResult<Py<PyAny>> {
        receipt.map_or_else(|| Ok(py.None()), |receipt| Self::make(py, receipt))
    }
}

#[pymethods]
impl Receipt {
    fn __repr__(&self) -> String {
        let Self { log, version, entry, id, repeated } = self;
        let id = id.as_ref().map_or_else(|| "None".to_owned(), |id| format!("{id:?}"));
        let repeated = if *repeated { "True" } else { "False" };
        format!("Receipt(log={log:?}, version={version}, entry={entry}, id={id}, repeated={repeated})")
    }
}
