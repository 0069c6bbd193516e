//! Snapshots are a cache: there are few, they cost little, and whatever becomes of them a state is what its commits make.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use documents::*;
use icecore_embedded::Memory;
use icecore_embedded::file::{self, FileStore};
use icecore_log::{Access, Backend, Version};
use icecore_store::state::{At, Changes};
use observed::Observed;

#[tokio::test]
async fn there_are_few_snapshots_and_a_new_process_reads_few_commits() {
    let (observed, backend) = Observed::memory();
    let log = open(&backend, by_count(4));
    let mut appended = 0;
    for number in 0..800_u64 {
        // Each a document of its own, so that nothing merges to nothing.
        log.put(&format!("k{number:05}"), noise(number, 200)).await.unwrap();
        appended += 200;
        land().await;
        let snapshots = parts(&backend).await;
        let most = 2 + (number / 4 + 1).ilog2() as usize;
        assert!(snapshots.len() <= most, "behind {number}: {snapshots:?}");
        let mut next = 0;
        for snapshot in &snapshots {
            assert_eq!((snapshot.from, snapshot.is_last), (next, true), "they follow each other");
            next = snapshot.to;
        }
        assert!(next + 8 > number, "behind {number}: {snapshots:?}");
    }

    // What knows of the log's secret is read, and what is behind the last snapshot.
    assert!(read_afresh(&observed, "at the end").await <= 9);
    // Each document is written about as often as there are levels.
    let written = observed.written_bytes.load(Ordering::SeqCst);
    assert!(written < appended * 10, "{written} bytes were written of {appended}");
}

/// It found somebody at work, and if nothing came behind it nobody looked again.
#[tokio::test]
async fn a_snapshot_that_comes_due_while_one_is_written_is_written_behind_it() {
    let (observed, backend) = Observed::memory();
    let log = open(&backend, by_count(4));
    let held = observed.writing.write().await;
    for number in 0..10_u64 {
        log.put(&format!("k{number}"), noise(number, 200)).await.unwrap();
        land().await;
    }
    assert!(parts(&backend).await.is_empty());

    drop(held);
    land().await;

    assert_eq!(parts(&backend).await.last().map(|last| last.to), Some(10));
}

#[tokio::test]
async fn snapshots_by_bytes_cost_no_more_than_the_log_and_serve_reads_of_the_past() {
    let (_, backend) = Observed::memory();
    let log = open(&backend, |settings| {
        (settings.snapshot_commits, settings.snapshot_bytes) = (NEVER, 6_000);
    });
    for number in 0..600 {
        work(&log, number).await;
        land().await;
    }
    let plain = folded_from_commits(&backend).await;
    let log_bytes: usize = commits(&backend).await.iter().map(|commit| commit.len()).sum();
    let snapshots = parts(&backend).await;

    let kept: u64 = snapshots.iter().filter(|part| part.is_kept).map(|part| part.bytes).sum();
    assert!(snapshots.iter().filter(|part| part.is_kept).count() >= 5, "{snapshots:?}");
    assert!(snapshots.iter().all(|part| part.is_kept && part.from == 0), "{snapshots:?}");
    assert!(kept < 2 * log_bytes as u64, "{kept} bytes of snapshots for a log of {log_bytes}");
    let (counted, backend) = Observed::new(backend);
    let reader = open(&backend, by_count(NEVER));
    for version in (0..60).map(|n: u64| 1 + n * n * 31 % 600).chain([0, 1, 600]) {
        let before = counted.commit_bytes.load(Ordering::SeqCst);
        let at = At::Version(Version(version));
        let (found, expected) = (reader.state_at(at).await.unwrap(), plain.state_at(at).await.unwrap());
        assert_same(&found, &expected, &format!("at {version}"));
        let read = counted.commit_bytes.load(Ordering::SeqCst) - before;
        assert!(read < 60_000, "{read} bytes of {log_bytes} were read at {version}");
    }
    for (from, to) in [(17, 380), (380, 17), (0, 600)] {
        let (from, to) = (At::Version(Version(from)), At::Version(Version(to)));
        assert_eq!(reader.diff(from, to).await.unwrap(), plain.diff(from, to).await.unwrap());
    }
}

