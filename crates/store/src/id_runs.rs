//! The id run, a blob of a log: its bytes, and writing, listing and merging them. `docs/formats/id-run.md` specifies it.
//!
//! Runs of one size are merged eight at a time, so there are few. While the headers live a lost run is made again from
//! them; behind a trim the runs are all that is known of the ids, so a source is only deleted once it was checked whole.

use std::cmp::Reverse;
use std::sync::{Arc, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use icecore_log::{BlobId, Error, ErrorKind, Hash, Incarnation, LogId, Result, Version};

use crate::appender::{Active, Known, State};
use crate::id_filter::{Filter, Filters};
use crate::ids::{Content, Hit};
use crate::{Inner, Store, lock};

const MAGIC: &[u8; 8] = b"ICEIDS01";
const HEAD: u64 = 8 + 8 + 8 + 8 + 8;
const RECORD: u64 = 8 + 4 + 2 + 6;
/// Runs of more ids are not merged further: merging holds them in memory, 20 bytes each.
const MERGED_IDS_MAX: u64 = 4 << 20;

/// What a run's name says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunInfo {
    pub incarnation: Incarnation,
    pub from: u64,
    pub to: u64,
    pub ids: u64,
}

/// One id of a run. The order of the fields is the order of the bytes, and so that of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    /// The first eight bytes of the id's tag.
    key: u64,
    /// The commit's version, less that of the run's first.
    offset: u32,
    entry: u16,
    /// The first six bytes of the content's tag; zeros if the header has none.
    content: [u8; 6],
}

impl Record {
    fn new(tag: &[u8; 16], hit: &Hit, from: u64) -> Self {
        Self {
            key: key_of(tag),
            // A run covers fewer than 2^32 commits, a commit holds at most 2,048 entries.
            offset: (hit.version.0 - from) as u32,
            entry: hit.entry as u16,
            content: hit.content.map_or([0; 6], |content| content.first_bytes()),
        }
    }

    fn parse(mut bytes: &[u8]) -> Self {
        let (key, offset, entry) = (bytes.get_u64(), bytes.get_u32(), bytes.get_u16());
        let mut content = [0; 6];
        content.copy_from_slice(&bytes[..6]);
        Self { key, offset, entry, content }
    }

    fn put(&self, bytes: &mut BytesMut) {
        bytes.put_u64(self.key);
        bytes.put_u32(self.offset);
        bytes.put_u16(self.entry);
        bytes.put_slice(&self.content);
    }

    fn hit(&self, from: u64) -> Hit {
        Hit {
            version: Version(from.saturating_add(u64::from(self.offset))),
            entry: u32::from(self.entry),
            content: (self.content != [0; 6]).then_some(Content::FirstBytes(self.content)),
        }
    }
}

/// Under which a run has an id.
pub(crate) fn key_of(tag: &[u8; 16]) -> u64 {
    (&tag[..8]).get_u64()
}

fn records_of(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Record> {
    bytes.chunks_exact(RECORD as usize).map(Record::parse)
}

impl RunInfo {
    fn name(&self) -> String {
        let incarnation: String = self.incarnation.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("ids-{incarnation}-{:016x}-{:016x}-{:016x}", self.from, self.to, self.ids)
    }

    fn blob(&self, log: &LogId) -> Result<BlobId> {
        BlobId::new(log.clone(), &self.name())
    }

    /// `None` also if the blob is not as long as its name says: it was cut short, and counts as lost.
    fn parse(name: &str, bytes: u64, incarnation: Incarnation) -> Option<Self> {
        let mut parts = name.rsplitn(4, '-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (ids, to, from) = (number()?, number()?, number()?);
        let run = Self { incarnation, from, to, ids };
        let whole = ids.checked_mul(RECORD).and_then(|records| records.checked_add(HEAD)) == Some(bytes);
        (whole && run.name() == name && 0 < from && from <= to && to - from <= u64::from(u32::MAX))
            .then_some(run)
    }

    fn encode(&self, records: &[Record]) -> Bytes {
        let mut body = BytesMut::with_capacity(records.len() * RECORD as usize);
        records.iter().for_each(|record| record.put(&mut body));
        let mut bytes = BytesMut::with_capacity(HEAD as usize + body.len());
        bytes.put_slice(MAGIC);
        bytes.put_u64(self.from);
        bytes.put_u64(self.to);
        bytes.put_u64(self.ids);
        bytes.put_slice(&Hash::of(&body).0[..8]);
        bytes.put_slice(&body);
        bytes.freeze()
    }

    /// How many records are read on either side of where one is expected. Of as many uniform keys, those below one are within six standard
    /// deviations of their mean, almost always.
    fn width(&self) -> u64 {
        6 * self.ids.isqrt() + 64
    }

    /// How many records a look-up reads.
    pub(crate) fn look(&self) -> u64 {
        (2 * self.width()).min(self.ids)
    }

    fn filter(&self, records: impl Iterator<Item = Record>) -> Arc<Filter> {
        Arc::new(Filter::of(self.ids, records.map(|record| record.key)))
    }

    /// The records of a whole run, checked.
    fn decode<'a>(&self, log: &LogId, bytes: &'a [u8]) -> Result<impl Iterator<Item = Record> + use<'a>> {
        let (mut head, body) = bytes.split_at_checked(HEAD as usize).unwrap_or_default();
        let is_ours = head.len() as u64 == HEAD
            && head.copy_to_bytes(MAGIC.len()) == MAGIC[..]
            && [head.get_u64(), head.get_u64(), head.get_u64()] == [self.from, self.to, self.ids]
            && body.len() as u64 == self.ids * RECORD
            && head == &Hash::of(body).0[..8];
        if is_ours { Ok(records_of(body)) } else { Err(damaged(log, self)) }
    }
}

