//! A log's documents: as they are, what changes them, and what differs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use icecore::{Condition, Expiry, Json, Merge, State};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::error::{checked, invalid};
use crate::event::{self, said};
use crate::json::{decode, encode};
use crate::runtime::lock;
use crate::values::{Id, Number, Text, Time, datetime, or_empty};

/// A value as a document's.
pub fn json(value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let text = encode(value)?;
    checked(value.py(), Json::text(text))
}

/// What is merged: one of the three.
pub fn merge(
    py: Python<'_>,
    add: Option<&Bound<'_, PyAny>>,
    append: Option<&Bound<'_, PyAny>>,
    union: Option<&Bound<'_, PyAny>>,
    pointer: Option<Text>,
) -> PyResult<Merge> {
    let merge = match (add, append, union) {
        (Some(number), None, None) => Merge::add(&json(number)?),
        (None, Some(items), None) => Merge::append(&json(items)?),
        (None, None, Some(items)) => Merge::union(&json(items)?),
        _ => return Err(invalid(py, "merging", "Say one of add, append and union")),
    };
    Ok(checked(py, merge)?.pointer(or_empty(pointer)))
}

/// When something is gone by itself: one of these, or nothing, which takes it back.
fn expiry(
    py: Python<'_>,
    at: Option<Time>,
    sliding: Option<Duration>,
    pinned: bool,
) -> PyResult<Option<Expiry>> {
    match (at, sliding, pinned) {
        (None, None, false) => Ok(None),
        (Some(Time(at)), None, false) => Ok(Some(Expiry::At(at))),
        (None, Some(span), false) => Ok(Some(Expiry::Sliding(span))),
        (None, None, true) => Ok(Some(Expiry::Pinned)),
        _ => Err(invalid(
            py,
            "setting an expiry",
            "Say one of at, sliding and pinned, or nothing to take it back",
        )),
    }
}

fn sliding(expiry: Option<Expiry>) -> Option<Duration> {
    match expiry {
        Some(Expiry::Sliding(span)) => Some(span),
        _ => None,
    }
}

/// The documents of a log at a version.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeState(pub Arc<State>);

#[pymethods]
impl NativeState {
    #[getter]
    fn version(&self) -> u64 {
        self.0.version.0
    }

    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.at.map(|time| datetime(py, time)).transpose()
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.due().map(|time| datetime(py, time)).transpose()
    }

    #[getter]
    fn sliding(&self) -> Option<Duration> {
        sliding(self.0.expiry())
    }

    fn keys(&self, prefix: Text) -> Vec<String> {
        self.0.documents(&prefix.0).map(|(key, _)| key.to_owned()).collect()
    }

    fn document(&self, key: &Bound<'_, PyString>) -> Option<Document> {
        // No document's key holds half of a surrogate pair.
        let document = self.0.get(key.to_str().ok()?)?;
        Some(Document(document.clone()))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// A JSON value under a key.
#[pyclass(frozen, module = "icecore")]
pub struct Document(pub icecore::Document);

#[pymethods]
impl Document {
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.json)
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, &self.0.json)
    }

    #[getter]
    fn version(&self) -> u64 {
        self.0.version.0
    }

    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.at)
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.due().map(|time| datetime(py, time)).transpose()
    }

    #[getter]
    fn sliding(&self) -> Option<Duration> {
        sliding(self.0.expiry)
    }

    #[getter]
    fn pinned(&self) -> bool {
        self.0.expiry == Some(Expiry::Pinned)
    }

    fn __repr__(&self) -> String {
        format!("Document(version={}, raw=<{} bytes>)", self.0.version, self.0.json.len())
    }
}

/// Changes of one log. Each method adds to it and gives it back.
#[pyclass(frozen, module = "icecore")]
pub struct Changes(Mutex<icecore::Changes>);

impl Changes {
    pub fn given(&self) -> icecore::Changes {
        lock(&self.0).clone()
    }

    fn and(&self, more: impl FnOnce(icecore::Changes) -> icecore::Changes) {
        let mut changes = lock(&self.0);
        *changes = more(std::mem::take(&mut *changes));
    }
}

