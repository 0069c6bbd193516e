//! Generated sequences of calls, each answer compared with a model's.

use icecore_log::{LogPrefix, PageLimit, Version};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::commits::*;
use crate::fixture::Fixture;
use crate::model::Model;

/// One call. Versions are relative to the head, so that most calls mean something.
#[derive(Debug, Clone)]
enum Call {
    Create { log: usize, ahead: i64, count: u64, seed: u64 },
    Close { log: usize, behind: i64 },
    Sweep { log: usize },
    Drop { log: usize, behind: u64 },
    Read { log: usize, behind: i64, commits: usize },
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let log = 0..3_usize;
    prop_oneof![
        8 => (log.clone(), -2..2_i64, 1..4_u64, 0..2_u64).prop_map(|(log, ahead, count, seed)| Call::Create { log, ahead, count, seed }),
        2 => (log.clone(), -1..4_i64).prop_map(|(log, behind)| Call::Close { log, behind }),
        1 => log.clone().prop_map(|log| Call::Sweep { log }),
        1 => (log.clone(), 0..3_u64).prop_map(|(log, behind)| Call::Drop { log, behind }),
        4 => (log, -2..6_i64, 1..5_usize).prop_map(|(log, behind, commits)| Call::Read { log, behind, commits }),
        1 => Just(Call::Reopen),
    ]
}

/// All contracts. The seed is printed; `ICECORE_SEED` runs it again, `ICECORE_LONG=1` runs 2,000 sequences instead of 40.
///
/// The sequences share one store and have logs of their own.
pub async fn generated_sequences_answer_as_the_model_does(fixture: &dyn Fixture) {
    let count = if std::env::var_os("ICECORE_LONG").is_some() { 2_000 } else { 40 };
    let seed = std::env::var("ICECORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1CE_u64);
    println!("seed {seed}, {count} sequences");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let sequences = proptest::collection::vec(call(), 1..40);

    for number in 0..count {
        let calls = sequences.new_tree(&mut runner).unwrap().current();
        let mut model = Model::default();
        for (step, call) in calls.iter().enumerate() {
            apply(fixture, &mut model, number, call, &format!("sequence {number}, step {step}: {call:?}"))
                .await;
        }
    }
}

async fn apply(fixture: &dyn Fixture, model: &mut Model, number: usize, call: &Call, what: &str) {
    let backend = fixture.backend();
    let name = |log: usize| log_of(number, log);
    let head = |model: &Model, log: usize| model.logs.get(&name(log)).and_then(|log| log.head()).unwrap_or(0);
    match call {
        Call::Create { log, ahead, count, seed } => {
            let first = (head(model, *log) + 1).saturating_add_signed(*ahead).max(1);
            let run = run(&name(*log), first..=first + count - 1, *seed);
            let expected = model.create(&run);
            let capabilities = backend.capabilities();
            let answer = create(&*backend, run).await;
            if capabilities.native_close && capabilities.checks_predecessor {
                assert_eq!(answer, expected, "{what}");
            }
        }
        Call::Close { log, behind } => {
            let through = head(model, *log).saturating_add_signed(-behind);
            let allowed = model.close(&name(*log), through);
            assert_eq!(backend.close(&name(*log), Version(through)).await.is_ok(), allowed, "{what}");
        }
        Call::Sweep { log } => {
            backend.sweep(&name(*log)).await.unwrap();
        }
        Call::Drop { log, behind } => {
            let versions = [Version(head(model, *log).saturating_sub(*behind))];
            let boundary = model.logs.get(&name(*log)).map_or(0, |log| log.boundary);
            if versions[0].0 > boundary {
                model.drop_bodies(&name(*log), &versions);
            }
            backend.drop_bodies(&name(*log), &versions).await.unwrap();
        }
        Call::Read { log, behind, commits } => {
            let from = head(model, *log).saturating_add_signed(-behind).max(1);
            let page = read(&*backend, &name(*log), from, PageLimit::WHOLE.commits(*commits)).await;
            let expected =
                model.logs.get(&name(*log)).map(|log| (log.from(from), log.boundary)).unwrap_or_default();
            assert_eq!(page.commits, expected.0[..expected.0.len().min(*commits)], "{what}");
            assert_eq!(page.boundary.0, expected.1, "{what}");
        }
        Call::Reopen => {
            fixture.reopen().await;
        }
    }
    let backend = fixture.backend();
    for (log, expected) in &model.logs {
        let ends = ends(&*backend, log).await;
        assert_eq!(ends, expected.head().map_or((0, 0), |head| (head, expected.boundary)), "{what}");
    }
    let listed =
        list_sorted(&*backend, &LogPrefix::parse(&format!("acme/session/q{number}-")).unwrap()).await;
    let expected: Vec<_> =
        model.logs.iter().filter(|(_, log)| log.head().is_some()).map(|(log, _)| log.clone()).collect();
    let listed: Vec<_> =
        listed.into_iter().filter(|log| expected.contains(log) || !model.logs.contains_key(log)).collect();
    assert_eq!(listed, expected, "{what}");
}

fn log_of(number: usize, log: usize) -> icecore_log::LogId {
    crate::commits::log(&format!("q{number}-{log}"))
}
