//! The contract, and this backend's own promises.

mod damage;
mod opening;

mod conformance {
    use std::path::Path;
    use std::sync::Arc;

    use icecore_conformance::Place;
    use icecore_log::{Backend, Result};
    use tempfile::TempDir;

    use crate::sqlite::{Access, Settings, SqliteStore};

    fn handle(directory: &Path) -> Result<Arc<dyn Backend>> {
        let path = directory.join("store.db");
        Ok(Arc::new(SqliteStore::open(&path, Access::ReadWrite, Settings::default())?))
    }

    async fn open() -> Place<TempDir> {
        let write = |directory: &TempDir| std::future::ready(handle(directory.path()));
        Place::open(tempfile::tempdir().unwrap(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

use std::path::Path;

use icecore_conformance::commits;
use icecore_log::Run;

use super::{Access, Settings, SqliteStore};

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Access::ReadWrite, Settings::default()).unwrap()
}

/// The commits `1..=last` of a log.
fn run(key: &str, last: u64) -> Run {
    commits::run(&commits::log(key), 1..=last, 0)
}
