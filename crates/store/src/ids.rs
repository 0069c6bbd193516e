//! Which ids a log has: recent ones in memory, older ones in *id runs*.
//!
//! An id run is an owned blob, `ids-<incarnation>-<from>-<to>`, of twelve bytes for each id of the commits `from..=to`:
//! the first eight bytes of the id's tag, big-endian, and the commit's offset from `from`; sorted. `docs/formats/id-run.md`
//! specifies it. Tags are uniform, so one ranged read around the expected place finds a tag: a new process finds an id from
//! a million commits ago in one listing and one read a run. Runs of one size are merged eight at a time, so there are few.
//! A hit is confirmed in the commit's header, so that two ids may share their eight bytes. Runs are a cache: a missing
//! one is made again from the headers, which live as long as the log.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use icecore_log::{
    BlobId, EntryId, Error, ErrorKind, Header, Incarnation, LogId, PageLimit, Result, Version,
};

use crate::append::Receipt;
use crate::appender::{Active, State, Tip, Turn};
use crate::{Inner, appender, lock, open};
use futures_util::future::join_all;

const MAGIC: &[u8; 8] = b"ICEIDS01";
const HEAD: u64 = 8 + 8 + 8;
const RECORD: u64 = 12;
/// Runs of more ids are not merged further: merging holds them in memory, 12 bytes each.
const MERGED_IDS_MAX: u64 = 4 << 20;

/// Where an id was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub version: Version,
    pub entry: u32,
    /// `None` if the header that would tell was trimmed.
    pub content_tag: Option<[u8; 16]>,
}

/// The ids of one log, as far as they are in memory.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    loaded: bool,
    /// Behind the last run.
    current: HashMap<[u8; 16], Hit>,
    /// Those of the last run, kept so that a look-up made just before it was written still counts.
    before: HashMap<[u8; 16], Hit>,
    /// Everything above it is in one of the two maps.
    floor: Version,
    runs: Vec<RunInfo>,
    runs_through: Version,
    through: Version,
    is_writing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunInfo {
    incarnation: Incarnation,
    from: u64,
    to: u64,
    ids: u64,
}

impl RunInfo {
    fn name(&self) -> String {
        let incarnation: String = self.incarnation.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("ids-{incarnation}-{:016x}-{:016x}", self.from, self.to)
    }

    fn blob(&self, log: &LogId) -> Result<BlobId> {
        BlobId::new(log.clone(), &self.name())
    }

    fn parse(name: &str, bytes: u64, incarnation: Incarnation) -> Option<Self> {
        let mut parts = name.rsplitn(3, '-');
        let to = u64::from_str_radix(parts.next()?, 16).ok()?;
        let from = u64::from_str_radix(parts.next()?, 16).ok()?;
        let ids = bytes.checked_sub(HEAD)? / RECORD;
        let run = Self { incarnation, from, to, ids };
        (run.name() == name && from <= to).then_some(run)
    }
}

