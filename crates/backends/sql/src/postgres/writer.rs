//! Logs made and closed, and what a sweep waits for.

use std::collections::HashSet;
use std::sync::Arc;

use icecore_log::judge;
use icecore_log::{Error, ErrorKind, LogId, Version};
use tokio::time::{Instant, sleep};

use super::Postgres;
use super::wire;
use crate::server::Done;
use crate::server::fault::Fault;
use crate::server::pool::{Purpose, Session as AnySession};
use crate::server::rows::{self, Row};
use crate::server::statement::query;
use crate::server::writer::{ASK_EVERY, make_durable, pause, too_large};

type Pool = crate::server::pool::Pool<Postgres>;
type Session = AnySession<Postgres>;

/// Makes logs that are not there. They last as soon as something is committed after them; until then nobody misses them.
pub(super) async fn make_logs(pool: &Arc<Pool>, logs: &[LogId], deadline: Instant) -> Done<()> {
    let names: Vec<&[u8]> = logs.iter().map(|log| log.as_str().as_bytes()).collect();
    let crcs: Vec<i64> = logs.iter().map(|log| rows::log_crc(log, Version::ZERO)).collect();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    session.execute("SET LOCAL synchronous_commit = off").await?;
    session.within(query(wire::LOCK_IDS)).await?;
    // A statement of its own: it sees what was committed before the lock was given.
    session.within(query(wire::ADD_LOGS).bind(names).bind(crcs)).await?;
    // Whether it was committed is found out by the statement that needs the logs.
    session.commit().await.map_err(|fault| match fault {
        Fault::Doubt(said) => Fault::Before(said),
        fault => fault,
    })
}

pub(super) async fn close(pool: &Arc<Pool>, log: &LogId, through: Version, deadline: Instant) -> Done<()> {
    let name = log.as_str().as_bytes();
    let crc = rows::log_crc(log, through);
    let signed = rows::signed(through);
    if let Some(boundary) = signed {
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        if !session.alone(query(wire::CLOSE).bind(name).bind(boundary).bind(crc)).await?.is_empty() {
            return Ok(());
        }
    }
    loop {
        let head = {
            let mut session = pool.session(Purpose::Writing, deadline).await?;
            let rows = session.look(query(wire::HEADS).bind(vec![name])).await?;
            let Some(row) = rows.first() else {
                if signed.is_none() {
                    return Err(too_large(log).into());
                }
                drop(session);
                make_logs(pool, std::slice::from_ref(log), deadline).await?;
                continue;
            };
            let head = rows::header(row, 3, log)?;
            if head.as_ref().is_some_and(|head| through >= head.version) {
                return Err(judge::head_stays(log, through).into());
            }
            let Some(boundary) = signed else { return Err(too_large(log).into()) };
            if rows::boundary(row, 1, log)? >= through {
                drop(session);
                // It was raised before, by somebody who may not have been told yet.
                return make_durable(pool, deadline).await;
            }
            (head, boundary)
        };
        let (head, boundary) = head;
        let closed = if head.is_some() {
            let mut session = pool.session(Purpose::Writing, deadline).await?;
            session
                .alone(query(wire::CLOSE).bind(name).bind(boundary).bind(crc))
                .await
                .map(|rows| !rows.is_empty())
        } else {
            close_empty(pool, name, boundary, crc, deadline).await
        };
        match closed {
            Ok(true) => return Ok(()),
            // Something was created or closed meanwhile, or somebody is in the way.
            Ok(false) => {}
            Err(Fault::Stuck(_) | Fault::Raced(_)) if Instant::now() < deadline => {}
            Err(fault) => return Err(fault),
        }
        pause(deadline).await?;
    }
}

/// Closes a log without commits. There is no commit above the boundary that a create would have to find its slot taken by,
/// so creates that have not seen the boundary must be over, and none may begin.
async fn close_empty(
    pool: &Arc<Pool>,
    name: &[u8],
    boundary: i64,
    crc: i64,
    deadline: Instant,
) -> Done<bool> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    session.execute(wire::LOCK_COMMITS).await?;
    let rows = session.within(query(wire::CLOSE_EMPTY).bind(name).bind(boundary).bind(crc)).await?;
    session.commit().await?;
    Ok(!rows.is_empty())
}

/// A create that began before the boundary rose goes on with what it saw then, however long it is stuck. While the slots are
/// there it finds them taken; so they are deleted only when every statement that may be such a one is over.
pub(super) async fn wait_for_writers(session: &mut Session, deadline: Instant) -> Done<()> {
    let mut begun: Option<HashSet<String>> = None;
    loop {
        let rows = session.look(query(wire::WRITERS)).await?;
        let now: HashSet<String> = rows.iter().map(|row| row.text(0)).collect::<Done<_>>()?;
        let left: HashSet<String> = match begun {
            Some(begun) => begun.intersection(&now).cloned().collect(),
            None => now,
        };
        if left.is_empty() {
            return Ok(());
        }
        begun = Some(left);
        if Instant::now() + ASK_EVERY >= deadline {
            let error = Error::new(ErrorKind::Unavailable, "sweeping a log");
            return Err(error
                .advise("A writer that began before the log was closed has not ended yet: sweep again later")
                .into());
        }
        sleep(ASK_EVERY).await;
    }
}
