//! Looking at every log of a system, through what can be asked of any.

use icecore_log::backend::Examination;
use icecore_log::{BlobId, Error, ErrorKind, LogId, LogPrefix, PageLimit, Result, Version};
use tokio::time::Instant;

use crate::Remote;

const NAMES_A_PAGE: usize = 1_000;

/// Reads every commit, body and blob, and takes down what is damaged; how many logs there are. Each request has the time of a call.
///
/// # Errors
/// Whatever fails that is no damage.
pub async fn examine_logs<R: Remote>(remote: &R, examination: &mut Examination) -> Result<usize> {
    let (mut cursor, mut count) = (None, 0);
    loop {
        let page = remote.logs(&LogPrefix::all(), cursor, NAMES_A_PAGE, deadline(remote)).await?;
        for log in &page.logs {
            examine_log(remote, log, examination).await?;
        }
        count += page.logs.len();
        cursor = page.next;
        if cursor.is_none() {
            return Ok(count);
        }
    }
}

/// Goes on behind what is damaged, commit by commit, so that each is named.
async fn examine_log<R: Remote>(remote: &R, log: &LogId, examination: &mut Examination) -> Result<()> {
    let mut from = Version::FIRST;
    let head = match remote.heads(std::slice::from_ref(log), deadline(remote)).await {
        Ok(heads) => heads.into_iter().flatten().next().map(|head| head.version),
        Err(error) => {
            damage(examination, error)?;
            None
        }
    };
    let mut limit = PageLimit::WHOLE;
    loop {
        match remote.read(log, from, limit, deadline(remote)).await {
            Ok(page) if page.boundary >= from => from = page.boundary.next(),
            Ok(page) => {
                let Some(last) = page.commits.last() else { break };
                from = last.version.next();
                examination.bytes += page.commits.iter().map(|commit| commit.len() as u64).sum::<u64>();
                limit = PageLimit::WHOLE;
            }
            Err(error) if limit.commits > 1 && error.kind() == ErrorKind::Corrupt => limit = limit.commits(1),
            Err(error) => {
                damage(examination, error)?;
                from = from.next();
                if head.is_none_or(|head| from > head) {
                    break;
                }
            }
        }
    }
    // The head was there: what ends before it lacks something.
    if head.is_some_and(|head| from <= head) {
        let missing =
            Error::new(ErrorKind::Corrupt, "examining a store").with("log", log).with("version", from);
        let advice = "The commit is missing and was not closed: restore it from a copy";
        examination.damage.push(missing.advise(advice));
    }
    for blob in remote.list_blobs(log, "", deadline(remote)).await? {
        let name = BlobId::new(log.clone(), &blob.name)?;
        match remote.get_blob(&name, None, deadline(remote)).await {
            Ok(bytes) => examination.bytes += bytes.map_or(0, |bytes| bytes.len() as u64),
            Err(error) => damage(examination, error)?,
        }
    }
    Ok(())
}

fn deadline<R: Remote>(remote: &R) -> Instant {
    Instant::now() + remote.timeout()
}

/// Takes down what is damaged; what only failed is handed on.
fn damage(examination: &mut Examination, error: Error) -> Result<()> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    examination.damage.push(error);
    Ok(())
}
