//! All or none: a transaction, which sees one moment of the store and is refused where others wrote since.

use std::time::Duration;

use icecore_log::judge::{self, Ends, Judged};
use icecore_log::{Created, Error, ErrorKind, Result, Run};
use mongodb::ClientSession;
use mongodb::bson::Document;
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::ReadConcern;
use tokio::time::{Instant, sleep, timeout_at};

use crate::create::{DOING, same, stored};
use crate::fault::Fault;
use crate::look::{self, Look};
use crate::parts::{self, Parts};
use crate::place::{PAUSE_FIRST, PAUSE_LAST, named};
use crate::slot;
use crate::store::MongoDb;
use crate::trim;

pub(crate) async fn create(
    inner: &MongoDb,
    runs: &[Run],
    invalid: Vec<Option<Error>>,
    deadline: Instant,
) -> Vec<Created> {
    let all = |error: Error| runs.iter().map(|_| Created::failed(error.clone())).collect::<Vec<_>>();
    if !inner.place.is_set {
        return all(Error::new(ErrorKind::Refused, DOING).advise(
            "A server without a replica set has no transactions: nothing is all or none across logs",
        ));
    }
    if invalid.iter().any(Option::is_some) {
        let created = |invalid: Option<Error>| invalid.map_or(Created::done(0), Created::failed);
        return judge::none_of(invalid.into_iter().map(created));
    }
    let nonce = parts::nonce();
    if let Err(fault) = stage(inner, runs, &nonce, deadline).await {
        return all(fault.reading(DOING));
    }
    let (mut pause, mut in_doubt) = (PAUSE_FIRST, false);
    loop {
        let fault = match timeout_at(deadline, attempt(inner, runs, &nonce, &mut in_doubt, deadline)).await {
            Ok(Ok(judged)) => return answers(inner, runs, judged),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::late(),
        };
        // What is not committed is not there, whatever became of the requests before: only a commit is in doubt.
        let again = fault.is_passing() || fault.is_conflict() || fault.has_label(TRANSIENT_TRANSACTION_ERROR);
        if !again || Instant::now() + pause >= deadline {
            let error = if in_doubt { fault.writing(DOING, true) } else { fault.reading(DOING) };
            return all(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

async fn stage(inner: &MongoDb, runs: &[Run], nonce: &str, deadline: Instant) -> Result<(), Fault> {
    for run in runs {
        for commit in run.commits.iter().filter(|commit| slot::is_large(commit)) {
            let id = slot::id(&run.log, commit.version);
            let parts = Parts { place: &inner.place, owner: &id, nonce };
            parts.write(commit.body.as_deref().unwrap_or_default(), deadline).await?;
        }
    }
    Ok(())
}

async fn attempt(
    inner: &MongoDb,
    runs: &[Run],
    nonce: &str,
    in_doubt: &mut bool,
    deadline: Instant,
) -> Result<Vec<Judged>, Fault> {
    let mut session = inner.place.client.start_session().await?;
    let begin = session.start_transaction().read_concern(ReadConcern::snapshot());
    begin.write_concern(inner.settings.write_concern()).await?;
    let judged = match inside(inner, runs, nonce, &mut session, deadline).await {
        Ok(judged) => judged,
        Err(fault) => {
            // If that fails too, the server ends it in time.
            let _ = session.abort_transaction().await;
            return Err(fault);
        }
    };
    // Also where nothing is written: what was seen is then on a majority.
    loop {
        let Err(error) = session.commit_transaction().await else { return Ok(judged) };
        let fault = Fault::from(error);
        *in_doubt |= fault.is_doubt() && !fault.has_label(TRANSIENT_TRANSACTION_ERROR);
        if !fault.has_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
            return Err(fault);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn inside(
    inner: &MongoDb,
    runs: &[Run],
    nonce: &str,
    session: &mut ClientSession,
    deadline: Instant,
) -> Result<Vec<Judged>, Fault> {
    let (mut all, mut new) = (Vec::with_capacity(runs.len()), Vec::new());
    let mut documents: Vec<Document> = Vec::new();
    for run in runs {
        let Look { boundary, is_marked, tip, .. } = look::look_in(inner, &run.log, session, DOING).await?;
        let head = tip.map(|tip| (tip.last, tip.hash));
        // Slots never change: what is at or below the head can be read outside.
        let stored = match head {
            Some((head, _)) => stored(inner, run, boundary, head, deadline).await?,
            None => Vec::new(),
        };
        let judged =
            judge::judge(run, Ends { boundary, head }, |commit| Ok::<_, Error>(same(&stored, commit)))?;
        if !is_marked {
            new.push((&run.log, boundary));
        }
        documents
            .extend(run.commits[judged.here..].iter().map(|commit| slot::encode(&run.log, commit, nonce)));
        all.push(judged);
    }
    if all.iter().all(Judged::is_done) {
        for (log, boundary) in new {
            let raise = inner.place.logs.update_one(named(log), trim::raising(boundary)).upsert(true);
            raise.session(&mut *session).await?;
        }
        if !documents.is_empty() {
            inner.place.commits.insert_many(&documents).session(session).await?;
        }
    }
    Ok(all)
}

fn answers(inner: &MongoDb, runs: &[Run], judged: Vec<Judged>) -> Vec<Created> {
    let is_done = judged.iter().all(Judged::is_done);
    let created = judged.into_iter().zip(runs).map(|(judged, run)| judged.created(run.commits.len()));
    if !is_done {
        return judge::none_of(created);
    }
    // When that was is not known to the moment: the next create looks.
    runs.iter().for_each(|run| inner.known.forget(&run.log));
    created.collect()
}
