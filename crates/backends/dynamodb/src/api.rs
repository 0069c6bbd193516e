//! Requests: signed, sent, and sent again as they are until they are answered or the time is up.
//!
//! Whatever may have been carried out may be sent again, as it is written so that doing it twice is doing it once. So one rule serves all
//! requests, and an answer says whether an earlier try of the same may have been carried out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icecore_log::{Error, Result, SystemEntropy, Timestamp, clock};
use object_store::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::fault::Fault;

/// How long after a request that was not answered it is sent again, at first and at the most.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// The way to the service.
pub(crate) struct Api {
    pub client: HttpClient,
    pub credentials: AwsCredentialProvider,
    pub region: String,
    /// With its scheme, and a slash at its end.
    pub endpoint: String,
    /// How long one try may take.
    pub request_timeout: Duration,
    /// As many requests as may be under way.
    pub room: Semaphore,
    pub counts: Counts,
}

/// Who signs, and with what, is not shown.
impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What this handle asked for, since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub requests: AtomicU64,
    pub again: AtomicU64,
    pub throttled: AtomicU64,
}

/// An answer, and the service's time when it was given.
#[derive(Debug)]
pub(crate) struct Answer {
    pub value: Value,
    pub at: Option<Timestamp>,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The answer; or what stopped the last try.
    pub answer: Result<Answer, Fault>,
    /// Whether an earlier try may have been carried out, or be so yet.
    pub in_doubt: bool,
}

impl Sent {
    /// The answer of a request that writes.
    pub fn written(self, doing: &'static str) -> Result<Answer> {
        self.answer.map_err(|fault| fault.writing(doing, self.in_doubt))
    }
}

impl Api {
    /// The answer of a request that only reads.
    pub async fn read(
        &self,
        action: &str,
        request: &Value,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Answer> {
        self.send(action, request, deadline).await.answer.map_err(|fault| fault.reading(doing))
    }

    /// The answer of a request that writes, and may be carried out twice.
    pub async fn write(
        &self,
        action: &str,
        request: &Value,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Answer> {
        self.send(action, request, deadline).await.written(doing)
    }

    pub async fn send(&self, action: &str, request: &Value, deadline: Instant) -> Sent {
        let body = Bytes::from(request.to_string());
        let (mut pause, mut in_doubt) = (PAUSE_FIRST, false);
        loop {
            let answer = self.attempt(action, &body, deadline).await;
            let is_throttled = matches!(answer, Err(Fault::Again(_, true)));
            self.counts.throttled.fetch_add(is_throttled.into(), Ordering::Relaxed);
            let next = jittered(pause);
            let is_over = Instant::now() + next >= deadline;
            if is_over || !matches!(answer, Err(Fault::Again(..) | Fault::Doubt(_))) {
                return Sent { answer, in_doubt };
            }
            in_doubt |= matches!(answer, Err(Fault::Doubt(_)));
            self.counts.again.fetch_add(1, Ordering::Relaxed);
            sleep(next).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    async fn attempt(&self, action: &str, body: &Bytes, deadline: Instant) -> Result<Answer, Fault> {
        // Nothing was sent of what finds no room: the time is up, and the last try says why.
        let Ok(Ok(_room)) = timeout_at(deadline, self.room.acquire()).await else {
            return Err(Fault::busy());
        };
        let until = deadline.min(Instant::now() + self.request_timeout);
        let Ok(Ok(credential)) = timeout_at(until, self.credentials.get_credential()).await else {
            return Err(Fault::credentials());
        };
        let request = self.request(action, body).and_then(|mut request| {
            let signer = AwsAuthorizer::new(&credential, "dynamodb", &self.region);
            signer.try_authorize(&mut request, None).ok()?;
            Some(request)
        });
        let request = request.ok_or_else(Fault::credentials)?;
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let left = until.saturating_duration_since(Instant::now());
        timeout(left, self.exchange(request)).await.unwrap_or_else(|_| Err(Fault::late()))
    }

    fn request(&self, action: &str, body: &Bytes) -> Option<HttpRequest> {
        let mut request = HttpRequest::new(HttpRequestBody::from(body.clone()));
        *request.method_mut() = "POST".parse().ok()?;
        *request.uri_mut() = self.endpoint.parse().ok()?;
        let target = HeaderValue::from_str(&format!("DynamoDB_20120810.{action}")).ok()?;
        request.headers_mut().insert("x-amz-target", target);
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
        Some(request)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<Answer, Fault> {
        let response = self.client.execute(request).await.map_err(|error| Fault::http(&error))?;
        let (parts, body) = response.into_parts();
        let bytes = body.bytes().await.map_err(|error| Fault::http(&error))?;
        let at = parts.headers.get("date").and_then(|date| time(date.to_str().ok()?));
        match serde_json::from_slice(&bytes) {
            Ok(value) if parts.status.is_success() => Ok(Answer { value, at }),
            Ok(value) => Err(Fault::of(parts.status.as_u16(), &value)),
            Err(_) if parts.status.is_server_error() => Err(Fault::of(parts.status.as_u16(), &Value::Null)),
            Err(_) => Err(Fault::answer(parts.status.as_u16())),
        }
    }
}

/// Whoever was sent away with others comes back alone.
fn jittered(pause: Duration) -> Duration {
    let [chance] = clock::random(&SystemEntropy);
    pause / 2 + pause / 2 * u32::from(chance) / 255
}

fn time(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp(0).after(Duration::from_secs(u64::try_from(time.as_second()).ok()?)))
}

/// An answer without what it must have.
pub(crate) fn unreadable(doing: &'static str) -> Error {
    Fault::answer(200).reading(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_is_read() {
        let found = time("Thu, 01 Jan 1970 00:01:40 GMT").unwrap();
        assert_eq!(found, Timestamp(100_000_000_000));
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn pauses_are_spread() {
        let pauses: Vec<_> = (0..50).map(|_| jittered(PAUSE_LAST)).collect();
        assert!(pauses.iter().all(|pause| (PAUSE_LAST / 2..=PAUSE_LAST).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
