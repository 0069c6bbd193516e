//! Durable queues.

use std::sync::Arc;
use std::time::Duration;

use icecore::Result;
use icecore::agents::Tenant;
use icecore::agents::queues::{self, GivenBack, Message, Purge, Queue};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call::{Call, call, call_in_order};
use crate::error::{checked, invalid};
use crate::json::decode;
use crate::state::json;
use crate::store::{NativeStore, Opening};
use crate::values::{Number, Text, datetime};

/// A queue of a tenant.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeQueue {
    opening: Arc<Opening>,
    tenant: Tenant,
    name: String,
}

/// A message to put: its id, what it says, its delay, and how often it is given out.
type Given<'py> = (Text, Bound<'py, PyAny>, Duration, Option<Number>);

impl NativeQueue {
    /// Opens the store first, if that was not done.
    fn opened(&self) -> impl Future<Output = Result<Queue>> + Send + 'static {
        let (opening, tenant, name) = (Arc::clone(&self.opening), self.tenant.clone(), self.name.clone());
        async move { Queue::new(&opening.store().await?, &tenant, &name) }
    }
}

fn count(py: Python<'_>, number: &Number) -> PyResult<usize> {
    usize::try_from(number.0).map_err(|_| invalid(py, "reading an argument", "A number is too large"))
}

#[pymethods]
impl NativeQueue {
    #[new]
    fn new(py: Python<'_>, store: &NativeStore, tenant: Text, name: Text) -> PyResult<Self> {
        let tenant = checked(py, Tenant::new(tenant.0))?;
        Ok(Self { opening: Arc::clone(&store.0), tenant, name: name.0 })
    }

