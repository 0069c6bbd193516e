//! Python values as JSON text: what `json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))` writes, and an
//! `InvalidError` where that would lose something or write what is no JSON.

use bytes::Bytes;
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::error::invalid;

const DOING: &str = "writing a value as JSON";
/// How deep a value may be nested. The same as for documents that are given as text.
const DEPTH_MAX: usize = 127;

/// The text of a value; bytes are taken as the text of one.
pub fn encode(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(text) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyByteArray>() {
        return Ok(text.to_vec().into());
    }
    let mut text = Vec::with_capacity(128);
    write(&mut text, value, 0)?;
    Ok(text.into())
}

/// The JSON text that a value is stored as.
#[pyfunction]
pub fn encode_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &encode(value)?))
}

/// What a text stands for, as `json.loads` has it; by its scanner, which runs no Python code (see `call`).
pub fn decode<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static SCAN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let no_json = || invalid(py, "reading a value", "It is no JSON: its bytes are in `data`");
    let scan = SCAN.get_or_try_init(py, || {
        let decoder = py.import("json")?.getattr("JSONDecoder")?.call0()?;
        decoder.getattr("scan_once").map(Bound::unbind)
    })?;
    let text = std::str::from_utf8(text).map_err(|_| no_json())?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let text = PyString::new(py, text);
    let (value, end) = match scan.bind(py).call1((&text, 0)) {
        Ok(scanned) => scanned.extract::<(Bound<'py, PyAny>, usize)>()?,
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => return Err(no_json()),
        Err(error) => return Err(error),
    };
    if end == text.len()? { Ok(value) } else { Err(no_json()) }
}

fn write(text: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    let py = value.py();
    if let Ok(value) = value.cast::<PyString>() {
        return write_text(text, value);
    }
    if value.is_none() {
        text.extend_from_slice(b"null");
    } else if let Ok(value) = value.cast::<PyBool>() {
        text.extend_from_slice(if value.is_true() { b"true" } else { b"false" });
    } else if let Ok(value) = value.cast::<PyInt>() {
        write_integer(text, value)?;
    } else if let Ok(value) = value.cast::<PyFloat>() {
        if !value.value().is_finite() {
            return Err(invalid(py, DOING, "JSON has no NaN and no infinity"));
        }
        // As Python writes it, whatever a subclass says.
        text.extend_from_slice(PyFloat::new(py, value.value()).repr()?.to_str()?.as_bytes());
    } else if depth == DEPTH_MAX && is_container(value) {
        return Err(invalid(py, DOING, "It is nested more than 127 deep, or holds itself"));
    } else if let Ok(value) = value.cast::<PyDict>() {
        // A copy: the allocator may run other code, which may change it.
        for (index, member) in value.items().iter().enumerate() {
            let (name, member) = member.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            text.push(if index == 0 { b'{' } else { b',' });
            let Ok(name) = name.cast::<PyString>() else {
                return Err(invalid(py, DOING, "Every key of a dict must be a str"));
            };
            write_text(text, name)?;
            text.push(b':');
            write(text, &member, depth + 1)?;
        }
        text.extend_from_slice(if value.is_empty() { b"{}" } else { b"}" });
    } else if let Ok(value) = value.cast::<PyList>() {
        write_items(text, value.iter(), depth)?;
    } else if let Ok(value) = value.cast::<PyTuple>() {
        write_items(text, value.iter(), depth)?;
    } else {
        let name = value.get_type().qualname()?;
        let advice = format!(
            "A value is None, bool, int, float, str, list, tuple or dict, or bytes of JSON as a whole, and not {name}"
        );
        return Err(invalid(py, DOING, &advice));
    }
    Ok(())
}

fn is_container(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}

fn write_items<'py>(
    text: &mut Vec<u8>,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> PyResult<()> {
    text.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(text, &item, depth + 1)?;
    }
    text.push(b']');
    Ok(())
}

fn write_integer(text: &mut Vec<u8>, value: &Bound<'_, PyInt>) -> PyResult<()> {
    let py = value.py();
    if let Ok(value) = value.extract::<i64>() {
        text.extend_from_slice(value.to_string().as_bytes());
        return Ok(());
    }
    // Whatever a subclass says. Python itself refuses to write more than 4,300 digits.
    let written = py.get_type::<PyInt>().call_method1(intern!(py, "__repr__"), (value,));
    let written = written.map_err(|_| invalid(py, DOING, "An int has more digits than Python writes"))?;
    text.extend_from_slice(written.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}

fn write_text(text: &mut Vec<u8>, value: &Bound<'_, PyString>) -> PyResult<()> {
    let Ok(value) = value.to_str() else {
        return Err(invalid(value.py(), DOING, "A str holds half of a surrogate pair"));
    };
    // It cannot fail: what is written to is memory.
    serde_json::to_writer(text, value).map_err(|_| invalid_text(value))
}

#[cold]
fn invalid_text(_: &str) -> PyErr {
    Python::attach(|py| invalid(py, DOING, "A str could not be written"))
}
