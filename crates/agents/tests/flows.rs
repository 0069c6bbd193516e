//! Flows that go on after a crash: what is recorded of their nodes, and who may run them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_agents::flows::{Flow, FlowState, Given, NodeState, Opened, Run, Start, Turn};
use icecore_agents::{Kind, Tenant, fingerprint};
use icecore_embedded::Memory;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, Error, ErrorKind};
use icecore_store::state::Json;
use icecore_store::{Settings, Store};

fn json(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

/// A store as a process of its own would have it.
fn store(backend: &Arc<Fault>) -> Store {
    Store::new(Arc::clone(backend) as Arc<dyn Backend>)
}

fn faulty() -> Arc<Fault> {
    Arc::new(Fault::new(Arc::new(Memory::default())))
}

fn flow(store: &Store) -> Flow {
    Flow::new(store.log(Tenant::new("acme").unwrap().log(Kind::Flow, b"t-1").unwrap()))
}

fn start(message: &str) -> Start {
    Start { message: json(message), key: fingerprint::of(&[message.as_bytes()]) }
}

fn given(node: &str, input: &str) -> Given {
    let key = fingerprint::of(&[input.as_bytes()]);
    Given { node: node.as_bytes().to_vec(), key, said: None, input: json(input) }
}

/// Begins or goes on with it in another process.
async fn life(backend: &Arc<Fault>) -> Run {
    match flow(&store(backend)).begin(start("1"), "somebody").await.unwrap() {
        Opened::Running { run, .. } => run,
        Opened::Finished(result) => panic!("it is finished: {result:?}"),
    }
}

async fn turn(run: &Run, node: &str, input: &str) -> Turn {
    let (turn, made) = run.begin(given(node, input)).await.unwrap();
    assert_eq!(made, None, "{node} {input}");
    turn
}

async fn made(run: &Run, node: &str, input: &str) -> Option<Bytes> {
    let (turn, made) = run.begin(given(node, input)).await.unwrap();
    turn.done();
    made
}

/// Runs a node to its end.
async fn runs(run: &Run, node: &str, input: &str, output: &str) {
    let mut turn = turn(run, node, input).await;
    assert_eq!(turn.finish(json(output)).await.unwrap(), (Bytes::from(output.to_owned()), true));
    turn.done();
}

/// The states of its nodes, and how often each was tried.
async fn states(backend: &Arc<Fault>) -> Vec<(String, u32, NodeState, usize)> {
    let record = flow(&store(backend)).look().await.unwrap().unwrap();
    let nodes = record.nodes.into_iter();
    nodes.map(|node| (node.node, node.number, node.state, node.attempts.len())).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn what_a_node_made_is_given_in_another_life_and_what_was_under_way_is_begun_again() {
    let backend = faulty();
    let first = life(&backend).await;
    runs(&first, "a", r#"{"b":1,"a":1.50}"#, r#"[1.50,"made"]"#).await;
    let _under_way = turn(&first, "b", "2").await;

    let second = life(&backend).await;

    // To the byte; and however its members are ordered.
    let again = made(&second, "a", r#"{"a":1.50,"b":1}"#).await;
    assert_eq!(again.as_deref(), Some(&br#"[1.50,"made"]"#[..]));
    let name = |name: &str| name.to_owned();
    let interrupted = vec![(name("a"), 1, NodeState::Finished, 1), (name("b"), 1, NodeState::Interrupted, 1)];
    assert_eq!(states(&backend).await, interrupted);
    runs(&second, "b", "2", "3").await;
    assert_eq!(states(&backend).await[1], (name("b"), 1, NodeState::Finished, 2));
}

#[tokio::test]
async fn runs_that_are_given_the_same_are_told_apart_and_a_retry_is_the_same_run() {
    let backend = faulty();
    let first = life(&backend).await;
    let one = turn(&first, "a", "1").await;
    let mut two = turn(&first, "a", "1").await;
    two.finish(json(r#""two""#)).await.unwrap();
    two.done();
    // The first fails, and is tried again.
    drop(one);
    runs(&first, "a", "1", r#""one""#).await;
    // Another node, and another input, are others.
    runs(&first, "b", "1", r#""b""#).await;
    runs(&first, "a", "2", r#""other""#).await;

    let second = life(&backend).await;

    for expected in [r#""one""#, r#""two""#] {
        assert_eq!(made(&second, "a", "1").await.as_deref(), Some(expected.as_bytes()));
    }
    let _third = turn(&second, "a", "1").await;
    let numbers: Vec<_> =
        states(&backend).await.into_iter().map(|(node, number, _, tries)| (node, number, tries)).collect();
    let a = || "a".to_owned();
    assert_eq!(numbers, [(a(), 1, 2), (a(), 2, 1), ("b".to_owned(), 1, 1), (a(), 1, 1), (a(), 3, 1)]);
}

#[tokio::test]
async fn whoever_took_a_flow_over_last_begins_its_nodes_and_nobody_else() {
    let backend = faulty();
    let first = life(&backend).await;
    let mut under_way = turn(&first, "a", "1").await;

    let second = life(&backend).await;

    assert_eq!(kind(first.begin(given("b", "1")).await), ErrorKind::Conflict);
    let mut again = turn(&second, "a", "1").await;
    // Both ran it. What is recorded first counts for both.
    assert_eq!(under_way.finish(json("1")).await.unwrap(), (Bytes::from("1"), true));
    assert_eq!(again.finish(json("2")).await.unwrap(), (Bytes::from("1"), false));
    // What is recorded is given to whoever asks.
    drop(under_way);
    assert_eq!(made(&first, "a", "1").await.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn of_all_that_record_what_one_node_made_one_counts_for_all() {
    let backend = faulty();
    for round in 0..10 {
        let input = round.to_string();
        let mut turns = Vec::new();
        for _ in 0..8 {
            turns.push(turn(&life(&backend).await, "a", &input).await);
        }
        let finishing: Vec<_> = turns
            .into_iter()
            .enumerate()
            .map(|(number, mut turn)| {
                tokio::spawn(async move { turn.finish(json(&number.to_string())).await.unwrap() })
            })
            .collect();
        let mut outputs = Vec::new();
        let mut winners = 0;
        for finished in finishing {
            let (output, is_ours) = finished.await.unwrap();
            winners += usize::from(is_ours);
            outputs.push(output);
        }
        outputs.dedup();
        assert_eq!((outputs.len(), winners), (1, 1));
    }
}

#[tokio::test]
async fn a_finished_flow_gives_its_result_and_is_not_run() {
    let backend = faulty();
    assert_eq!(kind(flow(&store(&backend)).resume("x").await), ErrorKind::NotFound);
    let first = life(&backend).await;
    let second = life(&backend).await;
    assert_eq!(second.end(&json("[1]")).await.unwrap(), Bytes::from("[1]"));
    // Of two results the first counts.
    assert_eq!(first.end(&json("[2]")).await.unwrap(), Bytes::from("[1]"));
    second.fail("too late").await.unwrap();

    for opened in [
        flow(&store(&backend)).resume("x").await.unwrap(),
        flow(&store(&backend)).begin(start("1"), "x").await.unwrap(),
    ] {
        assert!(matches!(opened, Opened::Finished(result) if result == "[1]"));
    }
    assert_eq!(kind(flow(&store(&backend)).begin(start("2"), "x").await), ErrorKind::Conflict);
    let record = flow(&store(&backend)).look().await.unwrap().unwrap();
    assert_eq!((record.state, record.life, record.error), (FlowState::Finished, 2, None));
}

#[tokio::test]
async fn a_flow_that_failed_is_gone_on_with_from_its_message() {
    let backend = faulty();
    let first = life(&backend).await;
    first.fail("no such host").await.unwrap();
    let record = flow(&store(&backend)).look().await.unwrap().unwrap();
    assert_eq!(record.state, FlowState::Failed);
    assert_eq!(record.error.unwrap().error, "no such host");

    let Opened::Running { start, .. } = flow(&store(&backend)).resume("x").await.unwrap() else {
        panic!("it is finished");
    };

    assert_eq!(start, Some(Bytes::from("1")));
    assert_eq!(flow(&store(&backend)).look().await.unwrap().unwrap().state, FlowState::Running);
    // A life that is over says nothing any more.
    first.fail("late").await.unwrap();
    assert_eq!(flow(&store(&backend)).look().await.unwrap().unwrap().state, FlowState::Running);
}

#[tokio::test]
async fn a_failure_is_shown_with_its_attempt_until_the_next_one() {
    let backend = faulty();
    let store = store(&backend);
    let run = life(&backend).await;
    let turn_of = async |error: &str| {
        let turn = turn(&run, "a", "1").await;
        let (log, entry) = turn.failed(error).unwrap();
        drop(turn);
        store.log(log).append(entry).await.unwrap();
    };
    turn_of("first").await;
    turn_of(&"é".repeat(5_000)).await;

    let node = flow(&store).look().await.unwrap().unwrap().nodes.remove(0);
    assert_eq!((node.state, node.attempts.len()), (NodeState::Failed, 2));
    assert_eq!((node.errors[0].attempt, &*node.errors[0].error), (1, "first"));
    assert_eq!((node.errors[1].attempt, node.errors[1].error.len()), (2, 4_096));

    let _third = turn(&run, "a", "1").await;
    assert_eq!(states(&backend).await, [("a".to_owned(), 1, NodeState::Running, 3)]);
}

#[tokio::test]
async fn a_node_that_is_given_something_else_under_its_key_is_not_run() {
    let backend = faulty();
    let said = |input: &str| Given {
        key: fingerprint::of(&[b"its key"]),
        said: Some(fingerprint::of(&[input.as_bytes()])),
        ..given("a", input)
    };
    let first = life(&backend).await;
    let _under_way = first.begin(said("1")).await.unwrap();

    let second = life(&backend).await;

    assert_eq!(kind(second.begin(said("2")).await), ErrorKind::Conflict);
    assert_eq!(second.begin(said("1")).await.unwrap().1, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_made_and_could_not_be_recorded_is_recorded_by_the_next_attempt_without_running_it() {
    // What is refused was never there; what is unknown may come to be there by itself.
    for (fate, told) in [
        (Fate::Refuse, ErrorKind::Unavailable),
        (Fate::LoseRequest, ErrorKind::Unknown),
        (Fate::LoseAnswer, ErrorKind::Unknown),
    ] {
        let backend = faulty();
        let mut settings = Settings::default();
        settings.append_timeout = Duration::from_secs(1);
        let store = Store::builder(Arc::clone(&backend) as Arc<dyn Backend>).settings(settings).build();
        let run = flow(&store).join("x").await.unwrap();
        let mut first = turn(&run, "a", "1").await;
        backend.plan([fate; 12]);
        assert_eq!(kind(first.finish(json(r#""made once""#)).await), told);
        drop(first);
        backend.forget_plan();
        tokio::time::sleep(Duration::from_secs(60)).await;

        assert_eq!(made(&run, "a", "1").await.as_deref(), Some(&br#""made once""#[..]));
        assert_eq!(states(&backend).await, [("a".to_owned(), 1, NodeState::Finished, 1)]);
    }
}

#[tokio::test]
async fn what_is_collected_is_recorded_once_and_only_by_the_last_life() {
    let backend = faulty();
    let first = life(&backend).await;
    let second = life(&backend).await;
    let collected = |order: &str| Given { key: fingerprint::of(&[b"all three"]), ..given("join", order) };

    assert_eq!(kind(first.collect(collected("[3,2,1]")).await), ErrorKind::Conflict);
    assert_eq!(second.collect(collected("[1,2,3]")).await.unwrap(), Bytes::from("[1,2,3]"));
    let third = life(&backend).await;
    assert_eq!(third.collect(collected("[2,1,3]")).await.unwrap(), Bytes::from("[1,2,3]"));

    let record = flow(&store(&backend)).look().await.unwrap().unwrap();
    assert_eq!(record.nodes.len(), 1);
    assert_eq!((record.nodes[0].state, &record.nodes[0].input), (NodeState::Finished, &None));
}

#[tokio::test]
async fn a_flow_of_a_later_format_and_what_is_no_flow_are_refused() {
    let backend = faulty();
    let store = store(&backend);
    let log = store.log(Tenant::new("acme").unwrap().log(Kind::Flow, b"t-1").unwrap());
    log.put("flow", json(r#"{"format":2,"life":1,"by":"","at_ms":0}"#)).await.unwrap();
    assert_eq!(kind(flow(&store).look().await), ErrorKind::Invalid);
    assert_eq!(kind(flow(&store).join("x").await), ErrorKind::Invalid);
    log.put("flow", json("[]")).await.unwrap();
    assert_eq!(kind(flow(&store).look().await), ErrorKind::Corrupt);
}

/// `docs/formats/penguiflow.md`. When it was is nobody's to foresee, and stands as 0.
#[tokio::test]
async fn what_is_recorded_of_a_flow_is_written_to_its_golden_bytes_and_read_from_them() {
    let backend = faulty();
    let first = life(&backend).await;
    let (log, entry) = turn(&first, "a/b", "1.50").await.failed("no luck").unwrap();
    store(&backend).log(log).append(entry).await.unwrap();
    first.fail("no luck").await.unwrap();
    let second = life(&backend).await;
    runs(&second, "a/b", "1.50", r#"["made"]"#).await;
    let said = Some(fingerprint::of(&[b"2"]));
    let (mut keyed, _) = second.begin(Given { said, ..given("k", "2") }).await.unwrap();
    keyed.finish(json("3")).await.unwrap();
    keyed.done();
    second.collect(given("join", "[3]")).await.unwrap();
    second.end(&json(r#""out""#)).await.unwrap();

    let store = store(&backend);
    let log = store.log(Tenant::new("acme").unwrap().log(Kind::Flow, b"t-1").unwrap());
    let state = log.state().await.unwrap();
    let times = |text: &str| -> String {
        let mut parts = text.split(r#""at_ms":"#);
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| {
            let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
            text + r#""at_ms":0"# + rest
        })
    };
    let lines: String = state
        .documents("")
        .map(|(key, document)| format!("{key} {}\n", times(std::str::from_utf8(&document.json).unwrap())))
        .collect();

    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/flow.txt");
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines, golden);
    let read = Store::new(Arc::new(Memory::default()));
    let log = read.log(Tenant::new("acme").unwrap().log(Kind::Flow, b"t-1").unwrap());
    for line in golden.lines() {
        let (key, document) = line.split_once(' ').unwrap();
        log.put(key, json(document)).await.unwrap();
    }
    let found = flow(&read).look().await.unwrap().unwrap();
    assert_eq!((found.state, found.life, found.nodes.len()), (FlowState::Finished, 2, 3));
    assert_eq!(found.result.as_deref(), Some(&br#""out""#[..]));
    let again = match flow(&read).begin(start("1"), "somebody").await.unwrap() {
        Opened::Finished(result) => result,
        Opened::Running { .. } => panic!("it is finished"),
    };
    assert_eq!(&again[..], br#""out""#);
}
