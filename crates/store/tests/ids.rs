//! Ids of long ago: what id runs say of them, also behind a trim, and what is done about runs that are damaged.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/hooked.rs"]
mod hooked;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hooked::*;
use icecore_log::{Backend, BlobId, EntryId, ErrorKind, LogId, Version};
use icecore_store::{Log, Receipt, Resolved, Settings, Store};
use support::{append_base, entry, event, log, said};

fn id(name: &str) -> EntryId {
    EntryId::new(name).unwrap()
}

/// Runs of four ids, of which two are merged, and a commit for each entry.
fn small(settings: &mut Settings) {
    (settings.id_run_ids, settings.id_run_merge, settings.merge_entries_max) = (4, 2, 1);
}

async fn append_ids(log: &Log, numbers: std::ops::Range<u64>) {
    for n in numbers {
        log.append(entry(&format!("id-{n}"), &n.to_string())).await.unwrap();
    }
}

/// The names of the id runs, once none is being written any more.
async fn runs(store: &Store) -> Vec<BlobId> {
    let log = log(store);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let blobs = store.backend().list_blobs(log.id(), "ids-").await.unwrap();
    blobs.iter().map(|blob| BlobId::new(log.id().clone(), &blob.name).unwrap()).collect()
}

async fn replace(backend: &Arc<dyn Backend>, blob: &BlobId, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = backend.get_blob(blob, None).await.unwrap().unwrap();
    backend.delete_blob(blob).await.unwrap();
    backend.put_blob(blob, Bytes::from(change(bytes.to_vec()))).await.unwrap();
}

/// Two entries in commit 1, a base behind it, and commit 1 trimmed.
async fn trimmed(backend: &Arc<dyn Backend>, keep: bool) -> Receipt {
    let store = store_over(backend, |_| ());
    let log = log(&store);
    let first = log.append(entry("zero", "zero")).enqueue().await.unwrap();
    let second = log.append(entry("a", "one")).await.unwrap();
    first.receipt().await.unwrap();
    let base = append_base(&log, backend).await;
    if keep {
        log.keep_ids(Version(1)).await.unwrap();
    }
    backend.close(log.id(), base.previous()).await.unwrap();
    assert_eq!((second.version, second.entry), (Version(1), 1));
    second
}

/// A log of few ids has no run: after a trim the id was unknown, and "not committed" was the answer of a new process.
#[tokio::test]
async fn an_id_that_was_trimmed_before_it_was_in_a_run_is_undetermined() {
    let (_, backend) = shared(Hooked::default());
    trimmed(&backend, false).await;

    let resolved = log(&store_over(&backend, |_| ())).resolve(&id("a")).await.unwrap();

    assert_eq!(resolved, Resolved::Undetermined);
}

#[tokio::test]
async fn ids_that_were_kept_before_a_trim_are_known_behind_it_with_entry_and_content() {
    let (_, backend) = shared(Hooked::default());
    let first = trimmed(&backend, true).await;
    let store = store_over(&backend, |_| ());
    let log = log(&store);

    let again = log.append(entry("a", "one")).await.unwrap();
    let other = log.append(entry("a", "two")).await.unwrap_err();
    let found = log.resolve(&id("a")).await.unwrap();
    let absent = log.resolve(&id("b")).await.unwrap();

    assert_eq!(again, Receipt { repeated: true, hash: None, ..first });
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert_eq!(found, Resolved::Committed(again));
    assert_eq!(absent, Resolved::NotCommitted);
    assert!(said(&log).await.is_empty());
}

/// It was taken for trimmed, and a repeated entry for a success.
#[tokio::test]
async fn a_missing_commit_above_the_boundary_that_a_run_names_is_damage() {
    let (_, backend) = shared(Hooked { missing: Some(Version(2)), ..Hooked::default() });
    let writer = store_over(&backend, small);
    append_ids(&log(&writer), 1..4).await;
    log(&writer).keep_ids(Version(3)).await.unwrap();

    let error = log(&store_over(&backend, small)).append(entry("id-2", "2")).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("2")));
}

#[tokio::test]
async fn a_run_that_was_cut_short_is_made_again() {
    let (_, backend) = shared(Hooked::default());
    let writer = store_over(&backend, small);
    append_ids(&log(&writer), 0..5).await;
    let [run] = &runs(&writer).await[..] else { panic!("one run") };
    replace(&backend, run, |mut bytes| {
        bytes.truncate(bytes.len() - 20);
        bytes
    })
    .await;

    let reader = store_over(&backend, small);
    append_ids(&log(&reader), 0..5).await;
    log(&reader).keep_ids(Version(4)).await.unwrap();

    assert_eq!(said(&log(&reader)).await.len(), 5);
    let bytes = backend.get_blob(run, None).await.unwrap().unwrap();
    assert_eq!(bytes.len(), 40 + 4 * 20, "the run was written anew under its name");
}

/// Merging deleted its sources without a look at what it had read of them.
#[tokio::test]
async fn a_damaged_run_is_not_merged_and_not_deleted() {
    let (_, backend) = shared(Hooked::default());
    let writer = store_over(&backend, small);
    append_ids(&log(&writer), 0..4).await;
    let [run] = &runs(&writer).await[..] else { panic!("one run") };
    replace(&backend, run, |mut bytes| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    })
    .await;

    append_ids(&log(&writer), 4..8).await;

    assert_eq!(runs(&writer).await.len(), 2);
    assert!(backend.get_blob(run, None).await.unwrap().is_some());
}

