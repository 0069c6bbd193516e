//! What `icecore.penguiflow` calls for artifacts: content of a tenant's sessions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore::agents::Tenant;
use icecore::agents::artifacts::{
    Artifact, Artifacts, MakesRoom, Owned, Owner, Reading, Retention, Upload, What,
};
use icecore::{Error, ErrorKind, Json, Result};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::sync::{Mutex, OnceCell};

use crate::agents::{Name, seconds};
use crate::call::{Call, call};
use crate::error::{checked, invalid};
use crate::store::{NativeStore, Opening};
use crate::values::Text;

/// A call may take a second longer for so many bytes that it writes.
const BYTES_A_SECOND: u64 = 1 << 20;

/// A tenant's artifacts in a store.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeArtifacts(Arc<Inner>);

struct Inner {
    opening: Arc<Opening>,
    tenant: Tenant,
    retention: Retention,
    opened: OnceCell<Artifacts>,
    timeout: Duration,
}

impl Inner {
    async fn all(&self) -> Result<&Artifacts> {
        let open = || async {
            let store = self.opening.store().await?;
            Ok(Artifacts::new(store, self.tenant.clone()).with_retention(self.retention.clone()))
        };
        self.opened.get_or_try_init(open).await
    }

    async fn of(&self, owner: &Owner) -> Result<Owned> {
        self.all().await?.of(owner)
    }

    /// In a session, if one is named.
    async fn find(&self, session: Option<&Name>, id: &Name) -> Result<Option<Artifact>> {
        let all = self.all().await?;
        // An id that is no text is nobody's.
        let Ok(id) = std::str::from_utf8(&id.0) else { return Ok(None) };
        match session {
            Some(session) => all.find_in(&session.0, id).await,
            None => all.find(id).await,
        }
    }

