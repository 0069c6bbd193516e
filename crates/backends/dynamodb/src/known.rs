//! Where this handle saw each log end, so that an append is one request. Nothing that is decided rests on it alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use icecore_log::grace::Moment;
use icecore_log::{Hash, LogId, Run, Version};

/// A head, as it was seen.
#[derive(Debug, Clone, Copy)]
struct Tip {
    version: Version,
    hash: Hash,
    /// Before the request that showed it.
    seen: Moment,
}

/// Logs that were used last. There are two generations: when the young one is full, it becomes the old one, which is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Known {
    tips: Mutex<[HashMap<LogId, Tip>; 2]>,
    tenants: Mutex<HashSet<String>>,
}

/// Logs in a generation, and tenants.
const GENERATION: usize = 16_384;

impl Known {
    /// Remembers what was seen, if nothing later was.
    pub fn saw(&self, log: &LogId, version: Version, hash: Hash, seen: Moment) {
        let mut generations = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.get(log).or_else(|| old.get(log)).is_some_and(|known| seen.is_before(known.seen)) {
            return;
        }
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(log.clone(), Tip { version, hash, seen });
    }

    pub fn forget(&self, log: &LogId) {
        let mut generations = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        for logs in &mut *generations {
            logs.remove(log);
        }
    }

    /// When the head was seen that a run follows; `None` if it follows another, or nothing is known.
    pub fn followed_by(&self, run: &Run) -> Option<Moment> {
        let generations = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        let tip = generations.iter().find_map(|logs| logs.get(&run.log))?;
        let first = run.commits.first()?.version;
        (first == tip.version.next() && run.previous == tip.hash).then_some(tip.seen)
    }

    /// Whether the tenant was written by this handle: it never goes away again.
    pub fn has_tenant(&self, tenant: &str) -> bool {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    pub fn add_tenant(&self, tenant: &str) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= GENERATION {
            tenants.clear();
        }
        tenants.insert(tenant.to_owned());
    }
}
