//! What is promised, the test that would notice, and the break that shows that it does.

mod across;
mod agents;
mod artifacts;
mod deletion;
mod dynamodb;
mod expiry;
mod failover;
mod flows;
mod layers;
mod merges;
mod mongodb;
mod queues;
mod redis;
mod retention;
mod sessions;
mod state;
mod storage;

use crate::mutants::Promise;

/// In the order of the page.
const ALL: &[&[Promise]] = &[
    storage::STORAGE,
    redis::REDIS,
    mongodb::MONGODB,
    dynamodb::DYNAMODB,
    failover::FAILOVER,
    layers::LAYERS,
    state::STATE,
    across::OF_SEVERAL_LOGS,
    merges::MERGES,
    retention::RETENTION,
    expiry::EXPIRY,
    agents::AGENTS,
    deletion::DELETION_OF_SESSIONS,
    flows::FLOWS,
    queues::QUEUES,
    artifacts::ARTIFACTS,
    sessions::OF_SESSIONS,
];

/// All of them.
pub fn promises() -> impl Iterator<Item = &'static Promise> {
    ALL.iter().copied().flatten()
}
