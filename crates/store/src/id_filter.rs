//! Of which ids a run surely has none: a Bloom filter for each id run (Bloom, "Space/Time Trade-offs in Hash Coding with Allowable
//! Errors", 1970), in memory only.
//!
//! Without it, every new id is looked for in every run of its log, by a request each. An id's tag is a MAC under the log's secret, so that
//! its bytes are as good as random, also where a client chooses the id: they are the hashes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id_runs::{self, RunInfo};

/// Two bytes an id, and eight looks: of 1,700 ids that are not in a run one may seem to be.
const BITS_AN_ID: u64 = 16;
const LOOKS: u32 = 8;
/// An id in memory takes as many bytes, about.
const ID_BYTES: usize = 40;

/// The keys of one run, which never change.
#[derive(Debug)]
pub(crate) struct Filter(Box<[u64]>);

impl Filter {
    pub(crate) fn of(count: u64, keys: impl Iterator<Item = u64>) -> Self {
        let words = (count * BITS_AN_ID).div_ceil(64).max(1);
        let mut filter = Self(vec![0; words as usize].into());
        for key in keys {
            for (word, bit) in filter.places(key) {
                filter.0[word] |= bit;
            }
        }
        filter
    }

    /// `false` for none of its keys.
    pub(crate) fn may_have(&self, key: u64) -> bool {
        self.places(key).all(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Where its bits are, of two hashes (Kirsch and Mitzenmacher, "Less Hashing, Same Performance", 2006).
    fn places(&self, key: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (first, step) = (key as u32, (key >> 32) as u32 | 1);
        let bits = self.0.len() as u64 * 64;
        (0..LOOKS).map(move |look| {
            let hash = first.wrapping_add(look.wrapping_mul(step));
            let place = ((u128::from(hash) * u128::from(bits)) >> 32) as u64;
            ((place / 64) as usize, 1 << (place % 64))
        })
    }
}

/// The filters of a log's runs. A clone shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Arc<HashMap<RunInfo, Arc<Filter>>>);

impl Filters {
    pub(crate) fn has(&self, run: &RunInfo) -> bool {
        self.0.contains_key(run)
    }

    /// Whether it surely has no such id.
    pub(crate) fn excludes(&self, run: &RunInfo, tag: &[u8; 16]) -> bool {
        run.ids == 0 || self.0.get(run).is_some_and(|filter| !filter.may_have(id_runs::key_of(tag)))
    }

    pub(crate) fn add(&mut self, run: RunInfo, filter: Arc<Filter>) {
        Arc::make_mut(&mut self.0).insert(run, filter);
    }

    /// Forgets those of other runs.
    pub(crate) fn keep_only(&mut self, runs: &[RunInfo]) {
        Arc::make_mut(&mut self.0).retain(|run, _| runs.contains(run));
    }

    /// As many ids as they take the memory of.
    pub(crate) fn len_in_ids(&self) -> usize {
        self.0.values().map(|filter| filter.0.len() * 8 / ID_BYTES).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform, and the same each time (Steele et al., SplitMix64).
    fn keys(from: u64, count: u64) -> impl Iterator<Item = u64> {
        (from..from + count).map(|number| {
            let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        })
    }

    #[test]
    fn a_filter_never_excludes_what_is_there_and_seldom_lets_pass_what_is_not() {
        for count in [0, 1, 2, 5, 63, 64, 1_000, 100_000] {
            let filter = Filter::of(count, keys(0, count));

            assert!(keys(0, count).all(|key| filter.may_have(key)), "of {count}");
            let passed = keys(count, 100_000).filter(|key| filter.may_have(*key)).count();
            assert!(passed < 200, "{passed} of 100,000, beside {count}");
        }
        // Keys at the ends of their range.
        let ends = [0, 1, u64::MAX, u64::MAX - 1, 1 << 32, u64::from(u32::MAX)];
        assert!(ends.iter().all(|key| Filter::of(6, ends.iter().copied()).may_have(*key)));
    }
}
