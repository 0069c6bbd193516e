//! Messages that are given out, and what their workers say of them.

use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result, Timestamp};
use tokio::time::Instant;

use super::record::{self, Entry, Place, READY, Status, Work};
use super::{GivenBack, Leased, MESSAGES_MAX, Queue, REASON_BYTES_MAX, REMEMBERED, check_count};
use crate::scope;

const LEASING: &str = "leasing messages";
const SETTLING: &str = "settling a message";
/// Why a message is dead whose worker said nothing.
const RAN_OUT: &str = "its last lease ran out";
/// How long a wait lasts before it looks for itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who waits for what is due in less than a millisecond waits that long.
const SOON: Duration = Duration::from_millis(1);

impl Queue {
    /// Gives out the first messages that are ready, at most so many; none if none is. For so long nobody else is given them.
    ///
    /// If the outcome is [unknown](ErrorKind::Unknown), messages may have been given out to nobody: they come back when their lease ends.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if none or more than [`MESSAGES_MAX`] are asked for, or for less than a millisecond; else as
    /// [`Log::transact`](icecore_store::Log::transact).
    pub async fn lease(&self, count: usize, length: Duration) -> Result<Vec<Leased>> {
        check_count(LEASING, count)?;
        check_length(LEASING, length)?;
        // All that are due have to be looked at before one is chosen. Each is moved once, by whoever comes first.
        loop {
            if let Some(leased) = self.work(|work| lease(work, count, length)).await? {
                return Ok(leased);
            }
        }
    }

    /// As [`Queue::lease`]; if no message is ready, waits until one is, for at most so long.
    ///
    /// # Errors
    /// As [`Queue::lease`].
    pub async fn lease_or_wait(&self, count: usize, length: Duration, wait: Duration) -> Result<Vec<Leased>> {
        let begun = Instant::now();
        loop {
            let leased = self.lease(count, length).await?;
            let left = wait.saturating_sub(begun.elapsed());
            if !leased.is_empty() || left.is_zero() {
                return Ok(leased);
            }
            self.wait(left).await?;
        }
    }

    /// Waits until something may have become ready, or for so long.
    async fn wait(&self, length: Duration) -> Result<()> {
        let (version, due) = {
            let state = self.log.state().await?;
            let work = Work::new(&state, self.now_ms())?;
            if work.entries(READY, None).next().is_some() {
                return Ok(());
            }
            let first = [record::LEASED, record::DELAYED].into_iter();
            let first = first.filter_map(|prefix| work.entries(prefix, None).next());
            let statuses = first.map(|entry| work.status_of(&entry?)).collect::<Result<Vec<_>>>()?;
            (state.version, statuses.iter().filter_map(|status| status.at_ms).min())
        };
        let now = self.log.store().now();
        let due = due.map(|ms| Timestamp::of_millis(ms).since(now).max(SOON));
        let length = due.map_or(length, |due| due.min(length)).min(LOOK_EVERY);
        self.log.store().backend().wait(&[(self.log.id().clone(), version)], length).await
    }

    /// Says that a message is done: nobody is given it any more. Saying so again is no error.
    ///
    /// A lease that has ended still counts, as long as the message was given to nobody else.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it was given to somebody else, or given back; [`ErrorKind::NotFound`] if there is none, or it was done more
    /// than [a day](REMEMBERED) ago; else as [`Log::transact`](icecore_store::Log::transact).
    pub async fn ack(&self, id: &str, fence: u64) -> Result<()> {
        self.settle(id, fence, |work, key, status| {
            let forgotten = Timestamp::of_millis(work.now_ms).after(REMEMBERED).millis();
            let done = Status { place: Place::Done, at_ms: Some(forgotten), reason: None, ..status.clone() };
            work.finish(key, status, &done)?;
            work.forget(1)
        })
        .await
        .map(drop)
    }

    /// Gives a message back, and says why: it is given out again after so long, or is dead if that was done as often as it may be.
    ///
    /// # Errors
    /// As [`Queue::ack`].
    pub async fn nack(&self, id: &str, fence: u64, delay: Duration, reason: &str) -> Result<GivenBack> {
        let given = self
            .settle(id, fence, |work, key, status| {
                let mut to = Status { reason: Some(shortened(reason)), ..status.clone() };
                let later = Timestamp::of_millis(work.now_ms).after(delay);
                let given = match (status.is_worn_out(), delay.is_zero()) {
                    (true, _) => GivenBack::Dead,
                    (false, true) => GivenBack::Ready,
                    (false, false) => GivenBack::Delayed(Timestamp::of_millis(later.millis())),
                };
                (to.place, to.at_ms) = match given {
                    GivenBack::Dead => (Place::Dead, Some(work.now_ms)),
                    GivenBack::Ready => (Place::Ready, None),
                    GivenBack::Delayed(at) => (Place::Delayed, Some(at.millis())),
                };
                work.shift(key, status, &to)?;
                Ok(given)
            })
            .await?;
        given.ok_or_else(|| self.stale(id, fence, "it is done"))
    }

