//! Requests: sent together to where their keys are, and sent again as they are until they are answered or the time is up.
//!
//! Whatever may have been carried out may be sent again: each script does nothing twice. So one rule serves all, and an answer says whether
//! an earlier try of the same request may have been carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerErrorKind, Value};
use tokio::time::{Instant, sleep};

use crate::answer;
use crate::fault::Fault;
use crate::keys::Bucket;
use crate::pool::{Node, Pool, Purpose, Session};
use crate::script::Script;

/// How long after a request that was not answered it is sent again, at first and at the most.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_LAST: Duration = Duration::from_millis(200);
/// What a wait for replicas leaves of the time for its own answer: servers look whose wait is over ten times a second.
const MARGIN: Duration = Duration::from_millis(200);

/// A request for the keys of one bucket.
pub(crate) struct Call {
    pub bucket: Bucket,
    pub request: Request,
}

pub(crate) enum Request {
    Script { script: &'static Script, keys: Vec<Bytes>, arguments: Vec<Bytes> },
    Command { name: &'static str, arguments: Vec<Bytes> },
}

impl Call {
    pub fn script(
        bucket: Bucket,
        script: &'static Script,
        keys: impl Into<Vec<Bytes>>,
        arguments: impl Into<Vec<Bytes>>,
    ) -> Self {
        let request = Request::Script { script, keys: keys.into(), arguments: arguments.into() };
        Self { bucket, request }
    }

    pub fn command(bucket: Bucket, name: &'static str, arguments: impl Into<Vec<Bytes>>) -> Self {
        Self { bucket, request: Request::Command { name, arguments: arguments.into() } }
    }

    /// `whole`: with the script's source, for a server that does not have it.
    fn packed(&self, whole: bool) -> Cmd {
        match &self.request {
            Request::Command { name, arguments } => with(redis::cmd(name), arguments),
            Request::Script { script, keys, arguments } => {
                let mut command = redis::cmd(if whole { "EVAL" } else { "EVALSHA" });
                command.arg(if whole { script.source } else { &script.digest }).arg(keys.len());
                with(with(command, keys), arguments)
            }
        }
    }
}

fn with(mut command: Cmd, arguments: &[Bytes]) -> Cmd {
    for argument in arguments {
        command.arg(&argument[..]);
    }
    command
}

/// What must be so of a write before it is acknowledged, beside the server's own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirm {
    Nothing,
    /// So many replicas have it in memory.
    Replicas(usize),
    /// The server has it on its disk, and so many replicas on theirs.
    Disks(usize),
}

impl Confirm {
    pub fn add_to(self, commands: &mut Pipeline, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
        // Zero would be for ever.
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        match self {
            Self::Nothing => {}
            Self::Replicas(count) => {
                commands.cmd("WAIT").arg(count).arg(left);
            }
            // Each wait asks the replicas once how far they are, which they answer before they sync what came with the question, and say by
            // themselves once a second. So `WAITAOF` alone takes a second a write; asked again, when they have it, they answer that they have
            // synced it: 4 ms in the place of 1,000, on Valkey 9.1 and Redis 8.2.
            Self::Disks(count) => {
                let half = (left / 2).max(1);
                commands.cmd("WAIT").arg(count).arg(half);
                commands.cmd("WAITAOF").arg(1).arg(count).arg(half);
            }
        }
    }

