//! What one process does with sessions, one after the other.

use icecore_agents::sessions::{Limits, Status};
use icecore_log::{ErrorKind, Event};
use icecore_store::retention::{Hold, On};

use super::*;

#[tokio::test]
async fn a_session_is_made_once_touched_and_ended_for_good() {
    let world = World::new();
    let sessions = world.sessions();
    let s = scope(&sessions, "ann", "s-1");
    assert_eq!(sessions.get(&s).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sessions.find(&s).await.unwrap(), None);
    assert_eq!(sessions.touch(&s).await.unwrap_err().kind(), ErrorKind::NotFound);

    let made = sessions.create(&s, idle(HOUR)).await.unwrap();
    assert_eq!(
        (made.status, made.created_at, made.touched_at),
        (Status::Live, world.clock.now(), world.clock.now())
    );
    world.clock.pass(MINUTE);
    let error = sessions.create(&s, forever()).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("state")), (ErrorKind::Conflict, Some("live")));
    assert_eq!(sessions.get_or_create(&s, forever()).await.unwrap(), (made.clone(), false));

    let touched = sessions.touch(&s).await.unwrap();
    assert_eq!((touched.created_at, touched.touched_at), (made.created_at, world.clock.now()));
    assert_eq!(touched.expires_next(), Some(world.clock.now().after(HOUR)));
    assert_eq!(world.sessions().get(&s).await.unwrap(), touched);

    let ended = sessions.terminate(&s, "logged out").await.unwrap();
    assert_eq!(ended.status, Status::Terminated);
    assert_eq!(world.sessions().terminate(&s, "again").await.unwrap(), ended);
    for error in [
        sessions.get(&s).await.unwrap_err(),
        sessions.touch(&s).await.unwrap_err(),
        sessions.issue_token(&s, "", None).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.fact("state")), (ErrorKind::NotFound, Some("terminated")));
    }
    let error = sessions.create(&s, forever()).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("state")), (ErrorKind::Conflict, Some("terminated")));
}

#[tokio::test]
async fn what_has_expired_is_absent_at_once_and_nothing_brings_it_back() {
    let world = World::new();
    let sessions = world.sessions();
    let (touched, long, forever_) = (
        scope(&sessions, "ann", "idle"),
        scope(&sessions, "ann", "absolute"),
        scope(&sessions, "ann", "forever"),
    );
    sessions.create(&touched, idle(HOUR)).await.unwrap();
    sessions.create(&long, NewSession { idle: Some(HOUR), lifetime: Some(2 * HOUR) }).await.unwrap();
    sessions.create(&forever_, forever()).await.unwrap();
    for _ in 0..3 {
        world.clock.pass(HOUR - Duration::from_nanos(1));
        sessions.touch(&touched).await.unwrap();
        if world.clock.now().since(sessions.find(&long).await.unwrap().unwrap().created_at) < 2 * HOUR {
            sessions.touch(&long).await.unwrap();
        }
    }
    let all = Of::Tenant;
    assert_eq!(sessions.touch(&long).await.unwrap_err().fact("state"), Some("expired"));
    assert_eq!(listed(&sessions, &all, false, 10).await.len(), 2);
    world.clock.pass(HOUR - Duration::from_nanos(1));
    assert_eq!(sessions.get(&touched).await.unwrap().status, Status::Live);
    world.clock.pass(Duration::from_nanos(1));
    for (scope, doing) in [(&touched, "idle"), (&long, "absolute")] {
        assert_eq!(sessions.get(scope).await.unwrap_err().fact("state"), Some("expired"), "{doing}");
        assert_eq!(sessions.terminate(scope, "").await.unwrap_err().fact("state"), Some("expired"));
        assert_eq!(sessions.create(scope, forever()).await.unwrap_err().fact("state"), Some("expired"));
        assert_eq!(sessions.find(scope).await.unwrap().unwrap().status, Status::Expired);
    }
    assert_eq!(listed(&sessions, &all, false, 10).await, ["forever"]);
    assert_eq!(listed(&sessions, &all, true, 10).await.len(), 3);

    // A sweep takes what ended long enough ago: an hour ago it was only one of them.
    assert_eq!(sessions.sweep(HOUR).await.unwrap().purged.sessions, 1);
    assert_eq!(sessions.sweep(Duration::ZERO).await.unwrap().purged.sessions, 1);
    assert_eq!(listed(&sessions, &all, true, 10).await, ["forever"]);
    assert_eq!(sessions.create(&touched, forever()).await.unwrap_err().fact("state"), Some("purged"));
    assert_eq!(sessions.sweep(Duration::ZERO).await.unwrap(), Default::default());
}