    /// A call that writes so many bytes.
    async fn to_write<T>(&self, bytes: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
        let timeout = self.timeout.saturating_add(Duration::from_secs(bytes / BYTES_A_SECOND));
        let late = || {
            Error::new(ErrorKind::Unknown, "storing an artifact")
                .with("timeout_ms", timeout.as_millis())
                .advise("It took too long, and may have been stored: store it again, and it is there once")
        };
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// A call that changes nothing.
    async fn to_read<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || {
            Error::new(ErrorKind::Unavailable, "reading an artifact")
                .with("timeout_ms", self.timeout.as_millis())
                .advise("It took too long: retry")
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// All parts, each of which may take as long as a call; `None` if it was deleted meanwhile.
    async fn content(&self, artifact: &Artifact) -> Result<Option<Vec<Bytes>>> {
        let (mut reading, mut parts) = (artifact.read(), Vec::new());
        loop {
            match self.to_read(reading.next()).await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => return Ok(Some(parts)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Limits, as Penguiflow names them.
#[derive(FromPyObject)]
struct Limits {
    ttl_seconds: i64,
    max_artifact_bytes: i64,
    max_session_bytes: i64,
    max_trace_bytes: i64,
    max_artifacts_per_trace: i64,
    max_artifacts_per_session: i64,
    cleanup_strategy: Text,
}

impl Limits {
    fn retention(&self, py: Python<'_>) -> PyResult<Retention> {
        let from_zero = |limit: i64| u64::try_from(limit).unwrap_or(0);
        Ok(Retention {
            ttl: Some(Duration::from_secs(from_zero(self.ttl_seconds))).filter(|ttl| !ttl.is_zero()),
            artifact_bytes_max: from_zero(self.max_artifact_bytes),
            session_bytes_max: from_zero(self.max_session_bytes),
            trace_bytes_max: from_zero(self.max_trace_bytes),
            session_artifacts_max: from_zero(self.max_artifacts_per_session),
            trace_artifacts_max: from_zero(self.max_artifacts_per_trace),
            makes_room: match &*self.cleanup_strategy.0 {
                "lru" => MakesRoom::LeastRecentlyUsed,
                "fifo" => MakesRoom::Oldest,
                "none" => MakesRoom::None,
                _ => return Err(invalid(py, "reading limits", "A cleanup_strategy is lru, fifo or none")),
            },
        })
    }
}

/// Whose it is: tenant, user and session.
type Scope = (Option<Name>, Option<Name>, Name);

fn owner((tenant, user, session): Scope) -> Owner {
    let bytes = |name: Option<Name>| name.map(|name| name.0);
    Owner { tenant: bytes(tenant), user: bytes(user), session: session.0 }
}

fn what(py: Python<'_>, namespace: Option<Name>, trace: Option<Name>, about: Vec<u8>) -> PyResult<What> {
    let bytes = |name: Option<Name>| name.map(|name| name.0);
    Ok(What { namespace: bytes(namespace), trace: bytes(trace), about: checked(py, Json::text(about))? })
}

/// What is said of an artifact: id, length, hash, and what the caller said.
fn reference<'py>(py: Python<'py>, artifact: &Artifact) -> PyResult<Bound<'py, PyAny>> {
    let record = artifact.record();
    let about = PyBytes::new(py, record.about.get().as_bytes());
    Ok((&record.id, record.bytes, &record.sha256, about).into_pyobject(py)?.into_any())
}

fn references(py: Python<'_>, artifacts: &[Artifact]) -> PyResult<Py<PyAny>> {
    let all = artifacts.iter().map(|artifact| reference(py, artifact)).collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, all)?.into_any().unbind())
}

fn or_none<T>(
    py: Python<'_>,
    found: Option<T>,
    make: impl FnOnce(T) -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    found.map_or_else(|| Ok(py.None()), make)
}

fn joined(py: Python<'_>, parts: &[Bytes]) -> PyResult<Py<PyAny>> {
    let bytes = parts.iter().map(Bytes::len).sum();
    let made = PyBytes::new_with(py, bytes, |mut into| {
        for part in parts {
            let (here, rest) = into.split_at_mut(part.len());
            here.copy_from_slice(part);
            into = rest;
        }
        Ok(())
    })?;
    Ok(made.into_any().unbind())
}

#[pymethods]
impl NativeArtifacts {
    #[new]
    fn new(
        py: Python<'_>,
        store: &NativeStore,
        tenant: Text,
        limits: Limits,
        timeout: f64,
    ) -> PyResult<Self> {
        Ok(Self(Arc::new(Inner {
            opening: Arc::clone(&store.0),
            tenant: checked(py, Tenant::new(tenant.0))?,
            retention: limits.retention(py)?,
            opened: OnceCell::new(),
            timeout: seconds(py, timeout)?,
        })))
    }

    fn put(
        &self,
        py: Python<'_>,
        scope: Scope,
        namespace: Option<Name>,
        trace: Option<Name>,
        about: Vec<u8>,
        data: &[u8],
    ) -> PyResult<Call> {
        let what = what(py, namespace, trace, about)?;
        // It is the caller's: it may be gone before this is done. What is too large is not copied.
        let max = usize::try_from(self.0.retention.artifact_bytes_max).unwrap_or(usize::MAX);
        let is_too_large = data.len() > max;
        let bytes = data.len() as u64;
        let content = if is_too_large { Bytes::new() } else { Bytes::copy_from_slice(data) };
        let (this, owner) = (Arc::clone(&self.0), owner(scope));
        let work = async move {
            let put = async {
                let of = this.of(&owner).await?;
                of.check_bytes(bytes)?;
                of.put(what, content).await
            };
            this.to_write(bytes, put).await
        };
        Ok(call(work, |py, artifact| Ok(reference(py, &artifact)?.unbind())))
    }

    /// Takes content in pieces.
    fn upload(
        &self,
        py: Python<'_>,
        scope: Scope,
        namespace: Option<Name>,
        trace: Option<Name>,
        about: Vec<u8>,
    ) -> PyResult<Call> {
        let what = what(py, namespace, trace, about)?;
        let (this, owner) = (Arc::clone(&self.0), owner(scope));
        let work = async move {
            let upload = this.to_read(this.of(&owner)).await?.upload(what);
            Ok(NativeUpload { of: this, upload: Arc::new(Mutex::new(Some(upload))) })
        };
        Ok(call(work, |py, upload| Ok(Bound::new(py, upload)?.into_any().unbind())))
    }

    fn find(&self, id: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move { this.to_read(this.find(None, &id)).await };
        call(work, |py, found| or_none(py, found, |found| Ok(reference(py, &found)?.unbind())))
    }

    /// The content, if it is there: in a session, if one is named.
    fn get(&self, session: Option<Name>, id: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let Some(found) = this.to_read(this.find(session.as_ref(), &id)).await? else { return Ok(None) };
            let content = this.content(&found).await?;
            if content.is_some() {
                found.used();
            }
            Ok(content)
        };
        call(work, |py, found| or_none(py, found, |parts| joined(py, &parts)))
    }

    /// The content in parts, if it is there.
    fn read(&self, id: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let found = this.to_read(this.find(None, &id)).await?;
            Ok(found.map(|found| {
                found.used();
                NativeReading { of: Arc::clone(&this), reading: Arc::new(Mutex::new(found.read())) }
            }))
        };
        call(work, |py, found| or_none(py, found, |reading| Ok(Bound::new(py, reading)?.into_any().unbind())))
    }

