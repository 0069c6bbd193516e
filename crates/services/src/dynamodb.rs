//! Tables of a test's own in the server for DynamoDB that a whole run shares, which is moto: see [`crate::moto`].

use crate::http::{Answer, exchange};
use crate::{Result, buckets, url};

/// A table that nobody else has. It is made when a store is opened in it, and deleted at the end: the server keeps everything in memory.
#[derive(Debug)]
pub struct Table {
    server: String,
    name: String,
}

/// Of a key that moto does not look at.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=any";

/// The headers of a request for this, by any client.
pub fn headers(action: &str) -> [(&'static str, String); 4] {
    [
        ("Authorization", AUTHORIZATION.to_owned()),
        // dynoxide wants to see one, and does not compare it with its clock.
        ("X-Amz-Date", "20260101T000000Z".to_owned()),
        ("X-Amz-Target", format!("DynamoDB_20120810.{action}")),
        ("Content-Type", "application/x-amz-json-1.0".to_owned()),
    ]
}

/// Asks the server at this port.
///
/// # Errors
/// If there is no answer.
pub(crate) fn send(port: u16, action: &str, body: &[u8]) -> Result<Answer> {
    let headers = headers(action);
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    exchange(port, "POST", "/", &headers, body)
}

impl Table {
    /// Names one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        Self { server: url("dynamodb"), name: buckets::prefix() }
    }

    /// Where the server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A store's URL.
    pub fn url(&self) -> String {
        let options = "create=true&access_key_id=test&secret_access_key=test&region=us-east-1";
        format!("dynamodb://{}?endpoint={}&{options}", self.name, self.server)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let port = self.server.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
        let body = format!(r#"{{"TableName":"{}"}}"#, self.name);
        if let Some(port) = port {
            // The server may be gone, and its tables with it.
            let _ = send(port, "DeleteTable", body.as_bytes());
        }
    }
}
