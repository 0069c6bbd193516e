//! Secrets that open exactly one session.

use std::collections::HashSet;

use icecore_log::{ErrorKind, LogPrefix};
use icecore_store::Range;

use super::*;

#[tokio::test]
async fn a_token_opens_its_session_until_it_is_revoked_or_either_ends() {
    let world = World::new();
    let sessions = world.sessions();
    let (one, two) = (scope(&sessions, "ann", "1"), scope(&sessions, "ann", "2"));
    sessions.create(&one, idle(2 * HOUR)).await.unwrap();
    sessions.create(&two, forever()).await.unwrap();
    let opened = async |token: &str| {
        let opened = world.sessions().open_token(token).await;
        opened.map(|session| session.scope).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            // Why it does not is nobody's business.
            assert_eq!(error.facts().count(), 0);
        })
    };
    let short = sessions.issue_token(&one, "browser", Some(HOUR)).await.unwrap();
    let long = sessions.issue_token(&one, "phone", None).await.unwrap();
    let other = sessions.issue_token(&two, "", None).await.unwrap();
    assert_eq!(opened(short.reveal()).await, Ok(one.clone()));
    assert_eq!(opened(long.reveal()).await, Ok(one.clone()));
    assert_eq!(opened(other.reveal()).await, Ok(two.clone()));
    let labels = async |scope: &SessionScope| {
        let tokens = sessions.tokens(scope).await.unwrap();
        tokens.into_iter().map(|token| (token.id, token.label)).collect::<Vec<_>>()
    };
    assert_eq!(
        labels(&one).await,
        [(short.id.clone(), "browser".to_owned()), (long.id.clone(), "phone".to_owned())]
    );

    world.clock.pass(HOUR);
    assert_eq!(opened(short.reveal()).await, Err(()));
    assert_eq!(sessions.revoke_token(&two, &long.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(opened(long.reveal()).await, Ok(one.clone()));
    sessions.revoke_token(&one, &long.id).await.unwrap();
    assert_eq!(opened(long.reveal()).await, Err(()));
    assert_eq!(sessions.revoke_token(&one, &long.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let third = sessions.issue_token(&one, "", None).await.unwrap();
    world.clock.pass(2 * HOUR);
    assert_eq!(opened(third.reveal()).await, Err(()), "its session has expired");
    sessions.terminate(&two, "").await.unwrap();
    assert_eq!(opened(other.reveal()).await, Err(()), "its session has ended");
    sessions.purge(&two).await.unwrap();
    assert_eq!(opened(other.reveal()).await, Err(()), "its session is gone");
}

#[tokio::test]
async fn what_is_no_token_or_differs_in_one_digit_opens_nothing() {
    let world = World::new();
    let sessions = world.sessions();
    let (one, two) = (scope(&sessions, "ann", "1"), scope(&sessions, "bob", "1"));
    sessions.create(&one, forever()).await.unwrap();
    sessions.create(&two, forever()).await.unwrap();
    let first = sessions.issue_token(&one, "", None).await.unwrap();
    let second = sessions.issue_token(&two, "", None).await.unwrap();
    let token = first.reveal();
    let mut wrong =
        vec![String::new(), "ics1_".to_owned(), token[..token.len() - 1].to_owned(), format!("{token}0")];
    for at in 0..token.len() {
        let other = if &token[at..=at] == "0" { "1" } else { "0" };
        wrong.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    wrong.extend([token.to_uppercase(), token.replace('a', "é"), format!("{token}\0")]);
    // The place of one with the secret of the other.
    let secret = token.len() - 64;
    wrong.push(format!("{}{}", &token[..secret], &second.reveal()[secret..]));
    wrong.push(format!("{}{}", &second.reveal()[..secret], &token[secret..]));
    for wrong in wrong {
        assert_eq!(sessions.open_token(&wrong).await.unwrap_err().kind(), ErrorKind::NotFound, "{wrong}");
    }
    assert_eq!(sessions.open_token(token).await.unwrap().scope, one);
    let elsewhere = world.sessions_of("other");
    assert_eq!(elsewhere.open_token(token).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn no_secret_is_stored_shown_or_given_twice() {
    let world = World::new();
    let sessions = world.sessions();
    let s = scope(&sessions, "ann", "1");
    sessions.create(&s, forever()).await.unwrap();
    let mut secrets = HashSet::new();
    for _ in 0..20 {
        let issued = sessions.issue_token(&s, "", None).await.unwrap();
        let secret = issued.reveal()[issued.reveal().len() - 64..].to_owned();
        assert!(!format!("{issued:?} {:?}", sessions.tokens(&s).await.unwrap()).contains(&secret));
        assert!(!issued.reveal().contains("ann"));
        assert!(secrets.insert(secret));
    }
    for log in sessions.store().all_logs(&LogPrefix::all()).await.unwrap() {
        let log = sessions.store().log(log);
        let mut reader = log.read(Range::default());
        loop {
            let page = reader.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            for event in page.into_iter().flat_map(|commit| commit.into_events()) {
                let data = String::from_utf8_lossy(&event.event.data).into_owned();
                assert!(secrets.iter().all(|secret| !data.contains(secret)), "{data}");
            }
        }
    }
}
