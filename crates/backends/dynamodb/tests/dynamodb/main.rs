//! DynamoDB: the contract on what stands for it, and this backend's own promises.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod faults;
mod front;
mod grace;
mod opening;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use icecore_dynamodb::{Access, DynamoDb, DynamoStore, Settings};
use icecore_log::{Backend, Result};
use icecore_services::dynamodb::Table;

mod conformance {
    use icecore_conformance::Place;

    use super::*;

    async fn open() -> Place<Table> {
        let write = |table: &Table| open_at(table.url());
        Place::open(Table::new(), write).await.with_others(write)
    }

    icecore_conformance::conformance_tests!(open);
}

/// Everything that is closed may be deleted at once, and every writer looks each time: for the cases that this changes.
mod without_grace {
    use icecore_conformance::{Place, deletion, trimming};

    use super::*;

    async fn open() -> Place<Table> {
        let write = |table: &Table| open_at(format!("{}&grace_s=0", table.url()));
        Place::open(Table::new(), write).await.with_others(write)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_swept_is_gone_and_does_not_come_back() {
        deletion::a_boundary_only_rises(&open().await).await;
        deletion::the_head_is_never_closed(&open().await).await;
        deletion::a_closed_slot_is_never_created_again(&open().await).await;
        deletion::a_stalled_writer_brings_nothing_back(&open().await).await;
        trimming::a_sweep_deletes_what_is_closed_and_nothing_else(&open().await).await;
        trimming::a_read_at_or_below_the_boundary_is_an_empty_page_that_says_so(&open().await).await;
        trimming::a_log_can_begin_behind_a_boundary(&open().await).await;
    }
}

async fn store(url: &str) -> Result<DynamoStore> {
    DynamoDb::open(Settings::parse(url)?, Access::ReadWrite).await
}

fn open_at(url: String) -> BoxFuture<'static, Result<Arc<dyn Backend>>> {
    async move { Ok(Arc::new(store(&url).await?) as Arc<dyn Backend>) }.boxed()
}
