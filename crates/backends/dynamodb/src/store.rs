//! Opening, and what each call of the handle comes to.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use icecore_log::backend::{BlobInfo, Depth, Examination};
use icecore_log::grace::Moment;
use icecore_log::known::{Known, Tip};
use icecore_log::{
    Access, BlobId, Capabilities, Created, Cursor, Hash, Head, LogId, LogPage, LogPrefix, Mode, Page,
    PageLimit, Result, Run, Swept, Version,
};
use icecore_remote::{Handle, Remote};
use tokio::time::Instant;

use crate::api::Api;
use crate::config::Settings;
use crate::item::Keys;
use crate::tenants::Tenants;
use crate::{blobs, create, examine, list, open, read, trim};

/// The most bytes of one commit, header and body.
pub(crate) const COMMIT_BYTES_MAX: usize = 80 << 20;
/// How soon a waiter looks for what other processes committed, at first.
const LOOK_FIRST: Duration = Duration::from_millis(50);

/// A [`Backend`](icecore_log::Backend) in a table of DynamoDB, which [`DynamoDb::open`] opens.
pub type DynamoStore = Handle<DynamoDb>;

/// What a [`DynamoStore`] asks.
#[derive(Debug)]
pub struct DynamoDb {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) api: Api,
    pub(crate) known: Known,
    pub(crate) tenants: Tenants,
    access: Access,
}

impl DynamoDb {
    /// Opens the store below a prefix of a table. To write: makes it if there is none, and the table if [`Settings::create`] is set.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](icecore_log::ErrorKind::Refused) if the credentials are refused, the table has other keys or deletes items by itself, or the prefix holds
    /// something else or a later format; [`ErrorKind::NotFound`](icecore_log::ErrorKind::NotFound) if there is no table, or no store to be read; [`ErrorKind::Unavailable`](icecore_log::ErrorKind::Unavailable)
    /// if the service does not answer in [`Settings::timeout`].
    pub async fn open(settings: Settings, access: Access) -> Result<DynamoStore> {
        let (keys, api) = (Keys(settings.prefix.clone()), settings.api()?);
        let (known, tenants) = (Known::default(), Tenants::default());
        let dynamodb = Self { settings, keys, api, known, tenants, access };
        open::open(&dynamodb, access).await?;
        Ok(Handle::new(dynamodb))
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    /// Remembers a head, without its header: one that is asked for is read.
    pub(crate) fn saw(&self, log: &LogId, version: Version, hash: Hash, seen: Moment) {
        self.known.saw(log, Tip { first: version, last: version, hash, header: Bytes::new(), seen });
    }
}

async fn heads(inner: &DynamoDb, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
    let look = |log| -> BoxFuture<'_, Result<Option<Head>>> {
        async move { Ok(read::look(inner, log, "reading heads", deadline).await?.head()) }.boxed()
    };
    let looks: Vec<_> = logs.iter().map(look).collect();
    stream::iter(looks).buffered(inner.settings.connections_max).try_collect().await
}

async fn is_past(inner: &DynamoDb, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
    let looks: Vec<BoxFuture<'_, Result<bool>>> =
        seen.iter().map(|(log, version)| read::is_past(inner, log, *version, deadline).boxed()).collect();
    stream::iter(looks)
        .buffer_unordered(inner.settings.connections_max)
        .try_any(|past| async move { past })
        .await
}

impl Remote for DynamoDb {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "dynamodb",
            durability: self.settings.survives(),
            atomic_create: true,
            native_close: false,
            checks_predecessor: true,
            many_writers: true,
            read_only: self.access == Access::ReadOnly,
            commit_bytes_max: COMMIT_BYTES_MAX,
            creates_in_flight: 8,
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    fn looks(&self) -> (Duration, Duration) {
        (LOOK_FIRST, self.settings.look_every)
    }

    async fn create(&self, runs: Vec<Run>, mode: Mode, deadline: Instant) -> Vec<Created> {
        create::create(self, &runs, mode, deadline).await
    }

    async fn read(&self, log: &LogId, from: Version, limit: PageLimit, deadline: Instant) -> Result<Page> {
        read::page(self, log, from, limit, deadline).await
    }

    async fn heads(&self, logs: &[LogId], deadline: Instant) -> Result<Vec<Option<Head>>> {
        heads(self, logs, deadline).await
    }

    async fn is_past(&self, seen: &[(LogId, Version)], deadline: Instant) -> Result<bool> {
        is_past(self, seen, deadline).await
    }

    fn looks_together(&self) -> bool {
        false
    }

    fn may_be_past(&self, seen: &[(LogId, Version)]) -> bool {
        self.known.is_past(seen)
    }

    async fn logs(
        &self,
        prefix: &LogPrefix,
        cursor: Option<Cursor>,
        limit: usize,
        deadline: Instant,
    ) -> Result<LogPage> {
        list::logs(self, prefix, cursor, limit, deadline).await
    }

    async fn close(&self, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
        trim::close(self, log, through, deadline).await
    }

    async fn sweep(&self, log: &LogId, _: Instant) -> Result<Swept> {
        trim::sweep(self, log).await
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
        examine::examine(self, depth).await
    }
}
