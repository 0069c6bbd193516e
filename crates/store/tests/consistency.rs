//! How fresh a state is that is read: all that was acknowledged, all that a token has seen, or what is in memory. And what is kept there.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/observed.rs"]
mod observed;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use documents::*;
use icecore_log::{Backend, Error, ErrorKind, Event, Hash, LogId, Result, Version};
use icecore_store::retention::{Keep, Trim};
use icecore_store::state::{At, Changes, Condition, Consistency, Eviction, Json, Token};
use icecore_store::{Log, Store};
use observed::Observed;

/// The ways in which a document is read.
#[derive(Debug, Clone, Copy)]
enum Way {
    State,
    Document,
    Page,
}

const WAYS: [Way; 3] = [Way::State, Way::Document, Way::Page];

impl Way {
    /// The number that was put last, as it is read so; zero if none was.
    async fn number(self, log: &Log) -> Result<u64> {
        let document = match self {
            Self::State => log.state().await?.get("n").cloned(),
            Self::Document => log.document("n").await?,
            Self::Page => {
                let page = log.documents("n", None, 1).await?;
                page.documents.into_iter().next().map(|(_, document)| document)
            }
        };
        document.map_or(Ok(0), |document| document.read())
    }
}

/// Each way, of a state that is read in parts and of one that is read as a whole.
fn ways() -> impl Iterator<Item = (Way, bool)> {
    WAYS.into_iter().flat_map(|way| [(way, false), (way, true)])
}

fn number(number: u64) -> Changes {
    Changes::new().put("n", Json::of(&number).unwrap())
}

