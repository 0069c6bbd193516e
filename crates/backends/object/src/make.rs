//! Creating an object whose name may be taken, and finding out who took it: only what is read decides.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::Objects;
use crate::bucket::{Fault, FaultKind, Object};
use crate::slot::SIZE_MAX;

/// What one try came to.
#[derive(Debug)]
pub(crate) enum Tried {
    /// The object is ours, made by this try.
    Made,
    /// There is one: another's, or ours. Whether the answer of this try was lost.
    Found(Object, bool),
    /// The answer was lost, or said that there is one; and there is none to be read yet.
    Undecided,
}

/// Sends one request, and reads what is there if it was not this that made it.
///
/// `in_doubt` is whether a request for this object may still land. It only becomes false again when nothing was sent at all;
/// the caller clears it once it knows.
///
/// # Errors
/// Those after which this request did nothing, if no other is in doubt.
pub(crate) async fn attempt(
    inner: &Objects,
    name: &str,
    bytes: &Bytes,
    in_doubt: &mut bool,
) -> Result<Tried, Fault> {
    // Until there is an answer, whoever gives up waiting knows nothing.
    let was_in_doubt = std::mem::replace(in_doubt, true);
    let created = inner.bucket.create(name, bytes.clone()).await;
    let is_lost = created.is_err();
    match created {
        Ok(true) => return Ok(Tried::Made),
        Err(fault) if fault.kind != FaultKind::Lost && !was_in_doubt => {
            *in_doubt = false;
            return Err(fault);
        }
        // "There is one" may be said of a request that is still being decided (S3's 409), or of our own.
        Ok(false) | Err(_) => {}
    }
    match inner.bucket.get(name, Some(0..SIZE_MAX)).await {
        Ok(Some(object)) => Ok(Tried::Found(object, is_lost)),
        Ok(None) | Err(_) => Ok(Tried::Undecided),
    }
}

/// Pauses between two tries: doubled from the first to the last.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(20);
pub(crate) const PAUSE_LAST: Duration = Duration::from_secs(1);

/// Creates an object, and goes on until it is there; `false` if there was another. What was in doubt and has our bytes is ours.
///
/// # Errors
/// As [`attempt`]. It ends by being dropped, too: its caller has a deadline.
pub(crate) async fn make(inner: &Objects, name: &str, bytes: Bytes) -> Result<bool, Fault> {
    let (mut in_doubt, mut is_lost, mut pause) = (false, false, PAUSE_FIRST);
    loop {
        match attempt(inner, name, &bytes, &mut in_doubt).await? {
            Tried::Made => return Ok(true),
            Tried::Found(object, lost) => return Ok((is_lost || lost) && object.bytes == bytes),
            Tried::Undecided => is_lost = true,
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}
