//! Snapshots: immutable, sorted tables of what the documents of a log are at a version, or of what changed since another.
//! They are blobs of that log. `docs/formats/snapshot.md` specifies every byte.
//!
//! A snapshot is a cache of what the commits say. It may be larger than memory: it is written in parts, one block of records
//! after the other, and a key or a page is read without the rest. One that is damaged or not whole is noticed, never believed.
//!
//! | module | holds |
//! | --- | --- |
//! | `record` | what a snapshot says of a key, its bytes, and how one record lies over another |
//! | `names` | what the names of the blobs say: listing, deleting, sweeping |
//! | `table` | the bytes of blocks, indexes and trailers |
//! | `writer`, `reader`, `cursor` | writing one; reading one key, or all from a key on |
//! | `merge` | snapshots that follow each other, read as one |

mod cursor;
mod merge;
mod names;
mod reader;
mod record;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use merge::Merged;
pub(crate) use names::{PREFIX, SnapshotInfo, delete, list, sweep_incomplete};
pub(crate) use reader::Snapshot;
pub(crate) use record::{Block, Content, Place, Record, Span, apart, over};
pub(crate) use table::Meta;
pub(crate) use writer::Writer;
