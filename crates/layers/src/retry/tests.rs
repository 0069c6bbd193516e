use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_conformance::{Ending, Told};
use icecore_embedded::Memory;
use icecore_log::{
    Backend, BlobId, Entropy, Error, ErrorKind, Hash, LogId, Mode, PageLimit, Result, Run, StoredCommit,
    Version,
};
use tokio::time::Instant;

use super::{Policy, Retry};
use crate::{Fate, Fault, Meters, Operation};

mod contract {
    use super::*;

    async fn open() -> Arc<Retry> {
        Arc::new(Retry::new(Arc::new(Memory::default()), Policy::default()))
    }

    icecore_conformance::conformance_tests!(open);
}

/// The longest pause there is, each time.
#[derive(Debug)]
struct Longest;

impl Entropy for Longest {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xff);
    }
}

struct World {
    memory: Arc<Memory>,
    fault: Arc<Fault>,
    retry: Arc<Retry>,
}

fn world(policy: Policy) -> World {
    let memory = Arc::new(Memory::default());
    let fault = Arc::new(Fault::new(Arc::clone(&memory) as Arc<dyn Backend>));
    let retry = Retry::new(Arc::clone(&fault) as Arc<dyn Backend>, policy).with_entropy(Arc::new(Longest));
    World { memory, fault, retry: Arc::new(retry) }
}

fn log(key: &str) -> LogId {
    LogId::new("acme", "session", key).unwrap()
}

fn blob() -> BlobId {
    BlobId::new(log("s-1"), "b").unwrap()
}

fn commit(version: u64, bytes: &'static str) -> StoredCommit {
    StoredCommit {
        version: Version(version),
        header: Bytes::from_static(bytes.as_bytes()),
        body: Some(Bytes::from_static(b"body")),
    }
}

fn run(key: &str, bytes: &'static str) -> Run {
    Run::one(log(key), Hash::ZERO, commit(1, bytes))
}

async fn create(backend: &dyn Backend, runs: Vec<Run>) -> Vec<Told> {
    backend.create(runs, Mode::Each).await.iter().map(Told::from).collect()
}

const DONE: Told = Told { won: 1, end: Ending::Done };

#[tokio::test(start_paused = true)]
async fn what_is_unavailable_is_tried_again_until_it_is_there() {
    let World { fault, retry, .. } = world(Policy::default());
    fault.plan([Fate::Refuse, Fate::Refuse]);
    fault.plan_calls(Operation::Heads, [Fate::Refuse; 3]);
    fault.plan_calls(Operation::Wait, [Fate::Refuse]);
    fault.plan_calls(Operation::ListBlobs, [Fate::LoseRequest]);

    assert_eq!(create(&*retry, vec![run("s-1", "ours")]).await, [DONE]);
    assert!(retry.heads(&[log("s-1")]).await.unwrap()[0].is_some());
    retry.wait(&[(log("s-1"), Version::ZERO)], Duration::from_secs(1)).await.unwrap();
    assert!(retry.list_blobs(&log("s-1"), "").await.unwrap().is_empty());

    let of = |operation| (retry.retried(operation).retries, retry.retried(operation).recovered);
    assert_eq!(of(Operation::Create), (2, 1));
    assert_eq!(of(Operation::Heads), (3, 1));
    assert_eq!(of(Operation::ListBlobs), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_is_the_same_to_its_last_byte() {
    let World { fault, retry, memory } = world(Policy::default());
    fault.plan([Fate::LoseAnswer, Fate::LoseRequest, Fate::Refuse]);

    assert_eq!(create(&*retry, vec![run("s-1", "ours"), run("s-2", "ours")]).await, [DONE, DONE]);

    let sent = fault.sent();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|runs| *runs == sent[0]));
    assert_eq!(
        memory.read(&log("s-1"), Version(1), PageLimit::WHOLE).await.unwrap().commits,
        [commit(1, "ours")]
    );
}

/// A create whose answer was lost is followed by refusals: "nothing was written" is true of those alone.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_stays_unknown_whatever_the_later_tries_say() {
    let World { fault, retry, memory } = world(Policy { tries_max: 3, ..Policy::default() });
    fault.plan([Fate::LoseAnswer, Fate::Refuse, Fate::Refuse]);

    let told = create(&*retry, vec![run("s-1", "ours")]).await;

    assert_eq!(told, [Told::failed(ErrorKind::Unknown)]);
    assert!(memory.heads(&[log("s-1")]).await.unwrap()[0].is_some());
}

