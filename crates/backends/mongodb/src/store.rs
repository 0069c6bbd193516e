//! Opening, and what each call of the handle comes to.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::known::Known;
use icecore_log::{
    Access, BlobId, Capabilities, Created, Cursor, Error, ErrorKind, Head, LogId, LogPage, LogPrefix, Mode,
    Page, PageLimit, Result, Run, Swept, Version,
};
use icecore_remote::{Handle, Remote};
use mongodb::Client;
use mongodb::bson::doc;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Settings;
use crate::fault::{Fault, TAKEN};
use crate::found::Found;
use crate::heard::Heard;
use crate::place::{COLLECTIONS, Place, STORE, again, made};
use crate::{blobs, create, examine, left, read, trim};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
const OPENING: &str = "opening a store";
/// What the store's document says.
const FORMAT: &str = "icecore mongodb 1";
/// The server's code for a collection that is there already.
const EXISTS: i32 = 48;

/// A [`Backend`](icecore_log::Backend) in MongoDB, which [`MongoDb::open`] opens.
pub type MongoStore = Handle<MongoDb>;

/// What a [`MongoStore`] asks.
#[derive(Debug)]
pub struct MongoDb {
    pub(crate) settings: Settings,
    pub(crate) place: Place,
    pub(crate) known: Known,
    pub(crate) heard: Heard,
    /// Held by whoever ends transactions that others left.
    pub(crate) ending: Mutex<()>,
    access: Access,
    found: Found,
    /// Who is connected and how.
    connection: Vec<(&'static str, String)>,
}

impl MongoDb {
    /// Opens the store in a database. To write: makes it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the user or the password is refused, the server is too old or a router, or the database holds a later format;
    /// [`ErrorKind::NotFound`] if there is no store to be read; [`ErrorKind::Unavailable`] if no primary answers in [`Settings::timeout`].
    pub async fn open(settings: Settings, access: Access) -> Result<MongoStore> {
        let deadline = Instant::now() + settings.timeout;
        let options = settings.client().await?;
        let connection = settings.facts(&options);
        let client = Client::with_options(options);
        let client = client.map_err(|error| Fault::from(error).reading(OPENING))?;
        let found = Found::look(&client, deadline).await.map_err(|fault| fault.reading(OPENING))?;
        found.check()?;
        let place = Place::new(client, &settings, found.is_set());
        make(&place, access, deadline).await?;
        Ok(Handle::new(Self {
            settings,
            place,
            known: Known::default(),
            heard: Heard::default(),
            ending: Mutex::default(),
            access,
            found,
            connection,
        }))
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
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

impl Remote for MongoDb {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "mongodb",
            durability: self.found.durability(),
            atomic_create: self.place.is_set,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 4,
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    fn looks(&self) -> (Duration, Duration) {
        (self.settings.look_every, self.settings.look_every)
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode, deadline: Instant) -> Vec<Created> {
        tokio::select! {
            created = create::create(self, &runs, mode, deadline) => created,
            never = left::end(self), if self.place.is_set => match never {},
        }
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit, deadline: Instant) -> Result<Page> {
        read::page(self, log, from, limit, deadline).await
    }

    async fn heads(&self, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
        read::heads(self, logs, deadline).await
    }

    async fn is_past(&self, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
        read::is_past(self, seen, deadline).await
    }

    fn may_be_past(&self, seen: &[(LogId, Version)]) -> bool {
        self.known.is_past(seen) || self.heard.is_past(seen)
    }

    async fn listen(&self, told: impl Fn() + Send + Sync) {
        if self.place.is_set {
            self.heard.listen(&self.place.commits, told).await;
        }
    }

    async fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> Result<LogPage> {
        read::list(self, prefix, cursor, limit, deadline).await
    }

    async fn close(&self, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
        trim::close(self, log, through, deadline).await
    }

    async fn sweep(&self, log: &LogId, deadline: Instant) -> Result<Swept> {
        trim::sweep(self, log, deadline).await
    }

    async fn drop_bodies(&self, log: &LogId, versions: &[Version], deadline: Instant) -> Result<()> {
        trim::drop_bodies(self, log, versions, deadline).await
    }

    async fn put_blob(&self, blob: &BlobId, bytes: Bytes, deadline: Instant) -> Result<bool> {
        blobs::put(self, blob, &bytes, deadline).await
    }

    async fn get_blob(
        &self,
        blob: &BlobId,
        range: Option<Range<u64>>,
        deadline: Instant,
    ) -> Result<Option<Bytes>> {
        blobs::get(self, blob, range, deadline).await
    }

    async fn list_blobs(&self, log: &LogId, prefix: &str, deadline: Instant) -> Result<Vec<BlobInfo>> {
        blobs::list(self, log, prefix, deadline).await
    }

    async fn delete_blob(&self, blob: &BlobId, deadline: Instant) -> Result<()> {
        blobs::delete(self, blob, deadline).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination> {
        let connection = self.connection.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        examine::examine(self, self.found.facts().into_iter().chain(connection).collect(), depth).await
    }

    async fn end(&self, _: Instant) {
        self.place.client.clone().shutdown().immediate(true).await;
    }
}
