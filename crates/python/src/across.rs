//! Several logs at once: looked at as of one moment, changed together or not at all.

use std::sync::Arc;

use icecore::{EntryId, LogId, States};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::call::{Call, call};
use crate::error::checked;
use crate::event::Receipt;
use crate::log::NativeLog;
use crate::state::{Changes, NativeState};
use crate::store::NativeStore;
use crate::values::Id;

/// What is to be committed, by its log.
type Given<'py> = Vec<(PyRef<'py, NativeLog>, PyRef<'py, Changes>)>;

/// The states of several logs, as they were at one moment.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeStates(Arc<States>);

#[pymethods]
impl NativeStates {
    /// The logs' names, in their order.
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(log, _)| log.as_str()).collect()
    }

    fn of(&self, py: Python<'_>, log: &NativeLog) -> PyResult<NativeState> {
        checked(py, self.0.of(&log.id).map(|state| NativeState(Arc::clone(state))))
    }
}

#[pyfunction]
pub fn states(store: &NativeStore, logs: Vec<PyRef<'_, NativeLog>>) -> Call {
    let opening = Arc::clone(&store.0);
    let logs: Vec<LogId> = logs.iter().map(|log| log.id.clone()).collect();
    call(async move { opening.store().await?.states(&logs).await }, |py, states| {
        Ok(Bound::new(py, NativeStates(Arc::new(states)))?.into_any().unbind())
    })
}

#[pyfunction]
pub fn commit_all(store: &NativeStore, changes: Given<'_>, id: Option<Id>) -> Call {
    let (opening, changes) = (Arc::clone(&store.0), given(&changes, id));
    call(async move { opening.store().await?.commit(changes).await }, receipts)
}

/// Commits changes if none of these logs went on since: their receipts, or `None` if one did.
#[pyfunction]
pub fn commit_behind(store: &NativeStore, states: &NativeStates, changes: Given<'_>, id: Option<Id>) -> Call {
    let (opening, changes) = (Arc::clone(&store.0), given(&changes, id));
    let states = Arc::clone(&states.0);
    let work = async move { opening.store().await?.commit_behind(&states, changes).await };
    call(work, |py, done| done.map_or_else(|| Ok(py.None()), |done| receipts(py, done)))
}

fn given(changes: &Given<'_>, id: Option<Id>) -> Vec<(LogId, icecore::Changes)> {
    let id: Option<EntryId> = id.map(|id| id.0);
    let with_id = |changes: icecore::Changes| match &id {
        // What changes nothing has no entry to be known by.
        Some(id) if !changes.is_empty() => changes.with_id(id.clone()),
        _ => changes,
    };
    changes.iter().map(|(log, changes)| (log.id.clone(), with_id(changes.given()))).collect()
}

fn receipts(py: Python<'_>, receipts: Vec<icecore::Receipt>) -> PyResult<Py<PyAny>> {
    let made = receipts.into_iter().map(|receipt| Receipt::make(py, receipt));
    Ok(PyList::new(py, made.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind())
}
