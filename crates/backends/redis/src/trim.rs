//! Closing and sweeping logs, dropping bodies, and blobs.

use bytes::Bytes;
use icecore_log::judge;
use icecore_log::{BlobId, Error, ErrorKind, LogId, Result, Swept, Version};
use redis::Value;
use tokio::time::Instant;

use crate::answer;
use crate::call::Call;
use crate::create::too_high;
use crate::fault::Fault;
use crate::keys::{Bucket, VERSION_MAX};
use crate::parts;
use crate::read;
use crate::script;
use crate::store::Redis;

/// How many commits a script sweeps, or how many bodies it drops: others wait for it.
const AT_ONCE: usize = 1_000;
/// How often what is to be deleted is asked for again, because another deleted beside us.
const LOOKS_MAX: usize = 8;

fn unreadable(doing: &'static str) -> Error {
    Fault::answer().writing(doing, false)
}

async fn write_one(inner: &Redis, call: Call, doing: &'static str, deadline: Instant) -> Result<Value> {
    let answer = inner.write(&[call], deadline).await.pop();
    let answer = answer.ok_or_else(|| unreadable(doing))?;
    answer.value.map_err(|fault| fault.writing(doing, answer.in_doubt))
}

pub(crate) async fn close(inner: &Redis, log: &LogId, through: Version, deadline: Instant) -> Result<()> {
    const DOING: &str = "closing a log";
    if through.0 >= VERSION_MAX {
        let head = read::heads(inner, std::slice::from_ref(log), deadline).await?;
        return Err(head
            .iter()
            .flatten()
            .next()
            .map_or_else(|| too_high(log), |_| judge::head_stays(log, through)));
    }
    let through_digits = Bytes::from(through.0.to_string());
    let call = Call::script(Bucket::of(log), &script::CLOSE, [inner.keys.log(log)], [through_digits]);
    match answer::text(write_one(inner, call, DOING, deadline).await?).as_deref() {
        Some("done") => Ok(()),
        Some("head") => Err(judge::head_stays(log, through)),
        _ => Err(unreadable(DOING)),
    }
}

pub(crate) async fn sweep(inner: &Redis, log: &LogId) -> Result<Swept> {
    const DOING: &str = "sweeping a log";
    let (bucket, mut swept, mut names) = (Bucket::of(log), Swept::default(), Vec::<Bytes>::new());
    loop {
        // Each step has as much time as a call of its own.
        let keys = with_parts(inner, log, &names);
        let arguments = [&[Bytes::from(AT_ONCE.to_string())], &names[..]].concat();
        let call = Call::script(bucket, &script::SWEEP, keys, arguments);
        let value = write_one(inner, call, DOING, inner.deadline()).await?;
        let values = answer::list(value).ok_or_else(|| unreadable(DOING))?;
        if values.first() == Some(&Value::Int(-1)) {
            names.extend(named(values.into_iter().skip(1), DOING)?);
            continue;
        }
        names.clear();
        let [commits, bytes, more] = numbers(values).ok_or_else(|| unreadable(DOING))?;
        swept.commits += commits;
        swept.bytes += bytes;
        if more == 0 {
            return Ok(swept);
        }
    }
}

fn numbers(values: Vec<Value>) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = values.into_iter().map(answer::number).collect();
    numbers?.try_into().ok()
}

fn named(values: impl Iterator<Item = Value>, doing: &'static str) -> Result<Vec<Bytes>> {
    values.map(|name| answer::bytes(name).map(Bytes::from).ok_or_else(|| unreadable(doing))).collect()
}

/// The key of the log, and those of the parts of these names.
fn with_parts(inner: &Redis, log: &LogId, names: &[Bytes]) -> Vec<Bytes> {
    let bucket = Bucket::of(log);
    let parts = names.iter().map(|name| inner.keys.large(bucket, &String::from_utf8_lossy(name)));
    std::iter::once(inner.keys.log(log)).chain(parts).collect()
}

pub(crate) async fn drop_bodies(
    inner: &Redis,
    log: &LogId,
    versions: &[Version],
    deadline: Instant,
) -> Result<()> {
    const DOING: &str = "dropping bodies";
    for versions in versions.chunks(AT_ONCE) {
        let digits = versions.iter().map(|version| Bytes::from(version.0.to_string()));
        let digits: Vec<Bytes> = digits.collect();
        let mut names = Vec::<Bytes>::new();
        for _ in 0..LOOKS_MAX {
            let count = Bytes::from(names.len().to_string());
            let arguments = [&[count], &names[..], &digits[..]].concat();
            let keys = with_parts(inner, log, &names);
            let call = Call::script(Bucket::of(log), &script::DROP, keys, arguments);
            let value = write_one(inner, call, DOING, deadline).await?;
            let others = answer::list(value).ok_or_else(|| unreadable(DOING))?;
            if others.is_empty() {
                names.clear();
                break;
            }
            names.extend(named(others.into_iter(), DOING)?);
        }
        if !names.is_empty() {
            return Err(unreadable(DOING));
        }
    }
    Ok(())
}

pub(crate) async fn put_blob(inner: &Redis, blob: &BlobId, bytes: &Bytes, deadline: Instant) -> Result<bool> {
    const DOING: &str = "writing a blob";
    let (log, bucket, nonce) = (blob.log(), Bucket::of(blob.log()), parts::nonce());
    parts::stage(inner, bucket, &nonce, bytes, DOING, deadline).await?;
    let keys = [inner.keys.blob(blob), inner.keys.staged(bucket, &nonce), inner.keys.blobs(log)];
    let arguments = [
        nonce.into(),
        parts::fields(bytes.len()).to_string().into(),
        Bytes::copy_from_slice(blob.name().as_bytes()),
        bytes.len().to_string().into(),
    ];
    let call = Call::script(bucket, &script::PUT_BLOB, keys, arguments);
    match write_one(inner, call, DOING, deadline).await? {
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        Value::Int(-1) => {
            let lost = Error::new(ErrorKind::Unavailable, DOING).with("log", log).with("blob", blob.name());
            Err(lost.advise("Its parts were lost before it was made: retry"))
        }
        _ => Err(unreadable(DOING)),
    }
}

pub(crate) async fn delete_blob(inner: &Redis, blob: &BlobId, deadline: Instant) -> Result<()> {
    let keys = [inner.keys.blob(blob), inner.keys.blobs(blob.log())];
    let name = Bytes::copy_from_slice(blob.name().as_bytes());
    let call = Call::script(Bucket::of(blob.log()), &script::DELETE_BLOB, keys, [name]);
    write_one(inner, call, "deleting a blob", deadline).await.map(drop)
}
