//! What is stored comes back, to its owner, and damage does not.

use icecore_log::ErrorKind;

use super::*;

#[tokio::test]
async fn what_is_stored_comes_back_in_any_process() {
    let world = World::new();
    let large = Bytes::from((0..9_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    for content in [Bytes::new(), Bytes::from_static(b"\0\xff"), large] {
        let what = What { namespace: Some(b"tool.a".to_vec()), ..what("ä") };
        let stored = world.session(Retention::default(), "s-1").put(what, content.clone()).await.unwrap();

        let found =
            world.session(Retention::default(), "s-1").get(&stored.record().id).await.unwrap().unwrap();
        assert_eq!(text(&found).await, content);
        assert_eq!((found.record().bytes, name(&found)), (content.len() as u64, "ä".to_owned()));
        assert!(found.record().id.starts_with("tool_a_"), "{}", found.record().id);
        let by_id = world.artifacts(Retention::default()).find(&stored.record().id).await.unwrap().unwrap();
        assert_eq!(text(&by_id).await, content);
    }
    assert_eq!(world.artifacts(Retention::default()).list(None).await.unwrap().len(), 3);
    assert!(world.artifacts(Retention::default()).find("art_000000000000").await.unwrap().is_none());
    assert!(world.artifacts(Retention::default()).find("a/b").await.unwrap().is_none());
}

#[tokio::test]
async fn pieces_of_any_size_are_the_same_as_the_whole() {
    let world = World::new();
    let whole = Bytes::from((0..10_000_000_u32).map(|n| (n / 7 % 253) as u8).collect::<Vec<_>>());
    let stored = world.session(Retention::default(), "whole").put(what("w"), whole.clone()).await.unwrap();
    for size in [1 << 10, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 10_000_000] {
        let session = format!("s-{size}");
        let mut upload = world.session(Retention::default(), &session).upload(what("w"));
        for piece in whole.chunks(size) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let pieces = upload.finish().await.unwrap();
        assert_eq!(pieces.record().sha256, stored.record().sha256);
        assert_eq!(text(&pieces).await, whole);
        assert_eq!(world.blobs(&session).await.len(), 3);
    }
}

#[tokio::test]
async fn equal_content_is_there_once_and_the_first_reference_stays() {
    let world = World::new();
    let owned = world.session(Retention::default(), "s-1");
    let first = put(&owned, "a", 10).await;
    world.pass(Duration::from_secs(5));
    for again in [&owned, &world.session(Retention::default(), "s-1")] {
        let second = again.put(what("another name"), content("a", 10)).await.unwrap();
        assert_eq!(
            (name(&second), second.record().created_at_ms),
            ("a".to_owned(), first.record().created_at_ms)
        );
    }
    // In pieces it is only known at the end.
    let mut upload = owned.upload(what("another name"));
    upload.write(content("a", 10)).await.unwrap();
    assert_eq!(name(&upload.finish().await.unwrap()), "a");
    assert_eq!(world.blobs("s-1").await.len(), 1);
    assert_eq!(left(&world, "s-1").await, ["a"]);
}

#[tokio::test]
async fn no_owner_touches_what_is_another_s() {
    let world = World::new();
    let all = world.artifacts(Retention { session_artifacts_max: 2, ..Retention::default() });
    let of = |tenant: Option<&str>, user: Option<&str>, session: &str| {
        let bytes = |text: &str| text.as_bytes().to_vec();
        all.of(&Owner { tenant: tenant.map(bytes), user: user.map(bytes), session: bytes(session) }).unwrap()
    };
    let owners = [
        of(None, None, "s"),
        of(None, Some("u"), "s"),
        of(Some("u"), None, "s"),
        of(Some("a"), Some("u"), "s"),
        of(None, None, "s/"),
        of(None, None, "S"),
        of(None, None, ""),
    ];
    let mut ids = Vec::new();
    for (number, owner) in owners.iter().enumerate() {
        ids.push(
            owner.put(what(&number.to_string()), content("same", 10)).await.unwrap().record().id.clone(),
        );
    }
    for (number, owner) in owners.iter().enumerate() {
        let own = owner.get(&ids[number]).await.unwrap().unwrap();
        assert_eq!(name(&own), number.to_string());
        assert_eq!(text(&own).await, content("same", 10));
    }
    // The last that stored it is found; when it is gone, the one before.
    assert_eq!(name(&all.find(&ids[0]).await.unwrap().unwrap()), "6");
    assert!(owners[6].get(&ids[0]).await.unwrap().unwrap().delete().await.unwrap());
    assert_eq!(name(&all.find(&ids[0]).await.unwrap().unwrap()), "5");
    owners[2].put(what("again"), content("same", 10)).await.unwrap();
    assert_eq!(name(&all.find(&ids[0]).await.unwrap().unwrap()), "2");
    // What makes room in one makes none in another.
    for other in ["x", "y"] {
        put(&owners[1], other, 10).await;
    }
    assert!(owners[1].get(&ids[0]).await.unwrap().is_none());
    for owner in [0, 2, 3, 4, 5] {
        assert!(owners[owner].get(&ids[0]).await.unwrap().is_some(), "{owner}");
    }
    assert_eq!(name(&all.find_in(b"s", &ids[0]).await.unwrap().unwrap()), "0");
    assert!(all.find_in(b"nobody", &ids[0]).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_deleted_is_gone_with_its_content() {
    let world = World::new();
    let owned = world.session(Retention::default(), "s-1");
    let stored = put(&owned, "a", 5_000_000).await;
    let other = put(&world.session(Retention::default(), "s-2"), "a", 5_000_000).await;
    assert!(stored.delete().await.unwrap());
    assert!(!stored.delete().await.unwrap());
    assert!(owned.get(&stored.record().id).await.unwrap().is_none());
    // Who had it in hands is told that it is gone.
    assert!(stored.content().await.unwrap().is_none());
    assert!(world.blobs("s-1").await.is_empty());
    assert_eq!(text(&other).await.len(), 5_000_000);
    // What was stored anew is not what was deleted.
    put(&owned, "a", 5_000_000).await;
    assert!(!stored.delete().await.unwrap());
    assert_eq!(world.artifacts(Retention::default()).clear(None).await.unwrap(), 2);
    assert!(world.artifacts(Retention::default()).list(None).await.unwrap().is_empty());
    assert!(world.blobs("s-1").await.is_empty() && world.blobs("s-2").await.is_empty());
}

#[tokio::test]
async fn what_is_damaged_is_never_given() {
    let world = World::new();
    let stored = put(&world.session(Retention::default(), "s-1"), "a", 9_000_000).await;
    let blobs = world.blobs("s-1").await;
    assert_eq!(blobs.len(), 3);
    for blob in &blobs {
        let good = world.backend.get_blob(blob, None).await.unwrap().unwrap();
        let mut bad = good.to_vec();
        bad[good.len() / 2] ^= 1;
        for damaged in [Some(bad), Some(good[..good.len() - 1].to_vec()), Some(Vec::new()), None] {
            world.backend.delete_blob(blob).await.unwrap();
            if let Some(damaged) = damaged {
                world.backend.put_blob(blob, damaged.into()).await.unwrap();
            }
            let found =
                world.artifacts(Retention::default()).find(&stored.record().id).await.unwrap().unwrap();
            let error = found.content().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            world.backend.delete_blob(blob).await.unwrap();
            world.backend.put_blob(blob, good.clone()).await.unwrap();
        }
    }
    assert_eq!(text(&stored).await, content("a", 9_000_000));
}

#[tokio::test]
async fn other_content_under_the_same_id_is_a_conflict() {
    let world = World::new();
    let owned = world.session(Retention::default(), "s-1");
    let stored = put(&owned, "a", 10).await;
    // Two contents whose hashes begin alike are not found by trying: the record is made to say so.
    let log = world.store().log(world.log("s-1"));
    let state = log.state().await.unwrap();
    let (key, document) = state.documents("a/").next().unwrap();
    let other = String::from_utf8(document.json.to_vec()).unwrap();
    let other = other.replace(&stored.record().sha256, &"0".repeat(64));
    log.put(key, Json::text(other).unwrap()).await.unwrap();

    let error = owned.put(what("b"), content("a", 10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.blobs("s-1").await.len(), 1);
}
