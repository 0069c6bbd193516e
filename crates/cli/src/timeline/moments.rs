//! The events of the logs that a timeline is made of, with what is known of each.

use icecore::{Error, ErrorKind, LogId, Range, RecordedCommit, RecordedEvent, Result, Store, Timestamp};
use serde_json::{Map, Value};

use super::Of;

/// The members of a payload that say nothing that a line does not say otherwise, or that only the flow itself needs.
const USUAL: [&str; 15] = [
    "ts",
    "event",
    "node_name",
    "node_id",
    "trace_id",
    "latency_ms",
    "q_depth_in",
    "q_depth_out",
    "q_depth_total",
    "outgoing",
    "queue_maxsize",
    "attempt",
    "trace_inflight",
    "trace_cancelled",
    "trace_pending",
];

/// An event of one of these logs.
#[derive(Debug, Clone)]
pub struct Moment {
    pub log: LogId,
    /// When it happened, as far as its event says.
    pub at: Timestamp,
    pub recorded: RecordedEvent,
    /// Its data, if that is a JSON object.
    pub data: Map<String, Value>,
}

/// The events of each kind of log, in the order of the log.
pub struct Moments {
    by_kind: Vec<(&'static str, Vec<Moment>)>,
    /// What ended the reading early: what is good before it is shown all the same.
    pub damage: Option<Error>,
}

impl Moments {
    /// Reads them all: an end may be far behind its beginning.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of the logs.
    pub async fn read(of: &Of, store: &Store) -> Result<Self> {
        let mut read = Self { by_kind: Vec::new(), damage: None };
        let mut is_found = false;
        for kind in of.kinds() {
            let id = of.log(kind)?;
            let log = store.log(id.clone());
            let mut moments = Vec::new();
            if log.head().await?.is_some() {
                is_found = true;
                let mut reader = log.read(Range::default()).whole();
                loop {
                    match reader.next_page().await {
                        Ok(page) if page.is_empty() => break,
                        Ok(page) => {
                            let events = page.into_iter().flat_map(RecordedCommit::into_events);
                            // What a trim left of its own, and the end of a log, are nothing that happened in it.
                            let is_ours =
                                |kind: &str| kind.starts_with("icecore.base") || kind == "icecore.sealed";
                            let events = events.filter(|event| !is_ours(&event.event.kind));
                            moments.extend(events.map(|event| Moment::new(&id, event)));
                        }
                        Err(error) if error.kind() == ErrorKind::Corrupt => {
                            read.damage = read.damage.or(Some(error));
                            break;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            read.by_kind.push((kind, moments));
        }
        if is_found {
            return Ok(read);
        }
        let missing =
            Error::new(ErrorKind::NotFound, "reading a timeline").with("log", of.log(of.kinds()[0])?);
        Err(missing.advise(match of {
            Of::Trace { .. } => "Nothing is recorded of this trace",
            Of::Session { .. } => "Nothing is recorded of this session",
        }))
    }

    pub fn take(&mut self, kind: &str) -> Vec<Moment> {
        let found = self.by_kind.iter_mut().find(|(name, _)| *name == kind);
        found.map(|(_, moments)| std::mem::take(moments)).unwrap_or_default()
    }
}

impl Moment {
    pub fn new(log: &LogId, recorded: RecordedEvent) -> Self {
        let data = match serde_json::from_slice(&recorded.event.data) {
            Ok(Value::Object(data)) => data,
            _ => Map::new(),
        };
        Self { log: log.clone(), at: recorded.at, recorded, data }
    }

    /// The kind; in the data only if the event could not carry it.
    pub fn kind(&self) -> &str {
        text(self.data.get("kind")).unwrap_or(&self.recorded.event.kind)
    }

    pub fn node(&self) -> &str {
        let stated = text(self.data.get("node_name"));
        let carried = Some(self.recorded.event.node.as_str()).filter(|node| !node.is_empty());
        stated.or(carried).or_else(|| text(self.payload().get("node_name"))).unwrap_or_default()
    }

    pub fn node_id(&self) -> Option<&str> {
        text(self.data.get("node_id")).or_else(|| text(self.payload().get("node_id")))
    }

    pub fn payload(&self) -> &Map<String, Value> {
        match self.data.get("payload") {
            Some(Value::Object(payload)) => payload,
            _ => &self.data,
        }
    }

    /// A number of the payload.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.payload().get(name).and_then(Value::as_f64).filter(|number| number.is_finite())
    }

    /// What the payload says beyond the usual, as `name=value`.
    pub fn more(&self) -> String {
        pairs(self.payload().iter().filter(|(name, _)| !USUAL.contains(&name.as_str())))
    }

    /// What programs get of every line.
    pub fn json(&self, what: &str) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("type".to_owned(), what.into());
        line.insert("log".to_owned(), self.log.as_str().into());
        line.insert("version".to_owned(), self.recorded.version.0.into());
        line.insert("index".to_owned(), self.recorded.index.into());
        line.insert("at".to_owned(), crate::time::show(self.at).into());
        line
    }
}

pub fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A value for people: a text without its quotes, anything else as JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub fn pairs<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let said = members.filter(|(_, value)| !value.is_null());
    said.map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" ")
}
