//! A life of a flow: its nodes, each of which is begun, and made something or failed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use icecore_log::{Entry, Error, ErrorKind, Hash, LogId, Result};
use icecore_store::Log;
use icecore_store::state::{Changes, Json, Merge, State};

use super::DOING;
use super::record::{
    Attempt, ERROR, FLOW, Failure, FlowDocument, FlowError, Made, OUT, Occurrence, RESULT, RUN, RunDocument,
    raw_of, read,
};
use crate::names;

/// The longest text of an error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 4_096;

/// A life of a flow. Cheap to clone; a clone is the same life.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

struct Inner {
    log: Log,
    life: u64,
    /// What was begun in this life, by node and key: the runs that were given the same, in their order.
    places: Mutex<HashMap<(String, Hash), Vec<Place>>>,
}

/// Where a run of a node is in this process.
enum Place {
    /// It failed, or was cancelled: whoever comes with the same is its next attempt. What it made and could not record is here.
    Open(Option<Json>),
    Taken,
    /// What it made was passed on.
    Done,
}

/// What a node is given.
#[derive(Debug, Clone)]
pub struct Given {
    /// The node's name, which no other node of the flow has. Any bytes.
    pub node: Vec<u8>,
    /// By what it is known again.
    pub key: Hash,
    /// The hash of what it is, where its key is another: it must be the same when it comes again.
    pub said: Option<Hash>,
    /// What it is.
    pub input: Json,
}

/// A run of a node that the caller has to itself in this process. Dropped before it is [done](Turn::done), whoever is given the same is its
/// next attempt.
pub struct Turn {
    inner: Arc<Inner>,
    occurrence: Occurrence,
    attempt: usize,
    /// What it made, and what may not be recorded.
    made: Option<Json>,
    is_done: bool,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("life", &self.0.life).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("occurrence", &self.occurrence).finish_non_exhaustive()
    }
}

impl Run {
    pub(super) fn new(log: Log, life: u64) -> Self {
        Self(Arc::new(Inner { log, life, places: Mutex::default() }))
    }

    /// Begins a node: what it is given is durable before it may run. If it has run, what it made is given, as JSON text.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another process has taken the flow over, or the node was given something else under this key; else as
    /// [`Log::transact`]. It is not begun then.
    pub async fn begin(&self, given: Given) -> Result<(Turn, Option<Bytes>)> {
        let mut turn = self.turn(&given);
        if let Some(made) = turn.made.clone() {
            // It ran in this life. Only that was not recorded.
            let (output, _) = turn.finish(made).await?;
            return Ok((turn, Some(output)));
        }
        let (run, out) = (turn.occurrence.document(RUN), turn.occurrence.document(OUT));
        let inner = &self.0;
        let now_ms = inner.log.store().now().millis();
        let (mut recorded, mut attempt) = (None, 0);
        let decide = |state: &State| {
            recorded = made_in(state, &out)?;
            if recorded.is_some() {
                return Ok(Changes::new());
            }
            inner.is_ours(state)?;
            let this = Attempt { life: inner.life, at_ms: now_ms };
            let Some(document) = state.get(&run) else {
                attempt = 1;
                return Ok(Changes::new().put(run.clone(), first(&given, this)?));
            };
            let before: RunDocument<'_> = read(document)?;
            if before.said != given.said.map(|said| said.to_string()) {
                return Err(inner.conflict(
                    "The node was given something else under this key: the flow does not do again what it did",
                ));
            }
            attempt = before.attempts.len() + 1;
            Ok(Changes::new().merge(run.clone(), Merge::append(&[this])?.pointer("/attempts")))
        };
        inner.log.transact(decide).await?;
        turn.attempt = attempt;
        Ok((turn, recorded))
    }

    /// Records what a node made of what others made, if it is not there: what is there, as JSON text. It is not run again for this, so that
    /// nothing is written before.
    ///
    /// # Errors
    /// As [`Run::begin`].
    pub async fn collect(&self, given: Given) -> Result<Bytes> {
        let mut turn = self.turn(&given);
        let (output, _) = turn.finish_if(given.input, true).await?;
        turn.done();
        Ok(output)
    }

