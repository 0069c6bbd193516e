//! All or none: the commits of several logs in one transaction of the service, up to what that takes.

use futures_util::future::try_join_all;
use icecore_log::judge::{Judged, none_of};
use icecore_log::{Created, End, Error, ErrorKind, Result, Run};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::create::{DOING, Seen, check_boundary, judge, known_tenant, lost, remember};
use crate::fault::Fault;
use crate::slot::{self, ACTIONS_MAX, FIRST_ACTIONS, Slots, TRANSACTION_BYTES_MAX};
use crate::store::DynamoDb;

pub(crate) async fn create(inner: &DynamoDb, runs: &[Run], deadline: Instant) -> Result<Vec<Created>> {
    let mut slots: Vec<Slots<'_>> = runs.iter().map(|run| Slots::new(&run.log)).collect();
    let mut in_doubt = false;
    loop {
        let judged = try_join_all(runs.iter().map(|run| judge(inner, run, deadline))).await;
        let judged = judged.map_err(|error| if in_doubt { unknown(error) } else { error })?;
        if !judged.iter().all(|(judged, _)| judged.is_done()) {
            return stopped(runs, judged, in_doubt);
        }
        let left: Vec<_> =
            runs.iter().zip(&judged).filter(|(run, (judged, _))| judged.here < run.commits.len()).collect();
        let done = || Ok(runs.iter().map(|run| Created::done(run.commits.len())).collect());
        if left.is_empty() {
            return done();
        }
        check_size(left.iter().map(|(run, (judged, seen))| (*run, judged, *seen)))?;
        let mut actions: Vec<Value> = Vec::new();
        for ((run, (judged, seen)), slots) in runs.iter().zip(&judged).zip(&mut slots) {
            let rest = &run.commits[judged.here..];
            slots.stage(inner, rest, DOING, deadline).await?;
            if seen.is_new {
                known_tenant(inner, run, deadline).await?;
            }
            actions.extend(slots.actions(inner, rest, seen.is_new));
        }
        let begun = inner.settings.clocks.now();
        let sent = inner.api.send("TransactWriteItems", &json!({ "TransactItems": actions }), deadline).await;
        in_doubt |= sent.in_doubt;
        match sent.answer {
            Ok(_) => {
                for (run, (judged, seen)) in left {
                    let rest = &run.commits[judged.here..];
                    if let Some(first) = rest.first().filter(|_| inner.settings.is_stale(seen.at)) {
                        check_boundary(inner, run, first.version, deadline).await.map_err(unknown)?;
                    }
                    remember(inner, run, rest, begun);
                }
                return done();
            }
            Err(Fault::Condition) if Instant::now() < deadline => {}
            Err(fault) => return Err(fault.writing(DOING, in_doubt)),
        }
    }
}

/// At least one run is not won: so none is.
fn stopped(runs: &[Run], judged: Vec<(Judged, Seen)>, in_doubt: bool) -> Result<Vec<Created>> {
    for (run, (judged, _)) in runs.iter().zip(&judged) {
        if in_doubt && matches!(judged.end, End::Closed(_) | End::Gap) {
            return Err(lost(run));
        }
    }
    let created = runs.iter().zip(judged).map(|(run, (judged, _))| judged.created(run.commits.len()));
    Ok(none_of(created))
}

fn unknown(error: Error) -> Error {
    if error.kind() == ErrorKind::Unknown {
        error
    } else {
        Error::new(ErrorKind::Unknown, DOING).because(error)
    }
}

/// # Errors
/// [`ErrorKind::Refused`] if it is more than the service takes in one transaction. Nothing was sent.
fn check_size<'a>(runs: impl Iterator<Item = (&'a Run, &'a Judged, Seen)>) -> Result<()> {
    let (mut actions, mut bytes) = (0, 0);
    for (run, judged, seen) in runs {
        let rest = &run.commits[judged.here..];
        actions += rest.len() + if seen.is_new { FIRST_ACTIONS } else { 0 };
        bytes += rest.iter().map(slot::size).sum::<usize>();
    }
    if actions <= ACTIONS_MAX && bytes <= TRANSACTION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, DOING)
        .with("items", actions)
        .with("items_max", ACTIONS_MAX)
        .with("bytes", bytes)
        .with("bytes_max", TRANSACTION_BYTES_MAX)
        .advise("DynamoDB takes no more in one transaction, where a commit is an item and a new log two more: send less at once"))
}

#[cfg(test)]
mod tests {
    use icecore_conformance::commits;
    use icecore_log::grace::Clocks;

    use super::*;

    #[test]
    fn what_one_transaction_does_not_take_is_refused() {
        let at = Clocks::default().now();
        let sized = |count: u64, is_new: bool| {
            let run = commits::run(&commits::log("s-1"), 1..=count, 0);
            let judged = Judged { here: 0, end: End::Done };
            check_size([(&run, &judged, Seen { at, is_new })].into_iter()).map_err(|error| error.kind())
        };
        assert_eq!([sized(100, false), sized(98, true)], [Ok(()), Ok(())]);
        assert_eq!([sized(101, false), sized(99, true)], [Err(ErrorKind::Refused); 2]);
    }
}
