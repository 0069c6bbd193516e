use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_embedded::Memory;
use icecore_log::{Backend, BlobId, Hash, LogId, Mode, PageLimit, Run, StoredCommit, Version};

use super::Metrics;
use crate::retry::{Policy, Retry};
use crate::{Fate, Fault, Meters, Operation};

mod contract {
    use super::*;

    async fn open() -> Arc<Metrics> {
        Arc::new(Meters::default().around(Arc::new(Memory::default())))
    }

    icecore_conformance::conformance_tests!(open);
}

/// All of them, in their order.
mod stacked {
    use super::*;

    async fn open() -> Arc<Metrics> {
        let meters = Meters::default();
        let fault = Arc::new(Fault::new(Arc::new(Memory::default())));
        Arc::new(meters.around(Arc::new(Retry::new(fault, Policy::default()).counted_by(&meters))))
    }

    icecore_conformance::conformance_tests!(open);
}

/// The same, and every other call fails: what is answered by the end must be what the contract says.
mod stacked_with_faults {
    use super::*;

    async fn open() -> Arc<Metrics> {
        let fault = Arc::new(Fault::new(Arc::new(Memory::default())));
        for round in 0..50 {
            fault.plan([Fate::Refuse, Fate::Pass]);
            for operation in Operation::ALL {
                fault.plan_calls(operation, [fate(operation, round), Fate::Pass]);
            }
        }
        let policy = Policy { pause_max: Duration::from_millis(1), budget: 1_000, ..Policy::default() };
        Arc::new(Meters::default().around(Arc::new(Retry::new(fault, policy))))
    }

    /// Answers are lost where the last one is as good as the first. Where it may be an error, what was in doubt stays unknown, which is no
    /// answer of the contract's own; and ending is tried once.
    fn fate(operation: Operation, round: usize) -> Fate {
        match operation {
            Operation::ShutDown => Fate::Pass,
            Operation::Create | Operation::Close | Operation::Sweep => Fate::Refuse,
            Operation::PutBlob | Operation::DeleteBlob | Operation::DropBodies if round % 2 == 1 => {
                Fate::LoseAnswer
            }
            _ => Fate::Refuse,
        }
    }

    icecore_conformance::conformance_tests!(open);
}

fn log(key: &str) -> LogId {
    LogId::new("acme", "session", key).unwrap()
}

fn run(key: &str, header: &'static str) -> Run {
    let (header, body) = (Bytes::from_static(header.as_bytes()), Some(Bytes::from_static(b"four")));
    Run::one(log(key), Hash::ZERO, StoredCommit { version: Version::FIRST, header, body })
}

fn world() -> (Meters, Arc<Fault>, Metrics) {
    let (meters, fault) = (Meters::default(), Arc::new(Fault::new(Arc::new(Memory::default()))));
    let metrics = meters.around(Arc::clone(&fault) as Arc<dyn Backend>);
    (meters, fault, metrics)
}

#[tokio::test]
async fn creates_are_counted_by_what_became_of_each_run() {
    let (meters, fault, backend) = world();

    backend.create(vec![run("s-1", "ours"), run("s-2", "ours")], Mode::Each).await;
    backend.create(vec![run("s-1", "other"), run("s-3", "ours")], Mode::Each).await;
    fault.plan([Fate::LoseAnswer, Fate::Refuse]);
    backend.create(vec![run("s-4", "ours")], Mode::Each).await;
    backend.create(vec![run("s-5", "ours"), run("s-6", "ours")], Mode::Each).await;

    let snapshot = meters.snapshot();
    let memory = snapshot.system("memory").unwrap();
    let runs = ["won", "taken", "closed", "unknown", "unavailable"].map(|end| memory.runs(end));
    assert_eq!((runs, memory.commits), ([3, 1, 0, 1, 2], 3));
    let create = snapshot.of("memory", Operation::Create).unwrap();
    assert_eq!(["ok", "unknown", "unavailable"].map(|outcome| create.outcome(outcome)), [2, 1, 1]);
    assert_eq!((create.sent_bytes, create.answered()), (57, 4));
}

#[tokio::test]
async fn bytes_are_counted_in_both_directions() {
    let (meters, _, backend) = world();
    let blob = BlobId::new(log("s-1"), "b").unwrap();

    backend.create(vec![run("s-1", "ours")], Mode::Each).await;
    backend.read(&log("s-1"), Version::FIRST, PageLimit::WHOLE).await.unwrap();
    backend.read(&log("s-1"), Version::FIRST, PageLimit::HEADERS).await.unwrap();
    backend.heads(&[log("s-1"), log("s-2")]).await.unwrap();
    backend.put_blob(&blob, Bytes::from_static(b"twelve bytes")).await.unwrap();
    backend.get_blob(&blob, Some(0..6)).await.unwrap();

    let bytes = |operation| {
        let snapshot = meters.snapshot();
        let found = snapshot.of("memory", operation).unwrap();
        (found.sent_bytes, found.received_bytes)
    };
    let operations =
        [Operation::Create, Operation::Read, Operation::Heads, Operation::PutBlob, Operation::GetBlob];
    assert_eq!(operations.map(bytes), [(8, 0), (0, 12), (0, 4), (12, 0), (0, 6)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_is_in_flight_and_then_cancelled_and_in_no_bucket() {
    let (meters, _, backend) = world();
    backend.create(vec![run("s-1", "ours")], Mode::Each).await;
    let backend = Arc::new(backend);
    let waiting = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.wait(&[(log("s-1"), Version::FIRST)], Duration::from_secs(60)).await }
    });
    let of = || {
        let snapshot = meters.snapshot();
        let wait = snapshot.of("memory", Operation::Wait).unwrap();
        (wait.in_flight, wait.outcome("cancelled"), wait.answered())
    };

    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(of(), (1, 0, 0));
    waiting.abort();
    assert!(waiting.await.is_err());

    assert_eq!(of(), (0, 1, 0));
}

