//! A purge takes along what the user stored in the session, and nothing of another who has one of that id.

use bytes::Bytes;
use icecore_agents::Artifacts;
use icecore_agents::artifacts::{Owner, What};
use icecore_log::ErrorKind;
use icecore_store::retention::{Hold, On};
use icecore_store::state::Json;

use super::*;

async fn put(all: &Artifacts, tenant: Option<&str>, user: Option<&str>, session: &str) {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    let owner = Owner { tenant: bytes(tenant), user: bytes(user), session: session.into() };
    let what = What { namespace: None, trace: None, about: Json::text("{}").unwrap() };
    all.of(&owner).unwrap().put(what, Bytes::from_static(b"content")).await.unwrap();
}

async fn count(all: &Artifacts, session: &str) -> usize {
    all.list(Some(session.as_bytes())).await.unwrap().len()
}

#[tokio::test]
async fn a_purge_takes_the_users_artifacts_in_the_session_and_no_others() {
    let world = World::new();
    let sessions = world.sessions();
    let all = Artifacts::new(sessions.store().clone(), sessions.tenant().clone());
    let long = "u".repeat(600);
    for user in ["ann", &long] {
        for id in ["1", "2"] {
            sessions.create(&scope(&sessions, user, id), forever()).await.unwrap();
            for tenant in [None, Some("acme")] {
                put(&all, tenant, Some(user), id).await;
            }
        }
    }
    put(&all, Some("other"), Some("ann"), "1").await;
    for user in [Some("bob"), Some("ann/"), Some("\",\"ann"), None] {
        put(&all, Some("acme"), user, "1").await;
    }

    let one = scope(&sessions, "ann", "1");
    let planned = sessions.plan_purge(&one).await.unwrap();
    assert_eq!(planned.artifacts, 3);
    assert_eq!((count(&all, "1").await, count(&all, "2").await), (9, 4));
    assert_eq!(sessions.purge(&one).await.unwrap(), planned);
    assert_eq!((count(&all, "1").await, count(&all, "2").await), (6, 4));
    // What is stored once more goes with the next.
    put(&all, None, Some("ann"), "1").await;
    assert_eq!(sessions.purge(&one).await.unwrap().artifacts, 1);

    let of = Of::User(user(&sessions, &long));
    let planned = sessions.plan_purge_all(&of).await.unwrap();
    assert_eq!((planned.sessions, planned.artifacts), (2, 4));
    assert_eq!(sessions.purge_all(&of).await.unwrap(), planned);
    assert_eq!((count(&all, "1").await, count(&all, "2").await), (4, 2));
    let planned = sessions.plan_purge_all(&Of::Tenant).await.unwrap();
    assert_eq!((planned.sessions, planned.artifacts), (1, 2));
    assert_eq!(sessions.purge_all(&Of::Tenant).await.unwrap(), planned);
    assert_eq!((count(&all, "1").await, count(&all, "2").await), (4, 0));
}

#[tokio::test]
async fn artifacts_that_are_held_keep_their_session() {
    let world = World::new();
    let sessions = world.sessions();
    let all = Artifacts::new(sessions.store().clone(), sessions.tenant().clone());
    let one = scope(&sessions, "ann", "1");
    sessions.create(&one, forever()).await.unwrap();
    put(&all, None, Some("ann"), "1").await;
    let log = sessions.tenant().log(icecore_agents::Kind::Artifacts, b"1").unwrap();
    let hold = Hold { on: On::Log(log), from: None, until: None, reason: "case 7".to_owned() };
    let retention = sessions.store().retention().unwrap();
    retention.hold("case", &hold).await.unwrap();

    assert_eq!(sessions.plan_purge(&one).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(sessions.purge(&one).await.unwrap_err().kind(), ErrorKind::Refused);
    let planned = sessions.plan_purge_all(&Of::Tenant).await.unwrap();
    assert_eq!((planned.sessions, planned.held), (0, 1));
    assert_eq!(count(&all, "1").await, 1);
    retention.release("case").await.unwrap();
    assert_eq!(sessions.purge(&one).await.unwrap().artifacts, 1);
    assert_eq!(count(&all, "1").await, 0);
}
