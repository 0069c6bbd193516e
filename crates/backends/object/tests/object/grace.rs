//! Closing and sweeping while others write: writers that stall, requests that land late, closes that race with the first commit.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use icecore_conformance::commits::{append, create, ends, hash, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::{Depth, Swept};
use icecore_log::{Backend, ErrorKind, LogId, Run, StoredCommit, Version};

use crate::support::{Call, GRACE, HALF, Handle, MOMENT, Rule, Twist, World, slot};

/// Commits 1 to 5, which `writer` saw; the others are told in the tests.
pub async fn of_five(world: &World) -> (Handle, Handle, LogId) {
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    append_singly(&writer, &log, 1, 5).await;
    (writer, other, log)
}

pub async fn append_singly(handle: &Handle, log: &LogId, first: u64, last: u64) {
    for version in first..=last {
        append(&*handle.store, log, version..=version).await;
    }
}

/// Appends 6 to 10, closes 9 and deletes it, a time of grace later.
pub async fn trims(world: &World, other: &Handle, log: &LogId) {
    append_singly(other, log, 6, 10).await;
    other.store.close(log, Version(9)).await.unwrap();
    world.passes(GRACE);
    assert_eq!(other.store.sweep(log).await.unwrap().commits, 9);
    assert_eq!(world.slots(log), [10]);
}

/// Sends a run in a task, whose create of a slot is held.
pub async fn sends(handle: &Handle, ours: Run) -> tokio::task::JoinHandle<Told> {
    handle.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c"));
    let sending = Arc::clone(&handle.store);
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    handle.bucket.has_held(1).await;
    task
}

/// What everybody must see of a log that was trimmed to commit 10, whatever lies in its folder.
pub async fn is_trimmed_to_ten(world: &World, handles: &[&Handle], log: &LogId) {
    let fresh = world.reader().await;
    for store in handles.iter().map(|handle| &*handle.store).chain([&fresh]) {
        assert_eq!(ends(store, log).await, (10, 9));
        for from in [0, 1, 5, 6, 9] {
            let page = page(store, log, from).await;
            assert_eq!((page.commits.len(), page.boundary), (0, Version(9)), "from {from}");
        }
        assert_eq!(page(store, log, 10).await.commits, [numbered(10, 0)]);
        assert!(store.examine(Depth::Deep).await.unwrap().damage.is_empty());
    }
}

/// It is closed, or nobody can say any more; it was never won, and asking again with the same bytes says that it is closed.
pub async fn was_not_won(handle: &Handle, told: Told, ours: &Run, boundary: u64) {
    let closed = Told::stopped(Ending::Closed(Version(boundary)));
    assert!([closed, Told::failed(ErrorKind::Unknown)].contains(&told), "{told:?}");
    handle.bucket.be_honest();
    assert_eq!(create(&*handle.store, ours.clone()).await, closed);
}

/// How a writer's clocks go while it is stopped.
#[derive(Debug, Clone, Copy)]
pub enum Stopped {
    /// Its wall clock shows it.
    Wall,
    /// Its wall clock was set back meanwhile.
    Boot,
}

pub fn pass(writer: &Handle, stopped: Stopped) {
    match stopped {
        Stopped::Wall => writer.hands.wall.moves(HALF),
        Stopped::Boot => {
            writer.hands.wall.moves_back(GRACE);
            writer.hands.boot.moves(HALF);
        }
    }
}

/// Contract 5. Its create succeeds, since the slot was deleted: it is never acknowledged and never read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stalled_longer_than_half_the_grace_wins_nothing() {
    for stopped in [Stopped::Wall, Stopped::Boot] {
        for is_under_way in [false, true] {
            let world = World::new();
            let (writer, other, log) = of_five(&world).await;
            let ours = one(&log, numbered(6, 1));
            let task = if is_under_way { Some(sends(&writer, ours.clone()).await) } else { None };
            trims(&world, &other, &log).await;
            pass(&writer, stopped);

            let told = match task {
                None => create(&*writer.store, ours.clone()).await,
                Some(task) => {
                    writer.bucket.release();
                    task.await.unwrap()
                }
            };

            let is_stray = world.has_slot(&log, 6);
            assert!(is_stray || !is_under_way, "the bucket has created it");
            is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
            was_not_won(&writer, told, &ours, 9).await;
            is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
            assert_eq!(other.store.sweep(&log).await.unwrap().commits, u64::from(is_stray));
            assert_eq!((world.slots(&log), world.boundaries(&log)), (vec![10], vec![9]));
            writer.bucket.be_honest();
            append(&*writer.store, &log, 11..=11).await;
        }
    }
}

