//! The one Tokio runtime of the process, and the one thread of ours that wakes event loops.
//!
//! Tokio's threads never wait for the interpreter: they leave what is finished in a queue, and the waking thread tells the loop. So a loop
//! that is busy holds up no other, and at exit there is one thread to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use icecore::{Error, ErrorKind};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::call::Queue;
use crate::error::raise;

struct Machinery {
    runtime: Runtime,
    waker: Sender<Option<Arc<Queue>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

static MACHINERY: OnceLock<Machinery> = OnceLock::new();
/// One machinery is made, also when two threads come at once.
static MAKING: Mutex<()> = Mutex::new(());
/// Set in the child of a process that had the machinery: its threads are not there.
static IS_FORKED: AtomicBool = AtomicBool::new(false);
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// The runtime, made on first use.
pub fn runtime(py: Python<'_>) -> PyResult<&'static Runtime> {
    let because = if is_forked() {
        "this process was forked from one that used icecore; begin it with multiprocessing's `spawn` or `forkserver`, or import icecore only in the child"
    } else if IS_OVER.load(Ordering::Acquire) {
        "the interpreter is shutting down"
    } else {
        match MACHINERY.get() {
            Some(machinery) => return Ok(&machinery.runtime),
            None => return py.detach(make).map(|made| &made.runtime).map_err(|error| raise(py, &error)),
        }
    };
    Err(raise(py, &Error::new(ErrorKind::Refused, "calling icecore").with("because", because)))
}

fn make() -> icecore::Result<&'static Machinery> {
    let _making = lock(&MAKING);
    if let Some(made) = MACHINERY.get() {
        return Ok(made);
    }
    let failed = |error| Error::new(ErrorKind::Unavailable, "starting threads").because(error);
    let runtime = Builder::new_multi_thread().enable_all().thread_name("icecore").build().map_err(failed)?;
    let (waker, finished) = channel();
    let thread = std::thread::Builder::new().name("icecore-wake".to_owned()).spawn(move || wake(&finished));
    let thread = Mutex::new(Some(thread.map_err(failed)?));
    Ok(MACHINERY.get_or_init(|| Machinery { runtime, waker, thread }))
}

/// Tells the loop of this queue that there is something in it.
pub fn wake_loop_of(finished: Arc<Queue>) {
    if let Some(machinery) = MACHINERY.get() {
        // Once the thread has ended, nobody waits any more.
        let _ = machinery.waker.send(Some(finished));
    }
}

fn wake(finished: &Receiver<Option<Arc<Queue>>>) {
    while let Ok(Some(first)) = finished.recv() {
        let is_alive = Python::try_attach(|py| {
            first.wake(py);
            // More that came meanwhile, without giving the interpreter away in between.
            loop {
                match finished.try_recv() {
                    Ok(Some(next)) => next.wake(py),
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            }
        });
        if is_alive != Some(true) {
            return;
        }
    }
}

/// Runs on its own, if there is a runtime to run it.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Some(machinery) = MACHINERY.get().filter(|_| !is_forked()) {
        machinery.runtime.spawn(work);
    }
}

/// Whether this is the child of a process that had the machinery, where none of its locks may be touched.
pub fn is_forked() -> bool {
    IS_FORKED.load(Ordering::Acquire)
}

/// Drops what may need the runtime to be dropped. In a forked child it is left as it is.
pub fn drop_inside<T>(value: T) {
    match MACHINERY.get() {
        _ if is_forked() => std::mem::forget(value),
        Some(machinery) => {
            let _inside = machinery.runtime.enter();
            drop(value);
        }
        None => drop(value),
    }
}

/// In a forked child.
#[pyfunction(name = "_after_fork")]
pub fn after_fork() {
    if MACHINERY.get().is_some() {
        IS_FORKED.store(true, Ordering::Release);
    }
}

/// Ends the waking thread while the interpreter still stands: one that asks for it later would be killed in the middle.
#[pyfunction(name = "_at_exit")]
pub fn at_exit(py: Python<'_>) {
    IS_OVER.store(true, Ordering::Release);
    if let Some(machinery) = MACHINERY.get().filter(|_| !is_forked()) {
        let _ = machinery.waker.send(None);
        let thread = lock(&machinery.thread).take();
        py.detach(|| thread.map(JoinHandle::join));
    }
}

/// Locks, also after a panic elsewhere. Nothing of Python's is called while it is held.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
