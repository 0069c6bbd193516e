//! Contract 1, **once**: at most one commit is ever stored in a slot, whoever races.

use icecore_log::{Backend, Hash, LogId, Mode, PageLimit, Run, StoredCommit, Version};
use tokio::task::JoinSet;

use crate::commits::*;
use crate::fixture::{Fixture, readers, writers};
use crate::told::{Ending, Told};

/// Contract 1.
pub async fn a_slot_is_created_once(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let ours = commit(1, 0, "ours");

    assert_eq!(create(&*backend, one(&log, ours.clone())).await, Told::done(1));
    let theirs = create(&*backend, one(&log, commit(1, 1, "theirs"))).await;

    assert_eq!(theirs, Told::stopped(Ending::Taken));
    for handle in readers(fixture).await {
        assert_eq!(page(&*handle, &log, 1).await.commits, std::slice::from_ref(&ours));
    }
}

/// Contract 1. A caller that does not know whether it won sends the same bytes again.
pub async fn the_same_bytes_are_won_again(fixture: &dyn Fixture) {
    let log = log("s-1");
    let kept = append(&*fixture.backend(), &log, 1..=4).await;

    for handle in writers(fixture, 2).await {
        for versions in [1..=1, 2..=3, 1..=4, 4..=4] {
            let count = usize::try_from(versions.end() - versions.start() + 1).unwrap();
            assert_eq!(create(&*handle, run(&log, versions, 0)).await, Told::done(count));
        }
        assert_eq!(read_all(&*handle, &log, 1, PageLimit::WHOLE).await, kept);
    }
}

/// Contract 1. What is stored stays, even where a caller names the same header and another body.
pub async fn the_same_header_is_won_again_and_the_stored_body_stays(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=1).await;

    let again = create(&*backend, one(&log, commit(1, 0, "another body"))).await;

    assert_eq!(again, Told::done(1));
    assert_eq!(page(&*backend, &log, 1).await.commits, [numbered(1, 0)]);
}

/// Contract 1. Headers that share a beginning, or differ in length only, are others.
pub async fn a_header_is_compared_to_its_last_byte(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let long = StoredCommit { header: noise(4_096, 1), ..commit(1, 0, "ours") };
    assert_eq!(create(&*backend, one(&log, long.clone())).await, Told::done(1));

    let mut last = long.header.to_vec();
    last[4_095] ^= 1;
    let mut case = long.header.to_vec();
    case[0] ^= 0x20;
    for header in [last, case, long.header[..4_095].to_vec(), [&long.header[..], b"\0"].concat()] {
        let other = StoredCommit { header: header.into(), ..long.clone() };
        assert_eq!(create(&*backend, one(&log, other)).await, Told::stopped(Ending::Taken));
    }

    assert_eq!(page(&*backend, &log, 1).await.commits, [long]);
}

/// Contract 1.
pub async fn a_run_stops_at_its_first_taken_slot(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    let kept = append(&*backend, &log, 1..=3).await;

    let mut mixed = run(&log, 1..=5, 0);
    mixed.commits[2] = numbered(3, 1);
    let answer = create(&*backend, mixed).await;

    assert_eq!(answer, Told { won: 2, end: Ending::Taken });
    assert_eq!(read_all(&*backend, &log, 1, PageLimit::WHOLE).await, kept);
}

/// Contract 1. A run whose answer was lost may have been carried out in part.
pub async fn a_run_that_is_there_in_part_is_completed(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");
    append(&*backend, &log, 1..=2).await;

    assert_eq!(create(&*backend, run(&log, 1..=5, 0)).await, Told::done(5));
    assert_eq!(create(&*backend, run(&log, 4..=6, 0)).await, Told::done(3));

    let all: Vec<_> = (1..=6).map(|version| numbered(version, 0)).collect();
    assert_eq!(read_all(&*backend, &log, 1, PageLimit::WHOLE).await, all);
}

/// Contract 1. Copying sends long runs; some systems limit a statement's parameters or a request's parts.
pub async fn a_run_of_a_thousand_commits_is_applied_in_order(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let log = log("s-1");

    let kept = append(&*backend, &log, 1..=1_000).await;

    assert_eq!(ends(&*backend, &log).await, (1_000, 0));
    assert_eq!(read_all(&*backend, &log, 1, PageLimit::WHOLE).await, kept);
}

