//! Merges of the caller's own: functions by name, which make of a value and an operand the next value.
//!
//! The function runs where it is registered, in a transaction, and what it makes is put. So whoever reads the log needs no function of anybody's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use icecore_log::{Error, ErrorKind, Result};

use crate::Log;
use crate::append::Receipt;
use crate::state::changes::{Changes, Json};
use crate::state::document::{Document, State};

/// Makes of a document, if there is one, and an operand the value that it has then. It may be run several times for one change.
type Reducer = dyn Fn(Option<&Document>, &Json) -> Result<Json> + Send + Sync;

/// Functions by their names. Given to a store as it is opened, see [`Builder::reducers`](crate::Builder::reducers).
#[derive(Clone, Default)]
pub struct Reducers(BTreeMap<String, Arc<Reducer>>);

impl fmt::Debug for Reducers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Reducers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more; one of the same name makes room for it.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        reducer: impl Fn(Option<&Document>, &Json) -> Result<Json> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name.into(), Arc::new(reducer));
        self
    }
}

impl Log {
    /// Puts what a registered reducer makes of a document and an operand. It is run again if somebody else was first, so that no change is lost.
    ///
    /// ```
    /// # use icecore_store::{Store, state::{Json, Reducers}};
    /// # use std::sync::Arc;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let backend = Arc::new(icecore_embedded::Memory::default());
    /// let largest = |now: Option<&icecore_store::state::Document>, operand: &Json| {
    ///     let now: i64 = now.map_or(Ok(i64::MIN), |document| document.read())?;
    ///     Json::of(&now.max(operand.read()?))
    /// };
    /// let store = Store::builder(backend).reducers(Reducers::new().with("largest", largest)).build();
    /// let log = store.log(icecore_log::LogId::new("acme", "session", "s-1")?);
    /// for seen in [3, 7, 5] {
    ///     log.reduce("peak", "largest", &Json::of(&seen)?).await?;
    /// }
    /// assert_eq!(log.document("peak").await?.unwrap().json, "7");
    /// # Ok::<_, icecore_log::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Log::reduced`] and [`Log::transact`].
    pub async fn reduce(&self, key: &str, reducer: &str, operand: &Json) -> Result<Option<Receipt>> {
        self.transact(|state| Ok(Changes::new().put(key, self.reduced(state, key, reducer, operand)?))).await
    }

    /// What a registered reducer makes of a document as it is in this state: for a transaction that does more than that, or has an id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the store has no reducer of this name; the reducer's own.
    pub fn reduced(&self, state: &State, key: &str, reducer: &str, operand: &Json) -> Result<Json> {
        let Some(found) = self.store.0.reducers.0.get(reducer) else {
            return Err(Error::new(ErrorKind::Invalid, "changing a document")
                .with("reducer", reducer)
                .with("registered", format!("{:?}", self.store.0.reducers))
                .advise("Register it when the store is opened"));
        };
        found(state.get(key), operand)
    }
}
