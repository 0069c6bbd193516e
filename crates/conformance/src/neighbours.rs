//! Contract 7, **neighbours stand alone**, or all together where that is declared.

use icecore_log::{ErrorKind, Mode, Version};

use crate::commits::*;
use crate::fixture::Fixture;
use crate::told::{Ending, Told};

/// Contract 7.
pub async fn one_logs_outcome_says_nothing_of_its_neighbours(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let [taken, closed, new, half] = ["taken", "closed", "new", "half"].map(log);
    append(&*backend, &taken, 1..=1).await;
    append(&*backend, &closed, 1..=4).await;
    backend.close(&closed, Version(3)).await.unwrap();
    append(&*backend, &half, 1..=3).await;

    let told = create_each(
        &*backend,
        vec![
            one(&taken, numbered(1, 1)),
            run(&new, 1..=3, 0),
            one(&closed, numbered(2, 1)),
            // Two commits that are there, and one that is not.
            run(&half, 2..=4, 0),
        ],
    )
    .await;

    assert_eq!(told[0], Told::stopped(Ending::Taken));
    assert_eq!(told[1], Told::done(3));
    assert!(!told[2].is_done());
    assert_eq!(told[3], Told::done(3));
    assert_eq!((ends(&*backend, &taken).await, ends(&*backend, &half).await), ((1, 0), (4, 0)));
}

/// Contract 7. An invalid run is named, and the others are carried out.
pub async fn an_invalid_run_fails_alone(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (bad, good) = (log("bad"), log("good"));
    let mut gap = run(&bad, 1..=3, 0);
    gap.commits.remove(1);

    let told = create_each(&*backend, vec![gap, run(&good, 1..=2, 0)]).await;

    assert_eq!(told, [Told::failed(ErrorKind::Invalid), Told::done(2)]);
    assert_eq!(head(&*backend, &bad).await, None);
}

/// Contract 7. All runs are won, or none is; where it is not declared, it is refused.
pub async fn all_or_none_is_what_it_says(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let (one_log, other) = (log("one"), log("other"));
    append(&*backend, &other, 1..=1).await;
    let both = |seed: u64| vec![run(&one_log, 1..=2, seed), one(&other, numbered(1, seed))];

    let failed = create_in(&*backend, both(1), Mode::AllOrNone).await;

    if !backend.capabilities().atomic_create {
        assert_eq!(failed, [Told::failed(ErrorKind::Refused); 2]);
        return;
    }
    assert_eq!(failed, [Told::stopped(Ending::Taken); 2]);
    assert_eq!(head(&*backend, &one_log).await, None, "a part of a call that failed was kept");
    assert_eq!(create_in(&*backend, both(0), Mode::AllOrNone).await, [Told::done(2), Told::done(1)]);
    assert_eq!(create_in(&*backend, both(0), Mode::AllOrNone).await, [Told::done(2), Told::done(1)]);
    assert_eq!((ends(&*backend, &one_log).await, ends(&*backend, &other).await), ((2, 0), (1, 0)));
}
