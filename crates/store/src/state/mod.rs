//! A log's state: the JSON documents that its commits put, patched and deleted. `docs/formats/state.md` is the specification of the events.
//!
//! | module | holds |
//! | --- | --- |
//! | [`document`] | [`State`], [`Document`], and what an event does to them |
//! | `edit` | what makes of a large value one that differs little |
//! | `event` | documents' events: how they are written and read |
//! | `check` | whether bytes are JSON that every reader can read |
//! | [`merge`], `places`, `decimal` | [`Merge`]: changes that need no look; where in a text they are made; exact sums |
//! | [`reduce`] | [`Reducers`]: merges of the caller's own |
//! | [`changes`] | [`Changes`] and [`Condition`]: what a transaction does, as data |
//! | `transact` | conditions checked, and a closure run again when others were first |
//! | [`across`] | transactions over several logs |
//! | `base` | the whole state in one commit, so that what came before it may go |
//! | `layers`, `overlay` | a state as its snapshots say it, and what came behind them |
//! | `upkeep` | when snapshots are written, and writing them |
//! | [`page`] | one document, or a page of them, of a state that may be larger than memory |
//! | `fold`, `cache` | from commits to a state, and the states that are kept in memory |
//! | [`consistency`] | how fresh a state must be that is read |
//! | [`time`] | a state as it was, and a log set back, or begun anew from there |
//! | [`diff`] | what differs between two states |
//! | [`expiry`] | when a document, or a log, is gone by itself |
//! | [`history`] | who changed a document, when, in which commit |
//! | [`whole`] | commits with whole values, where storage has what differs |
//! | [`replay`] | a state from the commits alone, compared with what snapshots say |
//! | [`watch`] | a document as it changes |

pub mod across;
pub(crate) mod base;
pub(crate) mod cache;
pub mod changes;
pub(crate) mod check;
pub mod consistency;
pub(crate) mod decimal;
pub mod diff;
pub mod document;
pub(crate) mod edit;
pub(crate) mod event;
pub mod expiry;
pub(crate) mod fold;
pub mod history;
pub(crate) mod layers;
pub mod merge;
pub(crate) mod overlay;
pub mod page;
pub(crate) mod passed;
pub(crate) mod places;
pub mod reduce;
pub mod replay;
pub mod time;
pub(crate) mod transact;
pub(crate) mod upkeep;
pub mod watch;
pub mod whole;

pub use across::States;
pub use cache::{CachedStates, Eviction};
pub use changes::{Changes, Condition, Json};
pub use consistency::{Consistency, Token};
pub use diff::{Diff, Difference};
pub use document::{Document, State};
pub use event::KEY_BYTES_MAX;
pub use expiry::Expiry;
pub use history::Changed;
pub use merge::{Merge, POINTER_BYTES_MAX};
pub use page::DocumentPage;
pub use reduce::Reducers;
pub use replay::Replayed;
pub use time::At;
pub use watch::{Watch, Watched};
pub use whole::WholeReader;
