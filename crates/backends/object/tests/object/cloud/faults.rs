//! Real requests that fail, and answers that are lost, through `object_store`'s clients.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, head, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::{Access, Backend, Durability, ErrorKind, Mode, Version};
use icecore_object::{BucketStore, cloud};
use icecore_services::proxy::{Flow, Proxy, Way};
use icecore_services::{buckets, gcs};

/// The guard of a hung test, and no measure.
const MINUTE: Duration = Duration::from_secs(60);

/// A store in a server of the test's own.
async fn store(server: &gcs::Server, options: &str) -> BucketStore {
    cloud::open(&url(server, options), Access::ReadWrite).await.unwrap()
}

fn url(server: &gcs::Server, options: &str) -> String {
    format!("gs://{}/faults?endpoint={}&bearer_token={}{options}", gcs::BUCKET, server.url(), gcs::TOKEN)
}

/// Contract 2. The client sends the same again, and is told that there is one: its own.
#[tokio::test]
async fn a_lost_answer_is_found_out_by_reading() {
    let server = gcs::Server::start().unwrap();
    let store = store(&server, "").await;
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    for version in 2..=5 {
        server.lose_next_answers(usize::try_from(version).unwrap() - 1);
        assert_eq!(create(&store, one(&log, numbered(version, 0))).await, Told::done(1), "version {version}");
    }

    assert_eq!(page(&store, &log, 1).await.commits.len(), 5);
    assert_eq!(server.unexpected(), Vec::<String>::new());
}

/// Contract 2. A server that is busy is asked again.
#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let server = gcs::Server::start().unwrap();
    let store = store(&server, "").await;
    let log = log("s-1");

    for (version, status) in (1..).zip([500, 503, 429, 408]) {
        server.fail_next(2, status);
        assert_eq!(create(&store, one(&log, numbered(version, 0))).await, Told::done(1), "{status}");
        server.fail_next_reads(2, status);
        assert_eq!(head(&store, &log).await.unwrap().version, Version(version), "{status}");
    }
}

/// Contract 2. Nobody can say that a request which was answered with an error has not been carried out.
#[tokio::test]
async fn errors_to_the_end_are_unknown_and_the_same_bytes_decide() {
    let server = gcs::Server::start().unwrap();
    let store = store(&server, "&timeout_ms=400").await;
    let log = log("s-1");
    append(&store, &log, 1..=1).await;

    server.fail_next(1_000, 503);
    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::failed(ErrorKind::Unknown));
    server.fail_next(0, 503);

    assert_eq!(create(&store, run(&log, 2..=3, 0)).await, Told::done(2));
}

/// Contract 2. A server that refuses has done nothing, and says why.
#[tokio::test]
async fn a_refusal_is_told_as_one() {
    let server = gcs::Server::start().unwrap();
    let store = store(&server, "").await;
    let log = log("s-1");

    server.fail_next(1_000, 403);
    let answer = store.create(vec![one(&log, numbered(1, 0))], Mode::Each).await.remove(0);

    assert_eq!(Told::from(&answer), Told::failed(ErrorKind::Refused));
}

/// Contract 2. A request whose caller has gone lands late, and is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_late_keeps_its_slot() {
    let direct = buckets::s3();
    let (before, rest) = direct.split_once("endpoint=http://").unwrap();
    let (address, options) = rest.split_once('&').unwrap();
    let proxy = Proxy::start(address).unwrap();
    let through = format!("{before}endpoint=http://{}&{options}", proxy.address());
    let store = Arc::new(cloud::open(&through, Access::ReadWrite).await.unwrap());
    let direct = cloud::open(&direct, Access::ReadWrite).await.unwrap();
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;

    proxy.set(Way::Requests, Flow::Hold);
    let (sending, ours) = (Arc::clone(&store), run(&log, 2..=4, 0));
    let caller = tokio::spawn(async move { sending.create(vec![ours], Mode::Each).await });
    tokio::task::block_in_place(|| proxy.wait_until_stopped(Way::Requests));
    caller.abort();
    assert!(caller.await.is_err());
    assert_eq!(head(&direct, &log).await.unwrap().version, Version(1));
    proxy.set(Way::Requests, Flow::Pass);

    while head(&direct, &log).await.unwrap().version < Version(4) {
        direct.wait(&[(log.clone(), Version(1))], MINUTE).await.unwrap();
    }
    assert_eq!(create(&direct, one(&log, numbered(2, 1))).await, Told::stopped(Ending::Taken));
    assert_eq!(create(&direct, run(&log, 2..=4, 0)).await, Told::done(3));
}

