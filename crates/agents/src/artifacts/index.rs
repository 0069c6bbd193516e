//! Who has an artifact of some id: an id alone does not say so. A tenant's entries are in a fixed number of logs, by the hash of the id.
//!
//! An entry is written before the record that it leads to, and may lead to none: whoever follows it looks. A sweep takes it away then.

use icecore_log::{Hash, Result, Version};
use icecore_store::Log;
use icecore_store::state::Json;
use serde::{Deserialize, Serialize};

use super::record::is_id;
use super::{Artifacts, Owned};
use crate::names::{self, Kind};

/// How many logs there are: two hexadecimal digits.
pub(super) const SHARDS: u32 = 256;
/// How many entries are read at a time.
const PAGE: usize = 1_000;

/// An entry: where a record may be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub id: String,
    /// The key of the session.
    pub session: String,
    /// Names the owner within the session.
    pub owner: String,
}

impl Entry {
    fn of(owned: &Owned, id: &str) -> Self {
        Self { id: id.to_owned(), session: owned.log.id().key(), owner: owned.owner.clone() }
    }

    fn key(&self) -> String {
        let owner = names::joined(&[Some(self.session.as_bytes()), Some(self.owner.as_bytes())]);
        format!("{}/{}", names::key(self.id.as_bytes()), &Hash::of(owner.as_bytes()).to_string()[..32])
    }
}

/// One of the logs.
pub(super) fn shard(all: &Artifacts, number: u32) -> Result<Log> {
    Ok(all.store.log(all.tenant.log(Kind::ArtifactIds, format!("{number:02x}").as_bytes())?))
}

fn shard_of(all: &Artifacts, id: &str) -> Result<Log> {
    shard(all, u32::from(Hash::of(id.as_bytes()).0[0]) % SHARDS)
}

/// Notes that an owner has it, after all others that do.
pub(super) async fn add(owned: &Owned, id: &str) -> Result<()> {
    let entry = Entry::of(owned, id);
    shard_of(&owned.all, id)?.put(&entry.key(), Json::of(&entry)?).await.map(drop)
}

/// As [`add`], unless it is so already.
pub(super) async fn add_newest(owned: &Owned, id: &str) -> Result<()> {
    let found = entries(&owned.all, id).await?;
    match found.first() {
        Some(first) if first.key() == Entry::of(owned, id).key() => Ok(()),
        _ => add(owned, id).await,
    }
}

/// Who may have it, the last that stored it first.
pub(super) async fn entries(all: &Artifacts, id: &str) -> Result<Vec<Entry>> {
    if !is_id(id) {
        return Ok(Vec::new());
    }
    let log = shard_of(all, id)?;
    let prefix = format!("{}/", names::key(id.as_bytes()));
    let (mut found, mut after): (Vec<(Version, Entry)>, Option<String>) = (Vec::new(), None);
    loop {
        let page = log.documents(&prefix, after.as_deref(), PAGE).await?;
        for (_, document) in &page.documents {
            found.push((document.version, document.read()?));
        }
        after = page.documents.last().map(|(key, _)| key.clone());
        if !page.has_more {
            break;
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}
