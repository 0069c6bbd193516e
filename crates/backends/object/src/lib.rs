//! Keeps logs in a bucket of an object store: S3, Google Cloud Storage, Azure Blob Storage, or a directory.
//!
//! A commit, or a run of them, is an object, which is created if its name is not taken. Names are in `names`, bytes in `slot`,
//! and both in `docs/formats/object.md`.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | a create with `If-None-Match: *`, which is tried when the store is opened. Who builds commit N has seen the object with N-1, and so where it ends |
//! | 2 unknown | what is in the slot is read, and the same bytes are sent again, until one of the two decides |
//! | 3 durable | an object is acknowledged when it is stored |
//! | 4 fresh, chained | reads and listings after a write see it, on all three systems; the predecessor is what the writer saw last |
//! | 5 deletion | a boundary is an object whose name holds the number; see `icecore_log::grace` |
//! | 6 bytes | checksums of our own for each part |
//! | 7 neighbours | an object each. Nothing is all or none across logs |
//! | 8 names | a log is a folder; a listing by folders is a listing of logs. One that was closed before it had a commit is listed too |
//! | 9 blobs | an object each, created like a slot |

pub mod bucket;
#[cfg(feature = "cloud")]
pub mod cloud;
mod create;
pub mod directory;
mod examine;
mod look;
mod make;
mod names;
mod probe;
mod read;
mod slot;
mod store;
mod trim;

pub use bucket::Bucket;
pub use directory::Directory;
pub use icecore_log::grace::Clocks;
pub(crate) use store::COMMIT_BYTES_MAX;
pub use store::{BucketStore, Objects, Settings};
