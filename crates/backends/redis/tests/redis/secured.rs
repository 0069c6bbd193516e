//! Connections that are encrypted, to whom the URL trusts, and users of the server's.

use icecore_conformance::commits::{append, fact, log, refused};
use icecore_log::{Error, ErrorKind};
use icecore_services::certificates::Certificates;
use icecore_services::redis::{Server, free_port};

use crate::store;

async fn refusal(url: &str) -> Error {
    refused(store(url).await, &["cret", "SECRET"])
}

/// The right authority and the right password; another authority, which is nobody's, and a password that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_and_a_user_by_the_password() {
    let certificates = Certificates::make().unwrap();
    let port = free_port().unwrap().to_string();
    let server = Server::start(&[
        ["tls-port", &port],
        ["tls-cert-file", &certificates.server()],
        ["tls-key-file", &certificates.key()],
        ["tls-ca-cert-file", &certificates.authority()],
        ["tls-auth-clients", "no"],
    ])
    .unwrap();
    server.ask(&["ACL", "SETUSER", "ada", "on", ">se:cret@", "~*", "&*", "+@all"]).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "se:cret@\n").unwrap();
    let by = |user: &str, authority: &str| {
        format!("rediss://{user}@127.0.0.1:{port}?timeout_ms=2000&tls_ca={authority}")
    };

    let from_file =
        format!("{}&password_file={}", by("ada", &certificates.authority()), password.path().display());
    for url in [by("ada:se%3Acret%40", &certificates.authority()), from_file] {
        let trusted = store(&url).await.unwrap();
        append(&trusted, &log("s-1"), 1..=2).await;
        for (name, said) in [("user", "ada"), ("tls", "yes"), ("connections_max", "16")] {
            assert_eq!(fact(&trusted, name).await, said, "{name}");
        }
    }

    let other = refusal(&by("ada:se%3Acret%40", &certificates.another_authority())).await;
    assert_eq!(other.kind(), ErrorKind::Unavailable, "{other}");
    assert!(other.to_string().contains("certificate"), "{other}");
    // Nobody's authority is asked for: what the system trusts did not give it.
    let system = refusal(&format!("rediss://127.0.0.1:{port}?timeout_ms=2000")).await;
    assert_eq!(system.kind(), ErrorKind::Unavailable, "{system}");
    let missing = refusal(&by("ada", "/nowhere/SECRET.pem")).await;
    assert_eq!(missing.kind(), ErrorKind::Refused, "{missing}");
    let wrong = refusal(&by("ada:SECRET", &certificates.authority())).await;
    assert_eq!(wrong.kind(), ErrorKind::Refused, "{wrong}");
}
