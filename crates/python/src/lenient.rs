//! Any Python value as JSON text, whatever it is: what a runtime hands over must be kept, and an event is no reason to stop a flow.
//!
//! JSON's own values stand as they are. What JSON has no word for is an object with one member whose name begins with `$`, and is read
//! back as it was: `docs/formats/penguiflow.md` has the list. The rest stands for itself as well as it can: models and dataclasses as
//! objects, times as ISO 8601, sets and tuples as arrays, and what is left as its `str`.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet, PyString,
    PyTuple, PyType,
};

use crate::error::invalid;

/// How deep a text may be nested: documents may be 127 deep, and are wrapped a little. What is deeper is a text in the text.
const DEPTH_MAX: usize = 100;
/// How deep a value is followed.
const FOLLOWED_MAX: usize = 700;
/// The most bytes of one value: an entry holds 64 MiB.
const BYTES_MAX: usize = 60 << 20;
/// serde_json takes a text that begins so for something else.
const PRIVATE: &str = "$serde_json::private::";

/// The text of a value.
pub fn encode(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut writer = Writer::default();
    writer.value(value)?;
    Ok(writer.text)
}

/// An object of some attributes of a value.
pub fn encode_fields(value: &Bound<'_, PyAny>, names: &Bound<'_, PyTuple>) -> PyResult<Vec<u8>> {
    let mut writer = Writer::default();
    writer.fields(value, names)?;
    Ok(writer.text)
}

pub struct Writer {
    pub text: Vec<u8>,
    /// Of this text.
    depth: usize,
    /// The values that this one is in: one that holds itself ends there.
    path: Vec<usize>,
}

impl Default for Writer {
    fn default() -> Self {
        // What most events take.
        Self { text: Vec::with_capacity(512), depth: 0, path: Vec::with_capacity(8) }
    }
}

impl Writer {
    /// A member of an object: the separator, its name and its value. `name` needs no escape.
    pub fn member(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let first = if self.text.is_empty() { b'{' } else { b',' };
        self.text.extend_from_slice(&[first, b'"']);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        self.depth = 1;
        self.value(value)
    }

    pub fn value(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(value) = value.cast::<PyString>() {
            self.string(value)
        } else if value.is_none() {
            self.push(b"null")
        } else if let Ok(value) = value.cast::<PyBool>() {
            self.push(if value.is_true() { b"true" } else { b"false" })
        } else if let Ok(value) = value.cast::<PyInt>() {
            self.integer(value)
        } else if let Ok(value) = value.cast::<PyFloat>() {
            self.float(value.value())
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.inside(value, |writer| writer.dict(dict))
        } else if let Ok(list) = value.cast::<PyList>() {
            self.inside(value, |writer| writer.items(list.iter()))
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.inside(value, |writer| writer.items(tuple.iter()))
        } else {
            self.other(value)
        }
    }

    fn push(&mut self, text: &[u8]) -> PyResult<()> {
        self.text.extend_from_slice(text);
        Ok(())
    }