/// Contract 5. The whole run is answered as closed, also where it reaches above the boundary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_run_that_reaches_above_the_boundary_wins_nothing_and_is_not_read() {
    for last in [9, 10, 14] {
        let world = World::new();
        let (writer, other, log) = of_five(&world).await;
        let ours = Run { previous: hash(5, 0), ..run(&log, 6..=last, 1) };
        let task = sends(&writer, ours.clone()).await;
        trims(&world, &other, &log).await;
        pass(&writer, Stopped::Wall);
        writer.bucket.release();

        was_not_won(&writer, task.await.unwrap(), &ours, 9).await;

        assert_eq!(world.slots(&log), [6, 10]);
        is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
        // It is in nobody's way, and goes at the latest with the next part of the log.
        append_singly(&writer, &log, 11, 12).await;
        other.store.sweep(&log).await.unwrap();
        other.store.close(&log, Version(11)).await.unwrap();
        assert_eq!(page(&*other.store, &log, 12).await.commits, [numbered(12, 0)]);
        world.passes(GRACE);
        other.store.sweep(&log).await.unwrap();
        assert_eq!(world.slots(&log), [12]);
        assert_eq!(ends(&*other.store, &log).await, (12, 11));
    }
}

/// Contract 5. Each object of a run stands behind the one before it: what was won stays won, and what is late is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_stalls_between_its_objects_keeps_what_it_won() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    let mut ours = run(&log, 1..=1_500, 0);
    for (commit, version) in ours.commits[1_000..].iter_mut().zip(1_001..) {
        *commit = numbered(version, 1);
    }
    writer.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c").skip(1));
    let sending = Arc::clone(&writer.store);
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    writer.bucket.has_held(1).await;
    append_singly(&other, &log, 1_001, 1_003).await;
    other.store.close(&log, Version(1_002)).await.unwrap();
    world.passes(GRACE);
    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 1_002);
    pass(&writer, Stopped::Wall);

    writer.bucket.release();

    let told = task.await.unwrap();
    assert_eq!(told.won, 1_000);
    assert!(
        matches!(told.end, Ending::Closed(Version(1_002)) | Ending::Failed(ErrorKind::Unknown)),
        "{told:?}"
    );
    assert_eq!(world.slots(&log), [1_001, 1_003]);
    for store in [&*writer.store, &*other.store, &world.reader().await] {
        assert_eq!(ends(store, &log).await, (1_003, 1_002));
        assert_eq!(page(store, &log, 1_001).await.commits, []);
        assert_eq!(page(store, &log, 1_003).await.commits, [numbered(1_003, 0)]);
    }
}

/// Contract 5. The same bytes as those that were there and were deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_writer_brings_back_not_even_what_was_there() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    trims(&world, &other, &log).await;
    pass(&writer, Stopped::Boot);

    let told = create(&*writer.store, run(&log, 6..=6, 0)).await;

    assert_eq!(told, Told::stopped(Ending::Closed(Version(9))));
    is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
}

