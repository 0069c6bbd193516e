//! Backends without a server: [`Memory`], and [`FileStore`].

pub mod file;
pub mod memory;

pub use file::FileStore;
pub use memory::Memory;

use icecore_log::{Error, ErrorKind, LogId, Run, Version};
use std::collections::HashMap;

/// What is wrong with each run before anything is done. Where a log has two runs, neither is right: which of them
/// the caller meant to be first is not for a backend to guess.
pub(crate) fn validate(runs: &[Run], commit_bytes_max: usize) -> Vec<Option<Error>> {
    let mut count = HashMap::with_capacity(runs.len());
    for run in runs {
        *count.entry(&run.log).or_insert(0) += 1;
    }
    let check = |run: &Run| {
        if count.get(&run.log).is_some_and(|count| *count > 1) {
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
