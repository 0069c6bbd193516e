//! A value that waits under a token, until exactly one caller takes it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::{EntryId, Error, ErrorKind, Result, Timestamp, Version};
use icecore_store::state::{Changes, Condition, Json};
use icecore_store::{Log, Resolved};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

/// The document that holds it.
const KEY: &str = "pause";
/// Pauses between looks at what became of a taking.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// For how long somebody looks, before the value is left to time.
const LOOKS: u32 = 1_500;

/// One token's value. Made by [`Pause::new`].
#[derive(Debug, Clone)]
pub struct Pause {
    log: Log,
}

/// As it is stored.
#[derive(Deserialize)]
struct Waiting<'a> {
    /// Milliseconds since 1970.
    expires_at_ms: Option<i64>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What saves a value in a log of its own, whatever there was: see [`Pause::save`].
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is nested too deep.
pub fn saving(payload: &Json, ttl: Option<Duration>, now: Timestamp) -> Result<Changes> {
    let later =
        |ttl: Duration| now.millis().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    let mut text = Vec::with_capacity(payload.bytes().len() + 64);
    text.extend_from_slice(br#"{"expires_at_ms":"#);
    text.extend_from_slice(ttl.map_or_else(|| "null".to_owned(), |ttl| later(ttl).to_string()).as_bytes());
    text.extend_from_slice(br#","payload":"#);
    text.extend_from_slice(payload.bytes());
    text.push(b'}');
    Ok(Changes::new().put(KEY, Json::text(text)?))
}

impl Pause {
    /// In a log of its own.
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    /// Saves a value, whatever there was; it can be taken for so long.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn save(&self, payload: Json, ttl: Option<Duration>) -> Result<()> {
        self.log.commit(saving(&payload, ttl, self.log.store().now())?).await.map(|_| ())
    }

    /// Takes the value: of all that try, one gets it, and from then on there is none.
    ///
    /// Who does not wait for the answer, or [drops](Taken) it, has not taken it: it is put back.
    ///
    /// # Errors
    /// As [`Log::transact`]. The value is then still there, or is put back.
    pub async fn take(&self) -> Result<Option<Taken>> {
        loop {
            let Some(document) = self.log.document(KEY).await? else { return Ok(None) };
            let waiting: Waiting<'_> =
                serde_json::from_slice(&document.json).map_err(|_| self.unreadable())?;
            if waiting.expires_at_ms.is_some_and(|ms| ms <= self.now_ms()) {
                return Ok(None);
            }
            let payload = Bytes::copy_from_slice(waiting.payload.get().as_bytes());
            let left = Some((self.clone(), Json::text(document.json.clone())?));
            let taken = Taken { payload, left, at: None };
            let (this, version) = (self.clone(), document.version);
            // Nothing is half done if the caller does not wait: what the task then gives is dropped, and so put back. It is of this
            // version: a taker that nobody waits for any more takes nothing that was saved since.
            let taking = tokio::spawn(async move { this.take_at(version, taken).await });
            match taking.await {
                Ok(Err(error)) if error.kind() == ErrorKind::Conflict => {}
                Ok(done) => return done.map(Some),
                Err(error) => {
                    return Err(Error::new(ErrorKind::Unavailable, "taking a value").because(error));
                }
            }
        }
    }

    /// Takes the value if it is still the one of this version; if not, it is a conflict.
    async fn take_at(&self, version: Version, mut taken: Taken) -> Result<Taken> {
        let id = self.log.store().random_id();
        let at = Condition::Document { key: KEY.to_owned(), version };
        let changes = Changes::new().delete(KEY).only_if(at).with_id(id.clone());
        match self.log.commit(changes).await {
            Ok(receipt) => {
                taken.at = receipt.map(|receipt| receipt.version);
                Ok(taken)
            }
            Err(error) if error.kind() == ErrorKind::Unknown => {
                let this = self.clone();
                tokio::spawn(async move { this.put_back_if_taken(&id, taken).await });
                Err(error)
            }
            Err(error) => {
                taken.forget();
                Err(error)
            }
        }
    }

    /// Nobody was told that it was taken; so if it was, it is put back.
    async fn put_back_if_taken(&self, id: &EntryId, taken: Taken) {
        for _ in 0..LOOKS {
            match self.log.resolve(id).await {
                Ok(Resolved::NotCommitted) => return taken.forget(),
                Ok(_) => return drop(taken),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        taken.forget();
    }

    /// Forgets a value that nobody needs any more; whether there was one that nobody else took or forgot.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn discard(&self) -> Result<bool> {
        loop {
            let Some(document) = self.log.document(KEY).await? else { return Ok(false) };
            let at = Condition::Document { key: KEY.to_owned(), version: document.version };
            match self.log.commit(Changes::new().delete(KEY).only_if(at)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => return done.map(|_| true),
            }
        }
    }

    fn unreadable(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "taking a value")
            .with("log", self.log.id())
            .advise("The document holds something else than a value that waits")
    }

    fn now_ms(&self) -> i64 {
        self.log.store().now().millis()
    }
}

/// A value that was taken. [`Taken::keep`] it: if it is dropped, it is put back, for it never reached whoever wanted it.
pub struct Taken {
    payload: Bytes,
    left: Option<(Pause, Json)>,
    /// The commit that took it, if it is known.
    at: Option<Version>,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").field("bytes", &self.payload.len()).finish_non_exhaustive()
    }
}

impl Taken {
    /// The value, as JSON text. It is not kept yet.
    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// The value, as JSON text.
    pub fn keep(mut self) -> Bytes {
        self.left = None;
        std::mem::take(&mut self.payload)
    }

    /// It was not taken after all.
    fn forget(mut self) {
        self.left = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Without a runtime the process is ending: as if it had died with the value in its hands.
        if let (Some((pause, json)), Ok(runtime)) = (self.left.take(), Handle::try_current()) {
            let back = Changes::new().put(KEY, json).only_if(Condition::Absent(KEY.to_owned()));
            // One that was saved since counts, also if it was taken since.
            let mut changes = match self.at {
                Some(version) => back.clone().only_if(Condition::Log(version)),
                None => back.clone(),
            };
            runtime.spawn(async move {
                for _ in 0..LOOKS {
                    match pause.log.commit(changes).await {
                        Err(error) if error.kind() != ErrorKind::Conflict => {
                            tokio::time::sleep(LOOK_AGAIN).await;
                            // What settles an unknown outcome is a commit too, and it must not be lost for that.
                            changes = back.clone();
                        }
                        _ => return,
                    }
                }
            });
        }
    }
}