/// Contract 5. Who cannot look whether it was late knows nothing, and is not told that it won.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_writer_that_cannot_look_is_unknown() {
    for twist in [Twist::LoseRequest, Twist::NotSent, Twist::Refused, Twist::Hold] {
        for is_late in [true, false] {
            let world = World::new();
            let other = world.handle().await;
            let writer = world.handle_with(|settings| settings.timeout = Duration::from_secs(2)).await;
            let log = log("s-1");
            append_singly(&writer, &log, 1, 5).await;
            let ours = one(&log, numbered(6, 1));
            let task = sends(&writer, ours.clone()).await;
            if is_late {
                trims(&world, &other, &log).await;
            }
            pass(&writer, Stopped::Wall);
            writer.bucket.plan(Rule::new(Call::List, twist));
            if twist != Twist::Hold {
                writer.bucket.release();
            }

            assert_eq!(task.await.unwrap(), Told::failed(ErrorKind::Unknown), "{twist:?} {is_late}");

            writer.bucket.be_honest();
            let told = create(&*writer.store, ours).await;
            let expected = if is_late { Told::stopped(Ending::Closed(Version(9))) } else { Told::done(1) };
            assert_eq!(told, expected, "{twist:?}");
        }
    }
}

/// Contract 5. A writer that only slept looks once, and wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stalled_while_nothing_was_closed_wins() {
    for stopped in [Stopped::Wall, Stopped::Boot] {
        for boundary in [0, 3, 4] {
            let world = World::new();
            let (writer, other, log) = of_five(&world).await;
            if boundary > 0 {
                other.store.close(&log, Version(boundary)).await.unwrap();
                world.passes(GRACE);
                assert_eq!(other.store.sweep(&log).await.unwrap().commits, boundary);
            }
            pass(&writer, stopped);
            writer.bucket.take();

            append(&*writer.store, &log, 6..=6).await;

            // One that looks where the log ends, before or after.
            let kinds = writer.bucket.take_kinds();
            let creates = kinds.iter().filter(|kind| **kind == Call::Create).count();
            assert!(creates == 1 && (2..=3).contains(&kinds.len()), "{kinds:?}");
            assert_eq!(ends(&*other.store, &log).await, (6, boundary));
            // What it saw last is its own commit.
            append(&*writer.store, &log, 7..=7).await;
            assert_eq!(writer.bucket.take_kinds(), [Call::Create]);
        }
    }
}

/// Contract 5. Nothing was deleted yet, so that the slot itself decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stalled_less_than_half_the_grace_finds_its_slot_taken() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    append_singly(&other, &log, 6, 10).await;
    other.store.close(&log, Version(9)).await.unwrap();
    writer.hands.wall.moves(HALF - MOMENT);
    writer.hands.boot.moves(HALF - MOMENT);
    world.passes(HALF);
    assert_eq!(other.store.sweep(&log).await.unwrap(), Swept::default());
    writer.bucket.take();

    assert_eq!(create(&*writer.store, one(&log, numbered(6, 1))).await, Told::stopped(Ending::Taken));

    assert_eq!(writer.bucket.take_kinds(), [Call::Create, Call::Get]);
    assert_eq!(world.slots(&log), Vec::from_iter(1..=10));
    is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
}

/// Contracts 2 and 5. Nobody waited for it any more when it landed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lands_after_its_slot_was_swept_is_closed_for_whoever_asks() {
    let world = World::new();
    let other = world.handle().await;
    let writer = world.handle_with(|settings| settings.timeout = Duration::from_millis(300)).await;
    let log = log("s-1");
    append_singly(&writer, &log, 1, 5).await;
    let ours = one(&log, numbered(6, 1));
    let task = sends(&writer, ours.clone()).await;
    assert_eq!(task.await.unwrap(), Told::failed(ErrorKind::Unknown));
    trims(&world, &other, &log).await;
    pass(&writer, Stopped::Wall);

    writer.bucket.release();
    writer.bucket.has_landed(1).await;
    writer.bucket.be_honest();

    assert!(world.has_slot(&log, 6));
    is_trimmed_to_ten(&world, &[&other], &log).await;
    let fresh = world.handle().await;
    for handle in [&writer, &other, &fresh] {
        let told = create(&*handle.store, ours.clone()).await;
        assert_eq!(told, Told::stopped(Ending::Closed(Version(9))));
    }
    is_trimmed_to_ten(&world, &[&writer, &other, &fresh], &log).await;
    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 1);
    assert_eq!(world.slots(&log), [10]);
}