fn damaged(log: &LogId, run: &RunInfo) -> Error {
    Error::new(ErrorKind::Corrupt, "reading an id run").with("log", log).with("blob", run.name()).advise(
        "It is damaged. If the log was not trimmed, delete that blob, and it is made again; else restore it",
    )
}

/// The runs of a log in the order of their versions, without those that others cover. They may overlap, and leave gaps.
pub(crate) async fn list(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<Vec<RunInfo>> {
    let blobs = inner.backend.list_blobs(log, "ids-").await?;
    let mut found: Vec<RunInfo> =
        blobs.iter().filter_map(|blob| RunInfo::parse(&blob.name, blob.bytes, incarnation)).collect();
    found.sort_by_key(|run| (run.from, Reverse(run.to), Reverse(run.ids)));
    let mut runs: Vec<RunInfo> = Vec::new();
    for run in found {
        if runs.last().is_none_or(|last| run.to > last.to) {
            runs.push(run);
        }
    }
    Ok(runs)
}

/// Cuts the list where a run is missing that should be there: a gap that does not end at or below `hole`.
pub(crate) fn cut_at_gap(runs: &mut Vec<RunInfo>, hole: Version) {
    let mut next = 1;
    let whole = runs.iter().take_while(|run| {
        let follows = run.from <= next || run.from - 1 <= hole.0;
        next = run.to.saturating_add(1);
        follows
    });
    let count = whole.count();
    runs.truncate(count);
}

/// The filter of a run, which is read whole and checked; `None` if the run is gone.
pub(crate) async fn filter(inner: &Inner, log: &LogId, run: &RunInfo) -> Result<Option<Arc<Filter>>> {
    match inner.backend.get_blob(&run.blob(log)?, None).await? {
        Some(bytes) => Ok(Some(run.filter(run.decode(log, &bytes)?))),
        None => Ok(None),
    }
}

/// Where a run says that an id with this tag's first bytes is; `None` if the run is gone.
pub(crate) async fn search(
    inner: &Inner,
    log: &LogId,
    run: &RunInfo,
    filters: &Filters,
    tag: &[u8; 16],
) -> Result<Option<Vec<Hit>>> {
    if filters.excludes(run, tag) {
        return Ok(Some(Vec::new()));
    }
    let key = key_of(tag);
    let blob = run.blob(log)?;
    let expected = ((u128::from(key) * u128::from(run.ids)) >> 64) as u64;
    let mut width = run.width();
    loop {
        let (low, high) = (expected.saturating_sub(width), expected.saturating_add(width).min(run.ids));
        let range = HEAD + low * RECORD..HEAD + high * RECORD;
        let Some(bytes) = inner.backend.get_blob(&blob, Some(range.clone())).await? else {
            return Ok(None);
        };
        if bytes.len() as u64 != range.end - range.start {
            return Err(damaged(log, run));
        }
        let left = low == 0 || records_of(&bytes).next().is_some_and(|first| first.key < key);
        let right = high == run.ids || records_of(&bytes).next_back().is_some_and(|last| last.key > key);
        if left && right {
            let found = records_of(&bytes).filter(|record| record.key == key);
            return Ok(Some(found.map(|record| record.hit(run.from)).collect()));
        }
        width = width.saturating_mul(4);
    }
}

/// Writes a run of these ids, which are all that the commits `from..=to` have.
pub(crate) async fn write<'a>(
    inner: &Inner,
    log: &LogId,
    incarnation: Incarnation,
    versions: std::ops::RangeInclusive<Version>,
    ids: impl Iterator<Item = (&'a [u8; 16], &'a Hit)>,
) -> Result<RunInfo> {
    let (from, to) = (versions.start().0, versions.end().0);
    let mut records: Vec<Record> = ids.map(|(tag, hit)| Record::new(tag, hit, from)).collect();
    records.sort_unstable();
    let run = RunInfo { incarnation, from, to, ids: records.len() as u64 };
    put(inner, log, &run, &records).await?;
    Ok(run)
}

async fn put(inner: &Inner, log: &LogId, run: &RunInfo, records: &[Record]) -> Result<()> {
    let (blob, bytes) = (run.blob(log)?, run.encode(records));
    if inner.backend.put_blob(&blob, bytes.clone()).await? {
        return Ok(());
    }
    // Another process wrote it, the same bytes: they follow from the headers. If they differ, they were damaged since.
    if inner.backend.get_blob(&blob, None).await?.is_none_or(|found| found != bytes) {
        inner.backend.delete_blob(&blob).await?;
        inner.backend.put_blob(&blob, bytes).await?;
    }
    Ok(())
}

