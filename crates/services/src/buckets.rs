//! Places of a test's own in the buckets of the servers that a whole run shares.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{azurite, gcs, moto, url};

/// The URL of a store in S3, that nobody else has.
pub fn s3() -> String {
    let options = "access_key_id=test&secret_access_key=test&region=us-east-1";
    format!("s3://{}/{}?endpoint={}&{options}", moto::BUCKET, prefix(), url("s3"))
}

/// The URL of a store in Google Cloud Storage, that nobody else has.
pub fn gcs() -> String {
    format!("gs://{}/{}?endpoint={}&bearer_token={}", gcs::BUCKET, prefix(), url("gcs"), gcs::TOKEN)
}

/// The URL of a store in Azure Blob Storage, that nobody else has.
pub fn azure() -> String {
    let key: String = azurite::KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let options = format!("account_name={}&access_key={key}", azurite::ACCOUNT);
    format!("az://{}/{}?endpoint={}&{options}", azurite::CONTAINER, prefix(), url("azure"))
}

/// Of this test, this process and this moment: the server may have been there for longer.
#[expect(clippy::disallowed_methods, reason = "a name for a place, which no test reads")]
pub(crate) fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_micros());
    format!("test-{moment}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
