//! Commits of several logs, all or none.
//!
//! Whoever writes them has the turns of all their logs, so that nobody sends a part. They are sent again, byte for byte, until it is known what became
//! of them or the time is up. Then the logs are free although the outcome is not known: whoever wins one of the slots decides that none of them is written.

use std::sync::Arc;

use icecore_log::{Created, End, Error, ErrorKind, Mode, Result, Run};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::append::{Expect, Receipt, Sealed, nothing_written};
use crate::appender::{Active, Answer, Known, Pending};
use crate::state::{Changes, State};
use crate::turn::{self, Turn};
use crate::{Inner, Log, lock, open, rounds};

/// What callers are told of a commit whose outcome will not be asked for any more.
pub(crate) const LEFT: &str = "It may have been written, with the commits of all its logs or with none: retry with the same ids, or read the logs before you retry";

/// One log of a group: what is to be committed to it, behind the version that it was decided on.
pub(crate) struct Member {
    pub active: Arc<Active>,
    /// Without an entry, the log was only looked at: its commit says that it still ended there.
    pub pending: Pending,
    pub outcome: oneshot::Receiver<Answer>,
}

impl Member {
    /// What changes make of these states, each on the condition that its log still ends there. What has none was only looked at.
    pub(crate) async fn all(
        parts: &[(&Log, &State, Option<&Changes>)],
        deadline: Instant,
    ) -> Result<Vec<Self>> {
        let seal = |(log, before, changes): &(&Log, &State, Option<&Changes>)| {
            changes.map(|changes| log.seal_behind(before, changes)).transpose()
        };
        let sealed = parts.iter().map(seal).collect::<Result<Vec<_>>>()?;
        let bytes = sealed.iter().flatten().map(Sealed::room).sum();
        let mut room = match parts.first() {
            Some((log, ..)) => log.room(bytes, deadline).await?,
            None => return Ok(Vec::new()),
        };
        let members = parts.iter().zip(sealed).map(|((log, before, _), sealed)| {
            let expect = Expect::Version(before.version);
            let (mut pending, _, outcome) = match sealed {
                Some(sealed) => sealed.pending(expect, &mut room),
                None => Pending::new(None, expect, None),
            };
            pending.judged = before.judged();
            Self { active: log.store.0.active(&log.id), pending, outcome }
        });
        Ok(members.collect())
    }
}

/// What became of a group.
pub(crate) enum Outcome {
    /// It is written; the receipts of the members that have an entry.
    Written(Vec<Receipt>),
    /// A log went on meanwhile, or may have: nothing is written, and it must be decided again.
    Moved,
}

/// What became of one member before anything is sent.
enum Made {
    Commit(Run),
    Answered(Answer),
}

/// Writes a commit to each of these logs, or to none. The members are in the order of their logs' names.
pub(crate) async fn create(inner: &Arc<Inner>, members: Vec<Member>, deadline: Instant) -> Result<Outcome> {
    let mut turns = Vec::with_capacity(members.len());
    for member in &members {
        match take_turn(inner, &member.active, deadline).await {
            Ok(turn) => turns.push(turn),
            Err(error) => {
                turns.into_iter().for_each(Turn::rest);
                return Err(error);
            }
        }
    }
    let outcome = with_turns(inner, &turns, members, deadline).await;
    for turn in turns {
        // Where it was sent and applied, there is none any more.
        lock(&turn.state).in_flight = None;
        turn.rest();
    }
    outcome
}

/// Waits until nobody works on a log, and nothing of it is in flight.
async fn take_turn(inner: &Arc<Inner>, active: &Arc<Active>, deadline: Instant) -> Result<Turn> {
    loop {
        let rested = active.rested.notified();
        tokio::pin!(rested);
        rested.as_mut().enable();
        let (turn, is_free) = {
            let mut state = lock(&active.state);
            (Turn::begin(inner, active, &mut state), state.in_flight.is_none())
        };
        match turn {
            Some(turn) if is_free => return Ok(turn),
            Some(turn) => {
                // A commit in doubt whose callers have gone is decided first; not more often than others would ask.
                sleep(rounds::RESEND_FIRST).await;
                turn.queue();
            }
            None => turn::revive(inner),
        }
        timeout_at(deadline, rested).await.map_err(|_| late(active))?;
    }
}

fn late(log: &Active) -> Error {
    nothing_written(&log.id, "it did not get its turn in time")
}

async fn with_turns(
    inner: &Arc<Inner>,
    turns: &[Turn],
    members: Vec<Member>,
    deadline: Instant,
) -> Result<Outcome> {
    let (mut runs, mut outcomes, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, Member { pending, mut outcome, .. }) in turns.iter().zip(members) {
        let has_entry = pending.entry.is_some();
        match make(inner, turn, pending, &mut outcome, deadline).await? {
            Made::Commit(run) => {
                runs.push(run);
                outcomes.extend(Some(outcome).filter(|_| has_entry));
            }
            Made::Answered(answer) => answers.push((has_entry, answer)),
        }
    }
    if !answers.is_empty() {
        return answered(answers, outcomes.is_empty());
    }
    if let Some(outcome) = send(inner, turns, runs, deadline).await? {
        return Ok(outcome);
    }
    let receipts = outcomes.iter_mut().map(|outcome| outcome.try_recv().map_err(|_| unknown())?);
    receipts.collect::<Result<_>>().map(Outcome::Written)
}

