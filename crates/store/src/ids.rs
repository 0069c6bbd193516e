//! Which ids a log has: recent ones in memory, older ones in *id runs* (`id_runs`).
//!
//! Tags are uniform, so one ranged read around the expected place finds a tag in a run: a new process finds an id from a
//! million commits ago in one listing and one read a run. A hit is confirmed in the commit's header while it lives, so that
//! two ids may share the bytes that a run keeps of them; behind a trim the run alone answers.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::future::join_all;
use icecore_log::{EntryId, Error, ErrorKind, Header, LogId, PageLimit, Result, Version};

use crate::append::Receipt;
use crate::appender::{Active, Known, Tip};
use crate::busy::{Busy, Working};
use crate::id_filter::{Filter, Filters};
use crate::id_runs::{self, RunInfo};
use crate::{Inner, Log, lock, open};

/// Where an id was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub version: Version,
    pub entry: u32,
    /// `None` if its header says nothing of it.
    pub content: Option<Content>,
}

/// What is known of a content's tag.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Whole([u8; 16]),
    /// From an id run whose headers were trimmed.
    FirstBytes([u8; 6]),
}

impl Content {
    pub(crate) fn first_bytes(&self) -> [u8; 6] {
        match self {
            Self::Whole(tag) => std::array::from_fn(|index| tag[index]),
            Self::FirstBytes(bytes) => *bytes,
        }
    }

    pub(crate) fn may_be(&self, tag: &[u8; 16]) -> bool {
        match self {
            Self::Whole(own) => own == tag,
            Self::FirstBytes(bytes) => tag.starts_with(bytes),
        }
    }
}

/// Ids by their tags.
type Tags = HashMap<[u8; 16], Hit>;

/// The ids of one log, as far as they are in memory.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    loaded: bool,
    /// Behind the last run.
    current: Tags,
    /// Those of the last run, kept so that a look-up made just before it was written still counts.
    before: Tags,
    /// Everything above it is in one of the two maps.
    floor: Version,
    runs: Vec<RunInfo>,
    filters: Filters,
    /// How many records were read of runs that have no filter.
    looked: HashMap<RunInfo, u64>,
    /// Ids through this version are in runs, or forgotten.
    runs_through: Version,
    through: Version,
    /// Of the commits through this version some were trimmed before their ids were in a run: of an id that is not found
    /// nobody can say any more that it never was there. Zero if there are none.
    hole: Version,
    writing: Busy,
}

impl Ids {
    /// Of a log that has none.
    pub(crate) fn loaded_empty() -> Self {
        Self { loaded: true, ..Self::default() }
    }

    /// Of a log with these runs, before the headers behind them are taken up.
    pub(crate) fn of_runs(runs: Vec<RunInfo>, hole: Version) -> Self {
        let mut ids = Self { runs, ..Self::loaded_empty() };
        let through = Version(ids.runs.last().map_or(0, |run| run.to));
        (ids.floor, ids.runs_through, ids.through) = (through, through, through);
        ids.forget_through(hole);
        ids
    }

