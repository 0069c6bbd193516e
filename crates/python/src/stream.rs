//! What is read page by page, for `async for`.
//!
//! A task on Tokio reads one page ahead. What it gave stays here until it is taken, so that a wait that is cancelled loses nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use icecore::state::Changed;
use icecore::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use tokio::sync::{mpsc, watch};

use crate::call::{Call, call};
use crate::event::RecordedEvent;
use crate::runtime::{self, lock};
use crate::state::{Change, Document};

/// One of what is read.
pub enum Item {
    Event(Box<icecore::RecordedEvent>),
    Log(String),
    Change(Box<Changed>),
    /// At a version.
    Document(u64, Option<icecore::state::Document>),
}

impl Item {
    fn make(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Event(event) => RecordedEvent::make(py, *event),
            Self::Log(name) => Ok(name.into_pyobject(py)?.into_any().unbind()),
            Self::Change(change) => Change::make(py, *change),
            Self::Document(version, document) => {
                Ok((version, document.map(Document)).into_pyobject(py)?.into_any().unbind())
            }
        }
    }
}

/// Where the reading task puts its pages.
pub struct Pages(mpsc::Sender<Result<Option<Vec<Item>>>>);

impl Pages {
    /// Gives a page; false if nobody wants any more.
    pub async fn give(&self, page: Vec<Item>) -> bool {
        page.is_empty() || self.0.send(Ok(Some(page))).await.is_ok()
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Start = Box<dyn FnOnce(Arc<Pages>) -> Reading + Send>;

enum Feed {
    New(Start),
    Going(mpsc::Receiver<Result<Option<Vec<Item>>>>),
    Ended(Option<Error>),
}

struct Shared {
    read: Mutex<VecDeque<Item>>,
    feed: tokio::sync::Mutex<Feed>,
    is_closed: watch::Sender<bool>,
}

/// What is being read.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeStream(Arc<Shared>);

impl NativeStream {
    /// Nothing is read before it is asked for.
    pub fn new<F>(start: impl FnOnce(Arc<Pages>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let start: Start = Box::new(move |pages| Box::pin(start(pages)));
        Self(Arc::new(Shared {
            read: Mutex::default(),
            feed: tokio::sync::Mutex::new(Feed::New(start)),
            is_closed: watch::Sender::new(false),
        }))
    }
}

#[pymethods]
impl NativeStream {
    /// The next that is here already; `None` if a page must be waited for.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let item = lock(&self.0.read).pop_front();
        item.map(|item| item.make(py)).transpose()
    }

    /// Waits until there is something to take; false at the end.
    fn fill(&self) -> Call {
        let shared = Arc::clone(&self.0);
        call(
            async move {
                let mut closed = shared.is_closed.subscribe();
                tokio::select! {
                    _ = closed.wait_for(|is_closed| *is_closed) => Ok(false),
                    filled = shared.fill() => filled,
                }
            },
            |py, is_there| Ok(is_there.into_pyobject(py)?.to_owned().into_any().unbind()),
        )
    }

    /// Ends it, also for who is waiting.
    fn close(&self) {
        self.0.is_closed.send_replace(true);
        lock(&self.0.read).clear();
        if let Ok(mut feed) = self.0.feed.try_lock() {
            *feed = Feed::Ended(None);
        }
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        if runtime::is_forked() {
            // Its going would wake Tokio, which is not there.
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

impl Shared {
    async fn fill(&self) -> Result<bool> {
        let mut feed = self.feed.lock().await;
        if !lock(&self.read).is_empty() {
            return Ok(true);
        }
        if let Feed::New(_) = *feed {
            let (sender, pages) = mpsc::channel(1);
            if let Feed::New(start) = std::mem::replace(&mut *feed, Feed::Going(pages)) {
                tokio::spawn(drive(start, sender));
            }
        }
        let Feed::Going(pages) = &mut *feed else {
            return match &*feed {
                Feed::Ended(Some(error)) => Err(error.clone()),
                _ => Ok(false),
            };
        };
        let ended = match pages.recv().await {
            Some(Ok(Some(page))) => {
                lock(&self.read).extend(page);
                return Ok(true);
            }
            Some(Ok(None)) => None,
            Some(Err(error)) => Some(error),
            None => {
                let error = Error::new(ErrorKind::Unavailable, "reading");
                Some(error.advise("It failed in a way it never should: please report what was printed"))
            }
        };
        *feed = Feed::Ended(ended.clone());
        ended.map_or(Ok(false), Err)
    }
}

/// Reads until the end, or until nobody wants any more.
async fn drive(start: Start, sender: mpsc::Sender<Result<Option<Vec<Item>>>>) {
    let pages = Arc::new(Pages(sender.clone()));
    tokio::select! {
        () = sender.closed() => {}
        // An end is said: a task that panics says nothing, and must not look like one that is through.
        ended = start(pages) => drop(sender.send(ended.map(|()| None)).await),
    }
}
