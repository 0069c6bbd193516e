//! What was only read is made durable before anybody is told that it was committed.
//!
//! A commit whose standbys or replicas were away when it was written can be read, and may still be lost with the one server that has
//! it. Who finds an entry's id in such a commit must not answer with its receipt. A backend makes durable what it finds in a slot
//! before it says that it was won; so the log's last commit is sent again, as it is, and with it all that it follows.

use icecore_log::{End, Error, ErrorKind, LogId, Mode, PageLimit, Result, Run};

use crate::appender::{Active, Known, Tip};
use crate::{Inner, lock, open};

/// Makes durable what this process has read of a log whose turn it has. If that fails, the entry that waits for it first is told.
pub(crate) async fn confirm_turn(inner: &Inner, turn: &Active, tip: &Tip) {
    let confirmed = confirm(inner, &turn.id, tip).await;
    let mut state = lock(&turn.state);
    state.must_confirm = false;
    match confirmed {
        Ok(true) => state.durable = tip.version,
        // It is another history: what is in it is read anew.
        Ok(false) => state.known = Known::Nothing,
        Err(error) => {
            if let Some(front) = state.pending.pop_front() {
                front.answer(Err(in_doubt(&turn.id, error)));
            }
        }
    }
}

/// Makes durable what was just read of a log. One that is only read cannot be, and is taken as it is.
///
/// # Errors
/// [`ErrorKind::Unknown`] if it is not known whether it is.
pub(crate) async fn confirm_read(inner: &Inner, log: &LogId) -> Result<()> {
    if inner.capabilities.read_only {
        return Ok(());
    }
    let Some(tip) = open::tip(inner, log).await? else {
        return Ok(());
    };
    match confirm(inner, log, &tip).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(in_doubt(
            log,
            Error::new(ErrorKind::Unavailable, DOING).advise("The log's end is another now"),
        )),
        Err(error) => Err(in_doubt(log, error)),
    }
}

const DOING: &str = "making what was read durable";

/// Whether all through the tip is in the log, and durable; `false` if another commit stands there, or none.
async fn confirm(inner: &Inner, log: &LogId, tip: &Tip) -> Result<bool> {
    let page = inner.backend.read(log, tip.version, PageLimit::WHOLE.commits(1)).await?;
    let Some(commit) = page.commits.into_iter().find(|commit| commit.hash() == tip.hash) else {
        return Ok(false);
    };
    let previous = open::decode(log, commit.version, commit.header.clone())?.previous;
    let runs = vec![Run::one(log.clone(), previous, commit)];
    match inner.backend.create(runs, Mode::Each).await.pop().map(|created| created.end) {
        Some(End::Done) => Ok(true),
        Some(End::Failed(error)) => Err(error),
        Some(End::Taken | End::Closed(_) | End::Gap) => Ok(false),
        None => Err(Error::new(ErrorKind::Unknown, DOING).advise("The backend gave no answer")),
    }
}

fn in_doubt(log: &LogId, error: Error) -> Error {
    Error::new(ErrorKind::Unknown, "appending").with("log", log).because(error).advise(
        "It is in the log, but it may not last: too few servers are known to have it. Retry with the same id, or resolve it",
    )
}
