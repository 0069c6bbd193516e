//! The names of a snapshot's blobs: they say which parts there are, and so which snapshots are whole.

use std::collections::BTreeMap;

use icecore_log::{BlobId, Incarnation, LogId, Result, Version};

use crate::Inner;

/// How the names of all blobs of snapshots begin.
pub(crate) const PREFIX: &str = "snap-";
/// How many parts a name can tell apart.
pub(crate) const PARTS_MAX: usize = 1 << 16;

/// What the names of its blobs say of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    pub incarnation: Incarnation,
    /// The version before the first that it speaks of; 0 if it is the whole state.
    pub from: Version,
    pub to: Version,
    /// Kept for time travel; else only for the head.
    pub is_kept: bool,
    /// Random, of the one who wrote it: parts of two writers are never taken for one snapshot.
    pub tag: [u8; 4],
    /// The bytes of each part.
    pub parts: Vec<u64>,
}

impl SnapshotInfo {
    /// The bytes of all its parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// The blob of one of its parts.
    pub(super) fn blob(&self, log: &LogId, part: usize) -> Result<BlobId> {
        let bytes = self.parts.get(part).copied().unwrap_or_default();
        let is_last = part + 1 == self.parts.len();
        PartName { of: Group::of(self), incarnation: self.incarnation, part, is_last, bytes }.blob(log)
    }
}

/// What the parts of one snapshot have in common. The order of the fields is that of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    to: Version,
    from: Version,
    is_kept: bool,
    tag: [u8; 4],
}

impl Group {
    fn of(info: &SnapshotInfo) -> Self {
        Self { to: info.to, from: info.from, is_kept: info.is_kept, tag: info.tag }
    }

    /// Whether it is the same table, of whichever writer.
    fn is_like(&self, info: &SnapshotInfo) -> bool {
        (self.to, self.from, self.is_kept) == (info.to, info.from, info.is_kept)
    }
}

/// A blob's name, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartName {
    of: Group,
    incarnation: Incarnation,
    part: usize,
    is_last: bool,
    bytes: u64,
}

impl PartName {
    /// The name of the next part of a snapshot that is being written.
    pub fn next(info: &SnapshotInfo, is_last: bool, bytes: u64) -> Self {
        let part = info.parts.len();
        Self { of: Group::of(info), incarnation: info.incarnation, part, is_last, bytes }
    }

    pub fn blob(&self, log: &LogId) -> Result<BlobId> {
        BlobId::new(log.clone(), &self.name())
    }

    fn name(&self) -> String {
        let Group { to, from, is_kept, tag } = self.of;
        let kind = if is_kept { 'k' } else { 'h' };
        let more = if self.is_last { 'z' } else { 'm' };
        let (tag, part, bytes) = (u32::from_be_bytes(tag), self.part, self.bytes);
        let prefix = prefix(self.incarnation);
        format!("{prefix}{:016x}-{:016x}-{kind}{tag:08x}-{part:04x}{more}-{bytes:016x}", from.0, to.0)
    }

    fn parse(name: &str, incarnation: Incarnation) -> Option<Self> {
        let mut fields = name.strip_prefix(&prefix(incarnation))?.split('-');
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (from, to) = (Version(number(fields.next()?)?), Version(number(fields.next()?)?));
        let (kind, tag) = fields.next()?.split_at_checked(1)?;
        let tag = u32::from_str_radix(tag, 16).ok()?.to_be_bytes();
        let (part, more) = fields.next()?.split_at_checked(4)?;
        let part = usize::from(u16::from_str_radix(part, 16).ok()?);
        let bytes = number(fields.next()?)?;
        let of = Group { to, from, is_kept: kind == "k", tag };
        let parsed = Self { of, incarnation, part, is_last: more == "z", bytes };
        // There is one name for each, and no snapshot of no versions.
        (parsed.name() == name && from < to).then_some(parsed)
    }
}

fn prefix(incarnation: Incarnation) -> String {
    format!("{PREFIX}{:032x}-", u128::from_be_bytes(incarnation.0))
}

/// Every part that is there, and whether it is as long as its name says, by the snapshots that they belong to.
type Groups = BTreeMap<Group, Vec<(PartName, bool)>>;

async fn groups(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<Groups> {
    let mut groups = Groups::new();
    for blob in inner.backend.list_blobs(log, &prefix(incarnation)).await? {
        if let Some(name) = PartName::parse(&blob.name, incarnation) {
            groups.entry(name.of).or_default().push((name, name.bytes == blob.bytes));
        }
    }
    groups.values_mut().for_each(|parts| parts.sort_by_key(|(name, _)| name.part));
    Ok(groups)
}

/// The whole snapshots: all parts from the first to the last are there, each as long as it must be. Of several of one table, by
/// writers that raced, one counts: that of the lowest tag, whoever looks.
fn whole(groups: &Groups, incarnation: Incarnation) -> Vec<SnapshotInfo> {
    let mut found: Vec<SnapshotInfo> = Vec::new();
    for (group, parts) in groups {
        let is_whole = parts.iter().enumerate().all(|(number, (name, is_whole))| {
            *is_whole && name.part == number && name.is_last == (number + 1 == parts.len())
        });
        if is_whole && !found.last().is_some_and(|last| group.is_like(last)) {
            let Group { to, from, is_kept, tag } = *group;
            let parts = parts.iter().map(|(name, _)| name.bytes).collect();
            found.push(SnapshotInfo { incarnation, from, to, is_kept, tag, parts });
        }
    }
    found
}

/// The snapshots of a log that are whole, in the order of `(to, from)`.
pub(crate) async fn list(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<Vec<SnapshotInfo>> {
    Ok(whole(&groups(inner, log, incarnation).await?, incarnation))
}

/// Deletes a snapshot, its last part first: if that is interrupted, what is left is not whole.
pub(crate) async fn delete(inner: &Inner, log: &LogId, info: &SnapshotInfo) -> Result<()> {
    for part in (0..info.parts.len()).rev() {
        inner.backend.delete_blob(&info.blob(log, part)?).await?;
    }
    Ok(())
}

/// Deletes parts that belong to no snapshot of [`list`], if one that does reaches further: nobody can still be writing what
/// would be wanted then. If somebody is, what they write is never whole, and the next sweep deletes it.
pub(crate) async fn sweep_incomplete(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<()> {
    let groups = groups(inner, log, incarnation).await?;
    let listed = whole(&groups, incarnation);
    let Some(newest) = listed.iter().map(|info| info.to).max() else {
        return Ok(());
    };
    let is_listed = |group: &Group| listed.iter().any(|info| Group::of(info) == *group);
    for (group, parts) in &groups {
        if group.to < newest && !is_listed(group) {
            for (name, _) in parts.iter().rev() {
                inner.backend.delete_blob(&name.blob(log)?).await?;
            }
        }
    }
    Ok(())
}
