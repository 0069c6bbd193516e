//! What a store must answer, said as simply as it can be.

use std::collections::BTreeMap;

use icecore_log::{Hash, LogId, Run, StoredCommit, Version};

use crate::told::{Ending, Told};

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub logs: BTreeMap<LogId, Log>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub boundary: u64,
    pub commits: BTreeMap<u64, StoredCommit>,
}

impl Log {
    pub fn head(&self) -> Option<u64> {
        self.commits.last_key_value().map(|(version, _)| *version)
    }

    /// What can be read from a version on.
    pub fn from(&self, from: u64) -> Vec<StoredCommit> {
        if from <= self.boundary {
            Vec::new()
        } else {
            self.commits.range(from..).map(|(_, commit)| commit.clone()).collect()
        }
    }

    fn create(&mut self, previous: Hash, commit: &StoredCommit) -> Ending {
        let version = commit.version.0;
        if version <= self.boundary {
            return Ending::Closed(Version(self.boundary));
        }
        if let Some(found) = self.commits.get(&version) {
            return if found.header == commit.header { Ending::Done } else { Ending::Taken };
        }
        let follows = match self.head() {
            Some(head) => version == head + 1 && self.commits[&head].hash() == previous,
            None => version == self.boundary + 1,
        };
        if !follows {
            return Ending::Gap;
        }
        self.commits.insert(version, commit.clone());
        Ending::Done
    }
}

impl Model {
    pub fn create(&mut self, run: &Run) -> Told {
        let log = self.logs.entry(run.log.clone()).or_default();
        let mut previous = run.previous;
        for (won, commit) in run.commits.iter().enumerate() {
            match log.create(previous, commit) {
                Ending::Done => previous = commit.hash(),
                end => return Told { won, end },
            }
        }
        Told::done(run.commits.len())
    }

    /// Whether it is allowed.
    pub fn close(&mut self, log: &LogId, through: u64) -> bool {
        let log = self.logs.entry(log.clone()).or_default();
        let allowed = log.head().is_none_or(|head| through < head);
        if allowed {
            log.boundary = log.boundary.max(through);
        }
        allowed
    }

    pub fn drop_bodies(&mut self, log: &LogId, versions: &[Version]) {
        for version in versions {
            if let Some(commit) = self.logs.get_mut(log).and_then(|log| log.commits.get_mut(&version.0)) {
                commit.body = None;
            }
        }
    }
}
