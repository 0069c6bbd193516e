//! What callers give, as what we take: an `InvalidError` where it can never be right, a `TypeError` where it is of another type.

use icecore::{At, EntryId, LogId, LogPrefix, Timestamp, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyString, PyType};

use crate::error::{checked, invalid};

const DOING: &str = "reading an argument";

/// Some text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub String);

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.cast::<PyString>()?.to_str() {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(_) => Err(invalid(value.py(), DOING, "A str holds half of a surrogate pair")),
        }
    }
}

/// The text, or none of it.
pub fn or_empty(text: Option<Text>) -> String {
    text.map(|text| text.0).unwrap_or_default()
}

/// A whole number from 0.
pub struct Number(pub u64);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number = value.cast::<PyInt>()?.extract::<u64>();
        number.map(Self).map_err(|_| invalid(value.py(), DOING, "A number is below 0, or above 2^64 - 1"))
    }
}

impl Number {
    /// As a version.
    pub fn version(self) -> Version {
        Version(self.0)
    }
}

/// An entry's id.
pub struct Id(pub EntryId);

impl<'py> FromPyObject<'_, 'py> for Id {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(checked(value.py(), EntryId::new(value.extract::<Text>()?.0))?))
    }
}

/// The name of a log, escaped.
pub struct Name(pub LogId);

impl<'py> FromPyObject<'_, 'py> for Name {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(checked(value.py(), LogId::parse(&value.extract::<Text>()?.0))?))
    }
}

/// The beginning of names, escaped.
pub struct Prefix(pub LogPrefix);

impl<'py> FromPyObject<'_, 'py> for Prefix {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(checked(value.py(), LogPrefix::parse(&value.extract::<Text>()?.0))?))
    }
}

/// A moment of a log: `None`, a version or a time.
pub struct Moment(pub At);

impl<'py> FromPyObject<'_, 'py> for Moment {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self(At::Head));
        }
        if value.is_instance_of::<PyInt>() {
            return Ok(Self(At::Version(value.extract::<Number>()?.version())));
        }
        // A datetime has no nanoseconds: the whole microsecond is meant, so that the time of a commit includes it.
        let Time(time) = value.extract()?;
        Ok(Self(At::Time(Timestamp(time.0.saturating_add(999)))))
    }
}

/// An aware datetime.
pub struct Time(pub Timestamp);

impl<'py> FromPyObject<'_, 'py> for Time {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = value.py();
        if !value.is_instance(DATETIME.import(py, "datetime", "datetime")?)? {
            let name = value.get_type().qualname()?;
            return Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "an aware datetime is needed, not {name}"
            )));
        }
        if value.call_method0(intern!(py, "utcoffset"))?.is_none() {
            return Err(invalid(py, DOING, "A datetime needs its time zone, such as datetime.now(UTC)"));
        }
        let since = value.call_method1(intern!(py, "__sub__"), (epoch(py)?,))?;
        let part = |name| since.getattr(name)?.extract::<i64>();
        let (days, seconds) = (part(intern!(py, "days"))?, part(intern!(py, "seconds"))?);
        let microseconds = (days * 86_400 + seconds) * 1_000_000 + part(intern!(py, "microseconds"))?;
        match microseconds.checked_mul(1_000) {
            Some(nanoseconds) => Ok(Self(Timestamp(nanoseconds))),
            None => Err(invalid(py, DOING, "A time lies in the years 1678 to 2262")),
        }
    }
}

/// An aware datetime in UTC; what is below a microsecond is cut.
pub fn datetime(py: Python<'_>, time: Timestamp) -> PyResult<Bound<'_, PyAny>> {
    static DELTA: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let since = DELTA.import(py, "datetime", "timedelta")?.call1((0, 0, time.0.div_euclid(1_000)))?;
    epoch(py)?.call_method1(intern!(py, "__add__"), (since,))
}

fn epoch(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = EPOCH.get_or_try_init(py, || {
        let module = py.import("datetime")?;
        let utc = module.getattr("timezone")?.getattr("utc")?;
        module.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc)).map(Bound::unbind)
    });
    Ok(made?.bind(py))
}
