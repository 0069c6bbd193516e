//! What of a log may go, what is held, and what is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use icecore::log::LogPrefix;
use icecore::retention::{Hold, Keep, On, Pace, Policy, Trim};
use pyo3::prelude::*;

use crate::call::{Call, call};
use crate::error::exception;
use crate::log::NativeLog;
use crate::store::{NativeStore, Opening};
use crate::values::{Name, Number, Prefix, Text, Time, datetime};

/// A hold: its name, its log or else its prefix, from where, until when, why.
type Held = (String, Option<String>, Option<String>, Option<u64>, Option<Py<PyAny>>, String);
/// A policy: its prefix, commits, seconds, bytes, kinds, idle seconds.
type Kept = (String, Option<u64>, Option<u64>, Option<u64>, Vec<String>, Option<u64>);

/// Makes a log shorter, or says what would go.
#[pyfunction]
pub fn trim(
    log: &NativeLog,
    from: Option<Number>,
    commits: Option<Number>,
    since: Option<Time>,
    bytes: Option<Number>,
    kinds: BTreeSet<Text>,
    dry_run: bool,
) -> Call {
    let keep = Keep {
        from: from.map(Number::version),
        commits: commits.map(|commits| commits.0),
        since: since.map(|since| since.0),
        bytes: bytes.map(|bytes| bytes.0),
    };
    let trim = Trim { keep, kinds: kinds.into_iter().map(|kind| kind.0).collect() };
    let log = log.opened();
    let work = async move {
        let log = log.await?;
        if dry_run { log.plan_trim(&trim).await } else { log.trim(&trim).await }
    };
    call(work, |py, trimmed| {
        let icecore::retention::Trimmed { through, commits, bytes, writes_base, states_from, .. } = trimmed;
        let (through, states_from) = (through.0, states_from.0);
        let trimmed = Trimmed { through, commits, bytes, states_from, writes_base };
        Ok(Bound::new(py, trimmed)?.into_any().unbind())
    })
}

/// What is held of a store's history, and what is kept.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeRetention(Arc<Opening>);

#[pymethods]
impl NativeRetention {
    #[new]
    fn new(store: &NativeStore) -> Self {
        Self(Arc::clone(&store.0))
    }

    fn delete_log(&self, log: Name) -> Call {
        let opening = Arc::clone(&self.0);
        call(async move { opening.store().await?.delete_log(&log.0).await }, |py, deleted| {
            Ok(deleted.seal.0.into_pyobject(py)?.into_any().unbind())
        })
    }

    fn maintain(&self) -> Call {
        let opening = Arc::clone(&self.0);
        let work = async move { opening.store().await?.maintain_once(Pace::default(), |_| ()).await };
        call(work, |py, done| match done {
            None => Ok(py.None()),
            Some(done) => {
                let error = done.first_error.as_ref().map(|error| exception(py, error)).transpose()?;
                let icecore::retention::Maintained {
                    logs,
                    trimmed,
                    commits,
                    bytes,
                    deleted,
                    held,
                    failed,
                    ..
                } = done;
                let error = error.map(|error| error.unbind());
                let done = Maintained { logs, trimmed, commits, bytes, deleted, held, failed, error };
                Ok(Bound::new(py, done)?.into_any().unbind())
            }
        })
    }

    fn hold(
        &self,
        name: Text,
        log: Option<Name>,
        prefix: Prefix,
        from: Option<Number>,
        until: Option<Time>,
        reason: Text,
    ) -> Call {
        let on = log.map_or(On::Prefix(prefix.0), |log| On::Log(log.0));
        let hold =
            Hold { on, from: from.map(Number::version), until: until.map(|until| until.0), reason: reason.0 };
        let opening = Arc::clone(&self.0);
        let work = async move { opening.store().await?.retention()?.hold(&name.0, &hold).await };
        call(work, |py, ()| Ok(py.None()))
    }

    fn release(&self, name: Text) -> Call {
        let opening = Arc::clone(&self.0);
        call(async move { opening.store().await?.retention()?.release(&name.0).await }, boolean)
    }

