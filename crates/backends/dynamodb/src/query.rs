//! Reading one item, or a range of a partition's; always consistently.

use icecore_log::{Result, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::unreadable;
use crate::item::{self, Item};
use crate::store::DynamoDb;

/// A range of the items of a partition, by their sort keys, both ends included.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub partition: String,
    pub from: String,
    pub to: String,
    /// From the last on.
    pub is_backwards: bool,
    /// How many items, at the most.
    pub limit: usize,
    /// The attributes that are wanted; all of them if none is named. What is read costs the same.
    pub only: &'static str,
}

/// What one request found.
pub(crate) struct Found {
    pub items: Vec<Item>,
    /// Where it goes on.
    pub next: Option<Item>,
}

impl Query {
    /// Every item of a partition whose sort key begins so.
    pub fn beginning(partition: String, prefix: &str) -> Self {
        let (from, to) = (prefix.to_owned(), after_all(prefix));
        Self { partition, from, to, is_backwards: false, limit: usize::MAX, only: "" }
    }

    pub async fn page(
        &self,
        inner: &DynamoDb,
        start: Option<&Item>,
        limit: usize,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Found> {
        let mut request = json!({
            "TableName": inner.settings.table,
            "ConsistentRead": true,
            "KeyConditionExpression": "pk = :p AND sk BETWEEN :a AND :z",
            "ExpressionAttributeValues": {
                ":p": item::string(&self.partition), ":a": item::string(&self.from), ":z": item::string(&self.to),
            },
            "ScanIndexForward": !self.is_backwards,
        });
        if limit < usize::MAX {
            request["Limit"] = limit.max(1).into();
        }
        if !self.only.is_empty() {
            request["ProjectionExpression"] = self.only.into();
        }
        if let Some(start) = start {
            request["ExclusiveStartKey"] = Value::Object(start.clone());
        }
        let mut answer = inner.api.read("Query", &request, doing, deadline).await?;
        let Value::Array(items) = answer.value["Items"].take() else { return Err(unreadable(doing)) };
        let items = items.into_iter().map(|item| match item {
            Value::Object(item) => Ok(item),
            _ => Err(unreadable(doing)),
        });
        let next = match answer.value["LastEvaluatedKey"].take() {
            Value::Object(next) if !next.is_empty() => Some(next),
            _ => None,
        };
        Ok(Found { items: items.collect::<Result<_>>()?, next })
    }

    /// All of them, up to the limit.
    pub async fn all(&self, inner: &DynamoDb, doing: &'static str, deadline: Instant) -> Result<Vec<Item>> {
        let (mut items, mut start) = (Vec::new(), None);
        // The service refuses a range that ends before it begins.
        while items.len() < self.limit && self.from <= self.to {
            let left = if self.limit == usize::MAX { usize::MAX } else { self.limit - items.len() };
            let found = self.page(inner, start.as_ref(), left, doing, deadline).await?;
            items.extend(found.items);
            start = found.next;
            if start.is_none() {
                break;
            }
        }
        Ok(items)
    }
}

/// Behind everything that begins so: no sort key of ours has this byte.
pub(crate) fn after_all(prefix: &str) -> String {
    format!("{prefix}\x7f")
}

/// One item by its key.
pub(crate) async fn get(
    inner: &DynamoDb,
    key: Item,
    doing: &'static str,
    deadline: Instant,
) -> Result<(Option<Item>, Option<Timestamp>)> {
    let request = json!({ "TableName": inner.settings.table, "ConsistentRead": true, "Key": key });
    let mut answer = inner.api.read("GetItem", &request, doing, deadline).await?;
    let item = match answer.value["Item"].take() {
        Value::Object(item) if !item.is_empty() => Some(item),
        _ => None,
    };
    Ok((item, answer.at))
}

/// The sort key of an item.
pub(crate) fn sort(item: &Item) -> &str {
    item::string_of(item, "sk").unwrap_or_default()
}

/// The keys of a partition with these sort keys, deleted; it is no error if they are not there.
pub(crate) async fn delete(
    inner: &DynamoDb,
    partition: &str,
    sorts: &[String],
    doing: &'static str,
    deadline: Instant,
) -> Result<()> {
    /// What the service takes in one request.
    const AT_ONCE: usize = 25;
    let table = &inner.settings.table;
    for sorts in sorts.chunks(AT_ONCE) {
        let delete = |sort: &String| json!({ "DeleteRequest": { "Key": item::key(partition, sort) } });
        let mut left: Value = sorts.iter().map(delete).collect();
        while left.as_array().is_some_and(|left| !left.is_empty()) {
            if Instant::now() >= deadline {
                return Err(crate::fault::Fault::late().writing(doing, true));
            }
            let request = json!({ "RequestItems": { table: left } });
            let mut answer = inner.api.write("BatchWriteItem", &request, doing, deadline).await?;
            // What it had no room for.
            left = answer.value["UnprocessedItems"][table].take();
        }
    }
    Ok(())
}
