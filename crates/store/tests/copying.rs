//! Copying: byte for byte, resumable, and never two histories in one log.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use icecore_log::{ErrorKind, LogPrefix, PageLimit, Version};
use icecore_store::{Range, Store, copy::copy};
use support::*;

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