/// A log with a snapshot of several blocks, a smaller one on it, a smaller one on that, and two commits behind.
async fn three_layers() -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = open(&backend, by_count(1));
    let of = |name: &str, count: u64, letters| {
        let put = |changes: Changes, n| changes.put(format!("{name}{n:02}"), noise(n, letters));
        (0..count).fold(Changes::new(), put).put("shared", noise(count, 700))
    };
    for changes in
        [of("a", 30, 6_000), of("c", 4, 8_000).patch("a07", json("{}")), of("b", 2, 2_000).delete("a09")]
    {
        log.commit(changes).await.unwrap();
        land().await;
    }
    assert_eq!(spans(&backend).await, [(0, 1), (1, 2), (2, 3)]);
    let log = open(&backend, by_count(NEVER));
    log.put("a03", noise(3, 100)).await.unwrap();
    log.commit(Changes::new().put("a09", noise(9, 100)).patch("shared", json(r#"{"n":1}"#))).await.unwrap();
    backend
}

/// A log of the same name and the same snapshots, but nothing else in common.
async fn another_log() -> Arc<dyn Backend> {
    let other: Arc<dyn Backend> = Arc::new(Memory::default());
    let log = open(&other, by_count(1));
    for letters in [200_000, 30_000, 4_000] {
        let lies =
            Changes::new().put("a03", noise(1, letters)).put("shared", noise(2, 10)).put("lie", noise(3, 9));
        log.commit(lies).await.unwrap();
        land().await;
    }
    assert_eq!(spans(&other).await, [(0, 1), (1, 2), (2, 3)]);
    other
}

#[tokio::test]
async fn a_damaged_snapshot_is_never_believed_and_is_gone_in_the_end() {
    let (original, other) = (three_layers().await, another_log().await);
    type Damage = fn(&mut Vec<u8>, &[u8]);
    let damages: [(&str, Damage); 11] = [
        ("a bit of the first block", |bytes, _| bytes[10] ^= 1),
        ("a bit of a block in the middle", |bytes, _| *middle(bytes) ^= 0x80),
        ("a bit of the index", |bytes, _| *from_end(bytes, 20 + 100) ^= 1),
        ("a bit of what the index says of it all", |bytes, _| *from_end(bytes, 21) ^= 1),
        ("the index's length", |bytes, _| *from_end(bytes, 20) ^= 0x40),
        ("the index's hash", |bytes, _| *from_end(bytes, 10) ^= 1),
        ("the last byte", |bytes, _| *from_end(bytes, 1) ^= 1),
        ("the last byte cut off", |bytes, _| bytes.truncate(bytes.len() - 1)),
        ("nothing left", |bytes, _| bytes.clear()),
        ("garbage", |bytes, _| bytes.fill(0xA5)),
        ("what another log has there", |bytes, other| *bytes = other.to_vec()),
    ];
    for (what, damage) in damages {
        for layer in 0..3 {
            let when = format!("{what}, layer {layer}");
            let (observed, backend) = Observed::new(copy_of(&original).await);
            let damaged = parts(&backend).await.remove(layer);
            let mut bytes = backend.get_blob(&damaged.blob(), None).await.unwrap().unwrap().to_vec();
            let lie = parts(&other).await.remove(layer).blob();
            damage(&mut bytes, &other.get_blob(&lie, None).await.unwrap().unwrap());
            replace(&backend, &damaged.blob(), bytes).await;
            read_afresh(&observed, &when).await;

            let log = open(&backend, by_count(1));
            for number in 0..12 {
                log.put(&format!("d{number}"), noise(number, 20_000)).await.unwrap();
                land().await;
            }

            let read = read_afresh(&observed, &when).await;
            let left = parts(&backend).await;
            assert!(left.iter().all(|part| part.name != damaged.name), "{when}: {left:?}");
            assert!(read <= 4, "{when}: {read} commits were read");
        }
    }
}

fn middle(bytes: &mut [u8]) -> &mut u8 {
    let at = bytes.len() / 2;
    &mut bytes[at]
}

fn from_end(bytes: &mut [u8], back: usize) -> &mut u8 {
    let at = bytes.len() - back;
    &mut bytes[at]
}

/// A fail-over lost the end of the log, and snapshots of what was lost stayed.
#[tokio::test]
async fn snapshots_of_a_history_that_was_lost_are_not_read_and_are_gone_in_the_end() {
    let original = three_layers().await;
    for lost_at in 0..3 {
        let when = format!("lost behind {lost_at}");
        // All snapshots are there, but of the commits that they speak of only some.
        let backend = copy_of(&original).await;
        let ours = with_commits(commits(&backend).await.into_iter().take(lost_at)).await;
        let wrong: Vec<_> =
            parts(&backend).await.into_iter().filter(|part| part.to > lost_at as u64).collect();
        for part in parts(&backend).await {
            let bytes = backend.get_blob(&part.blob(), None).await.unwrap().unwrap();
            ours.put_blob(&part.blob(), bytes).await.unwrap();
        }
        let (observed, backend) = Observed::new(ours);
        let log = open(&backend, by_count(2));
        for number in 0..8 {
            log.put(&format!("a{number:02}"), noise(number + 99, 9_000)).await.unwrap();
            read_afresh(&observed, &when).await;
            land().await;
            read_afresh(&observed, &when).await;
        }
        for number in 0..24 {
            log.put(&format!("e{number:02}"), noise(number, 9_000)).await.unwrap();
            land().await;
        }
        assert!(read_afresh(&observed, &when).await <= 5, "{when}");
        // Of a log that begins anew they are of another incarnation: nobody asks for them.
        let left: BTreeSet<_> = parts(&backend).await.into_iter().map(|part| part.name).collect();
        assert!(lost_at == 0 || wrong.iter().all(|part| !left.contains(&part.name)), "{when}");
    }
}

#[tokio::test]
async fn snapshots_that_are_deleted_while_they_are_read_are_not_missed() {
    let original = three_layers().await;
    let expected = folded_from_commits(&original).await.state().await.unwrap();
    let mut rounds = [0; 3];
    for (way, rounds) in rounds.iter_mut().enumerate() {
        for blobs in 0.. {
            let (observed, backend) = Observed::new(copy_of(&original).await);
            observed.lose_snapshots_after(blobs);
            let log = open(&backend, by_count(NEVER));
            let when = format!("way {way}, behind {blobs} blobs");
            match way {
                0 => assert_same(&log.state().await.unwrap(), &expected, &when),
                1 => assert_pages_same(&log, &expected, &when).await,
                _ => {
                    for key in ["a01", "a03", "a07", "a09", "b01", "c01", "shared", "none"] {
                        assert_eq!(log.document(key).await.unwrap().as_ref(), expected.get(key), "{when}");
                    }
                }
            }
            if observed.is_lossy() {
                break;
            }
            *rounds = blobs + 1;
        }
    }
    assert!(rounds.iter().all(|rounds| *rounds > 3), "{rounds:?} times they were lost");

    // From one look to the next, in a process that has them open; then they are written again.
    let (observed, backend) = Observed::new(copy_of(&original).await);
    let log = open(&backend, by_count(3));
    assert_pages_same(&log, &expected, "before").await;
    lose_all(&backend).await;
    assert_pages_same(&log, &expected, "behind").await;
    assert_eq!(log.document("a11").await.unwrap().as_ref(), expected.get("a11"));
    log.put("a11", noise(1, 10)).await.unwrap();
    land().await;
    assert_pages_same(&open(&backend, by_count(3)), &log.state().await.unwrap(), "written again").await;
    land().await;
    assert!(read_afresh(&observed, "written again").await <= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_write_snapshots_of_one_log_at_once_do_no_harm() {
    let (observed, backend) = Observed::memory();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..3_u64 {
        let backend = Arc::clone(&backend);
        tasks.spawn(async move {
            let log = open(&backend, |settings| {
                by_count(2 + writer)(settings);
                settings.snapshot_bytes = 3_000 + 4_000 * writer;
            });
            for number in 0..60 {
                work(&log, number * 3 + writer).await;
                if number % 7 == writer {
                    let page = log.documents("k", None, 5).await.unwrap();
                    let was = log.state_at(At::Version(page.version)).await.unwrap();
                    assert!(
                        was.documents("k")
                            .zip(&page.documents)
                            .all(|(was, (key, document))| was == (&**key, document))
                    );
                }
            }
            log.store().shut_down().await.unwrap();
        });
    }
    tasks.join_all().await;

    assert!(read_afresh(&observed, "at the end").await <= 12);
    let plain = folded_from_commits(&backend).await;
    let reader = open(&backend, by_count(NEVER));
    for version in (1..180).step_by(13) {
        let at = At::Version(Version(version));
        assert_same(&reader.state_at(at).await.unwrap(), &plain.state_at(at).await.unwrap(), "of the past");
    }
    let head = parts(&backend).await.into_iter().filter(|part| !part.is_kept).count();
    assert!(head <= 12, "{head} snapshots for the head");
}

/// The parts of a snapshot are written one by one: the last is written last.
#[test]
fn what_a_process_left_half_written_is_no_snapshot_and_is_swept() {
    let memory: Arc<dyn Backend> = Arc::new(Memory::default());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (observed, backend) = Observed::new(Arc::clone(&memory));
    observed.stuck_after(1);
    runtime().block_on(async {
        let log = open(&backend, by_count(12));
        for number in 0..12 {
            log.put(&format!("k{number:02}"), noise(number, 1 << 20)).await.unwrap();
        }
        land().await;
    });
    // That runtime is gone with what it was doing.
    runtime().block_on(async {
        let [left] = &parts(&memory).await[..] else { panic!("one part was written") };
        assert!(!left.is_last && left.bytes > 7 << 20, "{left:?}");

        let reader = open(&memory, by_count(NEVER));
        let expected = folded_from_commits(&memory).await.state().await.unwrap();
        assert_same(&reader.state().await.unwrap(), &expected, "before");
        assert_pages_same(&open(&memory, by_count(NEVER)), &expected, "before").await;
        let log = open(&Observed::new(Arc::clone(&memory)).1, by_count(12));
        log.put("k00", noise(0, 10)).await.unwrap();
        log.state().await.unwrap();
        log.store().shut_down().await.unwrap();

        let now = parts(&memory).await;
        assert!(now.iter().all(|part| part.name != left.name), "{now:?}");
        assert_eq!(now.len(), 2, "{now:?}");
        assert_same(
            &open(&memory, by_count(NEVER)).state().await.unwrap(),
            &log.state().await.unwrap(),
            "behind",
        );
    });
}

#[tokio::test]
async fn a_store_that_only_reads_writes_none_and_one_that_lives_shortly_does() {
    let (observed, backend) = Observed::memory();
    let log = open(&backend, by_count(NEVER));
    for number in 0..100 {
        work(&log, number).await;
    }
    observed.is_read_only.store(true, Ordering::SeqCst);
    let reader = open(&backend, by_count(4));
    let expected = folded_from_commits(&backend).await.state().await.unwrap();
    assert_same(&reader.state().await.unwrap(), &expected, "read-only");
    assert_pages_same(&reader, &expected, "read-only").await;
    reader.store().shut_down().await.unwrap();
    assert_eq!(observed.written.load(Ordering::SeqCst), 0);

    // Each makes fewer commits than a snapshot has behind it, and ends.
    observed.is_read_only.store(false, Ordering::SeqCst);
    for process in 0..30 {
        let log = open(&backend, by_count(8));
        let read = observed.commits.load(Ordering::SeqCst);
        log.state().await.unwrap();
        let read = observed.commits.load(Ordering::SeqCst) - read;
        assert!(process == 0 || read <= 8 + 3 + 1, "process {process} read {read} commits");
        for number in 0..3 {
            work(&log, process * 3 + number).await;
        }
        log.store().shut_down().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_in_files_are_read_by_the_next_process_unless_they_are_damaged() {
    let directory = Directory(std::env::temp_dir().join(format!("icecore-snapshots-{}", std::process::id())));
    let open_file = || -> Arc<dyn Backend> {
        Arc::new(FileStore::open(&directory.0, Access::ReadWrite, file::Settings::default()).unwrap())
    };
    let backend = open_file();
    let log = open(&backend, |settings| {
        by_count(5)(settings);
        settings.snapshot_bytes = 4_000;
    });
    for number in 0..150 {
        work(&log, number).await;
    }
    log.store().shut_down().await.unwrap();
    drop(log);
    drop(backend);

    let (observed, backend) = Observed::new(open_file());
    let snapshots = parts(&backend).await;
    assert!(snapshots.iter().any(|part| part.is_kept) && snapshots.len() > 2, "{snapshots:?}");
    read_afresh(&observed, "opened again").await;
    for (number, part) in snapshots.iter().enumerate() {
        let mut bytes = backend.get_blob(&part.blob(), None).await.unwrap().unwrap().to_vec();
        *from_end(&mut bytes, 1 + number * 37) ^= 1;
        replace(&backend, &part.blob(), bytes).await;
    }
    assert_eq!(read_afresh(&observed, "all damaged").await, 150 + 1);
    observed.inner().shut_down().await.unwrap();
}

/// Removed with all that is in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