/// After a commit: writes an id run when enough ids are only in memory.
pub(crate) fn keep_up(inner: &Arc<Inner>, active: &Arc<Active>, state: &mut MutexGuard<'_, State>) {
    let Known::Tip(tip) = &state.known else {
        return;
    };
    let incarnation = tip.incarnation;
    let Some((versions, ids, working)) = state.ids.begin_run(inner.settings.id_run_ids.max(1)) else {
        return;
    };
    let (inner, active) = (Arc::clone(inner), Arc::clone(active));
    tokio::spawn(async move {
        let written = write(&inner, &active.id, incarnation, versions, ids.iter());
        let Ok(run) = written.await else {
            // It is tried again after a later commit.
            return;
        };
        // Of no use to a log that was deleted meanwhile, which is to leave nothing. If it cannot be told now, another delete takes it.
        if let Ok(true) = Store(Arc::clone(&inner)).log(active.id.clone()).clear_if_deleted().await {
            return;
        }
        let filter = Arc::new(Filter::of(run.ids, ids.keys().map(key_of)));
        let Some(runs) = lock(&active.state).ids.end_run(run, filter) else {
            return;
        };
        if let Ok(Some((merged, filter))) = merge(&inner, &active.id, runs).await {
            lock(&active.state).ids.merged(run, merged, filter);
        }
        drop(working);
    });
}

/// Merges the last runs if they are of one size; the new list if it did, and the filter of its last run.
async fn merge(
    inner: &Inner,
    log: &LogId,
    mut runs: Vec<RunInfo>,
) -> Result<Option<(Vec<RunInfo>, Arc<Filter>)>> {
    let many = inner.settings.id_run_merge.max(2);
    let mut newest = None;
    while let Some(start) = runs.len().checked_sub(many)
        && may_merge(&runs[start..], inner.settings.id_run_ids.max(1) as u64)
    {
        let tail = &runs[start..];
        let (from, to) = (tail[0].from, tail[many - 1].to);
        let mut records = Vec::new();
        for run in tail {
            let Some(bytes) = inner.backend.get_blob(&run.blob(log)?, None).await? else {
                return Ok(None);
            };
            // Checked before its source is deleted: what is damaged stays as it is, and is not spread.
            let shift = (run.from - from) as u32;
            let of_run = run.decode(log, &bytes)?;
            records.extend(
                of_run.map(|record| Record { offset: record.offset.saturating_add(shift), ..record }),
            );
        }
        records.sort_unstable();
        records.dedup();
        let merged = RunInfo { from, to, ids: records.len() as u64, ..tail[0] };
        put(inner, log, &merged, &records).await?;
        for run in tail {
            inner.backend.delete_blob(&run.blob(log)?).await?;
        }
        runs.truncate(start);
        runs.push(merged);
        newest = Some(merged.filter(records.into_iter()));
    }
    Ok(newest.map(|filter| (runs, filter)))
}

/// Runs of one tier, without a gap: a merged run says of every version in it that its ids are there.
fn may_merge(tail: &[RunInfo], tier_ids: u64) -> bool {
    let tier = |run: &RunInfo| (run.ids / tier_ids).max(1).ilog((tail.len() as u64).max(2));
    tail.iter().all(|run| tier(run) == tier(&tail[0]))
        && tail.windows(2).all(|pair| pair[1].from <= pair[0].to.saturating_add(1))
        && tail.iter().map(|run| run.ids).sum::<u64>() <= MERGED_IDS_MAX
        && tail[tail.len() - 1].to - tail[0].from <= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(ends: &[(u64, u64)]) -> Vec<RunInfo> {
        let incarnation = Incarnation::default();
        ends.iter().map(|&(from, to)| RunInfo { incarnation, from, to, ids: 1 }).collect()
    }

    fn cut(ends: &[(u64, u64)], hole: u64) -> usize {
        let mut runs = runs(ends);
        cut_at_gap(&mut runs, Version(hole));
        runs.len()
    }

    #[test]
    fn runs_count_up_to_a_gap_that_nothing_explains() {
        assert_eq!(cut(&[(1, 4), (5, 8), (7, 12)], 0), 3, "an overlap is no gap");
        assert_eq!(cut(&[(1, 4), (6, 8)], 0), 1);
        assert_eq!(cut(&[(2, 4)], 0), 0);
        assert_eq!(cut(&[(1, 4), (9, 12), (14, 15)], 8), 2, "what is missing through 8 was trimmed");
    }

    /// A merged run says of all its versions that their ids are in it; over a hole that would be a lie.
    #[test]
    fn runs_on_two_sides_of_a_hole_are_not_merged() {
        assert!(may_merge(&runs(&[(1, 4), (5, 8)]), 4));
        assert!(!may_merge(&runs(&[(1, 4), (6, 8)]), 4));
    }
}
