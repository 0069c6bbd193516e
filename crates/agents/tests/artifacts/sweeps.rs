//! What has expired or was left behind is deleted, and nothing else.

use icecore_agents::artifacts::sweep;
use icecore_log::ErrorKind;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn for_ten_days() -> Retention {
    Retention { ttl: Some(10 * DAY), ..Retention::default() }
}

#[tokio::test]
async fn a_sweep_deletes_what_has_expired_of_every_tenant() {
    let world = World::new();
    let other = Artifacts::new(world.store(), Tenant::new("a/b").unwrap());
    let stored = put(&other.of(&Owner::session("s-1")).unwrap(), "a", 10).await;
    put(&world.session(Retention::default(), "s-1"), "b", 5_000_000).await;
    let stays = put(&world.session(for_ten_days(), "s-1"), "c", 10).await;
    world.pass(Duration::from_secs(3_601));

    let swept = sweep::all(&world.store()).await.unwrap();
    assert_eq!((swept.sessions, swept.expired, swept.bytes, swept.left_behind), (2, 2, 5_000_010, 0));
    assert_eq!(world.blobs("s-1").await.len(), 1);
    assert_eq!(text(&stays).await, content("c", 10));
    let log = Tenant::new("a/b").unwrap().log(Kind::Artifacts, b"s-1").unwrap();
    assert!(world.backend.list_blobs(&log, CONTENT).await.unwrap().is_empty());
    // Where it was is forgotten a day later.
    let entries = async || {
        let mut count = 0;
        for number in 0..256 {
            let key = format!("{number:02x}");
            let log = Tenant::new("a/b").unwrap().log(Kind::ArtifactIds, key.as_bytes()).unwrap();
            count += world.store().log(log).state().await.unwrap().len();
        }
        count
    };
    assert_eq!(entries().await, 1);
    world.pass(DAY);
    sweep::all(&world.store()).await.unwrap();
    assert_eq!(entries().await, 0);
    assert!(other.find(&stored.record().id).await.unwrap().is_none());
    assert!(world.artifacts(for_ten_days()).find(&stays.record().id).await.unwrap().is_some());
    assert_eq!(sweep::all(&world.store()).await.unwrap().expired, 0);
}

#[tokio::test]
async fn content_without_a_record_is_deleted_a_day_later_and_not_what_is_being_stored() {
    let world = World::new();
    let owned = world.session(for_ten_days(), "s-1");
    let stays = put(&owned, "stays", 10).await;
    let mut left_behind = owned.upload(what("left"));
    left_behind.write(content("left", 9_000_000)).await.unwrap();
    world.pass(DAY / 2);
    let mut young = owned.upload(what("young"));
    young.write(content("young", 9_000_000)).await.unwrap();
    assert_eq!(world.blobs("s-1").await.len(), 1 + 2 + 2);

    assert_eq!(sweep::all(&world.store()).await.unwrap().left_behind, 0);
    world.pass(DAY / 2 + Duration::from_secs(1));
    assert_eq!(sweep::all(&world.store()).await.unwrap().left_behind, 2);

    // Who was so slow is told, and leaves no record without its content.
    let error = left_behind.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let young = young.finish().await.unwrap();
    assert_eq!(text(&young).await, content("young", 9_000_000));
    assert_eq!(text(&stays).await, content("stays", 10));
    assert_eq!(left(&world, "s-1").await, ["stays", "young"]);
    assert_eq!(world.blobs("s-1").await.len(), 1 + 3);
}

#[tokio::test]
async fn what_a_deleted_session_left_is_swept_and_it_has_nothing() {
    let world = World::new();
    let owned = world.session(for_ten_days(), "s-1");
    let stored = put(&owned, "a", 10).await;
    let [mut one, mut other] = [(); 2].map(|()| owned.upload(what("b")));
    for upload in [&mut one, &mut other] {
        upload.write(content("b", 5_000_000)).await.unwrap();
    }
    world.store().delete_log(&world.log("s-1")).await.unwrap();
    assert!(world.blobs("s-1").await.is_empty());
    // These are in the middle of it.
    for upload in [&mut one, &mut other] {
        upload.write(content("c", 5_000_000)).await.unwrap();
    }

    assert!(world.artifacts(for_ten_days()).find(&stored.record().id).await.unwrap().is_none());
    assert!(world.artifacts(for_ten_days()).list(None).await.unwrap().is_empty());
    assert!(!stored.delete().await.unwrap());
    assert_eq!(one.finish().await.unwrap_err().kind(), ErrorKind::NotFound);
    drop(other);
    assert_eq!(sweep::all(&world.store()).await.unwrap().left_behind, 1);
    assert!(world.blobs("s-1").await.is_empty());
}