/// The answer is lost, the log goes on, and is trimmed: the slot is closed by the next try. Whoever took that for "not written" would
/// write the same once more, further on.
#[tokio::test(start_paused = true)]
async fn a_slot_that_is_closed_while_in_doubt_is_unknown() {
    let World { fault, retry, memory } = world(Policy::default());
    fault.plan([Fate::LoseAnswer]);
    let first = run("s-1", "ours");
    let (next, previous) = (commit(2, "theirs"), first.commits[0].hash());

    let creating = tokio::spawn({
        let (retry, first) = (Arc::clone(&retry), first.clone());
        async move { create(&*retry, vec![first]).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(create(&*memory, vec![Run::one(log("s-1"), previous, next)]).await, [DONE]);
    memory.close(&log("s-1"), Version(1)).await.unwrap();

    assert_eq!(creating.await.unwrap(), [Told::failed(ErrorKind::Unknown)]);
    assert_eq!(create(&*retry, vec![first]).await, [Told::stopped(Ending::Closed(Version(1)))]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_seen_to_be_anothers_is_taken_also_after_doubt() {
    let World { fault, retry, memory } = world(Policy::default());
    fault.plan([Fate::LoseRequest]);
    assert_eq!(create(&*memory, vec![run("s-1", "theirs")]).await, [DONE]);

    assert_eq!(create(&*retry, vec![run("s-1", "ours")]).await, [Told::stopped(Ending::Taken)]);
}

/// One log of a call is refused: the other has won, and hears so at once.
#[tokio::test(start_paused = true)]
async fn who_was_answered_waits_for_no_neighbour() {
    let World { fault, retry, .. } = world(Policy::default());
    fault.plan([Fate::RefuseFirst]);

    let told = create(&*retry, vec![run("s-1", "ours"), run("s-2", "ours")]).await;

    assert_eq!(told, [Told::failed(ErrorKind::Unavailable), DONE]);
    assert_eq!(fault.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_or_none_is_not_sent_again_in_doubt() {
    let World { fault, retry, .. } = world(Policy::default());
    fault.plan([Fate::Refuse, Fate::LoseRequest]);

    let told = retry.create(vec![run("s-1", "ours"), run("s-2", "ours")], Mode::AllOrNone).await;

    assert!(told.iter().all(|created| Told::from(created) == Told::failed(ErrorKind::Unknown)));
    assert_eq!(fault.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_transient_is_the_answer() {
    let World { retry, memory, fault } = world(Policy::default());
    memory.shut_down().await.unwrap();

    assert_eq!(create(&*retry, vec![run("s-1", "ours")]).await, [Told::failed(ErrorKind::Refused)]);
    assert_eq!(retry.heads(&[log("s-1")]).await.unwrap_err().kind(), ErrorKind::Refused);

    assert_eq!(fault.sent().len(), 1);
    assert_eq!(retry.retried(Operation::Heads), super::Retried::default());
}

#[tokio::test(start_paused = true)]
async fn tries_and_time_and_the_budget_of_all_calls_are_bounded() {
    let down = [Fate::Refuse; 300];
    let heads = async |retry: &Retry| retry.heads(&[log("s-1")]).await.unwrap_err();

    // Nine tries with doubled pauses, 20 ms to 1 s: 20 + 40 + … + 640 + 2,000 ms.
    let World { fault, retry, .. } = world(Policy { tries_max: 9, ..Policy::default() });
    fault.plan_calls(Operation::Heads, down);
    let began = Instant::now();
    assert_eq!(heads(&retry).await.fact("tries"), Some("9"));
    assert_eq!(began.elapsed().as_millis(), 3_260);
    assert_eq!(retry.retried(Operation::Heads).exhausted, 1);

    let World { fault, retry, .. } = world(Policy { tries_max: u32::MAX, ..Policy::default() });
    fault.plan_calls(Operation::Heads, down);
    let began = Instant::now();
    assert_eq!(heads(&retry).await.kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let World { fault, retry, .. } = world(Policy { budget: 3, ..Policy::default() });
    fault.plan_calls(Operation::Heads, [Fate::Refuse; 5]);
    assert_eq!(heads(&retry).await.fact("tries"), Some("4"));
    assert_eq!(heads(&retry).await.fact("tries"), None);
    assert_eq!(retry.retried(Operation::Heads).over_budget, 2);
    // Ten that are answered earn one more.
    for _ in 0..10 {
        retry.heads(&[log("s-1")]).await.unwrap();
    }
    fault.plan_calls(Operation::Heads, [Fate::Refuse]);
    retry.heads(&[log("s-1")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_blob_whose_answer_was_lost_is_ours_if_it_has_our_bytes() {
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs"));
    let World { fault, retry, .. } = world(Policy::default());
    fault.plan_calls(Operation::PutBlob, [Fate::LoseAnswer]);

    assert!(retry.put_blob(&blob(), ours.clone()).await.unwrap());
    // Nothing was in doubt: that there was one is all that can be said.
    assert!(!retry.put_blob(&blob(), ours.clone()).await.unwrap());

    let World { fault, retry, memory } = world(Policy::default());
    memory.put_blob(&blob(), theirs).await.unwrap();
    fault.plan_calls(Operation::PutBlob, [Fate::LoseRequest]);
    fault.plan_calls(Operation::GetBlob, [Fate::Refuse]);
    assert!(!retry.put_blob(&blob(), ours.clone()).await.unwrap());

    let World { fault, retry, .. } = world(Policy { tries_max: 2, ..Policy::default() });
    fault.plan_calls(Operation::PutBlob, [Fate::LoseAnswer]);
    fault.plan_calls(Operation::GetBlob, [Fate::Refuse]);
    assert_eq!(retry.put_blob(&blob(), ours).await.unwrap_err().kind(), ErrorKind::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_boundary_that_may_have_been_raised_is_not_said_to_be_as_it_was() {
    let World { fault, retry, memory } = world(Policy { tries_max: 2, ..Policy::default() });
    assert_eq!(create(&*memory, vec![run("s-1", "ours")]).await, [DONE]);
    fault.plan_calls(Operation::Close, [Fate::LoseAnswer, Fate::Refuse]);

    let error = retry.close(&log("s-2"), Version(3)).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unknown);
    retry.close(&log("s-2"), Version(3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_the_trying() {
    let World { fault, retry, .. } = world(Policy::default());
    fault.plan([Fate::Refuse; 100]);

    let given_up =
        tokio::time::timeout(Duration::from_millis(30), create(&*retry, vec![run("s-1", "ours")])).await;
    assert!(given_up.is_err());
    let sent = fault.sent().len();
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(fault.sent().len(), sent);
}

#[tokio::test(start_paused = true)]
async fn opening_is_tried_again_while_the_server_is_away_and_for_nothing_else() {
    let opening = async |kinds: &[ErrorKind]| -> (Result<()>, usize) {
        let tries = std::cell::Cell::new(0);
        let open = || {
            let kind = kinds.get(tries.replace(tries.get() + 1)).copied();
            async move { kind.map_or(Ok(()), |kind| Err(Error::new(kind, "opening a store"))) }
        };
        (Policy::default().opening(&Longest, open).await, tries.get())
    };
    use ErrorKind::{Invalid, Unavailable};

    let (opened, tries) = opening(&[Unavailable, Unavailable]).await;
    assert!(opened.is_ok() && tries == 3);
    let (refused, tries) = opening(&[Unavailable, Invalid]).await;
    assert!(refused.unwrap_err().kind() == Invalid && tries == 2);
    let (away, tries) = opening(&[Unavailable; 100]).await;
    assert_eq!(away.unwrap_err().fact("tries"), Some(&*tries.to_string()));
    assert_eq!(tries, Policy::default().tries_max as usize - 1);
}

#[tokio::test(start_paused = true)]
async fn meters_show_what_was_tried_again() {
    let meters = Meters::default();
    let World { fault, .. } = world(Policy::default());
    let retry = Retry::new(Arc::clone(&fault) as Arc<dyn Backend>, Policy::default()).counted_by(&meters);
    let backend = meters.around(Arc::new(retry));
    fault.plan_calls(Operation::Read, [Fate::Refuse; 2]);

    backend.read(&log("s-1"), Version::FIRST, PageLimit::WHOLE).await.unwrap();

    let snapshot = meters.snapshot();
    let read = snapshot.of("memory", Operation::Read).unwrap();
    assert_eq!((read.outcome("ok"), read.retried.retries, read.retried.recovered), (1, 2, 1));
    let page = meters.prometheus();
    assert!(
        page.contains("icecore_backend_retries_total{backend=\"memory\",operation=\"read\"} 2\n"),
        "{page}"
    );
}
