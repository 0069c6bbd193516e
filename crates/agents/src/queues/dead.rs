//! Messages that failed too often; what is deleted for good; how many there are.

use bytes::Bytes;
use icecore_log::{ErrorKind, Result, Timestamp};

use super::record::{self, DEAD, DELAYED, Entry, LEASED, Place, READY, Status, Work};
use super::{MESSAGES_MAX, Queue, check_count};
use crate::scope;

/// A message that was given out as often as it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: u64,
    /// How often it was given out.
    pub attempts: u32,
    /// Why it failed the last time.
    pub reason: String,
    /// When it came.
    pub put_at: Timestamp,
    /// When that was seen.
    pub died_at: Timestamp,
    /// What it says, as JSON text.
    pub payload: Bytes,
}

/// What is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Dead letters.
    Dead,
    /// What waits to be given out: ready or delayed.
    Waiting,
    /// Everything, also what is leased.
    All,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many messages.
    pub messages: u64,
    /// How many bytes their documents have.
    pub bytes: u64,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// That can be given out now.
    pub ready: u64,
    /// That can be later.
    pub delayed: u64,
    /// That workers have.
    pub leased: u64,
    /// That failed too often.
    pub dead: u64,
    /// When the first came of those that are not dead.
    pub oldest_at: Option<Timestamp>,
}

impl Purge {
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Dead => &[DEAD],
            Self::Waiting => &[READY, DELAYED],
            Self::All => &[READY, DELAYED, LEASED, DEAD],
        }
    }
}

impl Queue {
    /// How many messages there are now. It looks at each that is not done, in memory.
    ///
    /// # Errors
    /// As [`Log::state`](icecore_store::Log::state).
    pub async fn statistics(&self) -> Result<Statistics> {
        let state = self.log.state().await?;
        let work = Work::new(&state, self.now_ms())?;
        let mut counts = Statistics::default();
        let mut oldest: Option<u64> = None;
        for prefix in [READY, DELAYED, LEASED, DEAD] {
            for entry in work.entries(prefix, None) {
                let entry = entry?;
                let is_due =
                    || work.status_of(&entry).map(|it| (it.at_ms <= Some(work.now_ms), it.is_worn_out()));
                let (count, is_dead) = match prefix {
                    READY => (&mut counts.ready, false),
                    DEAD => (&mut counts.dead, true),
                    _ => match (is_due()?, prefix) {
                        ((true, true), _) => (&mut counts.dead, true),
                        ((true, false), _) => (&mut counts.ready, false),
                        (_, DELAYED) => (&mut counts.delayed, false),
                        _ => (&mut counts.leased, false),
                    },
                };
                *count += 1;
                if !is_dead {
                    oldest = Some(oldest.map_or(entry.number, |oldest| oldest.min(entry.number)));
                }
            }
        }
        counts.oldest_at = oldest.map(|number| work.stored(number)).transpose()?.map(|stored| stored.at());
        Ok(counts)
    }

