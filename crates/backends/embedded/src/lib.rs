//! Backends without a server: [`Memory`], and files.

pub mod memory;

pub use memory::Memory;

use icecore_log::{Error, ErrorKind, LogId, Run, Version};
use std::collections::HashSet;

/// What is wrong with each run before anything is done, a log's second run included.
pub(crate) fn validate(runs: &[Run], commit_bytes_max: usize) -> Vec<Option<Error>> {
    let mut seen = HashSet::with_capacity(runs.len());
    let check = |run: &Run| {
        if !seen.insert(run.log.clone()) {
            let twice = Error::new(ErrorKind::Invalid, "creating a commit").with("log", &run.log);
            return Some(twice.advise("A log has one run in a call"));
        }
        run.validate(commit_bytes_max).err()
    };
    runs.iter().map(check).collect()
}

pub(crate) fn head_stays(log: &LogId, through: Version) -> Error {
    Error::new(ErrorKind::Refused, "closing a log")
        .with("log", log)
        .with("through", through)
        .advise("The head is never closed: append something, or close a lower version")
}
