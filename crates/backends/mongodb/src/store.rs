//! The handle: opening, and each call in a task of its own, which goes on if its caller does not wait for it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::known::Known;
use icecore_log::{
    Access, Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage,
    LogPrefix, Mode, Page, PageLimit, Result, Run, Swept, Version,
};
use mongodb::Client;
use mongodb::bson::doc;
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::Settings;
use crate::fault::{Fault, TAKEN};
use crate::found::Found;
use crate::place::{COLLECTIONS, Place, STORE, again, made};
use crate::{blobs, create, examine, read, trim};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
const OPENING: &str = "opening a store";
/// What the store's document says.
const FORMAT: &str = "icecore mongodb 1";
/// The server's code for a collection that is there already.
const EXISTS: i32 = 48;

/// A [`Backend`] in MongoDB.
#[derive(Debug)]
pub struct MongoStore {
    inner: Arc<Inner>,
    access: Access,
    found: Found,
    /// Tells waiters of this handle what it created, and that it was shut down.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub settings: Settings,
    pub place: Place,
    pub known: Known,
    is_shut_down: AtomicBool,
    /// Read by what is under way.
    busy: RwLock<()>,
}

impl Inner {
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    fn check_open(&self) -> Result<()> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(())
    }
}

impl MongoStore {
    /// Opens the store in a database. To write: makes it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the user or the password is refused, the server is too old or a router, or the database holds a later format;
    /// [`ErrorKind::NotFound`] if there is no store to be read; [`ErrorKind::Unavailable`] if no primary answers in [`Settings::timeout`].
    pub async fn open(settings: Settings, access: Access) -> Result<Self> {
        let deadline = Instant::now() + settings.timeout;
        let client = Client::with_options(settings.client().await?);
        let client = client.map_err(|error| Fault::from(error).reading(OPENING))?;
        let found = Found::look(&client, deadline).await.map_err(|fault| fault.reading(OPENING))?;
        found.check()?;
        let place = Place::new(client, &settings, found.is_set());
        make(&place, access, deadline).await?;
        let (known, is_shut_down) = (Known::default(), AtomicBool::new(false));
        let inner = Inner { settings, place, known, is_shut_down, busy: RwLock::default() };
        Ok(Self { inner: Arc::new(inner), access, found, changes: watch::Sender::new(0) })
    }

