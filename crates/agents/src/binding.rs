//! Which remote task belongs to which trace, and which conversation of a session goes on at which remote agent.
//!
//! A binding is one document by its trace, context and task, and, if it belongs to a session, one among those of the session, which is
//! what is looked at. The first is written first: what is in the second can be found by its triple.

use bytes::Bytes;
use icecore_log::{ErrorKind, Result};
use icecore_store::state::{Changes, Condition, Json};
use icecore_store::{Log, Store};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::names::{self, Kind, Tenant};

/// The bindings of a tenant.
#[derive(Debug)]
pub struct Bindings {
    tenant: Tenant,
    /// One at a time in this process, in the order of the calls: two logs are written.
    turn: Mutex<()>,
}

/// What tells a binding from all others. Ids are any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triple {
    /// The trace.
    pub trace: Vec<u8>,
    /// The remote context, if the remote agent has such.
    pub context: Option<Vec<u8>>,
    /// The remote task.
    pub task: Vec<u8>,
}

/// As it is stored by its trace.
#[derive(Deserialize)]
pub(crate) struct Stored {
    /// The key of its session.
    pub conversation: Option<String>,
}

impl Bindings {
    /// Those of a tenant.
    pub fn new(tenant: Tenant) -> Self {
        Self { tenant, turn: Mutex::new(()) }
    }

    /// Saves a binding, whatever was there under its triple. `json` is an object; [`Bindings::end`] sets its member `is_terminal`.
    /// It has its turn before the store is there.
    ///
    /// # Errors
    /// As [`Log::append`](icecore_store::Log::append).
    pub async fn save(
        &self,
        store: impl Future<Output = Result<Store>>,
        triple: &Triple,
        session: Option<&[u8]>,
        json: Json,
    ) -> Result<()> {
        let _turn = self.turn.lock().await;
        let store = &store.await?;
        let log = store.log(self.tenant.log(Kind::Binding, &triple.trace)?);
        let key = triple.key_in_trace();
        let before = self.conversation(store, triple).await?;
        let now = session.map(names::key);
        let mut stored = Json::of(&now)?.bytes().to_vec();
        stored.splice(..0, *br#"{"conversation":"#);
        stored.extend_from_slice(br#","binding":"#);
        stored.extend_from_slice(json.bytes());
        stored.push(b'}');
        log.put(&key, Json::text(stored)?).await?;
        if let Some(before) = before.filter(|before| Some(before) != now.as_ref()) {
            store.log(self.tenant.keyed(Kind::Conversation, &before)?).delete(&triple.key()).await?;
        }
        if let Some(session) = session {
            let log = store.log(self.tenant.log(Kind::Conversation, session)?);
            log.put(&triple.key(), json).await?;
        }
        Ok(())
    }

    /// The bindings of a session, in the order in which each was first saved.
    ///
    /// # Errors
    /// As [`Log::state`](icecore_store::Log::state).
    pub async fn list(&self, store: &Store, session: &[u8]) -> Result<Vec<Bytes>> {
        let state = store.log(self.tenant.log(Kind::Conversation, session)?).state().await?;
        Ok(state.in_order().into_iter().map(|(_, document)| document.json.clone()).collect())
    }

    /// Sets `is_terminal` of a binding, in its turn as [`Bindings::save`]; nothing if there is none.
    ///
    /// # Errors
    /// As [`Log::append`](icecore_store::Log::append).
    pub async fn end(&self, store: impl Future<Output = Result<Store>>, triple: &Triple) -> Result<()> {
        let _turn = self.turn.lock().await;
        let store = &store.await?;
        if let Some(session) = self.conversation(store, triple).await? {
            let log = store.log(self.tenant.keyed(Kind::Conversation, &session)?);
            patch_if_there(&log, triple.key(), r#"{"is_terminal":true}"#).await?;
        }
        let log = store.log(self.tenant.log(Kind::Binding, &triple.trace)?);
        patch_if_there(&log, triple.key_in_trace(), r#"{"binding":{"is_terminal":true}}"#).await
    }

    /// The key of the session that a binding belongs to.
    async fn conversation(&self, store: &Store, triple: &Triple) -> Result<Option<String>> {
        let log = store.log(self.tenant.log(Kind::Binding, &triple.trace)?);
        match log.document(&triple.key_in_trace()).await? {
            Some(document) => Ok(document.read::<Stored>()?.conversation),
            None => Ok(None),
        }
    }
}

async fn patch_if_there(log: &Log, key: String, patch: &'static str) -> Result<()> {
    let patch = Json::text(patch)?;
    match log.commit(Changes::new().patch(key.clone(), patch).only_if(Condition::Exists(key))).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        done => done.map(|_| ()),
    }
}

impl Triple {
    fn key(&self) -> String {
        names::joined(&[Some(&self.trace), self.context.as_deref(), Some(&self.task)])
    }

    fn key_in_trace(&self) -> String {
        names::joined(&[self.context.as_deref(), Some(&self.task)])
    }
}
