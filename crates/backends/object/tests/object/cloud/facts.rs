//! What `icecore doctor` shows of a bucket.

use icecore_log::backend::Depth;
use icecore_log::{Access, Backend};
use icecore_object::cloud;
use icecore_services::{buckets, moto};

async fn fact(url: &str, access: Access, name: &str) -> String {
    let store = cloud::open(url, access).await.unwrap();
    let facts = store.examine(Depth::Quick).await.unwrap().facts;
    facts.into_iter().find(|(fact, _)| fact == name).unwrap().1
}

#[tokio::test]
async fn whether_old_versions_are_kept_is_told() {
    let server = moto::Server::start().unwrap();
    let options = "access_key_id=test&secret_access_key=test&region=us-east-1";
    let url = |prefix: &str| format!("s3://{}/{prefix}?endpoint={}&{options}", moto::BUCKET, server.url());
    let before = fact(&url("before"), Access::ReadWrite, "versioning").await;
    assert!(before.starts_with("off"), "{before}");

    let on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    server.send("PUT", &format!("/{}?versioning", moto::BUCKET), &[], on).unwrap();
    let after = fact(&url("after"), Access::ReadWrite, "versioning").await;
    assert!(after.starts_with("on"), "{after}");
}

#[tokio::test]
async fn what_a_bucket_is_set_to_is_told_or_said_not_to_be_asked() {
    for url in [buckets::s3(), buckets::gcs(), buckets::azure()] {
        assert!(fact(&url, Access::ReadWrite, "conditional_writes").await.starts_with("hold: tried"));
        assert!(fact(&url, Access::ReadOnly, "conditional_writes").await.starts_with("not tried"));
        assert!(fact(&url, Access::ReadOnly, "endpoint").await.starts_with("http://127.0.0.1"));
        assert!(fact(&url, Access::ReadOnly, "lifecycle_rules").await.contains("none may delete"));
    }
    assert!(fact(&buckets::gcs(), Access::ReadWrite, "versioning").await.starts_with("not asked"));
    assert!(fact(&buckets::azure(), Access::ReadWrite, "versioning").await.starts_with("off"));
}