/// Time is the runtime's, which stands still but for what is slept.
#[tokio::test(start_paused = true)]
async fn a_call_is_in_the_bucket_of_what_it_took() {
    let (meters, _, backend) = world();
    backend.create(vec![run("s-1", "ours")], Mode::Each).await;
    for millis in [1, 2, 40, 45_000] {
        backend.wait(&[(log("s-1"), Version::FIRST)], Duration::from_millis(millis)).await.unwrap();
    }

    let page = meters.prometheus();
    let line = |labels: &str, value: &str| {
        let wait = "backend=\"memory\",operation=\"wait\"";
        let found = page.lines().any(|found| {
            found == format!("icecore_backend_request_duration_seconds{labels} {value}").replace("WAIT", wait)
        });
        assert!(found, "{labels} {value}\n{page}");
    };
    line("_bucket{WAIT,le=\"0.0003\"}", "0");
    line("_bucket{WAIT,le=\"0.003\"}", "2");
    line("_bucket{WAIT,le=\"0.1\"}", "3");
    line("_bucket{WAIT,le=\"30\"}", "3");
    line("_bucket{WAIT,le=\"+Inf\"}", "4");
    line("_count{WAIT}", "4");
    line("_sum{WAIT}", "45.043");
}

/// As the format says: each family once, its lines together and behind what it is, every line a name, labels, and a number.
#[tokio::test]
async fn the_text_is_what_prometheus_reads() {
    let (meters, fault, backend) = world();
    fault.plan([Fate::Refuse]);
    backend.create(vec![run("s-1", "ours")], Mode::Each).await;
    backend.heads(&[log("s-1")]).await.unwrap();

    let page = meters.prometheus();

    let mut families: Vec<&str> = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} is there twice");
            families.push(name);
            continue;
        }
        let family = *families.last().unwrap();
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(family), "{line}");
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        assert!(name.starts_with(family), "{line}");
        assert!(
            labels
                .split(',')
                .all(|label| label.split_once("=\"").is_some_and(|(_, value)| value.ends_with('"')))
        );
        assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
    }
    assert!(page.ends_with('\n'));
    assert_eq!(families.len(), 9);
    assert!(page.contains(
        "icecore_backend_requests_total{backend=\"memory\",operation=\"create\",outcome=\"unavailable\"} 1\n"
    ));
    assert!(page.contains("icecore_backend_runs_total{backend=\"memory\",outcome=\"unavailable\"} 1\n"));
    assert!(!page.contains("operation=\"sweep\""), "{page}");
}

#[cfg(feature = "opentelemetry")]
#[tokio::test]
async fn opentelemetry_collects_the_same_numbers() {
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    /// Every point as `name{labels} value`, the labels in order.
    fn points(collected: &ResourceMetrics) -> Vec<String> {
        let mut points = Vec::new();
        let metrics = collected.scope_metrics().flat_map(|scope| scope.metrics());
        for metric in metrics {
            let mut add = |labels: Vec<String>, value: u64| {
                let mut labels = labels;
                labels.sort();
                points.push(format!("{}{{{}}} {value}", metric.name(), labels.join(",")));
            };
            let label = |label: &opentelemetry::KeyValue| format!("{}={}", label.key, label.value);
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                    .data_points()
                    .for_each(|point| add(point.attributes().map(label).collect(), point.value())),
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
                    .data_points()
                    .for_each(|point| add(point.attributes().map(label).collect(), point.count())),
                other => panic!("{other:?}"),
            }
        }
        points
    }

    let exporter = InMemoryMetricExporter::default();
    let provider =
        SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    let (meters, _, backend) = world();
    meters.observe(&provider.meter("icecore"));

    backend.create(vec![run("s-1", "ours")], Mode::Each).await;
    backend.create(vec![run("s-1", "theirs")], Mode::Each).await;
    provider.force_flush().unwrap();

    let collected = exporter.get_finished_metrics().unwrap();
    let points = points(collected.last().unwrap());
    for point in [
        "icecore.backend.requests{backend=memory,operation=create,outcome=ok} 2",
        "icecore.backend.request.duration{backend=memory,operation=create,outcome=ok} 2",
        "icecore.backend.sent{backend=memory,operation=create} 18",
        "icecore.backend.runs{backend=memory,outcome=won} 1",
        "icecore.backend.runs{backend=memory,outcome=taken} 1",
        "icecore.backend.commits{backend=memory} 1",
    ] {
        assert!(points.iter().any(|found| found == point), "{point} is not in {points:#?}");
    }
}
