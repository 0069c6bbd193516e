//! Connections that are encrypted, to whom the URL trusts: the same of every server.

use icecore_conformance::commits::{append, fact, log, refused};
use icecore_log::{Error, ErrorKind};
use icecore_services::certificates::Certificates;

use crate::{secured_server, store};

async fn refusal(url: &str) -> Error {
    refused(store(url).await, &["correct", "SECRET"])
}

/// The right authority and the right password; another authority, which is nobody's, and a password that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_and_a_user_by_the_password() {
    let certificates = Certificates::make().unwrap();
    let (_server, url) = secured_server(&certificates);
    let trusting = |authority: &str| url("correct horse/battery@staple?", Some(authority));

    let trusted = store(&trusting(&certificates.authority())).await.unwrap();
    append(&trusted, &log("s-1"), 1..=2).await;
    assert!(fact(&trusted, "tls").await.starts_with("TLSv1."));
    let [user, most, timeout] = ["user", "connections_max", "timeout_ms"].map(|name| fact(&trusted, name));
    assert!(["secured", "root"].contains(&user.await.as_str()));
    assert_eq!((most.await.as_str(), timeout.await.as_str()), ("8", "4000"));

    let other = refusal(&trusting(&certificates.another_authority())).await;
    assert_eq!(other.kind(), ErrorKind::Unavailable, "{other}");
    assert!(other.to_string().contains("certificate"), "{other}");
    let missing = refusal(&trusting("/nowhere/SECRET.pem")).await;
    assert!(matches!(missing.kind(), ErrorKind::Unavailable | ErrorKind::Refused), "{missing}");
    let wrong = refusal(&url("SECRET", Some(&certificates.authority()))).await;
    assert_eq!(wrong.kind(), ErrorKind::Refused, "{wrong}");

    let plain = store(&url("correct horse/battery@staple?", None)).await.unwrap();
    assert_eq!(fact(&plain, "tls").await, "no");
}
