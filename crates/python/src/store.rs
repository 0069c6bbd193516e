//! A store: opened once, on first use, whoever asks first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use icecore::retention::{Maintenance, Pace};
use icecore::retry::Policy;
use icecore::{Access, Error, ErrorKind, LogId, Meters, Open, Result, Store};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::call::{Call, call};
use crate::error::{checked, exception};
use crate::log::NativeLog;
use crate::runtime;
use crate::stream::{Item, NativeStream};
use crate::values::{Prefix, Text};

/// A store that is opened when it is first needed.
pub struct Opening {
    url: String,
    is_read_only: bool,
    /// Whether this process sees to what the policies say.
    maintains: bool,
    /// Whether what is transient is tried again.
    retries: bool,
    meters: Meters,
    opened: OnceLock<Store>,
    maintenance: Mutex<Option<Maintenance>>,
    /// Held while it is opened or closed; whether it was shut down.
    turn: tokio::sync::Mutex<bool>,
    is_closed: AtomicBool,
}

impl Opening {
    /// The store. Opening goes on if the caller does not wait for it: half of it cannot be taken back.
    pub async fn store(self: &Arc<Self>) -> Result<Store> {
        self.check_open()?;
        if let Some(store) = self.opened.get() {
            return Ok(store.clone());
        }
        let this = Arc::clone(self);
        detached(async move {
            let _turn = this.turn.lock().await;
            this.check_open()?;
            if let Some(store) = this.opened.get() {
                return Ok(store.clone());
            }
            let open = Open {
                access: if this.is_read_only { Access::ReadOnly } else { Access::ReadWrite },
                retry: this.retries.then(Policy::default),
                metrics: Some(this.meters.clone()),
                ..Open::default()
            };
            let store = open.open(&this.url).await?;
            if this.maintains && !this.is_read_only {
                *runtime::lock(&this.maintenance) = Some(store.keep_maintained(Pace::default()));
            }
            Ok(this.opened.get_or_init(|| store).clone())
        })
        .await
    }

    async fn close(self: Arc<Self>) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        drop(runtime::lock(&self.maintenance).take());
        detached(async move {
            let mut is_shut = self.turn.lock().await;
            if let Some(store) = self.opened.get().filter(|_| !*is_shut) {
                store.shut_down().await?;
            }
            *is_shut = true;
            Ok(())
        })
        .await
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was closed: open another"));
        }
        Ok(())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        runtime::drop_inside(runtime::lock(&self.maintenance).take());
        runtime::drop_inside(self.opened.take());
    }
}

/// Runs to its end, also when nobody waits for it any more.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Unavailable, "opening a store").because(error)),
    }
}

/// A store.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeStore(pub Arc<Opening>);

#[pymethods]
impl NativeStore {
    #[new]
    fn new(url: Text, read_only: bool, maintain: bool, retry: bool) -> Self {
        Self(Arc::new(Opening {
            url: url.0,
            is_read_only: read_only,
            maintains: maintain,
            retries: retry,
            meters: Meters::default(),
            maintenance: Mutex::default(),
            opened: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// The URL without what is secret in it.
    fn redacted(&self) -> String {
        icecore::redact(&self.0.url)
    }

    /// What was counted so far, as Prometheus reads it.
    fn metrics(&self) -> String {
        self.0.meters.prometheus()
    }

    fn open(&self) -> Call {
        let opening = Arc::clone(&self.0);
        call(async move { opening.store().await }, |py, _| Ok(py.None()))
    }

    fn close(&self) -> Call {
        call(Arc::clone(&self.0).close(), |py, ()| Ok(py.None()))
    }

    #[pyo3(signature = (*name))]
    fn log(&self, py: Python<'_>, name: Vec<Text>) -> PyResult<NativeLog> {
        let id = match name.as_slice() {
            [Text(escaped)] => LogId::parse(escaped),
            [Text(tenant), Text(kind), Text(key)] => LogId::new(tenant, kind, key),
            _ => return Err(PyTypeError::new_err("a log is named by one text, or by tenant, kind and key")),
        };
        Ok(NativeLog { opening: Arc::clone(&self.0), id: checked(py, id)? })
    }

    fn logs(&self, prefix: Prefix) -> NativeStream {
        let opening = Arc::clone(&self.0);
        NativeStream::new(move |pages| async move {
            let store = opening.store().await?;
            let mut cursor = None;
            loop {
                let page = store.logs(&prefix.0, cursor, 1_000).await?;
                let names = page.logs.into_iter().map(|log| Item::Log(log.as_str().to_owned()));
                cursor = page.next;
                if !pages.give(names.collect()).await || cursor.is_none() {
                    return Ok(());
                }
            }
        })
    }

    fn verify(&self, prefix: Prefix) -> Call {
        let opening = Arc::clone(&self.0);
        let work = async move { opening.store().await?.verify(&prefix.0, |_| ()).await };
        call(work, |py, verified| {
            let damage = verified.damage.iter().map(|error| Ok(exception(py, error)?.unbind()));
            let damage = damage.collect::<PyResult<Vec<_>>>()?;
            let icecore::store::verify::Verified { logs, commits, dropped, events, bytes, .. } = verified;
            let verified = Verified { logs, commits, dropped, events, bytes, damage };
            Ok(Bound::new(py, verified)?.into_any().unbind())
        })
    }
}

/// Copies logs from one store to another.
#[pyfunction]
pub fn copy(source: &NativeStore, target: &NativeStore, prefix: Prefix) -> Call {
    let (source, target) = (Arc::clone(&source.0), Arc::clone(&target.0));
    let work = async move {
        let (source, target) = (source.store().await?, target.store().await?);
        icecore::copy(&source, &target, &prefix.0, |_| ()).await
    };
    call(work, |py, copied| {
        let icecore::store::copy::Copied { logs, unchanged, commits, bytes } = copied;
        Ok(Bound::new(py, Copied { logs, unchanged, commits, bytes })?.into_any().unbind())
    })
}

/// What was checked, and what is damaged.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct Verified {
    logs: u64,
    commits: u64,
    dropped: u64,
    events: u64,
    bytes: u64,
    damage: Vec<Py<PyAny>>,
}

#[pymethods]
impl Verified {
    fn __repr__(&self) -> String {
        let Self { logs, commits, events, damage, .. } = self;
        format!("Verified(logs={logs}, commits={commits}, events={events}, damage=<{}>)", damage.len())
    }
}

/// What was copied.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct Copied {
    logs: u64,
    unchanged: u64,
    commits: u64,
    bytes: u64,
}

#[pymethods]
impl Copied {
    fn __repr__(&self) -> String {
        let Self { logs, unchanged, commits, bytes } = self;
        format!("Copied(logs={logs}, unchanged={unchanged}, commits={commits}, bytes={bytes})")
    }
}
