//! The collections, and how they are asked.

use std::time::Duration;

use icecore_log::LogId;
use mongodb::bson::{Document, doc};
use mongodb::options::{DatabaseOptions, ReadConcern};
use mongodb::{Client, Collection, Database};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Settings;
use crate::fault::Fault;

/// The first pause before something is sent again, and the longest.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(5);
pub(crate) const PAUSE_LAST: Duration = Duration::from_millis(200);

/// What a store's documents are in. Reads see only what a majority has.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub client: Client,
    pub database: Database,
    /// What the store is: one document.
    pub store: Collection<Document>,
    /// A document a log: its boundary.
    pub logs: Collection<Document>,
    /// A document a commit.
    pub commits: Collection<Document>,
    /// Parts of large bodies and blobs.
    pub parts: Collection<Document>,
    /// A document a blob.
    pub blobs: Collection<Document>,
    /// Whether it is a replica set.
    pub is_set: bool,
}

impl Place {
    pub fn new(client: Client, settings: &Settings, is_set: bool) -> Self {
        // A single server knows no majority.
        let concern = if is_set { ReadConcern::majority() } else { ReadConcern::local() };
        let options = DatabaseOptions::builder().read_concern(concern).build();
        let database = client.database_with_options(&settings.database, options);
        let [store, logs, commits, parts, blobs] = COLLECTIONS.map(|name| database.collection(name));
        Self { client, database, store, logs, commits, parts, blobs, is_set }
    }

    /// The documents of a filter, read after everything that was seen there before is durable.
    pub async fn settled(
        &self,
        collection: &Collection<Document>,
        filter: Document,
        without: Document,
        deadline: Instant,
    ) -> Result<Vec<Document>, Fault> {
        if !self.is_set {
            // Behind this, what was written before is in the journal.
            let id = doc! {"_id": STORE};
            let touch = doc! {"$currentDate": {"flushed": true}};
            again(deadline, || async { self.store.update_one(id.clone(), touch.clone()).await }).await?;
        }
        let concern = if self.is_set { ReadConcern::linearizable() } else { ReadConcern::local() };
        again(deadline, || async {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let found = collection.find(filter.clone()).sort(doc! {"_id": 1}).projection(without.clone());
            let cursor = found.read_concern(concern.clone()).max_time(left).await?;
            futures_util::TryStreamExt::try_collect(cursor).await
        })
        .await
    }
}

/// The document that says what the store is.
pub(crate) const STORE: &str = "store";
/// In this order: what the store is, logs, commits, parts, blobs.
pub(crate) const COLLECTIONS: [&str; 5] =
    ["icecore_store", "icecore_logs", "icecore_commits", "icecore_parts", "icecore_blobs"];

/// All names that begin with this and a slash.
pub(crate) fn below(prefix: &str) -> Document {
    // The sign behind the slash.
    doc! {"_id": {"$gte": format!("{prefix}/"), "$lt": format!("{prefix}0")}}
}

pub(crate) fn named(log: &LogId) -> Document {
    doc! {"_id": log.as_str()}
}

/// Done too if the server refuses it with this code: what is to be made is there already.
pub(crate) fn made<T>(
    result: Result<T, mongodb::error::Error>,
    there: i32,
) -> Result<(), mongodb::error::Error> {
    match result {
        Err(error) if Fault::from(error.clone()).is_code(there) => Ok(()),
        other => other.map(drop),
    }
}

/// Asks until there is an answer, the time is up, or waiting would not help. For what may be asked twice.
pub(crate) async fn again<T, W>(deadline: Instant, mut ask: impl FnMut() -> W) -> Result<T, Fault>
where
    W: Future<Output = Result<T, mongodb::error::Error>>,
{
    let (mut pause, mut in_doubt) = (PAUSE_FIRST, false);
    loop {
        let fault = match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => return Err(Fault::late()),
        };
        in_doubt |= fault.is_doubt();
        if !fault.is_passing() || Instant::now() + pause >= deadline {
            return Err(if in_doubt { fault.in_doubt() } else { fault });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}
