//! What a flow's log says of it: documents, which are the flow.

use bytes::Bytes;
use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp};
use icecore_store::state::{Document, Json, State};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

pub(super) const FLOW: &str = "flow";
pub(super) const START: &str = "start";
pub(super) const RESULT: &str = "result";
pub(super) const ERROR: &str = "error";
/// How the keys begin of what nodes were given, and of what they made.
pub(super) const RUN: &str = "run/";
pub(super) const OUT: &str = "out/";

/// Of these documents.
const FORMAT: u32 = 1;
/// How many digits of a hash stand in a key: 128 bits.
const DIGITS: usize = 32;

/// As it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FlowDocument {
    format: u32,
    pub life: u64,
    pub by: String,
    pub at_ms: i64,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Started<'a> {
    pub key: String,
    #[serde(borrow)]
    message: &'a RawValue,
}

/// As it is stored: what a node made, or what came out of a flow.
#[derive(Serialize, Deserialize)]
pub(super) struct Made<'a> {
    /// In which life.
    pub life: u64,
    pub at_ms: i64,
    #[serde(borrow)]
    output: &'a RawValue,
}

/// As it is stored: what a node was given, and what became of it.
#[derive(Serialize, Deserialize)]
pub(super) struct RunDocument<'a> {
    /// The hash of what it was given, where its key is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    #[serde(default)]
    pub errors: Vec<Failure>,
    #[serde(borrow)]
    pub input: &'a RawValue,
}

/// That a node was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// In which life of the flow.
    pub life: u64,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
}

/// That an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which one, from 1.
    pub attempt: usize,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
    /// What it said.
    pub error: String,
}

/// Why a life of a flow failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowError {
    /// Which life.
    pub life: u64,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
    /// What it said.
    pub error: String,
}

/// Where a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// It has not come to its end. Whether somebody runs it, its log cannot say.
    Running,
    /// Its last life failed: it can be gone on with.
    Failed,
    /// Its result is there.
    Finished,
}

/// Where a run of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It was begun in the flow's last life.
    Running,
    /// It was begun in an earlier life, which ended before it did.
    Interrupted,
    /// Its last attempt failed.
    Failed,
    /// What it made is there.
    Finished,
}

/// All that is known of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowRecord {
    /// Where it is.
    pub state: FlowState,
    /// How often it was begun or gone on with.
    pub life: u64,
    /// By whom last.
    pub by: String,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
    /// What it began with, as JSON text; `None` if that was not recorded.
    #[serde(serialize_with = "raw")]
    pub start: Option<Bytes>,
    /// What came out, as JSON text.
    #[serde(serialize_with = "raw")]
    pub result: Option<Bytes>,
    /// Why its last life failed.
    pub error: Option<FlowError>,
    /// The runs of its nodes, in the order in which each was first begun.
    pub nodes: Vec<NodeRecord>,
}

/// All that is known of a run of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRecord {
    /// Its name, or what stands for it where that cannot be in a key.
    pub node: String,
    /// The first 32 digits of what it was given.
    pub key: String,
    /// Which one of those that were given the same, from 1.
    pub number: u32,
    /// Where it is.
    pub state: NodeState,
    /// How often it was begun.
    pub attempts: Vec<Attempt>,
    /// What failed.
    pub errors: Vec<Failure>,
    /// What it was given, as JSON text; `None` of a node that only collects what others made.
    #[serde(serialize_with = "raw")]
    pub input: Option<Bytes>,
    /// What it made, as JSON text.
    #[serde(serialize_with = "raw")]
    pub output: Option<Bytes>,
    /// When: milliseconds since 1970.
    pub finished_at_ms: Option<i64>,
}

fn raw<S: Serializer>(json: &Option<Bytes>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let raw = json.as_deref().map(serde_json::from_slice::<&RawValue>).transpose();
    raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// Which run of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// What [`key`](crate::names::key) made of its name.
    pub node: String,
    pub key: Hash,
    pub number: u32,
}

impl Occurrence {
    /// Its documents' keys.
    pub fn document(&self, prefix: &str) -> String {
        format!("{prefix}{}/{}/{}", self.node, &self.key.to_string()[..DIGITS], self.number)
    }

    /// The node, the digits and the number of a key behind its prefix.
    fn parse(name: &str) -> Option<(&str, &str, u32)> {
        let (rest, number) = name.rsplit_once('/')?;
        let (node, digits) = rest.rsplit_once('/')?;
        Some((node, digits, number.parse().ok()?))
    }
}

