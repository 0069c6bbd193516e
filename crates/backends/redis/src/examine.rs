//! Looking at the whole store: what the servers say, and every commit, body and blob read and checked.

use icecore_log::Result;
use icecore_log::backend::{Depth, Examination};
use icecore_remote::examine_logs;

use crate::answer;
use crate::call::Call;
use crate::fault::Fault;
use crate::found::Found;
use crate::keys::{BUCKETS, Bucket};
use crate::pool::Purpose;
use crate::store::Redis;

const DOING: &str = "examining a store";

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
    let facts = inner.settings.facts().into_iter().chain(facts);
    examination.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if depth == Depth::Quick {
        return Ok(examination);
    }
    examine_logs(inner, &mut examination).await?;
    Ok(examination)
}