    /// Keeps a message for so long from now on; until when.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if that is less than a millisecond; else as [`Queue::ack`].
    pub async fn extend(&self, id: &str, fence: u64, length: Duration) -> Result<Timestamp> {
        check_length(SETTLING, length)?;
        let until = self
            .settle(id, fence, |work, key, status| {
                let until = Timestamp::of_millis(work.now_ms).after(length).millis();
                work.shift(key, status, &Status { at_ms: Some(until), ..status.clone() })?;
                Ok(Timestamp::of_millis(until))
            })
            .await?;
        until.ok_or_else(|| self.stale(id, fence, "it is done"))
    }

    /// Does something with a message that is leased under this fence; `None` if it was done under it.
    async fn settle<T>(
        &self,
        id: &str,
        fence: u64,
        mut decide: impl FnMut(&mut Work<'_>, &str, &Status) -> Result<T>,
    ) -> Result<Option<T>> {
        let key = record::key(id);
        self.work(|work| {
            let status = work.status(&key)?.ok_or_else(|| self.missing(id))?;
            match status.place {
                Place::Leased if status.fence == Some(fence) => decide(work, &key, &status).map(Some),
                Place::Done if status.fence == Some(fence) => Ok(None),
                Place::Leased => Err(self.stale(id, fence, "it was leased again")),
                Place::Done => Err(self.stale(id, fence, "another worker has done it")),
                Place::Ready | Place::Delayed | Place::Dead => {
                    Err(self.stale(id, fence, "it was given back, or its lease ran out"))
                }
            }
        })
        .await
    }

    pub(super) fn missing(&self, id: &str) -> Error {
        self.error(ErrorKind::NotFound, SETTLING)
            .with("id", scope::told(id))
            .advise("There is no such message: it was purged, or done long ago")
    }

    fn stale(&self, id: &str, fence: u64, because: &str) -> Error {
        self.error(ErrorKind::Conflict, SETTLING)
            .with("id", scope::told(id))
            .with("fence", fence)
            .advise(format!("This lease counts no more: {because}. Drop what was made of it"))
    }
}

/// `None` if so many were due that they were only made ready.
fn lease(work: &mut Work<'_>, count: usize, length: Duration) -> Result<Option<Vec<Leased>>> {
    let due = work.due(MESSAGES_MAX + 1)?;
    let is_too_many = due.len() > MESSAGES_MAX;
    let mut candidates: Vec<(Entry, Status)> = Vec::new();
    for entry in due.into_iter().take(MESSAGES_MAX) {
        let status = work.status_of(&entry)?;
        if status.is_worn_out() {
            let reason = Some(RAN_OUT.to_owned());
            let dead = Status { place: Place::Dead, at_ms: Some(work.now_ms), reason, ..status.clone() };
            work.shift(&entry.id, &status, &dead)?;
        } else {
            candidates.push((entry, status));
        }
    }
    if !is_too_many {
        for entry in work.entries(READY, None).take(count) {
            let entry = entry?;
            let status = work.status_of(&entry)?;
            candidates.push((entry, status));
        }
        candidates.sort_by_key(|(entry, _)| entry.number);
    }
    let others = candidates.split_off(if is_too_many { 0 } else { count.min(candidates.len()) });
    for (entry, status) in others.into_iter().filter(|(_, status)| status.place != Place::Ready) {
        work.shift(&entry.id, &status, &Status { place: Place::Ready, at_ms: None, ..status.clone() })?;
    }
    if is_too_many {
        return Ok(None);
    }
    give_out(work, &candidates, length).map(Some)
}

fn give_out(work: &mut Work<'_>, chosen: &[(Entry, Status)], length: Duration) -> Result<Vec<Leased>> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    work.head.fence += 1;
    let fence = work.head.fence;
    let until = Timestamp::of_millis(work.now_ms).after(length).millis();
    let mut leased = Vec::with_capacity(chosen.len());
    for (entry, status) in chosen {
        let attempts = status.attempts.saturating_add(1);
        let (place, at_ms) = (Place::Leased, Some(until));
        work.shift(
            &entry.id,
            status,
            &Status { place, at_ms, fence: Some(fence), attempts, ..status.clone() },
        )?;
        let stored = work.stored(entry.number)?;
        leased.push(Leased {
            id: stored.id.clone(),
            number: entry.number,
            fence,
            attempts,
            until: Timestamp::of_millis(until),
            put_at: stored.at(),
            payload: stored.payload(),
        });
    }
    Ok(leased)
}

fn check_length(doing: &'static str, length: Duration) -> Result<()> {
    if length.as_millis() > 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, doing).advise("A lease lasts at least a millisecond"))
}

/// At most so many bytes, up to the end of a character.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}
