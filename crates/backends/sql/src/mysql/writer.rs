//! Commits added, and logs made and closed, under the locks of the logs' rows.
//!
//! Who creates holds the row of each log shared until its transaction ends, and who raises a boundary holds it alone. So a boundary that
//! was looked at holds, and one that was raised was seen by everybody who creates after it: a sweep has nobody to wait for.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_log::judge::{self, Ends};
use icecore_log::{End, LogId, Run, StoredCommit, Version};
use tokio::time::Instant;

use super::{MySql, wire};
use crate::server::create::Task;
use crate::server::fault::Fault;
use crate::server::pool::{Purpose, Session};
use crate::server::rows::{self, Row};
use crate::server::statement::query;
use crate::server::writer::{make_durable, pause, too_large};
use crate::server::{Dialect, Done};

type Pool = crate::server::pool::Pool<MySql>;
type Statement = crate::server::statement::Statement<sqlx::MySql>;

/// A statement of more rows than this is not kept prepared.
const KEPT_ROWS: usize = 32;

/// Binds so many names as the statement has places for.
pub(super) fn bind_names<'a>(
    statement: Statement,
    names: impl ExactSizeIterator<Item = &'a LogId>,
) -> Statement {
    let rest = wire::places(names.len()) - names.len();
    let statement = names.fold(statement, |statement, log| statement.bind(log.as_str().as_bytes()));
    (0..rest).fold(statement, |statement, _| statement.bind(None::<&[u8]>))
}

