//! Copying: byte for byte, resumable, and never two histories in one log.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;
#[path = "support/watched.rs"]
mod watched;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Backend, ErrorKind, Event, LogId, LogPrefix, PageLimit, Version};
use icecore_store::{Range, Store, copy::copy};
use support::*;
use watched::Watched;

async fn filled(count: u64) -> Store {
    let store = store(&faulty());
    for n in 1..=count {
        log(&store).append(event(&n.to_string())).await.unwrap();
    }
    store
}

async fn versions(store: &Store, range: Range) -> Vec<u64> {
    let log = log(store);
    let mut reader = log.read(range);
    let mut versions = Vec::new();
    loop {
        let page = reader.next_page().await.unwrap();
        if page.is_empty() {
            return versions;
        }
        versions.extend(page.iter().map(|commit| commit.version.0));
    }
}

#[tokio::test]
async fn a_copy_is_byte_for_byte_incremental_and_refuses_to_mix_histories() {
    let (from, to) = (filled(20).await, store(&faulty()));

    let first = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    log(&from).append(event("21")).await.unwrap();
    let second = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    let third = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    assert_eq!([first.commits, second.commits, third.commits], [20, 1, 0]);
    let id = log(&from).id().clone();
    let all = |store: &Store| {
        let (backend, id) = (Arc::clone(store.backend()), id.clone());
        async move { backend.read(&id, Version(1), PageLimit::WHOLE).await.unwrap() }
    };
    assert_eq!(all(&from).await, all(&to).await);
    log(&to).append(event("elsewhere")).await.unwrap();
    log(&from).append(event("here")).await.unwrap();
    let mixed = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap_err();
    assert_eq!(mixed.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_trimmed_log_is_read_appended_to_and_copied_from_its_boundary_on() {
    let from = filled(5).await;
    let id = log(&from).id().clone();
    append_base(&log(&from), from.backend()).await;
    log(&from).append(entry("a", "seven")).await.unwrap();
    from.backend().close(&id, Version(5)).await.unwrap();
    from.backend().sweep(&id).await.unwrap();
    let to = store(&faulty());

    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    for store in [&from, &to] {
        assert_eq!(versions(store, Range::default()).await, [6, 7]);
        let early = log(store)
            .read(Range { from: Some(Version(2)), ..Range::default() })
            .next_page()
            .await
            .unwrap_err();
        assert_eq!((early.kind(), early.fact("trimmed_through")), (ErrorKind::NotFound, Some("5")));
        assert!(store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
        assert!(log(store).append(entry("a", "seven")).await.unwrap().repeated);
        assert_eq!(log(store).append(event("eight")).await.unwrap().version, Version(8));
    }
}

#[tokio::test]
async fn a_log_with_dropped_bodies_is_copied_as_it_is() {
    let from = filled(10).await;
    let id = log(&from).id().clone();
    from.backend().drop_bodies(&id, &[Version(4), Version(5)]).await.unwrap();
    let to = store(&faulty());

    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    let verified = to.verify(&LogPrefix::all(), |_| ()).await.unwrap();
    assert_eq!((verified.commits, verified.dropped, verified.damage.len()), (10, 2, 0));
    tokio::time::timeout(Duration::from_secs(5), log(&to).append(event("11"))).await.unwrap().unwrap();
}

/// A copy of five commits; then the source goes on to version 8, of which 6 is a base, and is trimmed.
async fn copied_then_trimmed(through: u64) -> (Store, Store) {
    let (from, to) = (filled(5).await, store(&faulty()));
    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    append_base(&log(&from), from.backend()).await;
    log(&from).append(event("7")).await.unwrap();
    log(&from).append(event("8")).await.unwrap();
    from.backend().close(log(&from).id(), Version(through)).await.unwrap();
    (from, to)
}

#[tokio::test]
async fn a_copy_goes_on_where_the_source_was_trimmed_just_through_its_end() {
    // It ended in a conflict that no later copy could get past, though the next commit names the copy's last one.
    let (from, to) = copied_then_trimmed(5).await;

    let copied = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    assert_eq!((copied.logs, copied.commits), (1, 3));
    assert_eq!(versions(&to, Range::default()).await, [6, 7, 8]);
    assert!(to.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
}

#[tokio::test]
async fn another_history_is_told_where_the_source_was_trimmed_just_through_the_copys_end() {
    let (from, _) = copied_then_trimmed(5).await;
    let to = filled(5).await;

    let error = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Conflict, Some("6")));
}

#[tokio::test]
async fn a_source_that_was_trimmed_past_the_copys_end_says_so() {
    let (from, to) = copied_then_trimmed(6).await;

    let error = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!((error.fact("copied_through"), error.fact("trimmed_through")), (Some("5"), Some("6")));
    assert!(error.to_string().contains("trimmed past the end of the copy"), "{error}");
}

#[tokio::test]
async fn a_trim_of_the_source_reaches_a_copy_that_has_everything() {
    let (from, to) = (filled(5).await, store(&faulty()));
    append_base(&log(&from), from.backend()).await;
    copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();
    from.backend().close(log(&from).id(), Version(5)).await.unwrap();

    let copied = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap();

    assert_eq!((copied.logs, copied.unchanged), (1, 1));
    assert_eq!(log(&to).head().await.unwrap().unwrap().boundary, Version(5));
}

#[tokio::test]
async fn a_copy_that_another_copy_has_overtaken_has_nothing_to_do() {
    let (old, new) = (filled(3).await, store(&faulty()));
    copy(&old, &new, &LogPrefix::all(), |_| ()).await.unwrap();
    log(&new).append(event("4")).await.unwrap();

    // The target has more than the source, which is where it all came from.
    let copied = copy(&old, &new, &LogPrefix::all(), |_| ()).await.unwrap();
    let other = copy(&filled(3).await, &new, &LogPrefix::all(), |_| ()).await.unwrap_err();

    assert_eq!((copied.logs, copied.unchanged, copied.commits), (1, 1, 0));
    assert_eq!(other.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn two_copies_at_once_both_succeed() {
    let (from, to) = (filled(200).await, store(&faulty()));

    let (all, quiet) = (LogPrefix::all(), |_: &_| ());
    let (first, second) = tokio::join!(copy(&from, &to, &all, quiet), copy(&from, &to, &all, quiet));

    assert_eq!((first.unwrap().logs, second.unwrap().logs), (1, 1));
    assert_eq!(versions(&to, Range::default()).await, (1..=200).collect::<Vec<_>>());
}

fn numbered(n: u32) -> LogId {
    LogId::new("acme", "session", &format!("n-{n:02}")).unwrap()
}

#[tokio::test]
async fn logs_that_fail_are_named_and_the_others_are_copied() {
    // The first damaged log ended the copy, and what came behind it was never saved.
    let (backend, to) = (faulty(), store(&faulty()));
    let watched = Watched::new(Arc::clone(&backend) as Arc<dyn Backend>);
    let from = Store::new(Arc::clone(&watched) as Arc<dyn Backend>);
    for n in 0..40 {
        from.append(&numbered(n), event("1")).await.unwrap();
        from.append(&numbered(n), event("2")).await.unwrap();
    }
    for n in 0..12 {
        watched.spoil(&numbered(n * 2), 2, ErrorKind::Corrupt);
    }
    let mut last = None;

    let error = copy(&from, &to, &LogPrefix::all(), |copied| last = Some(*copied)).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("failed_logs")), (ErrorKind::Corrupt, Some("12")));
    let named: Vec<_> = error.fact("failed").unwrap().split(' ').collect();
    assert_eq!(named.len(), 10);
    assert!(named.iter().all(|name| name.starts_with("acme/session/n-")), "{named:?}");
    assert_eq!(last.unwrap().logs, 28);
    assert_eq!(to.log(numbered(39)).head().await.unwrap().unwrap().version, Version(2));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_ends_the_copy_before_every_log_was_tried() {
    let (backend, to) = (faulty(), store(&faulty()));
    let from = store(&backend);
    let watched = Watched::new(Arc::clone(&backend) as Arc<dyn Backend>);
    for n in 0..99 {
        from.append(&numbered(n), event("1")).await.unwrap();
        watched.spoil(&numbered(n), 1, ErrorKind::Unavailable);
    }

    let from = Store::new(Arc::clone(&watched) as Arc<dyn Backend>);
    let error = copy(&from, &to, &LogPrefix::all(), |_| ()).await.unwrap_err();

    assert_eq!((error.kind(), error.fact("failed_logs")), (ErrorKind::Unavailable, Some("16")));
}

#[tokio::test]
async fn progress_is_told_while_one_large_log_is_copied() {
    let (from, to) = (store(&faulty()), store(&faulty()));
    // Text that does not shrink: each commit is about as large as its data.
    let mut seed = 1_u64;
    for _ in 0..12 {
        let text: String = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + (seed >> 33) as u8 % 90)
        })
        .take(1 << 20)
        .collect();
        log(&from).append(Event::new("large", text)).await.unwrap();
    }
    let mut told = Vec::new();

    copy(&from, &to, &LogPrefix::all(), |copied| told.push(*copied)).await.unwrap();

    let under_way: Vec<_> = told.iter().filter(|copied| copied.logs == 0 && copied.bytes > 0).collect();
    assert!(under_way.len() >= 2, "{told:?}");
}
