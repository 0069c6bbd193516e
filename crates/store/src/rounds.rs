//! Rounds: every log that has something pending sends its next commit, all of them in one `create`.

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Created, End, Error, ErrorKind, Mode, Result, clock};
use tokio::time::Instant;

use crate::append::Expect;
use crate::appender::{Active, Known, Pending};
use crate::state::upkeep;
use crate::turn::{self, Turn};
use crate::{Inner, id_runs, lock, open};

/// How often in a row a create behind the head just read may be refused before the log is taken to be damaged.
const REFUSED_MAX: u32 = 5;
const TRIMMED: &str =
    "Its slot was trimmed before an answer came: resolve it by its id, or read the log before you retry";
/// Pauses between sending a commit in doubt again: doubled from the first to the last.
pub(crate) const RESEND_FIRST: Duration = Duration::from_millis(5);
pub(crate) const RESEND_MAX: Duration = Duration::from_secs(1);
/// Once so many slots in a row were lost the next try is put off; by how much at the most, at first and later.
const LOST_PATIENCE: u32 = 3;
const YIELD_FIRST: Duration = Duration::from_millis(2);
const YIELD_MAX: Duration = Duration::from_millis(100);

/// Adds entries to what is pending, one behind the other, and starts a round if nobody works on the log.
pub(crate) fn join(inner: &Arc<Inner>, active: &Arc<Active>, joining: impl IntoIterator<Item = Pending>) {
    let turn = {
        let mut state = lock(&active.state);
        // Behind a commit in doubt nothing is taken: what was withdrawn goes when the next one comes.
        while state.is_in_doubt() && state.pending.front().is_some_and(Pending::is_alone) {
            state.pending.pop_front();
        }
        state.pending.extend(joining);
        Turn::begin(inner, active, &mut state)
    };
    match turn {
        Some(turn) => turn.queue(),
        None => turn::revive(inner),
    }
}

/// Wins the next slot with an empty commit: then nothing sent earlier can land any more.
pub(crate) async fn win_a_slot(inner: &Arc<Inner>, active: &Arc<Active>) -> Result<()> {
    let (pending, _, outcome) = Pending::new(None, Expect::Any, None);
    join(inner, active, [pending]);
    match tokio::time::timeout(inner.settings.append_timeout, outcome).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) if error.kind() != ErrorKind::Unknown => Err(error),
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Err(Error::new(ErrorKind::Unavailable, "resolving an entry")
            .with("log", &active.id)
            .advise("It is still not known whether it was written: ask again")),
    }
}

/// Sends again, once, what is in doubt and was left to the next append: its bytes are room that others wait for.
pub(crate) fn resend_in_doubt(inner: &Arc<Inner>) {
    {
        // Many may wait for room at once; one look serves them all.
        let mut last = lock(&inner.queue.looked_for_doubt);
        if last.is_some_and(|last| last.elapsed() < RESEND_MAX) {
            return;
        }
        *last = Some(Instant::now());
    }
    for active in inner.all_active() {
        let mut state = lock(&active.state);
        let turn = if state.in_flight.is_some() { Turn::begin(inner, &active, &mut state) } else { None };
        drop(state);
        turn.into_iter().for_each(Turn::queue);
    }
}

/// Sends the next commit of each log, and applies the answers. Logs that must be opened first are queued again once they are.
pub(crate) async fn round(inner: &Arc<Inner>, turns: Vec<Turn>) {
    let (mut runs, mut sent, mut cold) =
        (Vec::with_capacity(turns.len()), Vec::with_capacity(turns.len()), Vec::new());
    for turn in turns {
        let mut state = lock(&turn.state);
        if state.in_flight.is_none() && state.needs_opening() {
            drop(state);
            cold.push(turn);
        } else if let Some(run) = state.seal(inner, &turn.id) {
            drop(state);
            runs.push(run);
            sent.push(turn);
        } else {
            drop(state);
            turn.rest();
        }
    }
    if !cold.is_empty() {
        // Opening reads; the logs that are open need not wait for it.
        let inner = Arc::clone(inner);
        tokio::spawn(async move { open::open(&inner, cold).await });
    }
    if runs.is_empty() {
        return;
    }
    let mut answers = inner.backend.create(runs, Mode::Each).await.into_iter();
    for turn in sent {
        let answer = answers.next().unwrap_or_else(|| {
            Created::failed(
                Error::new(ErrorKind::Unknown, "creating a commit").advise("The backend gave no answer"),
            )
        });
        match apply(inner, &turn, answer) {
            Next::Rest => turn.rest(),
            Next::Doubt => doubt(turn),
            Next::Yield => {
                let pause = pause_of_loser(inner, &turn);
                later(turn, pause);
            }
        }
    }
}

