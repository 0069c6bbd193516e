//! Several processes at once, on each system that needs no server.

use std::collections::{HashMap, HashSet};

use icecore_log::ErrorKind;

use super::support::systems;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_that_put_a_message_one_does_and_of_all_that_lease_it_one_has_it() {
    let folder = tempfile::tempdir().unwrap();
    for (system, stores) in systems(&folder).await {
        let queue = |number: usize| Queue::new(&stores[number % stores.len()], &tenant(), "jobs").unwrap();
        let putters: Vec<_> = (0..8)
            .map(|number| {
                let queue = queue(number);
                tokio::spawn(async move {
                    let mut new = 0;
                    for id in 0..20 {
                        new += usize::from(!put(&queue, &[&id.to_string()]).await[0].repeated);
                    }
                    new
                })
            })
            .collect();
        let mut new = 0;
        for putter in putters {
            new += putter.await.unwrap();
        }
        assert_eq!(new, 20, "{system}");

        let workers: Vec<_> = (0..8)
            .map(|number| {
                let queue = queue(number);
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    loop {
                        let leased = queue.lease(2, MINUTE).await.unwrap();
                        if leased.is_empty() {
                            return done;
                        }
                        for one in leased {
                            queue.ack(&one.id, one.fence).await.unwrap();
                            done.push((one.id, one.fence));
                        }
                    }
                })
            })
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.await.unwrap());
        }
        assert_eq!(done.len(), 20, "{system}");
        let each: HashSet<_> = done.iter().map(|(id, _)| id).collect();
        assert_eq!(each.len(), 20, "{system}");
        assert_eq!(queue(0).statistics().await.unwrap(), Default::default(), "{system}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_workers_whose_leases_run_out_the_last_one_alone_says_that_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    for (system, stores) in systems(&folder).await {
        let queue = |number: usize| Queue::new(&stores[number % stores.len()], &tenant(), "jobs").unwrap();
        let all: Vec<_> = (0..30).map(|number| number.to_string()).collect();
        put(&queue(0), &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let workers: Vec<_> = (0..6)
            .map(|number| {
                let queue = queue(number);
                tokio::spawn(async move {
                    let mut told = Vec::new();
                    while queue.statistics().await.unwrap().oldest_at.is_some() {
                        // Shorter than the work: other workers come between.
                        let leased = queue.lease(3, Duration::from_millis(5)).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(3 + number as u64)).await;
                        for one in leased {
                            let is_done = match queue.ack(&one.id, one.fence).await {
                                Ok(()) => true,
                                Err(error) if error.kind() == ErrorKind::Conflict => false,
                                Err(error) => unreachable!("{error}"),
                            };
                            told.push((one.id, one.fence, is_done));
                        }
                    }
                    told
                })
            })
            .collect();
        let (mut done, mut last) = (HashMap::new(), HashMap::<String, u64>::new());
        for worker in workers {
            for (id, fence, is_done) in worker.await.unwrap() {
                let highest = last.entry(id.clone()).or_default();
                *highest = fence.max(*highest);
                if is_done {
                    assert_eq!(done.insert(id, fence), None, "{system}");
                }
            }
        }
        // Each is done once, under the last fence that anybody had for it.
        assert_eq!((done.len(), &done), (30, &last), "{system}");
    }
}
