//! When snapshots are written, and writing them: so often that a state is never far behind one, and so seldom that all of them together
//! cost no more than what the log grows by.
//!
//! Two kinds. Some are *kept*, whole states that serve reads of the past: one whenever the log has grown by as many bytes as the one
//! before takes. The others are for the head, one every so many commits; each says what changed since the one below, and those that
//! are not much larger than what comes on top are merged with it, so that there are few and each document is written few times.
//!
//! Source: the spacing by bytes was measured, see `docs/performance.md`; the merging is that of LSM trees (O'Neil and others, 1996).

use std::ops::Bound;
use std::sync::Arc;

use icecore_log::{ErrorKind, Hash, Header, Result, Version};

use crate::appender::Active;
use crate::busy::Busy;
use crate::chain::Last;
use crate::pages::Pages;
use crate::snapshot::{self, Merged, Meta, Record, Snapshot, SnapshotInfo, Writer, over};
use crate::state::layers::Layers;
use crate::state::overlay::Overlay;
use crate::{Inner, Log, Store, lock};

/// After so many commits of this process the snapshots are looked for, if nobody has looked before.
const FIRST_LOOK: u64 = 32;

/// What one process knows of the snapshots of a log that it writes.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// What it has appended since the last snapshot that it wrote.
    counted: Amount,
    /// Of how much of that a snapshot is due, as it was found when somebody looked.
    due: Option<Amount>,
    /// The log has documents.
    has_documents: bool,
    busy: Busy,
}

/// Commits, and bytes of those that changed documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Amount {
    commits: u64,
    bytes: u64,
}

/// What came of a look at the snapshots.
enum Looked {
    Nothing,
    /// So much may still come before the next.
    NotYet(Amount),
    /// One was written, and so much may come behind it.
    Wrote(Amount),
}

impl Upkeep {
    /// Counts a commit that this process made; `bytes` of it changed documents.
    pub fn count(&mut self, bytes: u64) {
        self.counted.commits += 1;
        self.counted.bytes += bytes;
        self.has_documents |= bytes > 0;
    }

    fn is_due(&self, inner: &Inner) -> bool {
        let settings = &inner.settings;
        let first =
            Amount { commits: FIRST_LOOK.min(settings.snapshot_commits), bytes: settings.snapshot_bytes };
        let due = self.due.unwrap_or(first);
        let counted = self.counted;
        self.has_documents && (counted.commits >= due.commits || counted.bytes >= due.bytes)
    }

    /// `counted` is what had been counted before somebody looked.
    fn looked(&mut self, counted: Amount, looked: Looked) {
        let plus = |left: Amount| Amount {
            commits: counted.commits.saturating_add(left.commits),
            bytes: counted.bytes.saturating_add(left.bytes),
        };
        match looked {
            // Tried again once as much has come again: until then the log itself serves.
            Looked::Nothing => {
                self.due = Some(plus(Amount { commits: counted.commits.max(FIRST_LOOK), ..counted }))
            }
            Looked::NotYet(left) => self.due = Some(plus(left)),
            Looked::Wrote(left) => {
                self.counted.commits -= counted.commits;
                self.counted.bytes -= counted.bytes;
                self.due = Some(left);
            }
        }
    }
}

/// Writes a snapshot in a task of its own, if one is due. `state` is that of the log.
pub(crate) fn keep_up(inner: &Arc<Inner>, active: &Arc<Active>, upkeep: &mut Upkeep) {
    if upkeep.is_due(inner) {
        start(inner, active, upkeep);
    }
}

/// As [`keep_up`], after a reader found that there is much to read behind the last snapshot.
pub(crate) fn offer(inner: &Arc<Inner>, active: &Arc<Active>) {
    let mut state = lock(&active.state);
    if !inner.capabilities.read_only {
        start(inner, active, &mut state.upkeep);
    }
}

fn start(inner: &Arc<Inner>, active: &Arc<Active>, upkeep: &mut Upkeep) {
    let Some(working) = upkeep.busy.begin() else { return };
    // If all are busy, the next commit asks again.
    let Ok(permit) = Arc::clone(&inner.snapshot_writers).try_acquire_owned() else { return };
    let (log, active) = (Store(Arc::clone(inner)).log(active.id.clone()), Arc::clone(active));
    tokio::spawn(async move {
        let counted = lock(&active.state).upkeep.counted;
        let looked = write(&log, counted.bytes).await;
        let mut state = lock(&active.state);
        state.upkeep.looked(counted, looked.unwrap_or(Looked::Nothing));
        drop(working);
        drop(permit);
        // What was committed meanwhile found somebody at work, and may be the last for long.
        keep_up(&log.store.0, &active, &mut state.upkeep);
    });
}

