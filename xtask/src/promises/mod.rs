//! What is promised, the test that would notice, and the break that shows that it does.

mod agents;
mod merges;
mod state;
mod storage;

use crate::mutants::Promise;

/// All of them, in the order of the page.
pub fn promises() -> impl Iterator<Item = &'static Promise> {
    storage::STORAGE.iter().chain(state::STATE).chain(merges::MERGES).chain(agents::AGENTS)
}
