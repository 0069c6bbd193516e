//! Deleting a session of a runtime: all that is kept under its id, and what that leads to. Decision 28 has the reasons.
//!
//! | module | holds |
//! | --- | --- |
//! | `traces` | which traces a session has, and which of them another session has too |
//! | `memory` | whose memory it is, told from its key |
//!
//! The logs stay and are empty, so that there may be a session of this id again. What leads to something goes after it: whoever was killed
//! begins anew, and finds what is left. Nothing goes before it is known that nothing of it is held.

mod memory;
mod traces;

use std::collections::{BTreeMap, BTreeSet};

use icecore_log::{ErrorKind, Header, LogId, LogPrefix, Result};
use icecore_store::retention::Trimmed;
use icecore_store::state::{Changes, State};
use icecore_store::{Log, Store};

use crate::artifacts::Artifacts;
use crate::memory::KEY;
use crate::names::{Kind, Tenant};
use memory::Whose;

/// What is by session, beside artifacts, in the order in which it goes.
pub(crate) const BY_SESSION: [Kind; 5] =
    [Kind::Updates, Kind::Steering, Kind::Tasks, Kind::Traces, Kind::Conversation];
/// What is by trace, in the order in which it goes: the last two say who else has the trace.
const BY_TRACE: [Kind; 5] = [Kind::Trace, Kind::Planner, Kind::Flow, Kind::Binding, Kind::Trajectory];
/// So many names are looked at together.
const TOGETHER: usize = 500;

/// Deletes the sessions of a tenant's runtime.
#[derive(Debug)]
pub struct Deletion {
    store: Store,
    tenant: Tenant,
}

/// What went, or would go, as it was when it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Deleted {
    /// How many logs had something of it, by kind.
    pub logs: BTreeMap<&'static str, u64>,
    /// So many commits of them,
    pub commits: u64,
    /// and their bytes.
    pub bytes: u64,
    /// Artifacts, also such as have expired and were not swept.
    pub artifacts: u64,
    /// The bytes of their content.
    pub artifact_bytes: u64,
    /// Traces that another session has too, or that belong to none: all that stays of them is what is not this session's own.
    pub shared_traces: Vec<Vec<u8>>,
    /// Keys of memory that may be this session's, and may be another's: it stays.
    pub unsure_memory: Vec<String>,
    /// Memory of the tenant under keys that are stored as hashes: whose it is cannot be told, and it stays.
    pub hashed_memory: u64,
}

/// What of a log goes.
#[derive(Debug)]
enum What {
    All,
    /// These documents, and what all were before.
    Documents(BTreeSet<String>),
    /// Records of artifacts and their content.
    Artifacts,
}

#[derive(Debug)]
struct Step {
    kind: Kind,
    log: LogId,
    what: What,
}

impl Deletion {
    /// Of this tenant.
    pub fn new(store: Store, tenant: Tenant) -> Self {
        Self { store, tenant }
    }

    /// What [`Deletion::delete`] would take.
    ///
    /// # Errors
    /// As [`Deletion::delete`].
    pub async fn plan(&self, session: &[u8]) -> Result<Deleted> {
        self.planned(session).await.map(|(_, deleted)| deleted)
    }

    /// Deletes all of a session. It may be interrupted anywhere and done again; what is written meanwhile may stay, and goes the next time.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if something of it is held: nothing went then, unless the error has the fact `logs_deleted`, since
    /// somebody set the hold meanwhile. Else as [`Log::trim`](icecore_store::Log::trim), with that fact if something went.
    pub async fn delete(&self, session: &[u8]) -> Result<Deleted> {
        let (steps, deleted) = self.planned(session).await?;
        for (done, step) in steps.iter().enumerate() {
            self.take(step, session).await.map_err(|error| match done {
                0 => error,
                _ => error.with("logs_deleted", done).with("logs", steps.len()),
            })?;
        }
        Ok(deleted)
    }

    /// What there is to do, and nothing that is done already.
    async fn planned(&self, session: &[u8]) -> Result<(Vec<Step>, Deleted)> {
        let (mut steps, mut deleted) = (Vec::new(), Deleted::default());
        for step in self.steps(session, &mut deleted).await? {
            if self.measure(&step, &mut deleted).await? {
                *deleted.logs.entry(step.kind.name()).or_default() += 1;
                steps.push(step);
            }
        }
        Ok((steps, deleted))
    }

