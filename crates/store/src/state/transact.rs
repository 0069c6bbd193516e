//! Transactions within one log: conditions checked against the state, and tried again when others were first.

use std::sync::Arc;

use icecore_log::{Error, ErrorKind, Result};
use tokio::sync::{MutexGuard, RwLockWriteGuard};
use tokio::time::{Instant, timeout, timeout_at};

use crate::append::Receipt;
use crate::appender::Active;
use crate::confirm::confirm_read;
use crate::retention::due::Noted;
use crate::state::changes::{self, Changes, Json};
use crate::state::consistency::Consistency;
use crate::state::document::State;
use crate::state::edit;
use crate::state::merge::Merge;
use crate::{Log, ids};

/// After so many rounds that went to others, appends of this process wait until it is through.
const PATIENCE: u32 = 3;
/// A put of so large a value waits for its turn among transactions, and for a look at the state, so that it is stored as what differs.
const EDIT_WAITS_FROM: usize = 4 << 10;
/// For how many rounds they wait, before they get a turn.
const ALONE: u32 = 4;

impl Log {
    /// The documents as they are now.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if a body that they follow from was dropped; else as reading a log.
    pub async fn state(&self) -> Result<Arc<State>> {
        Ok(self.seen(&self.fold_head().await?.state))
    }