/// Contract 5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_deletes_what_was_closed_a_time_of_grace_ago_and_nothing_else() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    append_singly(&writer, &log, 6, 10).await;
    let bytes =
        |first, last| run(&log, first..=last, 0).commits.iter().map(StoredCommit::len).sum::<usize>() as u64;
    let sweep = || async { other.store.sweep(&log).await.unwrap() };
    let kept = || (world.slots(&log), world.boundaries(&log));
    assert_eq!(sweep().await, Swept::default());

    other.store.close(&log, Version(3)).await.unwrap();
    assert_eq!(sweep().await, Swept::default());
    world.passes(HALF);
    other.store.close(&log, Version(6)).await.unwrap();
    // Closing again does not make it younger, nor older.
    other.store.close(&log, Version(3)).await.unwrap();
    world.passes(HALF - Duration::from_secs(60));
    assert_eq!(sweep().await, Swept::default());
    assert_eq!(kept(), (Vec::from_iter(1..=10), vec![3, 6]));

    world.passes(Duration::from_secs(60));
    assert_eq!(sweep().await, Swept { commits: 3, bytes: bytes(1, 3) });
    assert_eq!(kept(), (Vec::from_iter(4..=10), vec![3, 6]));
    assert_eq!(sweep().await, Swept::default());

    world.passes(HALF);
    assert_eq!(sweep().await, Swept { commits: 3, bytes: bytes(4, 6) });
    assert_eq!(kept(), (Vec::from_iter(7..=10), vec![6]));
    assert_eq!(sweep().await, Swept::default());
    for handle in [&writer, &other] {
        assert_eq!(ends(&*handle.store, &log).await, (10, 6));
        assert_eq!(page(&*handle.store, &log, 7).await.commits, run(&log, 7..=10, 0).commits);
    }
    assert!(other.store.examine(Depth::Deep).await.unwrap().damage.is_empty());
}

/// Contract 5. What is old enough is decided by the clock that dated the boundary, and by no clock of this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweeper_with_a_wrong_clock_deletes_nothing_early() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    append_singly(&writer, &log, 6, 10).await;
    other.hands.wall.moves_back(100 * GRACE);
    other.store.close(&log, Version(9)).await.unwrap();
    other.hands.wall.moves(200 * GRACE);
    other.hands.boot.moves(200 * GRACE);

    assert_eq!(other.store.sweep(&log).await.unwrap(), Swept::default());

    assert_eq!(world.slots(&log), Vec::from_iter(1..=10));
    world.passes(GRACE);
    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 9);
}

/// Contracts 2 and 5. Two requests met, and S3 refused both (409): a boundary is there before the close is told as done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_met_another_request_is_done_once_the_boundary_is_there() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    other.bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("/b").times(3));

    let closed = other.store.close(&log, Version(3)).await;

    if closed.is_ok() {
        assert_eq!(ends(&*writer.store, &log).await, (5, 3), "told as done");
        assert_eq!(world.boundaries(&log), [3]);
    }
    other.bucket.be_honest();
    other.store.close(&log, Version(3)).await.unwrap();
    assert_eq!(ends(&*writer.store, &log).await, (5, 3));
}

/// Contracts 2 and 5. It is tried again, and what is read says that its slot was deleted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_whose_slot_was_swept_meanwhile_is_closed() {
    for is_again in [false, true] {
        let world = World::new();
        let (writer, other, log) = of_five(&world).await;
        let task = sends_again(&writer, &log, if is_again { Call::Create } else { Call::Get }).await;
        trims(&world, &other, &log).await;
        pass(&writer, Stopped::Boot);
        writer.bucket.release();

        let told = task.await.unwrap();

        assert_eq!(world.has_slot(&log, 6), is_again);
        was_not_won(&writer, told, &one(&log, numbered(6, 1)), 9).await;
        is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
    }
}