/// Makes the next commit of a log, of what is to be committed alone; or says why it needs none.
async fn make(
    inner: &Arc<Inner>,
    turn: &Turn,
    pending: Pending,
    outcome: &mut oneshot::Receiver<Answer>,
    deadline: Instant,
) -> Result<Made> {
    lock(&turn.state).pending.push_front(pending);
    loop {
        {
            let mut state = lock(&turn.state);
            if !state.needs_opening()
                && let Some(run) = state.seal_first(inner, &turn.id)
            {
                if let Some(in_flight) = &mut state.in_flight {
                    in_flight.is_together = true;
                }
                return Ok(Made::Commit(run));
            }
        }
        let opened = match outcome.try_recv() {
            Ok(answer) => return Ok(Made::Answered(answer)),
            Err(TryRecvError::Closed) => return Err(unknown()),
            Err(TryRecvError::Empty) if Instant::now() >= deadline => Err(late(turn)),
            Err(TryRecvError::Empty) => open::ready(inner, turn).await,
        };
        // It may have been answered, and taken away, as the log was opened.
        if let Ok(answer) = outcome.try_recv() {
            return Ok(Made::Answered(answer));
        }
        if let Err(error) = opened {
            lock(&turn.state).pending.pop_front();
            return Err(error.with("log", &turn.id));
        }
    }
}

/// What it comes to that some need no commit: a condition does not hold, or their ids are there already.
fn answered(answers: Vec<(bool, Answer)>, is_whole: bool) -> Result<Outcome> {
    let (mut receipts, mut has_moved) = (Vec::with_capacity(answers.len()), false);
    for (has_entry, answer) in answers {
        match answer {
            Ok(receipt) => receipts.extend(Some(receipt).filter(|_| has_entry)),
            // It names the version that it was decided on: the log went on.
            Err(error) if error.kind() == ErrorKind::Conflict && error.fact("expected").is_some() => {
                has_moved = true;
            }
            Err(error) => return Err(error),
        }
    }
    match receipts.first() {
        _ if has_moved => Ok(Outcome::Moved),
        Some(first) if !is_whole => Err(used_in_some(first)),
        _ => Ok(Outcome::Written(receipts)),
    }
}

/// An id that is in some of the logs belongs to something else.
pub(crate) fn used_in_some(first: &Receipt) -> Error {
    Error::new(ErrorKind::Conflict, "changing several logs")
        .with("log", &first.log)
        .with("version", first.version)
        .advise("An entry with this id is in this log, and not in all the others: use a new id")
}

pub(crate) fn unknown() -> Error {
    Error::new(ErrorKind::Unknown, "changing several logs").advise(LEFT)
}

/// Sends the commits until it is known what became of them; `None` once they are written.
async fn send(
    inner: &Arc<Inner>,
    turns: &[Turn],
    runs: Vec<Run>,
    deadline: Instant,
) -> Result<Option<Outcome>> {
    // One alone is possible on every system.
    let mode = if runs.len() > 1 { Mode::AllOrNone } else { Mode::Each };
    let (mut is_in_doubt, mut pause) = (false, rounds::RESEND_FIRST);
    loop {
        let answers = inner.backend.create(runs.clone(), mode).await;
        match sum(&answers, runs.len()) {
            Sum::Done => {
                for turn in turns.iter().filter(|turn| lock(&turn.state).in_flight.is_some()) {
                    rounds::apply(inner, turn, Created::done(1));
                }
                return Ok(None);
            }
            Sum::Taken => {
                turns.iter().for_each(|turn| lock(&turn.state).look_again());
                return Ok(Some(Outcome::Moved));
            }
            // An earlier try may have landed and been trimmed since, as with a commit of one log.
            Sum::Refused if is_in_doubt => return Err(give_up(turns)),
            Sum::Refused => {
                turns.iter().for_each(|turn| lock(&turn.state).known = Known::Nothing);
                return Ok(Some(Outcome::Moved));
            }
            Sum::Failed(error) if !is_in_doubt && error.kind() != ErrorKind::Unknown => return Err(error),
            Sum::Failed(_) if Instant::now() + pause >= deadline => return Err(give_up(turns)),
            Sum::Failed(_) => is_in_doubt = true,
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(rounds::RESEND_MAX);
    }
}

fn give_up(turns: &[Turn]) -> Error {
    for turn in turns {
        lock(&turn.state).give_up_in_flight(&turn.id, LEFT);
    }
    let logs = turns.iter().map(|turn| turn.id.as_str()).collect::<Vec<_>>().join(" ");
    unknown().with("logs", logs)
}

/// What all answers come to.
enum Sum {
    Done,
    Taken,
    Refused,
    Failed(Error),
}

/// One that is not known counts before all others, and one that failed before a slot that went to somebody else: that may be said of its neighbours too.
fn sum(answers: &[Created], count: usize) -> Sum {
    let failed = || {
        answers.iter().filter_map(|answer| match &answer.end {
            End::Failed(error) => Some(error),
            _ => None,
        })
    };
    if let Some(error) = failed().find(|error| error.kind() == ErrorKind::Unknown).or_else(|| failed().next())
    {
        return Sum::Failed(error.clone());
    }
    if answers.len() != count {
        return Sum::Failed(unknown().advise("The backend gave no answer"));
    }
    if answers.iter().all(Created::is_done) {
        return Sum::Done;
    }
    let is_refused = |answer: &Created| matches!(answer.end, End::Closed(_) | End::Gap);
    if answers.iter().any(is_refused) { Sum::Refused } else { Sum::Taken }
}
