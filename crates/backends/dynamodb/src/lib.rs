//! Keeps logs in one table of Amazon DynamoDB, or of what speaks as it does.
//!
//! A log is a partition, and a commit an item in it, under its number. What is decided is decided by a put of one item if it is absent,
//! or by a transaction of such puts. Keys and attributes are in `item`, and all of it in `docs/formats/dynamodb.md`.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | a put of a commit is on the condition that no item has its key |
//! | 2 unknown | what was not answered is sent again as it is until the time is up; then it is unknown. Who is in a slot is read of the slot |
//! | 3 durable | the service keeps three copies; of another endpoint that is not known, and less is declared |
//! | 4 fresh, chained | every read is a consistent one; a writer creates behind a head that it saw, and several commits in one transaction |
//! | 5 deletion | the rule of grace; the first commit of a log and the close of an empty one exclude each other by an item of the log's own |
//! | 6 bytes | binary values with a checksum of our own; what is too large for an item is in parts that are there before it |
//! | 7 neighbours | requests stand alone; all or none is one transaction, up to what the service takes |
//! | 8 names | a log's name is written in the transaction of its first commit, and its tenant's before |
//! | 9 blobs | an item each, put if it is absent, with parts of their own |
//!
//! Nothing of a table that holds a store may expire: the service would delete commits that nobody closed.

mod api;
mod atomic;
mod blobs;
mod config;
mod create;
mod examine;
mod fault;
mod item;
mod list;
mod open;
mod parts;
mod query;
mod read;
mod slot;
mod store;
mod tenants;
mod trim;

pub use config::Settings;
pub use icecore_log::Access;
pub use icecore_log::grace::Clocks;
pub use store::{DynamoDb, DynamoStore};
