//! Contract 4, **fresh and chained**: a read that begins after a win sees the commit; gaps are refused where declared.

use icecore_log::{Hash, LogId, LogPrefix, PageLimit, Run, Version};

use crate::commits::*;
use crate::fixture::{Fixture, readers, writers};
use crate::told::{Ending, Told};

/// Contract 4. Whoever wins, every handle sees it at once.
pub async fn every_handle_sees_what_was_won(fixture: &dyn Fixture) {
    let log = log("s-1");
    let readers = readers(fixture).await;

    for (version, writer) in (1..=10).zip(writers(fixture, 10).await) {
        append(&*writer, &log, version..=version).await;

        for reader in &readers {
            assert_eq!(head(&**reader, &log).await.unwrap().header, header(version, 0));
            assert_eq!(page(&**reader, &log, version).await.commits, [numbered(version, 0)]);
            assert_eq!(list(&**reader, &LogPrefix::all(), 10).await, std::slice::from_ref(&log));
        }
    }
}

/// Contracts 4 and 5. A boundary and a dropped body are seen through every handle too.
pub async fn every_handle_sees_what_was_closed_and_dropped(fixture: &dyn Fixture) {
    let log = log("s-1");
    let readers = readers(fixture).await;
    append(&*fixture.backend(), &log, 1..=5).await;
    for reader in &readers {
        assert_eq!(page(&**reader, &log, 1).await.commits.len(), 5);
    }

    fixture.backend().close(&log, Version(2)).await.unwrap();
    fixture.backend().drop_bodies(&log, &[Version(4)]).await.unwrap();

    for reader in &readers {
        assert_eq!(ends(&**reader, &log).await, (5, 2));
        assert_eq!(page(&**reader, &log, 1).await.commits, []);
        assert_eq!(page(&**reader, &log, 4).await.commits[0].body, None);
    }
}

/// Contract 4.
pub async fn heads_answer_in_the_order_of_the_logs(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (one, two, absent) = (log("b"), log("a"), log("absent"));
    append(&*backend, &one, 1..=1).await;
    append(&*backend, &two, 1..=7).await;
    backend.close(&two, Version(3)).await.unwrap();

    let asked: Vec<LogId> = [&one, &absent, &two, &one, &absent].map(Clone::clone).into();
    let heads = backend.heads(&asked).await.unwrap();

    let seen: Vec<_> = heads
        .iter()
        .map(|head| head.as_ref().map(|head| (head.version.0, head.boundary.0, head.hash())))
        .collect();
    let (first, second) = (Some((1, 0, hash(1, 0))), Some((7, 3, hash(7, 0))));
    assert_eq!(seen, [first, None, second, first, None]);
    assert_eq!(backend.heads(&[]).await.unwrap(), []);
}

/// Contract 4. Some systems limit the parameters of a statement, or the keys of a request.
pub async fn heads_of_two_thousand_logs_are_one_call(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let asked: Vec<_> = (0..2_000).map(|number| log(&format!("s-{number}"))).collect();
    for number in [0, 999, 1_000, 1_999] {
        append(&*backend, &asked[number], 1..=2).await;
    }

    let heads = backend.heads(&asked).await.unwrap();

    let found: Vec<_> = (0..heads.len()).filter(|number| heads[*number].is_some()).collect();
    assert_eq!((heads.len(), found), (2_000, vec![0, 999, 1_000, 1_999]));
}

/// Contract 4. History that a fail-over lost is noticed by who builds on it.
pub async fn a_commit_behind_a_missing_predecessor_is_refused(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    if !backend.capabilities().checks_predecessor {
        return;
    }
    let log = log("s-1");
    let gap = Told::stopped(Ending::Gap);

    assert_eq!(create(&*backend, run(&log, 2..=3, 0)).await, gap);
    assert_eq!(create(&*backend, one(&log, numbered(u64::from(u32::MAX), 0))).await, gap);
    assert_eq!(head(&*backend, &log).await, None);

    append(&*backend, &log, 1..=2).await;
    assert_eq!(create(&*backend, run(&log, 4..=6, 0)).await, gap);
    assert_eq!(ends(&*backend, &log).await, (2, 0));
    assert_eq!(page(&*backend, &log, 3).await.commits, []);
    append(&*backend, &log, 3..=6).await;
}

/// Contract 4.
pub async fn a_commit_behind_another_predecessor_is_refused(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    if !backend.capabilities().checks_predecessor {
        return;
    }
    let log = log("s-1");
    append(&*backend, &log, 1..=3).await;

    for previous in [hash(3, 1), hash(2, 0), Hash::of(b"")] {
        let wrong = Run::one(log.clone(), previous, numbered(4, 0));
        assert_eq!(create(&*backend, wrong).await, Told::stopped(Ending::Gap));
    }

    assert_eq!(ends(&*backend, &log).await, (3, 0));
    append(&*backend, &log, 4..=4).await;
}

/// Contract 4. A slot that is taken is taken, whatever predecessor is named.
pub async fn a_taken_slot_is_taken_behind_any_predecessor(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=3).await;

    let wrong = Run::one(log.clone(), Hash::of(b"another"), numbered(2, 1));

    assert_eq!(create(&*backend, wrong).await, Told::stopped(Ending::Taken));
    assert_eq!(read_all(&*backend, &log, 1, PageLimit::WHOLE).await.len(), 3);
}
