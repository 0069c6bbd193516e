//! Several processes at once, on each system that needs no server.

use icecore_agents::sessions::Limits;
use icecore_log::ErrorKind;

use super::support::systems;
use super::*;

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_that_create_a_session_one_does_and_it_is_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    for (system, stores) in systems(&folder).await {
        for round in 0..5 {
            let creators: Vec<_> = (0..12)
                .map(|number| {
                    let sessions = Sessions::new(stores[number % stores.len()].clone(), tenant());
                    let scope = scope(&sessions, "ann", &format!("s-{round}"));
                    tokio::spawn(async move { sessions.create(&scope, forever()).await })
                })
                .collect();
            let mut made = 0;
            for creator in creators {
                match creator.await.unwrap() {
                    Ok(_) => made += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{system}: {error}"),
                }
            }
            assert_eq!(made, 1, "{system}");
        }
        let sessions = Sessions::new(stores[1].clone(), tenant());
        for of in [Of::Tenant, Of::User(user(&sessions, "ann"))] {
            let mut ids = listed(&sessions, &of, true, 2).await;
            ids.sort();
            assert_eq!(ids, ["s-0", "s-1", "s-2", "s-3", "s-4"], "{system}");
        }
        // Whoever lost left nothing.
        assert_eq!(sessions.sweep(HOUR).await.unwrap(), Default::default(), "{system}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_that_race_for_the_last_places_never_too_many_get_one() {
    let folder = tempfile::tempdir().unwrap();
    for (system, stores) in systems(&folder).await {
        let sessions = Sessions::new(stores[0].clone(), tenant());
        let limits = Limits { sessions_per_user: Some(3), sessions_per_tenant: Some(5), ..Limits::default() };
        sessions.set_limits(&limits).await.unwrap();
        let creators: Vec<_> = (0..24)
            .map(|number| {
                let sessions = Sessions::new(stores[number % stores.len()].clone(), tenant());
                let scope = scope(&sessions, ["ann", "bob"][number % 2], &format!("s-{number}"));
                tokio::spawn(async move { sessions.create(&scope, forever()).await })
            })
            .collect();
        for creator in creators {
            if let Err(error) = creator.await.unwrap() {
                assert_eq!(error.kind(), ErrorKind::Refused, "{system}: {error}");
            }
        }
        for who in ["ann", "bob"] {
            assert!(
                listed(&sessions, &Of::User(user(&sessions, who)), true, 10).await.len() <= 3,
                "{system}"
            );
        }
        assert!(listed(&sessions, &Of::Tenant, true, 10).await.len() <= 5, "{system}");
        // One after the other they are let in until it is full.
        for number in 100..110 {
            let _ = sessions
                .create(&scope(&sessions, ["ann", "bob"][number % 2], &number.to_string()), forever())
                .await;
        }
        assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await.len(), 5, "{system}");
    }
}
