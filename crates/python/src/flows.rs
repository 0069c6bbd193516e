//! What `icecore.penguiflow` calls for durable nodes: flows, their lives, and the turns of their nodes.

use std::sync::{Arc, Mutex};

use icecore::agents::flows::{Flow, Given, Opened, Run, Start, Turn};
use icecore::agents::{Kind, fingerprint};
use icecore::{Error, ErrorKind, Hash, Json, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::agents::{Agents, Name, NativeAgents};
use crate::call::{Call, call, call_in_order};
use crate::runtime::lock;

/// A tenant's flows in a store.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeFlows(Arc<Agents>);

/// A life of a flow.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeRun {
    run: Run,
    // It goes last: with it goes the store.
    agents: Arc<Agents>,
}

/// A run of a node. If it is dropped before it is done, whoever is given the same is its next attempt.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeTurn {
    turn: Arc<Mutex<Option<Turn>>>,
    agents: Arc<Agents>,
}

impl Agents {
    async fn flow(&self, trace: &Name) -> Result<Flow> {
        let store = self.opening.store().await?;
        Ok(Flow::new(store.log(self.tenant.log(Kind::Flow, &trace.0)?)))
    }
}

/// A call that writes, in the order of the calls.
fn writing<T: Send + 'static>(
    agents: &Arc<Agents>,
    work: impl Future<Output = Result<T>> + Send + 'static,
    make: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
) -> Call {
    let agents = Arc::clone(agents);
    call_in_order(async move { agents.within(|| agents.late_to_write(), work).await }, make)
}

fn bytes(py: Python<'_>, text: &[u8]) -> Py<PyAny> {
    PyBytes::new(py, text).into_any().unbind()
}

/// What came out, a life, and what it began with.
type Shown = (Option<Py<PyAny>>, Option<Py<NativeRun>>, Option<Py<PyAny>>);

fn show(py: Python<'_>, opened: Opened, agents: Arc<Agents>) -> PyResult<Py<PyAny>> {
    let shown: Shown = match opened {
        Opened::Finished(result) => (Some(bytes(py, &result)), None, None),
        Opened::Running { run, start } => {
            let run = Py::new(py, NativeRun { run, agents })?;
            (None, Some(run), start.map(|start| bytes(py, &start)))
        }
    };
    Ok(shown.into_pyobject(py)?.into_any().unbind())
}

#[pymethods]
impl NativeFlows {
    #[new]
    fn new(agents: &NativeAgents) -> Self {
        Self(Arc::clone(&agents.0))
    }

    /// Begins a flow with a message, or goes on with it: what came out, or a life and the message.
    fn begin(&self, trace: Name, message: Vec<u8>, key: Vec<u8>, by: String) -> Call {
        let (this, agents) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let work = async move {
            let start = Start { message: Json::text(message)?, key: fingerprint::of(&[&key]) };
            this.flow(&trace).await?.begin(start, &by).await
        };
        writing(&self.0, work, move |py, opened| show(py, opened, agents))
    }

    /// Goes on with a flow.
    fn resume(&self, trace: Name, by: String) -> Call {
        let (this, agents) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let work = async move { this.flow(&trace).await?.resume(&by).await };
        writing(&self.0, work, move |py, opened| show(py, opened, agents))
    }

    /// A life of a flow whose message somebody else has.
    fn join(&self, trace: Name, by: String) -> Call {
        let (this, agents) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let work = async move { this.flow(&trace).await?.join(&by).await };
        writing(&self.0, work, move |py, run| Ok(Py::new(py, NativeRun { run, agents })?.into_any()))
    }

    /// All that is known of a flow, as JSON text; `None` if nothing is.
    fn look(&self, trace: Name) -> Call {
        let (this, agents) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let work = async move {
            this.outbox.settle(this.timeout).await?;
            let found = this.flow(&trace).await?.look().await?;
            found.map(|found| Json::of(&found)).transpose()
        };
        let work = async move { agents.within(|| agents.late_to_read(), work).await };
        call(work, |py, found| Ok(found.map_or_else(|| py.None(), |found| bytes(py, found.bytes()))))
    }
}

#[pymethods]
impl NativeRun {
    /// Begins a node: its turn, and what it made before, if it has run. `said` is what it is given, where `key` is something else.
    fn begin(&self, node: Name, key: Vec<u8>, said: Option<Vec<u8>>, input: Vec<u8>) -> Call {
        let run = self.run.clone();
        let work = async move {
            let said = said.map(|said| fingerprint::of(&[&said]));
            let key = fingerprint::of(&[&key]);
            run.begin(Given { node: node.0, key, said, input: Json::text(input)? }).await
        };
        let agents = Arc::clone(&self.agents);
        writing(&self.agents, work, |py, (turn, recorded)| {
            let turn = NativeTurn { turn: Arc::new(Mutex::new(Some(turn))), agents };
            let begun = (turn, recorded.map(|output| bytes(py, &output)));
            Ok(begun.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Records what was made of these: what is recorded.
    fn collect(&self, node: Name, keys: Vec<Vec<u8>>, made: Vec<u8>) -> Call {
        let run = self.run.clone();
        let work = async move {
            let input = Json::text(made)?;
            run.collect(Given { node: node.0, key: key_of_all(&keys), said: None, input }).await
        };
        writing(&self.agents, work, |py, output| Ok(bytes(py, &output)))
    }

    /// Records what came out: what is recorded.
    fn end(&self, result: Vec<u8>) -> Call {
        let run = self.run.clone();
        let work = async move { run.end(&Json::text(result)?).await };
        writing(&self.agents, work, |py, output| Ok(bytes(py, &output)))
    }

    /// Records why this life failed.
    fn fail(&self, error: String) -> Call {
        let run = self.run.clone();
        writing(&self.agents, async move { run.fail(&error).await }, |py, ()| Ok(py.None()))
    }
}

/// Of what came in whatever order.
fn key_of_all(keys: &[Vec<u8>]) -> Hash {
    let mut hashes: Vec<_> = keys.iter().map(|key| fingerprint::of(&[key]).0).collect();
    hashes.sort_unstable();
    fingerprint::of(&hashes.iter().map(|hash| &hash[..]).collect::<Vec<_>>())
}

#[pymethods]
impl NativeTurn {
    /// Records what the node made: what is recorded, and whether it is this.
    fn finish(&self, made: Vec<u8>) -> Call {
        let (place, turn) = (Arc::clone(&self.turn), lock(&self.turn).take());
        let work = async move {
            let over = || Error::new(ErrorKind::Invalid, "finishing a node").advise("Its turn is over");
            // If nobody waits for it any more, its turn ends here.
            let mut turn = turn.ok_or_else(over)?;
            let finished = turn.finish(Json::text(made)?).await?;
            *lock(&place) = Some(turn);
            Ok(finished)
        };
        writing(&self.agents, work, |py, (output, is_ours)| {
            Ok((bytes(py, &output), is_ours).into_pyobject(py)?.into_any().unbind())
        })
    }

    /// What it made was passed on.
    fn done(&self) {
        if let Some(turn) = lock(&self.turn).take() {
            turn.done();
        }
    }

    /// Says that it failed. That is written soon, and its turn is over.
    fn failed(&self, py: Python<'_>, error: &str) -> PyResult<()> {
        let Some(turn) = lock(&self.turn).take() else { return Ok(()) };
        let made = turn.failed(error);
        drop(turn);
        self.agents.say_soon(py, made)
    }
}
