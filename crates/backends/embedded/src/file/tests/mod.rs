//! The contract, and this backend's own promises: what a loss of power, a failing disk, a full one, a flipped bit and a reader in
//! another process may do to it. `ICECORE_SEED=7` runs one seed, `ICECORE_LONG=1` many more.

mod alone;
mod chance;
mod damage;
mod disk;
mod faults;
mod machine;
mod power;
mod reader;
mod session;
mod story;

mod conformance {
    use std::path::Path;
    use std::sync::Arc;

    use icecore_conformance::Place;
    use icecore_log::{Backend, Result};
    use tempfile::TempDir;

    use crate::file::{Access, FileStore, Settings};

    fn handle(directory: &Path, access: Access) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(FileStore::open(directory, access, Settings::default())?))
    }

    async fn open() -> Place<TempDir> {
        let directory = tempfile::tempdir().unwrap();
        let write = |directory: &TempDir| std::future::ready(handle(directory.path(), Access::ReadWrite));
        let read = |directory: &TempDir| std::future::ready(handle(directory.path(), Access::ReadOnly));
        Place::open(directory, write).await.with_others(read)
    }

    icecore_conformance::conformance_tests!(open);
}
