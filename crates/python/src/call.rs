//! A call under way: a Rust future on Tokio, and the asyncio future that it completes.
//!
//! What is finished waits in a queue of its event loop, and one `call_soon_threadsafe` completes all that is there. A future apiece would
//! cost a wake-up of the loop apiece, which is most of what a call costs.
//!
//! Futures are made and completed by `python/icecore/_call.py`, not here: both run Python code, and a daemon thread that asks for the
//! interpreter in the middle of that while the process ends is killed where it stands. Frames of ours below it would then drop
//! Python objects without holding the interpreter, which crashes.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use icecore::{Error, ErrorKind, Result};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokio::task::AbortHandle;

use crate::error::parts;
use crate::runtime::{self, lock};

/// Makes the value, or what the exception is made of, in the loop's thread.
type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<std::result::Result<Py<PyAny>, Py<PyAny>>> + Send>;

/// What is finished and not yet told to one event loop.
#[derive(Default)]
pub struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    outcomes: Vec<(Py<PyAny>, Outcome)>,
    /// Whether the loop was told, or is about to be.
    is_told: bool,
}

impl Queue {
    fn push(self: &Arc<Self>, future: Py<PyAny>, outcome: Outcome) {
        let mut waiting = lock(&self.0);
        waiting.outcomes.push((future, outcome));
        if !std::mem::replace(&mut waiting.is_told, true) {
            drop(waiting);
            runtime::wake_loop_of(Arc::clone(self));
        }
    }

    fn take(&self) -> Vec<(Py<PyAny>, Outcome)> {
        let mut waiting = lock(&self.0);
        waiting.is_told = false;
        std::mem::take(&mut waiting.outcomes)
    }

    /// Has the loop complete what is here.
    pub fn wake(self: &Arc<Self>, py: Python<'_>) {
        static COMPLETE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let future = lock(&self.0).outcomes.first().map(|(future, _)| future.clone_ref(py));
        let Some(future) = future else { return };
        let told = future.bind(py).call_method0(intern!(py, "get_loop")).and_then(|event_loop| {
            let complete = COMPLETE.import(py, "icecore._call", "complete")?;
            event_loop
                .call_method1(intern!(py, "call_soon_threadsafe"), (complete, Finished(Arc::clone(self))))
        });
        if told.is_err() {
            // The loop is closed: nobody waits for these any more.
            drop(self.take());
        }
    }
}

/// What is finished and not yet told to one event loop.
#[pyclass(frozen, module = "icecore._native")]
pub struct Finished(Arc<Queue>);

/// A future, the value, what the exception is made of.
type Done = (Py<PyAny>, Option<Py<PyAny>>, Option<Py<PyAny>>);

#[pymethods]
impl Finished {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// All that is here.
    fn take(&self, py: Python<'_>) -> Vec<Done> {
        let made = self.0.take().into_iter().map(|(future, outcome)| match outcome(py) {
            Ok(Ok(value)) => (future, Some(value), None),
            Ok(Err(parts)) => (future, None, Some(parts)),
            Err(error) => (future, None, Some(error.into_value(py).into_any())),
        });
        made.collect()
    }
}

type Start = Box<dyn FnOnce(Python<'_>, Answer) -> PyResult<Option<AbortHandle>> + Send>;

enum Stage {
    New(Start),
    Begun(AbortHandle),
    Over,
}

/// A call. Dropping it drops the Rust future, as [`Call::cancel`] does.
#[pyclass(frozen, module = "icecore._native")]
pub struct Call(Mutex<Stage>);

#[pymethods]
impl Call {
    /// Begins it: the future is completed by way of its loop's queue.
    fn start(&self, py: Python<'_>, future: Py<PyAny>, finished: &Finished) -> PyResult<()> {
        let stage = std::mem::replace(&mut *lock(&self.0), Stage::Over);
        if let Stage::New(start) = stage {
            let task = start(py, Answer { to: Some((future, Arc::clone(&finished.0))) })?;
            *lock(&self.0) = task.map_or(Stage::Over, Stage::Begun);
        }
        Ok(())
    }

    /// Drops the Rust future, if it is not finished: what was not sent is withdrawn.
    fn cancel(&self) {
        let stage = std::mem::replace(&mut *lock(&self.0), Stage::Over);
        if let Stage::Begun(task) = stage
            && !runtime::is_forked()
        {
            task.abort();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A call that was not begun yet.
pub fn call<T, M>(work: impl Future<Output = Result<T>> + Send + 'static, make: M) -> Call
where
    T: Send + 'static,
    M: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let start = move |py: Python<'_>, answer: Answer| {
        let task = runtime::runtime(py)?.spawn(async move { answer.give(work.await, make) });
        Ok(Some(task.abort_handle()))
    };
    Call(Mutex::new(Stage::New(Box::new(start))))
}

/// A call that takes its place before the next one is begun: what one thread appends comes in the order in which it was said.
///
/// Its future is polled once where the call is begun, which is as far as to its place; the rest is Tokio's.
pub fn call_in_order<T, M>(work: impl Future<Output = Result<T>> + Send + 'static, make: M) -> Call
where
    T: Send + 'static,
    M: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let start = move |py: Python<'_>, answer: Answer| {
        let runtime = runtime::runtime(py)?;
        let (work, first) = py.detach(move || {
            let _inside = runtime.enter();
            let mut work = Box::pin(work);
            let first = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            (work, first)
        });
        if let Poll::Ready(outcome) = first {
            answer.give(outcome, make);
            return Ok(None);
        }
        // Polled again, with a waker that wakes.
        let task = runtime.spawn(async move { answer.give(work.await, make) });
        Ok(Some(task.abort_handle()))
    };
    Call(Mutex::new(Stage::New(Box::new(start))))
}

/// Where the outcome goes, exactly once.
struct Answer {
    to: Option<(Py<PyAny>, Arc<Queue>)>,
}

impl Answer {
    fn give<T, M>(mut self, outcome: Result<T>, make: M)
    where
        T: Send + 'static,
        M: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        self.send(Box::new(move |py| match outcome {
            Ok(value) => make(py, value).map(Ok),
            Err(error) => parts(py, &error).map(Err),
        }));
    }

    fn send(&mut self, outcome: Outcome) {
        if let Some((future, queue)) = self.to.take() {
            queue.push(future, outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A bug of ours must not leave the caller waiting for ever. A call that was cancelled comes here too, and owes no answer.
        if std::thread::panicking() {
            self.send(Box::new(|py| {
                let error = Error::new(ErrorKind::Unknown, "calling icecore")
                    .advise("It failed in a way it never should: please report what was printed");
                parts(py, &error).map(Err)
            }));
        }
    }
}
