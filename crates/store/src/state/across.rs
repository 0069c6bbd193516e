//! Transactions over several logs: what they change is committed in all of them, or in none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use icecore_log::{Error, ErrorKind, Hash, LogId, Result, Timestamp, Version};
use tokio::time::{Instant, timeout_at};

use crate::append::Receipt;
use crate::retention::due::Noted;
use crate::state::changes::{self, Changes};
use crate::state::document::State;
use crate::state::transact::Turns;
use crate::together::{self, Member, Outcome};
use crate::{Log, Store};

/// The most logs of one transaction. A system may take fewer.
pub const LOGS_MAX: usize = 1_000;

/// How long after the deadline an answer is waited for: it was sent before.
const PATIENCE: Duration = Duration::from_secs(1);
const DOING: &str = "changing several logs";

/// The states of several logs, as they were at one moment.
#[derive(Debug, Clone)]
pub struct States(BTreeMap<LogId, Arc<State>>);

impl States {
    /// That of a log; without documents, if the log has no commit.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the log was not named as the transaction began.
    pub fn of(&self, log: &LogId) -> Result<&Arc<State>> {
        self.0.get(log).ok_or_else(|| unnamed(log))
    }

    /// Each log with its state, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&LogId, &Arc<State>)> {
        self.0.iter()
    }

    /// Where each of them ends.
    fn ends(&self) -> impl Iterator<Item = (Version, Hash)> {
        self.0.values().map(|state| (state.version, state.hash))
    }
}

/// What is to be committed, by its log.
type Decided = BTreeMap<LogId, Changes>;

