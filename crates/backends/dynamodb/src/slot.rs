//! What is written for a commit: its item, the parts that it names, and what else a log's first commit takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use icecore_log::{LogId, Result, StoredCommit, Version};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::item::{self, Item, Place};
use crate::parts::{INLINE_BYTES, Parts};
use crate::store::DynamoDb;

/// What the service takes in one transaction.
pub(crate) const ACTIONS_MAX: usize = 100;
pub(crate) const TRANSACTION_BYTES_MAX: usize = 4_000_000;
/// What a log's first commit takes beside its own item.
pub(crate) const FIRST_ACTIONS: usize = 2;
/// Keys, names of attributes, hashes and lengths: more than they come to.
const BESIDE_BYTES: usize = 1_500;
const NOT_THERE: &str = "attribute_not_exists(pk)";

/// The commits of one run as items. The same commit is the same bytes each time: its parts are written once and named for good.
#[derive(Debug)]
pub(crate) struct Slots<'a> {
    log: &'a LogId,
    staged: BTreeMap<Version, [Option<Parts>; 2]>,
}

/// Bytes that are in the item itself.
fn here(bytes: &Bytes) -> usize {
    if bytes.len() > INLINE_BYTES { 0 } else { bytes.len() }
}

/// As many bytes as the item of a commit has, or fewer.
pub(crate) fn size(commit: &StoredCommit) -> usize {
    BESIDE_BYTES + here(&commit.header) + commit.body.as_ref().map_or(0, here)
}

/// How many commits fit into one transaction, beside so many other actions.
pub(crate) fn fit(commits: &[StoredCommit], others: usize) -> usize {
    let mut bytes = others * BESIDE_BYTES;
    let full = commits.iter().take(ACTIONS_MAX - others).position(|commit| {
        bytes += size(commit);
        bytes > TRANSACTION_BYTES_MAX
    });
    full.unwrap_or_else(|| commits.len().min(ACTIONS_MAX - others)).max(1)
}

impl<'a> Slots<'a> {
    pub fn new(log: &'a LogId) -> Self {
        Self { log, staged: BTreeMap::new() }
    }

    /// Writes what these commits have in parts, if it is not written yet.
    pub async fn stage(
        &mut self,
        inner: &DynamoDb,
        commits: &[StoredCommit],
        doing: &'static str,
        deadline: Instant,
    ) -> Result<()> {
        let partition = inner.keys.log(self.log);
        for commit in commits {
            let staged = self.staged.entry(commit.version).or_default();
            for (place, bytes) in staged.iter_mut().zip([Some(&commit.header), commit.body.as_ref()]) {
                let Some(bytes) = bytes.filter(|bytes| bytes.len() > INLINE_BYTES && place.is_none()) else {
                    continue;
                };
                let parts = Parts::new(bytes.len());
                let prefix = item::parts_of(commit.version);
                parts.write(inner, &partition, &prefix, bytes, doing, deadline).await?;
                *place = Some(parts);
            }
        }
        Ok(())
    }

    fn item(&self, inner: &DynamoDb, commit: &StoredCommit) -> Item {
        let (log, version) = (self.log, commit.version);
        let mut item = item::key(&inner.keys.log(log), &item::slot(version));
        let mut set = |name: &str, value: Value| drop(item.insert(name.to_owned(), value));
        set("n", item::number(commit.header.len() as u64));
        let [header, body] =
            self.staged.get(&version).map_or([None, None], |[header, body]| [header.as_ref(), body.as_ref()]);
        match header {
            Some(parts) => set("hp", item::string(parts.named())),
            None => set("h", Place::header(log, version).value(&commit.header)),
        }
        if let Some(bytes) = &commit.body {
            set("m", item::number(bytes.len() as u64));
            match body {
                Some(parts) => set("bp", item::string(parts.named())),
                None => set("b", Place::body(log, version).value(bytes)),
            }
        }
        item
    }

    /// The request that creates one commit if it is absent.
    pub fn put(&self, inner: &DynamoDb, commit: &StoredCommit) -> Value {
        json!({
            "TableName": inner.settings.table,
            "Item": self.item(inner, commit),
            "ConditionExpression": NOT_THERE,
        })
    }

    /// The actions of a transaction that create these commits if they are absent. Those of a new log make it be listed, and take the
    /// log from whoever would close it before it has a commit.
    pub fn actions(&self, inner: &DynamoDb, commits: &[StoredCommit], is_new: bool) -> Vec<Value> {
        let mut actions: Vec<Value> =
            commits.iter().map(|commit| json!({ "Put": self.put(inner, commit) })).collect();
        if let Some(first) = commits.first().filter(|_| is_new) {
            let table = &inner.settings.table;
            actions.push(json!({ "Put": { "TableName": table, "Item": inner.keys.name(self.log) } }));
            actions.push(json!({ "Update": {
                "TableName": table,
                "Key": item::key(&inner.keys.log(self.log), item::SELF),
                "UpdateExpression": "SET f = :f",
                "ConditionExpression": "attribute_not_exists(c) OR c < :v",
                "ExpressionAttributeValues": { ":f": item::number(1), ":v": item::number(first.version.0) },
            }}));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use icecore_conformance::commits;

    use super::*;

    #[test]
    fn a_transaction_has_no_more_than_the_service_takes() {
        let commit = |version: u64, bytes: usize| commits::commit(version, 0, commits::noise(bytes, version));
        let small: Vec<_> = (1..=200).map(|version| commit(version, 10)).collect();
        assert_eq!((fit(&small, 0), fit(&small, FIRST_ACTIONS), fit(&small[..3], 0)), (100, 98, 3));
        let large: Vec<_> = (1..=200).map(|version| commit(version, 100_000)).collect();
        let count = fit(&large, 0);
        assert!(large[..count].iter().map(size).sum::<usize>() <= TRANSACTION_BYTES_MAX);
        assert!((30..40).contains(&count), "{count}");
        // What is in parts counts little.
        let parts: Vec<_> = (1..=3).map(|version| commit(version, 3_000_000)).collect();
        assert_eq!(fit(&parts, 0), 3);
    }
}
