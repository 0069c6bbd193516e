//! A copy of a store has the content too: before the commits that speak of it, and what is new of it at the next time.

use icecore_log::LogPrefix;
use icecore_store::copy::copy;

use super::mortal::Mortal;
use super::*;

async fn check(world: &World, names: &[&str]) {
    let found = world.artifacts(Retention::default()).list(None).await.unwrap();
    let mut there: Vec<_> = found.iter().map(name).collect();
    there.sort();
    assert_eq!(there, names);
    for artifact in &found {
        assert_eq!(text(artifact).await, content(&name(artifact), 4_500_000));
    }
}

#[tokio::test]
async fn a_copy_has_the_content_that_its_commits_speak_of_also_if_it_is_killed() {
    let world = World::new();
    let owned = world.session(Retention::default(), "s-1");
    let first = put(&owned, "a", 4_500_000).await;
    put(&owned, "b", 4_500_000).await;
    for changes in 0..40 {
        let to = World::over(Arc::new(Memory::default()));
        let mortal = Mortal::new(&to.backend, changes, true);
        let dying = to.store_over(Arc::clone(&mortal) as Arc<dyn Backend>);
        let whole = copy(&world.store(), &dying, &LogPrefix::all(), |_| ()).await.is_ok();
        for artifact in to.artifacts(Retention::default()).list(None).await.unwrap() {
            assert_eq!(text(&artifact).await, content(&name(&artifact), 4_500_000), "{changes}");
        }
        copy(&world.store(), &to.store(), &LogPrefix::all(), |_| ()).await.unwrap();
        check(&to, &["a", "b"]).await;
        if whole {
            assert!(changes > 4, "{changes}");
            first.delete().await.unwrap();
            put(&owned, "c", 4_500_000).await;
            copy(&world.store(), &to.store(), &LogPrefix::all(), |_| ()).await.unwrap();
            check(&to, &["b", "c"]).await;
            return;
        }
    }
    panic!("it is never whole");
}
