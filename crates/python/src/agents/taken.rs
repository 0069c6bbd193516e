//! A pause that was taken, until it is kept.

use std::sync::Mutex;

use icecore::agents::pause::Taken;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::runtime::{self, lock};

/// What was taken. If it is dropped before it is kept, nobody got it: it is put back.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeTaken(pub Mutex<Option<Taken>>);

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