    /// The commits behind the last run were trimmed through here.
    pub(crate) fn forget_through(&mut self, hole: Version) {
        self.hole = self.hole.max(hole);
        // The next run begins behind the hole.
        self.before.extend(self.current.extract_if(|_, hit| hit.version <= hole));
        for through in [&mut self.floor, &mut self.runs_through, &mut self.through] {
            *through = hole.max(*through);
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.current.len() + self.before.len() + self.filters.len_in_ids()
    }

    pub(crate) fn has_hole(&self) -> bool {
        self.hole > Version::ZERO
    }

    pub(crate) fn runs_through(&self) -> Version {
        self.runs_through
    }

    /// An id must have been looked up in the runs at least through this version before the maps can say no.
    pub(crate) fn floor(&self) -> Version {
        self.floor
    }

    /// Whether no run has it, as far as can be told without a look into them.
    pub(crate) fn is_in_no_run(&self, tag: &[u8; 16]) -> bool {
        self.runs.iter().all(|run| self.filters.excludes(run, tag))
    }

    /// Those whose filters do not exclude it.
    fn runs_that_may_have(&self, tag: &[u8; 16]) -> Vec<RunInfo> {
        let may_have = |run: &&RunInfo| self.filters.has(run) && !self.filters.excludes(run, tag);
        self.runs.iter().filter(may_have).copied().collect()
    }

    /// Takes this list of the runs for the one that there was.
    fn list_anew(&mut self, runs: Vec<RunInfo>) {
        self.filters.keep_only(&runs);
        self.looked.retain(|run, _| runs.contains(run));
        self.runs = runs;
    }

    /// So many ids are about to be looked up. Which runs are to get a filter first: those of which look-ups would have read all.
    fn due_filters(&mut self, looks: usize) -> Vec<RunInfo> {
        let mut due = Vec::new();
        for run in self.runs.iter().filter(|run| run.ids > 0 && !self.filters.has(run)) {
            let looked = self.looked.entry(*run).or_default();
            *looked = looked.saturating_add(run.look().saturating_mul(looks as u64));
            if *looked >= run.ids {
                due.push(*run);
            }
        }
        due
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
                let content = entry.content_tag.map(Content::Whole);
                let hit = Hit { version: header.version, entry: index, content };
                self.current.entry(tag).or_insert(hit);
            }
        }
    }

    /// What the next run is to hold, if enough is only in memory and none is being written.
    pub(crate) fn begin_run(&self, enough: usize) -> Option<(RangeInclusive<Version>, Tags, Working)> {
        let commits = self.through.0 - self.runs_through.0;
        let due = self.current.len() >= enough || (commits >= enough as u64 && !self.current.is_empty());
        if !self.loaded || !due || commits > u64::from(u32::MAX) {
            return None;
        }
        let working = self.writing.begin()?;
        Some((self.runs_through.next()..=self.through, self.current.clone(), working))
    }

    /// The run was written: its ids need not be in memory for long. All runs, unless they were read anew meanwhile.
    pub(crate) fn end_run(&mut self, run: RunInfo, filter: Arc<Filter>) -> Option<Vec<RunInfo>> {
        if !self.loaded || self.runs_through.next().0 != run.from {
            return None;
        }
        self.floor = self.runs_through;
        self.runs_through = Version(run.to);
        let all = std::mem::take(&mut self.current).into_iter();
        (self.before, self.current) = all.partition(|(_, hit)| hit.version.0 <= run.to);
        if self.runs.last().is_none_or(|last| last.to < run.to) {
            let mut runs = std::mem::take(&mut self.runs);
            runs.retain(|other| other.from < run.from);
            runs.push(run);
            self.list_anew(runs);
            self.filters.add(run, filter);
        }
        Some(self.runs.clone())
    }

    /// The runs through `last` were merged into these, of which the last one has this filter.
    pub(crate) fn merged(&mut self, last: RunInfo, runs: Vec<RunInfo>, filter: Arc<Filter>) {
        if self.loaded
            && self.runs_through.0 == last.to
            && let Some(merged) = runs.last().copied()
        {
            self.list_anew(runs);
            self.filters.add(merged, filter);
        }
    }
}

