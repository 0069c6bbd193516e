//! Rounds: every log that has something pending sends its next commit, all of them in one `create`.
//!
//! No task runs while nothing is pending. Who makes a log busy starts a worker if fewer than the backend wants are
//! at work; a worker goes on until no log is left. So a commit's fate never depends on the task of a caller.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_log::{Created, End, Error, ErrorKind, Mode, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::append::Expect;
use crate::appender::{Active, Known, Pending, Phase, State, Turn};
use crate::{Inner, id_runs, lock, open};

/// The most logs in one `create`.
const LOGS_A_ROUND: usize = 1_024;
/// How often in a row a create behind the head just read may be refused before the log is taken to be damaged.
const REFUSED_MAX: u32 = 5;
/// Pauses between sending a commit in doubt again: doubled from the first to the last.
const RESEND_FIRST: Duration = Duration::from_millis(5);
const RESEND_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Rounds {
    ready: Mutex<VecDeque<Turn>>,
    workers: Arc<Semaphore>,
    looked_for_doubt: Mutex<Option<Instant>>,
}

impl Rounds {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            ready: Mutex::default(),
            workers: Arc::new(Semaphore::new(workers)),
            looked_for_doubt: Mutex::default(),
        }
    }

    fn take(&self) -> Vec<Turn> {
        let mut ready = lock(&self.ready);
        let count = ready.len().min(LOGS_A_ROUND);
        ready.drain(..count).collect()
    }
}

/// Adds an entry to what is pending, and starts a round if nobody works on the log.
pub(crate) fn join(inner: &Arc<Inner>, active: &Arc<Active>, pending: Pending) {
    let start = {
        let mut state = lock(&active.state);
        // Behind a commit in doubt nothing is taken: what was withdrawn goes when the next one comes.
        while state.is_in_doubt() && state.pending.front().is_some_and(Pending::is_alone) {
            state.pending.pop_front();
        }
        state.pending.push_back(pending);
        state.phase == Phase::Idle && {
            state.phase = Phase::Busy;
            true
        }
    };
    if start {
        enqueue(inner, Arc::clone(active));
    }
}

/// Wins the next slot with an empty commit: then nothing sent earlier can land any more.
pub(crate) async fn win_a_slot(inner: &Arc<Inner>, active: &Arc<Active>) -> Result<()> {
    let (pending, _, outcome) = Pending::new(None, Expect::Any, None);
    join(inner, active, pending);
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
        let mut last = lock(&inner.rounds.looked_for_doubt);
        if last.is_some_and(|last| last.elapsed() < RESEND_MAX) {
            return;
        }
        *last = Some(Instant::now());
    }
    for active in inner.all_active() {
        let mut state = lock(&active.state);
        if state.phase == Phase::Idle && state.in_flight.is_some() {
            state.phase = Phase::Busy;
            drop(state);
            enqueue(inner, active);
        }
    }
}

fn enqueue(inner: &Arc<Inner>, turn: Turn) {
    lock(&inner.rounds.ready).push_back(turn);
    start_worker(inner);
}

fn start_worker(inner: &Arc<Inner>) {
    if let Ok(permit) = Arc::clone(&inner.rounds.workers).try_acquire_owned() {
        tokio::spawn(work(Arc::clone(inner), permit));
    }
}

async fn work(inner: Arc<Inner>, permit: OwnedSemaphorePermit) {
    loop {
        let turns = inner.rounds.take();
        if turns.is_empty() {
            break;
        }
        round(&inner, turns).await;
    }
    drop(permit);
    // Somebody may have queued between our last look and giving the permit back.
    if !lock(&inner.rounds.ready).is_empty() {
        start_worker(&inner);
    }
}

async fn round(inner: &Arc<Inner>, turns: Vec<Turn>) {
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
            rest(inner, &turn, state);
        }
    }
    if !cold.is_empty() {
        // Opening reads; the logs that are open need not wait for it.
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            for turn in open::open(&inner, cold).await {
                enqueue(&inner, turn);
            }
        });
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
        apply(inner, &turn, answer);
    }
}

fn apply(inner: &Arc<Inner>, turn: &Turn, answer: Created) {
    let mut state = lock(&turn.state);
    match answer.end {
        End::Done => {
            state.won(&turn.id);
            id_runs::keep_up(inner, turn, &mut state);
        }
        End::Taken => state.lost(),
        End::Closed(_) | End::Gap if state.is_in_doubt() => {
            // An earlier try may have landed and been trimmed since: neither "again" nor "nothing was written" would be true.
            state.give_up_in_flight(&turn.id);
        }
        End::Closed(_) | End::Gap => {
            // The log moved under us in a way that following it cannot tell: look at it from the start.
            state.lost();
            state.known = Known::Nothing;
            state.refused += 1;
            if state.refused > REFUSED_MAX {
                state.refused = 0;
                let error = Error::new(ErrorKind::Corrupt, "appending").with("log", &turn.id);
                state.fail_pending(
                    &error.advise("The backend refuses what follows the head that it shows: verify the log"),
                );
            }
        }
        End::Failed(error) => {
            if state.is_in_doubt() || error.kind() == ErrorKind::Unknown {
                doubt(inner, turn, state);
                return;
            }
            state.failed(&error.with("log", &turn.id));
        }
    }
    rest(inner, turn, state);
}

/// Sends the same bytes again after a while, for as long as somebody waits; else leaves them to the next append.
fn doubt(inner: &Arc<Inner>, turn: &Turn, mut state: std::sync::MutexGuard<'_, State>) {
    state.purge();
    let awaited = state.is_awaited() || !state.pending.is_empty();
    let Some(in_flight) = &mut state.in_flight else {
        return;
    };
    in_flight.in_doubt = true;
    if !awaited {
        state.phase = Phase::Idle;
        return;
    }
    let pause = RESEND_FIRST.saturating_mul(1 << in_flight.sent.min(8)).min(RESEND_MAX);
    drop(state);
    let (inner, turn) = (Arc::clone(inner), Arc::clone(turn));
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        enqueue(&inner, turn);
    });
}

/// Ends the log's turn: queued again if something is pending, idle otherwise.
fn rest(inner: &Arc<Inner>, turn: &Turn, mut state: std::sync::MutexGuard<'_, State>) {
    if state.pending.is_empty() && state.in_flight.is_none() {
        state.phase = Phase::Idle;
        return;
    }
    drop(state);
    enqueue(inner, Arc::clone(turn));
}
