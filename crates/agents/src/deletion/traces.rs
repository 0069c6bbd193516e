//! Which traces a session has, told from what it said, and who else has them.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use icecore_log::Result;
use icecore_store::state::State;
use icecore_store::{Range, RecordedEvent};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Deletion, there};
use crate::binding::Stored;
use crate::names::{self, Kind};

/// The event that says that a session has a trace.
const SAVED: &str = "trajectory.saved";
/// The trace of what belongs to none.
const GLOBAL: &[u8] = b"__global__";
/// How the trace of a session begins whose store has no tasks: Penguiflow writes what they tell there.
const ADAPTED: &[u8] = b"session:";

/// What a trace that others have too has of a session: the keys of its documents.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub trajectory: BTreeSet<String>,
    pub bindings: BTreeSet<String>,
}

/// What names a trace in what is stored. All else is the runtime's.
#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    trace_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context_snapshot: Option<&'a RawValue>,
}

/// What is stored of an artifact.
#[derive(Deserialize)]
struct Artifact<'a> {
    #[serde(borrow)]
    about: About<'a>,
}

#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
}

/// A text with half of a surrogate pair.
#[derive(Deserialize)]
struct Odd {
    #[serde(rename = "$str")]
    text: String,
}

impl Deletion {
    /// The traces that a session names anywhere, and the one that is named for it.
    pub(super) async fn traces_of(&self, session: &[u8]) -> Result<BTreeSet<Vec<u8>>> {
        let mut traces = BTreeSet::from([[ADAPTED, session].concat()]);
        let saved = |event: &RecordedEvent| {
            if event.event.kind == SAVED {
                traces.extend(text(&event.event.data));
            }
        };
        self.each_event(Kind::Traces, session, saved).await?;
        for kind in [Kind::Updates, Kind::Steering] {
            self.each_event(kind, session, |event| add(&event.event.data, &mut traces)).await?;
        }
        for kind in [Kind::Tasks, Kind::Conversation, Kind::Artifacts] {
            let state = there(self.store.log(self.tenant.log(kind, session)?).state().await)?;
            for (_, document) in documents(state.as_deref()) {
                match kind {
                    Kind::Artifacts => add_of_artifact(&document.json, &mut traces),
                    _ => add(&document.json, &mut traces),
                }
            }
        }
        Ok(traces)
    }

    async fn each_event(
        &self,
        kind: Kind,
        session: &[u8],
        mut each: impl FnMut(&RecordedEvent),
    ) -> Result<()> {
        let log = self.store.log(self.tenant.log(kind, session)?);
        let mut reader = log.read(Range::default());
        loop {
            let Some(page) = there(reader.next_page().await)? else { return Ok(()) };
            if page.is_empty() {
                return Ok(());
            }
            for event in page.into_iter().flat_map(icecore_store::RecordedCommit::into_events) {
                each(&event);
            }
        }
    }

    /// What a session has of a trace that is not its own alone; `None` if it is.
    ///
    /// Another has it too if it saved a trajectory of it, or has a remote conversation in it. That an update, a task or a steering event of
    /// another names it as well is not looked for: that would be a look at all sessions.
    pub(super) async fn shared(&self, trace: &[u8], session: &[u8]) -> Result<Option<Own>> {
        let key = names::key(session);
        let of = async |kind| there(self.store.log(self.tenant.log(kind, trace)?).state().await);
        let (trajectory, binding) = (of(Kind::Trajectory).await?, of(Kind::Binding).await?);
        let (mut own, mut is_shared) = (Own::default(), is_of_another(trace, session));
        for (name, _) in documents(trajectory.as_deref()) {
            if name == key {
                own.trajectory.insert(name.to_owned());
            } else {
                is_shared = true;
            }
        }
        for (name, document) in documents(binding.as_deref()) {
            match document.read::<Stored>()?.conversation {
                Some(conversation) if conversation == key => drop(own.bindings.insert(name.to_owned())),
                Some(_) => is_shared = true,
                None => {}
            }
        }
        Ok(is_shared.then_some(own))
    }
}

fn documents(state: Option<&State>) -> impl Iterator<Item = (&str, &icecore_store::state::Document)> {
    state.into_iter().flat_map(|state| state.documents(""))
}

/// Whether a trace's name says that it is not this session's.
fn is_of_another(trace: &[u8], session: &[u8]) -> bool {
    trace == GLOBAL || trace.strip_prefix(ADAPTED).is_some_and(|of| of != session)
}

/// Adds the traces that a stored value names.
fn add(json: &[u8], traces: &mut BTreeSet<Vec<u8>>) {
    if let Ok(named) = serde_json::from_slice::<Names<'_>>(json) {
        traces.extend(named.trace_id.and_then(|trace| text(trace.get().as_bytes())));
        if let Some(within) = named.context_snapshot {
            add(within.get().as_bytes(), traces);
        }
    }
}

fn add_of_artifact(json: &[u8], traces: &mut BTreeSet<Vec<u8>>) {
    if let Ok(Artifact { about: About { scope: Some(scope) } }) = serde_json::from_slice(json) {
        add(scope.get().as_bytes(), traces);
    }
}

/// A text, as it is stored.
fn text(json: &[u8]) -> Option<Vec<u8>> {
    match serde_json::from_slice::<String>(json) {
        Ok(text) => Some(text.into_bytes()),
        Err(_) => BASE64_STANDARD.decode(serde_json::from_slice::<Odd>(json).ok()?.text).ok(),
    }
}
