//! The models that `crates/store` compares itself with on memory, on every system: generated sequences over two stores, each answer the model's; and where the
//! system has them, transactions over several logs.
//!
//! The seed is printed; `ICECORE_SEED` runs it again, `ICECORE_LONG=1` runs fifty times as many.
#![cfg(all(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "object",
    feature = "redis",
    feature = "dynamodb"
))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "../../store/tests/state_model/across.rs"]
mod across;
#[path = "../../store/tests/state_model/model/mod.rs"]
mod model;
#[path = "../../store/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use icecore::Backend;
use icecore_services::{
    self as services, buckets, dynamodb::Table, mariadb, mongodb, postgres::Database, redis::Prefix,
};
use model::{generated, rounds};

const SEQUENCES: usize = 16;

async fn backend(url: &str) -> Arc<dyn Backend> {
    Arc::clone(icecore::open(url).await.unwrap().backend())
}

/// Each sequence in a place of its own, which goes with what `place` makes beside its URL.
async fn on_each<P>(place: impl Fn() -> (String, P)) {
    let place = async || {
        let (url, goes_with_it) = place();
        (backend(&url).await, goes_with_it)
    };
    generated(rounds(SEQUENCES), false, &place).await;
    let (backend, _goes_with_it) = place().await;
    if backend.capabilities().atomic_create {
        across::generated(rounds(SEQUENCES), false, place).await;
    }
}

fn new_at<P>(place: P, url: impl FnOnce(&P) -> String) -> (String, P) {
    (url(&place), place)
}

fn folder(scheme: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (format!("{scheme}:{}", folder.path().join("store").display()), folder)
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_file() {
    on_each(|| folder("file")).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_sqlite() {
    on_each(|| folder("sqlite")).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_postgres() {
    let new = || Database::create(&services::url("postgres")).unwrap();
    on_each(|| new_at(new(), Database::url)).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_mysql() {
    let new = || mariadb::Database::create(&services::url("mariadb")).unwrap();
    on_each(|| new_at(new(), mariadb::Database::url)).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_redis() {
    on_each(|| new_at(Prefix::new(&services::url("redis")), Prefix::url)).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_mongodb() {
    let new = || mongodb::Database::new(&services::url("mongodb"));
    on_each(|| new_at(new(), mongodb::Database::url)).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_dynamodb() {
    on_each(|| new_at(Table::new(), Table::url)).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_s3() {
    on_each(|| (buckets::s3(), ())).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_gcs() {
    on_each(|| (buckets::gcs(), ())).await;
}

#[tokio::test]
async fn generated_sequences_answer_as_the_model_does_on_azure() {
    on_each(|| (buckets::azure(), ())).await;
}
