//! The states at the heads of logs that are kept in memory, and go on from where they are.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use icecore_log::{LogId, StoredCommit, Version};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::lock;
use crate::state::fold::Folded;
use crate::state::overlay::Overlay;

/// Which states make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// Those that are used least often, and a state is only kept if it is used more often than what it replaces. Source: TinyLFU
    /// (Einziger, Friedman, Manes, 2017).
    #[default]
    LeastFrequent,
    /// Those that were used longest ago.
    LeastRecent,
}

/// How the states in memory have served. Made by [`Store::cached_states`](crate::Store::cached_states).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CachedStates {
    /// How many there are.
    pub states: u64,
    /// About how many bytes they take.
    pub bytes: u64,
    /// Reads of whole states that found one in memory, whether it had to go on or not.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// States that made room for others, or were too large to be kept.
    pub evictions: u64,
}

/// The states that are kept.
pub(crate) struct States {
    cache: Cache<LogId, Arc<Slot>>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
}

/// The state of one log. Whoever goes on with it holds the lock, and the others wait: nothing is folded twice at a time.
#[derive(Default)]
pub(crate) struct Slot {
    pub folded: tokio::sync::Mutex<Option<Folded>>,
    /// Of a state that is not kept as a whole: what came behind its snapshots.
    pub overlay: Arc<tokio::sync::Mutex<Option<Overlay>>>,
    /// Commits of this process that came behind it: they need not be read.
    won: Mutex<Won>,
    /// What the state takes.
    state_bytes: AtomicUsize,
    /// What all of it took when it was weighed last.
    weighed: AtomicUsize,
}

#[derive(Default)]
struct Won {
    commits: VecDeque<StoredCommit>,
    bytes: usize,
}

/// The most commits, and bytes of them, that are kept for one state.
const WON_MAX: usize = 256;
const WON_BYTES_MAX: usize = 1 << 20;
/// About what a slot takes that holds nothing, and the first node of the map of its documents, which has room for eleven. Measured.
const SLOT_BYTES: usize = 2 << 10;

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

impl States {
    pub fn new(bytes_max: u64, eviction: Eviction) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = Arc::clone(&evictions);
        let policy = match eviction {
            Eviction::LeastFrequent => EvictionPolicy::tiny_lfu(),
            Eviction::LeastRecent => EvictionPolicy::lru(),
        };
        let weigh = |log: &LogId, slot: &Arc<Slot>| {
            let bytes = slot.weighed.load(Ordering::Relaxed) + log.as_str().len() + SLOT_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .weigher(weigh)
            .max_capacity(bytes_max)
            .eviction_policy(policy)
            .eviction_listener(move |_, _, cause| {
                if cause.was_evicted() {
                    evicted.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self { cache, hits: AtomicU64::new(0), misses: AtomicU64::new(0), evictions }
    }

    pub fn counts(&self) -> CachedStates {
        self.cache.run_pending_tasks();
        CachedStates {
            states: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    /// The slot of a log whose state is kept.
    pub fn find(&self, log: &LogId) -> Option<Arc<Slot>> {
        self.cache.get(log)
    }

    /// The slot of a log, made if there is none.
    pub fn slot(&self, log: &LogId) -> Arc<Slot> {
        self.cache.get_with_by_ref(log, Arc::default)
    }

    /// Counts a read, which found a state or not.
    pub fn count(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Says what the state of a slot takes.
    pub fn weigh(&self, log: &LogId, slot: &Arc<Slot>, state_bytes: usize) {
        slot.state_bytes.store(state_bytes, Ordering::Relaxed);
        let won_bytes = lock(&slot.won).bytes;
        self.weigh_anew(log, slot, won_bytes);
    }

    /// Weighs a slot, if it has become another size since it was weighed last.
    fn weigh_anew(&self, log: &LogId, slot: &Arc<Slot>, won_bytes: usize) {
        let bytes = slot.state_bytes.load(Ordering::Relaxed) + won_bytes;
        let weighed = slot.weighed.load(Ordering::Relaxed);
        if weighed.abs_diff(bytes) > weighed / 16 {
            slot.weighed.store(bytes, Ordering::Relaxed);
            self.cache.insert(log.clone(), Arc::clone(slot));
        }
    }

    /// Leaves a commit that this process has just made with the state that it follows.
    pub fn follow(&self, log: &LogId, commit: &StoredCommit) {
        if let Some(slot) = self.cache.get(log) {
            let won_bytes = {
                let mut won = lock(&slot.won);
                won.push(commit);
                won.bytes
            };
            self.weigh_anew(log, &slot, won_bytes);
        }
    }
}

impl Slot {
    /// The commit of this version, if this process made it.
    pub fn won(&self, version: Version) -> Option<StoredCommit> {
        lock(&self.won).take(version)
    }
}

impl Won {
    fn push(&mut self, commit: &StoredCommit) {
        let follows = self.commits.back().is_none_or(|last| last.version.next() == commit.version);
        if !follows || self.commits.len() >= WON_MAX || self.bytes + commit.len() > WON_BYTES_MAX {
            *self = Self::default();
        }
        if commit.len() <= WON_BYTES_MAX {
            self.bytes += commit.len();
            self.commits.push_back(commit.clone());
        }
    }

    fn take(&mut self, version: Version) -> Option<StoredCommit> {
        while let Some(commit) = self.commits.pop_front() {
            self.bytes -= commit.len();
            if commit.version >= version {
                if commit.version == version {
                    return Some(commit);
                }
                // What it follows is not there any more: it is put back for who has read that far.
                self.bytes += commit.len();
                self.commits.push_front(commit);
                return None;
            }
        }
        None
    }
}
