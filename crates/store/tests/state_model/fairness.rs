//! Transactions beside others: who waits, who is first, and what is left of one that is dropped.

use super::*;
use crate::model::value;

/// How long a create and a look at the head take, in milliseconds.
///
/// What is on its way when a transaction gets the log to itself is not seen by it, and lands before it: then it must keep what it got.
async fn a_transaction_beside_eight_that_append(create: u64, look: u64) {
    let bent = Bent {
        create_pause: Duration::from_millis(create),
        heads_pause: Duration::from_millis(look),
        ..Bent::default()
    };
    let (_, store) = over(bent, Duration::from_secs(3));
    let log = log(&store);
    let (stop, appended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (log, stop, appended) = (log.clone(), Arc::clone(&stop), Arc::clone(&appended));
        tasks.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                log.append(event("beside")).await.unwrap();
                appended.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
    }
    while appended.load(Ordering::SeqCst) < 16 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let (mut most, mut through, mut told) = (0, 0, Ok(None));
    while through < 5 && told.is_ok() {
        let mut rounds = 0;
        told = log
            .transact(|state| {
                rounds += 1;
                count(state)
            })
            .await;
        (most, through) = (most.max(rounds), through + 1);
    }
    let before = appended.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20 + 4 * create)).await;
    let after = appended.load(Ordering::SeqCst);
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;

    println!("create {create} ms, look {look} ms: {most} rounds at the most");
    assert!(told.is_ok() && most <= 5, "{most} rounds, {told:?}");
    assert_eq!(counted(&log).await, 5);
    assert!(after > before, "the appends did not go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_beside_appends_is_through_in_a_few_rounds_where_all_is_fast() {
    a_transaction_beside_eight_that_append(0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_beside_appends_is_through_in_a_few_rounds_where_creates_are_slow() {
    a_transaction_beside_eight_that_append(10, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_beside_appends_is_through_in_a_few_rounds_where_all_is_slow() {
    a_transaction_beside_eight_that_append(10, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_beside_appends_is_through_in_a_few_rounds_where_looks_are_slow() {
    a_transaction_beside_eight_that_append(2, 10).await;
}

/// Appends as another process would, and waits for it without giving way: within a closure there is no other way.
fn append_as_another(store: &Store) {
    let rival = log(&Store::new(Arc::clone(store.backend())));
    let appended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { rival.append(event("rival")).await.unwrap() })
    });
    appended.join().unwrap();
}

#[tokio::test]
async fn a_closure_that_panics_leaves_the_log_usable() {
    // In its first round, and when it has the log to itself.
    for panics_in in [1, 2, 4, 5] {
        let (_, store) = over(Bent::default(), Duration::from_secs(2));
        let log = log(&store);
        log.append(event("zero")).await.unwrap();
        let (own, rivals) = (log.clone(), store.clone());
        let task = tokio::spawn(async move {
            let mut rounds = 0;
            own.transact(|state| {
                rounds += 1;
                assert!(rounds < panics_in, "this panic was planned");
                append_as_another(&rivals);
                count(state)
            })
            .await
        });
        assert!(task.await.unwrap_err().is_panic());

        let begun = Instant::now();
        log.append(event("after")).await.unwrap();
        log.transact(count).await.unwrap();
        assert_eq!(counted(&log).await, 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "{panics_in}: something was still held");
    }
}

/// Where other processes are always first it ends all the same, and nothing was written.
#[tokio::test]
async fn a_transaction_that_is_never_first_ends_when_its_time_is_up() {
    let patience = Duration::from_millis(200);
    let (_, store) = over(Bent::default(), patience);
    let log = log(&store);
    let begun = Instant::now();

    let error = log
        .transact(|state| {
            append_as_another(&store);
            count(state)
        })
        .await
        .unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < 10 * patience);
    assert_eq!(counted(&log).await, 0);
    log.transact(count).await.unwrap();
}

/// Polls a future so many times, and gives others their turns between.
async fn poll<F: Future>(mut future: Pin<&mut F>, times: usize, turns: usize) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
    None
}

/// What a transaction leaves that put `left` and `right`, or did not.
async fn check_left_whole(log: &Log, what: &str) -> bool {
    let begun = Instant::now();
    log.append(event("after")).await.unwrap();
    log.transact(count).await.unwrap();
    let state = log.state().await.unwrap();
    let is_made = state.get("left").is_some();
    assert_eq!(state.get("right").is_some(), is_made, "{what}");
    assert_eq!(counted(log).await, 1, "{what}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{what}: something was still held");
    is_made
}

#[tokio::test]
async fn a_transaction_that_is_dropped_anywhere_is_made_whole_or_not_at_all_and_leaves_the_log_usable() {
    let (mut made, mut not_made, mut ended) = (0, 0, 0);
    for turns in [0, 1, 3] {
        for times in 0..50 {
            let (_, store) = over(Bent { yields: true, ..Bent::default() }, Duration::from_secs(3));
            let log = log(&store);
            log.put("zero", text("0")).await.unwrap();
            {
                let future =
                    pin!(log.transact(|_| Ok(Changes::new().put("left", text("1")).put("right", text("1")))));
                ended += usize::from(poll(future, times, turns).await.is_some());
            }

            let is_made = check_left_whole(&log, &format!("{turns} turns, {times} times")).await;
            *(if is_made { &mut made } else { &mut not_made }) += 1;
        }
    }
    assert!(made > 5 && not_made > 5 && ended > 5, "{made} {not_made} {ended}");
}

/// As above, behind three rounds that others won.
#[tokio::test]
async fn a_transaction_that_is_dropped_while_it_has_the_log_to_itself_gives_it_back() {
    let (mut alone, mut ended) = (0, 0);
    for times in 0..80 {
        let (_, store) = over(Bent { yields: true, ..Bent::default() }, Duration::from_secs(3));
        let log = log(&store);
        log.put("zero", text("0")).await.unwrap();
        let mut rounds = 0;
        {
            let future = pin!(log.transact(|_| {
                rounds += 1;
                if rounds <= 3 {
                    append_as_another(&store);
                }
                Ok(Changes::new().put("left", text("1")).put("right", text("1")))
            }));
            ended += usize::from(poll(future, times, 1).await.is_some());
        }
        alone += usize::from(rounds > 3);

        check_left_whole(&log, &format!("{times} times")).await;
    }
    assert!(alone > ended && ended > 0, "{alone} {ended}");
}

/// A future that is held and not polled keeps what it has: the others hear so when their time is up, and go on when it is dropped.
#[tokio::test]
async fn a_transaction_that_is_held_and_not_polled_makes_others_wait_no_longer_than_their_time() {
    let patience = Duration::from_millis(100);
    let mut late = 0;
    for rivals in [0, 3] {
        for times in [0, 1, 2, 4, 8, 16, 32, 64] {
            let (_, store) = over(Bent { yields: true, ..Bent::default() }, patience);
            let log = log(&store);
            log.put("zero", text("0")).await.unwrap();
            {
                let mut rounds = 0;
                let mut held = pin!(log.transact(|state| {
                    rounds += 1;
                    if rounds <= rivals {
                        append_as_another(&store);
                    }
                    count(state)
                }));
                poll(held.as_mut(), times, 1).await;

                for _ in 0..2 {
                    let begun = Instant::now();
                    let told = [
                        log.append(event("beside")).await.map(drop),
                        log.transact(|_| Ok(Changes::new().put("other", text("1")))).await.map(drop),
                    ];
                    for told in told {
                        let is_late =
                            told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
                        assert!(told.is_ok() || is_late, "{rivals} {times}: {told:?}");
                        late += usize::from(is_late);
                    }
                    assert!(begun.elapsed() < 5 * patience, "{rivals} {times}: {:?}", begun.elapsed());
                }
            }
            let begun = Instant::now();
            log.transact(count).await.unwrap();
            assert!(begun.elapsed() < patience, "{rivals} {times}");
        }
    }
    println!("{late} were late");
}

/// Polled by one task, and some of them only after others ended.
#[tokio::test]
async fn transactions_of_one_task_take_their_turns() {
    let (_, store) = over(Bent { yields: true, ..Bent::default() }, Duration::from_secs(5));
    let log = log(&store);

    let all = join_all((0..40).map(|_| log.transact(count))).await;
    let some: Vec<_> = stream::iter((0..40).map(|_| log.transact(count))).buffered(3).collect().await;

    assert!(all.iter().chain(&some).all(Result::is_ok));
    assert_eq!(counted(&log).await, 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_tries_under_one_id_are_one_transaction() {
    for number in 0..20 {
        let backend = faulty();
        let stores = [store(&backend), store(&backend)];
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let log = log(&stores[task % 2]);
            tasks.spawn(async move {
                let once = EntryId::new("once").unwrap();
                log.transact(|state| Ok(count(state)?.with_id(once.clone()))).await.unwrap().unwrap()
            });
        }
        let receipts = tasks.join_all().await;

        assert_eq!(receipts.iter().filter(|receipt| !receipt.repeated).count(), 1, "{number}");
        assert!(receipts.iter().all(|receipt| receipt.version == receipts[0].version), "{number}");
        assert_eq!(counted(&log(&stores[0])).await, 1, "{number}");
    }
}

/// What is taken is read as a value when it is patched or compared: there must be nothing that one does and the other does not.
#[test]
fn what_is_taken_as_json_can_be_read_as_a_value_and_nothing_else_is_refused() {
    let part = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        "\"",
        ",",
        ":",
        "\\",
        "u00",
        "\\u0041",
        "\\ud83d",
        "\\ude00",
        "1",
        "-",
        ".5",
        "e9",
        "null",
        "true",
        " ",
        "\"a\":",
        "\"\"",
        "[1]",
        "{\"b\":2}",
        "é",
        "\u{7f}",
        "\n",
        "\\\"",
        "\\\\",
    ]);
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let (parts, value) = (prop::collection::vec(part, 1..7), value());
    let (mut taken, mut refused) = (0, 0);
    for number in 0..4_000 {
        let parts = parts.new_tree(&mut runner).unwrap().current();
        let mut text = if number % 2 == 0 {
            String::new()
        } else {
            value.new_tree(&mut runner).unwrap().current().to_string()
        };
        for part in parts.iter().take(if number % 2 == 0 { 7 } else { 1 }) {
            let places: Vec<_> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            text.insert_str(places[(number * 31) % places.len()], part);
        }
        let is_value = serde_json::from_str::<Value>(&text).is_ok();
        assert_eq!(Json::text(text.clone()).is_ok(), is_value, "{text}");
        *(if is_value { &mut taken } else { &mut refused }) += 1;
    }
    assert!(taken > 300 && refused > 300, "{taken} {refused}");
    for bytes in [&b"\"\xff\""[..], b"\xef\xbb\xbf1", b"1\0", b"\"\n\"", b"[1]]"] {
        assert!(Json::text(bytes).is_err(), "{bytes:?}");
    }
}