    fn holds(&self) -> Call {
        let opening = Arc::clone(&self.0);
        call(async move { opening.store().await?.retention()?.holds().await }, |py, holds| {
            let held = |(name, hold): (String, Hold)| -> PyResult<Held> {
                let (log, prefix) = match hold.on {
                    On::Log(log) => (Some(log.as_str().to_owned()), None),
                    On::Prefix(prefix) => (None, Some(prefix.as_str().to_owned())),
                };
                let until = hold.until.map(|until| datetime(py, until)).transpose()?.map(Bound::unbind);
                Ok((name, log, prefix, hold.from.map(|from| from.0), until, hold.reason))
            };
            let held = holds.into_iter().map(held).collect::<PyResult<Vec<_>>>()?;
            Ok(held.into_pyobject(py)?.into_any().unbind())
        })
    }

    fn set_policy(
        &self,
        prefix: Prefix,
        commits: Option<Number>,
        seconds: Option<Number>,
        bytes: Option<Number>,
        kinds: BTreeSet<Text>,
        idle_seconds: Option<Number>,
    ) -> Call {
        let policy = Policy {
            on: prefix.0,
            keep_commits: commits.map(|commits| commits.0),
            keep_for: seconds.map(|seconds| Duration::from_secs(seconds.0)),
            keep_bytes: bytes.map(|bytes| bytes.0),
            kinds: kinds.into_iter().map(|kind| kind.0).collect(),
            delete_idle_for: idle_seconds.map(|seconds| Duration::from_secs(seconds.0)),
        };
        let opening = Arc::clone(&self.0);
        let work = async move { opening.store().await?.retention()?.set_policy(&policy).await };
        call(work, |py, ()| Ok(py.None()))
    }

    fn remove_policy(&self, prefix: Prefix) -> Call {
        let (opening, prefix): (_, LogPrefix) = (Arc::clone(&self.0), prefix.0);
        call(async move { opening.store().await?.retention()?.remove_policy(&prefix).await }, boolean)
    }

    fn policies(&self) -> Call {
        let opening = Arc::clone(&self.0);
        call(async move { opening.store().await?.retention()?.policies().await }, |py, policies| {
            let kept = |policy: Policy| -> Kept {
                let seconds = |age: Duration| age.as_secs();
                let (keep_for, idle) = (policy.keep_for.map(seconds), policy.delete_idle_for.map(seconds));
                let kinds = policy.kinds.into_iter().collect();
                (policy.on.as_str().to_owned(), policy.keep_commits, keep_for, policy.keep_bytes, kinds, idle)
            };
            let kept: Vec<_> = policies.into_iter().map(kept).collect();
            Ok(kept.into_pyobject(py)?.into_any().unbind())
        })
    }
}

fn boolean(py: Python<'_>, it_is: bool) -> PyResult<Py<PyAny>> {
    Ok(it_is.into_pyobject(py)?.to_owned().into_any().unbind())
}

/// What went, or would go.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct Trimmed {
    through: u64,
    commits: u64,
    bytes: u64,
    states_from: u64,
    writes_base: bool,
}

#[pymethods]
impl Trimmed {
    fn __repr__(&self) -> String {
        let Self { through, commits, bytes, states_from, .. } = self;
        format!("Trimmed(through={through}, commits={commits}, bytes={bytes}, states_from={states_from})")
    }
}

/// What a pass of maintenance did.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct Maintained {
    logs: u64,
    trimmed: u64,
    commits: u64,
    bytes: u64,
    deleted: u64,
    held: u64,
    failed: u64,
    error: Option<Py<PyAny>>,
}

#[pymethods]
impl Maintained {
    fn __repr__(&self) -> String {
        let Self { logs, trimmed, deleted, held, failed, .. } = self;
        format!("Maintained(logs={logs}, trimmed={trimmed}, deleted={deleted}, held={held}, failed={failed})")
    }
}
