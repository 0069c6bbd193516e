//! Flows that go on after a crash: what a run of a flow has done, so that another process does the rest.
//!
//! A flow runs under a trace, and its log has a document for each thing that is known of it. Before a node runs, what it was given is
//! written; before what it made is passed on, that is. A process that goes on with the trace is given what was made, and runs the nodes of
//! which nothing was.
//!
//! | document | says |
//! | --- | --- |
//! | `flow` | how often it was begun or gone on with (its *life*), and by whom last |
//! | `start` | the message that it began with |
//! | `run/NODE/KEY/N` | what a node was given, how often that was tried, and what failed |
//! | `out/NODE/KEY/N` | what it made |
//! | `result` | what came out of the flow; from then on it is finished |
//! | `error` | why a life of it failed |
//!
//! 1. **Which run** of a node one is: the node's name, the hash of what it was given, and its number among those that were given the same.
//!    So it makes no difference in which order branches come to a node.
//! 2. **Who may run**: whoever took the trace over last. That adds one to its life, and a node is begun on the condition that its life is
//!    the last. Whoever had it before begins nothing more.
//! 3. **What counts**: of two that ran the same, what was written first. The other one gets that.

mod record;
mod run;

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp};
use icecore_store::Log;
use icecore_store::state::{Changes, Json, State};

pub use record::{Attempt, Failure, FlowError, FlowRecord, FlowState, NodeRecord, NodeState};
pub use run::{Given, Run, Turn};

use record::{FLOW, FlowDocument, Made, RESULT, START, Started, read};

const DOING: &str = "running a flow";

/// What is known of a flow's run under a trace. Made by [`Flow::new`].
#[derive(Debug, Clone)]
pub struct Flow {
    log: Log,
}

/// What a flow begins with.
#[derive(Debug, Clone)]
pub struct Start {
    /// The message.
    pub message: Json,
    /// What it says, as far as that must be the same if it is begun again.
    pub key: Hash,
}

/// A flow that was begun or gone on with.
#[derive(Debug)]
pub enum Opened {
    /// It had come to its end: what came out, as JSON text. Nothing is to be run.
    Finished(Bytes),
    /// It is to be run by the caller.
    Running {
        /// What records its nodes.
        run: Run,
        /// What it began with, as JSON text; `None` if that was not recorded.
        start: Option<Bytes>,
    },
}

impl Flow {
    /// In a log of its own.
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    /// Begins a flow, or goes on with it if it was begun with the same message. `by` says to people who does it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it was begun with another message; else as [`Log::transact`].
    pub async fn begin(&self, start: Start, by: &str) -> Result<Opened> {
        self.open(Some(&start), by).await
    }

    /// Goes on with a flow: from here on the caller runs it, and nobody who did so before begins anything more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is recorded of it; else as [`Log::transact`].
    pub async fn resume(&self, by: &str) -> Result<Opened> {
        self.open(None, by).await
    }

    /// As [`Flow::resume`], of a flow that may be finished, or may have nothing recorded: whoever has no message to say how it began.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn join(&self, by: &str) -> Result<Run> {
        let mut life = 0;
        self.transact(|state, now| {
            let flow = FlowDocument::after(state, by, now)?;
            life = flow.life;
            Ok(Changes::new().put(FLOW, Json::of(&flow)?))
        })
        .await?;
        Ok(Run::new(self.log.clone(), life))
    }

    /// All that is known of it; `None` if nothing is.
    ///
    /// # Errors
    /// As [`Log::state`]; [`ErrorKind::Corrupt`] if it is something else than a flow.
    pub async fn look(&self) -> Result<Option<FlowRecord>> {
        FlowRecord::of(&*self.log.state().await?)
    }

    async fn open(&self, start: Option<&Start>, by: &str) -> Result<Opened> {
        let (mut life, mut finished, mut began) = (0, None, None);
        self.transact(|state, now| {
            (finished, began) = (None, None);
            let changes = self.starting(start, state)?;
            if let Some(result) = state.get(RESULT) {
                finished = Some(read::<Made<'_>>(result)?.output());
                return Ok(Changes::new());
            }
            began = match (state.get(START), start) {
                (Some(document), _) => Some(read::<Started<'_>>(document)?.message()),
                (None, start) => start.map(|start| start.message.bytes().clone()),
            };
            let flow = FlowDocument::after(state, by, now)?;
            life = flow.life;
            Ok(changes.put(FLOW, Json::of(&flow)?))
        })
        .await?;
        Ok(match finished {
            Some(output) => Opened::Finished(output),
            None => Opened::Running { run: Run::new(self.log.clone(), life), start: began },
        })
    }

    /// That it begins so, if it has not begun.
    fn starting(&self, start: Option<&Start>, state: &State) -> Result<Changes> {
        let error = |kind| Error::new(kind, DOING).with("log", self.log.id());
        let Some(start) = start else {
            let is_there = state.get(FLOW).is_some();
            let missing = || error(ErrorKind::NotFound).advise("Nothing is recorded of this trace: begin it");
            return if is_there { Ok(Changes::new()) } else { Err(missing()) };
        };
        match state.get(START) {
            None => Ok(Changes::new().put(START, Started::json(&start.message, start.key)?)),
            Some(document) if read::<Started<'_>>(document)?.key == start.key.to_string() => {
                Ok(Changes::new())
            }
            Some(_) => Err(error(ErrorKind::Conflict)
                .advise("This trace began with another message: resume it, or take another trace")),
        }
    }

    async fn transact(&self, mut decide: impl FnMut(&State, Timestamp) -> Result<Changes>) -> Result<()> {
        let now = self.log.store().now();
        self.log.transact(|state| decide(state, now)).await.map(|_| ())
    }
}
