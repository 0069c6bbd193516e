//! Contract 6, **bytes in, bytes out**: a header never changes; a body is whole or gone.

use bytes::Bytes;
use icecore_log::{Run, StoredCommit, Version};

use crate::commits::*;
use crate::fixture::{Fixture, readers};
use crate::told::Told;

/// Contract 6. At and past the sizes at which databases cut: 64 KiB, 1 MiB, 16 MiB.
pub async fn bodies_of_every_size_are_kept_to_the_byte(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let mut every_byte: Vec<u8> = (0..=255).collect();
    every_byte.extend(b"\0\0\r\n\\'\";--\xED\xA0\x80");
    let sizes = [0, 1, 65_535, 65_536, (1 << 20) + 1, (16 << 20) + 1];
    let mut bodies: Vec<Bytes> = sizes.iter().map(|size| noise(*size, 7)).collect();
    bodies.push(every_byte.into());

    for (body, version) in bodies.iter().zip(1..) {
        assert_eq!(create(&*backend, one(&log, commit(version, 0, body.clone()))).await, Told::done(1));
    }

    for handle in readers(fixture).await {
        for (body, version) in bodies.iter().zip(1..) {
            let page = page(&*handle, &log, version).await;
            assert!(page.commits[0].body.as_ref() == Some(body), "a body of {} bytes changed", body.len());
        }
    }
}

/// Contract 6. A large commit is refused before anything is written, or kept whole.
pub async fn a_commit_past_the_declared_limit_is_refused_and_nothing_is_written(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let limit = backend.capabilities().commit_bytes_max;
    let large = StoredCommit { version: Version(1), header: header(1, 0), body: Some(vec![1; limit].into()) };

    let told = create(&*backend, one(&log, large)).await;

    assert_eq!(told, Told::failed(icecore_log::ErrorKind::Invalid));
    assert_eq!(head(&*backend, &log).await, None);
}

/// Contract 6. What is dropped goes alone: its header, its neighbours and the chain stay.
pub async fn a_dropped_body_leaves_its_header_and_its_neighbours(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let commits = append(&*backend, &log, 1..=5).await;

    for _ in 0..2 {
        backend.drop_bodies(&log, &[Version(2), Version(4), Version(9), Version(0)]).await.unwrap();
    }

    for handle in readers(fixture).await {
        let expected: Vec<_> = commits
            .iter()
            .map(|commit| StoredCommit {
                body: commit.body.clone().filter(|_| commit.version.0 % 2 == 1),
                ..commit.clone()
            })
            .collect();
        assert_eq!(page(&*handle, &log, 1).await.commits, expected);
    }
    append(&*backend, &log, 6..=6).await;
    backend.drop_bodies(&crate::commits::log("none"), &[Version(1)]).await.unwrap();
}

/// Contract 6. A copy of a log whose bodies were dropped has none either; none is not empty.
pub async fn a_commit_is_created_without_a_body(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let commits =
        vec![StoredCommit { body: None, ..numbered(1, 0) }, commit(2, 0, Bytes::new()), numbered(3, 0)];

    let run = Run { log: log.clone(), previous: hash(0, 0), commits: commits.clone() };
    assert_eq!(create(&*backend, run).await, Told::done(3));

    for handle in readers(fixture).await {
        assert_eq!(page(&*handle, &log, 1).await.commits, commits);
    }
}
