//! The contract on each kind of bucket, and this backend's own promises.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use icecore_log::{Access, Backend, Durability, Result};
use icecore_object::{Directory, Objects, Settings};
use tempfile::TempDir;

mod closing;
mod costs;
mod damage;
mod dropping;
mod faults;
mod grace;
mod hostile;
mod opening;
mod support;

mod directory {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<TempDir> {
        let write = |folder: &TempDir| in_directory(folder, |_| {});
        Place::open(tempfile::tempdir().unwrap(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

/// Everything that is closed may be deleted at once, and every writer looks each time.
mod directory_without_grace {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<TempDir> {
        let write = |folder: &TempDir| in_directory(folder, |settings| settings.grace = Duration::ZERO);
        Place::open(tempfile::tempdir().unwrap(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

#[cfg(feature = "cloud")]
mod cloud;

fn in_directory(folder: &TempDir, set: fn(&mut Settings)) -> BoxFuture<'static, Result<Arc<dyn Backend>>> {
    let bucket = Arc::new(Directory::new(folder.path()).unwrap());
    let mut settings = Settings::new("directory", Durability::Disk);
    set(&mut settings);
    async move { Ok(Arc::new(Objects::open(bucket, Access::ReadWrite, settings).await?) as Arc<dyn Backend>) }
        .boxed()
}
