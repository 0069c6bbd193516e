//! What a case is given: a store, and the ways in which it can be opened.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use icecore_log::{Backend, Result};

/// A store of one case's own, empty when the case begins.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The handle that is open now.
    fn backend(&self) -> Arc<dyn Backend>;

    /// Shuts the open handle down and opens the store again; `None` if nothing outlives the handle.
    ///
    /// Handles of [`Self::other`] were dropped before. Later calls of [`Self::backend`] give the new one.
    async fn reopen(&self) -> Option<Arc<dyn Backend>>;

    /// Another handle of the same store at the same time, as another process would have it; `None` if there can be none.
    ///
    /// It may only read, if it says so in its capabilities.
    async fn other(&self) -> Option<Arc<dyn Backend>>;
}

/// A store that lives in its one handle.
#[async_trait]
impl<B: Backend> Fixture for Arc<B> {
    fn backend(&self) -> Arc<dyn Backend> {
        Self::clone(self)
    }

    async fn reopen(&self) -> Option<Arc<dyn Backend>> {
        None
    }

    async fn other(&self) -> Option<Arc<dyn Backend>> {
        None
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Backend>>> + Send>>;
type Open<H> = Box<dyn Fn(&H) -> Opening + Send + Sync>;

/// A store that outlives its handles: in a directory, a database, a bucket.
///
/// ```
/// # use std::sync::Arc;
/// # use icecore_conformance::Place;
/// # use icecore_embedded::Memory;
/// # use icecore_log::Backend;
/// # struct Directory;
/// # impl Directory { fn path(&self) -> String { String::new() } }
/// # async fn open_backend(path: String) -> icecore_log::Result<Memory> { Ok(Memory::default()) }
/// async fn open() -> Place<Directory> {
///     Place::open(Directory, |directory| {
///         let path = directory.path();
///         async move { Ok(Arc::new(open_backend(path).await?) as Arc<dyn Backend>) }
///     })
///     .await
/// }
/// ```
pub struct Place<H> {
    backend: Mutex<Arc<dyn Backend>>,
    open: Open<H>,
    other: Option<Open<H>>,
    /// Last, so that what it keeps is removed after the handle has let go of it.
    held: H,
}

impl<H> fmt::Debug for Place<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl<H: Send + Sync> Place<H> {
    /// Opens the store that is at `held`, which is kept until the end of the case. There is no other handle.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn open<F, O>(held: H, open: F) -> Self
    where
        F: Fn(&H) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Arc<dyn Backend>>> + Send + 'static,
    {
        let open: Open<H> = Box::new(move |held| Box::pin(open(held)));
        let backend = open(&held).await.expect("opening a store");
        Self { backend: Mutex::new(backend), open, other: None, held }
    }

    /// Other handles are opened so, while the first is open.
    #[must_use]
    pub fn with_others<F, O>(self, open: F) -> Self
    where
        F: Fn(&H) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Arc<dyn Backend>>> + Send + 'static,
    {
        Self { other: Some(Box::new(move |held| Box::pin(open(held)))), ..self }
    }

    /// What was given to [`Self::open`].
    pub fn held(&self) -> &H {
        &self.held
    }
}

#[async_trait]
impl<H: Send + Sync> Fixture for Place<H> {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend.lock().unwrap())
    }

    async fn reopen(&self) -> Option<Arc<dyn Backend>> {
        self.backend().shut_down().await.expect("shutting down");
        let backend = (self.open)(&self.held).await.expect("opening a store again");
        *self.backend.lock().unwrap() = Arc::clone(&backend);
        Some(backend)
    }

    async fn other(&self) -> Option<Arc<dyn Backend>> {
        match &self.other {
            Some(open) => Some(open(&self.held).await.expect("opening another handle")),
            None => None,
        }
    }
}

/// Runs one case on a store of its own, on a runtime with two threads.
///
/// # Panics
/// If the case fails.
pub fn run<F: Fixture>(open: impl AsyncFnOnce() -> F, case: impl AsyncFnOnce(&dyn Fixture)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let fixture = open().await;
        case(&fixture).await;
    });
}

/// So many handles that can write: the fixture's, and others if it has any, in turns.
pub(crate) async fn writers(fixture: &dyn Fixture, count: usize) -> Vec<Arc<dyn Backend>> {
    let mut handles = vec![fixture.backend()];
    if let Some(other) = other_writer(fixture).await {
        handles.push(other);
    }
    (0..count).map(|index| Arc::clone(&handles[index % handles.len()])).collect()
}

/// The fixture's handle, and another if it has one, be it only for reading.
pub(crate) async fn readers(fixture: &dyn Fixture) -> Vec<Arc<dyn Backend>> {
    let mut handles = vec![fixture.backend()];
    handles.extend(fixture.other().await);
    handles
}

async fn other_writer(fixture: &dyn Fixture) -> Option<Arc<dyn Backend>> {
    let other = fixture.other().await.filter(|other| !other.capabilities().read_only);
    assert_eq!(
        fixture.backend().capabilities().many_writers,
        other.is_some(),
        "many writers are declared, and there is another handle that writes: one without the other",
    );
    other
}