    /// Records what came out of the flow, unless there is something: what is there, as JSON text.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn end(&self, result: &Json) -> Result<Bytes> {
        self.0.first_of(RESULT, result, false).await.map(|(result, _)| result)
    }

    /// Records why this life of the flow failed, unless another one was begun, or it has a result.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn fail(&self, error: &str) -> Result<()> {
        let inner = &self.0;
        let at_ms = inner.log.store().now().millis();
        let failed = FlowError { life: inner.life, at_ms, error: shortened(error) };
        let decide = |state: &State| {
            let is_over = state.get(RESULT).is_some() || inner.is_ours(state).is_err();
            if is_over { Ok(Changes::new()) } else { Ok(Changes::new().put(ERROR, Json::of(&failed)?)) }
        };
        inner.log.transact(decide).await.map(|_| ())
    }

    /// The place of a node that is given this: that of one that failed, or a new one.
    fn turn(&self, given: &Given) -> Turn {
        let node = names::key(&given.node);
        let mut places = self.0.lock();
        let places = places.entry((node.clone(), given.key)).or_default();
        let open = places.iter().position(|place| matches!(place, Place::Open(_)));
        let index = open.unwrap_or_else(|| {
            places.push(Place::Taken);
            places.len() - 1
        });
        let made = match std::mem::replace(&mut places[index], Place::Taken) {
            Place::Open(made) => made,
            Place::Taken | Place::Done => None,
        };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let occurrence = Occurrence { node, key: given.key, number };
        Turn { inner: Arc::clone(&self.0), occurrence, attempt: 0, made, is_done: false }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Hash), Vec<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conflict(&self, advice: &str) -> Error {
        Error::new(ErrorKind::Conflict, DOING).with("log", self.log.id()).advise(advice)
    }

    /// Whether this life is the flow's last.
    fn is_ours(&self, state: &State) -> Result<()> {
        let life = FlowDocument::of(state)?.map_or(0, |flow| flow.life);
        if life == self.life {
            return Ok(());
        }
        Err(self
            .conflict("Another process has taken this flow over, and runs it: leave it to that one")
            .with("life", self.life)
            .with("found", life))
    }

    /// Writes what was made, unless it is there: what is there then, and whether it is this.
    async fn first_of(&self, key: &str, made: &Json, only_if_ours: bool) -> Result<(Bytes, bool)> {
        let document = Made::json(made, self.life, self.log.store().now())?;
        let mut found = None;
        let decide = |state: &State| {
            found = made_in(state, key)?;
            if found.is_some() {
                return Ok(Changes::new());
            }
            if only_if_ours {
                self.is_ours(state)?;
            } else if state.get(FLOW).is_none() {
                return Err(self.conflict("The flow's log was deleted meanwhile"));
            }
            Ok(Changes::new().put(key, document.clone()))
        };
        self.log.transact(decide).await?;
        Ok(found.map_or_else(|| (made.bytes().clone(), true), |output| (output, false)))
    }
}

impl Turn {
    /// Records what the node made: it is durable before it is passed on. If somebody else has recorded something for this run, that is
    /// given, and `false`: then it counts, and not this.
    ///
    /// # Errors
    /// As [`Log::transact`]. What it made is kept: the next attempt in this process only records it.
    pub async fn finish(&mut self, made: Json) -> Result<(Bytes, bool)> {
        self.finish_if(made, false).await
    }

    async fn finish_if(&mut self, made: Json, only_if_ours: bool) -> Result<(Bytes, bool)> {
        self.made = Some(made.clone());
        self.inner.first_of(&self.occurrence.document(OUT), &made, only_if_ours).await
    }

    /// What it made was passed on: whoever is given the same from here on is another run.
    pub fn done(mut self) {
        self.is_done = true;
    }

    /// What is appended to say that it failed. It changes nothing of what is done, and so need not be waited for.
    ///
    /// # Errors
    /// None: it can be written.
    pub fn failed(&self, error: &str) -> Result<(LogId, Entry)> {
        let at_ms = self.inner.log.store().now().millis();
        let failure = Failure { attempt: self.attempt, at_ms, error: shortened(error) };
        let merge = Merge::append(&[failure])?.pointer("/errors");
        let entry = Changes::new().merge(self.occurrence.document(RUN), merge).entry();
        Ok((self.inner.log.id().clone(), entry.with_id(self.inner.log.store().random_id())))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let place = if self.is_done { Place::Done } else { Place::Open(self.made.take()) };
        let Occurrence { node, key, number } = &self.occurrence;
        let mut places = self.inner.lock();
        if let Some(places) = places.get_mut(&(node.clone(), *key)) {
            places[*number as usize - 1] = place;
        }
    }
}

/// What is recorded under this key, as JSON text.
fn made_in(state: &State, key: &str) -> Result<Option<Bytes>> {
    Ok(state.get(key).map(read::<Made<'_>>).transpose()?.map(|made| made.output()))
}

/// A run that is begun for the first time.
fn first(given: &Given, attempt: Attempt) -> Result<Json> {
    let said = given.said.map(|said| said.to_string());
    let input = raw_of(&given.input)?;
    Json::of(&RunDocument { said, attempts: vec![attempt], errors: Vec::new(), input })
}

/// At most so many bytes, up to the end of a character.
fn shortened(text: &str) -> String {
    let end = (0..=ERROR_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}