/// Contract 1. Four tasks want the same slots of many logs, over every handle that writes.
pub async fn racing_tasks_have_one_winner_a_slot(fixture: &dyn Fixture) {
    let logs: Vec<_> = (0..25).map(|number| log(&format!("s-{number}"))).collect();
    let mut tasks = JoinSet::new();

    for (seed, handle) in (1..).zip(writers(fixture, 4).await) {
        let logs = logs.clone();
        tasks.spawn(async move {
            let mut won = Vec::new();
            for log in &logs {
                let answers = decide(&*handle, vec![one(log, numbered(1, seed))], Mode::Each).await;
                assert!(matches!(answers[0].end, Ending::Done | Ending::Taken), "{:?}", answers[0]);
                won.push(answers[0].is_done());
            }
            (seed, won)
        });
    }
    let results = tasks.join_all().await;

    for (index, log) in logs.iter().enumerate() {
        let winners: Vec<_> = results.iter().filter(|(_, won)| won[index]).map(|(seed, _)| *seed).collect();
        assert_eq!(winners.len(), 1, "{log} was won by {winners:?}");
        for handle in readers(fixture).await {
            assert_eq!(page(&*handle, log, 1).await.commits, [numbered(1, winners[0])]);
        }
    }
}

/// Contract 1. Runs of several commits race: who wins the first slot wins them all.
pub async fn racing_runs_have_one_winner(fixture: &dyn Fixture) {
    let log = log("s-1");
    let mut tasks = JoinSet::new();

    for (seed, handle) in (1..).zip(writers(fixture, 4).await) {
        let run = run(&log, 1..=8, seed);
        tasks.spawn(async move { (seed, decide(&*handle, vec![run], Mode::Each).await[0]) });
    }
    let results = tasks.join_all().await;

    let winners: Vec<_> = results.iter().filter(|(_, told)| told.is_done()).map(|(seed, _)| *seed).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    let losers = results.iter().filter(|(_, told)| *told == Told::stopped(Ending::Taken)).count();
    assert_eq!(losers, 3, "{results:?}");
    let kept: Vec<_> = (1..=8).map(|version| numbered(version, winners[0])).collect();
    assert_eq!(read_all(&*fixture.backend(), &log, 1, PageLimit::WHOLE).await, kept);
}

/// Contract 1. The same bytes race with themselves, as a request and its repetition do.
pub async fn racing_copies_of_the_same_bytes_are_all_won(fixture: &dyn Fixture) {
    let log = log("s-1");
    let mut tasks = JoinSet::new();

    for handle in writers(fixture, 4).await {
        let run = run(&log, 1..=8, 0);
        tasks.spawn(async move { decide(&*handle, vec![run], Mode::Each).await[0] });
    }

    assert_eq!(tasks.join_all().await, [Told::done(8); 4]);
    assert_eq!(read_all(&*fixture.backend(), &log, 1, PageLimit::WHOLE).await.len(), 8);
}

/// Contracts 1 and 4. Four tasks append to one log, each behind the head that it saw: one chain, nobody's commit lost.
pub async fn racing_appenders_build_one_chain(fixture: &dyn Fixture) {
    let log = log("s-1");
    let mut tasks = JoinSet::new();

    for (writer, handle) in (1..).zip(writers(fixture, 4).await) {
        let log = log.clone();
        tasks.spawn(async move { append_behind_the_head(&*handle, &log, writer, 10).await });
    }
    let mut won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();

    won.sort_by_key(|(commit, _)| commit.version);
    let kept = read_all(&*fixture.backend(), &log, 1, PageLimit::WHOLE).await;
    assert_eq!(won.iter().map(|(commit, _)| commit.clone()).collect::<Vec<_>>(), kept);
    let mut before = Hash::ZERO;
    for (commit, previous) in &won {
        assert_eq!(*previous, before, "commit {} names the one before it", commit.version);
        before = commit.hash();
    }
}

/// The commits that one writer won, each with the predecessor that it named.
async fn append_behind_the_head(
    backend: &dyn Backend,
    log: &LogId,
    writer: u64,
    count: usize,
) -> Vec<(StoredCommit, Hash)> {
    let mut won = Vec::new();
    let mut attempt = 0;
    while won.len() < count {
        attempt += 1;
        let head = head(backend, log).await;
        let version = head.as_ref().map_or(Version::FIRST, |head| head.version.next());
        let previous = head.map_or(Hash::ZERO, |head| head.hash());
        let commit = numbered(version.0, writer * 1_000_000 + attempt);
        let told =
            decide(backend, vec![Run::one(log.clone(), previous, commit.clone())], Mode::Each).await[0];
        match told.end {
            Ending::Done => won.push((commit, previous)),
            Ending::Taken => {}
            other => panic!("{other:?} at {version}"),
        }
    }
    won
}
