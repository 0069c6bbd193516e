//! Backends around backends: one file, one behaviour, no knowledge of what it wraps.
//!
//! [`Metrics`] around [`Retry`] around a backend is the order in which numbers show what callers see: one call, however often it was tried.

pub mod fault;
pub mod metrics;
mod operation;
pub mod retry;

pub use fault::{Fate, Fault};
pub use metrics::{Meters, Metrics};
pub use operation::Operation;
pub use retry::Retry;