    /// What JSON has no word for: `name` and `text` need no escape.
    fn tagged(&mut self, name: &str, text: &str) -> PyResult<()> {
        self.push(format!(r#"{{"${name}":"{text}"}}"#).as_bytes())
    }

    fn string(&mut self, value: &Bound<'_, PyString>) -> PyResult<()> {
        match value.to_str() {
            Ok(text) if !text.starts_with(PRIVATE) => {
                // It cannot fail: what is written to is memory.
                let _ = serde_json::to_writer(&mut self.text, text);
                Ok(())
            }
            _ => {
                let text = base64(&surrogates(value)?)?;
                self.tagged("str", &text)
            }
        }
    }

    fn integer(&mut self, value: &Bound<'_, PyInt>) -> PyResult<()> {
        let py = value.py();
        if let Ok(value) = value.extract::<i64>() {
            // It cannot fail: what is written to is memory.
            let _ = serde_json::to_writer(&mut self.text, &value);
            return Ok(());
        }
        // Whatever a subclass says. Python itself refuses to write more than 4,300 digits, unless they are hexadecimal.
        match py.get_type::<PyInt>().call_method1(intern!(py, "__repr__"), (value,)) {
            Ok(written) => self.push(written.cast::<PyString>()?.to_str()?.as_bytes()),
            Err(_) => {
                let written = py.import("builtins")?.getattr("hex")?.call1((value,))?;
                self.tagged("int", written.cast::<PyString>()?.to_str()?)
            }
        }
    }

    fn float(&mut self, value: f64) -> PyResult<()> {
        if value.is_finite() {
            // It cannot fail: what is written to is memory.
            let _ = serde_json::to_writer(&mut self.text, &value);
            return Ok(());
        }
        self.tagged(
            "float",
            if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
        )
    }

    /// Writes what is in a value, unless it is in itself.
    fn inside(
        &mut self,
        value: &Bound<'_, PyAny>,
        write: impl FnOnce(&mut Self) -> PyResult<()>,
    ) -> PyResult<()> {
        let here = value.as_ptr() as usize;
        if self.path.contains(&here) {
            return self.push(br#"{"$cycle":true}"#);
        }
        if self.text.len() > BYTES_MAX {
            return Err(invalid(value.py(), "writing a value as JSON", "It is larger than 60 MiB as JSON"));
        }
        if self.path.len() >= FOLLOWED_MAX {
            return self.as_str(value);
        }
        self.path.push(here);
        if self.depth < DEPTH_MAX {
            self.depth += 1;
            let start = self.text.len();
            write(self)?;
            debug_assert!(self.text.len() > start, "something was written");
            self.depth -= 1;
        } else {
            let (text, depth) = (std::mem::take(&mut self.text), std::mem::replace(&mut self.depth, 1));
            let written = write(self);
            // Also if it failed: somebody further out writes something else in its place.
            let deeper = std::mem::replace(&mut self.text, text);
            self.depth = depth;
            written?;
            self.push(br#"{"$json":"#)?;
            let _ = serde_json::to_writer(&mut self.text, &*String::from_utf8_lossy(&deeper));
            self.push(b"}")?;
        }
        self.path.pop();
        Ok(())
    }

    fn items<'py>(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<()> {
        self.text.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            self.value(&item)?;
        }
        self.push(b"]")
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        // A copy: what is called for a value may change it.
        let members: Vec<_> = dict.iter().collect();
        // Before any value is written, for a value may hold such a dict again, and so on.
        let Some(names) = members.iter().map(|(name, _)| plain_name(name)).collect::<Option<Vec<_>>>() else {
            return self.pairs(&members);
        };
        let is_one = members.len() == 1;
        self.text.push(b'{');
        for (index, (name, (_, member))) in names.into_iter().zip(&members).enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            let _ = if is_one && name.starts_with('$') {
                serde_json::to_writer(&mut self.text, &format!("${name}"))
            } else {
                serde_json::to_writer(&mut self.text, name)
            };
            self.text.push(b':');
            self.value(member)?;
        }
        self.push(b"}")
    }

    /// A dict whose keys are no names of JSON.
    fn pairs(&mut self, members: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<()> {
        self.push(br#"{"$dict":["#)?;
        // Two arrays more, which whoever reads it must follow as well.
        self.depth += 2;
        self.path.extend([0, 0]);
        for (index, (name, member)) in members.iter().enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            self.text.push(b'[');
            self.value(name)?;
            self.text.push(b',');
            self.value(member)?;
            self.text.push(b']');
        }
        self.depth -= 2;
        self.path.truncate(self.path.len() - 2);
        self.push(b"]}")
    }

    fn fields(&mut self, value: &Bound<'_, PyAny>, names: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.depth = 1;
        for (index, name) in names.iter().enumerate() {
            self.text.push(if index == 0 { b'{' } else { b',' });
            let name = name.cast_into::<PyString>()?;
            self.string(&name)?;
            self.text.push(b':');
            self.value(&value.getattr(&name)?)?;
        }
        self.push(if names.is_empty() { b"{}" } else { b"}" })
    }

    /// What is no value of JSON, nor a container of such.
    fn other(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let start = self.text.len();
        let (depth, path) = (self.depth, self.path.len());
        match self.known(value) {
            Err(error) if is_about_the_value(py, &error) => {
                // It could not be looked into: nothing of it was written.
                self.text.truncate(start);
                self.path.truncate(path);
                self.depth = depth;
                self.as_str(value)
            }
            done => done,
        }
    }

    fn known(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        static ENUM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static MAPPING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = value.py();
        let class = value.get_type();
        // The most frequent one first: to find that a class lacks something takes as long as to write it.
        if class.is(DATETIME.import(py, "datetime", "datetime")?) {
            return self.string(value.call_method0(intern!(py, "isoformat"))?.cast::<PyString>()?);
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return self.tagged("bytes", &base64(bytes.as_bytes())?);
        }
        if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            let bytes = py.get_type::<PyBytes>().call1((value,))?;
            return self.tagged("bytes", &base64(bytes.cast::<PyBytes>()?.as_bytes())?);
        }
        if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
            let items = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            return self.inside(value, |writer| writer.items(items.into_iter()));
        }
        if value.is_instance(ENUM.import(py, "enum", "Enum")?)? {
            return self.inside(value, |writer| writer.value(&value.getattr(intern!(py, "value"))?));
        }
        if !value.is_instance_of::<PyType>() {
            if class.hasattr(intern!(py, "model_dump"))? {
                return self.inside(value, |writer| writer.model(value));
            }
            if let Ok(fields) = class.getattr(intern!(py, "__dataclass_fields__")) {
                let names = PyTuple::new(py, fields.cast::<PyDict>()?.keys().iter())?;
                let object = PyDict::new(py);
                for name in names.iter() {
                    object.set_item(&name, value.getattr(name.cast::<PyString>()?)?)?;
                }
                return self.inside(value, |writer| writer.dict(&object));
            }
            if class.hasattr(intern!(py, "isoformat"))? {
                return self.string(&value.call_method0(intern!(py, "isoformat"))?.str()?);
            }
        }
        if value.is_instance(MAPPING.import(py, "collections.abc", "Mapping")?)? {
            let dict = py.get_type::<PyDict>().call1((value,))?;
            return self.inside(value, |writer| writer.dict(dict.cast::<PyDict>()?));
        }
        if class.hasattr(intern!(py, "__index__"))? {
            let number = value.call_method0(intern!(py, "__index__"))?;
            return self.integer(number.cast::<PyInt>()?);
        }
        self.as_str(value)
    }

