//! Looking at the whole store: what the server says, and every commit, body and blob read and checked.

use icecore_log::Result;
use icecore_log::backend::{Depth, Examination};
use icecore_remote::examine_logs;

use crate::place::again;
use crate::store::MongoDb;

const DOING: &str = "examining a store";

pub(crate) async fn examine(
    inner: &MongoDb,
    found: Vec<(String, String)>,
    depth: Depth,
) -> Result<Examination> {
    let mut examination = Examination { facts: found, ..Examination::default() };
    let count = again(inner.deadline(), || async { inner.place.logs.estimated_document_count().await }).await;
    let facts = [
        ("logs", count.map_err(|fault| fault.reading(DOING))?.to_string()),
        ("database", inner.settings.database.clone()),
        ("conditional_writes", "hold: a unique index decides".to_owned()),
        ("grace_s", inner.settings.grace.as_secs().to_string()),
    ];
    examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if depth == Depth::Quick {
        return Ok(examination);
    }
    examine_logs(inner, &mut examination).await?;
    Ok(examination)
}
