//! What is remembered under a key: one document, and an etag that says which one it was.
//!
//! An etag is the version of the log at which the document was put, and the beginning of its hash. A log's versions only grow, also where
//! it is trimmed, copied or emptied; so no etag comes back for another value. The hash tells apart what was put twice in one commit.

use icecore_log::{EntryId, Error, ErrorKind, Hash, Result, Version};
use icecore_store::Log;
use icecore_store::state::{Changes, Condition, Document, Json, State};

/// The document of a memory log.
pub const KEY: &str = "memory";
/// How many hexadecimal digits of the hash are in an etag.
const HASH_DIGITS: usize = 16;
const DOING: &str = "saving memory";

/// The etag of what was found.
pub fn etag(document: &Document) -> String {
    made(document.version, &document.json)
}

/// Saves a value if what is there is still what the caller knows: the one with this etag, or nothing. The etag of what was saved.
///
/// Done again with the same id, which an answer that was lost asks for, it is done once.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) if something else is there, or nothing: nothing was saved. [`Invalid`](ErrorKind::Invalid) if the
/// etag is none. Else as [`Log::commit`].
pub async fn save_if(log: &Log, json: Json, expected: Option<&str>, id: EntryId) -> Result<String> {
    let condition = match expected {
        None => Condition::Absent(KEY.to_owned()),
        Some(etag) => Condition::Document { key: KEY.to_owned(), version: version(etag)? },
    };
    let changes = Changes::new().put(KEY, json.clone()).only_if(condition).with_id(id);
    let decide = |state: &State| match (state.get(KEY), expected) {
        (Some(found), Some(expected)) if is_twin(found, expected) => Err(conflict(log, found)),
        _ => Ok(changes.clone()),
    };
    match log.transact(decide).await? {
        Some(receipt) => Ok(made(receipt.version, json.bytes())),
        // It puts something: there is nothing to leave out.
        None => Err(Error::new(ErrorKind::Corrupt, DOING).advise("A put changed nothing")),
    }
}

/// Whether it was put in the same commit, behind the one that is expected.
fn is_twin(found: &Document, expected: &str) -> bool {
    version(expected).is_ok_and(|version| version == found.version) && etag(found) != expected
}

fn conflict(log: &Log, found: &Document) -> Error {
    Error::new(ErrorKind::Conflict, DOING).with("log", log.id()).with("found", found.version)
}

fn made(version: Version, json: &[u8]) -> String {
    format!("{}-{}", version.0, &Hash::of(json).to_string()[..HASH_DIGITS])
}

fn version(etag: &str) -> Result<Version> {
    let number = etag.split_once('-').filter(|(_, hash)| hash.len() == HASH_DIGITS);
    let number = number.and_then(|(number, _)| number.parse().ok());
    number.map(Version).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, DOING).advise("This is no etag: give one that a load or a save gave")
    })
}
