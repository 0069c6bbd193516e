//! Sessions on PostgreSQL, as several workers on it have them: each with connections of its own.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::BTreeSet;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::agents::sessions::{Limits, NewSession, Of, Query, Sessions};
use icecore::agents::{SessionScope, Tenant};
use icecore_services::{self as services, postgres::Database};
use tokio::task::JoinSet;

const WORKERS: usize = 4;
const SESSIONS: usize = 10;

async fn worker(database: &Database, tenant: &str) -> Sessions {
    Sessions::new(icecore::open(&database.url()).await.unwrap(), Tenant::new(tenant).unwrap())
}

fn scope(sessions: &Sessions, user: &str, id: &str) -> SessionScope {
    sessions.tenant().user(user).unwrap().session(id).unwrap()
}

async fn listed(sessions: &Sessions, of: &Of) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = sessions.list(of, &Query { after, limit: 3, ended: true }).await.unwrap();
        ids.extend(page.sessions.into_iter().map(|(_, session)| session.scope.id().to_owned()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_on_postgres_make_each_session_once_and_all_see_the_same() {
    let database = Database::create(&services::url("postgres")).unwrap();
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(worker(&database, "acme").await);
    }
    let mut racing = JoinSet::new();
    for sessions in &workers {
        for number in 0..SESSIONS {
            let (sessions, id) = (sessions.clone(), format!("s-{number}"));
            racing.spawn(async move {
                sessions.create(&scope(&sessions, "ann", &id), NewSession::default()).await.map(|_| id)
            });
        }
    }
    let mut made = BTreeSet::new();
    while let Some(outcome) = racing.join_next().await {
        match outcome.unwrap() {
            Ok(id) => assert!(made.insert(id), "a session was made twice"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!(made.len(), SESSIONS);
    for sessions in &workers {
        let user = sessions.tenant().user("ann").unwrap();
        for of in [Of::Tenant, Of::User(user)] {
            let found = listed(sessions, &of).await;
            assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (SESSIONS, made.clone()));
        }
        assert_eq!(sessions.sweep(Duration::from_secs(3_600)).await.unwrap(), Default::default());
    }
    // One worker's token is any worker's, and nobody else's.
    let issued = workers[0].issue_token(&scope(&workers[0], "ann", "s-1"), "", None).await.unwrap();
    assert_eq!(workers[3].open_token(issued.reveal()).await.unwrap().scope.id(), "s-1");
    let other = worker(&database, "other").await;
    assert_eq!(other.open_token(issued.reveal()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(listed(&other, &Of::Tenant).await.is_empty());
    // Hostile ids are ids.
    for id in ["a/b", "\0", "~a", "é"] {
        workers[0].create(&scope(&workers[0], id, id), NewSession::default()).await.unwrap();
        let of = Of::User(workers[1].tenant().user(id).unwrap());
        assert_eq!(listed(&workers[1], &of).await, [id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_on_postgres_never_let_in_more_than_there_may_be() {
    let database = Database::create(&services::url("postgres")).unwrap();
    let first = worker(&database, "acme").await;
    let limits = Limits { sessions_per_tenant: Some(6), sessions_per_user: Some(4), ..Limits::default() };
    first.set_limits(&limits).await.unwrap();
    let mut racing = JoinSet::new();
    for number in 0..WORKERS {
        let sessions = worker(&database, "acme").await;
        racing.spawn(async move {
            for again in 0..SESSIONS {
                let scope = scope(&sessions, ["ann", "bob"][again % 2], &format!("{number}-{again}"));
                if let Err(error) = sessions.create(&scope, NewSession::default()).await {
                    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                }
            }
        });
    }
    while let Some(outcome) = racing.join_next().await {
        outcome.unwrap();
    }
    for user in ["ann", "bob"] {
        let of = Of::User(first.tenant().user(user).unwrap());
        assert!(listed(&first, &of).await.len() <= 4);
    }
    // They came one after the other as well, so that it is full.
    assert_eq!(listed(&first, &Of::Tenant).await.len(), 6);
}