    /// Sets a document, whatever it was.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn put(&self, key: &str, json: Json) -> Result<Receipt> {
        self.one(Changes::new().put(key, json)).await
    }

    /// Patches a document by a JSON merge patch; one that is not there is made. Source: RFC 7396.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn patch(&self, key: &str, patch: Json) -> Result<Receipt> {
        self.one(Changes::new().patch(key, patch)).await
    }

    /// Deletes a document, if it is there.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn delete(&self, key: &str) -> Result<Receipt> {
        self.one(Changes::new().delete(key)).await
    }

    /// Merges something into a document; one that is not there is made. Others may do so at the same time: none is lost, and none waits for another.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if it is seen that there is something else than it can be merged into: a state that is in memory says so, and so do
    /// the commits then. Without one, or where others are quicker, it is appended and changes nothing; [`Log::check_merges`] looks beforehand. Else as
    /// [`Log::append`].
    pub async fn merge(&self, key: &str, merge: Merge) -> Result<Receipt> {
        self.one(Changes::new().merge(key, merge)).await
    }

    async fn one(&self, changes: Changes) -> Result<Receipt> {
        self.append_unconditionally(&changes).await
    }

    pub(crate) async fn append_unconditionally(&self, changes: &Changes) -> Result<Receipt> {
        // What is in memory costs nothing to look at, unless somebody else is busy with it.
        let is_doubtful = self.store.0.states.find(&self.id).is_some_and(|slot| {
            let kept = slot.folded.try_lock();
            kept.is_ok_and(|kept| kept.as_ref().is_some_and(|kept| changes.seem_refused_by(&kept.state)))
        });
        if is_doubtful {
            self.check_merges(changes).await?;
        }
        let noted = self.note_due(&changes.events, None).await?;
        let receipt = self.append_shortened(changes).await?;
        self.keep_noted(noted).await?;
        Ok(receipt)
    }

    /// Looks whether every merge of these changes finds what it can be merged into, now; or the changes were committed under their id already.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) with each that does not as the fact `failed`, and the version of its document as `found`; else as [`Log::state`].
    pub async fn check_merges(&self, changes: &Changes) -> Result<()> {
        let keys = changes.merged_keys();
        if keys.is_empty() {
            return Ok(());
        }
        let state = self.with(Consistency::Strong).documents_of(&keys).await?;
        match changes::check_merges(&self.id, changes, &state, self.store.now()) {
            Err(error)
                if error.kind() == ErrorKind::Conflict && self.has_been_done(changes).await?.is_some() =>
            {
                drop(error);
                Ok(())
            }
            checked => checked,
        }
    }

    /// The receipt of changes under an id that is there already.
    pub(crate) async fn has_been_done(&self, changes: &Changes) -> Result<Option<Receipt>> {
        match &changes.id {
            Some(id) => {
                let found = ids::find(&self.store.0, &self.id, id).await?.receipt;
                if found.is_some() {
                    confirm_read(&self.store.0, &self.id).await?;
                }
                Ok(found)
            }
            None => Ok(None),
        }
    }

    /// Appends changes whatever the state is; large values as what differs from the value before, as long as that is not in doubt.
    async fn append_shortened(&self, changes: &Changes) -> Result<Receipt> {
        let large = changes.large_puts(edit::VALUE_BYTES_MIN);
        if large.is_empty() {
            return self.append_changes(changes).await;
        }
        let is_worth_waiting = !changes.large_puts(EDIT_WAITS_FROM).is_empty();
        let active = self.store.0.active(&self.id);
        let turn = if is_worth_waiting {
            timeout(self.store.0.settings.append_timeout, active.transactions.lock()).await.ok()
        } else {
            active.transactions.try_lock().ok()
        };
        for round in 0..if turn.is_some() { PATIENCE } else { 0 } {
            let local = if round == 0 { self.fold_local().await? } else { None };
            let before = match local {
                Some(folded) => self.seen_by_the_next(&folded.state),
                None if !is_worth_waiting => break,
                // What is put whole costs more than a look at the state, now and each time that somebody reads the log.
                None => match self.with(Consistency::Strong).documents_of(&large).await {
                    Ok(before) => before,
                    // It can be put, and is then known again.
                    Err(_) => break,
                },
            };
            let Some(enqueued) = self.enqueue_shortened(&before, changes).await? else { break };
            // What goes on from it is then not a copy.
            drop(before);
            match enqueued.receipt().await {
                Err(error) if error.kind() == ErrorKind::Conflict && error.fact("expected").is_some() => {}
                answer => return answer,
            }
        }
        drop(turn);
        self.append_changes(changes).await
    }

    /// Commits changes, all of them or none, if every condition holds.
    ///
    /// Appends that come between are no conflict: the conditions are checked again.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) with each condition that does not hold as the fact `failed`, and what was found as `found`; if all hold, with each merge
    /// that finds something else than it can be merged into (without a condition as [`Log::merge`]); else as [`Log::append`].
    pub async fn commit(&self, changes: Changes) -> Result<Option<Receipt>> {
        if changes.conditions.is_empty() && !changes.is_empty() {
            return self.append_unconditionally(&changes).await.map(Some);
        }
        let answer = self.transact(|_| Ok(changes.clone())).await?;
        // Under an id that was there before it must have been the same changes; a closure may well decide on others.
        match answer {
            Some(receipt) if receipt.repeated => self.append_changes(&changes).await.map(Some),
            answer => Ok(answer),
        }
    }

    /// Reads the state, lets the closure decide what to change, and commits that if nothing was appended meanwhile; else the closure is
    /// run again on the state as it is then. It runs in the caller's task, one transaction of this process and log at a time.
    ///
    /// ```
    /// # use icecore_store::{Store, state::{Changes, Json}};
    /// # use std::sync::Arc;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Store::new(Arc::new(icecore_embedded::Memory::default()));
    /// let log = store.log(icecore_log::LogId::new("acme", "session", "s-1")?);
    /// for _ in 0..3 {
    ///     log.transact(|state| {
    ///         let count: u64 = state.get("count").map_or(Ok(0), |document| document.read())?;
    ///         Ok(Changes::new().put("count", Json::of(&(count + 1))?))
    ///     })
    ///     .await?;
    /// }
    /// assert_eq!(log.document("count").await?.unwrap().read::<u64>()?, 3);
    /// # Ok::<_, icecore_log::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The closure's own; [`Conflict`](ErrorKind::Conflict) as [`Log::commit`]; [`Unavailable`](ErrorKind::Unavailable) if others
    /// were first until the time was up; else as [`Log::append`].
    pub async fn transact(
        &self,
        mut decide: impl FnMut(&State) -> Result<Changes>,
    ) -> Result<Option<Receipt>> {
        let active = self.store.0.active(&self.id);
        let (mut turns, mut noted) = (Turns::begin(self, &active).await?, None);
        loop {
            let before = self.seen_by_the_next(&turns.next().await?);
            let changes = decide(&before)?;
            if let Some(done) = self.round(&changes, &before, &mut noted).await? {
                return Ok(done);
            }
        }
    }

    /// Tries once, and gives the receipt, if there was anything to commit; `None` if somebody else was first.
    async fn round(
        &self,
        changes: &Changes,
        before: &State,
        noted: &mut Option<Noted>,
    ) -> Result<Option<Option<Receipt>>> {
        let checked = changes::check(&self.id, &changes.conditions, before)
            .and_then(|()| changes::check_merges(&self.id, changes, before, self.store.now()));
        let appended = match checked {
            Ok(()) if changes.is_empty() => return Ok(Some(None)),
            Ok(()) => self.append_behind(before, changes, noted).await,
            Err(error) => Err(error),
        };
        match appended {
            Ok(receipt) => Ok(Some(Some(receipt))),
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            Err(error) => {
                // Under an id that is there already it was done: what it would do now is another thing.
                if let Some(receipt) = self.has_been_done(changes).await? {
                    return Ok(Some(Some(receipt)));
                }
                // The log went on; whether that matters is for the conditions to say.
                if error.fact("expected").is_some() { Ok(None) } else { Err(error) }
            }
        }
    }
}

