//! Looking at the whole store: what the table says, what this handle asked for, and every commit, body and blob read and checked.

use std::sync::atomic::{AtomicU64, Ordering};

use icecore_log::backend::{Depth, Examination};
use icecore_log::{BlobId, Error, ErrorKind, LogId, LogPrefix, PageLimit, Result, Version};
use serde_json::Value;

use crate::store::DynamoDb;
use crate::{blobs, list, open, read};

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
    let (mut cursor, mut logs) = (None, 0);
    loop {
        let page = list::logs(inner, &LogPrefix::all(), cursor, list::NAMES_MAX, inner.deadline()).await?;
        for log in &page.logs {
            examine_log(inner, log, &mut examination).await?;
        }
        logs += page.logs.len();
        cursor = page.next;
        if cursor.is_none() {
            examination.facts.push(("logs".to_owned(), logs.to_string()));
            return Ok(examination);
        }
    }
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

/// Goes on behind what is damaged, commit by commit, so that each is named.
async fn examine_log(inner: &DynamoDb, log: &LogId, examination: &mut Examination) -> Result<()> {
    let mut from = Version::FIRST;
    let head = match read::look(inner, log, DOING, inner.deadline()).await {
        Ok(look) => look.head.map(|(version, ..)| version),
        Err(error) => {
            damage(examination, error)?;
            None
        }
    };
    let mut limit = PageLimit::WHOLE;
    loop {
        match read::page(inner, log, from, limit, inner.deadline()).await {
            Ok(page) if page.boundary >= from => from = page.boundary.next(),
            Ok(page) => {
                let Some(last) = page.commits.last() else { break };
                from = last.version.next();
                examination.bytes += page.commits.iter().map(|commit| commit.len() as u64).sum::<u64>();
                limit = PageLimit::WHOLE;
            }
            Err(error) if limit.commits > 1 && error.kind() == ErrorKind::Corrupt => limit = limit.commits(1),
            Err(error) => {
                damage(examination, error)?;
                from = from.next();
                if head.is_none_or(|head| from > head) {
                    break;
                }
            }
        }
    }
    for blob in blobs::list(inner, log, "", inner.deadline()).await? {
        let name = BlobId::new(log.clone(), &blob.name)?;
        match blobs::get(inner, &name, None, inner.deadline()).await {
            Ok(bytes) => examination.bytes += bytes.map_or(0, |bytes| bytes.len() as u64),
            Err(error) => damage(examination, error)?,
        }
    }
    Ok(())
}

/// Takes down what is damaged; what only failed is handed on.
fn damage(examination: &mut Examination, error: Error) -> Result<()> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    examination.damage.push(error);
    Ok(())
}
