//! A log: appending, reading, and its documents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icecore::state::Watched;
use icecore::{
    DocumentPage, Entry, Error, ErrorKind, Log, LogId, Range, Resolved, Result, Tailed, Version,
    store::read::LogHead,
};
use pyo3::prelude::*;

use crate::call::{Call, call, call_in_order};
use crate::event::{self, Receipt};
use crate::state::{Changes, Diff, Document, NativeState, json, merge};
use crate::store::Opening;
use crate::stream::{Item, NativeStream};
use crate::values::{Id, Moment, Name, Number, Text, datetime, or_empty};

/// A log of a store.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeLog {
    pub opening: Arc<Opening>,
    pub id: LogId,
}

impl NativeLog {
    /// Opens the store first, if that was not done.
    pub fn opened(&self) -> impl Future<Output = Result<Log>> + Send + 'static {
        let (opening, id) = (Arc::clone(&self.opening), self.id.clone());
        async move { Ok(opening.store().await?.log(id)) }
    }

    fn commit_changes(&self, changes: icecore::Changes) -> Call {
        let log = self.opened();
        call_in_order(async move { log.await?.commit(changes).await }, Receipt::make_some)
    }
}

#[pymethods]
impl NativeLog {
    #[getter]
    fn name(&self) -> &str {
        self.id.as_str()
    }

    #[getter]
    fn tenant(&self) -> String {
        self.id.tenant()
    }

    #[getter]
    fn kind(&self) -> String {
        self.id.kind()
    }

    #[getter]
    fn key(&self) -> String {
        self.id.key()
    }

    fn append(&self, events: &Bound<'_, PyAny>, id: Option<Id>, expect: Option<Number>) -> PyResult<Call> {
        let entry = Entry { id: id.map(|id| id.0), events: event::events(events)? };
        let log = self.opened();
        let work = async move {
            let log = log.await?;
            let append = log.append(entry);
            match expect {
                Some(version) => append.expect(version.version()).await,
                None => append.await,
            }
        };
        Ok(call_in_order(work, Receipt::make))
    }

    fn resolve(&self, id: Id) -> Call {
        let log = self.opened();
        let work = async move {
            match log.await?.resolve(&id.0).await? {
                Resolved::Committed(receipt) => Ok(Some(receipt)),
                Resolved::NotCommitted => Ok(None),
                Resolved::Undetermined => Err(Error::new(ErrorKind::Unknown, "resolving an entry").advise(
                    "The log was trimmed before all of its ids were kept: it cannot be told any more",
                )),
            }
        };
        call(work, Receipt::make_some)
    }

    fn head(&self) -> Call {
        let log = self.opened();
        call(async move { log.await?.head().await }, |py, head| match head {
            Some(head) => Ok(Bound::new(py, Head(head))?.into_any().unbind()),
            None => Ok(py.None()),
        })
    }

    fn read(&self, from: Option<Number>, to: Option<Number>, reverse: bool) -> NativeStream {
        let log = self.opened();
        let range = Range { from: from.map(Number::version), to: to.map(Number::version), reverse };
        NativeStream::new(move |pages| async move {
            let log = log.await?;
            let mut reader = log.read(range).whole();
            loop {
                let page = reader.next_page().await?;
                let is_last = page.is_empty();
                let mut items = Vec::new();
                for commit in page {
                    let events = commit.into_events().map(|event| Item::Event(Box::new(event)));
                    if reverse { items.extend(events.rev()) } else { items.extend(events) }
                }
                if !pages.give(items).await || is_last {
                    return Ok(());
                }
            }
        })
    }

    fn tail(&self, from: Option<Number>) -> NativeStream {
        let log = self.opened();
        let from = from.map(Number::version);
        NativeStream::new(move |pages| async move {
            let log = log.await?;
            let mut tail = log.tail(from.unwrap_or(Version::FIRST));
            let mut is_at_start = from.is_none();
            loop {
                match tail.next().await? {
                    Tailed::Commit(commit) => {
                        is_at_start = false;
                        let events = commit.into_events().map(|event| Item::Event(Box::new(event)));
                        if !pages.give(events.collect()).await {
                            return Ok(());
                        }
                    }
                    Tailed::CaughtUp(_) | Tailed::Heartbeat => {}
                    // From wherever the log begins is what was asked for.
                    Tailed::Trimmed(_) if is_at_start => {}
                    Tailed::Trimmed(version) => {
                        return Err(Error::new(ErrorKind::NotFound, "following a log")
                            .with("log", log.id())
                            .with("trimmed_through", version)
                            .advise(
                                "Its history was trimmed through that version: follow it from the next one",
                            ));
                    }
                }
            }
        })
    }

    fn check_merges(&self, changes: &Changes) -> Call {
        let (log, changes) = (self.opened(), changes.given());
        call(async move { log.await?.check_merges(&changes).await }, |py, ()| Ok(py.None()))
    }

    fn change(&self, changes: &Changes) -> Call {
        self.commit_changes(changes.given())
    }

    /// Commits changes if the log is still at this version: `(True, receipt)`, or `(False, None)` if it went on.
    fn change_at(&self, changes: &Changes, version: Number) -> Call {
        let (log, changes, version) = (self.opened(), changes.given(), version.version());
        let work = async move {
            let went_on = AtomicBool::new(false);
            let outcome = log
                .await?
                .transact(|state| {
                    if state.version == version {
                        return Ok(changes.clone());
                    }
                    went_on.store(true, Ordering::Relaxed);
                    Err(Error::new(ErrorKind::Conflict, "changing a log's state"))
                })
                .await;
            match outcome {
                Err(_) if went_on.into_inner() => Ok(None),
                outcome => outcome.map(Some),
            }
        };
        call(work, |py, outcome| {
            let is_done = outcome.is_some();
            let receipt = Receipt::make_some(py, outcome.flatten())?;
            Ok((is_done, receipt).into_pyobject(py)?.into_any().unbind())
        })
    }