    /// All that may be to do.
    async fn steps(&self, session: &[u8], deleted: &mut Deleted) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut add = |kind, log, what| steps.push(Step { kind, log, what });
        for trace in self.traces_of(session).await? {
            let shared = self.shared(&trace, session).await?;
            for kind in BY_TRACE {
                let log = self.tenant.log(kind, &trace)?;
                match (&shared, kind) {
                    (None, _) => add(kind, log, What::All),
                    (Some(own), Kind::Trajectory) => add(kind, log, What::Documents(own.trajectory.clone())),
                    (Some(own), Kind::Binding) => add(kind, log, What::Documents(own.bindings.clone())),
                    (Some(_), _) => {}
                }
            }
            if shared.is_some() {
                deleted.shared_traces.push(trace);
            }
        }
        for log in self.memory_of(session, deleted).await? {
            add(Kind::Memory, log, What::All);
        }
        add(Kind::Artifacts, self.tenant.log(Kind::Artifacts, session)?, What::Artifacts);
        for kind in BY_SESSION {
            add(kind, self.tenant.log(kind, session)?, What::All);
        }
        self.existing(steps).await
    }

    /// Those whose log is there.
    async fn existing(&self, steps: Vec<Step>) -> Result<Vec<Step>> {
        let mut existing = Vec::with_capacity(steps.len());
        let mut steps = steps.into_iter();
        loop {
            let some: Vec<_> = steps.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return Ok(existing);
            }
            let logs: Vec<_> = some.iter().map(|step| step.log.clone()).collect();
            for (step, head) in some.into_iter().zip(self.store.backend().heads(&logs).await?) {
                let Some(head) = head else { continue };
                // One that was deleted by itself has nothing.
                if !Header::decode(head.header)?.flags.seal {
                    existing.push(step);
                }
            }
        }
    }

    /// Adds what a step takes; whether it is anything.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if it is held.
    async fn measure(&self, step: &Step, deleted: &mut Deleted) -> Result<bool> {
        let log = self.store.log(step.log.clone());
        let Some(state) = there(log.state().await)? else { return Ok(false) };
        let documents = step.what.of(&state).count();
        let Some(trimmed) = there(log.plan_trim_to_state().await)? else { return Ok(false) };
        let is_anything = match step.what {
            What::Documents(_) => documents > 0,
            What::All | What::Artifacts => documents > 0 || trimmed.commits > 0,
        };
        if !is_anything {
            return Ok(false);
        }
        self.store.retention()?.check_free(&step.log, trimmed.head).await?;
        deleted.commits += trimmed.commits;
        deleted.bytes = deleted.bytes.saturating_add(trimmed.bytes);
        if matches!(step.what, What::Artifacts) {
            let (count, bytes) = Artifacts::measured(&state);
            (deleted.artifacts, deleted.artifact_bytes) = (count, bytes);
        }
        Ok(true)
    }

    async fn take(&self, step: &Step, session: &[u8]) -> Result<()> {
        let log = self.store.log(step.log.clone());
        if matches!(step.what, What::Artifacts) {
            Artifacts::new(self.store.clone(), self.tenant.clone()).clear(Some(session)).await?;
        } else {
            let delete = |state: &State| {
                let changes = step.what.of(state).fold(Changes::new(), |changes, key| changes.delete(key));
                Ok(changes)
            };
            there(log.transact(delete).await)?;
        }
        there(log.trim_to_state().await).map(|_: Option<Trimmed>| ())
    }

    /// The logs of memory that is this session's.
    async fn memory_of(&self, session: &[u8], deleted: &mut Deleted) -> Result<Vec<LogId>> {
        let mut own = Vec::new();
        for log in self.store.all_logs(&LogPrefix::kind(self.tenant.as_str(), Kind::Memory.name())?).await? {
            let key = log.key();
            let whose = memory::whose(&key, session);
            if whose == Whose::Ours {
                own.push(log);
                continue;
            }
            // It may have been deleted before.
            if whose == Whose::Others || !has_memory(&self.store.log(log)).await? {
                continue;
            }
            if whose == Whose::Unsure {
                deleted.unsure_memory.push(key);
            } else {
                deleted.hashed_memory += 1;
            }
        }
        Ok(own)
    }
}

impl What {
    /// The keys of the documents that go.
    fn of<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a str> {
        let goes = move |key: &str| match self {
            Self::All => true,
            Self::Documents(keys) => keys.contains(key),
            Self::Artifacts => Artifacts::is_of_one(key),
        };
        state.documents("").map(|(key, _)| key).filter(move |key| goes(key))
    }
}

async fn has_memory(log: &Log) -> Result<bool> {
    Ok(there(log.document(KEY).await)?.flatten().is_some())
}

/// A log that was deleted, or never was, has nothing.
fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