impl FlowDocument {
    pub fn of(state: &State) -> Result<Option<Self>> {
        let Some(document) = state.get(FLOW) else { return Ok(None) };
        let flow: Self = read(document)?;
        if flow.format != FORMAT {
            return Err(Error::new(ErrorKind::Invalid, super::DOING)
                .with("format", flow.format)
                .with("known", FORMAT)
                .advise("A later Icecore wrote it: use that one"));
        }
        Ok(Some(flow))
    }

    /// The next life.
    pub fn after(state: &State, by: &str, now: Timestamp) -> Result<Self> {
        let life = Self::of(state)?.map_or(0, |flow| flow.life) + 1;
        Ok(Self { format: FORMAT, life, by: by.to_owned(), at_ms: now.millis() })
    }
}

impl Started<'_> {
    pub fn json(message: &Json, key: Hash) -> Result<Json> {
        Json::of(&Started { key: key.to_string(), message: raw_of(message)? })
    }

    pub fn message(&self) -> Bytes {
        Bytes::copy_from_slice(self.message.get().as_bytes())
    }
}

impl Made<'_> {
    pub fn json(output: &Json, life: u64, now: Timestamp) -> Result<Json> {
        Json::of(&Made { life, at_ms: now.millis(), output: raw_of(output)? })
    }

    pub fn output(&self) -> Bytes {
        Bytes::copy_from_slice(self.output.get().as_bytes())
    }
}

impl FlowRecord {
    /// What a log's documents say.
    pub(super) fn of(state: &State) -> Result<Option<Self>> {
        let Some(flow) = FlowDocument::of(state)? else { return Ok(None) };
        let error: Option<FlowError> = state.get(ERROR).map(read).transpose()?;
        let error = error.filter(|error| error.life == flow.life);
        let start = state.get(START).map(|document| read::<Started<'_>>(document).map(|it| it.message()));
        let result = state.get(RESULT).map(|document| read::<Made<'_>>(document).map(|it| it.output()));
        let (start, result) = (start.transpose()?, result.transpose()?);
        let state_of_it = match (&result, &error) {
            (Some(_), _) => FlowState::Finished,
            (None, Some(_)) => FlowState::Failed,
            (None, None) => FlowState::Running,
        };
        let mut nodes = Vec::new();
        for (key, document) in state.in_order() {
            let collected =
                || key.strip_prefix(OUT).filter(|name| state.get(&format!("{RUN}{name}")).is_none());
            let found = match key.strip_prefix(RUN) {
                Some(name) => NodeRecord::of(name, Some(document), state, flow.life)?,
                None => match collected() {
                    Some(name) => NodeRecord::of(name, None, state, flow.life)?,
                    None => None,
                },
            };
            nodes.extend(found);
        }
        let FlowDocument { life, by, at_ms, .. } = flow;
        Ok(Some(Self { state: state_of_it, life, by, at_ms, start, result, error, nodes }))
    }
}

impl NodeRecord {
    fn of(name: &str, run: Option<&Document>, state: &State, life: u64) -> Result<Option<Self>> {
        let Some((node, key, number)) = Occurrence::parse(name) else { return Ok(None) };
        let run = run.map(read::<RunDocument<'_>>).transpose()?;
        let input = run.as_ref().map(|run| Bytes::copy_from_slice(run.input.get().as_bytes()));
        let (attempts, errors) = run.map(|run| (run.attempts, run.errors)).unwrap_or_default();
        let out = state.get(&format!("{OUT}{name}"));
        let made = out.map(read::<Made<'_>>).transpose()?;
        let state = match (&made, attempts.last()) {
            (Some(_), _) => NodeState::Finished,
            _ if errors.iter().any(|error| error.attempt == attempts.len()) => NodeState::Failed,
            (None, Some(last)) if last.life == life => NodeState::Running,
            (None, _) => NodeState::Interrupted,
        };
        Ok(Some(Self {
            node: node.to_owned(),
            key: key.to_owned(),
            number,
            state,
            attempts,
            errors,
            input,
            output: made.as_ref().map(Made::output),
            finished_at_ms: made.map(|made| made.at_ms),
        }))
    }
}

pub(super) fn raw_of(json: &Json) -> Result<&RawValue> {
    serde_json::from_slice(json.bytes()).map_err(|_| unreadable())
}

pub(super) fn read<'a, T: Deserialize<'a>>(document: &'a Document) -> Result<T> {
    serde_json::from_slice(&document.json).map_err(|_| unreadable().with("version", document.version))
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "reading a flow").advise("A document is something else than a flow's")
}
