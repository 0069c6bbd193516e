//! Opening: the table is there, is such a table, is active, and nothing of it expires; and it holds a store.

use std::time::Duration;

use icecore_log::{Access, Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::item;
use crate::query;
use crate::store::DynamoDb;

const OPENING: &str = "opening a store";
/// What the store's own item says.
const FORMAT: &str = "icecore dynamodb 1";
/// How long a new table may take until it is there, at the least.
const CREATION: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn open(inner: &DynamoDb, access: Access) -> Result<()> {
    let deadline = inner.deadline();
    let described = inner.api.send("DescribeTable", &named(inner), deadline).await.answer;
    let table = match described {
        Ok(answer) => answer.value,
        Err(fault)
            if fault.is("ResourceNotFoundException")
                && inner.settings.create
                && access == Access::ReadWrite =>
        {
            create(inner, deadline).await?
        }
        Err(fault) => return Err(fault.reading(OPENING).with("table", &inner.settings.table)),
    };
    check(inner, &active(inner, table).await?)?;
    let expires = expires(inner, inner.deadline()).await?;
    if expires.as_deref().is_some_and(|attribute| item::NUMBERS.contains(&attribute)) {
        return Err(Error::new(ErrorKind::Refused, OPENING)
            .with("table", &inner.settings.table)
            .advise("The table deletes items by itself (time to live) by an attribute that commits have: turn that off"));
    }
    mark(inner, access, inner.deadline()).await
}

pub(crate) fn named(inner: &DynamoDb) -> Value {
    json!({ "TableName": inner.settings.table })
}

async fn create(inner: &DynamoDb, deadline: Instant) -> Result<Value> {
    let attribute = |name: &str| json!({ "AttributeName": name, "AttributeType": "S" });
    let request = json!({
        "TableName": inner.settings.table,
        "AttributeDefinitions": [attribute("pk"), attribute("sk")],
        "KeySchema": [
            { "AttributeName": "pk", "KeyType": "HASH" },
            { "AttributeName": "sk", "KeyType": "RANGE" },
        ],
        "BillingMode": "PAY_PER_REQUEST",
    });
    match inner.api.send("CreateTable", &request, deadline).await.answer {
        Ok(_) => {}
        // Somebody else makes it.
        Err(fault) if fault.is("ResourceInUseException") => {}
        Err(fault) => return Err(fault.reading(OPENING).with("table", &inner.settings.table)),
    }
    describe(inner).await
}

/// The table's description, which may be some moments late.
async fn describe(inner: &DynamoDb) -> Result<Value> {
    let end = Instant::now() + CREATION;
    loop {
        match inner.api.send("DescribeTable", &named(inner), inner.deadline()).await.answer {
            Err(fault) if fault.is("ResourceNotFoundException") && Instant::now() < end => sleep(PAUSE).await,
            answer => return answer.map(|answer| answer.value).map_err(|fault| fault.reading(OPENING)),
        }
    }
}

/// Waits until the table may be used.
async fn active(inner: &DynamoDb, mut table: Value) -> Result<Value> {
    let end = Instant::now() + CREATION;
    loop {
        match table["Table"]["TableStatus"].as_str() {
            // What is changed meanwhile may be used.
            Some("ACTIVE" | "UPDATING") => return Ok(table),
            Some("CREATING") if Instant::now() < end => {}
            _ => {
                let status = table["Table"]["TableStatus"].as_str().unwrap_or_default();
                return Err(Error::new(ErrorKind::Unavailable, OPENING)
                    .with("table", &inner.settings.table)
                    .with("status", status)
                    .advise("The table cannot be used as it is now: retry later"));
            }
        }
        sleep(PAUSE).await;
        table = describe(inner).await?;
    }
}

fn check(inner: &DynamoDb, table: &Value) -> Result<()> {
    let table = &table["Table"];
    let types = table["AttributeDefinitions"].as_array();
    let is_text = |name: &Value| {
        let same = |found: &&Value| found["AttributeName"] == *name;
        types.is_some_and(|types| types.iter().find(same).is_some_and(|found| found["AttributeType"] == "S"))
    };
    let keys = table["KeySchema"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ours = matches!(keys, [hash, range]
        if hash["AttributeName"] == "pk" && hash["KeyType"] == "HASH" && range["AttributeName"] == "sk")
        && keys.iter().all(|key| is_text(&key["AttributeName"]));
    if is_ours {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, OPENING)
        .with("table", &inner.settings.table)
        .advise("The table is not one of Icecore: its keys are pk and sk, both strings. Name another, or let it be made with create=true"))
}

/// The attribute by which the table deletes items by itself. Whoever may not ask is not told.
pub(crate) async fn expires(inner: &DynamoDb, deadline: Instant) -> Result<Option<String>> {
    let answer = match inner.api.send("DescribeTimeToLive", &named(inner), deadline).await.answer {
        Err(Fault::Refused(_)) => return Ok(None),
        answer => answer.map_err(|fault| fault.reading(OPENING))?,
    };
    let found = &answer.value["TimeToLiveDescription"];
    let is_on = matches!(found["TimeToLiveStatus"].as_str(), Some("ENABLED" | "ENABLING"));
    Ok(found["AttributeName"].as_str().filter(|_| is_on).map(str::to_owned))
}

/// Whether the table can be brought back to an earlier moment, for people. Not all servers know, and not everybody may ask.
pub(crate) async fn recovers(inner: &DynamoDb, deadline: Instant) -> &'static str {
    let asked = inner.api.send("DescribeContinuousBackups", &named(inner), deadline).await.answer;
    let Ok(answer) = asked else { return "not told" };
    let found = &answer.value["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    match found["PointInTimeRecoveryStatus"].as_str() {
        Some("ENABLED") => "on",
        Some("DISABLED") => "off: what is deleted or overwritten by mistake cannot be brought back",
        _ => "not told",
    }
}

/// Looks for the store; to write, makes it if there is none.
async fn mark(inner: &DynamoDb, access: Access, deadline: Instant) -> Result<()> {
    let look = || query::get(inner, inner.keys.store(), OPENING, deadline);
    let mut found = look().await?.0;
    let place =
        |error: Error| error.with("table", &inner.settings.table).with("prefix", &inner.settings.prefix);
    if found.is_none() {
        if access == Access::ReadOnly {
            return Err(place(Error::new(ErrorKind::NotFound, OPENING))
                .advise("There is no store: one that is opened to write is made"));
        }
        let mut item = inner.keys.store();
        item.insert("v".to_owned(), item::string(FORMAT));
        let request = json!({
            "TableName": inner.settings.table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
        });
        match inner.api.send("PutItem", &request, deadline).await.answer {
            Ok(_) | Err(Fault::Condition) => {}
            Err(fault) => return Err(place(fault.reading(OPENING))),
        }
        found = look().await?.0;
    }
    let refused = || place(Error::new(ErrorKind::Refused, OPENING));
    match found.as_ref().and_then(|found| item::string_of(found, "v")) {
        Some(FORMAT) => Ok(()),
        Some(other) if other.starts_with("icecore dynamodb ") => {
            Err(refused().advise("It was written by a later version of Icecore: use that one"))
        }
        _ => Err(refused().advise("The prefix holds items of another program: name another with prefix=")),
    }
}
