//! Contract 4, continued: reads return consecutive versions in order, a page at a time.

use std::sync::Arc;

use icecore_log::{Page, PageLimit, StoredCommit, Version};

use crate::commits::*;
use crate::fixture::Fixture;
use crate::told::Told;

/// Contract 4.
pub async fn reads_are_consecutive_and_paged_by_count(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let kept = append(&*backend, &log, 1..=25).await;

    for commits in [1, 2, 3, 7, 24, 25, 26, usize::MAX] {
        let limit = PageLimit { commits, bytes: usize::MAX, bodies: true };
        for from in [1, 2, 13, 25] {
            let first = usize::try_from(from).unwrap() - 1;
            assert_eq!(read_all(&*backend, &log, from, limit).await, kept[first..], "pages of {commits}");
        }
    }
}

/// Contract 4. A page ends with the commit that reaches the bytes; `read` checks that it does not go on.
pub async fn reads_are_paged_by_bytes(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let kept: Vec<_> = (1..=30)
        .map(|version| commit(version, 0, noise(usize::from(version % 3 == 0) * 900, version)))
        .collect();
    for commit in &kept {
        assert_eq!(create(&*backend, one(&log, commit.clone())).await, Told::done(1));
    }

    for bytes in [1, 100, 1_000, 1_001, 4_000, 1 << 20, usize::MAX] {
        let limit = PageLimit { commits: usize::MAX, bytes, bodies: true };
        assert_eq!(read_all(&*backend, &log, 1, limit).await, kept, "pages of {bytes} bytes");
    }
}

/// Contract 4. Else a commit that is larger than a reader's pages could never be read.
pub async fn the_first_commit_of_a_page_is_returned_whatever_its_size(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let kept = [commit(1, 0, noise(100_000, 1)), commit(2, 0, noise(300_000, 2)), commit(3, 0, "small")];
    for commit in &kept {
        assert_eq!(create(&*backend, one(&log, commit.clone())).await, Told::done(1));
    }

    for bytes in [0, 1, 100_000] {
        let limit = PageLimit { commits: 10, bytes, bodies: true };
        assert_eq!(read_all(&*backend, &log, 1, limit).await, kept);
    }
}

/// Contract 4. Verifying reads headers only; bodies may be a thousand times as long.
pub async fn headers_are_read_without_bodies(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=9).await;

    for commits in [1, 4, 100] {
        let headers = read_all(&*backend, &log, 1, PageLimit::HEADERS.commits(commits)).await;

        let expected: Vec<_> = (1..=9).map(|version| (Version(version), header(version, 0), None)).collect();
        let seen: Vec<_> =
            headers.into_iter().map(|commit| (commit.version, commit.header, commit.body)).collect();
        assert_eq!(seen, expected);
    }
}

/// Contract 4. An empty page with a boundary below `from` says that the log ends here.
pub async fn a_read_past_the_head_is_an_empty_page(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log_of_three = log("s-1");
    append(&*backend, &log_of_three, 1..=3).await;

    for from in [4, 5, 1_000, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        assert_eq!(page(&*backend, &log_of_three, from).await, Page::default(), "from {from}");
        assert_eq!(page(&*backend, &log("absent"), from).await, Page::default(), "from {from}");
    }
    assert_eq!(page(&*backend, &log("absent"), 1).await, Page::default());
}

/// Contract 4. A reader beside a writer sees a beginning of the log, never a hole, and never less than before.
pub async fn a_reader_beside_a_writer_sees_no_hole(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let writing = {
        let (backend, log) = (Arc::clone(&backend), log.clone());
        tokio::spawn(async move {
            for first in (1..200).step_by(5) {
                append(&*backend, &log, first..=first + 4).await;
            }
        })
    };

    let mut seen = 0;
    while !writing.is_finished() {
        let (head, _) = ends(&*backend, &log).await;
        assert!(head >= seen, "the head went back from {seen} to {head}");
        let commits = read_all(&*backend, &log, 1, PageLimit::WHOLE.commits(17)).await;
        assert!(commits.len() as u64 >= head, "a read after a look at {head} saw {}", commits.len());
        seen = commits.len() as u64;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();

    let versions: Vec<_> = (1..=200).map(|version| numbered(version, 0)).collect();
    let commits: Vec<StoredCommit> = read_all(&*backend, &log, 1, PageLimit::WHOLE).await;
    assert_eq!(commits, versions);
}