/// Contracts 2 and 5. The slot is the last that was closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_whose_slot_is_the_boundary_is_not_sent_again() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    let task = sends_again(&writer, &log, Call::Get).await;
    append_singly(&other, &log, 6, 7).await;
    other.store.close(&log, Version(6)).await.unwrap();
    world.passes(GRACE);
    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 6);
    pass(&writer, Stopped::Boot);
    writer.bucket.release();

    was_not_won(&writer, task.await.unwrap(), &one(&log, numbered(6, 1)), 6).await;
    assert_eq!((world.slots(&log), world.boundaries(&log)), (vec![7], vec![6]));
}

/// Sends another commit 6, whose request is lost, and of what follows the first call of a kind is held.
async fn sends_again(writer: &Handle, log: &LogId, call: Call) -> tokio::task::JoinHandle<Told> {
    writer.bucket.plan(Rule::new(Call::Create, Twist::LoseRequest).within("/c").times(1));
    writer.bucket.plan(Rule::new(call, Twist::Hold).within("/c"));
    let (sending, ours) = (Arc::clone(&writer.store), one(log, numbered(6, 1)));
    let task = tokio::spawn(async move { create(&*sending, ours).await });
    writer.bucket.has_held(1).await;
    task
}

/// Contract 5. All of the log was deleted from below, boundaries included: nothing is there to be late for, and nothing is won.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_writer_of_a_log_that_is_gone_wins_nothing() {
    let world = World::new();
    let (writer, _, log) = of_five(&world).await;
    fs::remove_dir_all(world.path(&slot(&log, 5)).parent().unwrap()).unwrap();
    pass(&writer, Stopped::Wall);

    let told = create(&*writer.store, one(&log, numbered(6, 0))).await;

    assert!(told.won == 0 && matches!(told.end, Ending::Gap | Ending::Closed(Version(5))), "{told:?}");
    assert!(world.slots(&log).is_empty());
}

/// Contract 5. There may be more boundaries than a look asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_boundaries_are_one_and_are_swept_to_one() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    append_singly(&writer, &log, 6, 10).await;
    for through in [1, 2, 3, 4, 5, 6, 7, 8, 9] {
        other.store.close(&log, Version(through)).await.unwrap();
    }

    is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
    append(&*world.handle().await.store, &log, 11..=11).await;
    world.passes(GRACE);
    assert_eq!(other.store.sweep(&log).await.unwrap().commits, 9);

    assert_eq!((world.slots(&log), world.boundaries(&log)), (vec![10, 11], vec![9]));
    assert_eq!(ends(&*writer.store, &log).await, (11, 9));
}

/// Contract 5. Wherever it is interrupted: the boundary stands, what is above it is read, and the next sweep goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_sweep_is_continued_by_the_next() {
    for twist in [Twist::Half, Twist::LoseAnswer, Twist::LoseRequest, Twist::NotSent, Twist::Refused] {
        for (call, part) in [
            (Call::Delete, "/c"),
            (Call::Delete, "/b"),
            (Call::Delete, "probe/"),
            (Call::Create, "probe/"),
            (Call::List, "/b"),
        ] {
            if twist == Twist::Half && (call, part) != (Call::Delete, "/c") {
                continue;
            }
            let world = World::new();
            let (writer, other, log) = of_five(&world).await;
            append_singly(&writer, &log, 6, 10).await;
            other.store.close(&log, Version(4)).await.unwrap();
            other.store.close(&log, Version(9)).await.unwrap();
            world.passes(GRACE);
            other.bucket.plan(Rule::new(call, twist).within(part).times(1));

            let swept = other.store.sweep(&log).await;

            let how = format!("{twist:?} {call:?} {part}: {swept:?}");
            match swept {
                // What was lost on the way to the time is asked again.
                Ok(swept) => assert!(part == "probe/" && swept.commits == 9, "{how}"),
                Err(error) => {
                    assert!(!matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{how}");
                }
            }
            assert!(world.boundaries(&log).contains(&9), "{how}");
            assert!(world.has_slot(&log, 10), "{how}");
            if twist == Twist::Half {
                assert_eq!(world.slots(&log), [1, 2, 3, 4, 5, 10], "{how}");
            }
            is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
            writer.store.sweep(&log).await.unwrap();
            assert_eq!((world.slots(&log), world.boundaries(&log)), (vec![10], vec![9]), "{how}");
            is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
        }
    }
}

