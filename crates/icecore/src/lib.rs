//! Icecore: the crate that users depend on. [`open`] a store by its URL, and append, read, tail, verify and copy logs.
//!
//! ```
//! use icecore::{Event, LogId, Range};
//!
//! # #[tokio::main]
//! # async fn main() -> icecore::Result<()> {
//! let store = icecore::open("memory:").await?;
//! let log = store.log(LogId::new("acme", "session", "s-42")?);
//!
//! let receipt = log.append(Event::new("greeted", r#"{"who":"Ada"}"#)).await?;
//! assert_eq!(receipt.version.0, 1);
//!
//! let page = log.read(Range::default()).next_page().await?;
//! let event = page.into_iter().flat_map(|commit| commit.into_events()).next();
//! assert_eq!(event.map(|event| event.event.kind), Some("greeted".to_owned()));
//! # Ok(())
//! # }
//! ```
//!
//! A process that runs long on a Linux with glibc before 2.38, such as Debian 12, is best given an allocator of its own, such as mimalloc:
//! glibc's takes up to four times the memory (decision 0029 of the repository).

mod open;
mod url;

pub use icecore_agents as agents;
pub use icecore_layers::{Meters, Operation, metrics, retry};
pub use icecore_log::{
    self as log, Backend, Capabilities, Clock, Durability, Entropy, Entry, EntryId, Error, ErrorKind, Event,
    Hash, LogId, LogPrefix, Result, Timestamp, Version,
};
pub use icecore_store::{
    self as store, Append, Expect, Log, Range, Reader, Receipt, RecordedCommit, RecordedEvent, Resolved,
    Settings, Store, Tail, Tailed,
    copy::copy,
    retention,
    size::{LogGrowth, LogSize},
    state::{
        self, At, Changes, Condition, Consistency, Document, DocumentPage, Expiry, Json, Merge, Reducers,
        State, States, Token,
    },
};
pub use open::{Access, Open, open};
pub use url::redact;

/// What the README shows works.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// What the page on documents shows works.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/state.md")]
struct Documents;

/// What the page on sessions shows works.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/sessions.md")]
struct SessionsPage;

/// What the page on queues shows works.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/queues.md")]
struct QueuesPage;

/// What the page on metrics shows works.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/metrics.md")]
struct Numbers;
