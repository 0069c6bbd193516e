//! Backends around backends: one file, one behaviour, no knowledge of what it wraps.

pub mod fault;

pub use fault::{Fate, Fault};
