//! Logs made, closed and swept, bodies dropped, and blobs. Creating commits is in `create`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::judge;
use icecore_log::{BlobId, Error, ErrorKind, LogId, Swept, Version};
use sqlx::query;
use tokio::time::{Instant, sleep, timeout_at};

use super::fault::{Fault, Stage};
use super::pool::{Pool, Purpose, Session};
use super::wire::{self, PART_BYTES};

type Result<T> = std::result::Result<T, Fault>;

/// How often what others hold is asked for again.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Makes logs that are not there. They last as soon as something is committed after them; until then nobody misses them.
pub(super) async fn make_logs(pool: &Arc<Pool>, logs: &[LogId], deadline: Instant) -> Result<()> {
    let names: Vec<&[u8]> = logs.iter().map(|log| log.as_str().as_bytes()).collect();
    let crcs: Vec<i64> = logs.iter().map(|log| wire::log_crc(log, Version::ZERO)).collect();
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

/// Everything that can be seen now is durable when this returns.
pub(super) async fn make_durable(pool: &Arc<Pool>, deadline: Instant) -> Result<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.alone(query(wire::MAKE_DURABLE)).await?;
    Ok(())
}

pub(super) fn too_large(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, "writing to a store")
        .with("log", log)
        .with("version_max", i64::MAX)
        .advise("No log has so many commits")
}

pub(super) async fn close(pool: &Arc<Pool>, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
    let name = log.as_str().as_bytes();
    let crc = wire::log_crc(log, through);
    let signed = wire::signed(through);
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
            let head = wire::header(row, 3, log)?;
            if head.as_ref().is_some_and(|head| through >= head.version) {
                return Err(judge::head_stays(log, through).into());
            }
            let Some(boundary) = signed else { return Err(too_large(log).into()) };
            if wire::boundary(row, 1, log)? >= through {
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
            Err(Fault::Stuck(_)) if Instant::now() < deadline => {}
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
) -> Result<bool> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    session.execute(wire::LOCK_COMMITS).await?;
    let rows = session.within(query(wire::CLOSE_EMPTY).bind(name).bind(boundary).bind(crc)).await?;
    session.commit().await?;
    Ok(!rows.is_empty())
}

async fn pause(deadline: Instant) -> Result<()> {
    timeout_at(deadline, sleep(ASK_EVERY)).await.map_err(|_| Fault::late(Stage::Before))
}

pub(super) async fn sweep(pool: &Arc<Pool>, log: &LogId, deadline: Instant) -> Result<Swept> {
    let mut swept = Swept::default();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let rows = session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await?;
    let Some(row) = rows.first() else { return Ok(swept) };
    let id: i64 = wire::get(row, 0)?;
    let boundary = wire::boundary(row, 1, log)?.0.cast_signed();
    if !wire::get::<bool>(row, 3)? {
        return Ok(swept);
    }
    wait_for_writers(&mut session, deadline).await?;
    loop {
        // In steps, each with its own time, so that others get their turn in between.
        session.renew();
        let rows = session.alone(query(wire::SWEEP).bind(id).bind(boundary)).await?;
        let step: (i64, i64) = match rows.first() {
            Some(row) => (wire::get(row, 0)?, wire::get(row, 1)?),
            None => (0, 0),
        };
        if step.0 == 0 {
            return Ok(swept);
        }
        swept.commits += step.0.cast_unsigned();
        swept.bytes += step.1.cast_unsigned();
    }
}

/// A create that began before the boundary rose goes on with what it saw then, however long it is stuck. While the slots are
/// there it finds them taken; so they are deleted only when every statement that may be such a one is over.
async fn wait_for_writers(session: &mut Session, deadline: Instant) -> Result<()> {
    let mut begun: Option<HashSet<String>> = None;
    loop {
        let rows = session.look(query(wire::WRITERS)).await?;
        let now: HashSet<String> = rows.iter().map(|row| wire::get(row, 0)).collect::<Result<_>>()?;
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

pub(super) async fn drop_bodies(
    pool: &Arc<Pool>,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Result<()> {
    let versions: Vec<i64> = versions.iter().filter_map(|version| wire::signed(*version)).collect();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.alone(query(wire::DROP_BODIES).bind(log.as_str().as_bytes()).bind(versions)).await?;
    Ok(())
}

pub(super) async fn put_blob(
    pool: &Arc<Pool>,
    blob: &BlobId,
    content: &Bytes,
    deadline: Instant,
) -> Result<bool> {
    make_logs_if_absent(pool, blob.log(), deadline).await?;
    let bytes = content.len() as u64;
    let mut parts = (0_u64..).zip(content.chunks(PART_BYTES));
    let (_, first) = parts.next().unwrap_or((0, &[]));
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let statement = query(wire::PUT_BLOB)
        .bind(blob.log().as_str().as_bytes())
        .bind(blob.name().as_bytes())
        .bind(bytes.cast_signed())
        .bind(wire::part_crc(blob, 0, bytes, first))
        .bind(first);
    let rows = session.within(statement).await?;
    let Some(row) = rows.first() else {
        session.roll_back().await;
        drop(session);
        // Somebody else's, who may not have been told yet.
        make_durable(pool, deadline).await?;
        return Ok(false);
    };
    let id: i64 = wire::get(row, 0)?;
    for (part, content) in parts {
        // Each part may take as long as a call.
        session.renew();
        let statement = query(wire::PUT_PART)
            .bind(id)
            .bind(part.cast_signed())
            .bind(blob.name().as_bytes())
            .bind(bytes.cast_signed())
            .bind(wire::part_crc(blob, part, bytes, content))
            .bind(content);
        session.within(statement).await?;
    }
    session.commit().await?;
    Ok(true)
}

async fn make_logs_if_absent(pool: &Arc<Pool>, log: &LogId, deadline: Instant) -> Result<()> {
    let is_there = {
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        !session.look(query(wire::CLOSED).bind(log.as_str().as_bytes())).await?.is_empty()
    };
    if is_there { Ok(()) } else { make_logs(pool, std::slice::from_ref(log), deadline).await }
}

pub(super) async fn delete_blob(pool: &Arc<Pool>, blob: &BlobId, deadline: Instant) -> Result<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let statement = query(wire::DELETE_BLOB)
        .bind(blob.log().as_str().as_bytes())
        .bind(blob.name().as_bytes())
        .bind(PART_BYTES as i64);
    session.alone(statement).await?;
    Ok(())
}
