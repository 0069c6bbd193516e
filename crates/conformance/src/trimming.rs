//! Contract 5, **deletion is safe**: what is swept, and what a trimmed log still is.

use icecore_log::{PageLimit, Run, Swept, Version};

use crate::commits::*;
use crate::fixture::{Fixture, readers};
use crate::told::{Ending, Told};

/// Contract 5.
pub async fn a_sweep_deletes_what_is_closed_and_nothing_else(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (log, other) = (log("s-1"), log("s-10"));
    let commits = append(&*backend, &log, 1..=6).await;
    append(&*backend, &other, 1..=6).await;
    assert_eq!(backend.sweep(&log).await.unwrap(), Swept::default());
    backend.close(&log, Version(4)).await.unwrap();

    let swept = backend.sweep(&log).await.unwrap();

    let bytes = commits[..4].iter().map(|commit| commit.len() as u64).sum();
    let all = Swept { commits: 4, bytes };
    // Where a late writer is told by the clock, what is closed stays for a while.
    assert!(swept == all || (!backend.capabilities().native_close && swept == Swept::default()), "{swept:?}");
    assert_eq!(backend.sweep(&log).await.unwrap(), Swept::default());
    for handle in readers(fixture).await {
        assert_eq!(read_all(&*handle, &log, 5, PageLimit::WHOLE).await, commits[4..]);
        assert_eq!(read_all(&*handle, &other, 1, PageLimit::WHOLE).await.len(), 6);
    }
    backend.sweep(&crate::commits::log("none")).await.unwrap();
}

/// Contract 5.
pub async fn a_read_at_or_below_the_boundary_is_an_empty_page_that_says_so(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=6).await;
    backend.close(&log, Version(4)).await.unwrap();

    for handle in readers(fixture).await {
        for from in 0..=4 {
            let page = page(&*handle, &log, from).await;
            assert_eq!((page.commits.len(), page.boundary), (0, Version(4)), "from {from}");
        }
        assert_eq!(page(&*handle, &log, 5).await.commits.len(), 2);
        assert_eq!(page(&*handle, &log, 5).await.boundary, Version(4));
    }
}

/// Contract 5. A trimmed log is copied from its boundary on: it is closed before it has a commit.
pub async fn a_log_can_begin_behind_a_boundary(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    backend.close(&log, Version(4)).await.unwrap();
    assert_eq!(head(&*backend, &log).await, None);

    let early = create(&*backend, one(&log, numbered(3, 0))).await;
    let run = Run { log: log.clone(), previous: hash(4, 0), commits: vec![numbered(5, 0), numbered(6, 0)] };
    let told = create(&*backend, run).await;

    assert_eq!(early, Told::stopped(Ending::Closed(Version(4))));
    assert_eq!(told, Told::done(2));
    assert_eq!(ends(&*backend, &log).await, (6, 4));
    assert_eq!(page(&*backend, &log, 5).await.commits.len(), 2);
}
