//! What this handle saw last of each log, so that an append is one request. Nothing that is decided rests on it alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::backend::Run;
use crate::commit::{Hash, Version};
use crate::grace::Moment;
use crate::name::LogId;
use bytes::Bytes;

/// A log's head, as it was seen; where several commits are in one object, the newest object.
#[derive(Debug, Clone)]
pub struct Tip {
    /// The first version in the object that holds the head.
    pub first: Version,
    /// The head.
    pub last: Version,
    /// The head's hash.
    pub hash: Hash,
    /// The head's header.
    pub header: Bytes,
    /// Before the request that showed it.
    pub seen: Moment,
}

/// Tips of the logs that were used last. There are two generations: when the young one is full, it becomes the old one, which is forgotten.
#[derive(Debug, Default)]
pub struct Known(Mutex<[HashMap<LogId, Tip>; 2]>);

/// Logs in a generation.
const GENERATION: usize = 16_384;
/// Longer headers are read again.
const HEADER_MAX: usize = 4 << 10;

impl Known {
    /// What was seen last.
    pub fn get(&self, log: &LogId) -> Option<Tip> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().find_map(|logs| logs.get(log)).cloned()
    }

    /// Remembers what was seen, if nothing later was.
    pub fn saw(&self, log: &LogId, tip: Tip) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        let is_late = |known: &Tip| tip.seen.is_before(known.seen);
        if tip.header.len() > HEADER_MAX || young.get(log).or_else(|| old.get(log)).is_some_and(is_late) {
            return;
        }
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        // A slice of a whole object would keep all of it.
        young.insert(log.clone(), Tip { header: Bytes::copy_from_slice(&tip.header), ..tip });
    }

    /// As if it had never been seen.
    pub fn forget(&self, log: &LogId) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter_mut().for_each(|logs| drop(logs.remove(log)));
    }

    /// Whether one of these logs was seen past the version.
    pub fn is_past(&self, seen: &[(LogId, Version)]) -> bool {
        seen.iter().any(|(log, version)| self.get(log).is_some_and(|tip| tip.last > *version))
    }

    /// When the head was seen that a run follows; `None` if it follows another, or nothing is known.
    pub fn followed_by(&self, run: &Run) -> Option<Moment> {
        let tip = self.get(&run.log)?;
        let first = run.commits.first()?.version;
        (first == tip.last.next() && run.previous == tip.hash).then_some(tip.seen)
    }
}
