//! Keeps logs in MongoDB 4.4 or later: one server, or a replica set.
//!
//! A commit is a document whose `_id` is the log's name and the version: it is inserted if that is not taken. Names and fields are in `slot`,
//! and all of it in `docs/formats/mongodb.md`.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | the unique index of `_id`. Who builds commit N has seen N-1, and so where the log ends |
//! | 2 unknown | every error but code 11000 leaves it open: the same document is sent again until a read decides that waits for a majority, or for the journal |
//! | 3 durable | every write waits for a majority and for its journals. What that is worth is looked at when the store is opened |
//! | 4 fresh, chained | reads of the primary with read concern `majority`; the predecessor is what the writer saw last |
//! | 5 deletion | the boundary is in the log's document, and a time of grace passes before anything is deleted: see `icecore_log::grace` |
//! | 6 bytes | checksums of our own |
//! | 7 neighbours | an insert each; all or none, in a replica set, by a transaction |
//! | 8 names | the log's document is written before its first commit |
//! | 9 blobs | parts first, then the document that names them, which is inserted if its name is free |

mod blobs;
mod config;
mod create;
mod examine;
mod fault;
mod found;
mod group;
mod heard;
mod left;
mod look;
mod parts;
mod place;
mod read;
mod slot;
mod store;
mod together;
mod trim;

pub use config::Settings;
pub use icecore_log::Access;
pub use icecore_log::grace::Clocks;
pub use store::{MongoDb, MongoStore};