/// Contract 4. What a reader found in a listing was deleted before it could read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_a_trim_overtakes_is_told_the_boundary() {
    let world = World::new();
    let (writer, other, log) = of_five(&world).await;
    // Of three readers, each holds what it reads of an object: all of them, from the third on, and the head.
    let (all, some, look) = (world.handle().await, world.handle().await, world.handle().await);
    all.bucket.plan(Rule::new(Call::Get, Twist::Hold).within("/c"));
    some.bucket.plan(Rule::new(Call::Get, Twist::Hold).within("/c").skip(2));
    look.bucket.plan(Rule::new(Call::Get, Twist::Hold).within("/c"));
    let reads = |handle: &Handle| {
        let (store, log) = (Arc::clone(&handle.store), log.clone());
        tokio::spawn(async move { page(&*store, &log, 1).await })
    };
    let (all_task, some_task) = (reads(&all), reads(&some));
    let (looking, looked) = (Arc::clone(&look.store), log.clone());
    let look_task = tokio::spawn(async move { ends(&*looking, &looked).await });
    for (handle, count) in [(&all, 5), (&some, 3), (&look, 1)] {
        handle.bucket.has_held(count).await;
    }

    trims(&world, &other, &log).await;
    for handle in [&all, &some, &look] {
        handle.bucket.release();
    }

    let page = all_task.await.unwrap();
    assert_eq!((page.commits.len(), page.boundary), (0, Version(9)));
    assert_eq!(some_task.await.unwrap().commits, run(&log, 1..=2, 0).commits);
    assert_eq!(look_task.await.unwrap(), (10, 9));
    is_trimmed_to_ten(&world, &[&writer, &other, &all, &some, &look], &log).await;
}

/// Contract 5. An object goes as a whole, once all of it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_spans_the_boundary_is_kept_and_read_above_it() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    for versions in [1..=3, 4..=8, 9..=9] {
        append(&*writer.store, &log, versions).await;
    }

    for (through, swept, slots) in
        [(2, 0, vec![1, 4, 9]), (5, 3, vec![4, 9]), (7, 0, vec![4, 9]), (8, 5, vec![9])]
    {
        other.store.close(&log, Version(through)).await.unwrap();
        world.passes(GRACE);
        assert_eq!(other.store.sweep(&log).await.unwrap().commits, swept, "through {through}");
        assert_eq!((world.slots(&log), world.boundaries(&log)), (slots, vec![through]));

        for handle in [&writer, &other, &world.handle().await] {
            assert_eq!(ends(&*handle.store, &log).await, (9, through));
            assert_eq!(page(&*handle.store, &log, through).await.commits, []);
            let above = page(&*handle.store, &log, through + 1).await.commits;
            assert_eq!(above, run(&log, through + 1..=9, 0).commits);
        }
        assert!(other.store.examine(Depth::Deep).await.unwrap().damage.is_empty());
    }
    append(&*writer.store, &log, 10..=10).await;
}

/// Contract 5. The head's own object spans the boundary: it is never deleted, and appending goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_object_of_the_head_is_kept_though_most_of_it_is_closed() {
    let world = World::new();
    let (writer, other, log) = (world.handle().await, world.handle().await, log("s-1"));
    append(&*writer.store, &log, 1..=10).await;
    other.store.close(&log, Version(9)).await.unwrap();
    world.passes(GRACE);

    assert_eq!(other.store.sweep(&log).await.unwrap(), Swept::default());

    is_trimmed_to_ten(&world, &[&writer, &other], &log).await;
    assert_eq!(other.store.close(&log, Version(10)).await.unwrap_err().kind(), ErrorKind::Refused);
    pass(&writer, Stopped::Wall);
    append(&*writer.store, &log, 11..=11).await;
    append(&*world.handle().await.store, &log, 12..=12).await;
}
