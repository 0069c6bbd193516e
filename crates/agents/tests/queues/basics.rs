//! One call after the other.

use icecore_agents::queues::{GivenBack, MESSAGES_MAX, Purge, Purged, REMEMBERED, Statistics};
use icecore_log::{Error, ErrorKind};

use super::*;

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn messages_are_given_out_in_their_order_each_to_one_worker() {
    let world = World::new();
    let (one, two) = (world.queue(), world.queue());
    put(&one, &["a", "b", "c"]).await;

    let first = one.lease(2, MINUTE).await.unwrap();
    let second = two.lease(2, MINUTE).await.unwrap();

    assert_eq!((ids(&first), ids(&second)), (vec!["a", "b"], vec!["c"]));
    assert_eq!(first[0].payload, r#""a""#);
    assert_eq!((first[0].attempts, first[0].fence, second[0].fence), (1, 1, 2));
    assert_eq!(one.lease(2, MINUTE).await.unwrap(), []);
    for leased in first.iter().chain(&second) {
        two.ack(&leased.id, leased.fence).await.unwrap();
        // Whoever does not know whether that was heard says it again.
        one.ack(&leased.id, leased.fence).await.unwrap();
    }
    world.pass(2 * MINUTE);
    assert_eq!(one.lease(2, MINUTE).await.unwrap(), []);
    assert_eq!(one.statistics().await.unwrap(), Statistics::default());
}

#[tokio::test]
async fn a_message_is_put_once_by_its_id_also_after_it_is_done() {
    let world = World::new();
    let queue = world.queue();
    let put_first = put(&queue, &["a", "b", "a"]).await;
    assert_eq!(
        put_first.iter().map(|put| (put.number, put.repeated)).collect::<Vec<_>>(),
        [(1, false), (2, false), (1, true)]
    );
    let leased = queue.lease(1, MINUTE).await.unwrap();
    queue.ack("a", leased[0].fence).await.unwrap();

    world.pass(REMEMBERED - SECOND);
    assert!(put(&queue, &["a"]).await[0].repeated);
    let other = Message::new("a", json("2"));
    assert_eq!(kind(queue.put(&[message("c"), other.clone()]).await), ErrorKind::Conflict);
    assert_eq!(queue.statistics().await.unwrap().ready, 1);

    // A day later its id may be another message's. Of all that was done nothing stays.
    world.pass(SECOND);
    assert!(!queue.put(&[other]).await.unwrap()[0].repeated);
    let leased = queue.lease(9, MINUTE).await.unwrap();
    assert_eq!(ids(&leased), ["b", "a"]);
    assert_eq!(leased[1].payload, "2");
    for leased in leased {
        queue.ack(&leased.id, leased.fence).await.unwrap();
    }
    assert_eq!(queue.log().state().await.unwrap().len(), 1 + 2 * 2);
    world.pass(REMEMBERED);
    put(&queue, &["d"]).await;
    assert_eq!(queue.log().state().await.unwrap().len(), 1 + 3);
}

#[tokio::test]
async fn who_had_a_message_before_another_can_change_nothing_of_it() {
    let world = World::new();
    let (slow, quick) = (world.queue(), world.queue());
    put(&slow, &["a"]).await;
    let before = slow.lease(1, MINUTE).await.unwrap().remove(0);
    world.pass(MINUTE);
    let after = quick.lease(1, MINUTE).await.unwrap().remove(0);
    assert!(after.fence > before.fence);
    assert_eq!(after.attempts, 2);

    assert_eq!(kind(slow.ack("a", before.fence).await), ErrorKind::Conflict);
    assert_eq!(kind(slow.extend("a", before.fence, MINUTE).await), ErrorKind::Conflict);
    assert_eq!(kind(slow.nack("a", before.fence, SECOND, "late").await), ErrorKind::Conflict);
    assert_eq!(kind(slow.ack("b", before.fence).await), ErrorKind::NotFound);

    quick.ack("a", after.fence).await.unwrap();
    assert_eq!(kind(slow.ack("a", before.fence).await), ErrorKind::Conflict);
    assert_eq!(kind(quick.nack("a", after.fence, SECOND, "late").await), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_lease_that_is_extended_lasts_longer_and_one_that_ended_counts_until_another_begins() {
    let world = World::new();
    let queue = world.queue();
    put(&queue, &["a"]).await;
    let leased = queue.lease(1, MINUTE).await.unwrap().remove(0);
    world.pass(59 * SECOND);
    let until = queue.extend("a", leased.fence, MINUTE).await.unwrap();
    assert_eq!(until.since(leased.until), 59 * SECOND);
    world.pass(59 * SECOND);
    assert_eq!(queue.lease(1, MINUTE).await.unwrap(), []);
    world.pass(SECOND);
    assert_eq!(queue.statistics().await.unwrap().ready, 1);
    queue.ack("a", leased.fence).await.unwrap();
    assert_eq!(queue.lease(1, MINUTE).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_delayed_is_given_out_when_its_time_has_come_in_the_order_of_its_coming() {
    let world = World::new();
    let queue = world.queue();
    queue.put(&[Message { delay: MINUTE, ..message("late") }, message("now")]).await.unwrap();
    let leased = queue.lease(9, MINUTE).await.unwrap();
    assert_eq!(ids(&leased), ["now"]);
    let given = queue.nack("now", leased[0].fence, 2 * MINUTE, "busy").await.unwrap();
    assert_eq!(given, GivenBack::Delayed(leased[0].until.after(MINUTE)));
    world.pass(MINUTE - SECOND);
    assert_eq!(queue.lease(9, MINUTE).await.unwrap(), []);
    world.pass(SECOND);
    put(&queue, &["last"]).await;
    assert_eq!(ids(&queue.lease(1, MINUTE).await.unwrap()), ["late"]);
    queue.put(&[Message { delay: MINUTE, ..message("behind") }]).await.unwrap();
    world.pass(MINUTE);
    assert_eq!(ids(&queue.lease(9, MINUTE).await.unwrap()), ["late", "now", "last", "behind"]);
}

#[tokio::test]
async fn what_failed_too_often_is_a_dead_letter_until_it_is_replayed_or_purged() {
    let world = World::new();
    let queue = world.queue();
    let twice = |id: &str| Message { attempts_max: Some(2), ..message(id) };
    queue.put(&[twice("told"), twice("silent"), message("other")]).await.unwrap();
    for _ in 0..2 {
        let leased = queue.lease(2, MINUTE).await.unwrap();
        assert_eq!(ids(&leased), ["told", "silent"]);
        queue.nack("told", leased[0].fence, Duration::ZERO, &"é".repeat(600)).await.unwrap();
        world.pass(MINUTE);
    }
    assert_eq!(queue.statistics().await.unwrap().dead, 2);
    assert_eq!(ids(&queue.lease(9, MINUTE).await.unwrap()), ["other"]);
    let dead = queue.dead(None, 9).await.unwrap();
    let seen: Vec<_> = dead.iter().map(|dead| (dead.id.as_str(), dead.attempts, dead.reason.len())).collect();
    assert_eq!(seen, [("told", 2, 1_024), ("silent", 2, 22)]);
    assert_eq!(queue.dead(Some(dead[0].number), 9).await.unwrap(), dead[1..]);

    assert_eq!(kind(queue.replay(&["told", "other"]).await), ErrorKind::NotFound);
    assert_eq!(queue.replay(&["told", "told"]).await.unwrap(), 1);
    let leased = queue.lease(9, MINUTE).await.unwrap();
    assert_eq!((ids(&leased), leased[0].attempts), (vec!["told"], 1));
    assert_eq!(queue.replay_all().await.unwrap(), 1);
    assert_eq!(queue.dead(None, 9).await.unwrap(), []);
    assert_eq!(ids(&queue.lease(9, MINUTE).await.unwrap()), ["silent"]);
}

#[tokio::test]
async fn a_purge_deletes_what_it_says_and_a_dry_run_nothing() {
    let world = World::new();
    let queue = world.queue();
    let many: Vec<_> = (0..MESSAGES_MAX).map(|number| message(&number.to_string())).collect();
    queue.put(&many).await.unwrap();
    // More than one transaction deletes.
    put(&queue, &["more", "and more"]).await;
    queue.put(&[Message { delay: MINUTE, ..message("late") }]).await.unwrap();
    let leased = queue.lease(1, MINUTE).await.unwrap().remove(0);

    let would = queue.purge(Purge::Waiting, true).await.unwrap();
    assert_eq!(would.messages, MESSAGES_MAX as u64 + 2);
    assert_eq!(queue.statistics().await.unwrap().ready, MESSAGES_MAX as u64 + 1);
    assert_eq!(queue.purge(Purge::Waiting, false).await.unwrap(), would);
    let left = queue.statistics().await.unwrap();
    assert_eq!((left.ready, left.delayed, left.leased), (0, 0, 1));
    assert_eq!(queue.purge(Purge::Dead, false).await.unwrap(), Purged::default());
    assert_eq!(queue.purge(Purge::All, false).await.unwrap().messages, 1);
    assert_eq!(kind(queue.ack(&leased.id, leased.fence).await), ErrorKind::NotFound);
    assert_eq!(queue.log().state().await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_waits_is_given_what_comes_and_what_becomes_due() {
    // The system's own time: a wait is over when it says so.
    let store = Store::new(Arc::new(Memory::default()));
    let queue = Queue::new(&store, &tenant(), "jobs").unwrap();
    assert_eq!(queue.lease_or_wait(1, MINUTE, Duration::from_millis(20)).await.unwrap(), []);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.lease_or_wait(1, MINUTE, 20 * SECOND).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    put(&queue, &["a"]).await;
    assert_eq!(ids(&waiting.await.unwrap()), ["a"]);

    let delay = Duration::from_millis(50);
    queue.put(&[Message { delay, ..message("b") }]).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(ids(&queue.lease_or_wait(1, MINUTE, 20 * SECOND).await.unwrap()), ["b"]);
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn hostile_ids_and_names_are_told_apart_or_refused() {
    let world = World::new();
    let store = world.store();
    let long = "x".repeat(1_024);
    let hostile = [
        "a",
        "A",
        "a/",
        "/a",
        "a/b",
        "~",
        "~a",
        "\0",
        "..",
        "é",
        "e\u{301}",
        "r/",
        "queue",
        &long,
        &long[1..],
    ];
    for name in hostile {
        let queue = Queue::new(&store, &tenant(), name).unwrap();
        put(&queue, &hostile).await;
        assert_eq!(ids(&queue.lease(99, MINUTE).await.unwrap()), hostile, "{name}");
    }
    for name in hostile {
        let queue = Queue::new(&store, &tenant(), name).unwrap();
        for id in hostile {
            queue.ack(id, 1).await.unwrap();
        }
        assert_eq!(queue.statistics().await.unwrap(), Statistics::default());
    }
    let too_long = "x".repeat(1_025);
    let queue = world.queue();
    for id in ["", &too_long] {
        assert_eq!(kind(Queue::new(&store, &tenant(), id)), ErrorKind::Invalid);
        assert_eq!(kind(queue.put(&[message("fine"), message(id)]).await), ErrorKind::Invalid);
    }
    assert_eq!(kind(queue.put(&[]).await), ErrorKind::Invalid);
    assert_eq!(kind(queue.put(&vec![message("a"); MESSAGES_MAX + 1]).await), ErrorKind::Invalid);
    let never = Message { attempts_max: Some(0), ..message("a") };
    assert_eq!(kind(queue.put(&[never]).await), ErrorKind::Invalid);
    assert_eq!(kind(queue.lease(0, MINUTE).await), ErrorKind::Invalid);
    assert_eq!(kind(queue.lease(1, Duration::from_micros(999)).await), ErrorKind::Invalid);
    assert_eq!(queue.log().head().await.unwrap(), None);
    // The longest times there are do not wrap around.
    let far = Message { delay: Duration::MAX, ..message("far") };
    queue.put(&[far, message("near")]).await.unwrap();
    assert_eq!(ids(&queue.lease(9, Duration::MAX).await.unwrap()), ["near"]);
}

#[tokio::test]
async fn what_is_done_leaves_nothing_and_more_that_is_due_at_once_than_one_call_moves_keeps_its_order() {
    let world = World::new();
    let queue = world.queue();
    // Those that came last are due first.
    let delay = |number: usize| (4 * MESSAGES_MAX - number) as u64;
    let delayed =
        |number| Message { delay: Duration::from_secs(delay(number)), ..message(&number.to_string()) };
    for chunk in 0..3 {
        let many: Vec<_> = (0..MESSAGES_MAX).map(|at| delayed(chunk * MESSAGES_MAX + at)).collect();
        queue.put(&many).await.unwrap();
    }
    world.pass(Duration::from_secs(delay(0)));
    let mut number = 0;
    while number < 3 * MESSAGES_MAX {
        for leased in queue.lease(100, MINUTE).await.unwrap() {
            assert_eq!(leased.id, number.to_string());
            queue.ack(&leased.id, leased.fence).await.unwrap();
            number += 1;
        }
    }
    // Only ids are remembered.
    assert_eq!(queue.log().state().await.unwrap().len(), 1 + 2 * 3 * MESSAGES_MAX);
    world.pass(REMEMBERED);
    let many: Vec<_> = (0..MESSAGES_MAX).map(|at| message(&format!("new {at}"))).collect();
    queue.put(&many).await.unwrap();
    assert_eq!(queue.log().state().await.unwrap().len(), 1 + 2 * MESSAGES_MAX + 3 * MESSAGES_MAX);
}
