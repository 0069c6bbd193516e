//! Objects that were changed, cut, swapped or deleted from below: found, by log and version.

use std::fs;
use std::sync::Arc;

use icecore_conformance::commits::{append, commit, create, ends, hash, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Backend, End, Error, ErrorKind, LogId, Mode, PageLimit, Run, Version};
use icecore_object::BucketStore;

use crate::support::{Handle, World, slot};

/// What is wrong with an object is named by log and version, and nothing but what was written is returned.
async fn is_found(world: &World, store: &BucketStore, log: &LogId, version: u64, how: &str) {
    let whole = run(log, 1..=3, 0).commits;
    // By one who knows the log, and by one who does not.
    let fresh = world.reader().await;
    for reader in [store, &fresh] {
        let before = page(reader, log, 1).await.commits;
        assert_eq!(before, whole[..version as usize - 1], "{how}");
        let error = reader.read(log, Version(version), PageLimit::WHOLE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{how}: {error}");
        let facts = (error.fact("log"), error.fact("version"));
        assert_eq!(facts, (Some(log.as_str()), Some(version.to_string().as_str())), "{how}: {error}");
        // A body is not looked at by one who asks for headers.
        match reader.read(log, Version(version), PageLimit::HEADERS).await {
            Ok(page) => assert_eq!(page.commits[0].header, whole[version as usize - 1].header, "{how}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{how}: {error}"),
        }
        let examination = reader.examine(Depth::Deep).await.unwrap();
        let named = |error: &Error| {
            error.fact("log") == Some(log.as_str())
                && error.fact("version") == Some(version.to_string().as_str())
        };
        assert!(examination.damage.iter().any(named), "{how}: {:?}", examination.damage);
        assert_eq!(examination.damage.len(), 1, "{how}: {:?}", examination.damage);
    }
    // Where it is the head, nobody may build on what cannot be read; and whoever tries is not told that it won.
    match fresh.heads(std::slice::from_ref(log)).await {
        Ok(heads) => assert_eq!(heads[0].as_ref().unwrap().header, whole[2].header, "{how}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{how}: {error}"),
    }
}

/// A log of three commits, each an object of its own.
async fn of_three(world: &World) -> (Arc<BucketStore>, LogId) {
    let Handle { store, .. } = world.handle().await;
    let log = log("s-1");
    for version in 1..=3 {
        append(&*store, &log, version..=version).await;
    }
    (store, log)
}

/// Contract 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_bit_is_found() {
    let world = World::new();
    let (store, log) = of_three(&world).await;
    for version in [2, 3] {
        let path = world.path(&slot(&log, version));
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            is_found(&world, &store, &log, version, &format!("bit {bit} of slot {version}")).await;
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// Contract 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_cut_off_anywhere_or_is_too_long_is_found() {
    let world = World::new();
    let (store, log) = of_three(&world).await;
    for version in [2, 3] {
        let path = world.path(&slot(&log, version));
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).chain([whole.len() + 1, 2 * whole.len()]) {
            let mut cut = whole.clone();
            cut.resize(length, 0);
            fs::write(&path, cut).unwrap();
            is_found(&world, &store, &log, version, &format!("slot {version} of {length} bytes")).await;
        }
        fs::write(&path, whole).unwrap();
    }
}

/// Contract 6. In an object with several commits, the commit whose body is damaged is the one that is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_body_in_a_run_is_named_by_its_own_version() {
    let world = World::new();
    let Handle { store, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=9).await;
    let path = world.path(&slot(&log, 1));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|part| part == b"body 7 of 0").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    for from in [1, 7] {
        let error = store.read(&log, Version(from), PageLimit::WHOLE).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("7")));
    }
    let damage = store.examine(Depth::Deep).await.unwrap().damage;
    assert_eq!((damage.len(), damage[0].fact("version")), (1, Some("7")));
}