/// Writes the snapshot that is due at the head; what may come before the next. `bytes` is what is known to have changed documents since
/// somebody looked.
async fn write(log: &Log, bytes: u64) -> Result<Looked> {
    let Some(head) = log.raw_head().await? else { return Ok(Looked::Nothing) };
    let (inner, header) = (&log.store.0, log.living(&head)?);
    loop {
        let layers = log.layers(&header, head.version).await?;
        let commits = head.version.0 - layers.version().max(header.base.previous()).0;
        let spacing = Spacing::of(log, &layers).await?;
        if let Some(next) = spacing.not_yet(inner, commits, bytes) {
            return Ok(Looked::NotYet(next));
        }
        let overlay = log.overlay(layers.clone(), &header, head.version).await;
        match spacing.write(log, overlay, commits).await {
            Err(error) if error.kind() == ErrorKind::Corrupt && !layers.is_empty() => {
                delete_damaged(log, &layers).await?;
            }
            done => return done,
        }
    }
}

/// Deletes those that cannot be read, or, if all can be, the newest: it is of another history. If it is the log that is damaged, then
/// nothing is lost with it either.
async fn delete_damaged(log: &Log, layers: &Layers) -> Result<()> {
    let inner = &log.store.0;
    let mut is_any_damaged = false;
    for layer in layers.as_slice() {
        match layer.cursor(Bound::Unbounded).reading_to_the_end().pass_over(&*inner.backend).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                is_any_damaged = true;
                snapshot::delete(inner, &log.id, layer.info()).await?;
            }
            passed => passed?,
        }
    }
    match layers.as_slice().last() {
        Some(top) if !is_any_damaged => snapshot::delete(inner, &log.id, top.info()).await,
        _ => Ok(()),
    }
}

impl Log {
    /// The snapshots that are nearest to a version, of which this is the header of that or a later commit; none that end before its base.
    pub(crate) async fn layers(&self, header: &Header, version: Version) -> Result<Layers> {
        let layers = Layers::nearest(&self.store.0, &self.id, header.incarnation, version).await?;
        Ok(if layers.version() < header.base { Layers::default() } else { layers })
    }

    /// What came behind some snapshots, through a version; `header` is that of the commit there.
    pub(crate) async fn overlay(&self, layers: Layers, header: &Header, version: Version) -> Result<Overlay> {
        let overlay = Overlay::over(layers, self.chain(header).await?, header.base);
        self.overlay_on(overlay, version).await
    }

    /// Goes on with an overlay.
    pub(crate) async fn overlay_on(&self, mut overlay: Overlay, version: Version) -> Result<Overlay> {
        let mut pages = Pages::default();
        while overlay.version() < version {
            let next = overlay.version().next();
            for commit in &self.next_commits(&mut pages, next, version).await? {
                overlay.take_up(&self.store.0, &self.id, commit).await?;
            }
        }
        Ok(overlay)
    }
}

/// How far apart the snapshots of a log are to be.
struct Spacing {
    /// By how many bytes the log has grown since the last that is kept, as far as there are snapshots.
    grown: u64,
    /// How many it may grow by.
    kept_bytes: u64,
}

/// A snapshot to write.
struct Writing {
    /// How many of the snapshots below it takes in, from the top.
    takes_in: usize,
    is_kept: bool,
}

impl Spacing {
    /// As the snapshots say that there are: the newest that is kept need not be among those that make the state.
    async fn of(log: &Log, layers: &Layers) -> Result<Self> {
        let inner = &log.store.0;
        let all: u64 = layers.as_slice().iter().map(|layer| layer.meta().log_bytes).sum();
        let mut spacing = Self { grown: all, kept_bytes: inner.settings.snapshot_bytes };
        let Some(top) = layers.as_slice().last() else { return Ok(spacing) };
        let listed = snapshot::list(inner, &log.id, top.info().incarnation).await?;
        let kept = listed.into_iter().rfind(|info| info.is_kept && info.to <= layers.version());
        if let Some(kept) = kept
            && let Ok(Some(kept)) = Snapshot::open(inner, &log.id, kept).await
        {
            // A whole state stands for the log from its beginning.
            spacing.grown = all.saturating_sub(kept.meta().log_bytes);
            spacing.kept_bytes = spacing.kept_bytes.max(kept.info().bytes());
        }
        Ok(spacing)
    }