impl Store {
    /// Commits changes to several logs, all of them or none, if every condition holds: at most 1,000, all of one tenant. The receipts are in the order of the
    /// logs' names.
    ///
    /// So that a retry is harmless, give an id to all: then changes that were committed before are not committed again.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub async fn commit(&self, changes: Vec<(LogId, Changes)>) -> Result<Vec<Receipt>> {
        let logs: Vec<_> = changes.iter().map(|(log, _)| log.clone()).collect();
        let mut receipts = self.transact(&logs, |_| Ok(changes.clone())).await?;
        // Under an id that was there before it must have been the same changes; a closure may well decide on others.
        for receipt in receipts.iter_mut().filter(|receipt| receipt.repeated) {
            if let Some((log, changes)) = changes.iter().find(|(log, _)| *log == receipt.log) {
                *receipt = self.log(log.clone()).append_changes(changes).await?;
            }
        }
        Ok(receipts)
    }

    /// Reads the states of several logs, lets the closure decide what to change in which of them, and commits all of that, or nothing: only if none of these
    /// logs went on meanwhile; else the closure is run again on the states as they are then. At most 1,000 logs, all of one tenant. The receipts are in the
    /// order of the logs' names, of those that were changed.
    ///
    /// The logs that are named and not changed get an empty commit, which says that they still ended where they were read; so name no more than are needed. If
    /// nothing is to be changed, nothing is written.
    ///
    /// Dropping the future does not take back what is being written: all or none of it.
    ///
    /// ```
    /// # use icecore_log::LogId;
    /// # use icecore_store::{Store, state::{Changes, Json}};
    /// # use std::sync::Arc;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Store::new(Arc::new(icecore_embedded::Memory::default()));
    /// let (from, to) = (LogId::new("acme", "account", "ann")?, LogId::new("acme", "account", "bob")?);
    /// store.log(from.clone()).put("credits", Json::of(&10)?).await?;
    /// store
    ///     .transact(&[from.clone(), to.clone()], |states| {
    ///         let credits = |log| states.of(log)?.get("credits").map_or(Ok(0), |document| document.read::<i64>());
    ///         let (has, gets) = (credits(&from)?, credits(&to)?);
    ///         Ok(vec![
    ///             (from.clone(), Changes::new().put("credits", Json::of(&(has - 4))?)),
    ///             (to.clone(), Changes::new().put("credits", Json::of(&(gets + 4))?)),
    ///         ])
    ///     })
    ///     .await?;
    /// assert_eq!(store.log(to).document("credits").await?.unwrap().read::<i64>()?, 4);
    /// # Ok::<_, icecore_log::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The closure's own; [`Refused`](ErrorKind::Refused) if the system cannot commit to several logs at once ([`Capabilities::atomic_create`](icecore_log::Capabilities::atomic_create)), or
    /// not to so many; [`Invalid`](ErrorKind::Invalid) if a log is named twice, or changed and not named, if they are not of one tenant, or if only some of the
    /// changes have an id; [`Conflict`](ErrorKind::Conflict) with each condition of each log that does not hold, as the facts `log`, `failed` and `found`, or if an
    /// id is in some of the logs only; [`Unavailable`](ErrorKind::Unavailable) if others were first until the time was up; [`Unknown`](ErrorKind::Unknown) if it may
    /// have been committed: retry with the same ids; else as [`Log::append`].
    pub async fn transact(
        &self,
        logs: &[LogId],
        decide: impl FnMut(&States) -> Result<Vec<(LogId, Changes)>>,
    ) -> Result<Vec<Receipt>> {
        let named = self.named(logs)?;
        if named.len() > 1 && !self.0.capabilities.atomic_create {
            return Err(Error::new(ErrorKind::Refused, DOING)
                .with("system", self.0.capabilities.system)
                .advise("This system cannot commit to several logs, all or none: keep what changes together in one log"));
        }
        self.in_turns(named, decide).await
    }

    /// The states of several logs as they were at one moment, on every system: at most 1,000 logs, all of one tenant.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if a log is named twice, or if they are not of one tenant; [`Unavailable`](ErrorKind::Unavailable) if they went on until
    /// the time was up; else as [`Log::state`].
    pub async fn states(&self, logs: &[LogId]) -> Result<States> {
        let mut seen = States(BTreeMap::new());
        let look = |states: &States| {
            seen = states.clone();
            Ok(Vec::new())
        };
        self.in_turns(self.named(logs)?, look).await?;
        Ok(seen)
    }

    /// Commits what was decided on [`Store::states`], however long that took: all of it or nothing, and only if none of these logs went on since; `None` if one
    /// did. As [`Store::transact`], whose closure must decide at once.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub async fn commit_behind(
        &self,
        states: &States,
        changes: Vec<(LogId, Changes)>,
    ) -> Result<Option<Vec<Receipt>>> {
        let logs: Vec<_> = states.0.keys().cloned().collect();
        let mut went_on = false;
        let decide = |now: &States| {
            went_on = !now.ends().eq(states.ends());
            if went_on {
                return Err(Error::new(ErrorKind::Conflict, DOING));
            }
            Ok(changes.clone())
        };
        match self.transact(&logs, decide).await {
            Err(error) if went_on && error.kind() == ErrorKind::Conflict => Ok(None),
            done => done.map(Some),
        }
    }

    async fn in_turns(
        &self,
        named: Vec<LogId>,
        mut decide: impl FnMut(&States) -> Result<Vec<(LogId, Changes)>>,
    ) -> Result<Vec<Receipt>> {
        let named: Vec<_> = named.into_iter().map(|log| self.log(log)).collect();
        let active: Vec<_> = named.iter().map(|log| self.0.active(&log.id)).collect();
        let deadline = Instant::now() + self.0.settings.append_timeout;
        // In the order of their names, so that no two wait for each other.
        let mut turns = Vec::with_capacity(named.len());
        for (log, active) in named.iter().zip(&active) {
            turns.push(Turns::begin_by(log, active, deadline).await?);
        }
        let mut noted = BTreeMap::new();
        loop {
            let states = self.seen_together(&mut turns).await?;
            let decided = decide(&states).and_then(|changes| arrange(&states, changes));
            if let Some(receipts) = self.round(&mut turns, &states, decided, &mut noted, deadline).await? {
                return Ok(receipts);
            }
        }
    }

    /// The logs in the order in which they are worked on.
    fn named(&self, logs: &[LogId]) -> Result<Vec<LogId>> {
        let invalid = |log: &LogId, advice: &str| {
            Err(Error::new(ErrorKind::Invalid, DOING).with("log", log).advise(advice))
        };
        let mut named = logs.to_vec();
        named.sort_unstable();
        if let Some(pair) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            return invalid(&pair[0], "Name each log once");
        }
        let Some(first) = named.first() else { return Ok(named) };
        if let Some(other) = named.iter().find(|log| log.tenant() != first.tenant()) {
            return invalid(other, "All logs of a transaction are of one tenant");
        }
        if named.len() > LOGS_MAX {
            return Err(Error::new(ErrorKind::Invalid, DOING)
                .with("logs", named.len())
                .with("logs_max", LOGS_MAX)
                .advise("Keep what changes together in fewer logs"));
        }
        Ok(named)
    }

    /// All states for the next try, seen at one time, which is not before any of their commits.
    async fn seen_together(&self, turns: &mut [Turns<'_>]) -> Result<States> {
        let folded = try_join_all(turns.iter_mut().map(async |turn| {
            let state = turn.next().await?;
            Ok((turn.log.id.clone(), state))
        }))
        .await?;
        let at = folded.iter().filter_map(|(_, state)| state.at).fold(self.now(), Timestamp::max);
        Ok(States(folded.into_iter().map(|(log, state)| (log, state.seen_at(at))).collect()))
    }

    /// Tries once; `None` if one of the logs went on.
    async fn round(
        &self,
        turns: &mut [Turns<'_>],
        states: &States,
        decided: Result<Decided>,
        noted: &mut BTreeMap<LogId, Noted>,
        deadline: Instant,
    ) -> Result<Option<Vec<Receipt>>> {
        let decided = match decided {
            Ok(decided) => decided,
            // On states of different moments also an error says nothing.
            Err(error) => return if self.were_at_once(states).await? { Err(error) } else { Ok(None) },
        };
        let written = match check(states, &decided, self.now()) {
            Ok(()) if decided.values().all(Changes::is_empty) => {
                return Ok(self.were_at_once(states).await?.then(Vec::new));
            }
            Ok(()) => self.write(turns, states, &decided, noted, deadline).await,
            Err(error) => Err(error),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                // Under ids that are there already it was done: what it would do now is another thing.
                if let Some(receipts) = self.was_done(&decided).await? {
                    return Ok(Some(receipts));
                }
                if self.were_at_once(states).await? { Err(error) } else { Ok(None) }
            }
            written => written,
        }
    }

    async fn write(
        &self,
        turns: &mut [Turns<'_>],
        states: &States,
        decided: &Decided,
        noted: &mut BTreeMap<LogId, Noted>,
        deadline: Instant,
    ) -> Result<Option<Vec<Receipt>>> {
        let changes_of = |log: &Log| decided.get(&log.id).filter(|changes| !changes.is_empty());
        for log in turns.iter().map(|turn| turn.log) {
            if let Some(changes) = changes_of(log)
                && let Some(now) = log.note_due(&changes.events, noted.get(&log.id).copied()).await?
            {
                noted.insert(log.id.clone(), now);
            }
        }
        let parts = turns.iter().zip(states.0.values());
        let parts: Vec<_> = parts.map(|(turn, state)| (turn.log, &**state, changes_of(turn.log))).collect();
        let members = Member::all(&parts, deadline).await?;
        // Else what goes on joining would never leave them a turn.
        for turn in turns.iter_mut() {
            turn.close().await?;
        }
        let inner = Arc::clone(&self.0);
        // In a task of its own: if the caller goes, it is still brought to its end.
        let writing = tokio::spawn(async move { together::create(&inner, members, deadline).await });
        // It ends by the deadline, unless the system does not answer at all.
        let written = timeout_at(deadline + PATIENCE, writing).await.map_err(|_| together::unknown())?;
        match written.unwrap_or_else(|_| Err(together::unknown()))? {
            Outcome::Written(receipts) => {
                for turn in turns.iter() {
                    turn.log.keep_noted(noted.get(&turn.log.id).copied()).await?;
                }
                Ok(Some(receipts))
            }
            Outcome::Moved => Ok(None),
        }
    }

    /// Whether all states were the logs' own at one moment: each is still, after the last of them was read.
    async fn were_at_once(&self, states: &States) -> Result<bool> {
        if states.0.len() < 2 {
            return Ok(true);
        }
        let logs: Vec<_> = states.0.keys().cloned().collect();
        let heads = self.0.backend.heads(&logs).await?;
        let ends = heads
            .into_iter()
            .map(|head| head.map_or((Version::ZERO, Hash::ZERO), |head| (head.version, head.hash())));
        Ok(ends.eq(states.ends()))
    }

    /// The first receipts, if the ids of all changes are there already.
    async fn was_done(&self, decided: &Decided) -> Result<Option<Vec<Receipt>>> {
        let (mut receipts, mut count) = (Vec::with_capacity(decided.len()), 0);
        for (log, changes) in decided.iter().filter(|(_, changes)| !changes.is_empty()) {
            receipts.extend(self.log(log.clone()).has_been_done(changes).await?);
            count += 1;
        }
        match receipts.first() {
            Some(first) if receipts.len() < count => Err(together::used_in_some(first)),
            Some(_) => Ok(Some(receipts)),
            None => Ok(None),
        }
    }
}

/// What is to be committed, by its log.
fn arrange(states: &States, changes: Vec<(LogId, Changes)>) -> Result<Decided> {
    let mut decided = Decided::new();
    for (log, changes) in changes {
        states.of(&log)?;
        if decided.contains_key(&log) {
            return Err(Error::new(ErrorKind::Invalid, DOING)
                .with("log", &log)
                .advise("Give the changes of a log together"));
        }
        decided.insert(log, changes);
    }
    let mut with_id =
        decided.values().filter(|changes| !changes.is_empty()).map(|changes| changes.id.is_some());
    let first = with_id.next();
    if with_id.any(|with_id| Some(with_id) != first) {
        return Err(Error::new(ErrorKind::Invalid, DOING)
            .advise("Give an id to the changes of every log, or to none: with some, a retry cannot tell what was done"));
    }
    Ok(decided)
}

/// Checks all conditions and merges of all logs.
fn check(states: &States, decided: &Decided, now: Timestamp) -> Result<()> {
    let mut all: Option<Error> = None;
    for (log, changes) in decided {
        let state = states.of(log)?;
        let checked = changes::check(log, &changes.conditions, state)
            .and_then(|()| changes::check_merges(log, changes, state, now));
        match (checked, all.take()) {
            (Ok(()), before) => all = before,
            (Err(error), None) if error.kind() == ErrorKind::Conflict => all = Some(error),
            (Err(error), Some(before)) if error.kind() == ErrorKind::Conflict => {
                all = Some(error.facts().fold(before, |all, (name, value)| all.with(name, value)));
            }
            (Err(error), _) => return Err(error),
        }
    }
    all.map_or(Ok(()), Err)
}

fn unnamed(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, DOING).with("log", log).advise("Name it among the transaction's logs")
}
