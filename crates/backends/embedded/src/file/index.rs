//! Where every commit is: kept in memory, some 100 bytes a log and 16 a commit, made anew from the segments at open.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use icecore_log::{Error, Hash, LogId, Result, Version};

use super::disk::DiskFile;
use super::frame::{Head, SEGMENT_HEAD};

/// An open segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub number: u32,
    /// The LSN of its first group.
    pub base: u64,
    pub salt: u32,
    pub file: Arc<dyn DiskFile>,
}

impl Segment {
    pub fn name(number: u32) -> String {
        format!("{number:08}.seg")
    }

    /// The offset in the file of an LSN.
    pub fn offset(&self, lsn: u64) -> u64 {
        SEGMENT_HEAD + lsn - self.base
    }
}

/// Where one commit's frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub lsn: u64,
    pub header_bytes: u32,
    body_bytes: u32,
}

const NO_BODY: u32 = u32::MAX;

impl Slot {
    pub fn of(lsn: u64, head: &Head) -> Self {
        Self {
            lsn,
            header_bytes: head.header_bytes,
            body_bytes: if head.has_body { head.body_bytes } else { NO_BODY },
        }
    }

    pub fn body_bytes(&self) -> Option<u32> {
        (self.body_bytes != NO_BODY).then_some(self.body_bytes)
    }

    pub fn bytes(&self) -> u64 {
        u64::from(self.header_bytes) + u64::from(self.body_bytes().unwrap_or(0))
    }
}

#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    pub boundary: u64,
    /// The version of the first slot.
    pub first: u64,
    pub slots: Vec<Slot>,
    /// The last commit's hash, once somebody needed it.
    pub head_hash: Option<Hash>,
    /// Commits behind the last slot were there, and one before them is lost: what the log's end is cannot be told.
    pub broken: Option<Error>,
}

impl LogIndex {
    /// The last version; the boundary if there is no commit.
    pub fn head(&self) -> u64 {
        if self.slots.is_empty() { self.boundary } else { self.first + self.slots.len() as u64 - 1 }
    }

    /// The last commit.
    ///
    /// # Errors
    /// If commits behind it are lost.
    pub fn last(&self) -> Result<Option<(Version, Slot)>> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => Ok(self.slots.last().map(|slot| (Version(self.head()), *slot))),
        }
    }

    pub fn slot(&self, version: u64) -> Option<Slot> {
        let index = usize::try_from(version.checked_sub(self.first)?).ok()?;
        self.slots.get(index).copied()
    }
}

/// All logs, by name. Among a million names each step of a search in order is a miss of the processor's cache, so they are looked up by
/// their hash, and the order is kept beside that for listings.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    entries: HashMap<LogId, LogIndex>,
    names: BTreeSet<LogId>,
}

impl Logs {
    pub fn get(&self, log: &LogId) -> Option<&LogIndex> {
        self.entries.get(log)
    }

    pub fn get_mut(&mut self, log: &LogId) -> Option<&mut LogIndex> {
        self.entries.get_mut(log)
    }

    /// A log's entry, made if there is none.
    pub fn of(&mut self, log: &LogId) -> &mut LogIndex {
        match self.entries.entry(log.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                self.names.insert(log.clone());
                free.insert(LogIndex::default())
            }
        }
    }

    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&LogId, &LogIndex)> {
        self.behind(None)
    }

    /// Those behind a name, in the order of names.
    pub fn behind(&self, name: Option<&LogId>) -> impl Iterator<Item = (&LogId, &LogIndex)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.range((from, Bound::Unbounded));
        names.filter_map(|name| Some((name, self.entries.get(name)?)))
    }
}

/// Damage that belongs to no commit.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub error: Error,
    /// Commits may have been lost with it, nobody knows of which logs.
    pub is_loss: bool,
}

/// Everything that reads look at.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub logs: Logs,
    pub segments: Vec<Segment>,
    /// Commits that are known to be damaged; reading one fails with this.
    pub damaged: BTreeMap<(LogId, u64), Error>,
    /// By file and offset, so that a second look notes nothing twice.
    pub other_damage: BTreeMap<(String, u64), Damage>,
    /// How far the segments were read: all below is in this index.
    pub through: u64,
    /// The LSN of the last group, and the bytes of its frames.
    pub last_group: (u64, u32),
    pub commits: u64,
    pub groups: u64,
}

/// What became of a commit that was taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is the log's last now.
    Last,
    /// It is at or below the boundary.
    Closed,
    /// It does not follow the log's last commit.
    Breaks,
}

impl Index {
    pub fn segment_of(&self, lsn: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.base <= lsn);
        self.segments.get(after.checked_sub(1)?)
    }

    /// Takes up a commit's frame.
    pub fn add(&mut self, log: &LogId, version: u64, slot: Slot, hash: Option<Hash>) -> Added {
        let entry = self.logs.of(log);
        if version <= entry.boundary {
            return Added::Closed;
        }
        // Without slots the head is the boundary: a log begins behind it, and nowhere else.
        if entry.broken.is_some() || version != entry.head() + 1 {
            return Added::Breaks;
        }
        if entry.slots.is_empty() {
            entry.first = version;
        }
        entry.slots.push(slot);
        entry.head_hash = hash;
        self.commits += 1;
        Added::Last
    }

    /// Says that a log's end cannot be told any more.
    pub fn break_log(&mut self, log: &LogId, error: Error) {
        self.logs.of(log).broken.get_or_insert(error);
    }

    pub fn note(&mut self, file: String, offset: u64, error: Error, is_loss: bool) {
        self.other_damage.entry((file, offset)).or_insert(Damage { error, is_loss });
    }

    /// Damage with which commits of any log may be gone.
    pub fn loss(&self) -> Option<&Error> {
        self.other_damage.values().find(|damage| damage.is_loss).map(|damage| &damage.error)
    }

    pub fn close(&mut self, log: &LogId, boundary: u64) {
        let entry = self.logs.of(log);
        entry.boundary = entry.boundary.max(boundary);
    }

    /// Marks a body as gone; its slot as it was.
    pub fn drop_body(&mut self, log: &LogId, version: u64) -> Option<Slot> {
        let entry = self.logs.get_mut(log)?;
        let index = usize::try_from(version.checked_sub(entry.first)?).ok()?;
        let slot = entry.slots.get_mut(index)?;
        let before = *slot;
        slot.body_bytes = NO_BODY;
        Some(before)
    }

    /// Forgets what is closed; the slots that went.
    pub fn sweep(&mut self, log: &LogId) -> Vec<Slot> {
        let Some(entry) = self.logs.get_mut(log) else {
            return Vec::new();
        };
        let count =
            entry.boundary.saturating_sub(entry.first.saturating_sub(1)).min(entry.slots.len() as u64);
        // At most as many as there are slots.
        let swept: Vec<Slot> = entry.slots.drain(..count as usize).collect();
        entry.first += count;
        self.commits -= count;
        self.damaged.retain(|(name, version), _| {
            name != log || *version > self.logs.get(log).map_or(0, |entry| entry.boundary)
        });
        swept
    }

    /// The last commit.
    ///
    /// # Errors
    /// If commits behind it are lost.
    pub fn head(&self, log: &LogId) -> Result<Option<(Version, Slot)>> {
        self.logs.get(log).map_or(Ok(None), LogIndex::last)
    }
}
