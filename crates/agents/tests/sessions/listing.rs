//! Pages, newest first.

use std::collections::HashSet;

use icecore_log::ErrorKind;

use super::*;

async fn fill(world: &World, sessions: &Sessions, count: usize) {
    for number in 0..count {
        let user = format!("u-{}", number % 3);
        sessions.create(&scope(sessions, &user, &format!("s-{number:03}")), forever()).await.unwrap();
        world.clock.pass(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn pages_are_newest_first_and_each_session_is_on_one() {
    let world = World::new();
    let sessions = world.sessions();
    fill(&world, &sessions, 60).await;
    let newest: Vec<_> = (0..60).rev().map(|number| format!("s-{number:03}")).collect();
    for limit in [1, 2, 7, 59, 60, 61, 1_000] {
        assert_eq!(listed(&world.sessions(), &Of::Tenant, false, limit).await, newest, "{limit}");
        let of_one: Vec<_> = newest.iter().skip(2).step_by(3).cloned().collect();
        let user = user(&sessions, "u-0");
        assert_eq!(listed(&sessions, &Of::User(user), false, limit).await, of_one, "{limit}");
    }
    let all = sessions.list(&Of::Tenant, &Query { limit: 60, ..Query::default() }).await.unwrap();
    assert_eq!(all.next, None, "there is nothing behind the last");
    let looked = sessions.find(&all.sessions[7].1.scope).await.unwrap();
    assert_eq!(looked.as_ref(), Some(&all.sessions[7].1), "what is listed is what is found");
    let none = sessions.list(&Of::Tenant, &Query { limit: 0, ..Query::default() }).await.unwrap();
    assert_eq!(none.sessions.len(), 0);
    for wrong in ["", "x", "é", &"g".repeat(32), &"0".repeat(33)] {
        let query = Query { after: Some(wrong.to_owned()), ..Query::default() };
        assert_eq!(sessions.list(&Of::Tenant, &query).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn what_is_made_ended_or_touched_meanwhile_moves_no_page() {
    let world = World::new();
    let sessions = world.sessions();
    fill(&world, &sessions, 40).await;
    let (mut seen, mut after, mut number) = (Vec::new(), None, 0);
    loop {
        let query = Query { after: after.take(), limit: 3, ended: false };
        let page = sessions.list(&Of::Tenant, &query).await.unwrap();
        seen.extend(page.sessions.into_iter().map(|(_, session)| session.scope.id().to_owned()));
        // Between two pages others make some, touch some, and end one that was listed already.
        let new = scope(&sessions, "u-0", &format!("new-{number}"));
        sessions.create(&new, forever()).await.unwrap();
        sessions.touch(&scope(&sessions, "u-0", "s-000")).await.unwrap();
        let last = seen.last().unwrap();
        let of = format!("u-{}", last[2..].parse::<usize>().unwrap() % 3);
        if last != "s-000" {
            sessions.purge(&scope(&sessions, &of, last)).await.unwrap();
        }
        world.clock.pass(Duration::from_millis(1));
        number += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let newest: Vec<_> = (0..40).rev().map(|number| format!("s-{number:03}")).collect();
    assert_eq!(seen, newest);
}

#[tokio::test]
async fn a_touch_is_seen_in_the_list_and_writes_no_directory() {
    let world = World::new();
    let sessions = world.sessions();
    let s = scope(&sessions, "ann", "s");
    sessions.create(&s, idle(HOUR)).await.unwrap();
    let before = world.fault.sent().len();
    for _ in 0..10 {
        world.clock.pass(HOUR / 2);
        let touched = sessions.touch(&s).await.unwrap();
        let page = sessions.list(&Of::Tenant, &Query::default()).await.unwrap();
        assert_eq!(page.sessions[0].1, touched);
    }
    let written: HashSet<_> =
        world.fault.sent()[before..].iter().flatten().map(|run| run.log.clone()).collect();
    assert_eq!(written.len(), 1, "{written:?}");
    // What trims a session's log is no touch.
    let log = sessions.store().log(written.into_iter().next().unwrap());
    let keep = icecore_store::retention::Keep { commits: Some(1), ..Default::default() };
    world.clock.pass(HOUR / 2);
    log.trim(&icecore_store::retention::Trim { keep, ..Default::default() }).await.unwrap();
    world.clock.pass(HOUR / 2);
    assert_eq!(listed(&world.sessions(), &Of::Tenant, false, 10).await, [""; 0]);
    assert_eq!(world.sessions().get(&s).await.unwrap_err().fact("state"), Some("expired"));
}

#[tokio::test]
async fn what_is_no_entry_is_swept_if_it_is_a_mark_and_told_if_it_is_not() {
    let world = World::new();
    let sessions = world.sessions();
    fill(&world, &sessions, 1).await;
    let directory = sessions.store().log(icecore_log::LogId::new("acme", "directory", "user/u-0").unwrap());
    let json = |text: &str| icecore_store::state::Json::text(text.to_owned()).unwrap();
    let of = Of::User(user(&sessions, "u-0"));
    // A mark of somebody who was slow, behind what it was of.
    directory.put(&format!("e/{}", "0".repeat(32)), json(r#"{"made":true}"#)).await.unwrap();
    assert_eq!(listed(&sessions, &of, true, 1).await, ["s-000"]);
    assert_eq!(sessions.sweep(HOUR).await.unwrap().removed, 1);
    assert_eq!(sessions.sweep(HOUR).await.unwrap(), Default::default());
    directory.put(&format!("e/{}", "0".repeat(32)), json(r#"{"user":1}"#)).await.unwrap();
    for error in
        [sessions.list(&of, &Query::default()).await.unwrap_err(), sessions.sweep(HOUR).await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn hostile_ids_are_listed_as_they_are_and_reach_nobody_else() {
    let world = World::new();
    let sessions = world.sessions();
    let long = "é".repeat(512);
    let ids = ["a", "a/", "a/b", "~a", "\0", "..", " ", "a\u{202e}", "\"}", "e/", "ａ", &long];
    for user in ids {
        for id in ids {
            sessions.create(&scope(&sessions, user, id), forever()).await.unwrap();
        }
    }
    for user in ids {
        let of = Of::User(sessions.tenant().user(user).unwrap());
        let found: HashSet<_> = listed(&world.sessions(), &of, false, 5).await.into_iter().collect();
        assert_eq!(found, ids.iter().map(|id| (*id).to_owned()).collect(), "{user:?}");
    }
    assert_eq!(listed(&sessions, &Of::Tenant, false, 7).await.len(), ids.len() * ids.len());
    // One user's end is nobody else's.
    let of = Of::User(sessions.tenant().user("a").unwrap());
    assert_eq!(sessions.purge_all(&of).await.unwrap().sessions, ids.len() as u64);
    assert_eq!(listed(&sessions, &Of::Tenant, false, 50).await.len(), ids.len() * (ids.len() - 1));
}