impl Ids {
    /// Of a log that has none.
    pub(crate) fn loaded_empty() -> Self {
        Self { loaded: true, ..Self::default() }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(crate) fn runs_through(&self) -> Version {
        self.runs_through
    }

    /// An id must have been looked up in the runs at least through this version before the maps can say no.
    pub(crate) fn floor(&self) -> Version {
        self.floor
    }

    pub(crate) fn recent(&self, tag: &[u8; 16]) -> Option<Hit> {
        self.current.get(tag).or_else(|| self.before.get(tag)).copied()
    }

    /// Takes up a commit's ids.
    pub(crate) fn add(&mut self, header: &Header) {
        if !self.loaded || header.version <= self.through {
            return;
        }
        self.through = header.version;
        for (index, entry) in (0..).zip(&header.entries) {
            if let Some(tag) = entry.id_tag {
                // The first of two equal ids counts; there are none, unless somebody wrote past us.
                let hit = Hit { version: header.version, entry: index, content_tag: entry.content_tag };
                self.current.entry(tag).or_insert(hit);
            }
        }
    }

    /// The runs of a log, from their names. Those that a larger one covers are passed over.
    pub(crate) async fn load_runs(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<Self> {
        let runs = list_runs(inner, log, incarnation).await?;
        let through = Version(runs.last().map_or(0, |run| run.to));
        Ok(Self { loaded: true, floor: through, runs_through: through, through, runs, ..Self::default() })
    }
}

async fn list_runs(inner: &Inner, log: &LogId, incarnation: Incarnation) -> Result<Vec<RunInfo>> {
    let blobs = inner.backend.list_blobs(log, "ids-").await?;
    let mut found: Vec<RunInfo> =
        blobs.iter().filter_map(|blob| RunInfo::parse(&blob.name, blob.bytes, incarnation)).collect();
    found.sort_by_key(|run| (run.from, std::cmp::Reverse(run.to)));
    let mut runs: Vec<RunInfo> = Vec::new();
    for run in found {
        // A hole means that a run was lost: the headers behind it are read again.
        if run.from == runs.last().map_or(1, |last| last.to + 1) {
            runs.push(run);
        }
    }
    Ok(runs)
}

/// Looks up in the id runs what is pending and was not; the order of what is pending does not change.
pub(crate) async fn look_up_pending(inner: &Inner, turn: &Active, tip: &Tip) -> Result<()> {
    let (ids, runs, through) = {
        let state = lock(&turn.state);
        let wanted =
            state.pending.iter().enumerate().filter(|(_, pending)| state.must_look_up(pending, tip.secret));
        let ids: Vec<_> =
            wanted.filter_map(|(index, pending)| Some((index, pending.id()?.clone()))).collect();
        (ids, state.ids.runs.clone(), state.ids.runs_through)
    };
    for some in ids.chunks(16) {
        let hits =
            join_all(some.iter().map(|(_, id)| find_in_runs(inner, &turn.id, tip, runs.clone(), id))).await;
        let mut state = lock(&turn.state);
        for ((index, _), hit) in some.iter().zip(hits) {
            // While the log has its turn, entries only join at the back: the index is still its own.
            let Some(pending) = state.pending.get_mut(*index) else {
                continue;
            };
            match hit? {
                Found::Hit(hit) => (pending.looked_up, pending.hit) = (through, Some(hit)),
                Found::Absent => pending.looked_up = through,
                Found::Lost => {
                    // Nothing is sealed before they were read again.
                    state.ids = Ids::default();
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Where an id is, in memory or not; reads the log anew.
pub(crate) async fn find(inner: &Inner, log: &LogId, id: &EntryId) -> Result<Option<Receipt>> {
    let Some(head) = inner.backend.heads(std::slice::from_ref(log)).await?.pop().flatten() else {
        return Ok(None);
    };
    let header = Header::decode(head.header.clone()).map_err(|error| error.with("log", log))?;
    let secret = open::secret(inner, log, &header).await?;
    let tip = Tip::at(&header, head.hash(), secret);
    let hit = loop {
        let ids = open::read_ids(inner, log, &tip).await?;
        if let Some(hit) = ids.recent(&secret.id_tag(id)) {
            break Some(hit);
        }
        match find_in_runs(inner, log, &tip, ids.runs, id).await? {
            Found::Hit(hit) => break Some(hit),
            Found::Absent => break None,
            Found::Lost => {}
        }
    };
    Ok(hit.map(|hit| Receipt {
        log: log.clone(),
        id: Some(id.clone()),
        version: hit.version,
        entry: hit.entry,
        repeated: true,
    }))
}

/// What the id runs say of an id.
enum Found {
    Hit(Hit),
    Absent,
    /// Runs were lost, and with them the answer: the ids must be read from the headers again.
    Lost,
}

async fn find_in_runs(
    inner: &Inner,
    log: &LogId,
    tip: &Tip,
    mut runs: Vec<RunInfo>,
    id: &EntryId,
) -> Result<Found> {
    let tag = tip.secret.id_tag(id);
    let through = runs.last().map_or(0, |run| run.to);
    // A run that was merged meanwhile is gone: a new listing names its successor.
    for _ in 0..8 {
        match search(inner, log, &runs, &tag).await? {
            Some(Some(hit)) => return Ok(Found::Hit(hit)),
            Some(None) => return Ok(Found::Absent),
            None => runs = list_runs(inner, log, tip.incarnation).await?,
        }
        if runs.last().map_or(0, |run| run.to) < through {
            return Ok(Found::Lost);
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "looking up an id")
        .with("log", log)
        .advise("Nothing was written: retry"))
}

/// The outer `None`: a run is gone.
async fn search(inner: &Inner, log: &LogId, runs: &[RunInfo], tag: &[u8; 16]) -> Result<Option<Option<Hit>>> {
    for run in runs.iter().rev() {
        let Some(versions) = search_run(inner, log, run, tag).await? else {
            return Ok(None);
        };
        for version in versions {
            let page = inner.backend.read(log, version, PageLimit::HEADERS.commits(1)).await?;
            let Some(commit) = page.commits.into_iter().next() else {
                // Trimmed: the run outlives the header, which alone could tell two ids with equal first bytes apart.
                return Ok(Some(Some(Hit { version, entry: 0, content_tag: None })));
            };
            let header = Header::decode(commit.header)
                .map_err(|error| error.with("log", log).with("version", version))?;
            let entry = (0..).zip(&header.entries).find(|(_, entry)| entry.id_tag.as_ref() == Some(tag));
            if let Some((index, entry)) = entry {
                return Ok(Some(Some(Hit { version, entry: index, content_tag: entry.content_tag })));
            }
        }
    }
    Ok(Some(None))
}

/// The versions in a run whose record has the tag's first bytes; `None` if the run is gone.
async fn search_run(
    inner: &Inner,
    log: &LogId,
    run: &RunInfo,
    tag: &[u8; 16],
) -> Result<Option<Vec<Version>>> {
    let key = key_of(tag);
    let blob = run.blob(log)?;
    // How many of `ids` uniform keys are below ours: within six standard deviations of this, almost always.
    let expected = ((u128::from(key) * u128::from(run.ids)) >> 64) as u64;
    let mut width = 6 * run.ids.isqrt() + 64;
    loop {
        let (low, high) = (expected.saturating_sub(width), (expected + width).min(run.ids));
        let range = HEAD + low * RECORD..HEAD + high * RECORD;
        let Some(bytes) = inner.backend.get_blob(&blob, Some(range.clone())).await? else {
            return Ok(None);
        };
        if bytes.len() as u64 != range.end - range.start {
            return Err(Error::new(ErrorKind::Corrupt, "looking up an id")
                .with("blob", &blob)
                .advise("An id run is cut short: delete that blob, and it is made again"));
        }
        let mut records = bytes.chunks_exact(RECORD as usize).map(parse_record).peekable();
        let left = low == 0 || records.peek().is_some_and(|(first, _)| *first < key);
        let last = bytes.chunks_exact(RECORD as usize).next_back().map(parse_record);
        let right = high == run.ids || last.is_some_and(|(last, _)| last > key);
        if left && right {
            let versions = records
                .filter(|(found, _)| *found == key)
                .map(|(_, offset)| Version(run.from + u64::from(offset)));
            return Ok(Some(versions.collect()));
        }
        width = width.saturating_mul(4);
    }
}

fn key_of(tag: &[u8; 16]) -> u64 {
    let mut key = [0; 8];
    key.copy_from_slice(&tag[..8]);
    u64::from_be_bytes(key)
}

fn parse_record(bytes: &[u8]) -> (u64, u32) {
    let mut key = [0; 8];
    let mut offset = [0; 4];
    key.copy_from_slice(&bytes[..8]);
    offset.copy_from_slice(&bytes[8..12]);
    (u64::from_be_bytes(key), u32::from_be_bytes(offset))
}

/// After a commit: writes an id run when enough ids are only in memory.
pub(crate) fn keep_up(inner: &Arc<Inner>, turn: &Turn, state: &mut MutexGuard<'_, State>) {
    let appender::Known::Tip(tip) = &state.known else {
        return;
    };
    let incarnation = tip.incarnation;
    let ids = &mut state.ids;
    let enough = inner.settings.id_run_ids.max(1);
    let commits = ids.through.0 - ids.runs_through.0;
    let due = ids.current.len() >= enough || (commits >= enough as u64 && !ids.current.is_empty());
    if !ids.loaded || ids.is_writing || !due || commits > u64::from(u32::MAX) {
        return;
    }
    ids.is_writing = true;
    let run = RunInfo {
        incarnation,
        from: ids.runs_through.0 + 1,
        to: ids.through.0,
        ids: ids.current.len() as u64,
    };
    let mut records: Vec<(u64, u32)> =
        // A run covers fewer than 2^32 commits: checked above.
        ids.current.iter().map(|(tag, hit)| (key_of(tag), (hit.version.0 - run.from) as u32)).collect();
    let (inner, turn) = (Arc::clone(inner), Arc::clone(turn));
    tokio::spawn(async move {
        records.sort_unstable();
        let written = write_run(&inner, &turn.id, &run, &records).await.is_ok();
        let runs = {
            let mut state = lock(&turn.state);
            let ids = &mut state.ids;
            if !written || ids.runs_through.0 + 1 != run.from || !ids.loaded {
                // It is tried again after a later commit.
                ids.is_writing = false;
                return;
            }
            ids.floor = ids.runs_through;
            ids.runs_through = Version(run.to);
            let (before, current) =
                std::mem::take(&mut ids.current).into_iter().partition(|(_, hit)| hit.version.0 <= run.to);
            (ids.before, ids.current) = (before, current);
            ids.runs.push(run);
            ids.runs.clone()
        };
        let merged = merge(&inner, &turn.id, runs).await;
        let mut state = lock(&turn.state);
        if let Ok(Some(merged)) = merged
            && state.ids.runs_through.0 == run.to
        {
            state.ids.runs = merged;
        }
        state.ids.is_writing = false;
    });
}

async fn write_run(inner: &Inner, log: &LogId, run: &RunInfo, records: &[(u64, u32)]) -> Result<()> {
    let mut bytes = BytesMut::with_capacity(HEAD as usize + records.len() * RECORD as usize);
    bytes.put_slice(MAGIC);
    bytes.put_u64(run.from);
    bytes.put_u64(run.to);
    for (key, offset) in records {
        bytes.put_u64(*key);
        bytes.put_u32(*offset);
    }
    // If it is there already, another process wrote the same bytes: they follow from the headers.
    inner.backend.put_blob(&run.blob(log)?, bytes.freeze()).await.map(|_| ())
}

/// Merges the last runs if they are of one size; the new list if it did.
async fn merge(inner: &Inner, log: &LogId, mut runs: Vec<RunInfo>) -> Result<Option<Vec<RunInfo>>> {
    let many = inner.settings.id_run_merge.max(2);
    let mut did = false;
    while let Some(tail) = runs.len().checked_sub(many).map(|start| runs[start..].to_vec()) {
        let tier =
            |run: &RunInfo| (run.ids / inner.settings.id_run_ids.max(1) as u64).max(1).ilog(many as u64);
        let ids: u64 = tail.iter().map(|run| run.ids).sum();
        if tail.iter().any(|run| tier(run) != tier(&tail[0])) || ids > MERGED_IDS_MAX {
            break;
        }
        let merged = RunInfo { from: tail[0].from, to: tail[many - 1].to, ids, ..tail[0] };
        let mut records = Vec::with_capacity(ids as usize);
        for run in &tail {
            let Some(bytes) = inner.backend.get_blob(&run.blob(log)?, None).await? else {
                return Ok(None);
            };
            let shift = (run.from - merged.from) as u32;
            records.extend(records_of(&bytes).map(|(key, offset)| (key, offset + shift)));
        }
        records.sort_unstable();
        write_run(inner, log, &merged, &records).await?;
        for run in &tail {
            inner.backend.delete_blob(&run.blob(log)?).await?;
        }
        runs.truncate(runs.len() - many);
        runs.push(merged);
        did = true;
    }
    Ok(did.then_some(runs))
}

fn records_of(bytes: &Bytes) -> impl Iterator<Item = (u64, u32)> {
    bytes.get(HEAD as usize..).unwrap_or_default().chunks_exact(RECORD as usize).map(parse_record)
}
