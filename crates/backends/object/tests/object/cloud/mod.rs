//! The three systems, each on the server that stands for it.

use std::sync::Arc;

use icecore_log::{Access, Backend, Result};
use icecore_object::cloud;
use icecore_services::buckets;

mod facts;
mod faults;

mod s3 {
    use super::*;

    async fn open() -> icecore_conformance::Place<String> {
        place(buckets::s3()).await
    }

    icecore_conformance::conformance_tests!(open);
}

mod google {
    use super::*;

    async fn open() -> icecore_conformance::Place<String> {
        place(buckets::gcs()).await
    }

    icecore_conformance::conformance_tests!(open);
}

mod azure {
    use super::*;

    async fn open() -> icecore_conformance::Place<String> {
        place(buckets::azure()).await
    }

    icecore_conformance::conformance_tests!(open);
}

async fn place(url: String) -> icecore_conformance::Place<String> {
    let write = |url: &String| open_at(url.clone());
    icecore_conformance::Place::open(url, write).await.with_others(write)
}

async fn open_at(url: String) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(cloud::open(&url, Access::ReadWrite).await?))
}