/// Contract 6. Another slot's object under this name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_another_slot_is_found() {
    let world = World::new();
    let (store, log) = of_three(&world).await;
    for (version, from) in [(2, 1), (2, 3), (3, 2), (3, 1)] {
        let path = world.path(&slot(&log, version));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, fs::read(world.path(&slot(&log, from))).unwrap()).unwrap();
        is_found(&world, &store, &log, version, &format!("{from} in the place of {version}")).await;
        fs::write(&path, whole).unwrap();
    }

    // Two that changed places: each is named.
    let paths = [2, 3].map(|version| world.path(&slot(&log, version)));
    let objects = paths.each_ref().map(|path| fs::read(path).unwrap());
    fs::write(&paths[0], &objects[1]).unwrap();
    fs::write(&paths[1], &objects[0]).unwrap();
    let fresh = world.reader().await;
    for from in [2, 3] {
        let error = fresh.read(&log, Version(from), PageLimit::WHOLE).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some(&*from.to_string())));
    }
    let damage = store.examine(Depth::Deep).await.unwrap().damage;
    let named: Vec<_> = damage.iter().map(|error| error.fact("version").unwrap()).collect();
    assert_eq!(named, ["3", "2"]);
    assert_eq!(fresh.heads(std::slice::from_ref(&log)).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Contract 6. Somebody copied an object, or a folder, to another log: its bytes are whole, and are not this log's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_another_log_is_found() {
    let world = World::new();
    let (store, log) = of_three(&world).await;
    let other = self::log("s-2");
    for version in 1..=3 {
        let next = Run::one(other.clone(), hash(version - 1, 5), commit(version, 5, "not of this log"));
        assert_eq!(create(&*store, next).await, Told::done(1));
    }
    for version in [2, 3] {
        let path = world.path(&slot(&log, version));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, fs::read(world.path(&slot(&other, version))).unwrap()).unwrap();
        is_found(&world, &store, &log, version, &format!("slot {version} of another log")).await;
        fs::write(&path, whole).unwrap();
    }
}

/// Contract 4. What comes before a hole can be read, and the hole is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_object_is_named_and_what_comes_before_it_is_read() {
    for gone in [1, 2, 5, 9] {
        let world = World::new();
        let Handle { store, .. } = world.handle().await;
        let log = log("s-1");
        for version in 1..=10 {
            append(&*store, &log, version..=version).await;
        }
        fs::remove_file(world.path(&slot(&log, gone))).unwrap();

        let fresh = world.reader().await;
        for reader in [&*store, &fresh] {
            for limit in [PageLimit::WHOLE, PageLimit::WHOLE.commits(1), PageLimit::HEADERS] {
                for from in 1..=10 {
                    let found = reader.read(&log, Version(from), limit).await;
                    if from == gone {
                        let error = found.unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{gone}: {error}");
                        assert_eq!(error.fact("version"), Some(gone.to_string().as_str()), "{error}");
                        assert_eq!(error.fact("log"), Some(log.as_str()), "{error}");
                    } else {
                        let last = if from < gone { gone - 1 } else { 10 };
                        let count = (last + 1 - from).min(limit.commits as u64);
                        let versions: Vec<_> =
                            found.unwrap().commits.iter().map(|commit| commit.version.0).collect();
                        assert_eq!(versions, Vec::from_iter(from..from + count), "{gone}, from {from}");
                    }
                }
            }
            let damage = reader.examine(Depth::Deep).await.unwrap().damage;
            let named: Vec<_> = damage.iter().map(|error| error.fact("version").unwrap()).collect();
            assert_eq!(named, [gone.to_string()]);
            assert_eq!(ends(reader, &log).await, (10, 0));
        }
        // It is not filled by whoever comes: neither by the same bytes nor by others.
        for seed in [0, 1] {
            let runs = vec![one(&log, numbered(gone, seed))];
            let created = fresh_writer(&world).await.create(runs, Mode::Each).await.remove(0);
            assert!(created.won == 0 && !matches!(created.end, End::Done), "{gone} {seed}: {created:?}");
        }
    }
}

async fn fresh_writer(world: &World) -> Arc<BucketStore> {
    world.handle().await.store
}

/// Contract 3. Nothing tells that the newest object was deleted from below: the log is shorter for everybody who looks, and the slot is free.
/// One that knows the head builds on what it knew, and leaves a hole, which is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_head_was_deleted_from_below_is_shorter() {
    let world = World::new();
    let (store, log) = of_three(&world).await;
    fs::remove_file(world.path(&slot(&log, 3))).unwrap();

    for reader in [&*store, &world.reader().await] {
        assert_eq!(ends(reader, &log).await, (2, 0));
        assert_eq!(page(reader, &log, 1).await.commits, run(&log, 1..=2, 0).commits);
        assert!(reader.examine(Depth::Deep).await.unwrap().damage.is_empty());
    }
    assert_eq!(create(&*store, one(&log, numbered(4, 0))).await, Told::stopped(Ending::Gap));
    assert_eq!(create(&*store, one(&log, numbered(3, 1))).await, Told::done(1));

    // One that has not looked since.
    fs::remove_file(world.path(&slot(&log, 3))).unwrap();
    let behind = Run::one(log.clone(), hash(3, 1), numbered(4, 1));
    assert_eq!(create(&*store, behind).await, Told::done(1));
    let damage = world.reader().await.examine(Depth::Deep).await.unwrap().damage;
    assert_eq!((damage.len(), damage[0].fact("version")), (1, Some("3")));
    assert_eq!(page(&*store, &log, 1).await.commits, run(&log, 1..=2, 0).commits);
    let error = store.read(&log, Version(3), PageLimit::WHOLE).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("3")));
}