    /// A model of pydantic: as it would be written as JSON, or if it has values that cannot be, member by member.
    fn model(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let how = PyDict::new(py);
        how.set_item("mode", "json")?;
        let dump = intern!(py, "model_dump");
        let dumped = value.call_method(dump, (), Some(&how)).or_else(|error| {
            if error.is_instance_of::<PyException>(py) { value.call_method0(dump) } else { Err(error) }
        })?;
        match dumped.cast::<PyDict>() {
            Ok(dict) => self.dict(dict),
            Err(_) => self.value(&dumped),
        }
    }

    fn as_str(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match value.str() {
            Ok(text) => self.string(&text),
            Err(error) if !error.is_instance_of::<PyException>(value.py()) => Err(error),
            Err(_) => {
                let name = value.get_type().qualname()?;
                self.string(&PyString::new(
                    value.py(),
                    &format!("<{} that has no str>", name.to_string_lossy()),
                ))
            }
        }
    }
}

/// A key that is a name of JSON.
fn plain_name<'a>(name: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    let text = name.cast::<PyString>().ok()?.to_str().ok()?;
    (!text.starts_with(PRIVATE)).then_some(text)
}

/// Whether this value could not be looked into; else it is too large, or somebody wants the program to stop.
fn is_about_the_value(py: Python<'_>, error: &PyErr) -> bool {
    let is_ours = || error.get_type(py).name().is_ok_and(|name| name == "InvalidError");
    error.is_instance_of::<PyException>(py) && !is_ours()
}

/// The bytes of a text that may have halves of surrogate pairs.
pub fn surrogates(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    if let Ok(text) = text.to_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let py = text.py();
    // Whatever a subclass says.
    let encode = py.get_type::<PyString>().getattr(intern!(py, "encode"))?;
    let bytes = encode.call1((text, "utf-8", "surrogatepass"))?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}

fn base64(bytes: &[u8]) -> PyResult<String> {
    Python::attach(|py| {
        static WRITE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let how = PyDict::new(py);
        how.set_item("newline", false)?;
        let written =
            WRITE.import(py, "binascii", "b2a_base64")?.call((PyBytes::new(py, bytes),), Some(&how))?;
        Ok(String::from_utf8_lossy(written.cast::<PyBytes>()?.as_bytes()).into_owned())
    })
}

/// The JSON text of any value, and no error but that it is too large.
#[pyfunction]
pub fn encode_any<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &encode(value)?))
}
