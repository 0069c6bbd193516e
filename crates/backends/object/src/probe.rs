//! What is tried when a store is opened: whether the bucket decides between several creates, as everything here rests on.

use bytes::Bytes;
use futures_util::future::join_all;
use icecore_log::{Access, Error, ErrorKind, Result, Timestamp};

use crate::bucket::{Fault, FaultKind, Listed};
use crate::make::make;
use crate::{Objects, names};

const DOING: &str = "opening a store";
/// What the object `store` holds.
pub(crate) const FORMAT: &str = "icecore objects 1\n";
/// Creates that race in the probe.
const RIVALS: u8 = 4;

/// Looks whether a store is there, and of which format; to write, tries what it rests on, and makes it.
pub(crate) async fn open(inner: &Objects) -> Result<()> {
    let reading = |fault: Fault| fault.reading(DOING);
    let found = inner.bucket.get(names::STORE, None).await.map_err(reading)?;
    if let Some(object) = &found {
        check_format(&object.bytes)?;
    }
    if inner.access == Access::ReadOnly {
        return found.map(drop).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, DOING)
                .advise("There is no store: one that is opened to write is made")
        });
    }
    if let Err(fault) = probe(inner).await.map_err(reading)? {
        return Err(Error::new(ErrorKind::Refused, DOING).with("found", fault).advise(
            "Two writers would both believe that they had won. Use a store that honours If-None-Match and If-Match on PUT",
        ));
    }
    if found.is_none() {
        make(inner, names::STORE, Bytes::from_static(FORMAT.as_bytes())).await.map_err(reading)?;
        let made = inner.bucket.get(names::STORE, None).await.map_err(reading)?;
        check_format(&made.map(|object| object.bytes).unwrap_or_default())?;
    }
    Ok(())
}

fn check_format(found: &[u8]) -> Result<()> {
    if found == FORMAT.as_bytes() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Refused, DOING).with("object", names::STORE);
    Err(if found.starts_with(b"icecore objects ") {
        error.advise("It was written by a later version of Icecore: use that one")
    } else {
        error.advise("The place holds something else: name another prefix")
    })
}

/// What the bucket does wrong, if anything.
async fn probe(inner: &Objects) -> Result<Result<(), &'static str>, Fault> {
    let name = inner.probe_name();
    let bucket = &inner.bucket;
    let rivals = join_all((0..RIVALS).map(|rival| bucket.create(&name, Bytes::from(vec![rival]))));
    let answers = rivals.await;
    let winners: Vec<u8> = (0..)
        .zip(&answers)
        .filter(|(_, answer)| matches!(answer, Ok(true)))
        .map(|(rival, _)| rival)
        .collect();
    let found = match winners[..] {
        [] => Err(answers.into_iter().find_map(Result::err).unwrap_or_else(nobody)),
        [winner] => replaced(inner, &name, winner).await,
        _ => Ok(Err("several creates of one object at once were all acknowledged")),
    };
    // Whatever was found: nobody else would delete them.
    let deleted = bucket.delete(vec![beside(&name), name]).await;
    let found = found?;
    deleted.map(|()| found)
}

/// The name of another object, which comes next in a listing.
fn beside(name: &str) -> String {
    format!("{name}x")
}

async fn replaced(inner: &Objects, name: &str, winner: u8) -> Result<Result<(), &'static str>, Fault> {
    let bucket = &inner.bucket;
    if bucket.create(name, Bytes::from_static(b"again")).await? {
        return Ok(Err("an object that was there was created again"));
    }
    let Some(object) = bucket.get(name, None).await? else {
        return Ok(Err("an object that was created cannot be read"));
    };
    if object.bytes[..] != [winner] {
        return Ok(Err("a create that was refused has replaced the object"));
    }
    bucket.create(&beside(name), Bytes::new()).await?;
    let names = |listed: Vec<Listed>| listed.into_iter().map(|found| found.name).collect::<Vec<_>>();
    let shorter = &name[..name.len() - 1];
    if names(bucket.list(shorter, None, 2).await?) != [name, &beside(name)] {
        return Ok(Err("objects that were created are not listed, or not in order of their names"));
    }
    if names(bucket.list(shorter, Some(name), 2).await?) != [beside(name)] {
        return Ok(Err("a listing that begins behind an object does not give what comes behind it"));
    }
    if !bucket.replace(name, Bytes::from_static(b"first"), &object.tag).await? {
        return Ok(Err("an object that nobody had changed was not replaced"));
    }
    if bucket.replace(name, Bytes::from_static(b"second"), &object.tag).await? {
        return Ok(Err("an object that had been changed was replaced"));
    }
    Ok(Ok(()))
}

/// When an object of the probe was written, by the store's clock; `None` if it is not listed.
pub(crate) async fn modified(inner: &Objects, name: &str) -> Result<Option<Timestamp>, Fault> {
    let all_but_last = &name[..name.len() - 1];
    let listed = inner.bucket.list(all_but_last, None, 2).await?;
    Ok(listed.into_iter().find(|listed| listed.name == name).map(|listed| listed.modified))
}

fn nobody() -> Fault {
    Fault::new(FaultKind::Lost, "no create of a new object was acknowledged")
}