/// Adds what may be added; in the transaction that was begun.
pub(super) async fn add(session: &mut Session<MySql>, tasks: &[&mut Task<'_>]) -> Done<Vec<usize>> {
    let mut new: Vec<&LogId> = tasks.iter().filter(|task| task.is_new).map(|task| &task.run.log).collect();
    add_logs(session, &mut new).await?;
    let statement = query(wire::lock_heads(tasks.len()));
    let logs: Vec<&LogId> = tasks.iter().map(|task| &task.run.log).collect();
    let found = session.within(bind_names(statement, logs.iter().copied())).await?;
    let places: HashMap<&[u8], usize> =
        logs.iter().enumerate().map(|(place, log)| (log.as_str().as_bytes(), place)).collect();
    let mut added = Vec::with_capacity(found.len());
    for row in &found {
        let Some(place) = places.get(&row.bytes(0)?[..]).copied() else { continue };
        let task = &tasks[place];
        // A log whose row is damaged is looked at by itself, where it is told.
        if rows::ends(row, 1, &task.run.log).is_ok_and(|ends| may_follow(task, ends)) {
            added.push((row.number(6)?, place));
        }
    }
    // Each takes its slots in the same order, or two of them could wait for each other.
    added.sort_unstable();
    let commits: Vec<(i64, &LogId, &StoredCommit)> = added
        .iter()
        .flat_map(|(id, place)| {
            let task = &tasks[*place];
            task.piece().iter().map(|commit| (*id, &task.run.log, commit))
        })
        .collect();
    if !commits.is_empty() {
        session.within(insert(&commits)).await?;
    }
    Ok(added.into_iter().map(|(_, place)| place).collect())
}

/// Whether the next commit of a task is what the log goes on with. Where its slot is filled it is not, whatever is in there: that is looked at.
fn may_follow(task: &Task<'_>, ends: Ends) -> bool {
    let rest =
        Run { log: task.run.log.clone(), previous: task.previous(), commits: task.rest()[..1].to_vec() };
    let judged = judge::judge(&rest, ends, |_| Ok::<_, Fault>(Some(false)));
    judged.is_ok_and(|judged| judged.here == 0 && matches!(judged.end, End::Done))
}

fn insert(commits: &[(i64, &LogId, &StoredCommit)]) -> Statement {
    let statement = query(wire::add_commits(commits.len())).kept(commits.len() <= KEPT_ROWS);
    commits.iter().fold(statement, |statement, (id, log, commit)| {
        let body = commit.body.as_deref();
        statement
            .bind(*id)
            .bind(commit.version.0.cast_signed())
            .bind(rows::commit_crc(log, commit.version, &commit.header))
            .bind(body.map(|body| rows::commit_crc(log, commit.version, body)))
            .bind(i64::try_from(commit.len()).unwrap_or(i64::MAX))
            .bind(&commit.header[..])
            .bind(body)
    })
}

/// Adds logs, all of them or, if one is there, none.
async fn add_logs(session: &mut Session<MySql>, logs: &mut [&LogId]) -> Done<()> {
    if logs.is_empty() {
        return Ok(());
    }
    logs.sort_unstable();
    let statement = query(wire::add_logs(logs.len())).kept(logs.len() <= KEPT_ROWS);
    let statement = logs.iter().fold(statement, |statement, log| {
        statement.bind(log.as_str().as_bytes()).bind(rows::log_crc(log, Version::ZERO))
    });
    session.within(statement).await.map(drop)
}

/// Makes a log, if nobody else does.
pub(super) async fn make_log(pool: &Arc<Pool>, log: &LogId, deadline: Instant) -> Done<()> {
    loop {
        let made = async {
            let mut session = pool.session(Purpose::Writing, deadline).await?;
            session.begin().await?;
            add_logs(&mut session, &mut [log]).await?;
            // Whether it was committed is found out by the statement that needs the log.
            session.commit().await
        };
        match made.await {
            Err(Fault::Raced(_)) => {}
            Err(Fault::Doubt(said)) => return Err(Fault::Before(said)),
            made => return made,
        }
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        if !MySql::closed(&mut session, log).await?.is_empty() {
            return Ok(());
        }
        drop(session);
        pause(deadline).await?;
    }
}

pub(super) async fn close(pool: &Arc<Pool>, log: &LogId, through: Version, deadline: Instant) -> Done<()> {
    loop {
        match close_once(pool, log, through, deadline).await {
            Ok(Some(true)) => return Ok(()),
            // It was raised before, by somebody who may not have been told yet.
            Ok(Some(false)) => return make_durable(pool, deadline).await,
            Ok(None) if rows::signed(through).is_none() => return Err(too_large(log).into()),
            Ok(None) => make_log(pool, log, deadline).await?,
            Err(Fault::Stuck(_) | Fault::Raced(_)) if Instant::now() < deadline => pause(deadline).await?,
            Err(fault) => return Err(fault),
        }
    }
}

/// Whether it raised the boundary; `None` if there is no such log.
async fn close_once(
    pool: &Arc<Pool>,
    log: &LogId,
    through: Version,
    deadline: Instant,
) -> Done<Option<bool>> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let found = session.within(query(wire::LOCK_LOG).bind(log.as_str().as_bytes())).await?;
    let Some(row) = found.first() else {
        session.roll_back().await;
        return Ok(None);
    };
    let id = row.number(0)?;
    let boundary = rows::boundary(row, 1, log)?;
    let found = session.within(query(wire::GET_HEAD).bind(id)).await?;
    let head = found.first().map(|row| rows::header(row, 0, log)).transpose()?.flatten();
    if head.as_ref().is_some_and(|head| through >= head.version) {
        session.roll_back().await;
        return Err(judge::head_stays(log, through).into());
    }
    let Some(signed) = rows::signed(through) else {
        session.roll_back().await;
        return Err(too_large(log).into());
    };
    if boundary >= through {
        session.roll_back().await;
        return Ok(Some(false));
    }
    let crc = rows::log_crc(log, through);
    session
        .execute(&format!("UPDATE icecore_logs SET boundary = {signed}, crc = {crc} WHERE id = {id}"))
        .await?;
    session.commit().await?;
    Ok(Some(true))
}

/// Deletes some of the commits through a boundary; how many, and their bytes.
pub(super) async fn sweep(session: &mut Session<MySql>, id: i64, boundary: i64) -> Done<(u64, u64)> {
    session.begin().await?;
    let doomed = session.within(query(wire::LOCK_CLOSED).bind(id).bind(boundary)).await?;
    let Some(last) = doomed.last() else {
        session.roll_back().await;
        return Ok((0, 0));
    };
    let last = last.number(0)?;
    let bytes = doomed.iter().map(|row| row.number(1)).sum::<Done<i64>>()?;
    let gone = session
        .execute(&format!("DELETE FROM icecore_commits WHERE log = {id} AND version <= {last}"))
        .await?;
    session.commit().await?;
    Ok((gone, bytes.cast_unsigned()))
}
