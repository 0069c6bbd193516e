//! What is written beside commits: what is closed is swept, bodies are dropped, and blobs are put. Creating commits is in `create`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::{BlobId, Error, ErrorKind, LogId, Swept, Version};
use tokio::time::{Instant, sleep, timeout_at};

use super::fault::{Fault, Stage};
use super::pool::{Pool, Purpose};
use super::rows::{self, PART_BYTES, Row};
use super::{Dialect, Done};

/// How often what others hold is asked for again.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(5);

/// A part of a blob behind its first.
pub(crate) struct Part<'a> {
    pub log: i64,
    pub blob: &'a BlobId,
    pub part: i64,
    /// Of the whole.
    pub bytes: i64,
    pub crc: i64,
    pub content: &'a [u8],
}

/// Everything that can be seen now is durable when this returns.
pub(crate) async fn make_durable<D: Dialect>(pool: &Arc<Pool<D>>, deadline: Instant) -> Done<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    D::make_durable(&mut session).await
}

pub(crate) fn too_large(log: &LogId) -> Error {
    Error::new(ErrorKind::Invalid, "writing to a store")
        .with("log", log)
        .with("version_max", i64::MAX)
        .advise("No log has so many commits")
}

pub(crate) async fn pause(deadline: Instant) -> Done<()> {
    timeout_at(deadline, sleep(ASK_EVERY)).await.map_err(|_| Fault::late(Stage::Before))
}

pub(crate) async fn sweep<D: Dialect>(pool: &Arc<Pool<D>>, log: &LogId, deadline: Instant) -> Done<Swept> {
    let mut swept = Swept::default();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    let found = D::closed(&mut session, log).await?;
    let Some(row) = found.first() else { return Ok(swept) };
    let id = row.number(0)?;
    let boundary = rows::boundary(row, 1, log)?.0.cast_signed();
    if row.number(3)? == 0 {
        return Ok(swept);
    }
    D::wait_for_writers(&mut session, deadline).await?;
    loop {
        // In steps, each with its own time, so that others get their turn in between.
        session.renew();
        let (commits, bytes) = match D::sweep(&mut session, id, boundary).await {
            Err(Fault::Raced(_)) if Instant::now() < deadline => {
                pause(deadline).await?;
                continue;
            }
            swept => swept?,
        };
        if commits == 0 {
            return Ok(swept);
        }
        swept.commits += commits;
        swept.bytes += bytes;
    }
}

pub(crate) async fn drop_bodies<D: Dialect>(
    pool: &Arc<Pool<D>>,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Done<()> {
    let versions: Vec<i64> = versions.iter().filter_map(|version| rows::signed(*version)).collect();
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    loop {
        match D::drop_bodies(&mut session, log, &versions).await {
            Err(Fault::Raced(_)) if session.has_time() => pause(deadline).await?,
            dropped => return dropped,
        }
    }
}

/// Keeps a blob, all its parts in one transaction.
pub(crate) async fn put_blob<D: Dialect>(
    pool: &Arc<Pool<D>>,
    blob: &BlobId,
    content: &Bytes,
    deadline: Instant,
) -> Done<bool> {
    loop {
        let put = put_once(pool, blob, content, deadline).await;
        match put {
            Err(Fault::Raced(_)) if Instant::now() < deadline => pause(deadline).await?,
            put => return put,
        }
    }
}

async fn put_once<D: Dialect>(
    pool: &Arc<Pool<D>>,
    blob: &BlobId,
    content: &Bytes,
    deadline: Instant,
) -> Done<bool> {
    make_log_if_absent(pool, blob.log(), deadline).await?;
    let bytes = content.len() as u64;
    let mut parts = (0_u64..).zip(content.chunks(PART_BYTES));
    let (_, first) = parts.next().unwrap_or((0, &[]));
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    session.begin().await?;
    let crc = rows::part_crc(blob, 0, bytes, first);
    let Some(log) = D::put_first(&mut session, blob, bytes.cast_signed(), crc, first).await? else {
        session.roll_back().await;
        drop(session);
        // Somebody else's, who may not have been told yet.
        make_durable(pool, deadline).await?;
        return Ok(false);
    };
    for (part, content) in parts {
        // Each part may take as long as a call.
        session.renew();
        let crc = rows::part_crc(blob, part, bytes, content);
        let (part, bytes) = (part.cast_signed(), bytes.cast_signed());
        D::put_part(&mut session, Part { log, blob, part, bytes, crc, content }).await?;
    }
    session.commit().await?;
    Ok(true)
}

async fn make_log_if_absent<D: Dialect>(pool: &Arc<Pool<D>>, log: &LogId, deadline: Instant) -> Done<()> {
    let is_there = {
        let mut session = pool.session(Purpose::Writing, deadline).await?;
        !D::closed(&mut session, log).await?.is_empty()
    };
    if is_there { Ok(()) } else { D::make_logs(pool, std::slice::from_ref(log), deadline).await }
}

pub(crate) async fn delete_blob<D: Dialect>(
    pool: &Arc<Pool<D>>,
    blob: &BlobId,
    deadline: Instant,
) -> Done<()> {
    let mut session = pool.session(Purpose::Writing, deadline).await?;
    loop {
        match D::delete_blob(&mut session, blob).await {
            Err(Fault::Raced(_)) if session.has_time() => pause(deadline).await?,
            deleted => return deleted,
        }
    }
}
