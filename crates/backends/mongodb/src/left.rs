//! Transactions that nobody goes on with: their process died between the last write and the commit. The server keeps what they wrote from
//! everybody else for as long as it is set to, a minute by default (`transactionLifetimeLimitSeconds`), so that no log that they were in
//! can be written. Whoever waits for one ends it.
//!
//! Any one may be ended at any time: the server refuses the rest of it, and [`together`](crate::together) begins again. Not one that is at
//! work, or else two that wait for each other would never end; so only what did nothing between two looks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;
use tokio::time::sleep;

use crate::store::MongoDb;

/// How long a create waits before it looks, and then between looks.
const PATIENCE: Duration = Duration::from_secs(1);

/// The session of a transaction, which one of the session's it is, and how long it was at work.
type Idle = BTreeMap<Vec<u8>, (i64, i64)>;

/// Ends such transactions for as long as this is polled, if nobody else does it for the same handle. Never done.
pub(crate) async fn end(inner: &MongoDb) -> Infallible {
    sleep(PATIENCE).await;
    let _alone = inner.ending.lock().await;
    let admin = inner.place.client.database("admin");
    let mut before = Idle::new();
    // A server that does not let us look, or end them, ends them itself, in its time.
    while let Ok(idle) = look(&admin, inner.settings.app_name()).await {
        let left = idle.iter().filter(|(session, done)| before.get(*session) == Some(done));
        let left: Vec<Document> = left.map(|(session, _)| named(session)).collect();
        // Without any, all sessions of the user would be ended.
        if !left.is_empty() && admin.run_command(doc! {"killSessions": left}).await.is_err() {
            break;
        }
        before = idle;
        sleep(PATIENCE).await;
    }
    std::future::pending().await
}

/// Transactions of our own user's and of this name, in which something is written, and nothing is at work.
async fn look(admin: &Database, app_name: &str) -> Result<Idle, Error> {
    let of_ours = doc! {
        "type": "idleSession",
        "appName": app_name,
        "transaction.parameters.autocommit": false,
        // One that only looked holds nobody up.
        "locks.Global": "w",
    };
    let stages = [doc! {"$currentOp": {"idleSessions": true}}, doc! {"$match": of_ours}];
    let found: Vec<Document> = admin.aggregate(stages).await?.try_collect().await?;
    Ok(found.iter().filter_map(idle).collect())
}

fn idle(found: &Document) -> Option<(Vec<u8>, (i64, i64))> {
    let Bson::Binary(session) = found.get_document("lsid").ok()?.get("id")? else { return None };
    let transaction = found.get_document("transaction").ok()?;
    let number = transaction.get_document("parameters").ok()?.get_i64("txnNumber").ok()?;
    Some((session.bytes.clone(), (number, transaction.get_i64("timeActiveMicros").ok()?)))
}

fn named(session: &[u8]) -> Document {
    doc! {"id": Binary { subtype: BinarySubtype::Uuid, bytes: session.to_vec() }}
}