    /// What may still come before the next is due; `None` if it is due.
    fn not_yet(&self, inner: &Inner, commits: u64, bytes: u64) -> Option<Amount> {
        let left = Amount {
            commits: inner.settings.snapshot_commits.saturating_sub(commits),
            bytes: self.kept_bytes.saturating_sub(self.grown.saturating_add(bytes)),
        };
        (left.commits > 0 && left.bytes > 0).then_some(left)
    }

    /// Writes it, if it is due now that it is known what comes on top.
    async fn write(&self, log: &Log, overlay: Result<Overlay>, commits: u64) -> Result<Looked> {
        let (inner, overlay) = (&log.store.0, overlay?);
        if let Some(next) = self.not_yet(inner, commits, overlay.log_bytes) {
            return Ok(Looked::NotYet(next));
        }
        let (writing, next) = self.plan(inner, &overlay);
        let written = writing.write(log, &overlay).await?;
        if log.clear_if_deleted().await? {
            return Ok(Looked::Nothing);
        }
        remove_covered(log, &written).await?;
        Ok(Looked::Wrote(next))
    }

    /// What is to be written, and what may come before the next.
    fn plan(&self, inner: &Inner, overlay: &Overlay) -> (Writing, Amount) {
        let grown = self.grown.saturating_add(overlay.log_bytes);
        let is_kept = grown >= self.kept_bytes;
        let (mut takes_in, mut bytes) = (0, overlay.stored_bytes());
        for layer in overlay.below.as_slice().iter().rev() {
            if !is_kept && layer.info().bytes() > bytes.saturating_mul(2) {
                break;
            }
            (takes_in, bytes) = (takes_in + 1, bytes.saturating_add(layer.info().bytes()));
        }
        let next_bytes =
            if is_kept { bytes.max(inner.settings.snapshot_bytes) } else { self.kept_bytes - grown };
        (
            Writing { takes_in, is_kept },
            Amount { commits: inner.settings.snapshot_commits, bytes: next_bytes },
        )
    }
}

impl Writing {
    async fn write(&self, log: &Log, overlay: &Overlay) -> Result<SnapshotInfo> {
        let inner = &log.store.0;
        let layers = overlay.below.as_slice();
        let (stay, taken) = layers.split_at(layers.len() - self.takes_in);
        let (from, previous) = match stay.last() {
            Some(below) => (below.info().to, below.meta().hash),
            None => (Version::ZERO, Hash::ZERO),
        };
        let Some((last, name_tag)) = overlay.chain.last() else {
            return Err(crate::open::damaged(&log.id, overlay.version(), "it has no commit"));
        };
        let Last { version, hash, position, at, incarnation, .. } = last.clone();
        let mut writer = Writer::new(inner, &log.id, incarnation, from, version, self.is_kept)?;
        let cursors = taken.iter().map(|layer| layer.cursor(Bound::Unbounded).reading_to_the_end());
        let mut below = Merged::new(cursors.collect())?;
        let mut changed = overlay.records(Bound::Unbounded).peekable();
        let mut next = below.next(&*inner.backend).await?;
        while next.is_some() || changed.peek().is_some() {
            let is_changed = match (&next, changed.peek()) {
                (Some(below), Some(changed)) => changed.key <= below.key,
                (_, changed) => changed.is_some(),
            };
            let record = if is_changed { changed.next() } else { None };
            let older = match &record {
                Some(record) => next.take_if(|older| older.key == record.key),
                None => next.take(),
            };
            if next.is_none() && older.is_some() {
                next = below.next(&*inner.backend).await?;
            }
            if let Some(record) = one_of(older, record) {
                writer.push(record).await?;
            }
        }
        let log_bytes = taken.iter().map(|layer| layer.meta().log_bytes).sum::<u64>() + overlay.log_bytes;
        let life = overlay.state.life;
        writer.finish(Meta { hash, previous, position, at, name_tag, log_bytes, records: 0, life }).await
    }
}

fn one_of(older: Option<Record>, newer: Option<Record>) -> Option<Record> {
    match newer {
        Some(newer) => Some(over(older, newer)),
        None => older,
    }
}

/// Deletes what a snapshot has made superfluous: those for the head of which it says the same or more, and what was left half done.
async fn remove_covered(log: &Log, written: &SnapshotInfo) -> Result<()> {
    let inner = &log.store.0;
    for info in snapshot::list(inner, &log.id, written.incarnation).await? {
        let is_covered = written.from <= info.from && info.to <= written.to && !info.is_kept;
        if is_covered && info != *written {
            snapshot::delete(inner, &log.id, &info).await?;
        }
    }
    if written.from == Version::ZERO {
        snapshot::sweep_incomplete(inner, &log.id, written.incarnation).await?;
    }
    Ok(())
}
