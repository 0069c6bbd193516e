//! The waist of Icecore: what a log is, and the one thing that is asked of a storage system.
//!
//! > *Commit N of log L is created if, and only if, it is absent.*
//!
//! Everything above (conditions, idempotency, state, history, recovery) is written once over [`Backend`];
//! everything below implements it. This crate does no I/O and starts no task.
//!
//! | module | holds |
//! | --- | --- |
//! | [`name`] | [`LogId`], [`LogPrefix`], their escaping |
//! | [`event`] | [`Entry`], [`Event`]: what a caller appends |
//! | [`commit`] | [`Header`], [`StoredCommit`], the hash chain |
//! | [`codec`] | bytes to and from the two above; `docs/formats/commit.md` is its specification |
//! | [`compression`] | zstd, for bodies and what is like them |
//! | [`backend`] | [`Backend`], the contract, and its requests and answers |
//! | [`judge`] | what a run of commits comes to, for backends that decide in one place |
//! | [`grace`], [`known`] | when a writer looked last and what it saw, for backends whose create cannot look at a boundary |
//! | [`error`] | [`Error`], [`ErrorKind`] |
//! | [`clock`] | [`Clock`], [`Entropy`]: time and chance, which tests drive |

pub mod backend;
pub mod clock;
pub mod codec;
pub mod commit;
pub mod compression;
pub mod error;
pub mod event;
pub mod grace;
pub mod judge;
pub mod known;
pub mod name;

pub use backend::{
    Access, Backend, Capabilities, Created, Cursor, Durability, End, Head, LogPage, Mode, Page, PageLimit,
    Run, Swept,
};
pub use clock::{Clock, Entropy, SystemClock, SystemEntropy, Timestamp};
pub use commit::{EntryHeader, Flags, Frame, Hash, Header, Incarnation, StoredCommit, Version};
pub use error::{Error, ErrorKind, Result};
pub use event::{Entry, EntryId, Event};
pub use name::{BlobId, LogId, LogPrefix};
