//! What the backends in systems of their own have in common: a [`Handle`], in which each call is a task.
//!
//! A caller that goes away leaves nothing half-sent: the task goes on, until it is done or its time is up, and shutting down waits for it.

mod examine;
mod listening;
mod looking;

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, ready, select};
use futures_util::{StreamExt, stream};
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::{
    Backend, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, timeout_at};

pub use examine::examine_logs;
use listening::Listening;
use looking::{Looking, Seat, Seen};

/// A time that no clock can hold is as good as this: a wait is only a hint.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often those who wait are looked for where the system tells of what is created.
const LOOK_WHEN_TOLD: Duration = Duration::from_secs(1);

/// A system, as a [`Handle`] asks it. The methods are those of [`Backend`], each with the time by which it has to answer.
pub trait Remote: fmt::Debug + Send + Sync + 'static {
    /// As of [`Backend`]. A handle that may only read refuses everything else by itself.
    fn capabilities(&self) -> Capabilities;
    /// How long a call may take.
    fn timeout(&self) -> Duration;
    /// How soon a waiter looks for what other processes committed at first, and how rarely in the end.
    fn looks(&self) -> (Duration, Duration);
    /// Decides the runs, or says of each why not.
    fn create(
        &self,
        runs: Vec<Run>,
        mode: Mode,
        deadline: Instant,
    ) -> impl Future<Output = Vec<Created>> + Send;
    /// A page of a log.
    fn read(
        &self,
        log: &LogId,
        from: Version,
        limit: PageLimit,
        deadline: Instant,
    ) -> impl Future<Output = Result<Page>> + Send;
    /// Heads, in the order of the logs.
    fn heads(
        &self,
        logs: &[LogId],
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Option<Head>>>> + Send;
    /// Whether a look at many logs is one request, or few: then all who wait at a handle have their looks together.
    fn looks_together(&self) -> bool {
        true
    }
    /// Whether one of the logs has a commit past the version.
    fn is_past(
        &self,
        seen: &[(LogId, Version)],
        deadline: Instant,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// Whether this handle created a commit past the version in one of the logs, as far as it remembers. A waiter looks then.
    fn may_be_past(&self, _seen: &[(LogId, Version)]) -> bool {
        true
    }
    /// Listens to what is created by whomever, for as long as the system tells of it: remembers that for [`Self::may_be_past`], and then calls
    /// `told`; and once at first, when nothing will be missed any more. Only a hint: a waiter looks by itself too, more rarely.
    fn listen(&self, _told: impl Fn() + Send + Sync) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// A page of names.
    fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> impl Future<Output = Result<LogPage>> + Send;
    /// Raises a boundary.
    fn close(
        &self,
        log: &LogId,
        through: Version,
        deadline: Instant,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Deletes what is closed and may go.
    fn sweep(&self, log: &LogId, deadline: Instant) -> impl Future<Output = Result<Swept>> + Send;
    /// Drops bodies.
    fn drop_bodies(
        &self,
        log: &LogId,
        versions: &[Version],
        deadline: Instant,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Keeps a blob, unless there is one of its name.
    fn put_blob(
        &self,
        blob: &BlobId,
        bytes: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// A blob, or a piece of it.
    fn get_blob(
        &self,
        blob: &BlobId,
        range: Option<Range<u64>>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<Bytes>>> + Send;
    /// Blobs of a log.
    fn list_blobs(
        &self,
        log: &LogId,
        prefix: &str,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<BlobInfo>>> + Send;
    /// Deletes a blob.
    fn delete_blob(&self, blob: &BlobId, deadline: Instant) -> impl Future<Output = Result<()>> + Send;
    /// Reads everything, which may take longer than a call: each request has a time, and not the whole.
    fn examine(&self, depth: Depth) -> impl Future<Output = Result<Examination>> + Send;
    /// Lets go of connections: nothing is under way, and nothing will be.
    fn end(&self, _deadline: Instant) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Who is connected and how, in the words that all systems share, for who examines a store. `tls`: the protocol if it is known, or whether
/// there is any.
pub fn connection_facts(
    user: &str,
    tls: &str,
    connections_max: usize,
    timeout: Duration,
) -> Vec<(&'static str, String)> {
    vec![
        ("user", user.to_owned()),
        ("tls", tls.to_owned()),
        ("connections_max", connections_max.to_string()),
        ("timeout_ms", timeout.as_millis().to_string()),
    ]
}

/// A [`Backend`] in a system of its own.
#[derive(Debug)]
pub struct Handle<R> {
    remote: Arc<R>,
    doors: Arc<Doors>,
    /// Tells waiters of this handle what it created or heard of, and that it was shut down.
    changes: watch::Sender<u64>,
    listening: Listening,
    looking: Looking,
}

/// What lets calls in, and waits until they are out.
#[derive(Debug, Default)]
struct Doors {
    is_shut: AtomicBool,
    /// Read by what is under way.
    busy: RwLock<()>,
}

impl Doors {
    fn check(&self) -> Result<()> {
        if self.is_shut.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Refused, "using a store").advise("It was shut down"));
        }
        Ok(())
    }
}

impl<R: Remote> Handle<R> {
    /// To a system that was opened.
    pub fn new(remote: R) -> Self {
        Self {
            remote: Arc::new(remote),
            doors: Arc::default(),
            changes: watch::Sender::new(0),
            listening: Listening::default(),
            looking: Looking::default(),
        }
    }

    /// Does this in a task of its own, unless it is a write and the handle may only read.
    async fn work<T, W>(
        &self,
        doing: &'static str,
        is_writing: bool,
        work: impl FnOnce(Arc<R>, Instant) -> W + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        self.doors.check()?;
        if is_writing && self.remote.capabilities().read_only {
            return Err(Error::new(ErrorKind::Refused, doing).advise("The store was opened only for reading"));
        }
        let doors = Arc::clone(&self.doors);
        let work = work(Arc::clone(&self.remote), self.deadline());
        let task = async move {
            let _busy = doors.busy.read().await;
            // The doors may have been shut since.
            doors.check()?;
            Ok(work.await)
        };
        tokio::spawn(task).await.unwrap_or_else(|error| {
            let kind = if is_writing { ErrorKind::Unknown } else { ErrorKind::Unavailable };
            Err(Error::new(kind, doing).because(error))
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.remote.timeout()
    }

    /// Among those who wait at this handle; they are looked for more rarely while the system tells of what is created.
    fn seat(&self, seen: &Seen) -> Seat {
        let (listening, (pause, _)) = (self.listening.clone(), self.remote.looks());
        let pause = move || if listening.is_up() { pause.max(LOOK_WHEN_TOLD) } else { pause };
        self.looking.join(seen, &self.remote, &self.doors, pause)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// One that is let go of without being shut down listens no more.
impl<R> Drop for Handle<R> {
    fn drop(&mut self) {
        self.listening.end();
    }
}

#[async_trait]
impl<R: Remote> Backend for Handle<R> {
    fn capabilities(&self) -> Capabilities {
        self.remote.capabilities()
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode) -> Vec<Created> {
        let count = runs.len();
        let work = self.work("creating a commit", true, move |remote, deadline| async move {
            remote.create(runs, mode, deadline).await
        });
        let answers = work.await;
        self.changed();
        answers.unwrap_or_else(|error| (0..count).map(|_| Created::failed(error.clone())).collect())
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit) -> Result<Page> {
        let log = log.clone();
        self.work("reading a log", false, move |remote, deadline| async move {
            remote.read(&log, from, limit, deadline).await
        })
        .await?
    }

    async fn heads(&self, logs: &[LogId]) -> Result<Vec<Option<Head>>> {
        let logs = logs.to_vec();
        self.work("reading heads", false, move |remote, deadline| async move {
            remote.heads(&logs, deadline).await
        })
        .await?
    }

    async fn logs(&self, prefix: &LogPrefix, cursor: Option<Cursor>, limit: usize) -> Result<LogPage> {
        let prefix = prefix.clone();
        self.work("listing logs", false, move |remote, deadline| async move {
            remote.logs(&prefix, cursor, limit, deadline).await
        })
        .await?
    }

    async fn close(&self, log: &LogId, through: Version) -> Result<()> {
        let log = log.clone();
        self.work("closing a log", true, move |remote, deadline| async move {
            remote.close(&log, through, deadline).await
        })
        .await?
    }

    async fn sweep(&self, log: &LogId) -> Result<Swept> {
        let log = log.clone();
        self.work("sweeping a log", true, move |remote, deadline| async move {
            remote.sweep(&log, deadline).await
        })
        .await?
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version]) -> Result<()> {
        let (log, versions) = (log.clone(), versions.to_vec());
        self.work("dropping bodies", true, move |remote, deadline| async move {
            remote.drop_bodies(&log, &versions, deadline).await
        })
        .await?
    }

    async fn wait(&self, seen: &[(LogId, Version)], timeout: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        let end = Instant::now() + timeout.min(WAIT_MAX);
        let seen: Seen = seen.into();
        // Each look may cost a request for each log: they become rarer.
        let (first, last) = self.remote.looks();
        let mut pause = first.min(last);
        loop {
            self.doors.check()?;
            self.listening.keep_up(&self.remote, &self.changes);
            changes.borrow_and_update();
            // As it was before the look: what is created behind that is heard.
            let is_told = self.listening.is_up();
            let wanted = Arc::clone(&seen);
            let look = self.work("waiting", false, move |remote, deadline| async move {
                remote.is_past(&wanted, deadline).await
            });
            // A system that does not answer is no reason to wait for longer.
            let Ok(is_past) = timeout_at(end.max(Instant::now() + pause), look).await else {
                return Ok(());
            };
            if is_past?? || Instant::now() >= end {
                return Ok(());
            }
            // What comes first: a look at what others committed, or a commit to one of these logs that this handle knows of.
            let seat = self.remote.looks_together().then(|| self.seat(&seen));
            let next = if seat.is_some() { end } else { end.min(Instant::now() + pause) };
            let looked = async {
                match &seat {
                    Some(seat) => seat.woken().await,
                    None => std::future::pending().await,
                }
            };
            let known = async {
                while changes.changed().await.is_ok() && self.doors.check().is_ok() {
                    if self.remote.may_be_past(&seen) || self.listening.is_up() != is_told {
                        break;
                    }
                }
            };
            let _ = timeout_at(next, select(pin!(looked), pin!(known))).await;
            pause = (pause * 2).min(last);
        }
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes) -> Result<bool> {
        let blob = blob.clone();
        self.work("writing a blob", true, move |remote, deadline| async move {
            remote.put_blob(&blob, bytes, deadline).await
        })
        .await?
    }

    async fn get_blob(&self, blob: &BlobId, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let blob = blob.clone();
        self.work("reading a blob", false, move |remote, deadline| async move {
            remote.get_blob(&blob, range, deadline).await
        })
        .await?
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str) -> Result<Vec<BlobInfo>> {
        let (log, prefix) = (log.clone(), prefix.to_owned());
        self.work("listing blobs", false, move |remote, deadline| async move {
            remote.list_blobs(&log, &prefix, deadline).await
        })
        .await?
    }

    async fn delete_blob(&self, blob: &BlobId) -> Result<()> {
        let blob = blob.clone();
        self.work("deleting a blob", true, move |remote, deadline| async move {
            remote.delete_blob(&blob, deadline).await
        })
        .await?
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let examine = move |remote: Arc<R>, _| async move { remote.examine(depth).await };
        self.work("examining a store", false, examine).await?
    }

    async fn shut_down(&self) -> Result<()> {
        self.doors.is_shut.store(true, Ordering::Release);
        self.listening.end();
        self.changed();
        // What is under way has deadlines of its own.
        drop(self.doors.busy.write().await);
        self.remote.end(self.deadline()).await;
        Ok(())
    }
}

/// Creates runs one by one, so many at once, where no create is all or none; those that are invalid are not tried. Each is told its place.
pub async fn create_each<'a, F>(
    runs: &'a [Run],
    invalid: Vec<Option<Error>>,
    at_once: usize,
    create_one: impl Fn(usize, &'a Run) -> F,
) -> Vec<Created>
where
    F: Future<Output = Created> + Send,
{
    let each = runs.iter().zip(invalid).enumerate().map(|(place, (run, invalid))| match invalid {
        Some(error) => Either::Left(ready(Created::failed(error))),
        None => Either::Right(create_one(place, run)),
    });
    // Collected first: a closure that borrows is in the way of the compiler.
    let each: Vec<_> = each.collect();
    stream::iter(each).buffered(at_once.max(1)).collect().await
}
