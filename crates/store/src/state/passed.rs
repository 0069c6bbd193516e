//! The last commits that a state has come by: whether a token's is one of them is told without reading.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use icecore_log::{Hash, Version};

use crate::lock;

/// How many there are at the most.
const PASSED_MAX: usize = 32;

/// Of one history. Copies of a state share what they have come by, until one of them goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passed(Arc<Mutex<VecDeque<(Version, Hash)>>>);

impl Passed {
    /// The state goes on behind this commit.
    pub fn next(&mut self, version: Version, hash: Hash) {
        if Arc::get_mut(&mut self.0).is_none() {
            // Another copy may go on otherwise, in a history that was lost.
            let copy = lock(&self.0).clone();
            *self = Self(Arc::new(Mutex::new(copy)));
        }
        self.remember(version, hash);
    }

    /// The commit is in the history of all that share this.
    pub fn remember(&self, version: Version, hash: Hash) {
        let mut passed = lock(&self.0);
        if passed.len() == PASSED_MAX {
            passed.pop_front();
        }
        passed.push_back((version, hash));
    }

    /// The hash of the commit of this version, if it is known.
    pub fn hash_at(&self, version: Version) -> Option<Hash> {
        lock(&self.0).iter().rev().find(|(passed, _)| *passed == version).map(|(_, hash)| *hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_go_on_know_nothing_of_each_other() {
        let (one, other) = (Hash([1; 32]), Hash([2; 32]));
        let mut first = Passed::default();
        first.next(Version(1), one);
        let mut second = first.clone();
        second.remember(Version(7), other);
        assert_eq!(first.hash_at(Version(7)), Some(other));

        second.next(Version(2), other);
        first.next(Version(2), one);

        assert_eq!((first.hash_at(Version(2)), second.hash_at(Version(2))), (Some(one), Some(other)));
        assert_eq!((first.hash_at(Version(1)), second.hash_at(Version(1))), (Some(one), Some(one)));
    }

    #[test]
    fn only_the_last_are_kept() {
        let mut passed = Passed::default();
        for version in 0..100 {
            passed.next(Version(version), Hash([version as u8; 32]));
        }
        assert_eq!((passed.hash_at(Version(67)), passed.hash_at(Version(99))), (None, Some(Hash([99; 32]))));
        assert_eq!(passed.hash_at(Version(68)), Some(Hash([68; 32])));
    }
}