/// A log of nine commits, and snapshots of most of them.
async fn nine() -> (Arc<Observed>, Arc<dyn Backend>) {
    let (observed, backend) = Observed::memory();
    let log = open(&backend, by_count(3));
    for n in 1..=9 {
        log.commit(number(n).put(format!("other{n}"), noise(n, 300))).await.unwrap();
        while n % 3 == 0 && parts(&backend).await.last().is_none_or(|last| last.to < n) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    (observed, backend)
}

/// Another process, which writes no snapshots.
fn reader(backend: &Arc<dyn Backend>, in_parts: bool) -> Log {
    open(backend, |settings| {
        by_count(NEVER)(settings);
        settings.whole_state_bytes_max = if in_parts { 0 } else { 1 << 20 };
    })
}

#[tokio::test]
async fn a_strong_read_sees_what_another_process_appended() {
    for (way, in_parts) in ways() {
        let (_, backend) = nine().await;
        let (writer, log) = (reader(&backend, false), reader(&backend, in_parts));
        for n in 10..20 {
            writer.commit(number(n)).await.unwrap();
            assert_eq!(way.number(&log).await.unwrap(), n, "{way:?}, in parts: {in_parts}");
        }
    }
}

#[tokio::test]
async fn an_eventual_read_asks_the_backend_nothing_once_a_state_is_in_memory() {
    for (way, in_parts) in ways() {
        let when = format!("{way:?}, in parts: {in_parts}");
        let (observed, backend) = nine().await;
        let (writer, log) = (reader(&backend, false), reader(&backend, in_parts));
        let eventual = log.with(Consistency::Eventual);
        // Nothing is, so it is as strong.
        assert_eq!(way.number(&eventual).await.unwrap(), 9, "{when}");
        writer.commit(number(10)).await.unwrap();
        let looks = observed.looks();

        for _ in 0..5 {
            assert_eq!(way.number(&eventual).await.unwrap(), 9, "{when}");
        }

        assert_eq!(observed.looks(), looks, "{when}");
        assert_eq!(way.number(&log).await.unwrap(), 10, "{when}");
        assert_eq!(way.number(&eventual).await.unwrap(), 10, "{when}");
    }
}

#[tokio::test]
async fn a_read_with_a_token_is_never_from_before_it_and_looks_only_if_it_must() {
    for (way, in_parts) in ways() {
        let when = format!("{way:?}, in parts: {in_parts}");
        let (observed, backend) = nine().await;
        let (writer, log) = (reader(&backend, false), reader(&backend, in_parts));
        let at_least = |token: &Token| log.with(Consistency::AtLeast(token.clone()));
        let ninth = writer.token(&writer.state().await.unwrap());
        assert_eq!((ninth.version, ninth.hash.is_some()), (Version(9), true));
        assert_eq!(way.number(&at_least(&ninth)).await.unwrap(), 9, "{when}");
        for n in 10..20 {
            let receipt = writer.commit(number(n)).await.unwrap().unwrap();
            let looks = observed.looks();

            // What is in memory has come as far as the older token, but not as the newer.
            assert_eq!(way.number(&at_least(&ninth)).await.unwrap(), n - 1, "{when}");
            assert_eq!(observed.looks(), looks, "{when}");
            let newer = Token { hash: receipt.hash.filter(|_| n % 2 == 0), ..receipt.token() };
            assert_eq!(way.number(&at_least(&newer)).await.unwrap(), n, "{when}");
            assert!(observed.looks() > looks, "{when}");
            let token = log.token(&writer.state().await.unwrap());
            let looks = observed.looks();
            assert_eq!(way.number(&at_least(&token)).await.unwrap(), n, "{when}");
            assert_eq!(observed.looks(), looks, "{when}");
        }
    }
}

#[tokio::test]
async fn a_token_of_what_is_not_here_is_an_error_that_says_so() {
    let told = |error: Error| {
        let fact = |name| error.fact(name).map(str::to_owned);
        (error.kind(), fact("version"), fact("found"))
    };
    for (way, in_parts) in ways() {
        // In memory or not.
        for is_warm in [false, true] {
            let when = format!("{way:?}, in parts: {in_parts}, in memory: {is_warm}");
            let (_, backend) = nine().await;
            let fails = async |token: Token| {
                let log = reader(&backend, in_parts);
                if is_warm {
                    Way::Page.number(&log).await.unwrap();
                }
                way.number(&log.with(Consistency::AtLeast(token))).await.unwrap_err()
            };
            let token = |version, hash| Token { log: id(), version: Version(version), hash };

            let future = told(fails(token(10, None)).await);
            assert_eq!(future, (ErrorKind::Unavailable, Some("10".into()), Some("9".into())), "{when}");
            let far = fails(token(u64::MAX, Some(Hash([7; 32])))).await;
            assert_eq!(far.kind(), ErrorKind::Unavailable, "{when}");
            let other = LogId::new("acme", "session", "s-2").unwrap();
            for version in [1, 9, 10] {
                let foreign = Token { log: other.clone(), ..token(version, None) };
                assert_eq!(fails(foreign).await.kind(), ErrorKind::Invalid, "{when}");
            }
            let lost = fails(token(9, Some(Hash([7; 32])))).await;
            assert_eq!(lost.kind(), ErrorKind::Corrupt, "{when}");
            assert_eq!(lost.fact("expected"), Some(&*Hash([7; 32]).to_string()), "{when}");
        }
        // Nothing was ever appended.
        let (_, backend) = Observed::memory();
        let token = Token { log: id(), version: Version(1), hash: None };
        let nowhere = reader(&backend, in_parts).with(Consistency::AtLeast(token));
        let error = told(way.number(&nowhere).await.unwrap_err());
        assert_eq!(error, (ErrorKind::Unavailable, Some("1".into()), Some("0".into())), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_handed_on_while_others_write_are_kept() {
    let (_, backend) = nine().await;
    let (sender, _) = tokio::sync::broadcast::channel::<(Token, u64)>(1_000);
    let mut readers = tokio::task::JoinSet::new();
    for (way, in_parts) in ways() {
        let (log, mut tokens) = (reader(&backend, in_parts), sender.subscribe());
        readers.spawn(async move {
            let (mut count, mut last) = (0, 0);
            while let Ok((token, n)) = tokens.recv().await {
                let found = way.number(&log.with(Consistency::AtLeast(token))).await.unwrap();
                assert!(
                    found >= n && found >= last,
                    "{way:?}, in parts: {in_parts}: {found} is from before {n}"
                );
                (count, last) = (count + 1, found);
            }
            count
        });
    }
    let writer = open(&backend, by_count(5));
    for n in 10..110 {
        let receipt = writer.commit(number(n)).await.unwrap().unwrap();
        sender.send((receipt.token(), n)).unwrap();
    }
    drop(sender);
    assert_eq!(readers.join_all().await, [100; 6]);
}

#[tokio::test]
async fn what_a_process_appends_itself_is_not_read_again() {
    let (observed, backend) = nine().await;
    let log = reader(&backend, false);
    let eventual = log.with(Consistency::Eventual);
    // The first append looks for the log's end and its secret.
    log.commit(number(10)).await.unwrap();
    assert_eq!(log.state().await.unwrap().version, Version(10));
    let commits = observed.commits.load(Ordering::SeqCst);
    for n in 11..200 {
        let looks = observed.looks();
        match n % 4 {
            0 => drop(log.append(Event::new("said", "1")).await.unwrap()),
            1 => drop(log.patch("m", json(format!(r#"{{"n":{n}}}"#))).await.unwrap()),
            _ => drop(log.put("large", json(format!(r#"["{}",{n}]"#, letters_of(1, 3_000)))).await.unwrap()),
        }
        if n % 3 == 0 {
            assert_eq!(eventual.state().await.unwrap().version, Version(n));
            assert_eq!(observed.looks(), looks, "own appends are seen without a look");
        }
    }

    let state = log.state().await.unwrap();

    assert_eq!(observed.commits.load(Ordering::SeqCst), commits, "they were read again");
    assert_same(&state, &folded_from_commits(&backend).await.state().await.unwrap(), "followed");
    // Nor is a part of them taken for all when another process came between.
    let other = reader(&backend, false);
    for n in 200..230 {
        let by = if n % 3 == 0 { &other } else { &log };
        by.commit(number(n)).await.unwrap();
        let expected = folded_from_commits(&backend).await.state().await.unwrap();
        assert_same(&log.state().await.unwrap(), &expected, "with others between");
    }
}

/// A receipt is enough: the commit that it names is looked at once, if the state in memory does not know it any more.
#[tokio::test]
async fn a_token_of_long_ago_is_of_this_history_or_lost() {
    for (way, in_parts) in ways() {
        let when = format!("{way:?}, in parts: {in_parts}");
        let (observed, backend) = Observed::memory();
        let writer = reader(&backend, false);
        let receipt = writer.commit(number(1)).await.unwrap().unwrap();
        let other = Hash([7; 32]);
        assert!(receipt.hash.is_some_and(|hash| hash != other), "{when}");
        for n in 2..=60 {
            writer.commit(number(n)).await.unwrap();
        }
        let log = reader(&backend, in_parts);
        assert_eq!(way.number(&log).await.unwrap(), 60, "{when}");
        let at_least = |hash| log.with(Consistency::AtLeast(Token { hash, ..receipt.token() }));

        assert_eq!(way.number(&at_least(receipt.hash)).await.unwrap(), 60, "{when}");
        let looks = observed.looks();
        assert_eq!(way.number(&at_least(receipt.hash)).await.unwrap(), 60, "{when}");
        // One that knows no hash is as good as a number.
        assert_eq!(way.number(&at_least(None)).await.unwrap(), 60, "{when}");
        assert_eq!(observed.looks(), looks, "{when}");

        let lost = way.number(&at_least(Some(other))).await.unwrap_err();
        assert_eq!((lost.kind(), lost.fact("version")), (ErrorKind::Corrupt, Some("1")), "{when}");
        assert_eq!(lost.fact("found"), Some(&*receipt.hash.unwrap().to_string()), "{when}");
    }
}

/// What was trimmed does not tell whose history it was: a token of it is as good as its number.
#[tokio::test]
async fn a_token_of_what_was_trimmed_is_seen() {
    for (way, in_parts) in ways() {
        let (_, backend) = nine().await;
        let log = reader(&backend, in_parts);
        let keep = Keep { commits: Some(1), ..Keep::default() };
        let trimmed = log.trim(&Trim { keep, ..Trim::default() }).await.unwrap();
        assert!(trimmed.through >= Version(2));
        let token = Token { log: id(), version: Version(2), hash: Some(Hash([7; 32])) };

        let number = way.number(&log.with(Consistency::AtLeast(token))).await.unwrap();

        assert_eq!(number, 9, "{way:?}, in parts: {in_parts}");
    }
}

/// A fail-over lost commits of which a process has the state in memory, and others came in their place.
#[tokio::test]
async fn a_state_of_a_lost_history_is_forgotten_by_the_next_look() {
    for (way, in_parts) in ways() {
        for more in 0..6 {
            let when = format!("{way:?}, in parts: {in_parts}, {more} others");
            let (observed, backend) = nine().await;
            let log = reader(&backend, in_parts);
            for way in [Way::Page, way] {
                assert_eq!(way.number(&log).await.unwrap(), 9, "{when}");
            }
            let seen = log.token(&reader(&backend, false).state().await.unwrap());
            let ours = with_commits(commits(&backend).await.into_iter().take(7)).await;
            for part in parts(&backend).await {
                let bytes = backend.get_blob(&part.blob(), None).await.unwrap().unwrap();
                ours.put_blob(&part.blob(), bytes).await.unwrap();
            }
            let other = reader(&ours, false);
            for n in 0..more {
                other.commit(number(1_000 + n)).await.unwrap();
            }
            observed.fail_over(Arc::clone(&ours));

            let expected = if more == 0 { 7 } else { 999 + more };
            assert_eq!(way.number(&log.with(Consistency::Eventual)).await.unwrap(), 9, "{when}");
            assert_eq!(way.number(&log).await.unwrap(), expected, "{when}");
            let error = way.number(&log.with(Consistency::AtLeast(seen.clone()))).await;
            match more {
                0 | 1 => assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable, "{when}"),
                // However far the other history has come.
                _ => assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt, "{when}"),
            }
            log.commit(number(5)).await.unwrap();
            assert_eq!(way.number(&log).await.unwrap(), 5, "{when}");
        }
    }
}

#[tokio::test]
async fn transactions_and_reads_of_the_past_are_strong_whatever_the_handle() {
    let (_, backend) = nine().await;
    let (writer, log) = (reader(&backend, false), reader(&backend, false).with(Consistency::Eventual));
    assert_eq!(Way::State.number(&log).await.unwrap(), 9);
    writer.commit(number(10)).await.unwrap();

    assert_eq!(log.state_at(At::Head).await.unwrap().version, Version(10));
    let diff = log.diff(At::Version(Version(9)), At::Head).await.unwrap();
    assert_eq!(diff.differences.len(), 1);
    writer.commit(number(11)).await.unwrap();
    log.transact(|state| Ok(number(state.get("n").unwrap().read::<u64>()? + 1))).await.unwrap();
    assert_eq!(Way::State.number(&writer).await.unwrap(), 12);
    writer.commit(number(13)).await.unwrap();
    let at = |version| Condition::Document { key: "n".into(), version: Version(version) };
    assert_eq!(log.commit(number(14).only_if(at(12))).await.unwrap_err().kind(), ErrorKind::Conflict);
    log.commit(number(14).only_if(at(13))).await.unwrap();
    assert_eq!(Way::State.number(&writer).await.unwrap(), 14);
}

fn log_of(store: &Store, n: usize) -> Log {
    store.log(LogId::new("acme", "session", &format!("c-{n:04}")).unwrap())
}

/// A store whose cache has room for about ten of the states of so many logs, which are there.
async fn crowded(eviction: Eviction, logs: usize) -> Store {
    let (_, backend) = Observed::memory();
    let writer = Store::new(Arc::clone(&backend));
    for n in 0..logs {
        log_of(&writer, n).put("text", noise(n as u64, 2_000)).await.unwrap();
    }
    let log = open(&backend, |settings| {
        (settings.state_bytes_max, settings.state_eviction) = (47_000, eviction);
    });
    log.store().clone()
}

#[tokio::test]
async fn what_is_kept_of_states_is_counted_and_bounded() {
    for eviction in [Eviction::LeastFrequent, Eviction::LeastRecent] {
        let store = crowded(eviction, 60).await;
        for n in 0..5 {
            log_of(&store, n).state().await.unwrap();
        }
        let counts = store.cached_states();
        assert_eq!((counts.states, counts.hits, counts.misses, counts.evictions), (5, 0, 5, 0));
        assert!((20_000..25_000).contains(&counts.bytes), "{counts:?}");
        for n in 0..5 {
            log_of(&store, n).state().await.unwrap();
        }
        let counts = store.cached_states();
        assert_eq!((counts.states, counts.hits, counts.misses, counts.evictions), (5, 5, 5, 0));

        for n in 0..60 {
            log_of(&store, n).state().await.unwrap();
            let counts = store.cached_states();
            assert!(counts.bytes <= 47_000, "{eviction:?}: {counts:?}");
        }

        let counts = store.cached_states();
        assert_eq!(counts.hits + counts.misses, 70, "{eviction:?}: {counts:?}");
        assert!((5..=15).contains(&counts.states), "{eviction:?}: {counts:?}");
        assert!(counts.evictions >= 60 - counts.states, "{eviction:?}: {counts:?}");
    }
}

/// One log is read often, and then many others once: the one policy keeps it, the other what came last.
#[tokio::test]
async fn which_states_make_room_is_as_the_setting_says() {
    for (eviction, is_kept) in [(Eviction::LeastFrequent, true), (Eviction::LeastRecent, false)] {
        let store = crowded(eviction, 60).await;
        let is_hit = async |n| {
            let before = store.cached_states();
            log_of(&store, n).state().await.unwrap();
            store.cached_states().hits > before.hits
        };
        for n in (0..9).chain([0; 20]) {
            is_hit(n).await;
        }
        for n in 9..60 {
            is_hit(n).await;
        }
        assert_eq!(is_hit(0).await, is_kept, "{eviction:?}");
        assert_eq!(is_hit(59).await, !is_kept, "{eviction:?}");
    }
}

#[tokio::test]
async fn a_state_that_is_too_large_to_be_kept_is_read_all_the_same() {
    for state_bytes_max in [0, 10_000] {
        let (_, backend) = nine().await;
        let log = open(&backend, |settings| {
            by_count(NEVER)(settings);
            (settings.state_bytes_max, settings.whole_state_bytes_max) = (state_bytes_max, 1 << 20);
        });
        for n in 10..20 {
            log.commit(number(n).put(format!("large{n}"), noise(n, 6_000))).await.unwrap();
            for way in WAYS {
                assert_eq!(way.number(&log).await.unwrap(), n, "{way:?}");
            }
            let state = log.state().await.unwrap();
            assert_eq!(state.get(&format!("large{n}")).unwrap().json.len(), 6_002);
            let counts = log.store().cached_states();
            assert!(counts.bytes <= state_bytes_max, "{counts:?}");
        }
        let counts = log.store().cached_states();
        assert_eq!(counts.states, 0, "{counts:?}");
        assert!(counts.evictions > 0 || state_bytes_max == 0, "{counts:?}");
    }
}

#[tokio::test]
async fn a_state_that_grows_little_by_little_is_weighed_as_it_grows() {
    let (_, backend) = Observed::memory();
    let log = open(&backend, |_| ());
    let mut letters = 4_000;
    while letters < 400_000 {
        log.put("text", noise(1, letters)).await.unwrap();
        log.state().await.unwrap();
        letters += letters / 20;
    }

    let kept = log.store().cached_states().bytes;

    assert!((350_000..500_000).contains(&kept), "{kept}");
}

/// A fail-over lost commits that are in memory, and the log is shorter than what is kept of it.
#[tokio::test]
async fn a_strong_read_in_parts_does_not_answer_from_commits_that_were_lost() {
    let (observed, backend) = Observed::memory();
    let writer = open(&backend, by_count(3));
    for n in 1..=9_u64 {
        writer.put("n", Json::of(&n).unwrap()).await.unwrap();
        land().await;
    }
    let log = open(&backend, by_count(NEVER));
    assert_eq!(log.documents("", None, 1).await.unwrap().version, Version(9));
    let ours = with_commits(commits(&backend).await.into_iter().take(7)).await;

    observed.fail_over(ours);

    assert_eq!(log.documents("", None, 1).await.unwrap().version, Version(7));
    assert_eq!(log.document("n").await.unwrap().unwrap().json, "7");
}

#[tokio::test]
async fn an_eventual_read_in_parts_sees_what_this_process_appended_itself() {
    let (_, backend) = Observed::memory();
    let writer = open(&backend, by_count(1));
    writer.put("n", json("1")).await.unwrap();
    land().await;
    let log = open(&backend, by_count(NEVER));
    let eventual = log.with(Consistency::Eventual);
    assert_eq!(eventual.documents("", None, 1).await.unwrap().version, Version(1));

    log.put("n", json("2")).await.unwrap();

    assert_eq!(eventual.document("n").await.unwrap().unwrap().json, "2");
    assert_eq!(eventual.documents("", None, 1).await.unwrap().version, Version(2));
}