#[pymethods]
impl Changes {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn put<'py>(slf: Bound<'py, Self>, key: Text, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let json = json(value)?;
        Bound::get(&slf).and(|changes| changes.put(key.0, json));
        Ok(slf)
    }

    fn patch<'py>(slf: Bound<'py, Self>, key: Text, patch: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let json = json(patch)?;
        Bound::get(&slf).and(|changes| changes.patch(key.0, json));
        Ok(slf)
    }

    #[pyo3(signature = (key, *, add = None, append = None, union = None, pointer = None))]
    fn merge<'py>(
        slf: Bound<'py, Self>,
        key: Text,
        add: Option<&Bound<'py, PyAny>>,
        append: Option<&Bound<'py, PyAny>>,
        union: Option<&Bound<'py, PyAny>>,
        pointer: Option<Text>,
    ) -> PyResult<Bound<'py, Self>> {
        let merge = merge(slf.py(), add, append, union, pointer)?;
        Bound::get(&slf).and(|changes| changes.merge(key.0, merge));
        Ok(slf)
    }

    fn delete(slf: Bound<'_, Self>, key: Text) -> Bound<'_, Self> {
        Bound::get(&slf).and(|changes| changes.delete(key.0));
        slf
    }

    #[pyo3(signature = (key, *, at = None, sliding = None, pinned = false))]
    fn expire(
        slf: Bound<'_, Self>,
        key: Text,
        at: Option<Time>,
        sliding: Option<Duration>,
        pinned: bool,
    ) -> PyResult<Bound<'_, Self>> {
        let expiry = expiry(slf.py(), at, sliding, pinned)?;
        Bound::get(&slf).and(|changes| changes.expire(key.0, expiry));
        Ok(slf)
    }

    fn touch(slf: Bound<'_, Self>, key: Text) -> Bound<'_, Self> {
        Bound::get(&slf).and(|changes| changes.touch(key.0));
        slf
    }

    #[pyo3(signature = (*, at = None, sliding = None))]
    fn expire_log(
        slf: Bound<'_, Self>,
        at: Option<Time>,
        sliding: Option<Duration>,
    ) -> PyResult<Bound<'_, Self>> {
        let expiry = expiry(slf.py(), at, sliding, false)?;
        Bound::get(&slf).and(|changes| changes.expire_log(expiry));
        Ok(slf)
    }

    fn event<'py>(slf: Bound<'py, Self>, event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let event = event::event(event)?;
        Bound::get(&slf).and(|changes| changes.event(event));
        Ok(slf)
    }

    fn only_if_log(slf: Bound<'_, Self>, version: Number) -> Bound<'_, Self> {
        only_if(slf, Condition::Log(version.version()))
    }

    fn only_if_new(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        only_if(slf, Condition::Log(icecore::Version::ZERO))
    }

    fn only_if_document(slf: Bound<'_, Self>, key: Text, version: Number) -> Bound<'_, Self> {
        only_if(slf, Condition::Document { key: key.0, version: version.version() })
    }

    fn only_if_absent(slf: Bound<'_, Self>, key: Text) -> Bound<'_, Self> {
        only_if(slf, Condition::Absent(key.0))
    }

    fn only_if_exists(slf: Bound<'_, Self>, key: Text) -> Bound<'_, Self> {
        only_if(slf, Condition::Exists(key.0))
    }

    fn with_id(slf: Bound<'_, Self>, id: Id) -> Bound<'_, Self> {
        Bound::get(&slf).and(|changes| changes.with_id(id.0));
        slf
    }

    fn by(slf: Bound<'_, Self>, actor: Text) -> Bound<'_, Self> {
        Bound::get(&slf).and(|changes| changes.by(actor.0));
        slf
    }

    fn in_trace(slf: Bound<'_, Self>, trace: Text) -> Bound<'_, Self> {
        Bound::get(&slf).and(|changes| changes.in_trace(trace.0));
        slf
    }

    /// Whether there is something to commit.
    fn __bool__(&self) -> bool {
        !lock(&self.0).is_empty()
    }
}

fn only_if(slf: Bound<'_, Changes>, condition: Condition) -> Bound<'_, Changes> {
    Bound::get(&slf).and(|changes| changes.only_if(condition));
    slf
}

/// What differs between two states.
#[pyclass(frozen, module = "icecore")]
pub struct Diff {
    /// The version of the first.
    #[pyo3(get)]
    from_version: u64,
    /// The version of the second.
    #[pyo3(get)]
    to_version: u64,
    /// Documents that differ.
    #[pyo3(get)]
    differences: Vec<Py<Difference>>,
    patch: Py<PyBytes>,
}

impl Diff {
    pub fn make(py: Python<'_>, diff: icecore::state::Diff) -> PyResult<Py<PyAny>> {
        let patch = PyBytes::new(py, diff.json_patch().to_string().as_bytes()).unbind();
        let text = |value: Option<serde_json::Value>| value.map(|value| Bytes::from(value.to_string()));
        let differences = diff
            .differences
            .into_iter()
            .map(|one| Py::new(py, Difference { key: one.key, from: text(one.from), to: text(one.to) }));
        let differences = differences.collect::<PyResult<_>>()?;
        let made = Self { from_version: diff.from.0, to_version: diff.to.0, differences, patch };
        Ok(Bound::new(py, made)?.into_any().unbind())
    }
}

#[pymethods]
impl Diff {
    fn json_patch<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, self.patch.as_bytes(py))
    }

    fn __len__(&self) -> usize {
        self.differences.len()
    }

    fn __repr__(&self) -> String {
        let Self { from_version, to_version, differences, .. } = self;
        format!("Diff({from_version} to {to_version}, <{} differences>)", differences.len())
    }
}

/// A document that differs.
#[pyclass(frozen, module = "icecore")]
pub struct Difference {
    /// Its key.
    #[pyo3(get)]
    key: String,
    from: Option<Bytes>,
    to: Option<Bytes>,
}

#[pymethods]
impl Difference {
    /// `add`, `remove` or `replace`.
    #[getter]
    fn change(&self) -> &'static str {
        match (&self.from, &self.to) {
            (None, _) => "add",
            (_, None) => "remove",
            _ => "replace",
        }
    }

    #[getter]
    fn from_<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.from.as_ref().map(|text| decode(py, text)).transpose()
    }

    #[getter]
    fn to<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.to.as_ref().map(|text| decode(py, text)).transpose()
    }

    fn __repr__(&self) -> String {
        format!("Difference({} {:?})", self.change(), self.key)
    }
}

/// A change of a document.
#[pyclass(frozen, module = "icecore")]
pub struct Change {
    changed: icecore::state::Changed,
    value: Option<Bytes>,
}

impl Change {
    pub fn make(py: Python<'_>, changed: icecore::state::Changed) -> PyResult<Py<PyAny>> {
        let value = changed.value.as_ref().map(|value| Bytes::from(value.to_string()));
        Ok(Bound::new(py, Self { changed, value })?.into_any().unbind())
    }
}

#[pymethods]
impl Change {
    #[getter]
    fn version(&self) -> u64 {
        self.changed.version.0
    }

    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.changed.at)
    }

    #[getter]
    fn actor(&self) -> Option<&str> {
        said(&self.changed.actor)
    }

    #[getter]
    fn trace(&self) -> Option<&str> {
        said(&self.changed.trace)
    }

    #[getter]
    fn id(&self) -> Option<&str> {
        self.changed.id.as_ref().map(|id| id.as_str())
    }

    /// `put`, `patch` or `delete`; or of a merge `add`, `append` or `union`.
    #[getter]
    fn change(&self) -> &'static str {
        self.changed.change
    }

    /// Where in the document something was merged.
    #[getter]
    fn pointer(&self) -> &str {
        &self.changed.pointer
    }

    /// Whether it was carried out; `None` of a merge into what was trimmed.
    #[getter]
    fn applied(&self) -> Option<bool> {
        self.changed.applied
    }

    /// The value that was put, or the patch, or what was merged; `None` of a delete.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.value.as_ref().map(|text| decode(py, text)).transpose()
    }

    fn __repr__(&self) -> String {
        format!("Change({} at version {})", self.changed.change, self.changed.version)
    }
}