    fn delete(&self, id: Name) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let delete = async {
                match this.find(None, &id).await? {
                    Some(found) => found.delete().await,
                    None => Ok(false),
                }
            };
            this.to_write(0, delete).await
        };
        call(work, |py, was_there| Ok(was_there.into_pyobject(py)?.to_owned().into_any().unbind()))
    }

    /// Of a session, or of all.
    fn list(&self, session: Option<Name>) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            let all = this.all().await?;
            let listed = all.list(session.as_ref().map(|session| &*session.0));
            // Of all sessions it takes as long as it takes.
            if session.is_some() { this.to_read(listed).await } else { listed.await }
        };
        call(work, |py, found| references(py, &found))
    }

    fn clear(&self, session: Option<Name>) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move { this.all().await?.clear(session.as_ref().map(|one| &*one.0)).await };
        call(work, |py, count| Ok(count.into_pyobject(py)?.into_any().unbind()))
    }

    /// Deletes what has expired and what was left behind; how many had expired.
    fn sweep(&self) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move { this.all().await?.sweep().await };
        call(work, |py, swept| Ok(swept.expired.into_pyobject(py)?.into_any().unbind()))
    }

    /// Waits until it is written what was used.
    fn settle(&self) -> Call {
        let this = Arc::clone(&self.0);
        let work = async move {
            if let Some(all) = this.opened.get() {
                all.settle().await;
            }
            Ok(())
        };
        call(work, |py, ()| Ok(py.None()))
    }
}

/// Content on its way in.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeUpload {
    of: Arc<Inner>,
    upload: Arc<Mutex<Option<Upload>>>,
}

fn is_over() -> Error {
    Error::new(ErrorKind::Refused, "storing an artifact").advise("It is over: begin another")
}

#[pymethods]
impl NativeUpload {
    fn write(&self, data: &[u8]) -> Call {
        let (of, upload, piece) =
            (Arc::clone(&self.of), Arc::clone(&self.upload), Bytes::copy_from_slice(data));
        let work = async move {
            let mut upload = upload.lock().await;
            let mut taken = upload.take().ok_or_else(is_over)?;
            of.to_write(piece.len() as u64, taken.write(piece)).await?;
            *upload = Some(taken);
            Ok(())
        };
        call(work, |py, ()| Ok(py.None()))
    }

    fn finish(&self) -> Call {
        let (of, upload) = (Arc::clone(&self.of), Arc::clone(&self.upload));
        let work = async move {
            let taken = upload.lock().await.take().ok_or_else(is_over)?;
            of.to_write(0, taken.finish()).await
        };
        call(work, |py, artifact| Ok(reference(py, &artifact)?.unbind()))
    }
}

/// Content on its way out.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeReading {
    of: Arc<Inner>,
    reading: Arc<Mutex<Reading>>,
}

#[pymethods]
impl NativeReading {
    /// The next part; `None` behind the last.
    fn next(&self) -> Call {
        let (of, reading) = (Arc::clone(&self.of), Arc::clone(&self.reading));
        let work = async move {
            let mut reading = reading.lock().await;
            of.to_read(reading.next()).await
        };
        call(work, |py, part| or_none(py, part, |part| joined(py, &[part])))
    }
}
