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
            let leased: Vec<_> = leased.into_iter().map(Leased).collect();
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
            Ok(Bound::new(py, QueueStatistics(found))?.into_any().unbind())
        })
    }

    fn dead(&self, py: Python<'_>, after: Option<Number>, limit: Number) -> PyResult<Call> {
        let (limit, queue) = (count(py, &limit)?, self.opened());
        let work = async move { queue.await?.dead(after.map(|after| after.0), limit).await };
        Ok(call(work, |py, dead| {
            let dead: Vec<_> = dead.into_iter().map(DeadLetter).collect();
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
#[pyclass(frozen, module = "icecore")]
pub struct Leased(queues::Leased);

#[pymethods]
impl Leased {
    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }

    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    #[getter]
    fn fence(&self) -> u64 {
        self.0.fence
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    #[getter]
    fn until<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.until)
    }

    #[getter]
    fn put_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.put_at)
    }

    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.payload)
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, &self.0.payload)
    }

    fn __repr__(&self) -> String {
        let queues::Leased { id, number, fence, attempts, .. } = &self.0;
        format!("Leased(id={id:?}, number={number}, fence={fence}, attempts={attempts})")
    }
}

/// A message that was given out as often as it may be.
#[pyclass(frozen, module = "icecore")]
pub struct DeadLetter(queues::DeadLetter);

#[pymethods]
impl DeadLetter {
    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }

    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    #[getter]
    fn reason(&self) -> &str {
        &self.0.reason
    }

    #[getter]
    fn put_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.put_at)
    }

    #[getter]
    fn died_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.died_at)
    }

    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.payload)
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode(py, &self.0.payload)
    }

    fn __repr__(&self) -> String {
        let queues::DeadLetter { id, number, attempts, .. } = &self.0;
        format!("DeadLetter(id={id:?}, number={number}, attempts={attempts})")
    }
}

/// How many messages there are.
#[pyclass(frozen, module = "icecore")]
pub struct QueueStatistics(queues::Statistics);

#[pymethods]
impl QueueStatistics {
    #[getter]
    fn ready(&self) -> u64 {
        self.0.ready
    }

    #[getter]
    fn delayed(&self) -> u64 {
        self.0.delayed
    }

    #[getter]
    fn leased(&self) -> u64 {
        self.0.leased
    }

    #[getter]
    fn dead(&self) -> u64 {
        self.0.dead
    }

    #[getter]
    fn oldest_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.oldest_at.map(|at| datetime(py, at)).transpose()
    }

    fn __repr__(&self) -> String {
        let queues::Statistics { ready, delayed, leased, dead, .. } = &self.0;
        format!("QueueStatistics(ready={ready}, delayed={delayed}, leased={leased}, dead={dead})")
    }
}