    #[getter]
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, py: Python<'_>, messages: Vec<Given<'_>>) -> PyResult<Call> {
        let message = |(Text(id), payload, delay, attempts_max): Given<'_>| {
            let attempts_max = attempts_max.map(|Number(max)| u32::try_from(max));
            let attempts_max = attempts_max
                .transpose()
                .map_err(|_| invalid(py, "putting a message", "attempts_max is above 2^32 - 1"))?;
            Ok(Message { id, payload: json(&payload)?, delay, attempts_max })
        };
        let messages = messages.into_iter().map(message).collect::<PyResult<Vec<_>>>()?;
        let queue = self.opened();
        let work = async move { queue.await?.put(&messages).await };
        Ok(call_in_order(work, |py, put| {
            let put: Vec<_> = put.into_iter().map(|one| (one.number, one.repeated)).collect();
            Ok(put.into_pyobject(py)?.into_any().unbind())
        }))
    }

    fn lease(&self, py: Python<'_>, limit: Number, length: Duration, wait: Duration) -> PyResult<Call> {
        let (limit, queue) = (count(py, &limit)?, self.opened());
        let work = async move { queue.await?.lease_or_wait(limit, length, wait).await };
        Ok(call(work, |py, leased| {
            let leased = leased.into_iter().map(|one| Leased::of(py, one)).collect::<PyResult<Vec<_>>>()?;
            Ok(leased.into_pyobject(py)?.into_any().unbind())
        }))
    }

    fn ack(&self, id: Text, fence: Number) -> Call {
        let queue = self.opened();
        call_in_order(async move { queue.await?.ack(&id.0, fence.0).await }, |py, ()| Ok(py.None()))
    }

    fn nack(&self, id: Text, fence: Number, delay: Duration, because: Text) -> Call {
        let queue = self.opened();
        let work = async move { queue.await?.nack(&id.0, fence.0, delay, &because.0).await };
        call_in_order(work, |py, given: GivenBack| Ok(given.name().into_pyobject(py)?.into_any().unbind()))
    }

    fn extend(&self, id: Text, fence: Number, length: Duration) -> Call {
        let queue = self.opened();
        let work = async move { queue.await?.extend(&id.0, fence.0, length).await };
        call_in_order(work, |py, until| Ok(datetime(py, until)?.unbind()))
    }

    fn statistics(&self) -> Call {
        let queue = self.opened();
        call(async move { queue.await?.statistics().await }, |py, found| {
            let queues::Statistics { ready, delayed, leased, dead, oldest_at } = found;
            let oldest_at = oldest_at.map(|at| datetime(py, at).map(Bound::unbind)).transpose()?;
            let counts = QueueStatistics { ready, delayed, leased, dead, oldest_at };
            Ok(Bound::new(py, counts)?.into_any().unbind())
        })
    }

    fn dead(&self, py: Python<'_>, after: Option<Number>, limit: Number) -> PyResult<Call> {
        let (limit, queue) = (count(py, &limit)?, self.opened());
        let work = async move { queue.await?.dead(after.map(|after| after.0), limit).await };
        Ok(call(work, |py, dead| {
            let dead = dead.into_iter().map(|one| DeadLetter::of(py, one)).collect::<PyResult<Vec<_>>>()?;
            Ok(dead.into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// Those of these ids, or all.
    fn replay(&self, ids: Option<Vec<Text>>) -> Call {
        let queue = self.opened();
        let work = async move {
            let queue = queue.await?;
            let Some(ids) = ids else { return queue.replay_all().await };
            queue.replay(&ids.iter().map(|id| id.0.as_str()).collect::<Vec<_>>()).await
        };
        call_in_order(work, |py, count| Ok(count.into_pyobject(py)?.into_any().unbind()))
    }

    fn purge(&self, py: Python<'_>, what: Text, dry_run: bool) -> PyResult<Call> {
        let what = match what.0.as_str() {
            "dead" => Purge::Dead,
            "waiting" => Purge::Waiting,
            "all" => Purge::All,
            _ => return Err(invalid(py, "purging a queue", "Say one of dead, waiting and all")),
        };
        let queue = self.opened();
        Ok(call_in_order(async move { queue.await?.purge(what, dry_run).await }, |py, purged| {
            Ok((purged.messages, purged.bytes).into_pyobject(py)?.into_any().unbind())
        }))
    }
}

/// A message that was given out.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct Leased {
    id: String,
    number: u64,
    fence: u64,
    attempts: u32,
    until: Py<PyAny>,
    put_at: Py<PyAny>,
    raw: Py<PyBytes>,
}

impl Leased {
    fn of(py: Python<'_>, one: queues::Leased) -> PyResult<Self> {
        Ok(Self {
            id: one.id,
            number: one.number,
            fence: one.fence,
            attempts: one.attempts,
            until: datetime(py, one.until)?.unbind(),
            put_at: datetime(py, one.put_at)?.unbind(),
            raw: PyBytes::new(py, &one.payload).unbind(),
        })
    }
}

#[pymethods]
impl Leased {
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, self.raw.as_bytes(py))
    }

    fn __repr__(&self) -> String {
        let Self { id, number, fence, attempts, .. } = self;
        format!("Leased(id={id:?}, number={number}, fence={fence}, attempts={attempts})")
    }
}

/// A message that was given out as often as it may be.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct DeadLetter {
    id: String,
    number: u64,
    attempts: u32,
    reason: String,
    put_at: Py<PyAny>,
    died_at: Py<PyAny>,
    raw: Py<PyBytes>,
}

impl DeadLetter {
    fn of(py: Python<'_>, one: queues::DeadLetter) -> PyResult<Self> {
        Ok(Self {
            id: one.id,
            number: one.number,
            attempts: one.attempts,
            reason: one.reason,
            put_at: datetime(py, one.put_at)?.unbind(),
            died_at: datetime(py, one.died_at)?.unbind(),
            raw: PyBytes::new(py, &one.payload).unbind(),
        })
    }
}

#[pymethods]
impl DeadLetter {
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, self.raw.as_bytes(py))
    }

    fn __repr__(&self) -> String {
        let Self { id, number, attempts, .. } = self;
        format!("DeadLetter(id={id:?}, number={number}, attempts={attempts})")
    }
}

/// How many messages there are.
#[pyclass(frozen, get_all, module = "icecore")]
pub struct QueueStatistics {
    ready: u64,
    delayed: u64,
    leased: u64,
    dead: u64,
    oldest_at: Option<Py<PyAny>>,
}

#[pymethods]
impl QueueStatistics {
    fn __repr__(&self) -> String {
        let Self { ready, delayed, leased, dead, .. } = self;
        format!("QueueStatistics(ready={ready}, delayed={delayed}, leased={leased}, dead={dead})")
    }
}
