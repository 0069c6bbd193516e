//! What is promised, the test that would notice, and the break that shows that it does.

mod agents;
mod dynamodb;
mod failover;
mod merges;
mod mongodb;
mod retention;
mod state;
mod storage;

use crate::mutants::Promise;

/// All of them, in the order of the page.
pub fn promises() -> impl Iterator<Item = &'static Promise> {
    let store = state::STATE.iter().chain(merges::MERGES).chain(retention::RETENTION);
    let backends = storage::STORAGE.iter().chain(mongodb::MONGODB).chain(dynamodb::DYNAMODB);
    backends.chain(failover::FAILOVER).chain(store).chain(agents::AGENTS)
}
