//! What a replica set tells of new commits: a change stream, as a hint for those who wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use icecore_log::{LogId, Version};
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use crate::slot;

/// How long the server keeps a request for more open.
const AWAIT: Duration = Duration::from_secs(1);
/// Logs that are remembered. Who waits for one that was forgotten looks by itself.
const LOGS: usize = 16_384;

/// The newest version that was heard of, of the logs that were heard of last.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<HashMap<LogId, Version>>);

impl Heard {
    /// Whether one of these logs was heard of past the version.
    pub fn is_past(&self, seen: &[(LogId, Version)]) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|(log, version)| heard.get(log).is_some_and(|heard| heard > version))
    }

    fn heard(&self, log: LogId, version: Version) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= LOGS {
            heard.clear();
        }
        let newest = heard.entry(log).or_insert(version);
        *newest = version.max(*newest);
    }

    /// Until the server ends it, or refuses it: then nothing is heard, and nothing else is lost.
    pub async fn listen(&self, commits: &Collection<Document>, told: impl Fn() + Send + Sync) {
        let names = [doc! {"$match": {"operationType": "insert"}}, doc! {"$project": {"documentKey": 1}}];
        let Ok(stream) = commits.watch().pipeline(names).max_await_time(AWAIT).await else { return };
        let mut stream = stream.with_type::<Document>();
        told();
        while let Some(Ok(event)) = stream.next().await {
            let id = event.get_document("documentKey").and_then(|key| key.get_str("_id"));
            if let Some((log, version)) = id.ok().and_then(slot::named_by) {
                self.heard(log, version);
                told();
            }
        }
    }
}