    fn put(
        &self,
        key: Text,
        value: &Bound<'_, PyAny>,
        id: Option<Id>,
        actor: Option<Text>,
        trace: Option<Text>,
    ) -> PyResult<Call> {
        let changes = icecore::Changes::new().put(key.0, json(value)?);
        Ok(self.commit_changes(described(changes, id, actor, trace)))
    }

    fn patch(
        &self,
        key: Text,
        patch: &Bound<'_, PyAny>,
        id: Option<Id>,
        actor: Option<Text>,
        trace: Option<Text>,
    ) -> PyResult<Call> {
        let changes = icecore::Changes::new().patch(key.0, json(patch)?);
        Ok(self.commit_changes(described(changes, id, actor, trace)))
    }

    #[expect(clippy::too_many_arguments, reason = "Python names them, in _log.py")]
    fn merge(
        &self,
        py: Python<'_>,
        key: Text,
        add: Option<&Bound<'_, PyAny>>,
        append: Option<&Bound<'_, PyAny>>,
        union: Option<&Bound<'_, PyAny>>,
        pointer: Option<Text>,
        id: Option<Id>,
        actor: Option<Text>,
        trace: Option<Text>,
    ) -> PyResult<Call> {
        let changes = icecore::Changes::new().merge(key.0, merge(py, add, append, union, pointer)?);
        Ok(self.commit_changes(described(changes, id, actor, trace)))
    }

    fn delete(&self, key: Text, id: Option<Id>, actor: Option<Text>, trace: Option<Text>) -> Call {
        self.commit_changes(described(icecore::Changes::new().delete(key.0), id, actor, trace))
    }

    fn state(&self, at: Moment) -> Call {
        let log = self.opened();
        let work = async move { log.await?.state_at(at.0).await };
        call(work, |py, state| Ok(Bound::new(py, NativeState(state))?.into_any().unbind()))
    }

    /// One document as it is now.
    fn document(&self, key: Text) -> Call {
        let log = self.opened();
        call(async move { log.await?.document(&key.0).await }, |py, document| {
            Ok(document.map(Document).into_pyobject(py)?.into_any().unbind())
        })
    }

    /// A page of documents as they are now: `(version, documents with their keys, whether there are more)`.
    fn documents(&self, prefix: Text, after: Option<Text>, limit: Number) -> Call {
        let log = self.opened();
        let limit = usize::try_from(limit.version().0).unwrap_or(usize::MAX);
        let work = async move {
            let after = after.as_ref().map(|after| &*after.0);
            log.await?.documents(&prefix.0, after, limit).await
        };
        call(work, |py, DocumentPage { version, documents, has_more }| {
            let documents: Vec<_> =
                documents.into_iter().map(|(key, document)| (key, Document(document))).collect();
            Ok((version.0, documents, has_more).into_pyobject(py)?.into_any().unbind())
        })
    }

    fn diff(&self, from: Moment, to: Moment) -> Call {
        let log = self.opened();
        call(async move { log.await?.diff(from.0, to.0).await }, Diff::make)
    }

    fn rollback(&self, to: Moment) -> Call {
        let log = self.opened();
        call(async move { log.await?.rollback(to.0).await }, Receipt::make_some)
    }

    fn fork(&self, new: Name, at: Moment) -> Call {
        let log = self.opened();
        call(async move { log.await?.fork(&new.0, at.0).await }, Receipt::make)
    }

    fn watch(&self, key: Text) -> NativeStream {
        let log = self.opened();
        NativeStream::new(move |pages| async move {
            let log = log.await?;
            let mut watch = log.watch(&key.0);
            loop {
                if let Watched::Is(version, document) = watch.next().await?
                    && !pages.give(vec![Item::Document(version.0, document)]).await
                {
                    return Ok(());
                }
            }
        })
    }

    fn history(&self, key: Text) -> NativeStream {
        let log = self.opened();
        NativeStream::new(move |pages| async move {
            let log = log.await?;
            let mut history = log.history(&key.0);
            loop {
                let page = history.next_page().await?;
                let is_last = page.is_empty();
                let page = page.into_iter().map(|change| Item::Change(Box::new(change))).collect();
                if !pages.give(page).await || is_last {
                    return Ok(());
                }
            }
        })
    }
}

fn described(
    mut changes: icecore::Changes,
    id: Option<Id>,
    actor: Option<Text>,
    trace: Option<Text>,
) -> icecore::Changes {
    if let Some(id) = id {
        changes = changes.with_id(id.0);
    }
    changes.by(or_empty(actor)).in_trace(or_empty(trace))
}

/// Where a log ends.
#[pyclass(frozen, module = "icecore")]
pub struct Head(LogHead);

#[pymethods]
impl Head {
    #[getter]
    fn version(&self) -> u64 {
        self.0.version.0
    }

    #[getter]
    fn hash(&self) -> String {
        self.0.hash.to_string()
    }

    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.0.at)
    }

    #[getter]
    fn events(&self) -> u64 {
        self.0.events
    }

    #[getter]
    fn boundary(&self) -> u64 {
        self.0.boundary.0
    }

    #[getter]
    fn sealed(&self) -> bool {
        self.0.sealed
    }

    fn __repr__(&self) -> String {
        format!("Head(version={}, events={})", self.0.version, self.0.events)
    }
}