    /// Whether the last of the answers says that it is so.
    pub fn check(self, answers: impl Iterator<Item = Value>) -> Result<(), Fault> {
        let holds = match (self, answers.last()) {
            (Self::Nothing, _) => true,
            (_, Some(Value::ServerError(error))) => return Err(Fault::confirming(&error)),
            (Self::Replicas(count), Some(Value::Int(found))) => at_least(found, count),
            (Self::Disks(count), Some(Value::Array(found))) => {
                matches!(found[..], [Value::Int(own), Value::Int(others)] if own >= 1 && at_least(others, count))
            }
            _ => false,
        };
        if holds { Ok(()) } else { Err(Fault::unconfirmed()) }
    }
}

fn at_least(found: i64, count: usize) -> bool {
    usize::try_from(found).is_ok_and(|found| found >= count)
}

/// The end of a call.
pub(crate) struct Answer {
    /// What the server says; or what stopped the last try.
    pub value: Result<Value, Fault>,
    /// Whether an earlier try may have been carried out, or be so yet.
    pub in_doubt: bool,
}

/// Sends calls, those of one node together and in their order, and gives an answer for each. Those to different nodes stand alone.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    purpose: Purpose,
    confirm: Confirm,
    calls: &[Call],
    deadline: Instant,
) -> Vec<Answer> {
    let open = || Answer { value: Err(Fault::busy()), in_doubt: false };
    let mut answers: Vec<Answer> = calls.iter().map(|_| open()).collect();
    let mut left: Vec<usize> = (0..calls.len()).collect();
    let mut pause = PAUSE_FIRST;
    loop {
        let mut groups: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
        for place in &left {
            match pool.node(calls[*place].bucket, deadline).await {
                Ok(node) => groups.entry(node).or_default().push(*place),
                Err(fault) => answers[*place].value = Err(fault),
            }
        }
        let tries = groups.iter().map(|(node, places)| async move {
            let group: Vec<&Call> = places.iter().map(|place| &calls[*place]).collect();
            (places, send_group(pool, node, purpose, confirm, &group, deadline).await)
        });
        for (places, values) in join_all(tries).await {
            for (place, value) in places.iter().zip(values) {
                answers[*place].value = value;
            }
        }
        left.retain(|place| matches!(answers[*place].value, Err(Fault::Again(_) | Fault::Doubt(_))));
        if left.is_empty() || Instant::now() + pause >= deadline {
            return answers;
        }
        for place in &left {
            let answer = &mut answers[*place];
            answer.in_doubt |= matches!(answer.value, Err(Fault::Doubt(_)));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

async fn send_group(
    pool: &Arc<Pool>,
    node: &Node,
    purpose: Purpose,
    confirm: Confirm,
    calls: &[&Call],
    deadline: Instant,
) -> Vec<Result<Value, Fault>> {
    let mut session = match pool.session(node, purpose, deadline).await {
        Ok(session) => session,
        Err(fault) => {
            pool.forget(node);
            return calls.iter().map(|_| Err(fault.clone())).collect();
        }
    };
    let asks_role = pool.may_be_replica();
    let mut values = match exchange(&mut session, calls, asks_role, confirm, false, deadline).await {
        Ok(values) => values,
        Err(fault) => return calls.iter().map(|_| Err(fault.clone())).collect(),
    };
    // Nothing was done of these: the server was started anew, or forgot its scripts.
    let unknown: Vec<usize> = (0..calls.len()).filter(|place| is_unknown_script(&values[*place])).collect();
    if !unknown.is_empty() {
        let again: Vec<&Call> = unknown.iter().map(|place| calls[*place]).collect();
        match exchange(&mut session, &again, asks_role, confirm, true, deadline).await {
            Ok(found) => unknown.iter().zip(found).for_each(|(place, found)| values[*place] = found),
            Err(fault) => unknown.iter().for_each(|place| values[*place] = Err(fault.clone())),
        }
    }
    let answers = values.into_iter().map(|value| match value {
        Ok(Value::ServerError(error)) => Err(Fault::of(&error)),
        value => value,
    });
    let answers: Vec<_> = answers.collect();
    if answers.iter().any(|answer| matches!(answer, Err(Fault::Again(_)))) {
        pool.forget(node);
    }
    answers
}

fn is_unknown_script(value: &Result<Value, Fault>) -> bool {
    matches!(value, Ok(Value::ServerError(error)) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// One try: for each call what it is answered with. What is not confirmed is in doubt, whatever its own answer was.
async fn exchange(
    session: &mut Session,
    calls: &[&Call],
    asks_role: bool,
    confirm: Confirm,
    whole: bool,
    deadline: Instant,
) -> Result<Vec<Result<Value, Fault>>, Fault> {
    let mut commands = redis::pipe();
    if asks_role {
        // A server that was made a replica keeps its connections, and what only looks is answered from what it has.
        commands.cmd("ROLE");
    }
    for call in calls {
        commands.add_command(call.packed(whole));
    }
    confirm.add_to(&mut commands, deadline);
    let mut values = session.ask(&commands, deadline).await?.into_iter();
    if asks_role && values.next().is_some_and(|role| answer::is_replica(&role)) {
        return Err(Fault::replica());
    }
    let answers: Vec<Value> = values.by_ref().take(calls.len()).collect();
    if answers.len() < calls.len() {
        return Err(Fault::answer());
    }
    let confirmed = confirm.check(values);
    let answer = |value| match (&confirmed, value) {
        (_, Value::ServerError(error)) => Ok(Value::ServerError(error)),
        (Ok(()), value) => Ok(value),
        (Err(fault), _) => Err(fault.clone()),
    };
    Ok(answers.into_iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(confirm: Confirm, answers: &[Value]) -> bool {
        confirm.check(answers.iter().cloned()).is_ok()
    }

    #[test]
    fn a_disk_is_believed_only_by_what_waitaof_answers() {
        let disks = |own, others| Value::Array(vec![Value::Int(own), Value::Int(others)]);
        let confirm = Confirm::Disks(2);
        assert!(holds(confirm, &[Value::Int(2), disks(1, 2)]));
        for answers in [
            &[Value::Int(2), disks(1, 1)][..],
            &[Value::Int(2), disks(0, 2)],
            &[Value::Int(2), Value::Int(2)],
            &[disks(1, 2), Value::Int(2)],
            &[Value::Int(2)],
            &[],
        ] {
            assert!(!holds(confirm, answers), "{answers:?}");
        }
        assert!(
            holds(Confirm::Replicas(2), &[Value::Int(3)]) && !holds(Confirm::Replicas(2), &[Value::Int(1)])
        );
    }

    /// An append with `wait=1` took a second on every server that knows `WAITAOF`, which nobody had tried.
    #[test]
    fn replicas_are_asked_again_for_their_disks_when_they_have_it_in_memory() {
        let mut commands = redis::pipe();
        Confirm::Disks(1).add_to(&mut commands, Instant::now() + Duration::from_secs(3));
        let text = String::from_utf8(commands.get_packed_pipeline()).unwrap();
        let words: Vec<&str> = text.split("\r\n").filter(|word| word.starts_with("WAIT")).collect();
        assert_eq!(words, ["WAIT", "WAITAOF"]);
    }
}