#[tokio::test]
async fn limits_hold_for_live_sessions_and_say_whose_they_are() {
    let world = World::new();
    let sessions = world.sessions();
    let limits =
        Limits { sessions_per_tenant: Some(3), sessions_per_user: Some(2), idle: Some(HOUR), lifetime: None };
    sessions.set_limits(&limits).await.unwrap();
    assert_eq!(world.sessions().limits().await.unwrap(), limits);
    let nothing = Limits { idle: Some(Duration::ZERO), ..limits };
    assert_eq!(sessions.set_limits(&nothing).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        sessions.change_limits(|limits| *limits = nothing).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let make = async |user: &str, id: &str, new| sessions.create(&scope(&sessions, user, id), new).await;
    assert_eq!(make("ann", "1", forever()).await.unwrap().idle, Some(HOUR));
    make("ann", "2", idle(2 * HOUR)).await.unwrap();
    let error = make("ann", "3", forever()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fact("limit_of"), error.fact("sessions_max")),
        (ErrorKind::Refused, Some("user"), Some("2"))
    );
    make("bob", "1", forever()).await.unwrap();
    let error = make("cy", "1", forever()).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("limit_of")), (ErrorKind::Refused, Some("tenant")));
    // What was refused is listed nowhere, and nothing of it is left.
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await.len(), 3);
    assert_eq!(sessions.sweep(HOUR).await.unwrap(), Default::default());
    // What has ended or expired does not count, though it is still there.
    world.clock.pass(HOUR);
    make("ann", "3", forever()).await.unwrap();
    sessions.terminate(&scope(&sessions, "ann", "2"), "").await.unwrap();
    make("ann", "4", forever()).await.unwrap();
    assert_eq!(make("ann", "5", forever()).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await.len(), 5);
}

#[tokio::test]
async fn a_purge_takes_what_it_says_and_nothing_of_anybody_else() {
    let world = World::new();
    let sessions = world.sessions();
    for (user, id) in [("ann", "1"), ("ann", "2"), ("ann/", "1"), ("an", "n/1"), ("bob", "1")] {
        let s = scope(&sessions, user, id);
        sessions.create(&s, forever()).await.unwrap();
        sessions.store().log(s.log("memory").unwrap()).append(Event::new("said", "1")).await.unwrap();
    }
    let other = world.sessions_of("acme2");
    other.create(&scope(&other, "ann", "1"), forever()).await.unwrap();

    let one = scope(&sessions, "ann", "1");
    let planned = sessions.plan_purge(&one).await.unwrap();
    assert_eq!((planned.sessions, planned.logs), (1, 2));
    assert_eq!(sessions.purge(&one).await.unwrap(), planned);
    assert_eq!(sessions.find(&one).await.unwrap(), None);
    assert_eq!(sessions.purge(&one).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sessions.plan_purge(&one).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sessions.touch(&one).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(listed(&sessions, &Of::Tenant, true, 2).await.len(), 4);

    let ann = Of::User(user(&sessions, "ann"));
    // Of what somebody was slow to write, nobody would know but by its name.
    let late = scope(&sessions, "ann", "3").log("late").unwrap();
    sessions.store().log(late).append(Event::new("said", "1")).await.unwrap();
    let planned = sessions.plan_purge_all(&ann).await.unwrap();
    assert_eq!((planned.sessions, planned.logs), (1, 3));
    assert_eq!(sessions.purge_all(&ann).await.unwrap(), planned);
    assert_eq!(listed(&sessions, &ann, true, 10).await, [""; 0]);
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await.len(), 3);
    // The user may come back.
    sessions.create(&scope(&sessions, "ann", "4"), forever()).await.unwrap();
    assert_eq!(listed(&sessions, &ann, true, 10).await, ["4"]);

    let planned = sessions.plan_purge_all(&Of::Tenant).await.unwrap();
    assert_eq!((planned.sessions, planned.logs), (4, 7));
    assert_eq!(sessions.purge_all(&Of::Tenant).await.unwrap(), planned);
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await, [""; 0]);
    assert_eq!(listed(&other, &Of::Tenant, true, 10).await, ["1"]);
}

