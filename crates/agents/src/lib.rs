//! What an agent runtime keeps, over logs: above the store, once, for every storage system and every runtime.
//!
//! | module | holds |
//! | --- | --- |
//! | [`names`] | [`Tenant`]: where a runtime's things are; any id as a log's key |
//! | [`outbox`] | [`Outbox`]: events that are accepted at once and written in the order of the calls, together |
//! | [`feed`] | what came last in a log, behind a cursor |
//! | [`pause`] | [`Pause`]: a value that exactly one caller takes |
//! | [`memory`] | a value under a key, saved if it is still what one knows |
//! | [`artifacts`] | [`Artifacts`]: content with an owner, for as long as limits say |
//! | [`binding`] | which conversation of a session goes on at which remote agent |
//! | [`flows`] | [`Flow`]: what a run of a flow has done, so that another process does the rest |
//! | [`queues`] | [`Queue`]: messages that one worker at a time is given, until one says that it is done |
//! | [`scope`] | whose something is: tenant, user and session, as types |
//! | [`sessions`] | [`Sessions`]: made once, touched, expired, ended, listed newest first; their tokens |
//! | [`deletion`] | [`Deletion`]: all of a session of a runtime goes, with what it leads to |
//! | [`listing`] | [`Listing`]: which sessions a runtime has, told from what is kept of them |
//! | [`fingerprint`] | what makes two events the same event |
//!
//! Values are JSON text here, and nothing looks into them.

pub mod artifacts;
pub mod binding;
pub mod deletion;
pub mod feed;
pub mod fingerprint;
pub mod flows;
pub mod listing;
pub mod memory;
pub mod names;
pub mod outbox;
pub mod pause;
pub mod queues;
pub mod scope;
pub mod sessions;

pub use artifacts::Artifacts;
pub use binding::Bindings;
pub use deletion::Deletion;
pub use flows::Flow;
pub use listing::Listing;
pub use names::{Kind, Tenant};
pub use outbox::Outbox;
pub use pause::Pause;
pub use queues::Queue;
pub use scope::{SessionScope, UserScope};
pub use sessions::Sessions;