/// What is to be done with a log whose answer was applied.
pub(crate) enum Next {
    Rest,
    Doubt,
    /// Slots are lost too often: others get a moment.
    Yield,
}

pub(crate) fn apply(inner: &Arc<Inner>, turn: &Turn, answer: Created) -> Next {
    let mut state = lock(&turn.state);
    match answer.end {
        End::Done => {
            if let Some(commit) = state.in_flight.as_ref().and_then(|in_flight| in_flight.run.commits.first())
            {
                inner.states.follow(&turn.id, commit);
            }
            state.won(&turn.id);
            id_runs::keep_up(inner, turn.active(), &mut state);
            upkeep::keep_up(inner, turn.active(), &mut state.upkeep);
        }
        End::Taken => {
            state.lost();
            // A condition on the version does not hold any more: its caller hears so at once.
            let goes_on = state.pending.front().is_some_and(|front| front.expect == Expect::Any);
            state.lost = if goes_on { state.lost.saturating_add(1) } else { 0 };
            if state.lost >= LOST_PATIENCE {
                return Next::Yield;
            }
        }
        End::Closed(_) | End::Gap if state.is_in_doubt() => {
            // An earlier try may have landed and been trimmed since: neither "again" nor "nothing was written" would be true.
            state.give_up_in_flight(&turn.id, TRIMMED);
        }
        End::Closed(_) | End::Gap => {
            // The log moved under us in a way that following it cannot tell: look at it from the start.
            let is_first = matches!(state.known, Known::Absent);
            state.lost();
            state.known = Known::Nothing;
            state.refused += 1;
            if state.refused > REFUSED_MAX {
                state.refused = 0;
                state.fail_pending(&refused(turn, is_first));
            }
        }
        End::Failed(error) => {
            if state.is_in_doubt() || error.kind() == ErrorKind::Unknown {
                return Next::Doubt;
            }
            state.failed(&error.with("log", &turn.id));
        }
    }
    Next::Rest
}

fn refused(log: &Active, is_first: bool) -> Error {
    let (kind, advice) = if is_first {
        (
            ErrorKind::Refused,
            "The log is closed and has no commit: a copy of a trimmed log was begun; let it finish first",
        )
    } else {
        (ErrorKind::Corrupt, "The backend refuses what follows the head that it shows: verify the log")
    };
    Error::new(kind, "appending").with("log", &log.id).advise(advice)
}

/// Sends the same bytes again after a while, for as long as somebody waits; else leaves them to the next append.
fn doubt(turn: Turn) {
    let mut pause = RESEND_MAX;
    let turn = turn.end_if(|state| {
        state.purge();
        if let Some(in_flight) = &mut state.in_flight {
            in_flight.in_doubt = true;
            pause = RESEND_FIRST.saturating_mul(1 << in_flight.sent.min(8)).min(RESEND_MAX);
        }
        !state.is_awaited() && state.pending.is_empty()
    });
    if let Some(turn) = turn {
        later(turn, pause);
    }
}

fn later(turn: Turn, pause: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        turn.queue();
    });
}

/// By chance between nothing and a bound that doubles: of k writers that race for each slot of a log, k - 1 create in vain
/// each time, and those that go on at the same moment race again.
fn pause_of_loser(inner: &Inner, log: &Active) -> Duration {
    let doublings = lock(&log.state).lost.saturating_sub(LOST_PATIENCE).min(8);
    let bound = YIELD_FIRST.saturating_mul(1 << doublings).min(YIELD_MAX);
    bound.mul_f64(f64::from(u32::from_be_bytes(clock::random(&*inner.entropy))) / f64::from(u32::MAX))
}