#[tokio::test]
async fn what_is_held_has_ended_and_is_purged_when_it_is_let_go() {
    let world = World::new();
    let sessions = world.sessions();
    let (held, free) = (scope(&sessions, "ann", "held"), scope(&sessions, "ann", "free"));
    for s in [&held, &free] {
        sessions.create(s, idle(HOUR)).await.unwrap();
        sessions.store().log(s.log("memory").unwrap()).append(Event::new("said", "1")).await.unwrap();
    }
    let retention = sessions.store().retention().unwrap();
    let hold = Hold {
        on: On::Log(held.log("memory").unwrap()),
        from: None,
        until: None,
        reason: "case 7".to_owned(),
    };
    retention.hold("case", &hold).await.unwrap();

    assert_eq!(sessions.plan_purge(&held).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(sessions.get(&held).await.unwrap().status, Status::Live);
    assert_eq!(sessions.purge(&held).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(sessions.get(&held).await.unwrap_err().fact("state"), Some("terminated"));
    world.clock.pass(HOUR);
    let swept = sessions.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((swept.purged.sessions, swept.purged.held), (1, 1));
    retention.release("case").await.unwrap();
    assert_eq!(sessions.sweep(Duration::ZERO).await.unwrap().purged.sessions, 1);
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await, [""; 0]);
}

#[tokio::test]
async fn a_purge_of_all_leaves_what_leads_to_what_is_held() {
    let world = World::new();
    let sessions = world.sessions();
    for (user, id) in [("ann", "a"), ("ann", "held"), ("ann", "held "), ("ann", "z"), ("bob", "held")] {
        let s = scope(&sessions, user, id);
        sessions.create(&s, forever()).await.unwrap();
        sessions.store().log(s.log("memory").unwrap()).append(Event::new("said", "1")).await.unwrap();
    }
    let held = scope(&sessions, "ann", "held");
    let on = On::Log(held.log("memory").unwrap());
    let retention = sessions.store().retention().unwrap();
    let hold = Hold { on, from: None, until: None, reason: "case 7".to_owned() };
    retention.hold("case", &hold).await.unwrap();

    let ann = Of::User(user(&sessions, "ann"));
    for (of, sessions_gone, logs_gone, left) in
        [(&ann, 3, 6, 2), (&Of::Tenant, 1, 2, 1), (&Of::Tenant, 0, 0, 1)]
    {
        let planned = sessions.plan_purge_all(of).await.unwrap();
        let purged = sessions.purge_all(of).await.unwrap();
        assert_eq!((purged.sessions, purged.logs, purged.held), (sessions_gone, logs_gone, 1));
        assert_eq!(planned, purged);
        assert_eq!(sessions.find(&held).await.unwrap().unwrap().status, Status::Terminated);
        assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await.len(), left);
    }

    retention.release("case").await.unwrap();
    let purged = sessions.purge_all(&Of::Tenant).await.unwrap();
    assert_eq!((purged.sessions, purged.logs, purged.held), (1, 2, 0));
    assert_eq!(listed(&sessions, &Of::Tenant, true, 10).await, [""; 0]);
}

#[tokio::test]
async fn a_session_of_another_tenant_is_refused_and_one_of_another_user_is_another() {
    let world = World::new();
    let (ours, theirs) = (world.sessions(), world.sessions_of("other"));
    let s = scope(&theirs, "ann", "s");
    theirs.create(&s, forever()).await.unwrap();
    for error in [
        ours.create(&s, forever()).await.unwrap_err(),
        ours.get(&s).await.unwrap_err(),
        ours.touch(&s).await.unwrap_err(),
        ours.terminate(&s, "").await.unwrap_err(),
        ours.issue_token(&s, "", None).await.unwrap_err(),
        ours.revoke_token(&s, "x").await.unwrap_err(),
        ours.tokens(&s).await.unwrap_err(),
        ours.purge(&s).await.unwrap_err(),
        ours.plan_purge(&s).await.unwrap_err(),
        ours.list(&Of::User(s.user().clone()), &Query::default()).await.unwrap_err(),
        ours.purge_all(&Of::User(s.user().clone())).await.unwrap_err(),
        ours.plan_purge_all(&Of::User(s.user().clone())).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    assert_eq!(theirs.get(&s).await.unwrap().status, Status::Live);
    assert_eq!(theirs.find(&scope(&theirs, "bob", "s")).await.unwrap(), None);
    assert_eq!(listed(&theirs, &Of::User(user(&theirs, "bob")), true, 10).await, [""; 0]);
}