/// Looks up in the id runs what is pending and was not; the order of what is pending does not change.
pub(crate) async fn look_up_pending(inner: &Inner, turn: &Active, tip: &Tip) -> Result<()> {
    let (ids, due) = {
        let mut state = lock(&turn.state);
        let wanted =
            state.pending.iter().enumerate().filter(|(_, pending)| state.must_look_up(pending, tip.secret));
        let ids: Vec<_> =
            wanted.filter_map(|(index, pending)| Some((index, pending.id()?.clone()))).collect();
        let due = state.ids.due_filters(ids.len());
        (ids, due)
    };
    for run in due {
        if let Some(filter) = id_runs::filter(inner, &turn.id, &run).await? {
            lock(&turn.state).ids.filters.add(run, filter);
        }
    }
    let mut runs = Runs::of(&lock(&turn.state).ids);
    for some in ids.chunks(16) {
        let founds = join_all(some.iter().map(|(_, id)| runs.clone().find(inner, &turn.id, tip, id))).await;
        let mut state = lock(&turn.state);
        for ((index, _), found) in some.iter().zip(founds) {
            let (found, listed) = found?;
            if let Some(listed) = listed {
                // Another process merged them: without the new list every look-up would fail first, and nothing be merged here.
                state.ids.list_anew(listed.clone());
                runs = Runs { list: listed, filters: state.ids.filters.clone(), ..runs };
            }
            // While the log has its turn, entries only join at the back: the index is still its own.
            let Some(pending) = state.pending.get_mut(*index) else {
                continue;
            };
            match found {
                Found::Hit(hit) => (pending.looked_up, pending.hit) = (runs.through, Some(hit)),
                Found::Absent => pending.looked_up = runs.through,
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

/// What the backend says of an id at one moment.
pub(crate) struct Look {
    pub receipt: Option<Receipt>,
    /// Whether it could have been there and have been forgotten.
    pub is_unsure: bool,
    /// Whether nothing is appended to the log any more.
    pub sealed: bool,
}

/// Where an id is, in memory or not; reads the log anew.
pub(crate) async fn find(inner: &Inner, log: &LogId, id: &EntryId) -> Result<Look> {
    let Some(tip) = open::tip(inner, log).await? else {
        return Ok(Look { receipt: None, is_unsure: false, sealed: false });
    };
    // Most ids are in a run: then none of the headers behind the runs need be read.
    let mut runs = id_runs::list(inner, log, tip.incarnation).await?;
    // Those that this process has, if it appends to the log.
    let filters = lock(&inner.active(log).state).ids.filters.clone();
    if let Some(Some(hit)) = search(inner, log, &runs, &filters, &tip.secret.id_tag(id)).await? {
        let receipt = Some(receipt(log, id, hit));
        return Ok(Look { receipt, is_unsure: false, sealed: tip.sealed });
    }
    let (hit, is_unsure) = loop {
        let ids = open::read_ids_of(inner, log, &tip, runs).await?;
        if let Some(hit) = ids.recent(&tip.secret.id_tag(id)) {
            break (Some(hit), false);
        }
        let runs_of = Runs { filters: filters.clone(), ..Runs::of(&ids) };
        match runs_of.find(inner, log, &tip, id).await?.0 {
            Found::Hit(hit) => break (Some(hit), false),
            Found::Absent => break (None, ids.has_hole()),
            Found::Lost => runs = id_runs::list(inner, log, tip.incarnation).await?,
        }
    };
    Ok(Look { receipt: hit.map(|hit| receipt(log, id, hit)), is_unsure, sealed: tip.sealed })
}

/// The first receipt again.
pub(crate) fn receipt(log: &LogId, id: &EntryId, hit: Hit) -> Receipt {
    let Hit { version, entry, .. } = hit;
    Receipt { log: log.clone(), id: Some(id.clone()), version, hash: None, entry, repeated: true }
}

impl Log {
    /// Where the entry with this id is, if it is in the log as it is now.
    ///
    /// A request still under way may put it there later, and what is only read may be lost by a fail-over: [`Log::resolve`] says for
    /// certain, and takes a slot for that.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn find(&self, id: &EntryId) -> Result<Option<Receipt>> {
        let inner = &self.store.0;
        let (tag, runs) = {
            let active = inner.active(&self.id);
            let state = lock(&active.state);
            match &state.known {
                Known::Tip(tip) | Known::Behind(tip) => {
                    let tag = tip.secret.id_tag(id);
                    if let Some(hit) = state.ids.recent(&tag) {
                        return Ok(Some(receipt(&self.id, id, hit)));
                    }
                    (tag, state.ids.runs_that_may_have(&tag))
                }
                Known::Nothing | Known::Absent => Default::default(),
            }
        };
        // What a run says that this process knows holds, whatever was appended since. That no run says so does not.
        if let Some(Some(hit)) = search(inner, &self.id, &runs, &Filters::default(), &tag).await? {
            return Ok(Some(receipt(&self.id, id, hit)));
        }
        Ok(find(inner, &self.id, id).await?.receipt)
    }

    /// Writes the ids of all commits through this version into an id run, if they are not in runs yet.
    ///
    /// Whoever trims a log calls it before closing the log through that version. Ids that are in no run when their headers are
    /// trimmed are forgotten: an entry repeated with such an id is appended again, and [`Log::resolve`] answers
    /// [`Undetermined`](crate::Resolved::Undetermined).
    pub async fn keep_ids(&self, through: Version) -> Result<()> {
        let inner = &self.store.0;
        let Some(tip) = open::tip(inner, &self.id).await? else {
            return Ok(());
        };
        let ids = open::read_ids(inner, &self.id, &tip).await?;
        let through = through.min(tip.version);
        if through <= ids.runs_through {
            return Ok(());
        }
        let from = ids.runs_through.next();
        if through.0 - from.0 > u64::from(u32::MAX) {
            return Err(Error::new(ErrorKind::Refused, "writing an id run")
                .with("log", &self.id)
                .advise("It would cover more than 4,294,967,296 commits: begin with a lower version"));
        }
        let old = ids.current.iter().filter(|(_, hit)| hit.version <= through);
        id_runs::write(inner, &self.id, tip.incarnation, from..=through, old).await.map(|_| ())
    }
}

/// What the id runs say of an id.
enum Found {
    Hit(Hit),
    Absent,
    /// Runs were lost, and with them the answer: the ids must be read from the headers again.
    Lost,
}

/// The runs of a log to look into.
#[derive(Clone)]
struct Runs {
    list: Vec<RunInfo>,
    filters: Filters,
    /// Together they reach at least this far,
    through: Version,
    /// but need not hold what is here and below.
    hole: Version,
}

impl Runs {
    fn of(ids: &Ids) -> Self {
        Self {
            list: ids.runs.clone(),
            filters: ids.filters.clone(),
            through: ids.runs_through,
            hole: ids.hole,
        }
    }

    /// What they say, and their new list if it had to be read.
    async fn find(
        mut self,
        inner: &Inner,
        log: &LogId,
        tip: &Tip,
        id: &EntryId,
    ) -> Result<(Found, Option<Vec<RunInfo>>)> {
        let tag = tip.secret.id_tag(id);
        let mut listed = None;
        // A run that was merged meanwhile is gone: a new listing names its successor.
        for _ in 0..8 {
            match search(inner, log, &self.list, &self.filters, &tag).await? {
                Some(Some(hit)) => return Ok((Found::Hit(hit), listed)),
                Some(None) => return Ok((Found::Absent, listed)),
                None => self.list = id_runs::list(inner, log, tip.incarnation).await?,
            }
            id_runs::cut_at_gap(&mut self.list, self.hole);
            let reach = self.list.last().map_or(0, |run| run.to).max(self.hole.0);
            if reach < self.through.0 {
                return Ok((Found::Lost, None));
            }
            listed = Some(self.list.clone());
        }
        Err(Error::new(ErrorKind::Unavailable, "looking up an id")
            .with("log", log)
            .advise("Nothing was written: retry"))
    }
}

/// The outer `None`: a run is gone.
async fn search(
    inner: &Inner,
    log: &LogId,
    runs: &[RunInfo],
    filters: &Filters,
    tag: &[u8; 16],
) -> Result<Option<Option<Hit>>> {
    for run in runs.iter().rev() {
        let Some(hits) = id_runs::search(inner, log, run, filters, tag).await? else {
            return Ok(None);
        };
        for hit in hits {
            if let Some(hit) = confirm(inner, log, hit, tag).await? {
                return Ok(Some(Some(hit)));
            }
        }
    }
    Ok(Some(None))
}

/// The hit as the commit's header has it; `None` if it is of another id with the same first bytes.
async fn confirm(inner: &Inner, log: &LogId, hit: Hit, tag: &[u8; 16]) -> Result<Option<Hit>> {
    let page = inner.backend.read(log, hit.version, PageLimit::HEADERS.commits(1)).await?;
    let Some(commit) = page.commits.into_iter().next() else {
        if page.boundary < hit.version {
            return Err(open::damaged(log, hit.version, "a commit that an id run names is missing"));
        }
        // Trimmed: the run outlives the header, and that another id has the same eight bytes is next to impossible.
        return Ok(Some(hit));
    };
    let header =
        Header::decode(commit.header).map_err(|error| error.with("log", log).with("version", hit.version))?;
    let entry = (0..).zip(&header.entries).find(|(_, entry)| entry.id_tag.as_ref() == Some(tag));
    Ok(entry.map(|(index, entry)| Hit {
        version: hit.version,
        entry: index,
        content: entry.content_tag.map(Content::Whole),
    }))
}
