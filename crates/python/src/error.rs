//! Our errors as Python exceptions. The classes are in `python/icecore/_errors.py`, one a kind, as `docs/guide/errors.md` has them.

use icecore::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// The exception of an error.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failed) => failed,
    }
}

/// The exception, as a value.
pub fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    static MADE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    MADE.import(py, "icecore._errors", "made")?.call1(parts(py, error)?.bind(py).cast::<PyTuple>()?.clone())
}

/// What the exception is made of.
pub fn parts(py: Python<'_>, error: &Error) -> PyResult<Py<PyAny>> {
    let facts: Vec<_> = error.facts().collect();
    let parts = (error.kind().name(), error.to_string(), facts, error.advice());
    Ok(parts.into_pyobject(py)?.into_any().unbind())
}

/// `InvalidError`.
pub fn invalid(py: Python<'_>, doing: &'static str, advice: &str) -> PyErr {
    raise(py, &Error::new(ErrorKind::Invalid, doing).advise(advice))
}

/// A result with its error as an exception.
pub fn checked<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| raise(py, &error))
}
