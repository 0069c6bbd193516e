//! Connections that are encrypted, to whom the URL trusts, and users of the server's.

use icecore_conformance::commits::{append, fact, log, refused};
use icecore_log::{Error, ErrorKind};
use icecore_services::certificates::Certificates;
use icecore_services::mongodb::Server;
use mongodb::bson::doc;

use crate::faults::are_free_again;
use crate::store;

async fn refusal(url: &str) -> Error {
    refused(store(url).await, &["cret", "SECRET"])
}

/// The right authority and the right password; another authority, which is nobody's, and a password that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_and_a_user_by_the_password() {
    let certificates = Certificates::make().unwrap();
    let server = Server::start_alone_with(&[
        "--auth",
        "--tlsMode",
        "preferTLS",
        "--tlsCertificateKeyFile",
        &certificates.server_and_key(),
        "--tlsCAFile",
        &certificates.authority(),
        "--tlsAllowConnectionsWithoutCertificates",
    ])
    .unwrap();
    // The first user may be made by anybody on this machine.
    let anybody = mongodb::Client::with_uri_str(server.url()).await.unwrap();
    let make = doc! {"createUser": "ada", "pwd": "se:cret@", "roles": ["root"]};
    anybody.database("admin").run_command(make).await.unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "se:cret@\n").unwrap();
    let by = |user: &str, authority: &str| {
        let url = server.url().replace("mongodb://", &format!("mongodb://{user}@"));
        format!("{url}&authSource=admin&timeout_ms=3000&tls=true&tlsCAFile={authority}")
    };

    let from_file =
        format!("{}&password_file={}", by("ada", &certificates.authority()), password.path().display());
    for (last, url) in [(1, by("ada:se%3Acret%40", &certificates.authority())), (2, from_file)] {
        let trusted = store(&url).await.unwrap();
        append(&trusted, &log("s-1"), last..=last).await;
        for (name, said) in [("user", "ada"), ("tls", "yes"), ("timeout_ms", "3000")] {
            assert_eq!(fact(&trusted, name).await, said, "{name}");
        }
    }

    let other = refusal(&by("ada:se%3Acret%40", &certificates.another_authority())).await;
    assert_eq!(other.kind(), ErrorKind::Unavailable, "{other}");
    let missing = refusal(&by("ada:SECRET", "/nowhere/SECRET.pem")).await;
    assert_eq!(missing.kind(), ErrorKind::Invalid, "{missing}");
    let wrong = refusal(&by("ada:SECRET", &certificates.authority())).await;
    assert_eq!(wrong.kind(), ErrorKind::Refused, "{wrong}");
    let nobody = refusal(&format!("{}&timeout_ms=3000", server.url())).await;
    assert_eq!(nobody.kind(), ErrorKind::Refused, "{nobody}");
}

/// What it takes is what every user may do: look at transactions of its own, and end them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_only_read_and_write_ends_transactions_that_nobody_goes_on_with() {
    let server = Server::start_set_with_users().unwrap();
    let admin = mongodb::Client::with_uri_str(server.url()).await.unwrap().database("admin");
    admin.run_command(doc! {"createUser": "root", "pwd": "root", "roles": ["root"]}).await.unwrap();
    let by = |user: &str| server.url().replace("mongodb://", &format!("mongodb://{user}:{user}@"));
    let admin = mongodb::Client::with_uri_str(by("root")).await.unwrap().database("admin");
    let roles = doc! {"role": "readWrite", "db": "agents"};
    admin.run_command(doc! {"createUser": "ada", "pwd": "ada", "roles": [roles]}).await.unwrap();

    let url = by("ada").replace("/?", "/agents?");
    are_free_again(&format!("{url}&authSource=admin")).await;
}
