//! Looking at the whole store: what the server says, and every commit, body and blob read and checked.

use icecore_log::backend::{Depth, Examination};
use icecore_log::{BlobId, Error, ErrorKind, LogId, LogPrefix, PageLimit, Result, Version};

use crate::place::again;
use crate::store::MongoDb;
use crate::{blobs, look, read, slot};

const DOING: &str = "examining a store";
const NAMES_MAX: usize = 1_000;

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
    let mut cursor = None;
    loop {
        let page = read::list(inner, &LogPrefix::all(), cursor, NAMES_MAX, inner.deadline()).await?;
        for log in &page.logs {
            examine_log(inner, log, &mut examination).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(examination);
        }
    }
}

/// Goes on behind what is damaged, commit by commit, so that each is named.
async fn examine_log(inner: &MongoDb, log: &LogId, examination: &mut Examination) -> Result<()> {
    let look = match look::look(inner, log, DOING, inner.deadline()).await {
        Ok(look) => Some(look),
        Err(error) => {
            examination.damage(error)?;
            None
        }
    };
    let mut from = Version::FIRST;
    let head = look.and_then(|look| look.tip).map(|tip| tip.last);
    loop {
        match read::page(inner, log, from, PageLimit::WHOLE, inner.deadline()).await {
            Ok(page) if page.boundary >= from => from = page.boundary.next(),
            Ok(page) => {
                let Some(last) = page.commits.last() else { break };
                from = last.version.next();
                examination.bytes += page.commits.iter().map(|commit| commit.len() as u64).sum::<u64>();
            }
            Err(error) => {
                examination.damage(error)?;
                from = from.next();
                if head.is_none_or(|head| from > head) {
                    break;
                }
            }
        }
    }
    // The head was there: what ends before it lacks something.
    if head.is_some_and(|head| from <= head) {
        examination.damage.push(slot::missing(log, from, DOING));
    }
    for blob in blobs::list(inner, log, "", inner.deadline()).await? {
        let name = BlobId::new(log.clone(), &blob.name)?;
        match blobs::get(inner, &name, None, inner.deadline()).await {
            Ok(bytes) => examination.bytes += bytes.map_or(0, |bytes| bytes.len() as u64),
            Err(error) => examination.damage(error)?,
        }
    }
    Ok(())
}

trait Damage {
    /// Takes down what is damaged; what only failed is handed on.
    fn damage(&mut self, error: Error) -> Result<()>;
}

impl Damage for Examination {
    fn damage(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        self.damage.push(error);
        Ok(())
    }
}