impl Log {
    async fn append_behind(
        &self,
        before: &State,
        changes: &Changes,
        noted: &mut Option<Noted>,
    ) -> Result<Receipt> {
        *noted = self.note_due(&changes.events, *noted).await?;
        let receipt = self.enqueue_behind(before, changes).await?.receipt().await?;
        self.keep_noted(*noted).await?;
        Ok(receipt)
    }

    /// A state as the next commit will see it.
    fn seen_by_the_next(&self, state: &Arc<State>) -> Arc<State> {
        state.seen_at(state.next_at(self.store.now()))
    }
}

/// The tries of a transaction: one transaction of this process and log at a time, and more and more to itself the more often others were
/// first.
pub(crate) struct Turns<'a> {
    pub log: &'a Log,
    active: &'a Active,
    deadline: Instant,
    round: u32,
    gate: Option<RwLockWriteGuard<'a, ()>>,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Turns<'a> {
    pub async fn begin(log: &'a Log, active: &'a Active) -> Result<Self> {
        Self::begin_by(log, active, Instant::now() + log.store.0.settings.append_timeout).await
    }

    /// As [`Turns::begin`], with a deadline of one's own.
    pub async fn begin_by(log: &'a Log, active: &'a Active, deadline: Instant) -> Result<Self> {
        let turn = timeout_at(deadline, active.transactions.lock()).await.map_err(|_| late(log))?;
        Ok(Self { log, active, deadline, round: 0, gate: None, _turn: turn })
    }

    /// The state for the next try.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] once the time is up; as reading a state.
    pub async fn next(&mut self) -> Result<Arc<State>> {
        // What joined before it was closed may still be on its way and take one more round, so it is kept for some; and given back
        // between, since other processes may go on being first.
        if self.round < PATIENCE || (self.round - PATIENCE).is_multiple_of(ALONE) {
            drop(self.gate.take());
        }
        if self.round >= PATIENCE {
            self.close().await?;
        }
        self.round += 1;
        // Not in the middle of a round: it says itself what became of what it sent.
        if Instant::now() >= self.deadline {
            return Err(late(self.log));
        }
        Ok(self.log.fold_strong().await?.state)
    }

    /// Keeps this process's appends waiting, at least until the next try.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] once the time is up.
    pub async fn close(&mut self) -> Result<()> {
        if self.gate.is_none() {
            let gate = timeout_at(self.deadline, self.active.gate.write()).await;
            self.gate = Some(gate.map_err(|_| late(self.log))?);
        }
        Ok(())
    }
}

fn late(log: &Log) -> Error {
    Error::new(ErrorKind::Unavailable, "changing a log's state")
        .with("log", &log.id)
        .advise("Others were always first. Nothing was written: retry")
}
