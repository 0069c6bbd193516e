//! Messages that come, each once.

use std::collections::HashMap;

use icecore_log::{Error, ErrorKind, Hash, Result, Timestamp};

use super::record::{Place, Status, Work, key};
use super::{Message, Put, Queue, check_count};
use crate::scope;

const DOING: &str = "putting a message";

impl Queue {
    /// Puts messages, all of them or none, in this order. One whose id is there, or was until [a day ago](super::REMEMBERED), is not put again.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there are none or more than [`MESSAGES_MAX`](super::MESSAGES_MAX), an id is empty or longer than
    /// [`ID_BYTES_MAX`](scope::ID_BYTES_MAX), a message may not be given out at all, or all together are larger than an entry may be;
    /// [`ErrorKind::Conflict`] if one is there that says something else; else as [`Log::transact`](icecore_store::Log::transact).
    pub async fn put(&self, messages: &[Message]) -> Result<Vec<Put>> {
        check_count(DOING, messages.len())?;
        for message in messages {
            scope::check(DOING, &message.id, "Say which message: its id is not empty")?;
            if message.attempts_max == Some(0) {
                return Err(Error::new(ErrorKind::Invalid, DOING)
                    .with("attempts_max", 0)
                    .advise("A message is given out at least once"));
            }
        }
        let hashes: Vec<_> = messages.iter().map(|one| Hash::of(one.payload.bytes()).to_string()).collect();
        self.work(|work| {
            // Before they are put: one of them may have an id that is forgotten now.
            work.forget(messages.len())?;
            let mut new = HashMap::new();
            let each = messages.iter().zip(&hashes);
            let put = each.map(|(message, hash)| self.put_one(work, message, hash, &mut new));
            put.collect()
        })
        .await
    }

    /// `new` are those of the same call.
    fn put_one(
        &self,
        work: &mut Work<'_>,
        message: &Message,
        hash: &str,
        new: &mut HashMap<String, Status>,
    ) -> Result<Put> {
        let key = key(&message.id);
        let before = match new.get(&key) {
            Some(status) => Some(status.clone()),
            None => work.clear(&key)?,
        };
        if let Some(before) = before {
            if before.sha256 != *hash {
                return Err(self
                    .error(ErrorKind::Conflict, DOING)
                    .with("id", scope::told(&message.id))
                    .with("found", before.number)
                    .advise("A message of this id says something else: give this one another id"));
            }
            return Ok(Put { number: before.number, repeated: true });
        }
        let is_delayed = !message.delay.is_zero();
        let status = Status {
            number: work.head.next,
            place: if is_delayed { Place::Delayed } else { Place::Ready },
            at_ms: is_delayed.then(|| Timestamp::of_millis(work.now_ms).after(message.delay).millis()),
            fence: None,
            attempts: 0,
            attempts_max: message.attempts_max,
            sha256: hash.to_owned(),
            reason: None,
        };
        work.head.next += 1;
        work.add(&message.id, &key, &message.payload, &status)?;
        new.insert(key, status.clone());
        Ok(Put { number: status.number, repeated: false })
    }
}
