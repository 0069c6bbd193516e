//! What of a log may go, what must stay, and who sees to it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`hold`] | [`Hold`]: a reason why history stays, and how a trim and a new hold keep out of each other's way |
//! | `plan` | [`Keep`]: what is kept of a log, and how far that lets it be trimmed |
//! | [`trim`] | making a log shorter, behind a base |
//! | `due` | what has expired: how it is found, and removed |
//! | `end` | the seal: the only end of a log |
//! | `policy` | [`Policy`]: what is kept without anybody asking |
//! | `maintain` | one leased task a store that applies them, and finishes what others left |
//! | `running` | the readers of this process that are on their way |
//!
//! What all processes must agree on is in the documents of one log, `_/icecore/retention`. `docs/formats/retention.md` specifies them.

pub(crate) mod due;
mod end;
pub mod hold;
mod maintain;
mod plan;
mod policy;
pub(crate) mod running;
pub mod trim;

use icecore_log::{LogId, Result};

use crate::{Log, Store};

pub use end::Deleted;
pub(crate) use end::{deleted, is_deleted};
pub use hold::{Hold, On};
pub use maintain::{Maintained, Maintenance, Pace};
pub use plan::Keep;
pub use policy::{Applied, Policy};
pub use trim::{Trim, Trimmed};

/// The tenant of what is Icecore's own.
const SYSTEM: &str = "_";

/// Whether it is a log of Icecore's own.
pub(crate) fn is_own(log: &LogId) -> bool {
    log.tenant() == SYSTEM
}

/// What all processes that use a store agree on: what is held, and what is kept. Made by [`Store::retention`].
#[derive(Debug, Clone)]
pub struct Retention {
    log: Log,
}

impl Store {
    /// What is held in this store, and what is kept of its logs.
    ///
    /// # Errors
    /// None that can be met: the name of its log is one.
    pub fn retention(&self) -> Result<Retention> {
        Ok(Retention { log: self.log(LogId::new(SYSTEM, "icecore", "retention")?) })
    }
}