    /// Does this in a task of its own.
    async fn work<T, W>(
        &self,
        doing: &'static str,
        is_writing: bool,
        work: impl FnOnce(Arc<Inner>, Instant) -> W + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        self.inner.check_open()?;
        if is_writing && self.access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        let (inner, work) = (Arc::clone(&self.inner), work(Arc::clone(&self.inner), self.inner.deadline()));
        let task = async move {
            let _busy = inner.busy.read().await;
            work.await
        };
        match tokio::spawn(task).await {
            Ok(done) => done,
            Err(error) => {
                let kind = if is_writing { ErrorKind::Unknown } else { ErrorKind::Unavailable };
                Err(Error::new(kind, doing).because(error))
            }
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Looks for the store; to write, makes it if there is none.
async fn make(place: &Place, access: Access, deadline: Instant) -> Result<()> {
    let opening = |fault: Fault| fault.reading(OPENING).with("database", place.database.name());
    let id = doc! {"_id": STORE};
    let find = || async { place.store.find_one(id.clone()).await };
    let look = || async { again(deadline, find).await.map_err(opening) };
    let mut found = look().await?;
    if found.is_none() {
        if access == Access::ReadOnly {
            return Err(Error::new(ErrorKind::NotFound, OPENING)
                .with("database", place.database.name())
                .advise("There is no store: one that is opened to write is made"));
        }
        // Before the document that says that they are there: a transaction makes none.
        for name in COLLECTIONS {
            let create = || async { made(place.database.create_collection(name).await, EXISTS) };
            again(deadline, create).await.map_err(opening)?;
        }
        let document = doc! {"_id": STORE, "format": FORMAT};
        let insert = || async { made(place.store.insert_one(&document).await, TAKEN) };
        again(deadline, insert).await.map_err(opening)?;
        found = look().await?;
    }
    let refused = Error::new(ErrorKind::Refused, OPENING).with("database", place.database.name());
    match found.as_ref().and_then(|found| found.get_str("format").ok()) {
        Some(FORMAT) => check_order(place, deadline).await,
        Some(other) if other.starts_with("icecore mongodb ") => {
            Err(refused.advise("It was written by a later version of Icecore: use that one"))
        }
        _ => Err(refused.advise("The database holds documents of another program: name another")),
    }
}

/// Names are compared as bytes, unless somebody made the collections before and said otherwise.
async fn check_order(place: &Place, deadline: Instant) -> Result<()> {
    let ours = doc! {"name": {"$in": COLLECTIONS.to_vec()}, "options.collation": {"$exists": true}};
    let listed = again(deadline, || async {
        let cursor = place.database.list_collections().filter(ours.clone()).await?;
        futures_util::TryStreamExt::try_collect::<Vec<_>>(cursor).await
    });
    let listed = listed.await.map_err(|fault| fault.reading(OPENING))?;
    match listed.first() {
        None => Ok(()),
        Some(found) => Err(Error::new(ErrorKind::Refused, OPENING)
            .with("collection", &found.name)
            .advise("It has a collation, so that different names may be one: use another database")),
    }
}

#[async_trait]
impl Backend for MongoStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "mongodb",
            durability: self.found.durability(),
            atomic_create: self.inner.place.is_set,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 4,
        }
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let work = self.work(create::DOING, true, move |inner, deadline| async move {
            Ok(create::create(&inner, &runs, mode, deadline).await)
        });
        let answers = work.await;
        self.changed();
        answers.unwrap_or_else(|error| (0..count).map(|_| Created::failed(error.clone())).collect())
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        self.work(read::READING, false, move |inner, deadline| async move {
            read::page(&inner, &log, from, limit, deadline).await
        })
        .await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs = logs.to_vec();
        self.work("reading heads", false, move |inner, deadline| async move {
            read::heads(&inner, &logs, deadline).await
        })
        .await
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.work("listing logs", false, move |inner, deadline| async move {
            read::list(&inner, &prefix, cursor, limit, deadline).await
        })
        .await
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let log = log.clone();
        self.work("closing a log", true, move |inner, deadline| async move {
            trim::close(&inner, &log, through, deadline).await
        })
        .await
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let log = log.clone();
        self.work("sweeping a log", true, move |inner, deadline| async move {
            trim::sweep(&inner, &log, deadline).await
        })
        .await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (log, versions) = (log.clone(), versions.to_vec());
        self.work("dropping bodies", true, move |inner, deadline| async move {
            trim::drop_bodies(&inner, &log, &versions, deadline).await
        })
        .await
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        // A time that no clock can hold is as good as a day: a wait is only a hint.
        let end = Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        let seen: Arc<[(LogId, Version)]> = seen.into();
        loop {
            changes.borrow_and_update();
            let wanted = Arc::clone(&seen);
            let look = self.work("waiting", false, move |inner, deadline| async move {
                read::is_past(&inner, &wanted, deadline).await
            });
            if look.await? || Instant::now() >= end {
                return Ok(());
            }
            let next = end.min(Instant::now() + self.inner.settings.look_every);
            // What comes first: a commit of this handle, or the time to look for those of others.
            let _ = timeout_at(next, changes.changed()).await;
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let blob = blob.clone();
        self.work("writing a blob", true, move |inner, deadline| async move {
            blobs::put(&inner, &blob, &bytes, deadline).await
        })
        .await
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.work("reading a blob", false, move |inner, deadline| async move {
            blobs::get(&inner, &blob, range, deadline).await
        })
        .await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.work("listing blobs", false, move |inner, deadline| async move {
            blobs::list(&inner, &log, &prefix, deadline).await
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let blob = blob.clone();
        self.work("deleting a blob", true, move |inner, deadline| async move {
            blobs::delete(&inner, &blob, deadline).await
        })
        .await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let found = self.found.facts();
        // It reads everything: each of its requests has a deadline, and not the whole.
        self.work("examining a store", false, move |inner, _| async move {
            examine::examine(&inner, found, depth).await
        })
        .await
    }

    async fn shut_down(&self) -> Result<()> {
        self.inner.is_shut_down.store(true, Ordering::Release);
        self.changed();
        // What is under way has deadlines of its own.
        drop(self.inner.busy.write().await);
        self.inner.place.client.clone().shutdown().immediate(true).await;
        Ok(())
    }
}
