//! Looking at the whole store: what the table says, what this handle asked for, and every commit, body and blob read and checked.

use std::sync::atomic::{AtomicU64, Ordering};

use icecore_log::Result;
use icecore_log::backend::{Depth, Examination};
use icecore_remote::examine_logs;
use serde_json::Value;

use crate::open;
use crate::store::DynamoDb;

const DOING: &str = "examining a store";

pub(crate) async fn examine(inner: &DynamoDb, depth: Depth) -> Result<Examination> {
    let mut examination = Examination::default();
    let table = inner.api.read("DescribeTable", &open::named(inner), DOING, inner.deadline()).await?.value;
    let table = &table["Table"];
    let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let billing = match &table["BillingModeSummary"]["BillingMode"] {
        // Of a table that never had another mode nothing is said.
        Value::Null => "PROVISIONED".to_owned(),
        mode => said(mode),
    };
    let expires = open::expires(inner, inner.deadline()).await?;
    let recovers = open::recovers(inner, inner.deadline()).await;
    let settings = &inner.settings;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
    let facts = [
        ("table", settings.table.clone()),
        ("prefix", settings.prefix.clone()),
        ("region", settings.region.clone()),
        ("endpoint", settings.address()),
        ("table_status", said(&table["TableStatus"])),
        ("billing", billing),
        ("items", format!("{}, as counted some hours ago", table["ItemCount"])),
        ("table_bytes", format!("{}, as counted some hours ago", table["TableSizeBytes"])),
        (
            "time_to_live",
            expires.map_or_else(
                || "off, or not to be asked".to_owned(),
                |by| format!("by {by}, which no item of ours has"),
            ),
        ),
        ("point_in_time_recovery", recovers.to_owned()),
        ("grace_s", settings.grace.as_secs().to_string()),
        ("durability_found", durability(inner)),
        ("conditional_writes", "hold: a put is conditional".to_owned()),
        ("requests", count(&inner.api.counts.requests)),
        ("requests_again", count(&inner.api.counts.again)),
        ("requests_throttled", count(&inner.api.counts.throttled)),
    ];
    examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if depth == Depth::Quick {
        return Ok(examination);
    }
    let logs = examine_logs(inner, &mut examination).await?;
    examination.facts.push(("logs".to_owned(), logs.to_string()));
    Ok(examination)
}

fn durability(inner: &DynamoDb) -> String {
    match (&inner.settings.durability, &inner.settings.endpoint) {
        (Some(_), _) => "as the URL says",
        (None, Some(_)) => {
            "an endpoint of your own cannot be asked: taken as disk; the option durability says otherwise"
        }
        (None, None) => "what the provider promises",
    }
    .to_owned()
}