/// Several begin the same new log at once, as copies of others or with an entry of their own: one is first, and the others hear so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_forks_and_appends_begin_a_log_once() {
    let mut bases = 0;
    for _ in 0..30 {
        let backend = faulty();
        let stores = [store(&backend), store(&backend)];
        for (number, origin) in ["one", "two"].into_iter().enumerate() {
            let origin = stores[number].log(LogId::new("acme", "session", origin).unwrap());
            origin.put("from", of(&json!(number))).await.unwrap();
        }
        let name = LogId::new("acme", "fork", "f").unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..6 {
            let (store, name) = (stores[number % 2].clone(), name.clone());
            tasks.spawn(async move {
                if number < 4 {
                    let origin = LogId::new("acme", "session", ["one", "two"][number / 2]).unwrap();
                    let told = store.log(origin).fork(&name, At::Head).await;
                    assert!(
                        told.as_ref().is_ok_and(|receipt| receipt.version == Version(1))
                            || told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict),
                        "{told:?}"
                    );
                    told.ok().map(|_| number / 2)
                } else {
                    store.log(name).put(&number.to_string(), text("1")).await.unwrap();
                    None
                }
            });
        }
        let forks: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();

        assert!(forks.len() <= 1, "{forks:?}");
        for store in stores {
            let state = store.log(name.clone()).state().await.unwrap();
            let from = state.get("from").map(|document| document.read::<usize>().unwrap());
            assert_eq!(from, forks.first().copied());
            assert_eq!(state.len(), 2 + forks.len());
            assert!(store.verify(&LogPrefix::all(), |_| ()).await.unwrap().damage.is_empty());
        }
        bases += forks.len();
    }
    assert!(bases > 0);
}

/// Where other processes are always first, a transaction has the log to itself in vain, and must not keep it from the others of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_never_first_does_not_stop_the_appends_beside_it() {
    let patience = Duration::from_millis(600);
    let (_, store) = over(Bent::default(), patience);
    let log = log(&store);
    let (stop, appended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let appends = tokio::spawn({
        let (log, stop, appended) = (log.clone(), Arc::clone(&stop), Arc::clone(&appended));
        async move {
            while !stop.load(Ordering::SeqCst) {
                log.append(event("beside")).await.unwrap();
                appended.fetch_add(1, Ordering::SeqCst);
            }
        }
    });

    let mut rounds = 0;
    let told = log
        .transact(|state| {
            rounds += 1;
            append_as_another(&store);
            count(state)
        })
        .await;
    let appended = appended.load(Ordering::SeqCst);
    stop.store(true, Ordering::SeqCst);
    appends.await.unwrap();

    assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(rounds > 20 && appended > 10, "{rounds} rounds, {appended} appends");
}
