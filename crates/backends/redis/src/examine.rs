//! Looking at the whole store: what the servers say, and every commit, body and blob read and checked.

use bytes::Bytes;
use icecore_log::backend::{Depth, Examination};
use icecore_log::{BlobId, Error, ErrorKind, LogId, LogPrefix, PageLimit, Result, Version};

use crate::answer;
use crate::call::Call;
use crate::fault::Fault;
use crate::found::Found;
use crate::keys::{BUCKETS, Bucket};
use crate::parts::Parts;
use crate::pool::Purpose;
use crate::read;
use crate::store::Redis;

const DOING: &str = "examining a store";
const NAMES_MAX: usize = 1_000;

pub(crate) async fn examine(inner: &Redis, depth: Depth) -> Result<Examination> {
    let mut examination = Examination::default();
    let deadline = inner.deadline();
    let reading = |fault: Fault| fault.reading(DOING);
    for (number, node) in (1..).zip(inner.pool.nodes(deadline).await.map_err(reading)?) {
        let mut session = inner.pool.session(&node, Purpose::Reading, deadline).await.map_err(reading)?;
        let facts = Found::look(&mut session, deadline).await.map_err(reading)?.facts();
        let name = |name: String| if number == 1 { name } else { format!("node_{number}_{name}") };
        examination.facts.extend(facts.into_iter().map(|(fact, value)| (name(fact), value)));
    }
    let count = |bucket| Call::command(Bucket(bucket), "ZCARD", [inner.keys.names(Bucket(bucket))]);
    let counts: Vec<Call> = (0..BUCKETS).map(count).collect();
    let mut logs = 0;
    for answer in inner.read(&counts, deadline).await {
        logs += answer.value.map_err(reading).map(answer::number)?.unwrap_or(0);
    }
    let facts = [
        ("logs", logs.to_string()),
        ("prefix", inner.settings.prefix.clone()),
        ("acknowledged", inner.acknowledged().to_owned()),
        ("conditional_writes", "hold: a script decides".to_owned()),
    ];
    examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if depth == Depth::Quick {
        return Ok(examination);
    }
    let mut cursor = None;
    loop {
        let page = read::list(inner, &LogPrefix::all(), cursor, NAMES_MAX, inner.deadline()).await?;
        for log in &page.logs {
            examine_log(inner, log, &mut examination).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(examination);
        }
    }
}

/// Goes on behind what is damaged, commit by commit, so that each is named.
async fn examine_log(inner: &Redis, log: &LogId, examination: &mut Examination) -> Result<()> {
    let mut from = Version::FIRST;
    let head = match read::heads(inner, std::slice::from_ref(log), inner.deadline()).await {
        Ok(heads) => heads.into_iter().flatten().next().map(|head| head.version),
        Err(error) => examination.damage(error)?,
    };
    let mut limit = PageLimit::WHOLE;
    loop {
        match read::page(inner, log, from, limit, inner.deadline()).await {
            Ok(page) if page.boundary >= from => from = page.boundary.next(),
            Ok(page) => {
                let Some(last) = page.commits.last() else { break };
                from = last.version.next();
                examination.bytes += page.commits.iter().map(|commit| commit.len() as u64).sum::<u64>();
                limit = PageLimit::WHOLE;
            }
            Err(error) if limit.commits > 1 && error.kind() == ErrorKind::Corrupt => limit = limit.commits(1),
            Err(error) => {
                examination.damage::<()>(error)?;
                from = from.next();
                if head.is_none_or(|head| from > head) {
                    break;
                }
            }
        }
    }
    for blob in read::blobs(inner, log, "", inner.deadline()).await? {
        let name = BlobId::new(log.clone(), &blob.name)?;
        match Parts::of_blob(inner, &name).read(inner, None, DOING, inner.deadline()).await {
            Ok(bytes) => examination.bytes += bytes.map_or(0, |bytes: Bytes| bytes.len() as u64),
            Err(error) => examination.damage::<()>(error).map(drop)?,
        }
    }
    Ok(())
}

trait Damage {
    /// Takes down what is damaged; what only failed is handed on.
    fn damage<T>(&mut self, error: Error) -> Result<Option<T>>;
}

impl Damage for Examination {
    fn damage<T>(&mut self, error: Error) -> Result<Option<T>> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        self.damage.push(error);
        Ok(None)
    }
}
