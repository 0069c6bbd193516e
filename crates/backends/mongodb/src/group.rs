//! Single commits of several logs in one insert: what most rounds bring. One request, one wait for the majority and the journal.
//!
//! Only commits behind a head that this handle knows, each the only one of its run: an insert out of order leaves holes, and a run has none.
//! What is not plainly ours by this is decided one by one, as if it came alone; whether the insert may have left it there is told on.

use std::collections::BTreeMap;

use icecore_log::grace::Moment;
use icecore_log::{Created, End, Error, Run};
use mongodb::bson::Document;
use mongodb::error::{Error as Failure, ErrorKind as Kind};
use tokio::time::{Instant, timeout_at};

use crate::create::{of_one_insert, undecided};
use crate::fault::TAKEN;
use crate::look;
use crate::slot;
use crate::store::MongoDb;

/// What became of a run in the insert of its group.
#[derive(Debug, Clone)]
pub(crate) enum Grouped {
    /// It is decided.
    Done(Created),
    /// It is to be decided by itself; also if it was in none.
    Open {
        /// Whether it may be there by the insert, or come to be yet.
        in_doubt: bool,
    },
}

/// A run that goes with others.
struct Member<'a> {
    place: usize,
    run: &'a Run,
    seen: Moment,
}

/// Inserts those that may go together; what became of each run, in order.
pub(crate) async fn create(
    inner: &MongoDb,
    runs: &[Run],
    invalid: &[Option<Error>],
    deadline: Instant,
) -> Vec<Grouped> {
    let mut all: Vec<Grouped> = runs.iter().map(|_| Grouped::Open { in_doubt: false }).collect();
    let mut members = members(inner, runs, invalid);
    while members.len() > 1 {
        let rest = members.split_off(of_one_insert(members.iter().map(|member| member.run.commits[0].len())));
        for (place, grouped) in insert(inner, &members, deadline).await {
            all[place] = grouped;
        }
        members = rest;
    }
    all
}

/// Those that may go together.
fn members<'a>(inner: &MongoDb, runs: &'a [Run], invalid: &[Option<Error>]) -> Vec<Member<'a>> {
    let settings = &inner.settings;
    let each = runs.iter().zip(invalid).enumerate();
    each.filter_map(|(place, (run, invalid))| {
        let [commit] = &run.commits[..] else { return None };
        let seen = inner.known.followed_by(run).filter(|seen| !settings.is_stale(*seen))?;
        (invalid.is_none() && !slot::is_large(commit)).then_some(Member { place, run, seen })
    })
    .collect()
}

async fn insert(inner: &MongoDb, members: &[Member<'_>], deadline: Instant) -> Vec<(usize, Grouped)> {
    let commit = |member: &Member<'_>| slot::encode(&member.run.log, &member.run.commits[0], "");
    let documents: Vec<Document> = members.iter().map(commit).collect();
    let begun = inner.settings.clocks.now();
    let sent = timeout_at(deadline, inner.place.commits.insert_many(&documents).ordered(false)).await;
    let Ok(sent) = sent else {
        let late = |member: &Member<'_>| {
            let error = undecided("the server did not answer in time").with("log", &member.run.log);
            (member.place, Grouped::Done(Created { won: 0, end: End::Failed(error) }))
        };
        return members.iter().map(late).collect();
    };
    let refused = match &sent {
        Ok(_) => Some(BTreeMap::new()),
        Err(error) => refused(error),
    };
    let decide = |(number, member): (usize, &Member<'_>)| {
        let is_made = refused.as_ref().is_some_and(|refused| !refused.contains_key(&number));
        // Somebody else's is there, or our own from before: nothing of this insert is under way.
        let is_taken = refused.as_ref().and_then(|refused| refused.get(&number)) == Some(&TAKEN);
        // Stopped for too long in the middle: the slot may have been built on and trimmed since.
        if !is_made || inner.settings.is_stale(member.seen) {
            return (member.place, Grouped::Open { in_doubt: !is_taken });
        }
        let commit = &member.run.commits[0];
        inner.known.saw(&member.run.log, look::tip(commit.version, commit.header.clone(), begun));
        (member.place, Grouped::Done(Created { won: 1, end: End::Done }))
    };
    members.iter().enumerate().map(decide).collect()
}

/// Which documents of an insert out of order were refused, and the code of each: all others are there, by a majority. `None` if that cannot
/// be told.
fn refused(error: &Failure) -> Option<BTreeMap<usize, i32>> {
    let Kind::InsertMany(failure) = &*error.kind else { return None };
    if failure.write_concern_error.is_some() {
        return None;
    }
    Some(failure.write_errors.as_deref()?.iter().map(|refused| (refused.index, refused.code)).collect())
}
