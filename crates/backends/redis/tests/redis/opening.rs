//! What a store is opened on, and what is refused.

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create, log, noise, numbered, one, page};
use icecore_log::backend::Depth;
use icecore_log::{Backend, Durability, ErrorKind, StoredCommit, Version};
use icecore_redis::{Access, Redis, Settings};
use icecore_services::redis::Server;

use crate::{prefix, store};

async fn refused(url: &str) -> icecore_log::Error {
    store(url).await.expect_err(url)
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&[["maxmemory-policy", "allkeys-lru"]]).unwrap();
    let told = refused(&server.url()).await;
    assert_eq!(told.kind(), ErrorKind::Refused);
    // Nobody has set a limit yet: what is wrong is said differently.
    assert!(told.to_string().contains("as soon as"), "{told}");
    server.ask(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    assert!(refused(&server.url()).await.to_string().contains("when its memory is full"));

    server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    store(&server.url()).await.unwrap();
}

#[tokio::test]
async fn what_is_declared_is_what_the_server_is_set_to() {
    for (settings, durability) in [
        (&[][..], Durability::Disk),
        (&[["no-appendfsync-on-rewrite", "yes"]][..], Durability::Machine),
        (&[["appendfsync", "everysec"]][..], Durability::Process),
        (&[["appendonly", "no"]][..], Durability::Process),
        // Whoever does not say how it syncs promises nothing.
        (&[["rename-command", "CONFIG \"\""]][..], Durability::Process),
    ] {
        let server = Server::start(settings).unwrap();
        let store = store(&server.url()).await.unwrap();
        assert_eq!(store.capabilities().durability, durability, "{settings:?}");
        append(&store, &log("s-1"), 1..=3).await;
        let facts = store.examine(Depth::Deep).await.unwrap().facts;
        let fact = |name: &str| facts.iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!((fact("maxmemory_policy"), fact("logs")), ("noeviction".to_owned(), "1".to_owned()));
        assert!(fact("used_memory").parse::<u64>().unwrap() > 0);
        assert_eq!(
            fact("durability_found").contains("not to be asked"),
            settings.iter().any(|[name, _]| *name == "rename-command")
        );
    }
}

#[tokio::test]
async fn a_replica_and_a_wrong_password_are_refused() {
    let server = Server::start(&[]).unwrap();
    let replica = server.replica(&[]).unwrap();
    let told = refused(&replica.url()).await;
    assert_eq!(told.kind(), ErrorKind::Refused, "{told}");
    server.ask(&["ACL", "SETUSER", "ada", "on", ">se:cret@", "~*", "&*", "+@all"]).unwrap();
    server.ask(&["ACL", "SETUSER", "default", "off"]).unwrap();
    let with = |user: &str| server.url().replace("redis://", &format!("redis://{user}@"));
    for wrong in ["ada:other", "eve:se%3Acret%40"] {
        let told = refused(&with(wrong)).await;
        assert_eq!(told.kind(), ErrorKind::Refused, "{told}");
        assert!(!told.to_string().contains("cret"), "{told}");
    }
    store(&with("ada:se%3Acret%40")).await.unwrap();
}

#[tokio::test]
async fn a_place_that_holds_something_else_is_refused() {
    let server = Server::start(&[]).unwrap();
    for (value, advice) in [("icecore redis 2", "later version"), ("x", "another program")] {
        server.ask(&["SET", "icecore:{0}:store", value]).unwrap();
        let told = refused(&server.url()).await;
        assert_eq!(told.kind(), ErrorKind::Refused);
        assert!(told.to_string().contains(advice), "{told}");
    }
    let other = format!("{}?prefix=other", server.url());
    let read_only = |url: &str| Redis::open(Settings::parse(url).unwrap(), Access::ReadOnly);
    assert_eq!(read_only(&other).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(server.ask(&["KEYS", "other*"]).unwrap(), "", "looking makes nothing");
    let store = store(&other).await.unwrap();
    append(&store, &log("s-1"), 1..=1).await;
    assert_eq!(page(&read_only(&other).await.unwrap(), &log("s-1"), 1).await.commits.len(), 1);
}

/// A body of 60 MB is whole, in parts that are read one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_many_megabytes_is_whole() {
    let prefix = prefix();
    let store = store(&prefix.url()).await.unwrap();
    let (log, body) = (log("s-1"), noise(60 << 20, 7));
    let large = StoredCommit { body: Some(body.clone()), ..numbered(1, 0) };
    assert_eq!(create(&store, one(&log, large)).await, Told::done(1));
    append(&store, &log, 2..=2).await;

    let page = page(&store, &log, 1).await;
    assert_eq!(page.commits.len(), 1, "a page ends with the commit that reaches its bytes");
    assert!(page.commits[0].body.as_ref() == Some(&body), "the body is another");
    store.drop_bodies(&log, &[Version(1)]).await.unwrap();
    let commits = store.read(&log, Version(1), icecore_log::PageLimit::WHOLE).await.unwrap().commits;
    assert_eq!((commits.len(), &commits[0].body), (2, &None));
}

/// Damage is named by log and version, and what is beside it is read.
#[tokio::test]
async fn damage_is_found_by_log_and_version() {
    let server = Server::start(&[]).unwrap();
    let store = store(&server.url()).await.unwrap();
    let log = log("s-1");
    append(&store, &log, 1..=6).await;
    let key = server.ask(&["KEYS", "*:c:*"]).unwrap();
    server.ask(&["HSET", &key, "b2", "other"]).unwrap();
    server.ask(&["HSET", &key, "h4", "xxxxheader"]).unwrap();
    server.ask(&["HDEL", &key, "h5"]).unwrap();

    for version in [2, 4, 5] {
        let told = store.read(&log, Version(version), icecore_log::PageLimit::WHOLE).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Corrupt);
        assert_eq!(told.fact("version"), Some(&*version.to_string()), "{told}");
    }
    let damage = store.examine(Depth::Deep).await.unwrap().damage;
    let versions: Vec<_> = damage.iter().filter_map(|error| error.fact("version")).collect();
    assert_eq!(versions, ["2", "4", "5"]);
}