/// The list of runs was never read anew: each look-up failed on a run that was gone, and listed again.
#[tokio::test]
async fn runs_that_another_process_merged_are_listed_once() {
    let (hooked, backend) = shared(Hooked::default());
    let first = store_over(&backend, |settings| (settings.id_run_ids, settings.id_run_merge) = (4, 100));
    append_ids(&log(&first), 0..9).await;
    assert_eq!(runs(&first).await.len(), 2);
    let other = store_over(&backend, |settings| (settings.id_run_ids, settings.id_run_merge) = (4, 3));
    append_ids(&log(&other), 9..13).await;
    assert_eq!(runs(&other).await.len(), 1);

    log(&first).append(event("no id")).await.unwrap();
    let before = hooked.listings.load(Ordering::SeqCst);
    append_ids(&log(&first), 0..3).await;

    assert_eq!(hooked.listings.load(Ordering::SeqCst) - before, 1);
    assert_eq!(said(&log(&first)).await.len(), 14, "an id that the merged run has was appended again");
}

/// Each new id was looked for in every run of its log, by a request each: the older a log, the slower.
#[tokio::test]
async fn new_ids_are_not_looked_for_in_runs_that_were_read_or_written_once() {
    let (hooked, backend) = shared(Hooked::default());
    let many = |settings: &mut Settings| {
        (settings.id_run_ids, settings.id_run_merge, settings.merge_entries_max) = (64, 3, 1);
    };
    let writer = store_over(&backend, many);
    // A run that was merged, and two behind it.
    append_ids(&log(&writer), 0..5 * 64).await;
    assert_eq!(runs(&writer).await.len(), 3);
    // Of 1,700 looks one is in vain: a handful would be chance, and without filters they are a hundred.
    let reads = || hooked.blob_reads.load(Ordering::SeqCst);
    let before = reads();
    append_ids(&log(&writer), 1_000..1_040).await;
    assert!(reads() - before < 5, "the runs are its own");
    let (before, listings) = (reads(), hooked.listings.load(Ordering::SeqCst));
    assert_eq!(log(&writer).find(&id("id-100")).await.unwrap().unwrap().version, Version(101));
    assert!(reads() - before < 3, "it is in the first run");
    assert_eq!(hooked.listings.load(Ordering::SeqCst), listings, "which is known");

    let reader = store_over(&backend, many);
    append_ids(&log(&reader), 2_000..2_010).await;
    let before = reads();
    append_ids(&log(&reader), 3_000..3_040).await;
    assert!(reads() - before < 5, "it read them before");
    // What is there is looked up still, in the runs and behind them.
    for id in [0, 100, 300, 319, 1_000, 2_000] {
        append_ids(&log(&reader), id..id + 1).await;
    }
    assert_eq!(said(&log(&reader)).await.len(), 5 * 64 + 40 + 10 + 40);
}

/// Of an id that stood in the damaged bytes, "it is not there" was the answer.
#[tokio::test]
async fn a_damaged_run_says_so_and_is_made_again_once_it_was_deleted() {
    let (_, backend) = shared(Hooked::default());
    let writer = store_over(&backend, small);
    append_ids(&log(&writer), 0..4).await;
    let [run] = &runs(&writer).await[..] else { panic!("one run") };
    replace(&backend, run, |mut bytes| {
        bytes[40..].chunks_mut(20).for_each(|record| record[0] ^= 1);
        bytes
    })
    .await;

    let reader = log(&store_over(&backend, small));
    for _ in 0..2 {
        let error = reader.append(entry("id-0", "0")).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("blob").is_some()), (ErrorKind::Corrupt, true));
    }
    reader.append(event("no id")).await.unwrap();
    backend.delete_blob(run).await.unwrap();

    append_ids(&log(&store_over(&backend, small)), 0..4).await;
    assert_eq!(said(&reader).await.len(), 5);
}

/// While entries went on arriving, one always had to be looked up, and nothing was ever sealed.
#[tokio::test]
async fn entries_that_go_on_arriving_do_not_keep_the_first_from_its_commit() {
    let blob_pause = Some(Duration::from_millis(3));
    let (_, backend) = shared(Hooked { blob_pause, ..Hooked::default() });
    append_ids(&log(&store_over(&backend, small)), 0..5).await;
    let store = store_over(&backend, small);
    let log = log(&store);

    let mut first = tokio::spawn(log.append(entry("first", "one")).enqueue().await.unwrap().receipt());
    let mut arrived = Vec::new();
    let first = loop {
        let next = entry(&format!("new-{}", arrived.len()), "x");
        arrived.push(log.append(next).enqueue().await.unwrap());
        assert!(arrived.len() < 300, "the first entry waits for all that came after it");
        if let Ok(first) = tokio::time::timeout(Duration::from_millis(1), &mut first).await {
            break first;
        }
    };

    first.unwrap().unwrap();
    for one in arrived {
        one.receipt().await.unwrap();
    }
}

/// Each idle log kept its ids: a hundred thousand logs of some thousand ids were more than a machine has.
#[tokio::test]
async fn logs_whose_ids_are_too_many_for_memory_are_read_again() {
    let (hooked, backend) = shared(Hooked::default());
    let store = store_over(&backend, |settings| settings.ids_in_memory_max = 20);
    let logs: Vec<Log> =
        (0..10).map(|n| store.log(LogId::new("acme", "session", &format!("s-{n}")).unwrap())).collect();

    for log in &logs {
        append_ids(log, 0..8).await;
    }
    let read = hooked.listings.load(Ordering::SeqCst);
    for log in &logs {
        append_ids(log, 0..8).await;
        assert_eq!(said(log).await.len(), 8);
    }

    assert_eq!(read, 0);
    assert!(hooked.listings.load(Ordering::SeqCst) >= 8, "the ids of most logs were forgotten");
}
