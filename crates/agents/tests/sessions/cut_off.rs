//! A process that is killed at each step, and what is found by whoever comes after it.

use icecore_agents::sessions::Status;
use icecore_layers::Fate;
use icecore_log::Event;

use super::*;

/// How a process is cut off: what it sends next arrives without an answer, or not at all; and nothing after it.
const CUTS: [Fate; 2] = [Fate::LoseAnswer, Fate::LoseRequest];

/// Lets a process do its work until its so many-th request; whether it came to its end before that.
async fn cut(world: &World, passes: usize, cut: Fate, work: impl AsyncFnOnce(Sessions)) -> bool {
    // What would be sent behind it is never sent: it is dead.
    let sent = world.fault.sent().len();
    let fates = (0..passes).map(|_| Fate::Pass).chain([cut]).chain((0..200).map(|_| Fate::LoseRequest));
    world.fault.plan(fates);
    work(world.sessions()).await;
    let used = world.fault.sent().len() - sent;
    world.fault.forget_plan();
    used <= passes
}

/// What every process finds: those that exist are listed once, by both directories, and nothing else is.
async fn check(world: &World, ids: &[&str]) {
    let sessions = world.sessions();
    let mut there = Vec::new();
    for id in ids {
        if sessions.find(&scope(&sessions, "ann", id)).await.unwrap().is_some() {
            there.push((*id).to_owned());
        }
    }
    for of in [Of::Tenant, Of::User(user(&sessions, "ann"))] {
        let mut found = listed(&sessions, &of, true, 2).await;
        found.sort();
        assert_eq!(found, there);
    }
}

/// What is left to do is done by a sweep, and then nothing is.
async fn settle(world: &World, ids: &[&str]) {
    world.clock.pass(HOUR);
    let _ = world.sessions().sweep(1_000 * HOUR).await.unwrap();
    check(world, ids).await;
    assert_eq!(world.sessions().sweep(1_000 * HOUR).await.unwrap(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_of_creation_what_exists_is_listed_once_and_nothing_else() {
    for fate in CUTS {
        for passes in 0.. {
            let world = World::new();
            let first = world.sessions();
            first.create(&scope(&first, "ann", "before"), forever()).await.unwrap();
            let is_done = cut(&world, passes, fate, async |sessions| {
                let _ = sessions.create(&scope(&sessions, "ann", "cut"), forever()).await;
            })
            .await;
            check(&world, &["before", "cut"]).await;
            // Somebody else tries the same: one of both made it.
            let other = world.sessions();
            let (session, _) = other.get_or_create(&scope(&other, "ann", "cut"), forever()).await.unwrap();
            assert_eq!(session.status, Status::Live);
            check(&world, &["before", "cut"]).await;
            settle(&world, &["before", "cut"]).await;
            let limits =
                icecore_agents::sessions::Limits { sessions_per_user: Some(2), ..Default::default() };
            other.set_limits(&limits).await.unwrap();
            let third = other.create(&scope(&other, "ann", "third"), forever()).await;
            assert!(third.is_err(), "what is listed is counted");
            if is_done {
                assert!(passes >= 3, "{passes}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_creator_who_was_only_slow_makes_no_session_that_nobody_lists() {
    for passes in 0..5 {
        let world = World::new();
        let sessions = world.sessions();
        // Its request is on its way for longer than anybody waits; what comes behind it is lost.
        cut(&world, passes, Fate::Delay, async |sessions| {
            let _ = sessions.create(&scope(&sessions, "ann", "slow"), forever()).await;
        })
        .await;
        world.clock.pass(HOUR);
        let _ = sessions.sweep(1_000 * HOUR).await.unwrap();
        check(&world, &["slow"]).await;
        world.fault.land().await;
        check(&world, &["slow"]).await;
        settle(&world, &["slow"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_of_ending_it_has_ended_or_not_for_everybody() {
    for fate in CUTS {
        for passes in 0.. {
            let world = World::new();
            let first = world.sessions();
            let s = scope(&first, "ann", "s");
            first.create(&s, forever()).await.unwrap();
            let is_done = cut(&world, passes, fate, async |sessions| {
                let _ = sessions.terminate(&s, "").await;
            })
            .await;
            for _ in 0..2 {
                let now = world.sessions();
                let found = now.find(&s).await.unwrap().unwrap();
                let listed = now.list(&Of::Tenant, &Query { ended: true, ..Query::default() }).await.unwrap();
                assert_eq!(listed.sessions[0].1, found);
                settle(&world, &["s"]).await;
            }
            if is_done {
                assert!(passes >= 3, "{passes}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_was_killed_is_gone_on_with_by_the_next_sweep() {
    for fate in CUTS {
        for passes in 0.. {
            let world = World::new();
            let first = world.sessions();
            let s = scope(&first, "ann", "s");
            first.create(&s, forever()).await.unwrap();
            first.store().log(s.log("memory").unwrap()).append(Event::new("said", "1")).await.unwrap();
            let is_done = cut(&world, passes, fate, async |sessions| {
                let _ = sessions.purge(&s).await;
            })
            .await;
            let is_live = world.sessions().get(&s).await.is_ok();
            settle(&world, &["s"]).await;
            let after = world.sessions();
            if is_live {
                // It had not begun: nothing of it is gone.
                assert_eq!(after.plan_purge(&s).await.unwrap().logs, 2);
            } else {
                assert_eq!(after.find(&s).await.unwrap(), None);
                assert_eq!(after.plan_purge_all(&Of::Tenant).await.unwrap(), Default::default());
            }
            if is_done {
                assert!(passes >= 6, "{passes}");
                break;
            }
        }
    }
}
