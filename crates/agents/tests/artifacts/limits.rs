//! Limits: what is too large, what expires, what makes room.

use icecore_agents::artifacts::MakesRoom;
use icecore_log::{ErrorKind, Version};
use icecore_store::state::At;

use super::*;

#[tokio::test]
async fn what_is_too_large_is_refused_and_leaves_nothing() {
    let world = World::new();
    let owned = world.session(Retention { artifact_bytes_max: 5_000_000, ..Retention::default() }, "s-1");
    let error = owned.put(what("a"), content("a", 5_000_001)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("5000001") && error.to_string().contains("5000000"), "{error}");
    let mut upload = owned.upload(what("a"));
    upload.write(content("a", 4_999_999)).await.unwrap();
    assert_eq!(upload.write(content("b", 2)).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(world.blobs("s-1").await.is_empty());
    // It is looked at before what is there already.
    let small = world.session(Retention { artifact_bytes_max: 9, ..Retention::default() }, "s-1");
    put(&owned, "c", 10).await;
    assert_eq!(small.put(what("c"), content("c", 10)).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_has_expired_is_absent_at_once_and_stored_anew() {
    let world = World::new();
    let limits = Retention { ttl: Some(Duration::from_secs(10)), ..Retention::default() };
    let owned = world.session(limits.clone(), "s-1");
    let first = put(&owned, "a", 10).await;
    world.pass(Duration::from_secs(9));
    // It gets no younger by that.
    owned.put(what("b"), content("a", 10)).await.unwrap();
    world.pass(Duration::from_secs(1));
    assert!(owned.get(&first.record().id).await.unwrap().is_some());
    world.pass(Duration::from_millis(1));
    let id = &first.record().id;
    assert!(owned.get(id).await.unwrap().is_none());
    let all = world.artifacts(limits);
    assert!(all.find(id).await.unwrap().is_none());
    assert!(all.find_in(b"s-1", id).await.unwrap().is_none());
    assert!(all.list(None).await.unwrap().is_empty());

    let again = owned.put(what("again"), content("a", 10)).await.unwrap();
    assert_eq!(name(&again), "again");
    assert_eq!(text(&all.find(id).await.unwrap().unwrap()).await, content("a", 10));
    // The content before went with what it was of.
    assert_eq!(world.blobs("s-1").await.len(), 1);
    let always = world.session(Retention { ttl: None, ..Retention::default() }, "s-2");
    put(&always, "a", 10).await;
    world.pass(Duration::from_secs(1 << 30));
    assert_eq!(left(&world, "s-2").await, ["a"]);
}

#[tokio::test]
async fn those_used_least_recently_make_room() {
    let world = World::new();
    let limits = Retention { session_artifacts_max: 3, ..Retention::default() };
    let owned = world.session(limits.clone(), "s-1");
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(put(&owned, name, 10).await.record().id.clone());
    }
    owned.get(&ids[0]).await.unwrap().unwrap().used();
    put(&owned, "b", 10).await;
    put(&owned, "d", 10).await;
    assert_eq!(left(&world, "s-1").await, ["a", "b", "d"]);
    put(&owned, "e", 10).await;
    assert_eq!(left(&world, "s-1").await, ["b", "d", "e"]);
    // Another process sees what was used once that is written.
    let all = world.artifacts(limits.clone());
    all.find(&ids[1]).await.unwrap().unwrap().used();
    all.settle().await;
    let other = world.session(limits, "s-1");
    put(&other, "f", 10).await;
    assert_eq!(left(&world, "s-1").await, ["b", "e", "f"]);
    assert_eq!(world.blobs("s-1").await.len(), 3);
}

#[tokio::test]
async fn the_first_that_came_make_room_however_they_are_used() {
    let world = World::new();
    let limits =
        Retention { session_artifacts_max: 3, makes_room: MakesRoom::Oldest, ..Retention::default() };
    let owned = world.session(limits, "s-1");
    let first = put(&owned, "a", 10).await;
    for name in ["b", "c"] {
        put(&owned, name, 10).await;
    }
    first.used();
    put(&owned, "a", 10).await;
    // Nor does it matter what others note who have other limits.
    let others = world.artifacts(Retention::default());
    others.find(&first.record().id).await.unwrap().unwrap().used();
    others.settle().await;
    put(&owned, "d", 10).await;
    assert_eq!(left(&world, "s-1").await, ["b", "c", "d"]);
}

#[tokio::test]
async fn a_trace_has_limits_of_its_own_and_bytes_make_room_too() {
    let world = World::new();
    let limits = Retention {
        session_bytes_max: 100,
        trace_bytes_max: 60,
        trace_artifacts_max: 2,
        ..Retention::default()
    };
    let owned = world.session(limits, "s-1");
    let put_in = async |trace: Option<&str>, name: &str, size: usize| {
        owned.put(what_in(trace, name), content(name, size)).await.unwrap();
    };
    put_in(Some("t-2"), "z", 10).await;
    for name in ["a", "b", "c"] {
        put_in(Some("t-1"), name, 10).await;
    }
    assert_eq!(left(&world, "s-1").await, ["b", "c", "z"]);
    put_in(Some("t-1"), "d", 55).await;
    assert_eq!(left(&world, "s-1").await, ["d", "z"]);
    put_in(None, "e", 30).await;
    assert_eq!(left(&world, "s-1").await, ["d", "e", "z"]);
    put_in(None, "f", 10).await;
    assert_eq!(left(&world, "s-1").await, ["d", "e", "f"]);
    assert_eq!(world.blobs("s-1").await.len(), 3);

    let none = Retention {
        session_artifacts_max: 1,
        session_bytes_max: 1,
        trace_artifacts_max: 1,
        makes_room: MakesRoom::None,
        ..Retention::default()
    };
    let owned = world.session(none, "s-2");
    for name in ["a", "b", "c"] {
        owned.put(what_in(Some("t"), name), content(name, 10)).await.unwrap();
    }
    assert_eq!(left(&world, "s-2").await, ["a", "b", "c"]);
}

/// Many processes store in one session at the same time: no decision is lost, so no limit is ever exceeded, and what is gone made room.
#[tokio::test]
async fn however_many_store_at_once_the_limits_hold_and_only_the_oldest_go() {
    let world = World::new();
    let limits = Retention {
        session_artifacts_max: 7,
        session_bytes_max: 65,
        makes_room: MakesRoom::Oldest,
        ..Retention::default()
    };
    let workers = (0..6).map(|worker| {
        let owned = world.session(limits.clone(), "s-1");
        tokio::spawn(async move {
            for number in 0..15 {
                put(&owned, &format!("{worker}/{number}"), 10).await;
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.await.unwrap();
    }
    // By the log, in the order in which they came.
    let log = world.store().log(world.log("s-1"));
    let (mut came, mut there) = (Vec::new(), Vec::<String>::new());
    let mut version = Version::FIRST;
    while version <= log.state().await.unwrap().version {
        let state = log.state_at(At::Version(version)).await.unwrap();
        let now: Vec<_> = state.documents("a/").map(|(key, _)| key.to_owned()).collect();
        assert!(now.len() <= 6, "{version}: {}", now.len());
        came.extend(now.iter().filter(|key| !there.contains(key)).cloned());
        there = now;
        version = version.next();
    }
    assert_eq!(came.len(), 90, "each was there once");
    let mut last = came[84..].to_vec();
    last.sort();
    assert_eq!(there, last);
    assert_eq!(world.blobs("s-1").await.len(), 6);
}
