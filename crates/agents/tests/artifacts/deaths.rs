//! A process that is killed at any step of any call: what was acknowledged is there, and no record is without its content.

use icecore_agents::artifacts::body::PART_BYTES;
use icecore_layers::{Fate, Fault};
use icecore_log::ErrorKind;

use super::mortal::Mortal;
use super::*;

const LIMITS: usize = 2;

fn limits() -> Retention {
    Retention {
        session_artifacts_max: LIMITS as u64,
        ttl: Some(Duration::from_secs(864_000)),
        ..Retention::default()
    }
}

/// One of them has two parts.
fn whole(name: &str) -> Bytes {
    content(name, if name == "b" { PART_BYTES + 1 } else { 10 })
}

/// What a process does until it dies: what was acknowledged to be stored last.
async fn live(world: &World, mortal: &Arc<Mortal>) -> Vec<String> {
    let store = world.store_over(Arc::clone(mortal) as Arc<dyn Backend>);
    let all = Artifacts::new(store, tenant()).with_retention(limits());
    let owned = all.of(&Owner::session("s-1")).unwrap();
    let mut stored = Vec::new();
    for name in ["a", "b", "a", "c", "d"] {
        match owned.put(what(name), whole(name)).await {
            Ok(_) => stored.push(name.to_owned()),
            Err(_) => break,
        }
    }
    if stored.len() == 5
        && let Ok(Some(found)) = owned.get(&record_id("d")).await
    {
        drop(found.delete().await);
    }
    stored
}

fn record_id(name: &str) -> String {
    use sha2::Digest;
    let hash = icecore_log::Hash(sha2::Sha256::digest(whole(name)).into()).to_string();
    format!("art_{}", &hash[..12])
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_no_record_is_without_its_content_and_the_rest_is_swept() {
    let mut survived = false;
    for (changes, is_last_done) in (0..200).flat_map(|changes| [(changes, false), (changes, true)]) {
        let world = World::new();
        let mortal = Mortal::new(&world.backend, changes, is_last_done);
        let stored = live(&world, &mortal).await;

        // Another process finds all of it, or nothing of it.
        let all = world.artifacts(limits());
        let found = all.list(None).await.unwrap();
        assert!(found.len() <= LIMITS, "{changes}");
        for artifact in &found {
            assert_eq!(text(artifact).await, whole(&name(artifact)), "{changes}");
            let by_id = all.find(&artifact.record().id).await.unwrap();
            assert!(by_id.is_some(), "{changes}: {} is not found by its id", name(artifact));
        }
        // What was acknowledged last is there, unless what was stored or deleted then took its place.
        let names: Vec<_> = found.iter().map(name).collect();
        if let Some(last) = stored.last().filter(|last| *last != "d") {
            let next = ["a", "b", "a", "c", "d"][stored.len()];
            assert!(names.contains(last) || names.contains(&next.to_owned()), "{changes}: {names:?}");
        }
        // What it left behind is swept.
        world.pass(Duration::from_secs(86_401));
        let swept = icecore_agents::artifacts::sweep::all(&world.store()).await.unwrap();
        assert!(swept.left_behind <= 6, "{changes}: {swept:?}");
        let parts = found.iter().map(|one| one.record().bytes.div_ceil(PART_BYTES as u64)).sum::<u64>();
        assert_eq!(world.blobs("s-1").await.len() as u64, parts, "{changes}");
        for artifact in all.list(None).await.unwrap() {
            assert_eq!(text(&artifact).await, whole(&name(&artifact)), "{changes}");
        }
        // And it can go on.
        put(&all.of(&Owner::session("s-1")).unwrap(), "z", 10).await;
        survived = !mortal.is_dead();
        if survived {
            assert!(changes > 20, "{changes}");
            break;
        }
    }
    assert!(survived);
}

/// Of the last commit of a put, the record's, nobody is told what became of it: its content stays, whether it is there or not.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_keeps_its_content_and_may_be_stored_again() {
    for (fate, is_there) in [(Fate::LoseAnswer, true), (Fate::LoseRequest, false)] {
        let world = World::new();
        let fault = Arc::new(Fault::new(Arc::clone(&world.backend)));
        let store = world.store_over(Arc::clone(&fault) as Arc<dyn Backend>);
        let owned = Artifacts::new(store, tenant()).of(&Owner::session("s-1")).unwrap();
        put(&owned, "first", 10).await;
        // The entry that leads to it passes.
        fault.plan(std::iter::once(Fate::Pass).chain([fate; 100]));
        let error = owned.put(what("a"), content("a", 10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");

        let names = left(&world, "s-1").await;
        assert_eq!(names.contains(&"a".to_owned()), is_there, "{fate:?}");
        for artifact in world.artifacts(Retention::default()).list(None).await.unwrap() {
            assert_eq!(text(&artifact).await, content(&name(&artifact), 10), "{fate:?}");
        }
        let again = world.session(Retention::default(), "s-1").put(what("again"), content("a", 10)).await;
        assert_eq!(name(&again.unwrap()), if is_there { "a" } else { "again" });
    }
}