/// What everything rests on is tried, and not believed.
#[tokio::test]
async fn a_server_that_ignores_conditions_is_refused() {
    let server = gcs::Server::start().unwrap();
    server.ignore_preconditions(true);

    let error = cloud::open(&url(&server, ""), Access::ReadWrite).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("all acknowledged"), "{error}");
    assert!(error.to_string().contains("If-None-Match"), "{error}");
}

/// Stores tell times in whole seconds, and a request takes its time.
#[tokio::test]
async fn a_short_grace_is_refused() {
    for (grace, is_taken) in
        [("0", true), ("1", false), ("299", false), ("300", true), ("-1", false), ("", false)]
    {
        let parsed = cloud::parse(&format!("gs://b/p?bearer_token=t&grace_s={grace}"));
        assert_eq!(parsed.is_ok(), is_taken, "{grace:?}");
    }
}

/// What is declared for the service is not declared for a server of which nobody knows anything.
#[tokio::test]
async fn an_endpoint_of_ones_own_is_declared_as_the_url_says() {
    let server = gcs::Server::start().unwrap();

    assert_eq!(store(&server, "").await.capabilities().durability, Durability::Disk);
    assert_eq!(store(&server, "&durability=process").await.capabilities().durability, Durability::Process);
    let (_, settings) = cloud::parse("s3://agents/x?access_key_id=a&secret_access_key=b").unwrap();
    assert_eq!(settings.durability, Durability::Replicated);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://127.0.0.1:{}", silent.local_addr().unwrap().port());

    for url in forms(&place) {
        let error = cloud::open(&format!("{url}&timeout_ms=200"), Access::ReadWrite).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

/// Not a panic, for which rustls has its reasons.
#[tokio::test]
async fn a_server_without_tls_is_unavailable_over_https() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("https://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let accepting = std::thread::spawn(move || drop(silent.accept()));

    let url = forms(&place).remove(0);
    let error = cloud::open(&format!("{url}&timeout_ms=500"), Access::ReadWrite).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    accepting.join().unwrap();
}

/// Every way to name a secret, at a server that refuses everything: `U0VDUkVU` is SECRET in base64, which Azure's keys are.
fn forms(endpoint: &str) -> Vec<String> {
    vec![
        format!("s3://b/p?endpoint={endpoint}&access_key_id=SECRET&secret_access_key=SECRET"),
        format!("s3://b/p?endpoint={endpoint}&access_key_id=a&secret_access_key=SECRET&session_token=SECRET"),
        format!("gs://b/p?endpoint={endpoint}&bearer_token=SECRET"),
        format!("az://b/p?endpoint={endpoint}&account_name=a&access_key=U0VDUkVU"),
        format!("az://b/p?endpoint={endpoint}&account_name=a&bearer_token=SECRET"),
        format!("az://b/p?endpoint={endpoint}&account_name=a&sas_token=sv=1%26sig=SECRET"),
    ]
}

#[tokio::test]
async fn no_form_of_a_url_shows_its_secret() {
    let server = gcs::Server::start().unwrap();
    let unreadable = [
        "s3://b/p?region=SECRET%FF",
        "s3://key:SECRET@b/p",
        "s3://b/p?SECRET",
        "s3://b/p?timeout_ms=SECRET",
        "s3://b/p?durability=SECRET",
        "s3://b/SECRET?/p",
        "gs://b/p?service_account_key=SECRET",
        "gs://b/p?service_account=SECRET",
        "az://b/p?account_name=a&access_key=SECRET!",
        "az://b/p?account_name=a&sas_token=SECRET",
        "az://b/p?account_name=SECRET_/&access_key=U0VDUkVU",
    ];
    let refused = forms(&server.url());

    for url in unreadable.iter().map(|url| (*url).to_owned()).chain(refused) {
        let error = match cloud::parse(&url) {
            Err(error) => error,
            Ok((bucket, settings)) => {
                let shown = format!("{bucket:?} {settings:?}");
                assert!(!shown.contains("SECRET") && !shown.contains("U0VDUkVU"), "{shown}");
                if !url.contains("127.0.0.1") {
                    // It would ask the provider.
                    continue;
                }
                cloud::open(&url, Access::ReadWrite).await.unwrap_err()
            }
        };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("SECRET") && !shown.contains("U0VDUkVU"), "{url}: {shown}");
    }
    let opened = format!("{:?}", store(&server, "").await);
    assert!(!opened.contains(gcs::TOKEN), "{opened}");
}