    /// Dead letters in the order in which they came, behind a number; at most so many.
    ///
    /// # Errors
    /// As [`Log::state`](icecore_store::Log::state). One whose last lease ran out is dead from the next lease on.
    pub async fn dead(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>> {
        let state = self.log.state().await?;
        let work = Work::new(&state, self.now_ms())?;
        let after = after.map(|number| format!("{DEAD}{number:020}"));
        let letter = |entry: Result<Entry>| {
            let entry = entry?;
            let (status, stored) = (work.status_of(&entry)?, work.stored(entry.number)?);
            Ok(DeadLetter {
                id: stored.id.clone(),
                number: entry.number,
                attempts: status.attempts,
                reason: status.reason.unwrap_or_default(),
                put_at: stored.at(),
                died_at: Timestamp::of_millis(status.at_ms.unwrap_or(0)),
                payload: stored.payload(),
            })
        };
        work.entries(DEAD, after.as_deref()).take(limit).map(letter).collect()
    }

    /// Makes dead letters ready, at their old places, as if they had never been given out; how many.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there are none or more than [`MESSAGES_MAX`]; [`ErrorKind::NotFound`] if one of them is no dead letter: then
    /// none is made ready. Else as [`Log::transact`](icecore_store::Log::transact).
    pub async fn replay(&self, ids: &[&str]) -> Result<u64> {
        check_count("replaying dead letters", ids.len())?;
        let mut keys: Vec<_> = ids.iter().map(|id| (record::key(id), *id)).collect();
        keys.sort();
        keys.dedup();
        self.work(|work| {
            for (key, id) in &keys {
                let status = work.status(key)?.filter(|status| status.place == Place::Dead);
                let none = || {
                    let error = self.error(ErrorKind::NotFound, "replaying dead letters");
                    error.with("id", scope::told(id)).advise("There is no dead letter of this id")
                };
                revive(work, key, &status.ok_or_else(none)?)?;
            }
            Ok(keys.len() as u64)
        })
        .await
    }

    /// The same, of all that are dead now; how many.
    ///
    /// # Errors
    /// As [`Log::transact`](icecore_store::Log::transact); those before stay ready.
    pub async fn replay_all(&self) -> Result<u64> {
        let (mut count, mut last) = (0, None::<String>);
        loop {
            let (found, end) = self
                .work(|work| {
                    let found = work.entries(DEAD, last.as_deref()).take(MESSAGES_MAX);
                    let found: Vec<_> = found.collect::<Result<_>>()?;
                    for entry in &found {
                        let status = work.status_of(entry)?;
                        revive(work, &entry.id, &status)?;
                    }
                    Ok((found.len() as u64, found.into_iter().next_back().map(|entry| entry.key)))
                })
                .await?;
            count += found;
            if end.is_none() {
                return Ok(count);
            }
            last = end;
        }
    }

    /// Deletes messages for good, of those that are there now; with `dry_run` only says which. Their ids are forgotten too.
    ///
    /// # Errors
    /// As [`Log::transact`](icecore_store::Log::transact); what was deleted before stays so.
    pub async fn purge(&self, what: Purge, dry_run: bool) -> Result<Purged> {
        let state = self.log.state().await?;
        // What comes meanwhile stays.
        let work = Work::new(&state, self.now_ms())?;
        let next = work.head.next;
        if dry_run {
            let mut purged = Purged::default();
            for prefix in what.prefixes() {
                for entry in work.entries(prefix, None) {
                    purged.count(&work, &entry?);
                }
            }
            return Ok(purged);
        }
        drop(state);
        let mut purged = Purged::default();
        for prefix in what.prefixes() {
            loop {
                let one = self.work(|work| purge(work, prefix, next)).await?;
                purged = Purged { messages: purged.messages + one.messages, bytes: purged.bytes + one.bytes };
                if one.messages < MESSAGES_MAX as u64 {
                    break;
                }
            }
        }
        Ok(purged)
    }
}

impl Purged {
    fn count(&mut self, work: &Work<'_>, entry: &Entry) {
        self.messages += 1;
        self.bytes += work.stored_bytes(entry.number);
    }
}

fn purge(work: &mut Work<'_>, prefix: &'static str, next: u64) -> Result<Purged> {
    let mut purged = Purged::default();
    let there = work.entries(prefix, None).filter(|entry| entry.as_ref().map_or(true, |it| it.number < next));
    let there: Vec<_> = there.take(MESSAGES_MAX).collect::<Result<_>>()?;
    for entry in there {
        purged.count(work, &entry);
        work.remove(&entry);
    }
    Ok(purged)
}

fn revive(work: &mut Work<'_>, id: &str, status: &Status) -> Result<()> {
    let ready = Status { place: Place::Ready, at_ms: None, attempts: 0, reason: None, ..status.clone() };
    work.shift(id, status, &ready)
}
